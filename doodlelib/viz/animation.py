"""Drawings being drawn, in true time: frames as palette images, and an animated GIF of them.

A pixel's palette index says how much ink it has and how fresh that is, or how much of the pen
covers it; so nothing is quantised and all frames share `GIF_PALETTE`.

Dimensions in annotations: S side of a frame, W of the oversampled canvas, F frames.
"""

import math
from collections.abc import Iterator, Sequence
from io import BytesIO

import cv2
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw, ImageFont

from doodlelib.strokes import Drawing, is_timed, to_box, to_stroke4

TYPICAL_MS = 6200.0  # the median real drawing
MAX_SIZE = 2048  # px
MIN_FRAME = 20  # ms; viewers play anything shorter at 100 ms
MAX_FRAMES = 6000  # 3 minutes of 30 ms
MAX_HOLD = 60_000  # ms
INK_RGB = (26, 26, 26)
_PAPER, _FRESH, _PEN = (255, 255, 255), (0, 114, 178), (213, 94, 0)  # safe for the colour-blind
_SHADES = 15  # from almost no ink to all
_AGES = 7  # from old ink to fresh
_OVERSAMPLING = 4  # canvas px to a frame's px
_FRACTION_BITS = 4  # of the fixed-point coordinates that OpenCV takes


def _palette() -> list[int]:
    """Paper; the shades of ink of each age; those of the pen; a spare. Three numbers a colour."""
    age = np.linspace(0, 1, _AGES)[:, None]
    colours = np.vstack([(1 - age) * INK_RGB + age * _FRESH, _PEN])
    share = np.linspace(0, 1, _SHADES + 1)[None, 1:, None]
    ramps = (1 - share) * _PAPER + share * colours[:, None]
    return [*_PAPER, *np.rint(ramps).astype(int).ravel().tolist(), 1, 2, 3]


GIF_PALETTE = _palette()
_BLACK = _SHADES  # the index of old ink at its darkest
_UNUSED = len(GIF_PALETTE) // 3 - 1  # no pixel has it, so it can mean: as in the frame before


def paced(
    drawing: Sequence, *, constant: bool = False, duration_ms: float | None = None
) -> Drawing:
    """The drawing with the times, from 0, at which to play it.

    Args:
        drawing: Strokes, timed or not.
        constant: Move the pen at one speed, up or down, in the same total time.
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
    clock = np.cumsum(np.hypot(dx, dy) if constant or not timed else dt)
    if constant or not timed or duration_ms is not None:
        clock *= (duration_ms or total) / max(clock[-1], 1e-9)
    bounds = np.cumsum([len(stroke[0]) for stroke in drawing])[:-1]
    return [
        [np.asarray(stroke[0], np.float64), np.asarray(stroke[1], np.float64), times]
        for stroke, times in zip(drawing, np.split(clock, bounds), strict=True)
    ]


def encode_gif(
    panels: Sequence[Drawing],
    *,
    frame_ms: int,
    size: int,
    trail_ms: float,
    hold_ms: int,
    pen: bool = True,
    labels: Sequence[str] = (),
) -> bytes:
    """A GIF that loops for ever over drawings side by side, with delays that add up to true time.

    `panels` are drawings as from `paced`, of which the longest sets the duration; `labels` stand
    below them, or none. The other arguments are those of `export.to_gif`.

    Raises:
        ValueError: One of them is out of range, or there would be over `MAX_FRAMES` frames.
    """
    if not 0 <= hold_ms <= MAX_HOLD:
        raise ValueError(f"hold_ms must be 0 to {MAX_HOLD}, not {hold_ms}")
    total = max(panel[-1][2][-1] for panel in panels)
    delays = split_time(total, frame_ms=frame_ms)
    ends = np.cumsum(delays, dtype=np.float64)
    ends[-1] = max(ends[-1], total)  # rounding the time down must not leave the last one unfinished
    delays[-1] += hold_ms
    frames = zip(
        *(render_frames(panel, ends, size=size, trail_ms=trail_ms, pen=pen) for panel in panels),
        strict=True,
    )
    canvas = Image.new("P", (len(panels) * size, size + (size // 8 if labels else 0)))
    canvas.putpalette(GIF_PALETTE)
    font = ImageFont.load_default(size / 11)
    for number, label in enumerate(labels):
        middle = (number * size + size // 2, size + size // 16)
        ImageDraw.Draw(canvas).text(middle, label, fill=_BLACK, font=font, anchor="mm")

    def images() -> Iterator[Image.Image]:
        for parts in frames:
            for number, part in enumerate(parts):
                canvas.paste(Image.fromarray(part), (number * size, 0))
            yield canvas

    pictures, data = images(), BytesIO()
    next(pictures).save(
        data,
        format="GIF",
        save_all=True,
        append_images=pictures,
        duration=delays,
        loop=0,
        palette=bytes(GIF_PALETTE),
        transparency=_UNUSED,
        optimize=True,
    )
    return data.getvalue()


def split_time(total: float, *, frame_ms: int) -> list[int]:
    """Frame delays, ms, that add up to `total` rounded to the format's 10 ms, at least `MIN_FRAME`.

    Raises:
        ValueError: `frame_ms` is no multiple of 10 from 20 to 100, or gives too many frames.
    """
    if frame_ms % 10 or not MIN_FRAME <= frame_ms <= 100:
        raise ValueError(f"frame_ms must be a multiple of 10 from 20 to 100, not {frame_ms}")
    total = max(MIN_FRAME, round(total / 10) * 10)
    count, rest = divmod(total, frame_ms)
    if count > MAX_FRAMES:
        raise ValueError(f"{total / 1000:.0f} s take {count} frames; {MAX_FRAMES} are allowed")
    delays = [frame_ms] * count
    if rest >= MIN_FRAME or not delays:
        return [*delays, rest]
    return [*delays[:-1], frame_ms + rest]


def render_ink(drawing: Sequence, *, size: int) -> UInt8[np.ndarray, "S S"]:
    """The whole drawing in the middle of a square: ink coverage of each pixel, 0 to 255.

    Raises:
        ValueError: The drawing is malformed, or `size` is not 16 to `MAX_SIZE` px.
    """
    canvas = _canvas(size)
    lines = [np.column_stack(stroke[:2]) for stroke in _centred(drawing, size)]
    _add_lines(canvas, lines, size=size)
    return _downsampled(canvas)


def render_frames(
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
        ends: Increasing times, ms. From the drawing's last time on, the pen is gone.
        size: Side, px, 16 to `MAX_SIZE`.
        trail_ms: Ink is blue at first and black after this time.
        pen: Show the pen: a dot where it draws, a ring where it hovers.

    Raises:
        ValueError: `size` is out of range.
    """
    canvas = _canvas(size)
    drawing = _centred(drawing, size)
    x, y, t = (np.concatenate(rows) for rows in zip(*drawing, strict=True))
    before = -1.0
    for end in ends:
        _add_lines(canvas, _lines_between(drawing, before, end), size=size)
        before = end
        shade = _to_shades(_downsampled(canvas))
        age = np.zeros_like(shade)
        for step in range(1, _AGES) if trail_ms > 0 and end < t[-1] else ():
            since = end - trail_ms * (1 - (step - 1) / (_AGES - 1))
            lines = [_fixed_point(line, 1) for line in _lines_between(drawing, since, end)]
            width = _line_width(size) // _OVERSAMPLING + 3
            cv2.polylines(age, lines, False, step, width, shift=_FRACTION_BITS)
        frame = np.where(shade > 0, shade + age * _SHADES, 0).astype(np.uint8)
        if pen and end < t[-1]:
            is_down = any(stroke[2][0] <= end <= stroke[2][-1] for stroke in drawing)
            at = np.array([np.interp(end, t, x), np.interp(end, t, y)])
            shade = _to_shades(_render_pen(at, size=size, is_down=is_down))
            frame = np.where(shade > 0, shade + _AGES * _SHADES, frame).astype(np.uint8)
        yield frame


