"""SVG files that are read: known shapes, and hostile ones."""

import numpy as np
import pytest
from files import points, read_one, write_svg

from doodlelib.data import formats
from doodlelib.strokes import to_box


@pytest.mark.parametrize(
    ("content", "strokes"),
    [
        ("<path d='M1 2 L3 4 H10 V20'/>", [[[1, 2], [3, 4], [10, 4], [10, 20]]]),
        ("<path d='m1 2 l3 4 m1 1 h1 z'/>", [[[1, 2], [4, 6]], [[5, 7], [6, 7], [5, 7]]]),
        ("<path d='M1 1h2v2z L9 9'/>", [[[1, 1], [3, 1], [3, 3], [1, 1]], [[1, 1], [9, 9]]]),
        ("<polyline points='1,2 3,4 5 6'/>", [[[1, 2], [3, 4], [5, 6]]]),
        ("<polygon points='1,2 3,4 5 6'/>", [[[1, 2], [3, 4], [5, 6], [1, 2]]]),
        ("<line x1='1' y1='2' x2='50%' y2='4'/>", [[[1, 2], [50, 4]]]),
        ("<rect x='1' y='2' width='3' height='4'/>", [[[1, 2], [4, 2], [4, 6], [1, 6], [1, 2]]]),
        (
            "<g transform='translate(10 20)'><g transform='scale(2)'><path d='M1 1L2 3'/></g></g>",
            [[[12, 22], [14, 26]]],
        ),
        ("<path transform='rotate(90)' d='M1 0L2 0'/>", [[[0, 1], [0, 2]]]),
        (
            "<svg x='10' width='20' height='20' viewBox='0 0 2 2'><path d='M0 0L1 1'/></svg>",
            [[[10, 0], [20, 10]]],
        ),
        ("<path d='M5 5z'/><path d='M1 1L2 2'/>", [[[5, 5]], [[1, 1], [2, 2]]]),
        ("<path/><path d='M9 9'/><path d='M1 1L2 2'/>", [[[1, 1], [2, 2]]]),
        (
            "<g display='none'><path d='M5 5L6 6'/></g><path d='M1 1L2 2'/>"
            "<path style='fill: red; visibility: hidden' d='M5 5L6 6'/><text>hello</text>"
            "<defs><path d='M5 5L6 6'/></defs><image href='http://example.org/x.png'/>",
            [[[1, 1], [2, 2]]],
        ),
        ("<script>alert(1)</script><path onclick='x()' d='M1 1L2 2'/>", [[[1, 1], [2, 2]]]),
    ],
)
def test_svg_corners(tmp_path, content, strokes):
    record = read_one(write_svg(tmp_path / "cat.svg", content))
    assert [np.shape(stroke) for stroke in points(record.drawing)] == [np.shape(s) for s in strokes]
    for found, expected in zip(points(record.drawing), strokes, strict=True):
        assert np.allclose(found, expected, atol=1e-6)
    assert (record.word, record.recognized) == ("cat", None)


def test_svg_viewport_may_stretch(tmp_path):
    view = "<svg viewBox='0 0 10 10' width='40' height='20' {}><path d='M0 0L10 10'/></svg>"
    for option, ratio in (("", 1.0), ("preserveAspectRatio='none'", 2.0)):
        (tmp_path / "cat.svg").write_text(view.format(option))
        ((x, y),) = read_one(tmp_path / "cat.svg").drawing
        assert np.ptp(x) / np.ptp(y) == pytest.approx(ratio)


@pytest.mark.parametrize(
    "shape",
    [
        "<circle cx='50' cy='50' r='40'/>",
        "<path d='M10 50 a40 40 0 0 1 80 0 a40 40 0 0 1 -80 0z'/>",
        "<path d='M10 50C10 28 28 10 50 10S90 28 90 50S72 90 50 90S10 72 10 50Z'/>",
    ],
)
def test_svg_curves_are_sampled_every_few_px_of_the_box(tmp_path, shape):
    drawing = to_box(read_one(write_svg(tmp_path / "cat.svg", shape)).drawing)
    ((x, y),) = drawing
    steps = np.hypot(np.diff(x), np.diff(y))
    assert (steps < 4).all()
    assert (steps > 2).all()
    assert np.allclose(np.hypot(x - 127.5, y - 127.5), 127.5, rtol=0.01)
    assert np.allclose((x[0], y[0]), (x[-1], y[-1]), atol=1e-6)


LAUGHS = "<!DOCTYPE svg [<!ENTITY a 'ha'>{}]>".format(
    "".join(f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
)


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/hostname'>]><svg><text>&x;</text></svg>",
        "<!DOCTYPE svg [<!ENTITY % x SYSTEM 'http://example.org/x'> %x;]><svg/>",
        LAUGHS + "<svg><text>&i;</text><path d='M0 0L1 1'/></svg>",
        "<html><svg/></html>",
        "<svg><path d='M0 0L1 1'/>",
        "not XML",
        "",
        "<svg/>",
        "<svg><use href='#a'/><path id='a' d='M0 0L1 1'/></svg>",
        "<svg>" + "<g>" * 5000 + "</g>" * 5000 + "</svg>",
        "<svg><path d='M0 0L1 nan'/></svg>",
        "<svg><path d='M0 0L1e999 1'/></svg>",
        "<svg><path d='M0 0C1 1 1e308 -1e308 5 5'/></svg>",
        "<svg><path d='L1 1'/></svg>",
        "<svg><path d='M0 0L1 1'/><path d='L1 1'/></svg>",
        "<svg><g transform='scale(1e300)'><path d='M0 0L1 1'/></g></svg>",
        "<svg><circle r='abc'/></svg>",
        "<svg><!--" + "x" * 2**20 + "--><path d='M0 0L1 1'/></svg>",
        "<svg><path d='M0 0" + "c1 99 99 1 0 0" * 5000 + "'/></svg>",
        "\x00\x01\x02",
    ],
)
def test_svg_hostile(tmp_path, text):
    (tmp_path / "cat.svg").write_text(text)
    with pytest.raises(ValueError, match=r"cat\.svg"):
        list(formats.read(tmp_path / "cat.svg"))


def test_svg_with_a_doctype_alone_is_fine(tmp_path):
    doctype = "<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'http://www.w3.org/svg11.dtd'>"
    (tmp_path / "cat.svg").write_text(f"{doctype}<svg><path d='M0 0L1 1'/></svg>")
    assert points(read_one(tmp_path / "cat.svg").drawing) == [[[0, 0], [1, 1]]]
