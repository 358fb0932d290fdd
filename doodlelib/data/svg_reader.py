"""SVG files to strokes: the outlines of what a browser would show.

Style sheets are matched by cssselect2, path data drawn by fontTools. Text, images, clip paths,
masks and animations are not looked at, nor is anything outside the file.
"""

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import cssselect2
import numpy as np
import tinycss2
from defusedxml.ElementTree import DefusedXMLParser, EntitiesForbidden
from fontTools.misc.transform import Identity, Offset, Scale, Transform
from fontTools.pens.recordingPen import RecordingPen
from fontTools.pens.transformPen import TransformPen
from fontTools.svgLib.path import parse_path
from fontTools.svgLib.path.arc import EllipticalArc
from jaxtyping import Float64
from scipy.interpolate import BPoly
from tinycss2.color4 import parse_color

from doodlelib.strokes import BOX, Drawing

MAX_BYTES = 2**20  # the longest drawing takes a fifth of it
MAX_ENTITY = 256  # characters; Illustrator's are addresses
MAX_DEPTH = 64
MAX_WORK = 2**23  # characters of attributes, each time they are drawn; an element counts 256 more
MAX_MATCHES = 2**27  # characters of style sheets times elements
MAX_POINTS = 100_000
MAX_MAGNITUDE = 1e6  # user units
CURVE_STEP = 3.0  # px of the 255 box between the points of a curve
WINDOW = (1280.0, 720.0)  # px, where a file without a size is shown
MIN_CONTRAST = 0.02  # to what lies below, of 1
EDGE = 1e-6  # of the page: lines so near to its edge are on it

_SVG, _HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_GROUPS = {"svg", "g", "a", "switch", "use"}
_SHAPES = {"path", "line", "polyline", "polygon", "rect", "circle", "ellipse"}
_INHERITED = {
    *("color", "fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width"),
    *("stroke-linecap", "visibility"),
}
_UNITS = {
    **{"": 1, "px": 1, "pt": 4 / 3, "pc": 16, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96},
    **{"em": 16, "rem": 16, "ex": 8, "deg": 1, "grad": 0.9, "rad": 180 / math.pi, "turn": 360},
}
_SIDES = {"left": "0%", "top": "0%", "center": "50%", "right": "100%", "bottom": "100%"}
_TRANSFORMS = {  # angles in degrees
    "matrix": lambda a, b, c, d, e, f: Transform(a, b, c, d, e, f),
    **{"translate": Offset, "translatex": Offset, "translatey": lambda y: Offset(0, y)},
    **{"scale": Scale, "scalex": lambda x: Scale(x, 1), "scaley": lambda y: Scale(1, y)},
    "rotate": lambda a, x=0, y=0: Offset(x, y).rotate(math.radians(a)).translate(-x, -y),
    "skewx": lambda a: Identity.skew(math.radians(a)),
    "skewy": lambda a: Identity.skew(0, math.radians(a)),
}
_NUMBER = r"[-+]?(?>\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_VALUE = re.compile(rf"\s*({_NUMBER})([a-z]*|%)\s*")
_FUNCTION = re.compile(r"[\s,]*+(\w++)\s*+\(([^()]*+)\)[\s,]*+")
_NO_PATH_DATA = re.compile(r"[^\s\d.,+eEMLHVCSQTAZmlhvcsqtaz-].*", re.DOTALL)

_Style = dict[str, Any]
_Points = Float64[np.ndarray, "n 2"]
_EVERYWHERE = np.array([[-1e9, -1e9], [1e9, 1e9]])


