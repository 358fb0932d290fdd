"""Drawings as files: GIF and SVG that play in true time, PNG, and ndjson.

Every function writes a whole file or none (see `paths.atomic_write`) and returns its path.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import orjson
from PIL import Image

from doodlelib.paths import atomic_write
from doodlelib.strokes import Record, as_drawing, geometry_id
from doodlelib.viz.animation import INK_RGB, encode_gif, paced, render_ink
from doodlelib.viz.svg import to_markup


def to_gif(
    drawing: Sequence,
    path: str | Path,
    *,
    frame_ms: int = 30,
    size: int = 255,
    constant: bool = False,
    duration_ms: float | None = None,
    trail_ms: float = 0.0,
    pen: bool = True,
    hold_ms: int = 0,
) -> Path:
    """An endless GIF of the drawing being drawn, at the pace of its own timestamps.

    It lasts as long as the drawing (the sum of its dt), to 5 ms or, below 20 ms, to one frame;
    plus `hold_ms`. Equal consecutive frames become one with a longer delay.

    Args:
        drawing: Strokes ``[x, y, t]``; an untimed drawing needs `constant` or `duration_ms`.
        path: Where to write.
        frame_ms: Time between frames: a multiple of 10 (the format's unit), 20 to 100.
        size: Side, px.
        constant: Move the pen at one speed, in the same total time.
        duration_ms: Play in this time instead of the drawing's own.
        trail_ms: Ink is blue when fresh and black after this time.
        pen: Show the pen: a dot where it draws, a ring where it hovers.
        hold_ms: How much longer the finished drawing stays.

    Raises:
        ValueError: The drawing cannot be played (see `animation.paced`); `frame_ms`, `size` or
            `hold_ms` is out of range; or there would be over `animation.MAX_FRAMES` frames.
    """
    panels = [paced(drawing, constant=constant, duration_ms=duration_ms)]
    data = encode_gif(
        panels, frame_ms=frame_ms, size=size, trail_ms=trail_ms, pen=pen, hold_ms=hold_ms
    )
    return _write(path, data)


def compare_gif(
    drawing: Sequence, path: str | Path, *, size: int = 255, hold_ms: int = 1000
) -> Path:
    """A GIF of a timed drawing twice, side by side: at human and at constant speed.

    `size` is the side of each, px. Arguments and errors are otherwise those of `to_gif`.
    """
    data = encode_gif(
        [paced(drawing), paced(drawing, constant=True)],
        labels=("human time", "constant speed"),
        frame_ms=30,
        size=size,
        trail_ms=300.0,
        hold_ms=hold_ms,
    )
    return _write(path, data)


def to_svg(
    drawing: Sequence,
    path: str | Path,
    *,
    animate: bool = True,
    hold_ms: int = 0,
    digits: int = 2,
    title: str = "",
) -> Path:
    """The drawing as an SVG, a path for each stroke, in its own coordinates.

    Args:
        drawing: Strokes; an untimed drawing stands still.
        path: Where to write.
        animate: Play it (SMIL) at the pace of its timestamps, over and over, with a pen. Viewers
            that do not animate show the whole drawing.
        hold_ms: How much longer than the drawing's duration each round takes.
        digits: Decimals of the coordinates.
        title: Text for screen readers.

    Raises:
        ValueError: The drawing is malformed, or its clock runs backwards.
    """
    markup = to_markup(drawing, animate=animate, hold_ms=hold_ms, digits=digits, title=title)
    return _write(path, f"{markup}\n".encode())


def to_png(drawing: Sequence, path: str | Path, *, size: int = 255) -> Path:
    """The finished drawing as a PNG, black on white, `size` px square.

    Raises:
        ValueError: The drawing is malformed, or `size` is below 16.
    """
    ink = render_ink(drawing, size=size) / 255
    image = Image.fromarray(np.rint(255 - ink * (255 - INK_RGB[0])).astype(np.uint8))
    data = BytesIO()
    image.save(data, format="PNG", optimize=True)
    return _write(path, data.getvalue())


def to_ndjson(drawings: Record | Iterable, path: str | Path, *, word: str | None = None) -> Path:
    """Drawings in Google's raw schema (simplified, where they are untimed), one a line.

    Args:
        drawings: One record, several records, or the strokes of one drawing.
        path: Where to write.
        word: The class label, instead of the records' own. Bare strokes need one; they are written
            as recognised, with the present time and an unknown country (``ZZ``).

    Raises:
        ValueError: A drawing is malformed, bare strokes have no word, or there are no drawings.
    """
    items = [drawings] if isinstance(drawings, Record) else list(drawings)
    if not items or not all(isinstance(item, Record) for item in items):
        if not word:
            raise ValueError("a drawing needs a word")
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
        checked = as_drawing(items)
        items = [Record(word, geometry_id(checked), True, checked, "ZZ", now)]
    records = [replace(item, word=word or item.word) for item in items]
    lines = [orjson.dumps(replace(r, drawing=as_drawing(r.drawing)).to_json()) for r in records]
    return _write(path, b"".join(line + b"\n" for line in lines))


def _write(path: str | Path, data: bytes) -> Path:
    with atomic_write(path) as file:
        file.write(data)
    return Path(path)
