"""Drawings being drawn, in true time: frames as palette images, and an animated GIF of them.

A pixel's palette index says how much ink it has and whether that is fresh, or how much of the pen
covers it; so nothing is quantised and all frames share `GIF_PALETTE`.

Dimensions in annotations: S side of a frame, W of the oversampled canvas, F frames.
"""

from collections.abc import Iterator, Sequence
from io import BytesIO

import cv2
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw, ImageFont

from doodlelib.strokes import DT, Drawing, as_drawing, is_timed, to_box, to_stroke4

TYPICAL_MS = 6200.0  # the median real drawing
MAX_SIZE = 2048  # px
MIN_FRAME = 20  # ms; viewers play anything shorter at 100 ms
MAX_FRAMES = 6000  # 3 minutes of 30 ms
MAX_HOLD = 60_000  # ms
_PAPER = (255, 255, 255)
_COLOURS = {"ink": (26, 26, 26), "fresh": (0, 114, 178), "pen": (213, 94, 0)}  # colour-blind safe
_SHADES = 15  # of each, from almost nothing to all
_OVERSAMPLING = 4  # canvas px to a frame's px
_FRACTION_BITS = 4  # of the fixed-point coordinates that OpenCV takes

_SHARE = np.linspace(0, 1, _SHADES + 1)[None, 1:, None]
_RAMPS = (1 - _SHARE) * _PAPER + _SHARE * np.array([*_COLOURS.values()])[:, None]
# paper; the shades of ink, fresh ink and pen; a spare: three numbers a colour
GIF_PALETTE: list[int] = [*_PAPER, *np.rint(_RAMPS).astype(int).ravel().tolist(), 1, 2, 3]
_UNUSED = len(GIF_PALETTE) // 3 - 1  # no pixel has it, so it can mean: as in the frame before


def paced(drawing: Sequence, *, constant: bool = False) -> Drawing:
    """The drawing with the times, from 0, at which to play it.

    `constant` moves the pen at one speed, up or down, in the same total time; 6.2 s, if untimed.
    ValueError: The drawing is malformed, its clock runs backwards, or it is untimed and its speed
    not constant.
    """
    drawing = as_drawing(drawing)
    (dx, dy, dt, _), timed = to_stroke4(drawing).T, is_timed(drawing)
    if not timed and not constant:
        raise ValueError("the drawing is untimed: pass constant=True")
    clock = np.cumsum(np.hypot(dx, dy) if constant else dt)
    if constant:
        clock *= (dt.sum() if timed else TYPICAL_MS) / max(clock[-1], 1e-9)
    bounds = np.cumsum([len(stroke[0]) for stroke in drawing])[:-1]
    paired = zip(drawing, np.split(clock, bounds), strict=True)
    return [[x, y, times] for (x, y, *_), times in paired]


def pace_of(drawing: Sequence) -> str:
    """At which constant speed `paced` plays a drawing that is untimed; of a timed one, nothing."""
    if is_timed(drawing):
        return ""
    length = np.hypot(*to_stroke4(drawing)[:, :DT].T).sum()
    seconds = paced(drawing, constant=True)[-1][2][-1] / 1000
    return (
        f"untimed; plays at a constant {length / (seconds or 1):.3g} px/s, {seconds:.3g} s in all"
    )