def read_drawing(path: str | Path) -> Drawing:
    """The untimed drawing that an SVG file shows, in document order, in units of its viewBox.

    Each subpath of a stroked or filled shape is a stroke, as far as it is in the view box. What is
    not to be seen is left out: hidden, without paint, or in the page's colour. A broken path is
    read up to its error.

    Raises:
        ValueError: The file is no SVG, shows no lines, or is beyond a bound of this module. Names
            the file, and says what to do.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has over {MAX_BYTES} bytes; save it as plain SVG without images")
    try:
        parser = _Parser()
        parser.feed(path.read_bytes())
        root = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        advice = "save it as plain SVG (in Illustrator: without editing capabilities)"
        raise ValueError(f"{path} is no safe XML: {error}; {advice}") from error
    if _tag(root) != "svg":
        raise ValueError(f"{path} holds <{root.tag}>, not <svg>; save it as SVG")
    try:
        with np.errstate(all="ignore"):
            return _Document(root).drawing()
    except RecursionError as error:
        raise ValueError(f"{path} has a style that is nested too deeply; simplify it") from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a drawing: {error}") from error


class _Parser(DefusedXMLParser):
    """Expands entities that are short texts in the file itself, such as Illustrator writes."""

    def defused_entity_decl(
        self, name, is_parameter_entity, value, base, sysid, pubid, notation_name
    ) -> None:
        if is_parameter_entity or value is None or "&" in value or len(value) > MAX_ENTITY:
            raise EntitiesForbidden(name, value, base, sysid, pubid, notation_name)


class _Document:
    """The tree of an SVG file, with the style that each element has of its own."""

    def __init__(self, root: Element) -> None:
        self.root, self.styles = root, _cascade(root)
        self.ids = {element.get("id"): element for element in reversed(self.styles)}
        self.work, self.broken, self.page = 0, "", _EVERYWHERE

    def drawing(self) -> Drawing:
        """The lines that are seen, as strokes."""
        shapes = list(self._shapes(self.root, {}, Identity, WINDOW))
        lines = self._seen(shapes, step=math.inf)
        if not lines:
            advice = f"give its lines a stroke, turn text into paths{self.broken}"
            raise ValueError(f"it shows no lines on its page that differ in colour: {advice}")
        extent = float(np.ptp(np.concatenate(lines), axis=0).max())
        lines = self._seen(shapes, step=extent * CURVE_STEP / BOX or math.inf)
        return [list(line.T.copy()) for line in lines]

    def _shapes(
        self, element: Element, above: _Style, matrix: Transform, size: tuple, **given: str
    ) -> Iterator[tuple]:
        """What an element draws, lowest first; `above` is its parent's style."""
        tag, own, depth = _tag(element), self.styles[element], above.get("depth", 0)
        own = own | given if tag in ("svg", "symbol") else own
        style = {name: value for name, value in above.items() if name in _INHERITED}
        style |= {k: above.get(k, "") if v == "inherit" else v for k, v in own.items()}
        opacity = above.get("opacity", 1) * _value(own.get("opacity"), 1, 1)
        style |= {"opacity": opacity, "depth": depth + 1}
        self.work += 256 + sum(len(name) + len(value) for name, value in own.items())
        if self.work > MAX_WORK:
            raise ValueError("it is too long, or repeats parts too often; simplify it")
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested over {MAX_DEPTH} deep, or within itself; ungroup it")
        if style.get("display") == "none" or "requiredExtensions" in own:
            return
        matrix = matrix.transform(_transform(style, size))
        if tag in _SHAPES:
            yield from self._shape(tag, style, matrix, size)
            return
        children, given = list(element), {}
        if tag == "use":
            href = style.get("href", style.get(_HREF, "#"))
            if not href.startswith("#"):
                raise ValueError(f"it uses {href!r} of another file; copy that into this one")
            children = [self.ids[href[1:]]] if href[1:] in self.ids else []
            matrix = matrix.translate(*map(_value, (style.get("x"), style.get("y")), size))
            given = {key: style[key] for key in ("width", "height") if key in style}
        elif tag in ("svg", "symbol"):
            matrix, size = self._fitted(style, matrix, size, is_root=depth == 0)
        elif tag == "switch":  # the first that it can show
            children = [c for c in element if "requiredExtensions" not in self.styles[c]][:1]
        for child in children:
            if _tag(child) in _GROUPS | _SHAPES or (tag == "use" and _tag(child) == "symbol"):
                yield from self._shapes(child, style, matrix, size, **given)

    def _fitted(
        self, style: _Style, matrix: Transform, size: tuple, *, is_root: bool
    ) -> tuple[Transform, tuple]:
        """Matrix and size within an ``<svg>`` or ``<symbol>``: its view box in its viewport."""
        view = [float(text) for text in re.findall(_NUMBER, style.get("viewBox", ""))]
        has_view = len(view) == 4 and min(view[2:]) > 0
        ratio = style.get("preserveAspectRatio", "").strip() or "xMidYMid"
        x, y = map(_value, (style.get("x"), style.get("y")), size)
        texts = [style.get(key, "100%") for key in ("width", "height")]
        sides = [*map(_value, texts, size, size)]
        if is_root:  # it is drawn in the units of its view box
            x, y, *sides = view if has_view and not ratio.startswith("none") else (0, 0, *sides)
        matrix = matrix.translate(x, y)
        if is_root and (has_view or not any(text.endswith("%") for text in texts)):
            self.page = np.sort(matrix.transformPoints([(0, 0), sides]), axis=0)
        if not has_view:
            return matrix, tuple(sides)
        scales = np.divide(sides, view[2:])
        if not ratio.startswith("none"):
            scales[:] = scales.max() if ratio.endswith("slice") else scales.min()
        shares = [{"Min": 0.0, "Max": 1.0}.get(ratio[at : at + 3], 0.5) for at in (1, 5)]
        matrix = matrix.translate(*(shares * (sides - scales * view[2:])))
        return matrix.scale(*scales).translate(-view[0], -view[1]), tuple(view[2:])

    def _shape(self, tag: str, style: _Style, matrix: Transform, size: tuple) -> Iterator[tuple]:
        """A shape's commands, fill, stroke, and whether its points are dots; if it has paint."""
        fill, stroke = _paint("fill", "black", style), _paint("stroke", "none", style)
        stroke = stroke if _value(style.get("stroke-width"), 1, 1) > 0 else None
        is_flat = matrix[0] * matrix[3] == matrix[1] * matrix[2]
        if fill is stroke is None or is_flat or style.get("visibility", "visible") != "visible":
            return
        data, pen = _path_data(tag, style, size), RecordingPen()
        valid = _NO_PATH_DATA.sub("", data)
        try:
            parse_path(valid, TransformPen(pen, matrix), arc_class=_Arc)
        except (ValueError, ArithmeticError, LookupError):
            valid = None
        if valid != data:
            self.broken = self.broken or f"; mend <{tag}> {data[:60]!r}"
        self.work += 64 * len(pen.value)
        numbers = np.array([point for _, points in pen.value for point in points])
        if not (np.abs(numbers) <= MAX_MAGNITUDE).all():
            raise ValueError(f"<{tag}> {data[:60]!r} has numbers over {MAX_MAGNITUDE:g}; scale it")
        yield pen.value, fill, stroke, style.get("stroke-linecap", "butt") != "butt"

    def _seen(self, shapes: list[tuple], *, step: float) -> list[_Points]:
        """The lines that stand out from what lies below them, as far as they are on the page."""
        style = self.styles[self.root]
        ground = {"fill": style.get("background-color", style.get("background"))}
        paper = _paint("fill", "white", ground)
        below = np.empty((len(shapes) + 1, 7))  # boxes and colours of what is filled
        below[0] = *_EVERYWHERE.flat, *(np.ones(3) if paper is None else paper[:3])
        edge = EDGE * np.ptp(self.page) * np.array([[-1], [1]])
        seen: list[_Points] = []
        fills, count = 1, 0
        for commands, fill, stroke, has_caps in shapes:
            lines = _lines(commands, step)
            if not lines:
                continue
            points = np.concatenate(lines)
            box = np.array([points.min(axis=0), points.max(axis=0)])
            are_off = [not _cut(line, self.page - edge) for line in lines]
            covers = (np.abs(np.clip(self.page, *box) - self.page) <= edge[1]).all()
            if fill is not None and covers and all(are_off):  # it is the page
                seen = seen if fill[3] < 1 else []
                below[0, 4:] += fill[3] * (fill[:3] - below[0, 4:])
                fills, fill = 1, None
            is_filled = _stands_out(fill, box, below[:fills])
            is_stroked = _stands_out(stroke, box, below[:fills])
            if is_filled and fill is not None:
                below[fills] = *box.flat, *fill[:3]
                fills += 1
            for line, is_off in zip(lines, are_off, strict=True):
                is_area = np.linalg.matrix_rank(line - line[0], 1e-9 * np.ptp(line)) > 1
                if is_filled and is_area and (is_stroked or not is_off):
                    line = np.concatenate([line, line[:1]]) if (line[0] != line[-1]).any() else line
                elif not is_stroked or not (has_caps or np.ptp(line, axis=0).any()):
                    continue
                seen += _cut(line, self.page + edge)
            count += len(points)
            if count > MAX_POINTS and math.isfinite(step):
                raise ValueError(f"it has over {MAX_POINTS} points; simplify it")
        return seen


