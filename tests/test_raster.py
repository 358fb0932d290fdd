import io
import json
from urllib.request import urlopen

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from doodlelib import raster
from doodlelib.data import photos, sample

MARGIN = 28 * (1 - 255 / 304) / 2  # px beyond the line's middle, at 28 px


@pytest.fixture(scope="module")
def drawings():
    words = ("cat", "fish", "tree", "car", "house")
    return [record.drawing for word in words for record in sample.make_drawings(word, 2)]


def correlation(a, b):
    return np.corrcoef(np.ravel(a).astype(float), np.ravel(b).astype(float))[0, 1]


def placed(ink, shape, at):
    """`ink` on a black sheet, its top left corner at row and column `at`."""
    sheet = np.zeros(shape, np.uint8)
    sheet[at[0] : at[0] + len(ink), at[1] : at[1] + ink.shape[1]] = ink
    return sheet


@pytest.mark.parametrize("size", [28, 255])
def test_frame_keeps_aspect_and_is_centred(size):
    image = raster.rasterize([[[10, 810, 810, 10, 10], [5, 5, 405, 405, 5]]], size)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    margin = MARGIN * size / 28 - raster.default_line_width(size) / 2
    assert columns[0] == pytest.approx(margin, abs=1)
    assert columns[0] == size - 1 - columns[-1]
    assert rows[0] == size - 1 - rows[-1]
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    line = raster.default_line_width(size)
    assert (height - line) / (width - line) == pytest.approx(0.5, abs=2 / size)


def test_line_has_its_width_and_dots_are_round():
    line = raster.rasterize([[[0, 100], [0, 0]]], 255, line_width=7.0)
    assert line[:, 127].sum() / 255 == pytest.approx(7, abs=0.1)
    dot = raster.rasterize([[[42], [17]]], 101, line_width=9.0)
    assert dot.sum() / 255 == pytest.approx(np.pi * 4.5**2, rel=0.03)
    assert dot[50, 50] == 255
    np.testing.assert_array_equal(dot, dot[::-1, ::-1])


def test_large_picture_is_crisp(drawings):
    images = raster.rasterize_many(drawings, 255)
    ink = images[images > 0]
    assert (ink == 255).mean() > 0.5
    assert images.max() == 255 and (images == 0).mean() > 0.8


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.lists(st.tuples(*[st.integers(-2000, 2000)] * 2), min_size=1, max_size=6),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([0.25, 3.0]),
    st.integers(-500, 500),
)
def test_scale_and_place_do_not_matter(strokes, factor, shift):
    drawing = [np.array(stroke, dtype=float).T for stroke in strokes]
    moved = [stroke * factor + shift for stroke in drawing]
    first, second = raster.rasterize_many([drawing, moved])
    assert first.max() > 0
    np.testing.assert_allclose(first.astype(int), second.astype(int), atol=1)


def test_many_is_one_by_one(drawings):
    many = raster.rasterize_many(drawings)
    for drawing, image in zip(drawings, many, strict=True):
        np.testing.assert_array_equal(raster.rasterize(drawing), image)
    assert raster.rasterize_many([]).shape == (0, 28, 28)


@pytest.mark.parametrize(
    "bad", [[], [[[1, 2], [3]]], [[[], []]], [[[np.nan], [0]]], [[[1, 2], [3]], [[4], [5, 6]]]]
)
def test_malformed_drawing_is_numbered(bad):
    with pytest.raises(ValueError, match="drawing 1: "):
        raster.rasterize_many([[[[0, 1], [0, 1]]], bad])


