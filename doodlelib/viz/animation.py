"""Drawings in motion as the bytes of one GIF, with delays that add up to the true time."""

import math
from collections.abc import Iterator, Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from doodlelib.strokes import Drawing
from doodlelib.viz import frames

MIN_FRAME = 20  # ms; viewers play anything shorter at 100 ms
MAX_FRAMES = 6000  # 3 minutes of 30 ms
MAX_HOLD = 60_000  # ms


def encode(
    panels: Sequence[Drawing],
    *,
    frame_ms: int,
    size: int,
    trail_ms: float,
    hold_ms: int,
    pen: bool = True,
    labels: Sequence[str] = (),
    columns: int = 1,
) -> bytes:
    """A GIF that loops for ever over `panels`, from `frames.paced`, each with its label below.

    The arguments are those of `export.to_gif` and `export.grid_gif`.

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
    moving = [
        frames.draw_frames(panel, ends, size=size, trail_ms=trail_ms, pen=pen) for panel in panels
    ]
    height = size + (size // 8 if labels else 0)
    canvas = Image.new("P", (columns * size, math.ceil(len(panels) / columns) * height))
    canvas.putpalette(frames.PALETTE)
    corners = [(i % columns * size, i // columns * height) for i in range(len(panels))]
    font = ImageFont.load_default(size / 11)
    for (left, top), label in zip(corners, labels, strict=False):
        spot = (left + size // 2, top + size + size // 16)
        ImageDraw.Draw(canvas).text(spot, label, fill=frames.BLACK, font=font, anchor="mm")

    def images() -> Iterator[Image.Image]:
        for pictures in zip(*moving, strict=True):
            for corner, picture in zip(corners, pictures, strict=True):
                canvas.paste(Image.fromarray(picture), corner)
            yield canvas

    pictures, data = images(), BytesIO()
    next(pictures).save(
        data,
        format="GIF",
        save_all=True,
        append_images=pictures,
        duration=delays,
        loop=0,
        palette=bytes(frames.PALETTE),
        transparency=frames.UNUSED,
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
