"""Photos and screenshots of real drawings are named rightly, or refused with advice."""

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

from doodlelib.data import photos
from doodlelib.models import checkpoint
from doodlelib.paths import ROOT
from doodlelib.raster import rasterize

WORDS = ("cat", "car", "eye", "backpack", "sun", "shoe")
SEED = 5  # not that of the table in the log


@pytest.fixture(scope="module")
def scenes() -> ModuleType:
    """`experiments/photos.py`, which makes the pictures."""
    spec = importlib.util.spec_from_file_location("scenes", ROOT / "experiments/photos.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cnn():
    return checkpoint.load_cnn("trained")


@pytest.fixture(scope="module")
def drawings(mirror: str, scenes: ModuleType) -> list:
    """Twelve held-out real drawings with their words, all of which are named rightly as strokes."""
    return list(scenes.held_out(WORDS, 2))


SCENES = (
    *("clean", "hard shadow", "grid paper", "lined paper", "finger", "desk around"),
    *("desk above and below", "desk at one side", "framed whiteboard", "screenshot"),
    *("screenshot, dark mode", "leaning by 20 degrees"),
)


@pytest.mark.parametrize("scene", SCENES)
def test_drawings_are_named_on_photos(scene: str, scenes: ModuleType, drawings, cnn) -> None:
    words = [word for word, _ in drawings]
    pictures = scenes.pictures(scene, [drawing for _, drawing in drawings], SEED)
    found = scenes.judged(cnn, [scenes.framed(picture) for picture in pictures], words)
    assert found.right >= 10, found
    assert found.surely_wrong <= 1, found


@pytest.mark.parametrize("scene", ["clean", "grey", "lined paper", "desk around"])
def test_nothing_drawn_is_refused_with_advice(scene: str, scenes: ModuleType) -> None:
    for picture in scenes.pictures(scene, 3 * [None], SEED):
        with pytest.raises(ValueError, match=r"shows no drawing.*blank paper, or crop it"):
            photos.to_frame(picture)


def test_text_is_no_drawing() -> None:
    page = np.full((700, 900), 255, np.uint8)
    for row in range(40, 700, 30):
        cv2.putText(page, "the quick brown fox jumps over the lazy dog", (20, row), 0, 0.6, 0, 1)
    with pytest.raises(ValueError, match="shows no drawing"):
        photos.to_frame(page)


@pytest.mark.parametrize("name", ["screenshot", "screenshot, dark mode"])
def test_an_empty_canvas_in_a_window_is_refused(name: str, scenes: ModuleType) -> None:
    frames = [scenes.framed(picture) for picture in scenes.pictures(name, 8 * [None], SEED)]
    assert sum(frame is None for frame in frames) >= 6


def test_squares_are_no_empty_canvas() -> None:
    by_hand = [[[0, 4, 92, 95, 1], [0, 88, 90, 2, 3]]]
    house = [[[0, 0, 90, 90, 0], [40, 99, 99, 40, 40]], [[0, 45, 90], [40, 0, 40]]]
    for drawing in (by_hand, house, [house[0], [[120, 130, 125, 120], [0, 5, 12, 0]]]):
        picture = 255 - np.pad(rasterize(drawing, 300), 30)
        assert photos.to_frame(picture).max() > 200
    frame = np.pad(np.full((300, 400), 255, np.uint8), 3)
    with pytest.raises(ValueError, match="shows no drawing"):
        photos.to_frame(np.pad(frame, 40, constant_values=255))


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(255 - rasterize([[[0, 90, 90, 0, 0], [0, 0, 50, 50, 0]]], 200))


FORMATS = {
    "webp": "WEBP",
    "gif": "GIF",
    "bmp": "BMP",
    "jfif": "JPEG",
    "tiff": "TIFF",
    "tif": "TIFF",
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats_are_read_by_content(suffix: str, picture: Image.Image, tmp_path: Path) -> None:
    wanted = photos.to_frame(np.asarray(picture))
    for name in (f"drawing.{suffix}", "drawing.png", "drawing"):
        picture.save(tmp_path / name, FORMATS[suffix])
        assert photos.pictures_in(tmp_path / name) == [tmp_path / name]
        frame = photos.to_frame(photos.read_image(tmp_path / name))
        assert np.corrcoef(frame.ravel(), wanted.ravel())[0, 1] > 0.95


def test_of_an_animation_the_finished_drawing_is_read(picture: Image.Image, tmp_path: Path) -> None:
    blank = Image.new("L", picture.size, 255)
    blank.save(tmp_path / "moving.gif", save_all=True, append_images=[picture, blank])
    assert photos.read_image(tmp_path / "moving.gif").min() < 50


def test_what_is_no_picture_is_told_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "drawing.jpg").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "drawing.ndjson").write_bytes(b"{}\n")
    assert photos.pictures_in(tmp_path) == [tmp_path / "drawing.jpg"]
    with pytest.raises(ValueError, match=r"picture \(PNG, JPEG, GIF, WEBP, BMP, TIFF are read\)"):
        photos.read_image(tmp_path / "drawing.jpg")


def test_what_was_seen_can_be_looked_at(picture: Image.Image, tmp_path: Path) -> None:
    image = np.asarray(picture)
    photos.save_seen(tmp_path / "seen.png", [(image, photos.to_frame(image))] * 2)
    with Image.open(tmp_path / "seen.png") as seen:
        assert seen.size == (3 * photos.WORKING, 2 * photos.WORKING)
