"""SVG markup that plays in true time, and reads back as it was written."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doodlelib.data import svg_reader
from doodlelib.strokes import without_time
from doodlelib.viz import svg

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
    root = ET.fromstring(svg.to_markup(TIMED, animate=True, hold_ms=500))
    assert {a.attrib["dur"] for a in root.iter(f"{NAMES}animate")} == {"1500ms"}
    first, dot, last = (animations(path) for path in root.iter(f"{NAMES}path"))
    offset = first["stroke-dashoffset"]  # the share of the path that is not yet drawn
    for time, share in ((0, 0), (50, 0.125), (100, 0.25), (150, 0.625), (200, 1), (1400, 1)):
        assert 1 - value_at(offset, time) == pytest.approx(share, abs=1e-3)
    assert "stroke-dashoffset" not in dot
    assert [value_at(dot["opacity"], time) for time in (0, 599, 601, 1400)] == ["0", "0", "1", "1"]
    assert value_at(last["stroke-dashoffset"], 850) == pytest.approx(0.5, abs=1e-3)


def test_markup_pen_hovers_through_the_pause():
    root = ET.fromstring(svg.to_markup(TIMED, animate=True, hold_ms=500))
    (pen,) = root.iter(f"{NAMES}circle")
    pen = animations(pen)
    assert value_at(pen["cy"], 200) == pytest.approx(10, abs=0.01)
    assert value_at(pen["cy"], 400) == pytest.approx(20, abs=0.01)
    assert value_at(pen["cx"], 650) == pytest.approx(25, abs=0.01)
    assert [value_at(pen["visibility"], time) for time in (10, 990, 1010)] == [
        *("visible", "visible", "hidden")
    ]


@pytest.mark.parametrize("options", [{"animate": False}, {"animate": True}])
def test_markup_without_its_animations_is_the_whole_drawing(options):
    root = ET.fromstring(svg.to_markup(TIMED, **options))
    for path in root.iter(f"{NAMES}path"):
        assert {"opacity", "stroke-dashoffset", "visibility"}.isdisjoint(path.attrib)
    assert all(pen.attrib["visibility"] == "hidden" for pen in root.iter(f"{NAMES}circle"))
    x, y, width, height = (float(text) for text in root.attrib["viewBox"].split())
    assert (x < 0, y < 0, x + width > 50, y + height > 40) == (True,) * 4


def test_markup_of_an_untimed_drawing_stands_still():
    markup = svg.to_markup(without_time(TIMED), animate=True, title="<cat>")
    assert "<animate" not in markup
    assert ET.fromstring(markup).find(f"{NAMES}title").text == "<cat>"


coordinates = st.floats(-1e5, 1e5) | st.integers(-500, 500)
untimed = st.lists(
    st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5), min_size=1, max_size=4
).map(lambda strokes: [list(zip(*stroke, strict=True)) for stroke in strokes])


@settings(deadline=None)
@given(drawing=untimed, digits=st.integers(0, 4))
def test_what_goes_out_comes_in(tmp_path_factory, drawing, digits):
    path = tmp_path_factory.mktemp("svg") / "cat.svg"
    path.write_text(svg.to_markup(drawing, animate=False, digits=digits))
    back = svg_reader.read_drawing(path)
    assert len(back) == len(drawing)
    for found, stroke in zip(back, drawing, strict=True):
        np.testing.assert_allclose(found, np.array(stroke), rtol=1e-12, atol=0.5001 * 10**-digits)
