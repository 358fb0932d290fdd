"""Motion: what is on the picture at each moment, and delays that add up to the true time."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from doodlelib.strokes import to_stroke4
from doodlelib.viz import animation

# Along a line of 100 px: 20 px in the first 600 ms, a dot after a pause, the other 80 px in 300 ms
SLOW_FAST = [[[0, 20], [0, 0], [0, 600]], [[20], [30], [800]], [[20, 100], [0, 0], [900, 1200]]]


def pictures(data: bytes) -> list[tuple[int, np.ndarray]]:
    """Delay and colours of each frame, read back."""
    with Image.open(io.BytesIO(data)) as image:
        found = []
        for index in range(image.n_frames):
            image.seek(index)
            found.append((image.info["duration"], np.asarray(image.convert("RGB")).astype(int)))
        assert image.info["loop"] == 0
        return found


def at(data: bytes, time: float) -> np.ndarray:
    """The picture that shows at `time`."""
    delays, images = zip(*pictures(data), strict=True)
    return images[int(np.searchsorted(np.cumsum(delays), time, side="right"))]


def is_dark(picture: np.ndarray) -> np.ndarray:
    return (picture < 128).all(axis=-1)


def is_orange(picture: np.ndarray) -> np.ndarray:
    red, _, blue = np.moveaxis(picture, -1, 0)
    return red - blue > 100


def encode(*drawings: list, **options) -> bytes:
    settings = {"frame_ms": 30, "size": 100, "trail_ms": 0.0, "hold_ms": 0} | options
    constant = settings.pop("constant", False)
    panels = [animation.paced(drawing, constant=constant) for drawing in drawings]
    return animation.encode_gif(panels, **settings)


def width_of_the_line(picture: np.ndarray) -> int:
    columns = is_dark(picture)[:44].any(axis=0)  # above the dot
    return int(columns.sum())


def test_the_last_frame_is_the_whole_drawing_without_the_pen():
    late = [[[0, 100], [0, 0], [0, 1204]]]  # to 10 ms it takes 1200 ms
    delays, images = zip(*pictures(encode(late)), strict=True)
    assert sum(delays) == 1200
    assert is_orange(images[-2]).any() and not is_orange(images[-1]).any()
    assert is_dark(images[-1]).any(axis=0).sum() >= 87


def test_ink_follows_the_clock():
    data = encode(SLOW_FAST, pen=False)
    widths = [width_of_the_line(at(data, time)) for time in (290, 590, 850, 1040, 1190)]
    assert np.allclose(widths, np.array([10, 20, 20, 60, 100]) * 0.88, atol=5)
    assert not is_dark(at(data, 700))[56:].any()
    assert is_dark(at(data, 830))[56:].any()


def test_constant_speed_takes_the_same_time():
    data = encode(SLOW_FAST, pen=False, constant=True)
    assert sum(delay for delay, _ in pictures(data)) == 1200
    path = np.hypot(*np.diff([[0, 20, 20, 20, 100], [0, 0, 30, 0, 0]])).sum()
    assert width_of_the_line(at(data, 1200 * 10 / path)) == pytest.approx(8.8, abs=5)


def test_pen_hovers_through_pauses_and_goes_at_the_end():
    data = encode(SLOW_FAST)
    rows = [np.nonzero(is_orange(at(data, time)))[0].mean() for time in (300, 690, 780)]
    assert rows[0] < rows[1] < rows[2]
    drawing, hovering = (is_orange(at(data, time)).sum() for time in (300, 700))
    assert drawing > hovering > 0  # a dot, a ring
    assert not is_orange(at(data, 1199)).any()


def test_trail_is_blue_and_fades():
    data = encode(SLOW_FAST, pen=False, trail_ms=300.0)
    _, _, blue = np.moveaxis(at(data, 1100), -1, 0)
    red = at(data, 1100)[..., 0]
    fresh = np.nonzero(blue - red > 80)[1]
    old = np.nonzero(is_dark(at(data, 1100)) & (blue - red < 10))[1]
    assert fresh.min() > old.max() - 3
    assert (at(data, 1199)[..., 2] - at(data, 1199)[..., 0] == 0).all()


@pytest.mark.parametrize("options", [{}, {"trail_ms": 200.0}, {"pen": False}, {"frame_ms": 40}])
def test_last_picture_is_the_whole_drawing(options):
    (whole,) = animation.render_frames(animation.paced(SLOW_FAST), [np.inf], size=100)
    palette = np.reshape(animation.GIF_PALETTE, (-1, 3))
    assert (pictures(encode(SLOW_FAST, **options))[-1][1] == palette[whole]).all()


def test_still_frames_become_one():
    rest = [[[0, 10], [0, 0], [0, 100]], [[0, 10], [5, 5], [9000, 9100]]]
    found = pictures(encode(rest, pen=False))
    assert sum(delay for delay, _ in found) == 9100
    assert len(found) < 12


def test_the_hold_is_added():
    assert sum(delay for delay, _ in pictures(encode(SLOW_FAST, hold_ms=700))) == 1900


def test_a_dot_is_one_picture():
    ((delay, picture),) = pictures(encode([[[5], [5], [3]]]))
    assert delay == 20
    assert is_dark(picture).any()
    assert sum(delay for delay, _ in pictures(encode([[[5], [5]]], constant=True))) == 20


def test_side_by_side_each_at_its_own_pace():
    data = encode(SLOW_FAST, [[[0, 50], [0, 0], [0, 300]]], labels=("a", "bb"))
    picture = at(data, 330)
    assert picture.shape == (112, 200, 3)
    left, right = is_dark(picture)[:100, :100], is_dark(picture)[:100, 100:]
    assert left.sum() < right.sum() / 3
    label_left, label_right = is_dark(picture)[100:, :100], is_dark(picture)[100:, 100:]
    assert 0 < label_left.sum() < label_right.sum()


@given(total=st.floats(0, 119_000), frame_ms=st.sampled_from([20, 30, 40, 100]))
def test_delays_add_up(total, frame_ms):
    delays = animation.split_time(total, frame_ms=frame_ms)
    assert abs(sum(delays) - max(total, 20)) <= 5
    assert all(delay % 10 == 0 and delay >= 20 for delay in delays)
    assert set(delays[:-1]) <= {frame_ms}
    assert delays[-1] < frame_ms + 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_ms": 25}, "frame_ms"),
        ({"frame_ms": 10}, "frame_ms"),
        ({"hold_ms": -1}, "hold_ms"),
        ({"size": 8}, "size"),
        ({"size": 10_000}, "size"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        encode(SLOW_FAST, **options)
    with pytest.raises(ValueError, match="frames"):
        encode([[[0, 9], [0, 9], [0, 1e6]]])


def test_paced_keeps_the_points_and_moves_the_clock():
    own = animation.paced(SLOW_FAST)
    assert np.array_equal(to_stroke4(own), to_stroke4(SLOW_FAST))
    constant = to_stroke4(animation.paced(SLOW_FAST, constant=True))[1:]
    speed = np.hypot(constant[:, 0], constant[:, 1]) / constant[:, 2]
    assert np.allclose(speed, speed[0])
    assert constant[:, 2].sum() == pytest.approx(1200)


def test_untimed_drawings_need_a_pace():
    drawing = [[[0, 3], [0, 4]], [[3], [9]]]
    with pytest.raises(ValueError, match="untimed"):
        animation.paced(drawing)
    (_, _, t), (_, _, end) = animation.paced(drawing, constant=True)
    assert np.allclose([*t, *end], np.array([0, 0.5, 1]) * animation.TYPICAL_MS)


def test_palette_has_no_colour_twice():
    colours = list(zip(*[iter(animation.GIF_PALETTE)] * 3, strict=True))
    assert len(set(colours)) == len(colours) <= 128
