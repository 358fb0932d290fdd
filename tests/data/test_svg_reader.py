"""SVG files as a browser would show them: known shapes, a renderer's pictures, hostile files."""

import itertools

import cv2
import numpy as np
import pytest
import resvg_py
from files import points, read_one, write_svg

from doodlelib.data import formats
from doodlelib.data.svg_reader import read_drawing
from doodlelib.strokes import to_box

LINE, LINE_READ = "<path d='M1 1L2 2'/>", [[1, 1], [2, 2]]
HIDDEN = "<path d='M5 5L6 6H9'{}/>" + LINE
SQUARE = "<path stroke='none' fill='{}' d='M{} {}h20v20h-20z'/>"


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
        ("<path d='M5 5z'/>" + LINE, [[[5, 5]], LINE_READ]),
        ("<path/><path d='M9 9'/>" + LINE, [LINE_READ]),
        (
            "<text>hello</text><defs><path d='M5 5L6 6'/></defs>"
            "<image href='http://example.org/x.png'/>" + LINE,
            [LINE_READ],
        ),
        ("<script>alert(1)</script><path onclick='x()' d='M1 1L2 2'/>", [LINE_READ]),
        # rotated shapes that are no paths
        (
            "<rect x='10' y='-40' width='30' height='10' transform='rotate(90)'/>",
            [[[40, 10], [40, 40], [30, 40], [30, 10], [40, 10]]],
        ),
        (
            "<use href='#a' x='10'/><defs><g id='a'><path d='M1 1L2 2'/></g></defs>" + LINE,
            [[[11, 1], [12, 2]], LINE_READ],
        ),
        # what nobody sees
        (HIDDEN.format(" display='none'"), [LINE_READ]),
        (HIDDEN.format(" style='fill: red; visibility: hidden'"), [LINE_READ]),
        (HIDDEN.format(" stroke='none'"), [LINE_READ]),
        (HIDDEN.format(" style='fill:none;stroke:none'"), [LINE_READ]),
        (HIDDEN.format(" opacity='0'"), [LINE_READ]),
        (HIDDEN.format(" stroke-opacity='0%'"), [LINE_READ]),
        (HIDDEN.format(" stroke='#FFF'"), [LINE_READ]),
        (HIDDEN.format(" stroke='rgba(9, 9, 9, 0)'"), [LINE_READ]),
        (HIDDEN.format(" stroke-width='0'"), [LINE_READ]),
        (HIDDEN.format(" transform='scale(0)'"), [LINE_READ]),
        ("<g style='opacity: 0'><rect width='9' height='9'/></g>" + LINE, [LINE_READ]),
        (
            "<g visibility='hidden'><g><path visibility='visible' d='M1 1L2 2'/></g></g>",
            [LINE_READ],
        ),
        ("<g stroke-linecap='butt'><path d='M5 5z'/></g>" + LINE, [LINE_READ]),
        # style sheets
        ("<style>.st0{display:none;}</style>" + HIDDEN.format(" class='st0'"), [LINE_READ]),
        ("<style>path + path {stroke: none}</style>" + LINE + LINE, [LINE_READ]),
        (
            "<style>#a {stroke: none !important}</style>"
            + HIDDEN.format(" id='a' style='stroke: red'"),
            [LINE_READ],
        ),
        # paper, and what is filled
        ("<rect width='100%' height='100%' fill='white' stroke='none'/>" + LINE, [LINE_READ]),
        ("<rect width='100' height='100' fill='#ffe' stroke='none'/>" + LINE, [LINE_READ]),
        (LINE + "<path fill='#eee' stroke='none' d='M0 0H100V100H0'/>" + LINE, [LINE_READ]),
        (
            "<path d='M-9-9h200v200h-200z' fill='red'/><path stroke='red' d='M1 1L2 9'/>" + LINE,
            [LINE_READ],
        ),
        (
            SQUARE.format("black", 10, 10)
            + SQUARE.format("white", 20, 20)
            + SQUARE.format("white", 50, 50),
            [
                [[10, 10], [30, 10], [30, 30], [10, 30], [10, 10]],
                [[20, 20], [40, 20], [40, 40], [20, 40], [20, 20]],
            ],
        ),
        ("<path fill='black' stroke='none' d='M1 1H9V9'/>", [[[1, 1], [9, 1], [9, 9], [1, 1]]]),
        ("<path fill='black' stroke='none' d='M5 5L6 6M5 5z'/>" + LINE, [LINE_READ]),
        # the edge of the page
        ("<path d='M50 50H150V150H60V60'/>", [[[50, 50], [100, 50]], [[60, 100], [60, 60]]]),
        ("<path d='M50 50H150V60H50z'/>", [[[100, 60], [50, 60], [50, 50], [100, 50]]]),
        ("<rect width='100%' height='100%'/>", [[[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]]),
        # broken
        ("<path d='M10 95 L90 95 L'/>" + LINE, [[[10, 95], [90, 95]], LINE_READ]),
        ("<path d='M1 1L2 2 nonsense L9 9'/><path d='L9 9'/>", [LINE_READ]),
        ("<polygon points='1,2 3,4 5 6 7'/>", [[[1, 2], [3, 4], [5, 6], [1, 2]]]),
        ("<path transform='rotate(90) spin(3)' d='M1 1L2 2'/>", [LINE_READ]),
    ],
)
def test_svg_corners(tmp_path, content, strokes):
    record = read_one(write_svg(tmp_path / "cat.svg", content))
    assert [np.shape(stroke) for stroke in points(record.drawing)] == [np.shape(s) for s in strokes]
    for found, expected in zip(points(record.drawing), strokes, strict=True):
        assert np.allclose(found, expected, atol=1e-6)
    assert (record.word, record.recognized) == ("cat", None)


