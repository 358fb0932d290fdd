"""A widget in which drawings play at the pace of their own timestamps, and its base classes."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import numpy as np
import traitlets

from doodlelib.strokes import is_timed, to_box
from doodlelib.viz.animation import paced
from doodlelib.viz.export import to_markup

STATIC = Path(__file__).parent / "static"


def module(name: str) -> str:
    """A widget's JavaScript, with `dom.js` in the place where it imports it.

    It reaches the page as one text, from which no other file can be found.
    """
    shared, own = ((STATIC / file).read_text(encoding="utf-8") for file in ("dom.js", name))
    return re.sub(r'import .* from "./dom.js";\n', lambda _: shared, own)


class Pictured(anywidget.AnyWidget):
    """A widget with a static picture for where no widget can run: HTML export, nbviewer."""

    _css = STATIC / "doodles.css"

    def to_html(self) -> str:
        """The picture, as self-contained HTML; by default there is none."""
        return ""

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/html": self.to_html()}, metadata


class Stage(ipywidgets.VBox):
    """Widgets in a column, with the static pictures of those that have one."""

    def to_html(self) -> str:
        """The pictures, as self-contained HTML."""
        return "".join(child.to_html() for child in self.children if isinstance(child, Pictured))

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**super()._repr_mimebundle_(**kwargs), "text/html": self.to_html()}


class Player(Pictured):
    """A grid of drawings with play, scrub, speed and loop; it plays without asking the kernel.

    Space plays and pauses, the arrow keys scrub.

    Args:
        drawings: At least one. An untimed drawing plays at constant speed.
        titles: Captions, one for each or none.
        settings: Values of the attributes.

    Attributes:
        columns: Drawings in a row, at most.
        size: Side of each drawing, px, 16 or more.
        pace: "human" time, "constant" speed in the same total time, or "both" side by side.
        speed: Factor, 0.25 to 4.
        loop: Start again at the end.
        autoplay: Start at once (never for people who asked their system for less motion).
        along: Label of a slider from the first drawing to the last, which shows one at a time.
            Empty: all drawings are shown.
        share: Position of that slider, 0 to 1.

    Raises:
        ValueError: No drawings, another number of titles, a setting is out of range, or a drawing
            is malformed or its clock runs backwards.
    """

    _esm = module("player.js")

    strokes = traitlets.List().tag(sync=True)
    titles = traitlets.List(traitlets.Unicode()).tag(sync=True)
    columns = traitlets.Int(6, min=1).tag(sync=True)
    size = traitlets.Int(140, min=16).tag(sync=True)
    pace = traitlets.Enum(("human", "constant", "both"), "human").tag(sync=True)
    speed = traitlets.Float(1.0, min=0.25, max=4.0).tag(sync=True)
    loop = traitlets.Bool(True).tag(sync=True)
    autoplay = traitlets.Bool(True).tag(sync=True)
    along = traitlets.Unicode().tag(sync=True)
    share = traitlets.Float(0.0, min=0.0, max=1.0).tag(sync=True)

    def __init__(self, drawings: Sequence, *, titles: Sequence[str] = (), **settings: Any) -> None:
        if unknown := settings.keys() - self.class_traits(sync=True):
            raise TypeError(f"a player has no setting {', '.join(sorted(unknown))}")
        strokes, titles = _checked(drawings, titles)
        try:
            super().__init__(strokes=strokes, titles=titles, **settings)
        except traitlets.TraitError as error:
            raise ValueError(str(error)) from None

    def show(
        self, drawings: Sequence, *, titles: Sequence[str] = (), along: str | None = None
    ) -> None:
        """Replace the drawings; arguments and errors are those of the class, None keeps `along`."""
        strokes, titles = _checked(drawings, titles)
        with self.hold_sync():
            self.strokes, self.titles = strokes, titles
            self.along = self.along if along is None else along

    def to_html(self) -> str:
        """The finished drawings with their titles."""
        figures = [
            f'<figure style="margin:0;width:{self.size}px;text-align:center">'
            f"{to_markup(strokes, title=title or 'doodle')}"
            f"<figcaption>{escape(title)}</figcaption></figure>"
            for strokes, title in zip(self.strokes, self.titles, strict=True)
        ]
        width = self.columns * (self.size + 8)
        style = f"display:flex;flex-wrap:wrap;gap:8px;align-items:end;max-width:{width}px"
        return f'<div style="{style}">{"".join(figures)}</div>'


def _checked(drawings: Sequence, titles: Sequence[str]) -> tuple[list, list[str]]:
    """The drawings as sent to the page, normalised to 255 px, with a title each."""
    if len(drawings) == 0 or len(titles) not in (0, len(drawings)):
        raise ValueError(f"{len(drawings)} drawings and {len(titles)} titles")
    strokes = []
    for drawing in drawings:
        boxed = to_box(paced(drawing, constant=not is_timed(drawing)))
        rounded = [[np.round(values, 1).tolist() for values in stroke] for stroke in boxed]
        strokes.append(rounded)  # lists of numbers that are short in JSON
    return strokes, list(titles) or [""] * len(drawings)
