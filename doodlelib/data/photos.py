"""Photos and scans of drawings to images as `raster` makes them: cropped, scaled, thinned.

S side of an image, C channel, H, W height and width of a photo.
"""

import warnings
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps

from doodlelib.raster import CANVAS, LINE, default_line_width
from doodlelib.strokes import BOX

LARGEST = 1024  # px: larger pictures are shrunk when read
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")  # others Pillow hands to other programs, or rare
WORKING = 448  # px: a picture's ink is brought to this size to be measured
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue in grey
FAINTEST = 24  # grey levels: less contrast between ink and ground is no drawing


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W C"]:
    """An image file's first frame, upright, as RGB or RGBA, at most 1024 px wide and high.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no image that can be read whole, or too large to be one of a drawing.
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
    """A photo of a drawing as `rasterize` would render it: ink high, centred, lines as wide.

    The background, light or dark, is what the border mostly is, and may be unevenly lit. Specks
    are left out; the ink is cropped, scaled, and thinned or thickened.

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
