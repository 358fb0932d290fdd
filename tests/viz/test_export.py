"""One drawing out: true time, the official schema, what goes out comes in again."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from doodlelib.data import formats
from doodlelib.strokes import Record, as_drawing, duration, to_stroke4, without_time
from doodlelib.viz import export

CAT = [[[10, 20.5, 50], [10, 10, 30], [0, 105, 205]], [[50], [30], [605]]]

coordinates = st.floats(-1e5, 1e5) | st.integers(-500, 500)


@st.composite
def drawings(draw: st.DrawFn, *, timed: bool = True) -> list:
    """Strokes of 1 to 5 points, two points or more in all."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    waits = draw(
        st.lists(st.integers(0, 900) | st.floats(0, 1e3), min_size=sum(sizes), max_size=sum(sizes))
    )
    times = iter(np.cumsum(waits))
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
    path = export.to_gif(without_time(CAT), tmp_path / "a.gif", duration_ms=500.0)
    assert gif_duration(path) == 500


@settings(deadline=None)
@given(drawing=drawings() | drawings(timed=False))
def test_ndjson_goes_out_and_comes_in(tmp_path_factory, drawing):
    path = export.to_ndjson(drawing, tmp_path_factory.mktemp("out") / "a.ndjson", word="cat")
    (record,) = formats.read(path)
    assert record.word == "cat"
    assert all(equal(a, b) for a, b in zip(record.drawing, drawing, strict=True))


@settings(deadline=None)
@given(drawing=drawings())
def test_svg_goes_out_and_comes_in_without_its_time(tmp_path_factory, drawing):
    path = export.to_svg(drawing, tmp_path_factory.mktemp("out") / "cat.svg", digits=3)
    (record,) = formats.read(path)
    assert len(record.drawing) == len(drawing)
    for found, stroke in zip(record.drawing, drawing, strict=True):
        assert np.allclose(found, stroke[:2], rtol=0, atol=0.0005001)


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