class _Arc(EllipticalArc):
    """Draws a straight line where an arc has no radius."""

    def draw(self, pen: TransformPen) -> None:
        if self.rx and self.ry:
            super().draw(pen)
        elif self.target_point != self.current_point:
            pen.lineTo((self.target_point.real, self.target_point.imag))


def _tag(element: Element) -> str:
    return str(element.tag).removeprefix(_SVG)


def _cascade(root: Element) -> dict[Element, dict[str, str]]:
    """What attributes and style sheets say of each element, the strongest of each name."""
    nodes = list(cssselect2.ElementWrapper.from_xml_root(root).iter_subtree())
    elements = [node.etree_element for node in nodes]
    texts = [element.text or "" for element in elements if _tag(element) == "style"]
    length = sum(map(len, [*texts, *(text for node in elements for text in node.attrib.values())]))
    if length > 2 * MAX_BYTES or sum(map(len, texts)) * len(nodes) > MAX_MATCHES:
        raise ValueError("its entities or its style sheet are too long; save it as plain SVG")
    matcher, styles, sheet = cssselect2.Matcher(), {}, "\n".join(texts)
    for rule in tinycss2.parse_stylesheet(sheet, skip_comments=True, skip_whitespace=True):
        if rule.type == "qualified-rule":
            with suppress(cssselect2.SelectorError):
                for selector in cssselect2.compile_selector_list(rule.prelude):
                    matcher.add_selector(selector, _declared(rule.content))
    for node, element in zip(nodes, elements, strict=True):
        found = [declared for *_, pseudo, declared in matcher.match(node) if pseudo is None]
        plain, important = dict(element.items()), {}
        for declared in [*found, _declared(element.get("style", ""))]:
            plain |= declared[0]
            important |= declared[1]
        styles[element] = plain | important
    return styles


