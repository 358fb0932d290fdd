"""One drawing out: true time, the official schema, what goes out comes in again."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from doodlelib.data import formats
from doodlelib.strokes import Record, as_drawing, duration, to_stroke4, without_time
from doodlelib.viz import animation, export

CAT = [[[10, 20.5, 50], [10, 10, 30], [0, 105, 205]], [[50], [30], [605]]]

coordinates = st.floats(-1e5, 1e5) | st.integers(-500, 500)


@st.composite
def drawings(draw: st.DrawFn, *, timed: bool = True) -> list:
    """Strokes of 1 to 5 points, two points or more in all, which take 50 ms or more."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    waits = draw(
        st.lists(st.integers(0, 900) | st.floats(0, 1e3), min_size=sum(sizes), max_size=sum(sizes))
    )
    times = iter(np.cumsum([*waits[:-1], waits[-1] + 50]))
    strokes = []
    for size in sizes:
        rows = [draw(st.lists(coordinates, min_size=size, max_size=size)) for _ in "xy"]
        strokes.append([*rows, [float(next(times)) for _ in range(size)]][: 3 if timed else 2])
    return strokes


def gif_duration(path) -> float:
    with Image.open(path) as image:
        total = 0
        for index in range(image.n_frames):
            image.seek(index)
            assert image.info["duration"] % 10 == 0
            assert image.info["duration"] >= 20
            total += image.info["duration"]
    return total


def equal(found: list, expected: list) -> bool:
    return len(found) == len(expected) and all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(found, expected, strict=True)
    )


@settings(deadline=None, max_examples=20)
@given(drawing=drawings())
def test_gif_lasts_as_long_as_the_drawing(tmp_path_factory, drawing):
    path = export.to_gif(drawing, tmp_path_factory.mktemp("gif") / "a.gif", size=32)
    assert gif_duration(path) == pytest.approx(max(20, duration(drawing)), abs=5)


def test_gif_of_real_drawings(tmp_path, mirror):
    for word in ("cat", "car", "sun", "eye"):
        (record, *_) = formats.read(f"{mirror.removeprefix('file://')}/full/raw/{word}.ndjson")
        path = export.to_gif(record.drawing, tmp_path / "a.gif", size=64)
        assert gif_duration(path) == pytest.approx(to_stroke4(record.drawing)[:, 2].sum(), abs=5)


def test_comparison(tmp_path):
    path = export.compare_gif(CAT, tmp_path / "a.gif", size=64)
    assert gif_duration(path) == pytest.approx(605 + 1000, abs=5)
    with Image.open(path) as image:
        assert image.size == (128, 72)


def test_untimed_gif_needs_a_pace(tmp_path):
    with pytest.raises(ValueError, match="untimed"):
        export.to_gif(without_time(CAT), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())
    path = export.to_gif(without_time(CAT), tmp_path / "a.gif", constant=True)
    assert gif_duration(path) == animation.TYPICAL_MS


@settings(deadline=None)
@given(drawing=drawings() | drawings(timed=False))
def test_ndjson_goes_out_and_comes_in(tmp_path_factory, drawing):
    path = export.to_ndjson(drawing, tmp_path_factory.mktemp("out") / "a.ndjson", word="cat")
    (record,) = formats.read(path)
    assert record.word == "cat"
    assert all(equal(a, b) for a, b in zip(record.drawing, as_drawing(drawing), strict=True))


