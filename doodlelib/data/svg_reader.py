"""SVG files to strokes: the outlines of paths and basic shapes, curves sampled.

Scripts, styles, text, images and links are not looked at: of the file's tree only shapes, groups
and their geometry are handed to svgelements, after the XML was read with entities forbidden.
"""

from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, tostring

import numpy as np
from defusedxml.ElementTree import fromstring
from jaxtyping import Float64

from doodlelib.strokes import BOX, Drawing

svgelements: Any = import_module("svgelements")  # its Latin-1 source is opaque to type checkers

MAX_BYTES = 2**20  # the longest drawing takes a fifth of it
MAX_DEPTH = 64
MAX_POINTS = 100_000
MAX_MAGNITUDE = 1e6  # user units
CURVE_STEP = 3.0  # px of the 255 box between the points of a curve

_SVG = "{http://www.w3.org/2000/svg}"
_GROUPS = {"svg", "g", "a", "switch"}
_SHAPES = {"path", "line", "polyline", "polygon", "rect", "circle", "ellipse"}
_GEOMETRY = {
    *("d", "points", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry"),
    *("width", "height", "viewBox", "preserveAspectRatio", "transform"),
}
# What svgelements may raise over bad numbers
_SVG_ERRORS = (ValueError, ArithmeticError, LookupError, TypeError, AttributeError)


def read_drawing(path: str | Path) -> Drawing:
    """The untimed drawing in an SVG file, each subpath a stroke, in units of the outermost viewBox.

    What is hidden (``display="none"``, ``visibility="hidden"``) is left out. Curves get a point
    about every `CURVE_STEP` px of the box that the drawing will be scaled to.

    Raises:
        ValueError: The file is larger than `MAX_BYTES`, no SVG, declares entities, reuses parts
            with ``<use>``, is nested too deeply, or holds no lines, bad numbers or too many points.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has over {MAX_BYTES} bytes")
    try:
        root = fromstring(path.read_bytes())
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is no safe XML: {error!r}") from error
    if root.tag.removeprefix(_SVG) != "svg":
        raise ValueError(f"{path} holds <{root.tag}>, not <svg>")
    try:
        return _sampled(_subpaths(_cleaned(root)))
    except _SVG_ERRORS as error:
        raise ValueError(f"{path} holds no drawing that can be read: {error!r}") from error


def _cleaned(element: Element, *, depth: int = 0) -> Element:
    """A copy of `element` with its visible shapes and groups, and their geometry, alone."""
    if depth > MAX_DEPTH:
        raise ValueError(f"groups nested over {MAX_DEPTH} deep")
    geometry = {key: value for key, value in element.attrib.items() if key in _GEOMETRY}
    copy = Element(str(element.tag).removeprefix(_SVG), geometry)
    for child in element:
        tag = str(child.tag).removeprefix(_SVG)
        if tag == "use":
            raise ValueError("<use> is not read; turn the clones into paths")
        is_empty = tag == "path" and not child.get("d", "").strip()
        if tag in _GROUPS | _SHAPES and not is_empty and not _is_hidden(child):
            copy.append(_cleaned(child, depth=depth + 1))
    return copy


def _is_hidden(element: Element) -> bool:
    """Whether `element` says that it is not to be seen."""
    style = dict(item.split(":", 1) for item in element.get("style", "").split(";") if ":" in item)
    style = {key.strip(): value.strip() for key, value in [*element.items(), *style.items()]}
    return style.get("display") == "none" or style.get("visibility") in ("hidden", "collapse")


def _subpaths(root: Element) -> list[list[Any]]:
    """The segments of all subpaths of the tree, in the units of its outermost viewBox."""
    view = svgelements.Viewbox(root.get("viewBox", "0 0 1000 1000"))
    if root.get("preserveAspectRatio") != "none":  # else the viewport changes the shape
        for key in ("width", "height", "viewBox"):
            root.attrib.pop(key, None)
    document = svgelements.SVG.parse(
        BytesIO(tostring(root)), width=view.width, height=view.height, on_error="raise"
    )
    subpaths: list[list[Any]] = []
    for shape in document.select(lambda element: isinstance(element, svgelements.Shape)):
        previous = None
        for segment in svgelements.Path(shape):
            if isinstance(segment, svgelements.Move):
                subpaths.append([])
            elif previous is None or isinstance(previous, svgelements.Close):
                subpaths.append([svgelements.Move(segment.start)])
            subpaths[-1].append(segment)
            previous = segment
    return [subpath for subpath in subpaths if len(subpath) > 1]  # a move alone draws nothing


def _sampled(subpaths: list[list[Any]]) -> Drawing:
    """Each subpath as a stroke: its corners, and points along its curves.

    A closed subpath ends where it began; one that is nothing but a closed point is that point.
    """
    if not subpaths:
        raise ValueError("no lines")
    with np.errstate(all="ignore"):
        rough = np.concatenate([_points(segment) for subpath in subpaths for segment in subpath])
    if not (np.abs(rough) <= MAX_MAGNITUDE).all():
        raise ValueError(f"numbers that are not finite or over {MAX_MAGNITUDE:g}")
    extent = float(np.ptp(rough, axis=0).max())
    step = extent * CURVE_STEP / BOX or np.inf
    drawing: Drawing = []
    budget = MAX_POINTS
    for subpath in subpaths:
        pieces = [_points(segment, step=step) for segment in subpath]
        if isinstance(subpath[-1], svgelements.Close):
            gap = np.abs(pieces[-1] - pieces[-2][-1]).max()
            pieces = pieces[:-1] if gap <= 1e-9 * extent else pieces
        budget -= sum(map(len, pieces))
        if budget < 0:
            raise ValueError(f"over {MAX_POINTS} points")
        drawing.append(list(np.concatenate(pieces).T))
    return drawing


def _points(segment: Any, *, step: float | None = None) -> Float64[np.ndarray, "n 2"]:
    """Where `segment` leads: its end, or 16 points of a curve, or as many as are `step` apart."""
    if not isinstance(segment, svgelements.Curve):
        return np.array([[segment.end.x, segment.end.y]], dtype=np.float64)
    points = segment.npoint(np.linspace(0, 1, 17))
    if step:
        length = np.hypot(*np.diff(points, axis=0).T).sum()
        points = segment.npoint(np.linspace(0, 1, max(2, int(np.ceil(length / step)) + 1)))
    return np.asarray(points[1:], dtype=np.float64)
