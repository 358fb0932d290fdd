"""Are drawings named rightly on photos and screenshots as people take them?

    python experiments/photos.py [--model trained] [--each 6] [--scenes NAME ...] [--seed 0]
        [--pictures OUT.png]

The drawings are real and held out: of each of the ten words of `trained_models/cnn.pt` the first
`--each` of the test split, which the hash of their ids keeps from all training, read from
``DOODLELIB_QUICKDRAW_URL``. Each is put into every scene, which a program makes: a pen on paper or
a mouse on a canvas, a camera that leans by up to 20 degrees, light, blur, noise, JPEG. Sizes,
places, angles, colours and strengths are drawn at random. A picture is right if the classifier's
likeliest word is the true one, surely wrong if a wrong word has over 0.9, refused if
`photos.to_frame` raises. Each scene is also made without any drawing; then it should be refused.

How often a drawing can be named at all is the line `rasterized`: the strokes without a picture.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from doodlelib.data import photos
from doodlelib.data.dataset import split_of
from doodlelib.data.quickdraw import read_drawings
from doodlelib.models import checkpoint
from doodlelib.models.cnn import DoodleCNN
from doodlelib.raster import rasterize

SPLIT = (0.8, 0.1, 0.1)
SURE = 0.9
SHOWN, TILE = 6, 240  # pictures of a scene in the figure, px a side
PENS = np.array([[30, 30, 35], [25, 40, 120], [60, 60, 65], [10, 10, 10], [120, 25, 30]]) / 255
MARKERS = np.array([[25, 25, 30], [20, 50, 140], [170, 30, 35], [15, 90, 50]]) / 255
RULINGS = np.array([[150, 180, 215], [175, 175, 180], [140, 200, 190], [190, 165, 200]]) / 255
DESKS = np.array([[110, 70, 40], [70, 45, 30], [60, 60, 65], [150, 115, 75], [30, 32, 38]]) / 255
Drawing = Sequence | None
Scene = Callable[[Drawing, np.random.Generator], np.ndarray]
Rng = np.random.Generator


def drawn_on(sheet: np.ndarray, drawing: Drawing, rng: Rng, colours: np.ndarray) -> np.ndarray:
    """The sheet (H, W, 3) with the drawing on it, of one colour, somewhere near the middle."""
    if drawing is None:
        return sheet
    height, width, _ = sheet.shape
    side = int(min(height, width) * rng.uniform(0.45, 0.85))
    line = side * rng.uniform(0.008, 0.018)
    ink = rasterize(drawing, side, line_width=max(1.6, line)) / np.float32(255)
    spare = np.array([height - side, width - side])
    top, left = (spare * rng.uniform(0.25, 0.75, 2)).astype(int)
    part = sheet[top : top + side, left : left + side]
    part += ink[..., None] * rng.uniform(0.8, 1) * (rng.choice(colours) - part)
    return sheet


def paper(rng: Rng, *, ruled: str, shape: tuple[int, int]) -> np.ndarray:
    """A sheet of white paper, blank, lined or squared."""
    height, width = shape
    sheet = np.full((height, width, 3), rng.uniform(0.86, 0.97), np.float32)
    step = int(min(height, width) / rng.uniform(14, 28))
    colour, thick = rng.choice(RULINGS) * rng.uniform(0.75, 1), int(rng.integers(1, 3))
    if ruled:
        for row in range(int(step * rng.uniform(0.5, 2)), height, step):
            sheet[row : row + thick] = colour
    if ruled == "grid":
        for column in range(int(step * rng.uniform(0.2, 1)), width, step):
            sheet[:, column : column + thick] = colour
    if ruled == "lined" and rng.random() < 0.5:
        column = int(width * rng.uniform(0.08, 0.14))
        sheet[:, column : column + 2] = (0.85, 0.45, 0.5)
    return sheet


def desk(rng: Rng, height: int, width: int) -> np.ndarray:
    """Wood with grain, or a plain table."""
    colour = rng.choice(DESKS) * rng.uniform(0.8, 1.2)
    grain = np.zeros((height, width), np.float32)
    for strength, (rows, columns) in zip((0.16, 0.08), ((40, 3), (200, 8)), strict=True):
        noise = rng.normal(0, 1, (rows, columns)).astype(np.float32)
        grain += strength * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        grain = cv2.resize(grain.T, (width, height))
    return np.float32(colour) * (1 + grain[..., None] * np.float32(rng.choice([0.15, 1.0])))


def placed(
    sheet: np.ndarray,
    ground: np.ndarray,
    rng: Rng,
    *,
    fill: tuple[float, float],
    lean: float = 0.0,
    turn: float = 3.0,
    shift: tuple[float, float] = (0, 0),
) -> np.ndarray:
    """The sheet on the ground as a camera sees it, leaning by up to `lean` degrees.

    Args:
        sheet: (H, W, 3).
        ground: The view (h, w, 3).
        rng: Of the angles.
        fill: Width and height of the sheet's picture, of the view's.
        lean: Degrees between the camera's axis and the sheet's normal, in any direction.
        turn: Degrees about the camera's axis, at most.
        shift: Of the sheet's middle, of the view's width and height.
    """
    (h, w), (height, width) = ground.shape[:2], sheet.shape[:2]
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array([fill[0] * w, fill[1] * h])
    direction, tilt = rng.uniform(0, 2 * np.pi), np.radians(lean)
    axis = np.array([np.cos(direction), np.sin(direction), 0]) * tilt
    spin = np.array([0, 0, np.radians(rng.uniform(-turn, turn))])
    space = np.column_stack([corners / 2, np.zeros(4)])
    for rotation in (spin, axis):
        space = space @ cv2.Rodrigues(rotation)[0].T
    focus = 1.3 * max(h, w)
    seen = space[:, :2] * (focus / (focus + space[:, 2:]))
    seen += np.array([w, h]) * (0.5 + np.array(shift))
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32), seen.astype(np.float32))
    picture = cv2.warpPerspective(sheet, matrix, (w, h), flags=cv2.INTER_AREA)
    cover = cv2.warpPerspective(np.ones((height, width), np.float32), matrix, (w, h))
    under = cv2.GaussianBlur(np.roll(cover, (3, 4), (0, 1)), (0, 0), max(h, w) / 120)
    ground = ground * (1 - np.float32(0.5 * rng.random()) * under[..., None])
    return picture * cover[..., None] + ground * (1 - cover[..., None])


def gradient(rng: Rng, h: int, w: int) -> np.ndarray:
    """Light that falls off to one side, and towards the corners."""
    row, column = np.mgrid[:h, :w].astype(np.float32) / max(h, w) - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 - rng.uniform(0.2, 0.5) * (0.5 + np.cos(angle) * column + np.sin(angle) * row)
    return light * (1 - 0.2 * (row**2 + column**2))


def shadow(rng: Rng, h: int, w: int, *, soft: bool) -> np.ndarray:
    """The shade of something with a straight side or a round one, over a part of the view."""
    shade = np.zeros((h, w), np.float32)
    middle = np.array([w, h]) * rng.uniform(0.2, 0.8, 2)
    angle, reach = rng.uniform(0, 2 * np.pi), 3 * max(h, w)
    along, away = (reach * np.array([np.cos(angle + a), np.sin(angle + a)]) for a in (0, np.pi / 2))
    band = np.array([middle - along, middle + along, middle + along + away, middle - along + away])
    if rng.random() < 0.5:
        cv2.fillPoly(shade, [band.astype(np.int32)], 1.0)
    else:
        axes = (int(w * rng.uniform(0.2, 0.5)), int(h * rng.uniform(0.2, 0.5)))
        cv2.ellipse(shade, (middle.astype(int).tolist(), [2 * a for a in axes], 40.0), 1.0, -1)
    shade = cv2.GaussianBlur(shade, (0, 0), max(h, w) / (15 if soft else 400))
    return 1 - rng.uniform(0.3, 0.55) * shade


def with_fingers(view: np.ndarray, rng: Rng) -> np.ndarray:
    """One or two fingertips that reach in from the rim."""
    h, w, _ = view.shape
    skin = rng.choice([[225, 175, 150], [190, 135, 105], [120, 80, 60]]) / 255
    for _ in range(rng.integers(1, 3)):
        thick = max(h, w) * rng.uniform(0.035, 0.07)
        side, along = rng.integers(0, 4), rng.uniform(0.12, 0.88)
        deep = rng.uniform(0.02, 0.07) * max(h, w)
        rim, inwards = [
            (np.array([along * w, h]), (0.0, -1.0)),
            (np.array([along * w, 0]), (0.0, 1.0)),
            (np.array([0, along * h]), (1.0, 0.0)),
            (np.array([w, along * h]), (-1.0, 0.0)),
        ][side]
        tip = rim + deep * np.array(inwards) + rng.normal(0, thick / 3, 2)
        tail = rim - 300 * np.array(inwards)
        mask = np.zeros((h, w), np.float32)
        cv2.line(mask, tip.astype(int).tolist(), tail.astype(int).tolist(), 1.0, int(2 * thick))
        round_off = np.clip(cv2.distanceTransform((mask > 0).astype(np.uint8), 2, 3) / thick, 0, 1)
        cast = cv2.GaussianBlur(mask, (0, 0), thick / 4)[..., None]
        view = view * (1 - 0.25 * np.roll(cast, (4, 4), (0, 1)))
        mask = cv2.GaussianBlur(mask, (0, 0), 1.0)[..., None]
        view = view * (1 - mask) + skin * (0.6 + 0.4 * round_off[..., None]) * mask
    return view


def exposed(view: np.ndarray, rng: Rng, light: np.ndarray | float = 1.0) -> np.ndarray:
    """What a phone's camera makes of the view (h, w, 3) in this light, uint8."""
    white = np.array([1, rng.uniform(0.95, 1), rng.uniform(0.82, 1)])  # lamps are yellow
    view = np.float32(view) * np.float32(white * rng.uniform(0.8, 1.05))
    view *= np.atleast_3d(np.float32(light))
    view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.5, 1.1))
    view = view * 255
    view += np.float32(rng.uniform(1.5, 5)) * rng.standard_normal(view.shape, dtype=np.float32)
    view = np.clip(view, 0, 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(65, 93))])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)