def encode_gif(
    panels: Sequence[Drawing],
    *,
    frame_ms: int = 30,
    size: int = 255,
    trail_ms: float = 0.0,
    pen: bool = True,
    hold_ms: int = 0,
    labels: Sequence[str] = (),
) -> bytes:
    """A GIF that loops for ever over drawings side by side, with delays that add up to true time.

    `panels` are drawings as from `paced`, of which the longest sets the duration; `labels` stand
    below them, or none. The other arguments are those of `export.to_gif`.
    ValueError: One of them is out of range, or there would be over `MAX_FRAMES` frames.
    """
    if not 0 <= hold_ms <= MAX_HOLD:
        raise ValueError(f"hold_ms must be 0 to {MAX_HOLD}, not {hold_ms}")
    total = max(panel[-1][2][-1] for panel in panels)
    delays = split_time(total, frame_ms=frame_ms)
    ends = np.cumsum(delays, dtype=np.float64)
    ends[-1] = max(ends[-1], total)  # rounding the time down must not leave the last one unfinished
    delays[-1] += hold_ms
    frames = [render_frames(p, ends, size=size, trail_ms=trail_ms, pen=pen) for p in panels]
    canvas = Image.new("P", (len(panels) * size, size + (size // 8 if labels else 0)))
    canvas.putpalette(GIF_PALETTE)
    font = ImageFont.load_default(size / 11)
    for number, label in enumerate(labels):
        middle = (number * size + size // 2, size + size // 16)
        ImageDraw.Draw(canvas).text(middle, label, fill=_SHADES, font=font, anchor="mm")

    def images() -> Iterator[Image.Image]:
        for parts in zip(*frames, strict=True):
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

    ValueError: `frame_ms` is no multiple of 10 from 20 to 100, or gives too many frames.
    """
    if frame_ms % 10 or not MIN_FRAME <= frame_ms <= 100:
        raise ValueError(f"frame_ms must be a multiple of 10 from 20 to 100, not {frame_ms}")
    count, rest = divmod(max(MIN_FRAME, round(total / 10) * 10), frame_ms)
    if count > MAX_FRAMES:
        raise ValueError(f"{total / 1000:.0f} s take {count} frames; {MAX_FRAMES} are allowed")
    delays = [frame_ms] * count
    if rest >= MIN_FRAME or not delays:
        return [*delays, rest]
    return [*delays[:-1], frame_ms + rest]


def render_frames(
    drawing: Drawing,
    ends: Sequence[float] | Float64[np.ndarray, " F"],
    *,
    size: int,
    trail_ms: float = 0.0,
    pen: bool = True,
) -> Iterator[UInt8[np.ndarray, "S S"]]:
    """One palette image of `size` px for each of the increasing times `ends` (ms).

    It shows what was drawn by then of a drawing as from `paced`. From the drawing's last time on,
    the pen is gone. The other arguments are those of `export.to_gif`.
    ValueError: `size` is out of range.
    """
    if not 16 <= size <= MAX_SIZE:
        raise ValueError(f"size must be 16 to {MAX_SIZE} px, not {size}")
    canvas = np.zeros((size * _OVERSAMPLING, size * _OVERSAMPLING), np.uint8)
    width = max(7, round(size * _OVERSAMPLING / 85))  # canvas px; a dot must stay dark
    boxed = to_box(drawing, size=size * 0.88)  # in the middle, with a margin
    sides = [np.ptp(np.concatenate(rows)) for rows in [*zip(*boxed, strict=True)][:2]]
    right, down = ((size - side) / 2 for side in sides)
    drawing = [[x + right, y + down, t] for x, y, t in boxed]
    x, y, t = (np.concatenate(rows) for rows in zip(*drawing, strict=True))
    before = -1.0
    for end in ends:
        fresh = [_fixed_point(x, _OVERSAMPLING) for x in _lines_between(drawing, before, end)]
        cv2.polylines(canvas, fresh, False, 255, width, shift=_FRACTION_BITS)  # with round ends
        before = end
        shade = _to_shades(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA))
        kind = np.zeros_like(shade)  # of ink: old or fresh
        if trail_ms > 0 and end < t[-1]:
            lines = [_fixed_point(line) for line in _lines_between(drawing, end - trail_ms, end)]
            wide = width // _OVERSAMPLING + 3
            cv2.polylines(kind, lines, False, 1, wide, shift=_FRACTION_BITS)
        frame = np.where(shade > 0, shade + kind * _SHADES, 0).astype(np.uint8)
        if pen and end < t[-1]:
            is_down = any(stroke[2][0] <= end <= stroke[2][-1] for stroke in drawing)
            at = np.array([np.interp(end, t, x), np.interp(end, t, y)])
            centre, radius = _fixed_point(at).tolist(), round(max(2, size / 50) * 2**_FRACTION_BITS)
            thickness, dot = -1 if is_down else max(1, size // 120), np.zeros_like(shade)
            cv2.circle(dot, centre, radius, 255, thickness, cv2.LINE_AA, _FRACTION_BITS)
            shade = _to_shades(dot)
            frame = np.where(shade > 0, shade + 2 * _SHADES, frame).astype(np.uint8)
        yield frame


def _to_shades(coverage: UInt8[np.ndarray, "S S"]) -> UInt8[np.ndarray, "S S"]:
    return np.rint(coverage * (_SHADES / 255)).astype(np.uint8)


def _lines_between(drawing: Drawing, start: float, end: float) -> list[Float64[np.ndarray, "_ 2"]]:
    """The lines drawn after `start` and up to `end`, cut between points where these times are."""
    lines = []
    for x, y, t in drawing:
        first, stop = np.searchsorted(t, (start, end), side="right")
        if stop == 0 or first == len(t):
            continue
        cut, other_cut = np.column_stack([np.interp((start, end), t, axis) for axis in (x, y)])
        points = np.column_stack([x, y])[first:stop]
        head, tail = [cut] if first else [], [other_cut] if stop < len(t) else []
        line = np.vstack([*head, points, *tail])
        lines.append(line if len(line) > 1 else line.repeat(2, axis=0))  # OpenCV draws no points
    return lines


def _fixed_point(points: Float64[np.ndarray, "*n 2"], scale: int = 1) -> np.ndarray:
    """Frame px times `scale` in OpenCV's fixed-point format, whose pixel centres are whole."""
    return np.rint((points * scale - 0.5) * 2**_FRACTION_BITS).astype(np.int32)
