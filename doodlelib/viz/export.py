"""Drawings as files: GIF and SVG that play in true time, PNG, ndjson, and sketch-rnn's npz.

Every function but `to_markup` writes a whole file or none (see `paths.write_whole`) and returns
its path.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
import orjson
from PIL import Image

from doodlelib.paths import write_whole
from doodlelib.strokes import BOX, Drawing, Record, as_drawing, find_faults, geometry_id
from doodlelib.viz.animation import GIF_PALETTE, encode_gif, pace_of, paced, render_frames
from doodlelib.viz.curves import curved, handles

DIGITS = 2  # decimals of SVG coordinates


def to_gif(
    drawing: Sequence,
    path: str | Path,
    *,
    frame_ms: int = 30,
    size: int = 255,
    constant: bool = False,
    trail_ms: float = 0.0,
    pen: bool = True,
    hold_ms: int = 0,
    smooth: bool = True,
) -> Path:
    """An endless GIF of the drawing being drawn, at the pace of its own timestamps.

    It lasts as long as the drawing (the sum of its dt), to 5 ms or, below 20 ms, to one frame;
    plus `hold_ms`. Equal consecutive frames become one with a longer delay.

    Args:
        drawing: Strokes ``[x, y, t]``; an untimed drawing needs `constant`.
        path: Where to write.
        frame_ms: Time between frames: a multiple of 10 (the format's unit), 20 to 100.
        size: Side, px.
        constant: Move the pen at one speed, in the same total time; 6.2 s, if untimed.
        trail_ms: For how long ink is blue, and black thereafter.
        pen: Show the pen: a dot where it draws, a ring where it hovers.
        hold_ms: How much longer the finished drawing stays.
        smooth: Draw curves through the points (see `viz.curves`), not straight lines.

    ValueError: The drawing cannot be played (see `animation.paced`), a value is out of range, or
    there would be over `animation.MAX_FRAMES` frames.
    """
    panels = [paced(curved(drawing) if smooth else drawing, constant=constant)]
    data = encode_gif(
        panels, frame_ms=frame_ms, size=size, trail_ms=trail_ms, pen=pen, hold_ms=hold_ms
    )
    return write_whole(path, data)


def compare_gif(drawing: Sequence, path: str | Path, *, size: int = 255) -> Path:
    """A GIF of a timed drawing twice, side by side: at human and at constant speed.

    `size` is the side of each, px. Errors are those of `to_gif`.
    """
    panels = paced(curved(drawing)), paced(curved(drawing), constant=True)
    labels = "human time", "constant speed"
    data = encode_gif(panels, labels=labels, size=size, trail_ms=300, hold_ms=1000)
    return write_whole(path, data)


def to_png(drawing: Sequence, path: str | Path, *, size: int = 255, smooth: bool = True) -> Path:
    """The finished drawing as a PNG, black on white, `size` px square; errors as `to_gif`."""
    drawing = paced(curved(drawing) if smooth else drawing, constant=True)
    (frame,) = render_frames(drawing, [math.inf], size=size)
    image, data = Image.fromarray(frame), BytesIO()
    image.putpalette(GIF_PALETTE)
    image.convert("L").save(data, format="PNG", optimize=True)
    return write_whole(path, data.getvalue())


def to_svg(
    drawing: Sequence,
    path: str | Path,
    *,
    animate: bool = True,
    title: str = "",
    smooth: bool = True,
) -> Path:
    """The drawing as an SVG, a path for each stroke, in its own coordinates.

    It plays (SMIL) at the pace of its timestamps, over and over, with a pen, unless `animate` is
    False; viewers that do not animate show it whole. An untimed drawing plays at one speed, and its
    description says at which. `title` is for screen readers; `smooth` is that of `to_gif`.

    ValueError: The drawing is malformed, or its clock runs backwards.
    """
    markup = to_markup(drawing, animate=animate, title=title, smooth=smooth)
    return write_whole(path, f"{markup}\n".encode())


def to_ndjson(
    drawings: Record | Iterable,
    path: str | Path,
    *,
    word: str | None = None,
    first_point_ms: float | None = None,
) -> Path:
    """Drawings in Google's raw schema (simplified, where they are untimed), one a line.

    Args:
        drawings: One record, several records, or the strokes of one drawing.
        path: Where to write.
        word: The class label, instead of the records' own. Bare strokes need one; they are written
            as recognised, with the present time and an unknown country (``ZZ``).
        first_point_ms: From when the person was asked to draw; written too, if it is known.

    ValueError: `formats.read` would drop a drawing, bare strokes have no word, or none is given.
    """
    items = [drawings] if isinstance(drawings, Record) else list(drawings)
    if not items or not all(isinstance(item, Record) for item in items):
        if not word:
            raise ValueError("a drawing needs a word")
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
        items = [Record(word, geometry_id(as_drawing(items)), True, items, "ZZ", now)]
    checked = [replace(r, word=word or r.word, drawing=_readable(r.drawing)) for r in items]
    also = {} if first_point_ms is None else {"first_point_ms": first_point_ms}
    return write_whole(path, b"".join(orjson.dumps(r.to_json() | also) + b"\n" for r in checked))


def to_npz(splits: Mapping[str, Iterable], path: str | Path) -> Path:
    """Drawings in sketch-rnn's format: of each split ("train", "valid", "test") an object array.

    Its items are (n, 3) float32: dx, dy in px, the first from the origin, and 1 where the pen lifts
    after the point. Times are left out. Of a store's drawings, which are simplified, a split is
    ``map(split.drawing, range(len(split)))``. ValueError at one that `formats.read` would drop.

    Source: Ha & Eck 2017, sec. 3.1; magenta sketch_rnn/utils.py.
    """
    arrays, data = {}, BytesIO()
    for name, drawings in splits.items():
        items = [_stroke3(_readable(getattr(one, "drawing", one))) for one in drawings]
        arrays[name] = np.empty(len(items), dtype=object)  # else equal lengths make one array
        arrays[name][:] = items
    np.savez_compressed(data, **arrays)
    return write_whole(path, data.getvalue())


def _stroke3(drawing: Drawing) -> np.ndarray:
    points = np.concatenate([np.stack(stroke[:2], axis=1) for stroke in drawing])
    rows = np.zeros((len(points), 3), dtype=np.float32)
    rows[:, :2] = np.diff(points, axis=0, prepend=0)
    rows[np.cumsum([stroke[0].size for stroke in drawing]) - 1, 2] = 1
    return rows


def _readable(drawing: Sequence) -> Drawing:
    """`as_drawing`; ValueError also where readers would drop the drawing."""
    checked = as_drawing(drawing)
    rows = [np.concatenate(row) for row in zip(*checked, strict=True)]
    points = np.stack([*rows, rows[0] * np.nan][:3])
    for reason, (is_bad,) in find_faults(points, np.zeros(1, dtype=np.int64)).items():
        if is_bad:
            raise ValueError(f"no reader would take this drawing: {reason}")
    return checked


def to_markup(
    drawing: Sequence, *, animate: bool = False, title: str = "", smooth: bool = True
) -> str:
    """The drawing as an ``<svg>`` element; arguments and errors are those of `to_svg`."""
    data, pace = paths(as_drawing(drawing), smooth=smooth), pace_of(drawing) if animate else ""
    drawing = curved(drawing) if smooth else as_drawing(drawing)
    drawing = paced(drawing, constant=bool(pace)) if animate else drawing
    points = np.concatenate([np.column_stack(stroke[:2]) for stroke in drawing]).round(DIGITS)
    side = float(np.ptp(points, axis=0).max()) or 1.0
    box = [*(points.min(axis=0) - side / 16), *(np.ptp(points, axis=0) + side / 8)]
    width, height = (value * BOX / max(box[2:]) for value in box[2:])
    total = drawing[-1][2][-1] if animate else 0.0
    parts = [_path(*both, total=total) for both in zip(data, drawing, strict=True)]
    if total > 0:
        parts.append(_pen(drawing, radius=side / 45, total=total))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{_join(box, DIGITS + 2)}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" style="background:#fff">'
        f"{f'<title>{escape(title)}</title>' if title else ''}"
        f"{f'<desc>{pace}</desc>' if pace else ''}"
        f'<g fill="none" stroke="#1a1a1a" stroke-width="{side / 80:.4g}" '
        f'stroke-linecap="round" stroke-linejoin="round">{"".join(parts)}</g></svg>'
    )


def paths(drawing: Drawing, *, digits: int = DIGITS, smooth: bool = True) -> list[str]:
    """The ``d`` of an SVG path for each stroke, in curves where they bend and `smooth` is on.

    A single point is closed, so that it shows as a dot.
    """
    found = []
    for stroke, curves in zip(drawing, handles(drawing), strict=True):
        first, *points = np.column_stack(stroke[:2])
        data = [f"M{_join(first, digits)}" + ("" if points else "z")]
        for point, curve in zip(points, curves, strict=True):
            chord, off = point - first, (curve - first) @ [[0, -1], [1, 0]]
            bends = smooth and np.abs(off @ chord).max() > 1e-9 * (chord @ chord)
            ends = [*curve.flat, *point] if bends else point
            data.append(("C" if bends else "L") + _join(ends, digits))
            first = point
        found.append("".join(data))
    return found


def _path(data: str, stroke: list[np.ndarray], *, total: float) -> str:
    """A stroke; with a `total` above 0 (ms), it appears at its start and grows as it was drawn."""
    if not total:
        return f'<path d="{data}"/>'
    xy = np.round(stroke[:2], DIGITS)
    length = np.concatenate([[0], np.hypot(*np.diff(xy)).cumsum()])
    motion = _animate("opacity", [0, stroke[2][0]], ["0", "1"], total=total, is_step=True)
    if length[-1] == 0:
        return f'<path d="{data}">{motion}</path>'
    hidden = [f"{value:.4g}" for value in 1 - length / length[-1]]
    motion += _animate(
        "stroke-dashoffset", [0, *stroke[2], total], ["1", *hidden, "0"], total=total
    )
    return f'<path d="{data}" pathLength="1" stroke-dasharray="1">{motion}</path>'


def _pen(drawing: Drawing, *, radius: float, total: float) -> str:
    """A dot that follows the pen, also through pauses; hidden in viewers that do not animate."""
    x, y, t = (np.concatenate(rows) for rows in zip(*drawing, strict=True))
    motion = _animate("visibility", [0], ["visible"], total=total, is_step=True)
    for name, values in (("cx", x), ("cy", y)):
        motion += _animate(name, [0, *t], [_join([v]) for v in [values[0], *values]], total=total)
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


def _join(values: Iterable[float], digits: int = DIGITS) -> str:
    """Numbers in the shortest form with at most `digits` decimals."""
    return " ".join(f"{round(float(value), digits):.12g}" for value in values)