def read_text(path, text):
    path.write_text(text)
    drawing = read_drawing(path)
    return drawing, np.array([f(np.hstack(drawing), axis=1) for f in (np.min, np.max)])


@pytest.mark.parametrize(
    ("content", "corners"),
    [
        (
            "<circle cx='30' cy='10' r='5' transform='translate(100) scale(-1,1)'/>",
            [[65, 5], [75, 15]],
        ),
        (
            "<ellipse transform='matrix(.6 -.6 .6 .6 -10 25)' cx='25' cy='25' rx='20' ry='6'/>",
            [[7.47, 12.47], [32.53, 37.53]],
        ),
        ("<rect width='9' height='9' style='transform:translate(5px, 10%)'/>", [[5, 15], [14, 24]]),
        (
            "<rect width='9' height='8' transform-origin='50 50' transform='rotate(180)'/>",
            [[91, 92], [100, 100]],
        ),
        (
            "<rect width='9' height='8' style='transform:rotate(.5turn);transform-origin:center'/>",
            [[291, 142], [300, 150]],
        ),
        ("<rect x='10%' y='10%' width='50%' height='50%'/>", [[30, 15], [180, 90]]),
        ("<circle cx='50%' cy='50%' r='10%'/>", [[126.28, 51.28], [173.72, 98.72]]),
    ],
)
def test_svg_transforms_and_percentages_in_a_view_box_that_is_no_square(tmp_path, content, corners):
    start = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 300 150' stroke='red'>"
    _, found = read_text(tmp_path / "cat.svg", f"{start}{content}</svg>")
    assert np.allclose(found, corners, atol=0.01)


def test_svg_percentages_without_a_view_box_are_of_its_size(tmp_path):
    content = "<rect width='100%' height='100%' fill='none' stroke='#000'/></svg>"
    _, corners = read_text(tmp_path / "cat.svg", f"<svg width='400' height='30mm'>{content}")
    assert np.allclose(corners, [[0, 0], [400, 30 / 25.4 * 96]])