def _render_pen(
    at: Float64[np.ndarray, "2"], *, size: int, is_down: bool
) -> UInt8[np.ndarray, "S S"]:
    """Coverage of each pixel by the pen's dot or ring, 0 to 255."""
    dot = np.zeros((size, size), np.uint8)
    radius = round(max(2, size / 50) * 2**_FRACTION_BITS)
    width = -1 if is_down else max(1, size // 120)
    centre = _fixed_point(at, 1).tolist()
    cv2.circle(dot, centre, radius, 255, width, cv2.LINE_AA, _FRACTION_BITS)
    return dot


def _to_shades(coverage: UInt8[np.ndarray, "S S"]) -> UInt8[np.ndarray, "S S"]:
    """Coverage, 0 to 255, rounded to 0 to `_SHADES`."""
    return ((coverage.astype(np.uint16) * _SHADES + 127) // 255).astype(np.uint8)


def _canvas(size: int) -> UInt8[np.ndarray, "W W"]:
    """An empty canvas for a frame of `size` px."""
    if not 16 <= size <= MAX_SIZE:
        raise ValueError(f"size must be 16 to {MAX_SIZE} px, not {size}")
    return np.zeros((size * _OVERSAMPLING, size * _OVERSAMPLING), np.uint8)


def _downsampled(canvas: UInt8[np.ndarray, "W W"]) -> UInt8[np.ndarray, "S S"]:
    factor = 1 / _OVERSAMPLING
    return cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _centred(drawing: Sequence, size: int) -> Drawing:
    """`drawing` in the middle of a square of `size` px, with a margin."""
    boxed = to_box(drawing, size=size * 0.88)
    extent = [np.ptp(np.concatenate([stroke[axis] for stroke in boxed])) for axis in (0, 1)]
    dx, dy = ((size - side) / 2 for side in extent)
    return [[stroke[0] + dx, stroke[1] + dy, *stroke[2:]] for stroke in boxed]


def _lines_between(drawing: Drawing, start: float, end: float) -> list[Float64[np.ndarray, "_ 2"]]:
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


def _add_lines(
    canvas: UInt8[np.ndarray, "W W"], lines: list[Float64[np.ndarray, "_ 2"]], *, size: int
) -> None:
    """Paint lines with round ends on `canvas`."""
    width = _line_width(size)
    fixed = [_fixed_point(line, _OVERSAMPLING) for line in lines]
    cv2.polylines(canvas, fixed, False, 255, width, shift=_FRACTION_BITS)
    for line in fixed:  # OpenCV draws no ends to a line without length
        for end in line[[0, -1]].tolist():
            cv2.circle(canvas, end, width << _FRACTION_BITS >> 1, 255, -1, shift=_FRACTION_BITS)


def _line_width(size: int) -> int:
    """Canvas px of a line in a frame of `size` px; a dot must stay dark."""
    return max(6, round(size * _OVERSAMPLING / 85))


def _fixed_point(points: Float64[np.ndarray, "*n 2"], scale: int) -> np.ndarray:
    """Frame px times `scale` in OpenCV's fixed-point format, whose pixel centres are whole."""
    return np.rint((points * scale - 0.5) * 2**_FRACTION_BITS).astype(np.int32)