@pytest.mark.parametrize(
    ("drawing", "reason"),
    [
        ([[[1], [2], [0]]], "2 points"),
        ([[[0, 40, 80], [0, 5, 0], [0, 0.09, 0.2]]], "ms, not s"),
        ([[[0, 1], [0, 1e7]]], "1e+06"),
        ([[[0, 1, 2], [0, 1, 2], [0, 90, 80]]], "runs back"),
        ([[range(10_001)] * 2], "10000 points"),
    ],
)
@pytest.mark.parametrize("kind", ["ndjson", "npz"])
def test_nothing_is_written_that_readers_drop(tmp_path, kind, drawing, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        if kind == "ndjson":
            export.to_ndjson(drawing, tmp_path / "a.ndjson", word="cat")
        else:
            export.to_npz({"train": [CAT, drawing]}, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_times_since_1970_go_out_from_zero(tmp_path):
    late = [[x, y, np.add(t, 1.7e12)] for x, y, t in CAT]
    path = export.to_ndjson(late, tmp_path / "a.ndjson", word="cat")
    assert json.loads(path.read_text())["drawing"] == CAT


@settings(deadline=None)
@given(drawing=drawings() | drawings(timed=False))
def test_npz_goes_out_and_comes_in_without_its_time(tmp_path_factory, drawing):
    splits = {"train": [drawing, CAT], "valid": [], "test": [Record("cat", "1", None, drawing)]}
    path = export.to_npz(splits, tmp_path_factory.mktemp("out") / "cat.npz")
    with np.load(path, allow_pickle=True) as file:  # as sketch-rnn's own code reads it
        assert {name: len(file[name]) for name in file} == {"train": 2, "valid": 0, "test": 1}
        assert {rows.shape[1] for name in file for rows in file[name]} == {3}
        assert [rows[-1, 2] for rows in file["train"]] == [1, 1]
    first, cat, last = formats.read(path)
    for record, given_drawing in ((first, drawing), (cat, CAT), (last, drawing)):
        for found, stroke in zip(record.drawing, given_drawing, strict=True):
            np.testing.assert_allclose(found, stroke[:2], rtol=1e-5, atol=0.1)


@settings(deadline=None)
@given(drawing=drawings() | drawings(timed=False))
def test_svg_goes_out_and_comes_in_without_its_time(tmp_path_factory, drawing):
    path = export.to_svg(drawing, tmp_path_factory.mktemp("out") / "cat.svg", smooth=False)
    (record,) = formats.read(path)
    assert len(record.drawing) == len(drawing)
    for found, stroke in zip(record.drawing, drawing, strict=True):
        np.testing.assert_allclose(found, stroke[:2], rtol=1e-12, atol=0.005001)


def test_svg_curves_run_through_the_points_and_corners_stay(tmp_path):
    turn = np.linspace(0, 2 * np.pi, 17)
    ring = [100 + 100 * np.cos(turn), 100 + 100 * np.sin(turn), 50.0 * np.arange(17)]
    square = [[0, 90, 90, 0, 0], [0, 0, 90, 90, 0], [900, 1000, 1100, 1200, 1300]]
    path = export.to_svg([ring, square], tmp_path / "a.svg", animate=False)
    (record,) = formats.read(path)
    (x, y), corners = record.drawing
    radius = np.hypot(x - 100, y - 100)
    assert len(x) > 40 and np.abs(radius - 100).max() < 0.5  # the chords are off by 1.9
    for point in zip(*ring[:2], strict=True):
        assert np.hypot(x - point[0], y - point[1]).min() < 0.01
    np.testing.assert_array_equal(corners, square[:2])
    plain = export.to_svg([ring, square], tmp_path / "b.svg", animate=False, smooth=False)
    assert "C" in path.read_text() and "C" not in plain.read_text()


def test_pen_and_ink_of_a_playing_svg_are_at_the_same_place():
    turn = np.linspace(0, np.pi, 9)
    root = ET.fromstring(
        export.to_markup([[100 * np.cos(turn), 100 * np.sin(turn), 90.0 * turn**2]], animate=True)
    )
    (path,), (pen,) = root.iter(f"{NAMES}path"), root.iter(f"{NAMES}circle")
    hidden, pen = animations(path)["stroke-dashoffset"], animations(pen)
    for time in (100, 350, 600, 850):
        angle = np.pi * (1 - value_at(hidden, time))  # of a half circle
        x, y = value_at(pen["cx"], time), value_at(pen["cy"], time)
        assert np.hypot(x - 100 * np.cos(angle), y - 100 * np.sin(angle)) < 1


def test_ndjson_keeps_to_the_official_schema(tmp_path):
    path = export.to_ndjson(CAT, tmp_path / "cat.ndjson", word="cat")
    line = json.loads(path.read_text())
    assert list(line) == [*("word", "countrycode", "timestamp", "recognized", "key_id", "drawing")]
    assert re.fullmatch(r"[A-Z]{2}", line["countrycode"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ UTC", line["timestamp"])
    assert line["recognized"] is True
    assert isinstance(line["key_id"], str)
    assert line["drawing"] == CAT
    assert '"drawing":[[[10,20.5,50],' in path.read_text()  # whole numbers without ".0"


def test_ndjson_of_records(tmp_path):
    records = [Record("cat", str(n), None, as_drawing(CAT), "DE") for n in range(3)]
    path = export.to_ndjson((record for record in records), tmp_path / "a.ndjson")
    assert [json.loads(line)["key_id"] for line in path.read_text().splitlines()] == list("012")
    path = export.to_ndjson(records[0], path, word="lion")
    assert json.loads(path.read_text())["word"] == "lion"
    with pytest.raises(ValueError, match="word"):
        export.to_ndjson(CAT, path)
    with pytest.raises(ValueError, match="not finite"):
        export.to_ndjson([[[0, np.inf], [0, 1]]], path, word="cat")
    assert json.loads(path.read_text())["word"] == "lion"  # the old file is whole


def test_png(tmp_path):
    with Image.open(export.to_png(CAT, tmp_path / "a.png", size=200)) as image:
        picture = np.asarray(image)
    assert picture.shape == (200, 200)
    assert (picture.min(), picture.max()) == (26, 255)
    rows, columns = np.nonzero(picture < 128)
    assert (columns.min(), columns.max()) == pytest.approx((12, 188), abs=2)
    assert (rows.min(), rows.max()) == pytest.approx((56, 144), abs=2)


@pytest.mark.parametrize("write", [export.to_gif, export.to_svg, export.to_png, export.compare_gif])
@pytest.mark.parametrize("drawing", [[], [[[1, 2], [3], [4, 5]]], [[[1, np.nan], [3, 4], [0, 1]]]])
def test_malformed_drawings_leave_no_file(tmp_path, write, drawing):
    with pytest.raises(ValueError):
        write(drawing, tmp_path / "a")
    assert not list(tmp_path.iterdir())


# The pen rests for 400 ms of 1000 between two strokes; the first is slow, then three times as fast
TIMED = [
    [[10, 20, 50], [10, 10, 10], [5, 105, 205]],
    [[50], [30], [605]],
    [[0, 0], [0, 40], [705, 1005]],
]
NAMES = "{http://www.w3.org/2000/svg}"


def value_at(animation: ET.Element, time: float) -> str | float:
    """What SMIL makes of an ``<animate>`` at `time`, ms into the first round."""
    share = time / float(animation.attrib["dur"].removesuffix("ms"))
    times = [float(text) for text in animation.attrib["keyTimes"].split(";")]
    values = animation.attrib["values"].split(";")
    assert len(times) == len(values)
    assert times == sorted(times)
    assert times[0] == 0
    if animation.get("calcMode") == "discrete":
        return values[np.searchsorted(times, share, side="right") - 1]
    assert times[-1] == 1
    return float(np.interp(share, times, [float(value) for value in values]))


def animations(element: ET.Element) -> dict[str, ET.Element]:
    return {child.attrib["attributeName"]: child for child in element.iter(f"{NAMES}animate")}


def test_markup_plays_in_true_time():
    root = ET.fromstring(export.to_markup(TIMED, animate=True))
    assert {a.attrib["dur"] for a in root.iter(f"{NAMES}animate")} == {"1000ms"}
    first, dot, last = (animations(path) for path in root.iter(f"{NAMES}path"))
    offset = first["stroke-dashoffset"]  # the share of the path that is not yet drawn
    for time, share in ((0, 0), (50, 0.125), (100, 0.25), (150, 0.625), (200, 1), (990, 1)):
        assert 1 - value_at(offset, time) == pytest.approx(share, abs=1e-3)
    assert "stroke-dashoffset" not in dot
    assert [value_at(dot["opacity"], time) for time in (0, 599, 601, 990)] == ["0", "0", "1", "1"]
    assert value_at(last["stroke-dashoffset"], 850) == pytest.approx(0.5, abs=1e-3)


def test_markup_pen_hovers_through_the_pause():
    root = ET.fromstring(export.to_markup(TIMED, animate=True))
    (pen,) = root.iter(f"{NAMES}circle")
    pen = animations(pen)
    assert value_at(pen["cy"], 200) == pytest.approx(10, abs=0.01)
    assert value_at(pen["cy"], 400) == pytest.approx(20, abs=0.01)
    assert value_at(pen["cx"], 650) == pytest.approx(25, abs=0.01)
    assert value_at(pen["visibility"], 990) == "visible"


@pytest.mark.parametrize("options", [{"animate": False}, {"animate": True}])
def test_markup_without_its_animations_is_the_whole_drawing(options):
    root = ET.fromstring(export.to_markup(TIMED, **options))
    for path in root.iter(f"{NAMES}path"):
        assert {"opacity", "stroke-dashoffset", "visibility"}.isdisjoint(path.attrib)
    assert all(pen.attrib["visibility"] == "hidden" for pen in root.iter(f"{NAMES}circle"))
    x, y, width, height = (float(text) for text in root.attrib["viewBox"].split())
    assert (x < 0, y < 0, x + width > 50, y + height > 40) == (True,) * 4


def test_an_untimed_drawing_plays_at_a_constant_speed_and_says_so():
    markup = export.to_markup(without_time(TIMED), animate=True, title="<cat>")
    assert 'dur="6200ms"' in markup
    speed = 1000 * np.hypot(*to_stroke4(TIMED)[:, :2].T).sum() / animation.TYPICAL_MS
    assert f"untimed; plays at a constant {speed:.3g} px/s, 6.2 s in all" in markup
    assert "<desc>" not in export.to_markup(TIMED, animate=True)
    assert "<animate" not in export.to_markup(without_time(TIMED))
    assert ET.fromstring(markup).find(f"{NAMES}title").text == "<cat>"
