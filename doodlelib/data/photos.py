"""Photos, scans and screenshots of drawings to images as `raster` makes them.

The drawing is told from its page, the page from the desk; then it is cropped, scaled, thinned.

S side of an image, C channel, H, W height and width of a photo.
"""

import struct
import warnings
from collections.abc import Sequence
from itertools import combinations, islice
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps, ImageSequence

from doodlelib.raster import CANVAS, LINE, default_line_width
from doodlelib.strokes import BOX

LARGEST = 1024  # px: larger pictures are shrunk when read
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")  # others go to other programs, or are rare
SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
MOST_FRAMES = 500  # of an animation that are looked at
WORKING = 448  # px: a picture's ink is brought to this size to be measured
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue in grey
FAINTEST = 24  # of 255: less contrast between ink and ground is no drawing
LEVEL = 100  # of 255: what `find_drawing` returns is ink from here on
PAGE_SIDE = 320  # px: pages are looked for at this size
LEAST_PAGE = 0.12  # of the picture: what is smaller is no page
STEP = 9  # grey levels between neighbours: an edge between two surfaces
MOST_AREAS = 6  # largest ones of which the page may consist
RIM = np.ones((11, 11))  # px at `PAGE_SIDE`: how far from its rim a page is looked at
LEAST_INK = 0.0005  # of the picture: less is no drawing on the page
LEAST_LINES = 5  # parallel ones that make paper ruled
MOST_PARTS = 80  # of a drawing; text and textures have more
LETTER = 0.15  # of a text's side: no part of it is larger
OTSU = cv2.THRESH_BINARY | cv2.THRESH_OTSU
ADVICE = "take it from above, in even light, with the drawing alone on blank paper, or crop it"


def pictures_in(path: str | Path) -> list[Path]:
    """The pictures that a path is or, as a folder, holds: by their content, or else their name."""
    path = Path(path)
    files = sorted(path.glob("[!.]*")) if path.is_dir() else [path]
    return [
        file
        for file in files
        if file.is_file() and (file.suffix.lower() in SUFFIXES or cv2.haveImageReader(str(file)))
    ]


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W C"]:
    """An image file, upright, as RGB or RGBA, at most 1024 px wide and high; else ValueError.

    Of an animation the frame with most contrast, which of a doodle's is the finished one.
    """
    bomb = Image.DecompressionBombWarning
    # what Pillow raises over spoilt files; TIFF and GIF are not strict in their errors
    broken = OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error
    try:
        with (
            warnings.catch_warnings(action="error", category=bomb),
            Image.open(path, formats=FORMATS) as file,
        ):
            image, most = ImageOps.exif_transpose(file), -1.0
            if getattr(file, "n_frames", 1) > 1:
                for frame in islice(ImageSequence.Iterator(file), MOST_FRAMES):
                    spread = float(np.asarray(frame.convert("L")).std())
                    if spread > most:
                        image, most = ImageOps.exif_transpose(frame), spread
    except FileNotFoundError:
        raise
    except (Image.DecompressionBombError, bomb, *broken) as error:
        read = f"{', '.join(FORMATS)} are read"
        raise ValueError(f"{path} cannot be read as a picture ({read}): {error}") from None
    if image.mode.startswith(("I", "F")):  # more than 8 bits, which convert() would cut off
        levels = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((levels * (255 / max(levels.max(), 1))).astype(np.uint8))
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((LARGEST, LARGEST))
    return np.asarray(image)