def test_timed_channels_tell_when_and_after_what_pause():
    first = [[0, 100], [0, 0], [100, 5100]]
    second = [[0, 100], [100, 100], [6350, 30_000]]
    ink, drawn, pause = raster.rasterize_timed([[first, second]], 28)[0].astype(int)
    np.testing.assert_array_equal(ink, raster.rasterize([first, second]))
    assert not drawn[ink == 0].any() and not pause[ink == 0].any()
    top, bottom = slice(0, 14), slice(14, 28)
    darkest = ink[top].max()
    assert drawn[top].max() == pytest.approx(darkest * np.sqrt(5 / 20), abs=2)
    assert drawn[bottom].max() == darkest  # after 20 s
    assert pause[top].max() == 0
    assert pause[bottom].max() == pytest.approx(darkest * np.sqrt(1.25 / 5), abs=2)


def test_of_crossing_strokes_the_longer_time_counts():
    first, second = [[0, 100], [50, 50], [0, 0]], [[50, 50], [0, 100], [20_000, 20_000]]
    assert raster.rasterize_timed([[first, second]], 101)[0, 1, 50, 50] > 240


def test_untimed_drawings_have_no_timed_channels():
    timed, untimed = [[[0, 9], [0, 9], [0, 9]]], [[[0, 9], [0, 9]]]
    with pytest.raises(ValueError, match="drawing 1 is untimed"):
        raster.rasterize_timed([timed, untimed])
    assert raster.rasterize_timed([]).shape == (0, 3, 28, 28)


def test_looks_like_the_published_bitmaps(mirror):
    """Drawings of which the mirror has both strokes and bitmap are found by likeness."""
    with urlopen(f"{mirror}/full/simplified/apple.ndjson") as file:
        drawings = [json.loads(line)["drawing"] for line in file]
    with urlopen(f"{mirror}/full/numpy_bitmap/apple.npy") as file:
        theirs = np.load(io.BytesIO(file.read()), allow_pickle=False).astype(np.float64)
    ours = raster.rasterize_many(drawings).reshape(-1, 784).astype(np.float64)
    distance = (ours**2).sum(1)[:, None] + (theirs**2).sum(1) - 2 * ours @ theirs.T
    nearest = theirs[distance.argmin(axis=1)]
    error = np.sqrt(((ours - nearest) ** 2).mean(axis=1))
    same = error < 15
    assert same.sum() >= 20, "too few drawings of which both are there"
    assert np.median(error[same]) < 7
    assert correlation(ours[same], nearest[same]) > 0.99
    assert ours[same].mean() == pytest.approx(nearest[same].mean(), rel=0.03)


GROUNDS = {
    "thin, white ground, in a corner": lambda d: (
        255 - placed(raster.rasterize(d, 200, line_width=2.0), (480, 640), (20, 410))
    ),
    "thick, black ground, RGB": lambda d: np.repeat(
        placed(raster.rasterize(d, 400, line_width=24.0), (500, 420), (60, 5))[..., None], 3, axis=2
    ),
    "black on transparent": lambda d: np.dstack(
        [np.zeros((300, 300, 3), np.uint8), raster.rasterize(d, 300)]
    ),
    "white on transparent": lambda d: np.dstack(
        [np.full((300, 300, 3), 255, np.uint8), raster.rasterize(d, 300)]
    ),
    "grey with alpha": lambda d: np.dstack(
        [255 - raster.rasterize(d, 300), np.full((300, 300), 255, np.uint8)]
    ),
    "a photograph": lambda d: photograph(raster.rasterize(d, 320, line_width=5.0)),
}