def test_svg_viewport_may_stretch(tmp_path):
    view = "<svg viewBox='0 0 10 10' width='40' height='20' {} stroke='red'>{}</svg>"
    for option, ratio in (("", 1.0), ("preserveAspectRatio='none'", 2.0)):
        text = view.format(option, "<path d='M0 0L10 10'/>")
        (((x, y),), _) = read_text(tmp_path / "cat.svg", text)
        assert np.ptp(x) / np.ptp(y) == pytest.approx(ratio)


def test_svg_entities_within_the_file_are_read_as_illustrator_writes_them(tmp_path):
    text = (
        "<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'http://www.w3.org/svg11.dtd' ["
        "<!ENTITY ns_svg 'http://www.w3.org/2000/svg'><!ENTITY st0 'fill:none;stroke:#000'>]>"
        "<svg xmlns='&ns_svg;'><switch><foreignObject requiredExtensions='&ns_svg;'/>"
        "<g style='&st0;'><path d='M1 1L2 2'/></g></switch></svg>"
    )
    drawing, _ = read_text(tmp_path / "cat.svg", text)
    assert points(drawing) == [LINE_READ]


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


# Our reading beside a renderer's picture

SHAPES = {
    "rect": "<rect x='20%' y='30%' width='30%' height='25%' {}/>",
    "rounded": "<rect x='40' y='20' width='60' height='50' rx='15' ry='40' {}/>",
    "circle": "<circle cx='40%' cy='50%' r='15%' {}/>",
    "ellipse": "<ellipse cx='80' cy='60' rx='30' ry='10' {}/>",
    "polyline": "<polyline points='20,20 60,70 100 30,140,80' {}/>",
    "polygon": "<polygon points='20,20 60,80 100 30 160 90' {}/>",
    "path": "<path d='M30 20h40v30l-20 10zM100.5.5.5 50H90z' {}/>",
    "cubic": "<path d='M30 60C30 10 90 10 90 60S150 110 150 50c0-20-20-20-30-10s-9 9-50-10' {}/>",
    "quadratic": "<path d='M30 60Q60 0 90 60T150 60q10-40-40-30t-30-9' {}/>",
    "arcs": "<path d='M30 60A30 20 30 0190 60a20 20 0 1150 0A5 5 0 00 150 90a0 5 0 1 1-90-4z' {}/>",
    "use": "<defs><g id='g'><rect x='5' y='5' width='40' height='20' {}/>"
    "<circle cx='20' cy='40' r='10' {}/></g></defs><use href='#g' x='30' y='20'/>",
    "symbol": "<symbol id='s' viewBox='0 0 10 20' preserveAspectRatio='xMaxYMin'>"
    "<path d='M1 1L9 5L5 19z' {}/></symbol><use href='#s' x='20' y='10' width='90' height='60'/>",
    "svg": "<svg x='20%' y='10' width='60%' height='80' viewBox='-20 -20 80 40'>"
    "<rect x='-20%' y='0' width='70%' height='50%' {}/></svg>",
}
TRANSFORMS = {
    "none": "<g>{}</g>",
    "translate": "<g transform='translate(20 -10)'>{}</g>",
    "scale": "<g transform='scale(.5,1.2)'>{}</g>",
    "mirror": "<g transform='translate(200) scale(-1 1)'>{}</g>",
    "rotate": "<g transform='rotate(20)'>{}</g>",
    "about": "<g transform='rotate(200, 100, 50)'>{}</g>",
    "skewX": "<g transform='skewX(-25)'>{}</g>",
    "skewY": "<g transform='skewY(12)'>{}</g>",
    "matrix": "<g transform='matrix(.7071 -.7071,.7071 .7071 -10.35 50)'>{}</g>",
    "list": "<g transform='translate(30) rotate(10),scale(.8)skewX(10)'>{}</g>",
    "nested": "<g transform='rotate(-15)'><g transform='translate(-10,30) scale(.9 .6)'>{}</g></g>",
    "origin": "<g transform='rotate(170)' transform-origin='100 50'>{}</g>",
    "css": "<g style='transform: translate(5px, 10%) rotate(.1turn) scale(.7);"
    "transform-origin: 50% 20px'>{}</g>",
}
AS_ATTRIBUTE = (
    "<g transform='translate(5 10) rotate(36) scale(.7)' transform-origin='100 20'>{}</g>"
)
PEN = "stroke-width:.4;stroke-linejoin:round"
STYLES = {  # of the group around it, of the shape; what else is in the file
    "inherited": (f"fill='none' stroke='navy' style='{PEN}'", "", ""),
    "class": ("", "class='a'", f"<style>.a {{fill: none; stroke: #123; {PEN}}}</style>"),
    "filled": ("fill='white'", "fill='rgb(20, 30, 40)'", ""),
}
UNSEEN = itertools.cycle(
    [
        "<rect width='100%' height='100%' fill='white'/>",
        "<rect width='90' height='60' fill='none'/>",
        "<g style='opacity:0'><rect width='90' height='60'/></g>",
        "<circle r='70' display='none'/>",
        "<style>#h {{visibility: hidden}}</style><g id='h'><circle r='70'/></g>",
        "<defs><circle r='70'/></defs><circle r='70' fill-opacity='0'/>",
    ]
)