def view_size(rng: Rng) -> tuple[int, int]:
    """Height and width."""
    short = int(rng.integers(320, 640))
    h, w = rng.permutation([short, int(short * rng.uniform(1, 1.4))])
    return int(h), int(w)


def on_paper(
    drawing: Drawing,
    rng: Rng,
    *,
    ruled: str = "",
    light: Callable = lambda rng, h, w: 1.0,
    fingers: bool = False,
    turn: float = 3.0,
) -> np.ndarray:
    """The page fills the view."""
    h, w = view_size(rng)
    sheet = paper(rng, ruled=ruled, shape=(int(1.25 * h), int(1.25 * w)))
    middle = sheet[h // 8 : -h // 8, w // 8 : -w // 8]
    drawn_on(middle, drawing, rng, PENS)
    view = placed(sheet, np.ones((h, w, 3), np.float32), rng, fill=(1.25, 1.25), turn=turn, lean=5)
    return exposed(with_fingers(view, rng) if fingers else view, rng, light(rng, h, w))


def on_desk(
    drawing: Drawing,
    rng: Rng,
    *,
    sides: str = "all",
    lean: float = 6.0,
    turn: float = 12.0,
    light: Callable = gradient,
    ruled: str = "",
) -> np.ndarray:
    """The page, and the desk on all sides, above and below, or at one side."""
    h, w = view_size(rng)
    fill, shift = rng.uniform(0.68, 0.86, 2), rng.uniform(-0.04, 0.04, 2)
    if sides != "all":
        turn = 4.0
        fill = np.array([1.4, rng.uniform(0.72, 0.9)])
    if sides == "one":
        away = rng.uniform(0.08, 0.2)
        fill, shift = np.array([1.4, 1.4]), np.array([0.2 + away, 0]) * rng.choice([-1, 1])
    if sides != "all" and rng.random() < 0.5:
        fill, shift = fill[::-1], shift[::-1]
    sheet = paper(rng, ruled=ruled, shape=(int(fill[1] * h), int(fill[0] * w)))
    seen = np.minimum(1, 1 / fill) - np.abs(shift) * (fill > 1)  # of the sheet, within the view
    (height, width), (left, top) = sheet.shape[:2], (1 - seen) / 2 - shift * (fill > 1)
    top, left = int(max(0, top) * height), int(max(0, left) * width)
    part = sheet[top : top + int(seen[1] * height), left : left + int(seen[0] * width)]
    drawn_on(part, drawing, rng, PENS)
    view = placed(sheet, desk(rng, h, w), rng, fill=tuple(fill), lean=lean, turn=turn, shift=shift)
    return exposed(view, rng, light(rng, h, w))


def on_whiteboard(drawing: Drawing, rng: Rng) -> np.ndarray:
    """A board with its frame, a reflection, and sometimes the wall around it."""
    h, w = view_size(rng)
    board = np.full((h, w, 3), rng.uniform(0.88, 0.97), np.float32)
    height, width, _ = board.shape
    rim = int(max(height, width) * rng.uniform(0.015, 0.045))
    inside = board[2 * rim : -2 * rim, 2 * rim : -2 * rim]
    drawn_on(inside, drawing, rng, MARKERS)
    spot = np.zeros((height, width), np.float32)
    place = (rng.uniform(0.1, 0.9, 2) * (width, height)).astype(int).tolist()
    cv2.circle(spot, place, height // 6, 1.0, -1)
    spot = cv2.GaussianBlur(spot, (0, 0), height / 12)[..., None]
    board += np.float32(0.3 * rng.random()) * spot
    grey = rng.choice([0.62, 0.45, 0.25])
    cv2.rectangle(board, (0, 0), (width - 1, height - 1), (grey, grey, grey), 2 * rim)
    cv2.rectangle(board, (rim, rim), (width - rim, height - rim), 3 * [grey * 0.6], 2)
    wall = np.ones((h, w, 3)) * rng.uniform(0.6, 0.85) * np.array([1, 0.97, 0.9])
    fill = rng.choice([0.99, rng.uniform(0.75, 0.95)])
    view = placed(board, wall, rng, fill=(fill, fill), lean=rng.uniform(0, 8), turn=2)
    return exposed(view, rng, gradient(rng, h, w))


def screenshot(drawing: Drawing, rng: Rng, *, dark: bool = False) -> np.ndarray:
    """A canvas with a border, in a browser's window or in nothing; in dark mode if `dark`."""
    h, w = int(rng.integers(420, 800)), int(rng.integers(480, 1000))
    pages, bar, text = ([26, 36], 44, 216) if dark else ([255, 242], 236, 50)
    page = int(rng.choice(pages))
    view = np.full((h, w, 3), page, np.uint8)
    top = 0
    if rng.random() < 0.65:
        top = int(rng.integers(36, 80))
        view[:top] = bar
        for x in (16, 36, 56):
            cv2.circle(view, (x, top // 2), 6, rng.integers(80, 200, 3).tolist(), -1, cv2.LINE_AA)
        cv2.rectangle(view, (90, 8), (w - 60, top - 8), 3 * [page], -1)
        cv2.putText(view, "https://doodle.example", (100, top // 2 + 5), 0, 0.45, 3 * [text], 1, 16)
        if rng.random() < 0.5:
            cv2.putText(view, "Draw something", (w // 3, top + 28), 0, 0.7, 3 * [text], 2, 16)
            top += 36
    x, x2 = int(w * rng.uniform(0.03, 0.15)), w - int(w * rng.uniform(0.03, 0.15))
    y = top + 4 + int((h - top) * rng.uniform(0.03, 0.1))
    y2 = h - 4 - int((h - top) * rng.uniform(0.03, 0.1))
    is_dark = dark and rng.random() < 0.7
    canvas = np.full((y2 - y, x2 - x, 3), rng.choice([18, 40] if is_dark else [255, 250]) / 255)
    pens = np.array([[1, 1, 1], [0.9, 0.9, 0.6]]) if is_dark else np.zeros((1, 3))
    view[y:y2, x:x2] = drawn_on(canvas, drawing, rng, pens) * 255
    border = rng.choice([[0, 0, 0], [128, 128, 128], [190, 190, 190], [50, 100, 205]])
    border = 255 - border if dark else border
    cv2.rectangle(view, (x, y), (x2, y2), border.tolist(), int(rng.integers(1, 4)))
    return view


def clean(drawing: Drawing, rng: Rng) -> np.ndarray:
    """A picture of a paint program."""
    h, w = view_size(rng)
    return (drawn_on(np.ones((h, w, 3)), drawing, rng, PENS) * 255).round().astype(np.uint8)


SCENES: dict[str, Scene] = {
    "clean": clean,
    "grey": on_paper,
    "gradient": partial(on_paper, light=gradient),
    "soft shadow": partial(on_paper, light=partial(shadow, soft=True)),
    "hard shadow": partial(on_paper, light=partial(shadow, soft=False)),
    "grid paper": partial(on_paper, ruled="grid", light=gradient),
    "lined paper": partial(on_paper, ruled="lined", light=gradient),
    "finger": partial(on_paper, fingers=True, light=gradient),
    "desk around": on_desk,
    "desk above and below": partial(on_desk, sides="two"),
    "desk at one side": partial(on_desk, sides="one"),
    "desk, hard shadow": partial(on_desk, light=partial(shadow, soft=False)),
    "desk, lined paper": partial(on_desk, ruled="lined"),
    "framed whiteboard": on_whiteboard,
    "screenshot": screenshot,
    "screenshot, dark mode": partial(screenshot, dark=True),
    "leaning by 20 degrees": partial(on_desk, lean=20.0, turn=6.0),
}


@dataclass
class Outcome:
    """Of one scene's pictures, how many were what."""

    right: int = 0
    surely_wrong: int = 0
    refused: int = 0
    drawings: int = 0


def held_out(words: Sequence[str], each: int) -> Iterator[tuple[str, Sequence]]:
    """The first `each` drawings of each word that no training saw, recognised by the game."""
    for word in words:
        records = read_drawings(word, kind="simplified", progress=False)
        test = (r for r in records if split_of([r.key_id], shares=SPLIT)[0] == 2)
        yield from ((word, record.drawing) for record in islice(test, each))


def judged(cnn: DoodleCNN, images: list[np.ndarray | None], words: Sequence[str]) -> Outcome:
    """What the classifier makes of frames; None: it was refused."""
    outcome = Outcome(drawings=len(words), refused=sum(image is None for image in images))
    seen = [(image, word) for image, word in zip(images, words, strict=True) if image is not None]
    if seen:
        for shares, (_, word) in zip(
            cnn.predict(np.stack([s[0] for s in seen])), seen, strict=True
        ):
            said = cnn.words[shares.argmax()]
            outcome.right += said == word
            outcome.surely_wrong += said != word and shares.max() > SURE
    return outcome


def framed(picture: np.ndarray) -> np.ndarray | None:
    """`photos.to_frame`, or None where it refuses."""
    try:
        return photos.to_frame(picture)
    except ValueError:
        return None


def pictures(name: str, drawings: Sequence[Drawing], seed: int) -> Iterator[np.ndarray]:
    """A scene's picture of each drawing; None: of nothing."""
    for number, drawing in enumerate(drawings):
        yield SCENES[name](drawing, np.random.default_rng([seed, number, *name.encode()]))


def tile(image: np.ndarray) -> np.ndarray:
    """The picture in a square of the figure."""
    height, width = image.shape[:2]
    factor = TILE / max(height, width)
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    image = np.atleast_3d(image) * np.ones(3, np.uint8)
    return np.pad(image, [(0, TILE + 4 - image.shape[0]), (0, TILE + 4 - image.shape[1]), (0, 0)])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="trained")
    parser.add_argument("--each", type=int, default=6, help="drawings of each word (default: 6)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--pictures", type=Path, metavar="OUT.png", help="examples of each scene")
    options = parser.parse_args()
    cnn = checkpoint.load_cnn(options.model)
    real = list(held_out(checkpoint.load_cnn("trained").words, options.each))
    words, drawings = [word for word, _ in real], [drawing for _, drawing in real]
    print(f"{len(real)} held-out drawings of {', '.join(dict.fromkeys(words))}")
    plain = judged(cnn, [rasterize(drawing) for drawing in drawings], words)
    print(f"{'scene':24}{'right':>8}{'surely wrong':>14}{'refused':>9}  refused without a drawing")
    print(f"{'rasterized':24}{plain.right:8}{plain.surely_wrong:14}{plain.refused:9}")
    rows = []
    for name in options.scenes:
        frames, shown = [], []
        for number, picture in enumerate(pictures(name, drawings, options.seed)):
            frames.append(framed(picture))
            if options.pictures and number % max(1, len(drawings) // SHOWN) == 0:
                shown += [
                    tile(picture),
                    tile(frames[-1] if frames[-1] is not None else picture[:9, :9]),
                ]
        if shown:
            rows.append(np.hstack(shown[: 2 * SHOWN]))
        found = judged(cnn, frames, words)
        empty = [framed(picture) for picture in pictures(name, 10 * [None], options.seed)]
        print(
            f"{name:24}{found.right:8}{found.surely_wrong:14}{found.refused:9}"
            f"{sum(frame is None for frame in empty):13} of {len(empty)}",
            flush=True,
        )
    if options.pictures:
        Image.fromarray(np.vstack(rows).astype(np.uint8)).save(options.pictures)


if __name__ == "__main__":
    main()
