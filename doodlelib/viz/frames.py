"""What a doodle looks like at each moment of being drawn, as palette images.

A pixel's index says how much ink it has and how fresh that is, or how much of the pen covers it;
so nothing is quantised and all frames share `PALETTE`.
"""

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from doodlelib.strokes import Drawing, is_timed, to_box, to_stroke4

TYPICAL_MS = 6200.0  # the median real drawing
MAX_SIZE = 2048  # px
INK = (26, 26, 26)
_PAPER, _FRESH, _PEN = (255, 255, 255), (0, 114, 178), (213, 94, 0)  # safe for the colour-blind
_SHADES = 15  # from almost no ink to all
_AGES = 7  # from old ink to fresh
_FINER = 4  # canvas to picture
_SHIFT = 4  # fractional bits of the coordinates that OpenCV takes


def _palette() -> list[int]:
    """Paper; the shades of ink of each age; those of the pen; a spare. Three numbers a colour."""
    age = np.linspace(0, 1, _AGES)[:, None]
    colours = np.vstack([(1 - age) * INK + age * _FRESH, _PEN])
    share = np.linspace(0, 1, _SHADES + 1)[None, 1:, None]
    ramps = (1 - share) * _PAPER + share * colours[:, None]
    return [*_PAPER, *np.rint(ramps).astype(int).ravel().tolist(), 1, 2, 3]


PALETTE = _palette()
BLACK = _SHADES  # the index of old ink at its darkest
UNUSED = len(PALETTE) // 3 - 1  # no pixel has it, so it can mean: as in the frame before


def paced(
    drawing: Sequence, *, constant: bool = False, duration_ms: float | None = None
) -> Drawing:
    """`drawing` with the times, from 0, at which to play it.

    Args:
        drawing: Strokes, timed or not.
        constant: Move the pen at one speed, lifted or not, in the same total time.
        duration_ms: Play in this time instead of the drawing's own.

    Raises:
        ValueError: The drawing is malformed or its clock runs backwards; it is untimed and neither
            `constant` (6.2 s then) nor `duration_ms` (constant speed then) is given; the duration
            is not above 0.
    """
    rows = to_stroke4(drawing)
    timed = is_timed(drawing)
    if duration_ms is not None and not 0 < duration_ms < math.inf:
        raise ValueError(f"duration_ms must be above 0, not {duration_ms}")
    if not timed and not constant and duration_ms is None:
        raise ValueError("the drawing is untimed: pass constant=True or duration_ms")
    dx, dy, dt = rows.T[:3]
    total = dt.sum() if timed else TYPICAL_MS
    pace = np.hypot(dx, dy) if constant or not timed else dt
    clock = np.cumsum(pace)
    if constant or not timed or duration_ms is not None:
        clock *= (duration_ms or total) / max(clock[-1], 1e-9)
    bounds = np.cumsum([len(stroke[0]) for stroke in drawing])[:-1]
    return [
        [np.asarray(stroke[0], np.float64), np.asarray(stroke[1], np.float64), times]
        for stroke, times in zip(drawing, np.split(clock, bounds), strict=True)
    ]


def draw_ink(drawing: Sequence, *, size: int) -> UInt8[np.ndarray, "S S"]:
    """The whole drawing in the middle of a square: how much of each pixel has ink.

    Raises:
        ValueError: The drawing is malformed, or `size` is not 16 to `MAX_SIZE` px.
    """
    canvas = _canvas(size)
    _draw(canvas, [np.column_stack(stroke[:2]) for stroke in _fitted(drawing, size)], size=size)
    return _shrunk(canvas)


