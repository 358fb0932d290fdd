"""Strokes to antialiased images of 28x28 or 255x255 px, of the geometry alone or with its time.

Ink is 255, background 0. The framing is that of the published 28x28 bitmaps: the drawing's larger
side spans 255 of 304 units, its middle lies in the image's middle, and lines have round ends.

N drawing, S side of an image, C channel.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from doodlelib.jit import kernel
from doodlelib.strokes import BOX, as_drawing, is_timed

CANVAS = 304.0  # units to an image's side; the drawing's larger side is BOX of them
LINE = 16.0  # units: a line's width at 28 px
LONGEST = 20_000.0, 5_000.0  # ms: a draw time (the game ends then) and a pause that are 255


def rasterize(
    drawing: Sequence, size: int = 28, *, line_width: float | None = None
) -> UInt8[np.ndarray, "S S"]:
    """The drawing, timed or not, as an image of `size` px a side; at 28 as the published bitmaps.

    Lines are antialiased and `line_width` px wide, `default_line_width` where none is given.

    Raises:
        ValueError: The drawing is malformed.

    Source: the framing that Google's team gave in quickdraw-dataset issue 19 (side 256, padding 16,
    line 16), which fits bitmaps whose strokes are known; how a pixel is covered is ours.
    """
    return _painted([drawing], [], size, line_width)[0, 0]


def rasterize_many(drawings: Sequence[Sequence], size: int = 28) -> UInt8[np.ndarray, "N S S"]:
    """`rasterize` of each drawing; the error numbers the malformed one."""
    return _painted(drawings, [], size)[:, 0]


def rasterize_timed(drawings: Sequence[Sequence], size: int = 28) -> UInt8[np.ndarray, "N 3 S S"]:
    """Ink, draw time and pause of each drawing, as three channels of one image.

    The first is `rasterize`'s. Where it has ink, the second says when that was drawn, from 0 at the
    first touch to 255 after 20 s, and the third how long the pen had been up before the stroke,
    to 255 at 5 s; both by the root, since most times are short. Of strokes that cross, the larger.

    Raises:
        ValueError: A drawing is malformed or untimed; it is numbered.

    Source: the channels of a top team of Kaggle's Quick, Draw! challenge; their scales are ours.
    """
    _check(drawings)
    times = [np.zeros((2, 0))]
    for number, drawing in enumerate(drawings):
        if not is_timed(drawing):
            raise ValueError(f"drawing {number} is untimed, which leaves no time to show")
        begin = end = drawing[0][2][0]
        for stroke in drawing:
            pause = np.full(len(stroke[2]), stroke[2][0] - end)
            times.append(np.stack([np.subtract(stroke[2], begin), pause]))
            end = stroke[2][-1]
    shares = np.concatenate(times, axis=1) / np.reshape(LONGEST, (2, 1))
    return _painted(drawings, np.sqrt(np.clip(shares, 0, 1)), size)


def _painted(
    drawings: Sequence[Sequence], levels: Sequence, size: int, line_width: float | None = None
) -> np.ndarray:
    """Images (N, C, S, S): ink, and a channel for each of `levels`, 0 to 1 at all points."""
    if size < 1:
        raise ValueError(f"an image's side is at least 1 px, not {size}")
    strokes = [stroke for drawing in drawings for stroke in drawing]
    x, y = (np.concatenate([[], *(stroke[row] for stroke in strokes)]) for row in (0, 1))
    sizes = [len(stroke[0]) for stroke in strokes]
    counts = [len(drawing) for drawing in drawings]
    sound = all(counts) and all(sizes) and sizes == [len(stroke[1]) for stroke in strokes]
    if not (sound and np.isfinite(x).all() and np.isfinite(y).all()):
        _check(drawings)
    inks = np.stack([np.ones(len(x)), *levels])
    images = np.zeros((len(counts), len(inks), size, size), dtype=np.uint8)
    radius = (default_line_width(size) if line_width is None else line_width) / 2
    of_strokes, of_drawings = np.array(sizes, dtype=np.int64), np.array(counts, dtype=np.int64)
    _paint(images, np.stack([x, y]), inks, of_strokes, of_drawings, radius)
    return images


def _check(drawings: Sequence[Sequence]) -> None:
    for number, drawing in enumerate(drawings):
        try:
            as_drawing(drawing)
        except ValueError as error:
            raise ValueError(f"drawing {number}: {error}") from None


def default_line_width(size: int) -> float:
    """px: 1.47 at 28 as the published bitmaps, growing with the root of the side: 4.4 at 255."""
    return LINE / CANVAS * math.sqrt(28 * size)


@kernel
def _paint(images, points, levels, sizes, counts, radius):
    """Draw into `images`; compiled. In the first channel strokes cover one another as washes do.

    What a pixel has of a stroke is the exact area that a straight edge at the same distance cuts
    from a square; where segments of one stroke meet, the larger of their areas.
    """
    channels, side, reach = images.shape[1], images.shape[2], radius + math.sqrt(0.5)
    layer = np.zeros(images.shape[1:], np.uint8)
    first = stroke = 0
    for drawing in range(len(images)):
        last = first + sizes[stroke : stroke + counts[drawing]].sum()
        x, y = points[0, first:last], points[1, first:last]
        extent = max(x.max() - x.min(), y.max() - y.min())
        scale = side / CANVAS * (BOX / extent if extent > 0 else 1.0)
        x = (x - (x.min() + x.max()) / 2) * scale + side / 2
        y = (y - (y.min() + y.max()) / 2) * scale + side / 2
        begin = 0
        for size in sizes[stroke : stroke + counts[drawing]]:
            for point in range(begin, begin + size):
                before = max(point - 1, begin)
                dx, dy = x[point] - x[before], y[point] - y[before]
                length = dx * dx + dy * dy
                left = max(0, int(min(x[before], x[point]) - reach))
                right = min(side, int(max(x[before], x[point]) + reach) + 1)
                top = max(0, int(min(y[before], y[point]) - reach))
                bottom = min(side, int(max(y[before], y[point]) + reach) + 1)
                for row in range(top, bottom):
                    for column in range(left, right):
                        px, py = column + 0.5 - x[before], row + 0.5 - y[before]
                        along = (px * dx + py * dy) / length if length > 0 else 0.0
                        along = min(1.0, max(0.0, along))
                        px, py = abs(px - along * dx), abs(py - along * dy)
                        squared = px * px + py * py
                        if squared >= reach * reach:
                            continue
                        distance = math.sqrt(squared)
                        long, short = 1.0, 0.0  # of the edge's unit normal
                        if distance > 0:
                            long, short = max(px, py) / distance, min(px, py) / distance
                        beyond = abs(radius - distance)
                        area = 0.0  # on the far side of the edge
                        if beyond <= (long - short) / 2:
                            area = 0.5 - beyond / long
                        elif beyond < (long + short) / 2:
                            area = ((long + short) / 2 - beyond) ** 2 / (2 * long * short)
                        area = area if distance > radius else 1 - area
                        for channel in range(channels):
                            value = np.uint8(255 * area * levels[channel, first + point] + 0.5)
                            layer[channel, row, column] = max(value, layer[channel, row, column])
            part_x, part_y = x[begin : begin + size], y[begin : begin + size]
            left, right = max(0, int(part_x.min() - reach)), int(part_x.max() + reach) + 1
            top, bottom = max(0, int(part_y.min() - reach)), int(part_y.max() + reach) + 1
            for row in range(top, min(side, bottom)):
                for column in range(left, min(side, right)):
                    for channel in range(channels):
                        below = int(images[drawing, channel, row, column])
                        above = int(layer[channel, row, column])
                        wash = below + above - (below * above + 127) // 255
                        value = max(below, above) if channel > 0 else wash
                        images[drawing, channel, row, column] = value
                        layer[channel, row, column] = 0
            begin += size
        first, stroke = last, stroke + counts[drawing]