def disagreement(path, text: str, shown: str) -> float:
    """Pixels of 400 x 200 between the lines read of `text` and a renderer's of `shown`, the 99th %.

    Edges, where it fills; both ways: from each of our pixels to the nearest of its, and back.
    """
    png = resvg_py.svg_to_bytes(
        svg_string=shown, width=400, background="#fff", skip_system_fonts=True
    )
    theirs = cv2.imdecode(np.frombuffer(bytes(png), np.uint8), cv2.IMREAD_GRAYSCALE) < 200
    if "rgb(20" in text:
        theirs &= cv2.erode(theirs.astype(np.uint8), np.ones((3, 3)), borderValue=1) == 0
    drawing, _ = read_text(path, text)
    lines = [np.round(np.array(stroke).T * 32 - 8).astype(np.int32) for stroke in drawing]
    ours = cv2.polylines(np.zeros((200, 400), np.uint8), lines, False, 1, 1, cv2.LINE_8, 4) > 0
    far = [
        cv2.distanceTransform((~a).astype(np.uint8), cv2.DIST_L2, 5)[b]
        for a, b in ((ours, theirs), (theirs, ours))
    ]
    assert theirs.sum() > 50
    return max(float(np.percentile(distances, 99)) for distances in far)


def picture(shape: str, transform: str, style: str, unseen: str = "") -> str:
    around, own, other = STYLES[style]
    content = transform.format(SHAPES[shape].format(*[own] * 2))
    return (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 200 100' width='200' height='100'>"
        f"{other}{unseen.format()}<g {around}>{content}</g></svg>"
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_svg_is_read_as_a_renderer_draws_it(tmp_path, shape):
    far = {}
    for (name, transform), style in itertools.product(TRANSFORMS.items(), STYLES):
        unseen = next(UNSEEN)
        shown = picture(shape, AS_ATTRIBUTE if name == "css" else transform, style)
        text = picture(shape, transform, style, unseen)
        far[name, style] = disagreement(tmp_path / "cat.svg", text, shown)
    assert max(far.values()) < 2.5, far


def test_svg_pictures_tell_a_wrong_transform(tmp_path):
    for right, wrong in (("rotate(20)", "rotate(22)"), ("skewX(-25)", "skewX(-22)")):
        texts = [
            picture("rect", f"<g transform='{way}'>{{}}</g>", "class") for way in (right, wrong)
        ]
        assert disagreement(tmp_path / "cat.svg", *texts) > 4


LAUGHS = "<!DOCTYPE svg [<!ENTITY a 'ha'>{}]>".format(
    "".join(f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
)
TEXT = (
    "<!DOCTYPE svg [<!ENTITY a '{}'>]><svg stroke='red'><style>{}</style><path d='M0 0L1 1'/></svg>"
)
USES = "".join(
    f"<g id='{b}'>" + f"<use href='#{a}'/>" * 10 + "</g>" for a, b in itertools.pairwise("abcdefgh")
)


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/hostname'>]><svg><text>&x;</text></svg>",
        "<!DOCTYPE svg [<!ENTITY % x SYSTEM 'http://example.org/x'> %x;]><svg/>",
        LAUGHS + "<svg><text>&i;</text><path d='M0 0L1 1V0'/></svg>",
        TEXT.format("x" * 200, "&a;" * 100_000),
        TEXT.format("x" * 300, ""),
        "<html><svg/></html>",
        "<svg><path d='M0 0L1 1V0'/>",
        "not XML",
        "",
        "<svg/>",
        "<svg><path d='M0 0L1 1'/></svg>",
        "<svg><g id='a'><path d='M0 0L1 1V0'/><use href='#a'/></g></svg>",
        "<svg><use href='other.svg#a'/><path d='M0 0L1 1V0'/></svg>",
        f"<svg><path id='a' d='M0 0L1 1V0'/>{USES}</svg>",
        "<svg>" + "<g>" * 5000 + "</g>" * 5000 + "</svg>",
        "<svg stroke='red'><path d='M0 0L1 nan'/></svg>",
        "<svg stroke='red'><path d='M0 0L1e999 1'/></svg>",
        "<svg stroke='red'><path d='M0 0C1 1 1e308 -1e308 5 5'/></svg>",
        "<svg stroke='red'><path d='L1 1'/></svg>",
        "<svg stroke='red'><g transform='scale(1e300)'><path d='M0 0L1 1'/></g></svg>",
        "<svg stroke='red'><g transform='scale(1e999)'><path d='M0 0L1 1'/></g></svg>",
        "<svg><circle r='abc'/></svg>",
        "<svg><!--" + "x" * 2**20 + "--><path d='M0 0L1 1V0'/></svg>",
        "<svg stroke='red'><path d='M0 0" + "c1 99 99 1 0 0" * 5000 + "'/></svg>",
        "<svg><style>" + "* * * * {}" * 50_000 + "</style>" + "<g/>" * 50_000 + "</svg>",
        "<svg stroke='red'><style>" + "(" * 200_000 + "</style><path d='M0 0'/></svg>",
        "<svg><g transform='" + "a" * 500_000 + "'/></svg>",
        "\x00\x01\x02",
    ],
)
def test_svg_hostile(tmp_path, text):
    (tmp_path / "cat.svg").write_text(text)
    with pytest.raises(ValueError, match=r"cat\.svg"):
        list(formats.read(tmp_path / "cat.svg"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<svg stroke='red'><path d='M10 95 L'/></svg>", r"mend <path> 'M10 95 L'"),
        ("<svg><line x2='9' display='none'/></svg>", "shows no lines.*give its lines a stroke"),
        ("<svg><use href='a.svg#b'/></svg>", "'a.svg#b' of another file; copy that"),
        ("<!DOCTYPE svg [<!ENTITY a SYSTEM 'b'>]><svg/>", "'a'.*save it as plain SVG"),
    ],
)
def test_svg_errors_say_what_was_wrong_and_what_to_do(tmp_path, text, message):
    (tmp_path / "cat.svg").write_text(text)
    with pytest.raises(ValueError, match=rf"cat\.svg.*{message}"):
        read_drawing(tmp_path / "cat.svg")


def test_svg_with_a_doctype_alone_is_fine(tmp_path):
    doctype = "<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'http://www.w3.org/svg11.dtd'>"
    (tmp_path / "cat.svg").write_text(f"{doctype}<svg stroke='red'><path d='M0 0L1 1'/></svg>")
    assert points(read_one(tmp_path / "cat.svg").drawing) == [[[0, 0], [1, 1]]]
