"""One drawing out: GIF and SVG that play at the human's pace, PNG, ndjson, stroke-4, a gallery.

Every function writes a whole file or none (see `paths.atomic_write`) and returns its path.
"""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import orjson
from PIL import Image

from doodlelib import strokes
from doodlelib.paths import atomic_write
from doodlelib.strokes import Record, as_drawing, geometry_id
from doodlelib.viz import animation, frames, svg


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
    """The doodle being drawn, at the pace of its own timestamps, over and over.

    The GIF lasts as long as the drawing (the sum of its dt), to 5 ms or, below 20 ms, to one
    frame; plus `hold_ms`. Frames that look alike become one with a longer delay.

    Args:
        drawing: Strokes ``[x, y, t]``; an untimed drawing needs `constant` or `duration_ms`.
        path: Where to write.
        frame_ms: Time between frames: a multiple of 10 (the format's unit), 20 to 100.
        size: Side, px.
        constant: The pen moves at one speed, in the same total time.
        duration_ms: Play in this time instead of the drawing's own.
        trail_ms: Ink is blue when fresh and black after this time.
        pen: Show the pen: a dot where it draws, a ring where it hovers.
        hold_ms: How much longer the finished drawing stays.

    Raises:
        ValueError: See `frames.paced`; or `frame_ms`, `size` or `hold_ms` is out of range; or
            the drawing takes over `gif.MAX_FRAMES` frames.
    """
    panels = [frames.paced(drawing, constant=constant, duration_ms=duration_ms)]
    data = animation.encode(
        panels, frame_ms=frame_ms, size=size, trail_ms=trail_ms, pen=pen, hold_ms=hold_ms
    )
    return _write(path, data)


def grid_gif(
    drawings: Sequence[Sequence],
    path: str | Path,
    *,
    labels: Sequence[str] = (),
    columns: int | None = None,
    frame_ms: int = 30,
    size: int = 128,
    trail_ms: float = 0.0,
    hold_ms: int = 1000,
) -> Path:
    """Several doodles being drawn at once, each at its own pace; the longest sets the duration.

    Args:
        drawings: Timed drawings.
        path: Where to write.
        labels: What to write below each.
        columns: Doodles in a row; default: as square as can be.
        frame_ms: As in `to_gif`.
        size: Side of each doodle, px.
        trail_ms: As in `to_gif`.
        hold_ms: As in `to_gif`.

    Raises:
        ValueError: As `to_gif`; no drawings; or more or fewer labels than drawings.
    """
    if not drawings or len(labels) not in (0, len(drawings)):
        raise ValueError(f"{len(drawings)} drawings and {len(labels)} labels")
    data = animation.encode(
        [frames.paced(drawing) for drawing in drawings],
        labels=labels,
        columns=columns or math.ceil(len(drawings) ** 0.5),
        frame_ms=frame_ms,
        size=size,
        trail_ms=trail_ms,
        hold_ms=hold_ms,
    )
    return _write(path, data)


def compare_gif(
    drawing: Sequence, path: str | Path, *, size: int = 255, hold_ms: int = 1000
) -> Path:
    """The same timed drawing twice, side by side: at human and at constant speed.

    Raises:
        ValueError: As `to_gif`.
    """
    return grid_gif(
        [frames.paced(drawing), frames.paced(drawing, constant=True)],
        path,
        labels=("human time", "constant speed"),
        columns=2,
        size=size,
        trail_ms=300.0,
        hold_ms=hold_ms,
    )


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
            that do not play show the whole drawing.
        hold_ms: How much longer than the drawing's duration each round takes.
        digits: Decimals of the coordinates.
        title: What a screen reader says.

    Raises:
        ValueError: The drawing is malformed, or its clock runs backwards.
    """
    markup = svg.to_markup(drawing, animate=animate, hold_ms=hold_ms, digits=digits, title=title)
    return _write(path, f"{markup}\n".encode())


def to_png(drawing: Sequence, path: str | Path, *, size: int = 255) -> Path:
    """The finished drawing, black on white, `size` px square.

    Raises:
        ValueError: The drawing is malformed, or `size` is below 16.
    """
    ink = frames.draw_ink(drawing, size=size) / 255
    image = Image.fromarray(np.rint(255 - ink * (255 - frames.INK[0])).astype(np.uint8))
    data = BytesIO()
    image.save(data, format="PNG", optimize=True)
    return _write(path, data.getvalue())


def to_ndjson(drawings: Record | Iterable, path: str | Path, *, word: str | None = None) -> Path:
    """Drawings in Google's raw schema (simplified, where they are untimed), one a line.

    Args:
        drawings: A record, several records, or one drawing.
        path: Where to write.
        word: What they show; needed for a drawing, which counts as recognised, drawn now, in no
            known country (``ZZ``). For records default: what each says.

    Raises:
        ValueError: A drawing is malformed or nameless, or there are none.
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


def to_stroke4(drawing: Sequence, path: str | Path) -> Path:
    """The drawing as stroke-4 in a `.npy`, px and ms; `formats.read_file` reads it back.

    Raises:
        ValueError: The drawing is malformed, or its clock runs backwards.
    """
    data = BytesIO()
    np.save(data, strokes.to_stroke4(drawing), allow_pickle=False)
    return _write(path, data.getvalue())


def to_gallery(
    drawings: Iterable, path: str | Path, *, title: str = "Doodles", hold_ms: int = 1000
) -> Path:
    """One page of doodles that draw themselves, in one file that loads nothing from elsewhere.

    Args:
        drawings: Records, which get their word as caption, or drawings.
        path: Where to write.
        title: The page's.
        hold_ms: How long each finished doodle stays.

    Raises:
        ValueError: A drawing is malformed, or there are none.
    """
    figures = []
    for item in drawings:
        drawing, caption = (item.drawing, item.word) if isinstance(item, Record) else (item, "")
        markup = svg.to_markup(drawing, animate=True, hold_ms=hold_ms, digits=1, title=caption)
        figures.append(f"<figure>{markup}<figcaption>{html.escape(caption)}</figcaption></figure>")
    if not figures:
        raise ValueError("no drawings for the gallery")
    page = _PAGE.replace("TITLE", html.escape(title)).replace("FIGURES", "\n".join(figures))
    return _write(path, page.encode())


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>TITLE</title>
<style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 1rem; }
figure { margin: 0; text-align: center; }
svg { width: 100%; height: auto; aspect-ratio: 1; border-radius: 8px; }
</style>
</head>
<body>
<h1>TITLE</h1>
<main>
FIGURES
</main>
</body>
</html>
"""


def _write(path: str | Path, data: bytes) -> Path:
    with atomic_write(path) as file:
        file.write(data)
    return Path(path)