def _declared(text: Any) -> tuple[dict[str, str], dict[str, str]]:
    """What a style declares, and what of it is important."""
    declared: tuple[dict[str, str], dict[str, str]] = {}, {}
    for item in tinycss2.parse_blocks_contents(text, skip_comments=True, skip_whitespace=True):
        if item.type == "declaration" and item.lower_name != "d":
            declared[item.important][item.lower_name] = tinycss2.serialize(item.value).strip()
    return declared


def _paint(name: str, default: str, style: _Style) -> Float64[np.ndarray, "4"] | None:
    """Red, green, blue and opacity, of 1, if not transparent; grey for what is no plain colour."""
    text = (style.get(name) or default).lower()
    text = (style.get("color") or "black").lower() if text == "currentcolor" else text
    colour = np.array([0.5, 0.5, 0.5, 1])
    with suppress(AttributeError, NotImplementedError):  # of None for gradients; of wide gamuts
        found: Any = parse_color(text)
        colour[:] = *found.to("srgb").coordinates, found.alpha
    colour[3] *= style.get("opacity", 1) * _value(style.get(f"{name}-opacity"), 1, 1)
    return colour if text != "none" and colour[3] > 0 else None


def _stands_out(paint: np.ndarray | None, box: np.ndarray, below: np.ndarray) -> bool:
    """Whether paint within `box` differs from the colour of something below it."""
    if paint is None:
        return False
    overlaps = ((box[0] <= below[:, 2:4]) & (box[1] >= below[:, :2])).all(axis=1)
    return bool((paint[3] * np.abs(below[overlaps, 4:] - paint[:3]) >= MIN_CONTRAST).any())


def _value(text: str | None, whole: float, default: float = 0.0) -> float:
    """A length in px, an angle in degrees or a number; percentages are of `whole`."""
    match = _VALUE.fullmatch(text or "")
    units = _UNITS | {"%": whole / 100}
    return float(match[1]) * units[match[2]] if match and match[2] in units else default


def _transform(style: _Style, size: tuple) -> Transform:
    """The matrix of a transform about its origin; with an error in it, none."""
    text, matrix, at = style.get("transform", "").lower(), Identity, 0
    while function := _FUNCTION.match(text, at):
        name, words, at = function[1], function[2].replace(",", " ").split(), function.end()
        wholes = size[::-1] if name == "translatey" else size
        try:
            values = [_value(word, wholes[index % 2], math.nan) for index, word in enumerate(words)]
            matrix = matrix.transform(_TRANSFORMS[name](*values))
        except (KeyError, TypeError):
            return Identity
    if at == 0 or at < len(text):
        return Identity
    words = [*style.get("transform-origin", "0 0").split(), "center", "center"][:2]
    if words[0] in ("top", "bottom") or words[1] in ("left", "right"):
        words.reverse()
    x, y = (_value(_SIDES.get(word, word), whole) for word, whole in zip(words, size, strict=True))
    return Offset(x, y).transform(matrix).translate(-x, -y)