def draw_frames(
    drawing: Drawing,
    ends: Float64[np.ndarray, " F"],
    *,
    size: int,
    trail_ms: float = 0.0,
    pen: bool = True,
) -> Iterator[UInt8[np.ndarray, "S S"]]:
    """One palette image for each time of `ends`: what was drawn by then.

    Args:
        drawing: As from `paced`.
        ends: Times, rising, ms. From the drawing's last time on, the pen is gone.
        size: Side, px, 16 to `MAX_SIZE`.
        trail_ms: Ink is blue at first and black after this time.
        pen: Show the pen: a dot where it draws, a ring where it hovers.

    Raises:
        ValueError: `size` is out of range.
    """
    canvas = _canvas(size)
    drawing = _fitted(drawing, size)
    x, y, t = (np.concatenate(rows) for rows in zip(*drawing, strict=True))
    before = -1.0
    for end in ends:
        _draw(canvas, _between(drawing, before, end), size=size)
        before = end
        shade = _shades(_shrunk(canvas))
        age = np.zeros_like(shade)
        for step in range(1, _AGES) if trail_ms > 0 and end < t[-1] else ():
            since = end - trail_ms * (1 - (step - 1) / (_AGES - 1))
            lines = [_fixed(line, 1) for line in _between(drawing, since, end)]
            cv2.polylines(age, lines, False, step, _width(size) // _FINER + 3, shift=_SHIFT)
        frame = np.where(shade > 0, shade + age * _SHADES, 0).astype(np.uint8)
        if pen and end < t[-1]:
            is_down = any(stroke[2][0] <= end <= stroke[2][-1] for stroke in drawing)
            at = np.array([np.interp(end, t, x), np.interp(end, t, y)])
            shade = _shades(_pen_dot(at, size=size, is_down=is_down))
            frame = np.where(shade > 0, shade + _AGES * _SHADES, frame).astype(np.uint8)
        yield frame


def _pen_dot(at: Float64[np.ndarray, "2"], *, size: int, is_down: bool) -> UInt8[np.ndarray, "S S"]:
    """How much of each pixel the pen covers."""
    dot = np.zeros((size, size), np.uint8)
    radius = round(max(2, size / 50) * 2**_SHIFT)
    width = -1 if is_down else max(1, size // 120)
    cv2.circle(dot, _fixed(at, 1).tolist(), radius, 255, width, cv2.LINE_AA, _SHIFT)
    return dot


def _shades(cover: UInt8[np.ndarray, "S S"]) -> UInt8[np.ndarray, "S S"]:
    """Cover from 0 to 255 as one of 0 to `_SHADES`."""
    return ((cover.astype(np.uint16) * _SHADES + 127) // 255).astype(np.uint8)


def _canvas(size: int) -> UInt8[np.ndarray, "W W"]:
    """Nothing drawn yet, finer than the picture that it becomes."""
    if not 16 <= size <= MAX_SIZE:
        raise ValueError(f"size must be 16 to {MAX_SIZE} px, not {size}")
    return np.zeros((size * _FINER, size * _FINER), np.uint8)


def _shrunk(canvas: UInt8[np.ndarray, "W W"]) -> UInt8[np.ndarray, "S S"]:
    return cv2.resize(canvas, None, fx=1 / _FINER, fy=1 / _FINER, interpolation=cv2.INTER_AREA)


def _fitted(drawing: Sequence, size: int) -> Drawing:
    """`drawing` in the middle of a square of `size` px, with a margin."""
    boxed = to_box(drawing, size=size * 0.88)
    extent = [np.ptp(np.concatenate([stroke[axis] for stroke in boxed])) for axis in (0, 1)]
    dx, dy = ((size - side) / 2 for side in extent)
    return [[stroke[0] + dx, stroke[1] + dy, *stroke[2:]] for stroke in boxed]


def _between(drawing: Drawing, start: float, end: float) -> list[Float64[np.ndarray, "_ 2"]]:
    """The lines drawn after `start` and up to `end`, cut between points where these times are."""
    lines = []
    for x, y, t in drawing:
        first, stop = np.searchsorted(t, (start, end), side="right")
        if stop == 0 or first == len(t):
            continue
        cuts = [np.interp([time], t, axis) for time in (start, end) for axis in (x, y)]
        line = [np.column_stack([x, y])[first:stop]]
        line += [np.column_stack(cuts[2:])] if stop < len(t) else []
        lines.append(np.concatenate([np.column_stack(cuts[:2]), *line] if first else line))
    return lines


def _draw(
    canvas: UInt8[np.ndarray, "W W"], lines: list[Float64[np.ndarray, "_ 2"]], *, size: int
) -> None:
    """Add lines with round ends to `canvas`."""
    width = _width(size)
    cv2.polylines(canvas, [_fixed(line, _FINER) for line in lines], False, 255, width, shift=_SHIFT)
    for line in lines:  # OpenCV draws no ends to a line without length
        for end in _fixed(line[[0, -1]], _FINER).tolist():
            cv2.circle(canvas, end, width << _SHIFT >> 1, 255, -1, shift=_SHIFT)


def _width(size: int) -> int:
    """A line's width on the canvas of a picture of `size` px; a dot must stay dark."""
    return max(6, round(size * _FINER / 85))


def _fixed(points: Float64[np.ndarray, "*n 2"], finer: int) -> np.ndarray:
    """Pixels as OpenCV's integers with `_SHIFT` fractional bits; its pixel centres are whole."""
    return np.rint((points * finer - 0.5) * 2**_SHIFT).astype(np.int32)
