"""Strokes to small pictures, and people's pictures into the same framing.

Ink is 255, ground 0. The framing is that of the published 28x28 bitmaps: the drawing's larger side
spans 255 of 304 units, its middle lies in the picture's middle, and lines have round ends.

N drawing, S side of a picture, C channel, H, W its height and width.
"""

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps

from doodlelib.strokes import BOX, as_drawing

CANVAS = 304.0  # units to a picture's side; the drawing's larger side is BOX of them
LINE = 16.0  # units: a line's width at 28 px
LARGEST = 1024  # px: larger pictures are shrunk when read
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")  # others Pillow hands to other programs, or rare
WORKING = 448  # px: a picture's ink is brought to this size to be measured
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue in grey
FAINTEST = 24  # grey levels: less contrast between ink and ground is no drawing


def rasterize(
    drawing: Sequence, size: int = 28, *, line_width: float | None = None
) -> UInt8[np.ndarray, "S S"]:
    """The drawing, timed or not, as a picture of `size` px a side; at 28 as the published bitmaps.

    Lines are antialiased and `line_width` px wide, `default_line_width` where none is given.

    Raises:
        ValueError: The drawing is malformed.

    Source: the framing that Google's team gave in quickdraw-dataset issue 19 (side 256, padding 16,
    line 16), which fits bitmaps whose strokes are known; how a pixel is covered is ours.
    """
    return rasterize_many([drawing], size, line_width=line_width)[0]


def rasterize_many(
    drawings: Sequence[Sequence], size: int = 28, *, line_width: float | None = None
) -> UInt8[np.ndarray, "N S S"]:
    """`rasterize` of each drawing; the error numbers the malformed one."""
    if size < 1:
        raise ValueError(f"a picture's side is at least 1 px, not {size}")
    strokes = [stroke for drawing in drawings for stroke in drawing]
    x, y = (np.concatenate([[], *(stroke[row] for stroke in strokes)]) for row in (0, 1))
    sizes = [len(stroke[0]) for stroke in strokes]
    counts = [len(drawing) for drawing in drawings]
    sound = all(counts) and all(sizes) and sizes == [len(stroke[1]) for stroke in strokes]
    if not (sound and np.isfinite(x).all() and np.isfinite(y).all()):
        for number, drawing in enumerate(drawings):
            try:
                as_drawing(drawing)
            except ValueError as error:
                raise ValueError(f"drawing {number}: {error}") from None
    images = np.zeros((len(drawings), size, size), dtype=np.uint8)
    radius = (default_line_width(size) if line_width is None else line_width) / 2
    sizes, counts = np.array(sizes, dtype=np.int64), np.array(counts, dtype=np.int64)
    _painter()(images, np.stack([x, y]), sizes, counts, radius)
    return images


def default_line_width(size: int) -> float:
    """px: 1.47 at 28 as the published bitmaps, growing with the root of the side: 4.4 at 255."""
    return LINE / CANVAS * math.sqrt(28 * size)


@functools.cache
def _painter() -> Callable[..., None]:
    from doodlelib.kernels import kernel  # imports Numba, which takes a while

    return kernel(inspect.unwrap(_paint))  # from what run-time type checks put around it