def photograph(ink):
    """Blue ink on paper that lies in the shade on one side, with noise and specks."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:600, :800]
    ink = placed(ink, (600, 800), (200, 90)) / 255
    paper = 225 - 0.08 * column - 0.07 * row
    picture = paper[..., None] * (1 - ink[..., None] * (0.9, 0.8, 0.4))
    picture += rng.normal(0, 5, picture.shape)
    picture[rng.integers(0, 600, 5), rng.integers(0, 800, 5)] = 60
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("ground", GROUNDS)
def test_to_frame_brings_pictures_into_the_training_framing(drawings, ground):
    wanted = raster.rasterize_many(drawings)
    got = np.stack([photos.to_frame(GROUNDS[ground](drawing)) for drawing in drawings])
    assert correlation(wanted, got) > 0.95
    assert got.mean() == pytest.approx(wanted.mean(), rel=0.08)
    large = photos.to_frame(GROUNDS[ground](drawings[0]), 255)
    assert large.shape == (255, 255) and large.max() == 255


def test_to_frame_leaves_what_is_in_the_framing(drawings):
    for image in raster.rasterize_many(drawings):
        np.testing.assert_array_equal(photos.to_frame(image), image)
        np.testing.assert_array_equal(photos.to_frame(255 - image), image)
        moved = photos.to_frame(np.roll(image, 1, axis=0)[:, 1:])
        assert correlation(moved, image) > 0.8


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1), np.uint8),
        np.full((40, 50, 3), 255, np.uint8),
        np.zeros((40, 50, 4), np.uint8),
        np.random.default_rng(0).normal(128, 6, (200, 300)).astype(np.uint8),
    ],
)
def test_empty_picture_is_an_error(image):
    with pytest.raises(ValueError, match="shows no drawing"):
        photos.to_frame(image)


@pytest.mark.parametrize("image", [np.zeros((9, 9)), np.zeros((3, 9, 9, 5), np.uint8)[0, ...]])
def test_unknown_array_is_an_error(image):
    with pytest.raises(ValueError, match=r"uint8|channels"):
        photos.to_frame(image)


@pytest.mark.parametrize("side", [3, 5, 2000])
def test_extreme_pictures_have_a_frame(side):
    image = np.full((side, 60), 255, np.uint8)
    image[side // 2, 5:50] = 0
    assert correlation(photos.to_frame(image), raster.rasterize([[[0, 1], [0, 0]]])) > 0.95


@pytest.fixture(scope="module")
def picture(drawings):
    return Image.fromarray(255 - raster.rasterize(drawings[0], 200))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("RGB", "jpg"), ("CMYK", "jpg"), ("P", "gif"), ("1", "png"), ("I;16", "png")],
)
def test_read_image_knows_modes(tmp_path, drawings, picture, mode, suffix):
    path = tmp_path / f"picture.{suffix}"
    if mode == "I;16":
        Image.fromarray(np.asarray(picture).astype(np.uint16) * 257).save(path)
    else:
        picture.convert(mode).save(path)
    framed = photos.to_frame(photos.read_image(path))
    assert correlation(framed, raster.rasterize(drawings[0])) > 0.9


def test_read_image_takes_the_first_frame_upright(tmp_path, picture):
    blank = Image.new("L", picture.size, 255)
    picture.save(tmp_path / "moving.gif", save_all=True, append_images=[blank])
    assert photos.read_image(tmp_path / "moving.gif").min() < 50
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(tmp_path / "turned.png", exif=exif)
    turned = photos.read_image(tmp_path / "turned.png")[..., 0]
    assert correlation(turned, np.rot90(np.asarray(picture), -1)) > 0.99


def test_read_image_shrinks_wide_ones(tmp_path):
    wide = np.full((300, 20_000), 255, np.uint8)
    cv2.circle(wide, (10_000, 150), 120, 0, 12)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    image = photos.read_image(tmp_path / "wide.png")
    assert image.shape == (15, 1024, 3)
    assert photos.to_frame(image)[14, 14] == 0


def test_read_image_names_what_it_cannot_read(tmp_path, picture, monkeypatch):
    whole = io.BytesIO()
    picture.save(whole, "png")
    for name, content in {
        "truncated.png": whole.getvalue()[: len(whole.getvalue()) // 2],
        "empty.png": b"",
        "text.jpg": b"not a picture",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            photos.read_image(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        photos.read_image(tmp_path / "absent.png")

    (tmp_path / "bomb.png").write_bytes(whole.getvalue())
    for limit in (picture.width * picture.height - 1, 100):  # Pillow warns, Pillow refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match=r"bomb.png cannot be read.*exceeds limit"):
            photos.read_image(tmp_path / "bomb.png")