def _path_data(tag: str, style: _Style, size: tuple) -> str:
    """The path that an element stands for; none if it has no extent."""
    if tag == "path":
        return style.get("d", "")
    if tag in ("polyline", "polygon"):
        numbers = re.findall(_NUMBER, style.get("points", ""))
        points = " ".join(numbers[: len(numbers) // 2 * 2])
        return f"M{points}{'Z' * (tag == 'polygon')}" if points else ""
    wholes = dict.fromkeys(("x", "x1", "x2", "cx", "rx", "width"), size[0])
    wholes["r"] = math.hypot(*size) / math.sqrt(2)

    def length(key: str, default: float = 0.0) -> float:
        return _value(style.get(key), wholes.get(key, size[1]), default=default)

    if tag == "line":
        return f"M{length('x1')} {length('y1')}L{length('x2')} {length('y2')}"
    rx, ry = length("rx", math.nan), length("ry", math.nan)
    rx, ry = (ry if math.isnan(rx) else rx), (rx if math.isnan(ry) else ry)
    if tag == "rect":
        width, height = length("width"), length("height")
        rx, ry = min(rx, width / 2), min(ry, height / 2)
        rx, ry = (rx, ry) if min(rx, ry) > 0 else (0.0, 0.0)
        right, down, arc = width - 2 * rx, height - 2 * ry, f"a{rx} {ry} 0 0 1"
        path = (
            f"M{length('x') + rx} {length('y')}h{right}{arc} {rx} {ry}v{down}{arc} {-rx} {ry}"
            f"h{-right}{arc} {-rx} {-ry}v{-down}{arc} {rx} {-ry}z"
        )
        return path if min(width, height) > 0 else ""
    rx, ry = (length("r"), length("r")) if tag == "circle" else (rx, ry)
    half = f"a{rx} {ry} 0 0 1"
    path = f"M{length('cx') + rx} {length('cy')}{half} {-2 * rx} 0{half} {2 * rx} 0z"
    return path if min(rx, ry) > 0 else ""


def _lines(commands: list[tuple[str, tuple]], step: float) -> list[_Points]:
    """The subpaths as points, `step` apart on curves, or 16 on each."""
    lines: list[list] = []
    budget = MAX_POINTS
    for command, points in commands:
        if command == "moveTo":
            lines.append([*points])
        elif len(points) > 1:
            curve = BPoly(np.array([lines[-1][-1], *points])[:, None], [0, 1])
            length = np.hypot(*np.diff(curve(np.linspace(0, 1, 17)), axis=0).T).sum()
            count = max(1, math.ceil(length / step)) if step < math.inf else 16
            budget -= count if step < math.inf else 1
            if budget < 0:
                raise ValueError(f"it has over {MAX_POINTS} points; simplify it")
            lines[-1].extend(curve(np.linspace(0, 1, count + 1)[1:]))
        elif points:
            lines[-1].extend(points)
        elif command == "endPath":
            if len(lines[-1]) == 1:  # a move draws nothing
                lines.pop()
        elif len(lines[-1]) > 2 and np.allclose(*lines[-1][-2:], rtol=1e-9, atol=1e-9):
            del lines[-1][-2]  # it was closed but for rounding
    return [np.array(line, dtype=np.float64) for line in lines]


def _cut(line: _Points, page: _Points) -> list[_Points]:
    """The parts of a line that lie between the two corners of a page."""
    if ((page[0] <= line) & (line <= page[1])).all():
        return [line]
    start, way = line[:-1], np.diff(line, axis=0)
    ends = (page[:, None] - start) / way  # of each segment, where it crosses the four edges
    first = np.fmin(*ends).max(axis=1).clip(0)
    last = np.fmax(*ends).min(axis=1).clip(None, 1)
    kept = np.flatnonzero(first < last)
    is_joined = (np.diff(kept) == 1) & (last[kept[:-1]] == 1) & (first[kept[1:]] == 0)
    parts = []
    for run in np.split(kept, np.flatnonzero(~is_joined) + 1) if len(kept) else []:
        a, b = run[0], run[-1]
        bounds = start[[a, b]] + way[[a, b]] * [[first[a]], [last[b]]]
        parts.append(np.concatenate([bounds[:1], line[a + 1 : b + 1], bounds[1:]]))
    if len(parts) > 1 and (parts[0][0] == parts[-1][-1]).all():
        parts[0] = np.concatenate([parts.pop(), parts[0][1:]])
    return parts
