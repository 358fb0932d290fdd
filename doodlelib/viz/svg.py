"""Drawings as SVG markup: a path for each stroke, and its time as SMIL animations if wanted."""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from doodlelib.strokes import BOX, Drawing, as_drawing, is_timed
from doodlelib.viz.animation import paced


def to_markup(
    drawing: Sequence, *, animate: bool, hold_ms: int = 0, digits: int = 2, title: str = ""
) -> str:
    """The drawing as an ``<svg>`` element; the arguments are those of `export.to_svg`.

    Raises:
        ValueError: The drawing is malformed, or its clock runs backwards.
    """
    drawing = as_drawing(drawing)
    moves = animate and is_timed(drawing)
    drawing = paced(drawing) if moves else drawing
    points = np.concatenate([np.column_stack(stroke[:2]) for stroke in drawing])
    side = float(np.ptp(points, axis=0).max()) or 1.0
    box = [*(points.min(axis=0) - side / 16), *(np.ptp(points, axis=0) + side / 8)]
    width, height = (value * BOX / max(box[2:]) for value in box[2:])
    total = drawing[-1][2][-1] + hold_ms if moves else 0.0
    parts = [_path(stroke, total=total, digits=digits) for stroke in drawing]
    if total > 0:
        parts.append(_pen(drawing, radius=side / 45, total=total, digits=digits))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{_join(box, digits)}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" style="background:#fff">'
        f"{f'<title>{escape(title)}</title>' if title else ''}"
        f'<g fill="none" stroke="#1a1a1a" stroke-width="{side / 80:.4g}" '
        f'stroke-linecap="round" stroke-linejoin="round">{"".join(parts)}</g></svg>'
    )


def _path(stroke: list[np.ndarray], *, total: float, digits: int) -> str:
    """A stroke; with a `total` above 0 (ms), it appears at its start and grows as it was drawn."""
    xy = np.round(np.column_stack(stroke[:2]), digits)
    corners = [_join(point, digits) for point in xy]
    data = f"M{corners[0]}" + (f"L{' '.join(corners[1:])}" if len(corners) > 1 else "z")
    if not total:
        return f'<path d="{data}"/>'
    length = np.concatenate([[0], np.hypot(*np.diff(xy, axis=0).T).cumsum()])
    motion = _animate("opacity", [0, stroke[2][0]], ["0", "1"], total=total, is_step=True)
    if length[-1] == 0:
        return f'<path d="{data}">{motion}</path>'
    hidden = [f"{value:.4g}" for value in 1 - length / length[-1]]
    motion += _animate(
        "stroke-dashoffset", [0, *stroke[2], total], ["1", *hidden, "0"], total=total
    )
    return f'<path d="{data}" pathLength="1" stroke-dasharray="1">{motion}</path>'


def _pen(drawing: Drawing, *, radius: float, total: float, digits: int) -> str:
    """A dot that follows the pen, also through pauses; hidden in viewers that do not animate."""
    x, y, t = (np.concatenate(rows) for rows in zip(*drawing, strict=True))
    motion = _animate("visibility", [0, t[-1]], ["visible", "hidden"], total=total, is_step=True)
    for name, values in (("cx", x), ("cy", y)):
        texts = [_join([value], digits) for value in [values[0], *values, values[-1]]]
        motion += _animate(name, [0, *t, total], texts, total=total)
    style = 'fill="#d55e00" stroke="none" visibility="hidden"'
    return f'<circle r="{radius:.4g}" {style}>{motion}</circle>'


def _animate(
    name: str, times: list, values: list[str], *, total: float, is_step: bool = False
) -> str:
    """An ``<animate>`` element: one attribute's `values` at `times` (ms), repeated for ever."""
    key_times = ";".join(f"{time / total:.6g}" for time in times)
    mode = ' calcMode="discrete"' if is_step else ""
    return (
        f'<animate attributeName="{name}" dur="{total:.10g}ms" repeatCount="indefinite"{mode} '
        f'keyTimes="{key_times}" values="{";".join(values)}"/>'
    )


def _join(values: Iterable[float], digits: int) -> str:
    """Numbers in the shortest form with at most `digits` decimals."""
    return " ".join(f"{round(float(value), digits):.12g}" for value in values)