def _paint(images, points, sizes, counts, radius):
    """Draw into `images`; compiled. Strokes cover one another as washes of ink would.

    What a pixel has of a stroke is the exact area that a straight edge at the same distance cuts
    from a square; where segments of one stroke meet, the larger of their areas.
    """
    side, reach = images.shape[1], radius + math.sqrt(0.5)
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
                        value = np.uint8(255 * area + 0.5)
                        layer[row, column] = max(value, layer[row, column])
            part_x, part_y = x[begin : begin + size], y[begin : begin + size]
            left, right = max(0, int(part_x.min() - reach)), int(part_x.max() + reach) + 1
            top, bottom = max(0, int(part_y.min() - reach)), int(part_y.max() + reach) + 1
            for row in range(top, min(side, bottom)):
                for column in range(left, min(side, right)):
                    below, above = int(images[drawing, row, column]), int(layer[row, column])
                    images[drawing, row, column] = below + above - (below * above + 127) // 255
                    layer[row, column] = 0
            begin += size
        first, stroke = last, stroke + counts[drawing]


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W C"]:
    """A picture file's first frame, upright, as RGB or RGBA, at most 1024 px wide and high.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no picture that can be read whole, or too large to be one of a drawing.
    """
    bomb = Image.DecompressionBombWarning
    try:
        with (
            warnings.catch_warnings(action="error", category=bomb),
            Image.open(path, formats=FORMATS) as file,
        ):
            image = ImageOps.exif_transpose(file)
    except FileNotFoundError:
        raise
    except (Image.DecompressionBombError, bomb, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from None
    if image.mode.startswith(("I", "F")):  # more than 8 bits, which convert() would cut off
        levels = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((levels * (255 / max(levels.max(), 1))).astype(np.uint8))
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((LARGEST, LARGEST))
    return np.asarray(image)


def to_frame(image: Shaped[np.ndarray, "..."], size: int = 28) -> UInt8[np.ndarray, "S S"]:
    """A person's picture as `rasterize` would have drawn it: ink high, centred, lines as wide.

    The ground, light or dark, is what the border mostly is, and may be unevenly lit. Specks are
    left out; the ink is cut out, scaled, and thinned or thickened.

    Args:
        image: uint8 (H, W), or (H, W, C): C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        size: Side of the result, px.

    Raises:
        ValueError: `image` has another shape or type, or shows nothing that stands out.
    """
    ink = _contrast(_grey(image))
    level, mask = cv2.threshold(ink, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    if np.ptp(ink) < FAINTEST or ink[mask > 0].mean() - ink[mask == 0].mean() < FAINTEST:
        raise ValueError(f"a picture of {ink.shape[1]} x {ink.shape[0]} px that shows no drawing")
    ink = np.where(_specks(mask), 0, ink).astype(np.uint8)
    x, y, width, height = cv2.boundingRect((ink > level).astype(np.uint8))
    centred = max(abs(2 * x + width - size), abs(2 * y + height - size)) <= 2
    fills = abs(max(width, height) - (BOX + LINE) / CANVAS * size) <= 2
    if ink.shape == (size, size) and centred and fills:
        return ink  # it is in the framing, and scaling would blur it
    ink = np.pad(ink, 1)[y : y + height + 2, x : x + width + 2]
    factor = WORKING / max(width, height)
    shape = (max(3, round(ink.shape[1] * factor)), max(3, round(ink.shape[0] * factor)))
    ink = cv2.resize(ink, shape, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    inside, outside = (
        cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for part in (ink > level, ink <= level)
    )
    edge = np.where(inside > 0, inside - 0.5, 0.5 - outside)  # px into the ink, below 0 without
    ridge = (inside > 0) & (inside == cv2.dilate(inside, np.ones((3, 3))))
    line = min(2 * float(np.median(edge[ridge])), WORKING / 4)  # more is a shape, not a line
    canvas = size * max(1, round(WORKING / size))
    scale = BOX / CANVAS * canvas / (WORKING - line)
    wanted = default_line_width(size) * canvas / size
    move = [(canvas - 1 - scale * (side - 1)) / 2 for side in shape]
    matrix = np.array([[scale, 0, move[0]], [0, scale, move[1]]])
    edge = cv2.warpAffine(edge, matrix, (canvas, canvas), borderValue=-canvas) * scale
    coverage = np.clip(edge + (wanted - scale * line) / 2 + 0.5, 0, 1) * 255
    return cv2.resize(coverage, (size, size), interpolation=cv2.INTER_AREA).round().astype(np.uint8)


def _grey(image: np.ndarray) -> np.ndarray:
    """Grey levels (H, W); what is transparent becomes the ground that the opaque part contrasts."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(
            f"picture is {image.dtype} {image.shape}; uint8 (H, W) or (H, W, C) needed"
        )
    image = np.atleast_3d(image)
    if image.shape[2] > 4:
        raise ValueError(f"picture has {image.shape[2]} channels; 1 to 4 are known")
    grey = image[..., :3] @ LUMA if image.shape[2] > 2 else image[..., 0]
    if image.shape[2] in (2, 4):
        alpha = image[..., -1] / 255
        ground = 255 if (grey * alpha).sum() < 128 * alpha.sum() else 0
        grey = grey * alpha + ground * (1 - alpha)
    return np.round(grey).astype(np.uint8)


def _contrast(grey: np.ndarray) -> np.ndarray:
    """How far each pixel stands out from the ground around it."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(border) > 127:
        grey = 255 - grey
    small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA)
    ground = cv2.morphologyEx(small, cv2.MORPH_OPEN, np.ones((25, 25)))  # wider than any line
    return cv2.subtract(grey, cv2.resize(ground, grey.shape[::-1]))


def _specks(mask: np.ndarray) -> np.ndarray:
    """The parts of `mask` that are far smaller than a dot of its line would be."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    line = 4 * float(depth[mask > 0].mean()) - 2  # depth runs evenly from the edge to the middle
    areas = stats[1:, cv2.CC_STAT_AREA]  # without the ground's
    least = min(0.3 * line**2, areas.max())
    return np.isin(labels, 1 + np.flatnonzero(np.less(areas, least)))
