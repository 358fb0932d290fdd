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
IMPORT = re.compile(r'import \{([^}]+)\} from "\./(\w+)\.js";')
EXPORT = re.compile(r"^export (default|(?:async )?(?:function|const) (?=(\w+)))", re.MULTILINE)


def module(name: str) -> str:
    """A widget's JavaScript and all that it imports, each file in a scope of its own, as one text.

    It reaches the page as a text from which no other file can be found.
    """
    scopes: dict[str, str] = {}

    def add(file: str) -> None:
        text = (STATIC / f"{file}.js").read_text(encoding="utf-8")
        for _, needed in IMPORT.findall(text):
            if needed not in scopes:
                add(needed)
        names = [name or "default: $default" for _, name in EXPORT.findall(text)]
        text = IMPORT.sub(lambda m: f"const {{{m[1].replace(' as ', ': ')}}} = ${m[2]};", text)
        text = EXPORT.sub(lambda m: m[1] if m[2] else "const $default =", text)
        scopes[file] = (
            f"const ${file} = (() => {{\n{text}\nreturn {{ {', '.join(names)} }};\n}})();"
        )

    add(name.removesuffix(".js"))
    return "\n".join([*scopes.values(), f"export default ${[*scopes][-1]}.default;\n"])


class Pictured(anywidget.AnyWidget):
    """A widget with a picture for where no widget can run: HTML export, nbviewer."""

    _css = STATIC / "doodles.css"

    def to_html(self) -> str:
        """The picture, as self-contained HTML; by default there is none."""
        return ""

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/html": self.to_html()}, metadata


def _references(children: list[ipywidgets.Widget], _: object) -> list[tuple[str, str]]:
    return [(type(child).__name__, f"IPY_MODEL_{child.model_id}") for child in children]


class Stage(Pictured):
    """Widgets in a column, or `beside` one another where there is room, with their pictures."""

    _esm = module("stage.js")

    children = traitlets.List().tag(sync=True, to_json=_references)
    beside = traitlets.Bool(False).tag(sync=True)

    def __init__(self, children: Sequence[ipywidgets.Widget], *, beside: bool = False) -> None:
        super().__init__(children=list(children), beside=beside)

    @property
    def doodles(self) -> list:
        """The drawings that play, strokes ``[x, y, t]``, px and ms, as the model made them."""
        players = (child for child in self.children if isinstance(child, Player))
        return [doodle for player in players for doodle in player.doodles]

    def to_html(self) -> str:
        """The pictures, as self-contained HTML."""
        return "".join(child.to_html() for child in self.children if isinstance(child, Pictured))


class Player(Pictured):
    """A grid of drawings with play, scrub, speed and loop; it plays without asking the kernel.

    Space plays and pauses, the arrow keys scrub. What is shown, all or one that is clicked at, can
    be copied or downloaded as SVG, GIF or ndjson.

    Args:
        drawings: At least one. An untimed drawing plays at constant speed.
        titles: Captions, one for each or none.
        settings: Values of the attributes.

    Attributes:
        columns: Drawings in a row, at most.
        size: Side of each drawing, px, 16 or more.
        pace: "human" time, "constant" speed in the same total time, or "both" side by side.
        speed: Factor, 0.25 to 4.
        smooth: Draw curves through the points (see `viz.curves`), not straight lines.
        loop: Each drawing starts again by itself; the clock takes their median duration.
        autoplay: Start at once (never for people who asked their system for less motion).
        along: Label of a slider from the first drawing to the last, which shows one at a time.
            Empty: all drawings are shown.
        share: Position of that slider, 0 to 1.
        curve: Show the pen's speed over time, of the drawing that was clicked at or the first.
        word: What the drawings show, for files of them; empty: their titles say it.
        doodles: The drawings, as they were given.

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
    smooth = traitlets.Bool(True).tag(sync=True)
    autoplay = traitlets.Bool(True).tag(sync=True)
    along = traitlets.Unicode().tag(sync=True)
    share = traitlets.Float(0.0, min=0.0, max=1.0).tag(sync=True)
    curve = traitlets.Bool(False).tag(sync=True)
    word = traitlets.Unicode().tag(sync=True)

    def __init__(self, drawings: Sequence, *, titles: Sequence[str] = (), **settings: Any) -> None:
        super().__init__()
        self.show(drawings, titles=titles, **settings)

    def show(self, drawings: Sequence, *, titles: Sequence[str] = (), **settings: Any) -> None:
        """Replace the drawings; arguments and errors are those of the class."""
        if unknown := settings.keys() - self.class_traits(sync=True):
            raise TypeError(f"a player has no setting {', '.join(sorted(unknown))}")
        if len(drawings) == 0 or len(titles) not in (0, len(drawings)):
            raise ValueError(f"{len(drawings)} drawings and {len(titles)} titles")
        boxed = (to_box(paced(drawing, constant=not is_timed(drawing))) for drawing in drawings)
        # lists of numbers that are short in JSON
        strokes = [[[np.round(row, 1).tolist() for row in stroke] for stroke in d] for d in boxed]
        titles = list(titles) or [""] * len(drawings)
        try:
            with self.hold_sync():
                for name, value in {**settings, "strokes": strokes, "titles": titles}.items():
                    self.set_trait(name, value)
        except traitlets.TraitError as error:
            raise ValueError(str(error)) from None
        self.doodles = list(drawings)

    def to_html(self) -> str:
        """The drawings with their titles, each playing at its own pace."""
        size = 80 if self.along else self.size  # a filmstrip
        figures = [
            f'<figure style="margin:0;width:{size}px;text-align:center">'
            f"{to_markup(strokes, animate=True, title=title or 'doodle', smooth=self.smooth)}"
            f"<figcaption>{escape(title)}</figcaption></figure>"
            for strokes, title in zip(self.strokes, self.titles, strict=True)
        ]
        fitting = "<style>.doodle-figures svg {max-width: 100%; height: auto}</style>"
        width = 900 if self.along else self.columns * (size + 8)
        style = f"display:flex;flex-wrap:wrap;gap:8px;align-items:end;max-width:{width}px"
        return f'<div class="doodle-figures" style="{style}">{fitting}{"".join(figures)}</div>'