def to_frame(image: Shaped[np.ndarray, "..."], size: int = 28) -> UInt8[np.ndarray, "S S"]:
    """A photo of a drawing as `rasterize` would render it: ink high, centred, lines as wide.

    `image` is uint8 (H, W), or (H, W, C): C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA. ValueError:
    see `find_drawing`.
    """
    grey = _grey(image)
    if grey.shape == (size, size):
        rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        ink = 255 - grey if np.median(rim) > 127 else grey
        x, y, width, height = cv2.boundingRect(cv2.threshold(ink, 0, 255, OTSU)[1])
        centred = max(abs(2 * x + width - size), abs(2 * y + height - size)) <= 2
        fills = abs(max(width, height) - (BOX + LINE) / CANVAS * size) <= 2
        if centred and fills and np.ptp(ink) >= FAINTEST:
            return ink  # it is in the framing, and scaling would blur it
    ink = find_drawing(grey)
    x, y, width, height = cv2.boundingRect((ink > LEVEL).astype(np.uint8))
    ink = np.pad(ink, 1)[y : y + height + 2, x : x + width + 2]
    factor = WORKING / max(width, height)
    shape = (max(3, round(ink.shape[1] * factor)), max(3, round(ink.shape[0] * factor)))
    ink = cv2.resize(ink, shape, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    inside, outside = _depth(ink > LEVEL), _depth(ink <= LEVEL)
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


def find_drawing(image: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "H2 W2"]:
    """The ink of the drawing that a photo or a screenshot shows; more than `LEVEL` is ink.

    The page or canvas is found, uneven light is evened out. Ruled lines, the page's edges, frames,
    fingers at the rim and specks are left out. The ground may be light or dark.

    Raises:
        ValueError: `image` has another shape or type, or no drawing stands out; with advice.
    """
    grey = _shrunk(_grey(image), LARGEST)
    page = _page(grey)
    ink, noise = _contrast(grey, page)
    ink = _without_ruling(ink, noise)
    while (canvas := _framed_area((ink > noise).astype(np.uint8), page)) is not None:
        ink, page = ink * canvas, canvas
    strong = ink[ink > noise]
    level = max(noise, 0.4 * float(np.percentile(strong, 95))) if len(strong) else noise
    mask = _of_drawing((ink > level).astype(np.uint8), page)
    if not _is_drawing(mask):
        size = f"{grey.shape[1]} x {grey.shape[0]}"
        raise ValueError(f"a picture of {size} px that shows no drawing to cut out; {ADVICE}")
    near = cv2.dilate(mask, np.ones((3, 3)))  # with the lines' soft edges
    # rounded up, so that above `LEVEL` is what was above `level`, however little
    return np.ceil(np.where(near > 0, np.minimum(ink * (LEVEL / level), 255), 0)).astype(np.uint8)


def save_seen(path: str | Path, pictures: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write a picture with a row for each image and its frame: it, its ink, and the frame."""
    rows = []
    for image, frame in pictures:
        try:
            ink = find_drawing(image)
        except ValueError:  # so small that it was taken as it is
            ink = frame
        parts = [Image.fromarray(part).convert("RGB") for part in (image, 255 - ink, 255 - frame)]
        size = (WORKING, WORKING)
        rows.append(np.hstack([np.asarray(ImageOps.pad(part, size)) for part in parts]))
    Image.fromarray(np.vstack(rows)).save(path)


def _grey(image: np.ndarray) -> np.ndarray:
    """Grey levels (H, W); what is transparent becomes the ground that the opaque part contrasts."""
    is_known = image.dtype == np.uint8 and image.ndim in (2, 3) and image.size > 0
    if not is_known or image.shape[2:] > (4,):
        raise ValueError(f"picture is {image.dtype} {image.shape}, not uint8 (H, W[, 1 to 4])")
    image = np.atleast_3d(image)
    grey = image[..., :3] @ LUMA if image.shape[2] > 2 else image[..., 0]
    if image.shape[2] in (2, 4):
        alpha = image[..., -1] / 255
        ground = 255 if (grey * alpha).sum() < 128 * alpha.sum() else 0
        grey = grey * alpha + ground * (1 - alpha)
    return np.round(grey).astype(np.uint8)


def _page(grey: np.ndarray) -> np.ndarray:
    """1 on the surface that the drawing is on, 0 on what else is in view (H, W).

    Areas between edges are candidates, alone or (if shadows divide the page) together: the fewest
    that have a page's outline, and lines on them that do not leave them.
    """
    small, ground, steps = _surfaces(grey)
    if min(small.shape) < PAGE_SIDE // 4:
        return np.ones_like(grey)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - steps, connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = [1 + i for i in np.argsort(-areas)[:MOST_AREAS] if areas[i] > small.size / 100]
    differs = cv2.absdiff(small, ground)
    faintest = max(FAINTEST / 2, 6 * float(np.median(differs)))
    _, lines = cv2.connectedComponents((differs > faintest).astype(np.uint8))
    found, blank, is_divided = [], [], False
    for count in range(1, len(large) + 1):
        for parts in combinations(large, count):
            region = _outlined(np.isin(labels, parts).astype(np.uint8), 1 if count == 1 else 9)
            others = np.isin(labels, [part for part in large if part not in parts])
            if region is None or others[region > 0].any():
                continue
            inner = lines[cv2.erode(region, RIM) > 0]
            outer = lines[cv2.dilate(region, RIM) == 0]
            inside, leaving = (inner > 0).sum(), np.isin(inner, outer[outer > 0]).sum()
            off = ground[region == 0]
            is_alike = len(off) and abs(np.median(off) - np.median(ground[region > 0])) < 2 * STEP
            if is_alike and (2 * region.sum() < small.size or inside < LEAST_INK * small.size):
                continue  # the inside of a shape that is drawn with a wide pen
            if inside < LEAST_INK * small.size:
                blank.append(region)
            elif leaving < LEAST_INK * small.size:
                found.append(region)
            else:
                is_divided = True
        if found or (blank and not is_divided):
            break
    region = max(found or blank or [np.ones_like(small)], key=np.sum)
    page = cv2.erode(region, np.ones((5, 5)))
    return cv2.resize(page, grey.shape[::-1], interpolation=cv2.INTER_NEAREST)


def _shrunk(grey: np.ndarray, largest: int) -> np.ndarray:
    """At most `largest` px wide and high."""
    factor = min(1.0, largest / max(grey.shape))
    height, width = (max(1, round(side * factor)) for side in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)


def _surfaces(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`grey` at `PAGE_SIDE`, the same without lines, and 1 where surfaces end."""
    small = cv2.GaussianBlur(_shrunk(grey, PAGE_SIDE), (3, 3), 0)
    ground = cv2.medianBlur(small, 17)
    steps = cv2.morphologyEx(ground, cv2.MORPH_GRADIENT, np.ones((3, 3)))
    return small, ground, (steps >= STEP).astype(np.uint8)


def _outlined(region: np.ndarray, gap: int) -> np.ndarray | None:
    """The region's largest part, filled, if it is a convex polygon of few corners; else None.

    Parts up to `gap` px apart are one.
    """
    region = cv2.morphologyEx(region, cv2.MORPH_CLOSE, np.ones((gap, gap)))
    outlines, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(outlines, key=cv2.contourArea)
    region = cv2.drawContours(np.zeros_like(region), [largest], -1, 1, cv2.FILLED)
    hull = cv2.convexHull(largest)
    corners = cv2.approxPolyDP(hull, 0.01 * cv2.arcLength(hull, True), True)
    area = cv2.contourArea(hull)
    filled = min(cv2.contourArea(corners) / 0.9, region.sum() / 0.85)
    return region if len(corners) <= 7 and filled > area > LEAST_PAGE * region.size else None


def _contrast(grey: np.ndarray, page: np.ndarray) -> tuple[np.ndarray, float]:
    """How far each pixel stands out from the ground around it, 0 to 255, and what is but noise."""
    if min(grey.shape) > 150:
        grey = cv2.GaussianBlur(grey, (3, 3), 0)
    small, ground, steps = _surfaces(grey)
    here = cv2.resize(page, small.shape[::-1], interpolation=cv2.INTER_NEAREST)
    flat = here > cv2.dilate(steps, np.ones((9, 9)))
    differs = (ground.astype(np.float32) - small)[flat]
    differs = differs[np.abs(differs) > FAINTEST / 2]
    if len(differs) <= 0.1 * (here * steps).sum():  # lines so wide that they are surfaces
        differs = np.median(grey[page > 0]) - grey[page > 0]
    if (differs**3).sum() < 0:
        grey = 255 - grey
    wide = max(min(grey.shape) // 7, 25) | 1  # wider than any line
    around = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, np.ones((wide, wide)))
    ink = 255 - grey * (np.float32(255) / np.maximum(around, 40))
    usual = np.median(ink[page > 0])
    noise = max(FAINTEST, 7 * float(np.median(np.abs(ink[page > 0] - usual))))
    return np.where(page > 0, np.maximum(ink - usual, 0), 0), noise


def _without_ruling(ink: np.ndarray, noise: float) -> np.ndarray:
    """`ink` without the lines of lined or squared paper; strokes on them stay where darker."""
    side = max(ink.shape)
    weak = cv2.dilate((ink > noise).astype(np.uint8), np.ones((3, 3)))
    found = cv2.HoughLinesP(
        weak, 1, np.pi / 360, side // 4, minLineLength=0.4 * min(ink.shape), maxLineGap=side / 40
    )
    if found is None:
        return ink
    starts, ends = np.hsplit(found.reshape(-1, 4), 2)
    angles = np.degrees(np.arctan2(*(ends - starts).T[::-1])) % 180
    apart = np.abs((angles[:, None] - angles + 90) % 180 - 90)
    main = angles[(apart < 3).sum(axis=0).argmax()]
    thick, is_ruled = 2 * round(side / 200) + 3, False
    for direction in (main, main + 90):
        alike = np.abs((angles - direction + 90) % 180 - 90) < 4
        angle = np.radians(direction)
        places = np.sort((starts + ends)[alike] @ (-np.sin(angle), np.cos(angle)) / 2)
        is_ruled = is_ruled or (np.diff(places) > side / 100).sum() >= LEAST_LINES - 1
        if not is_ruled or not alike.any():  # a margin's line stands alone on ruled paper
            continue
        ruled = np.zeros_like(weak)
        for start, end in zip(starts[alike].tolist(), ends[alike].tolist(), strict=True):
            cv2.line(ruled, start, end, 1)
        strongest = 1.6 * float(np.percentile(ink[ruled > 0], 75))
        ruled = cv2.dilate(ruled, np.ones((thick, thick)))
        rest = np.where((ruled > 0) & (ink < strongest), 0, ink)
        bridged = cv2.morphologyEx(rest, cv2.MORPH_CLOSE, np.ones((thick + 2, thick + 2)))
        ink = np.where(ruled > 0, np.minimum(ink, bridged), ink)
    return ink


def _of_drawing(mask: np.ndarray, page: np.ndarray) -> np.ndarray:
    """`mask` without what reaches in over the page's rim, stray marks and specks."""
    if min(mask.shape) > PAGE_SIDE // 4:
        mask = _without_rim(mask, page)
    if not mask.any():
        return mask
    reach = 2 * round(0.05 * max(mask.shape)) + 1
    _, groups = cv2.connectedComponents(cv2.dilate(mask, np.ones((reach, reach))))
    weights = np.bincount(groups[mask > 0])
    mask = mask * np.isin(groups, np.flatnonzero(weights > 0.08 * weights.max())).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[:, cv2.CC_STAT_AREA] * (np.arange(len(stats)) > 0)  # the first is the ground
    large = areas >= min(0.3 * _line_width(mask) ** 2, areas.max())  # as a dot of the line
    return mask * large[labels.astype(int)].astype(np.uint8)


def _line_width(mask: np.ndarray) -> float:
    """px; depth in a line runs evenly from its edges to its middle."""
    return 4 * float(_depth(mask)[mask > 0].mean()) - 2


def _depth(mask: np.ndarray) -> np.ndarray:
    """How far each pixel is from where `mask` is 0, px."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _is_drawing(mask: np.ndarray) -> bool:
    """Whether the marks are large and long enough for a drawing, no text and no empty canvas."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count == 1 or count > MOST_PARTS:
        return False
    shapes = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
    sides, largest = shapes.max(axis=1), shapes.max(axis=1).argmax()
    side, line = max(cv2.boundingRect(mask)[2:]), _line_width(mask)
    is_large = side > 0.08 * min(mask.shape) and mask.sum() > 0.4 * side * line
    is_text = sides.max() < LETTER * side
    others = np.delete(shapes, largest, axis=0).min(axis=1)  # low where they are lines of text
    has_more = (others > 0.05 * min(mask.shape)).any()
    x, y, width, height, _ = stats[1 + largest]
    part, rim = mask[y : y + height, x : x + width], int(1.2 * line) + 2
    edges = part[:rim], part[-rim:], part[:, :rim].T, part[:, -rim:].T
    is_ruled = np.sort([edge.any(axis=0).mean() for edge in edges])[1] > 0.9  # on three sides
    is_empty = is_ruled and line < 0.012 * side and not part[rim:-rim, rim:-rim].any()
    return is_large and not is_text and (has_more or not is_empty)


def _framed_area(mask: np.ndarray, page: np.ndarray) -> np.ndarray | None:
    """What a ruled rectangle of ink encloses, if there is ink in it: a canvas, a board."""
    outlines, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for outline, (*_, parent) in zip(outlines, [] if tree is None else tree[0], strict=True):
        area = cv2.contourArea(outline)
        if parent < 0 or area < LEAST_PAGE * mask.size:
            continue
        is_upright = area > 0.98 * np.prod(np.array(cv2.boundingRect(outline)[2:]) - 1)
        is_board = area > max(0.5 * page.sum(), 0.97 * np.prod(cv2.minAreaRect(outline)[1]))
        canvas = cv2.drawContours(np.zeros_like(mask), [outline], -1, 1, cv2.FILLED)
        canvas = cv2.erode(canvas, np.ones((7, 7)))
        if (is_upright or is_board) and (mask * canvas).sum() > 0.1 * np.sqrt(area):
            return canvas
    return None


def _without_rim(mask: np.ndarray, page: np.ndarray) -> np.ndarray:
    """`mask` without the parts along the page's rim, and those that reach it if most do not."""
    count, parts = cv2.connectedComponents(mask)
    depth = _depth(np.pad(page, 1))[1:-1, 1:-1]
    side = max(mask.shape)
    sizes, at_rim, along = (
        np.bincount(parts.ravel(), weights=where.ravel(), minlength=count)
        for where in (mask > 0, depth < max(3, side / 150), depth < 0.04 * side)
    )
    sizes[0] = 0
    touching = at_rim > 0
    is_thick = np.bincount(parts[_depth(mask) > 0.025 * side], minlength=count) > 0  # a finger
    kept = (sizes > 0) & ~(touching & (is_thick | (along > 0.7 * sizes)))
    if sizes[kept & ~touching].sum() > 0.5 * sizes[kept].sum():
        kept &= ~touching
    return kept[parts.astype(int)].astype(np.uint8)
