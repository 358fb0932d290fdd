"""A widget in which drawings play at the pace of their own timestamps, and its base classes."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal, get_args

import anywidget
import ipywidgets
import numpy as np
import traitlets

from doodlelib.strokes import is_timed, to_box
from doodlelib.viz.animation import paced
from doodlelib.viz.svg import to_markup

STATIC = Path(__file__).parent / "static"
Pace = Literal["human", "constant", "both"]


class Pictured(anywidget.AnyWidget):
    """A widget with a static picture for where no widget can run: HTML export, nbviewer."""

    def to_html(self) -> str:
        """The picture, as self-contained HTML."""
        raise NotImplementedError

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
        columns: Drawings in a row, at most.
        size: Side of each drawing, px.
        pace: "human" time, "constant" speed in the same total time, or "both" side by side.
        speed: Factor, 0.25 to 4.
        loop: Start again at the end.
        autoplay: Start at once (never for people who asked their system for less motion).
        along: Label of a slider from the first drawing to the last, which shows one at a time;
            its position is `share`, 0 to 1. Empty: all drawings are shown.

    Raises:
        ValueError: No drawings, another number of titles, a setting is out of range, or a drawing
            is malformed or its clock runs backwards.
    """

    _esm = STATIC / "player.js"
    _css = STATIC / "doodles.css"

    strokes = traitlets.List().tag(sync=True)
    titles = traitlets.List(traitlets.Unicode()).tag(sync=True)
    columns = traitlets.Int().tag(sync=True)
    size = traitlets.Int().tag(sync=True)
    pace = traitlets.Enum(get_args(Pace)).tag(sync=True)
    speed = traitlets.Float().tag(sync=True)
    loop = traitlets.Bool().tag(sync=True)
    autoplay = traitlets.Bool().tag(sync=True)
    along = traitlets.Unicode().tag(sync=True)
    share = traitlets.Float(0.0, min=0.0, max=1.0).tag(sync=True)

    def __init__(
        self,
        drawings: Sequence,
        *,
        titles: Sequence[str] = (),
        columns: int = 6,
        size: int = 140,
        pace: Pace = "human",
        speed: float = 1.0,
        loop: bool = True,
        autoplay: bool = True,
        along: str = "",
    ) -> None:
        if pace not in get_args(Pace):
            raise ValueError(f"pace must be one of {get_args(Pace)}, not {pace!r}")
        if not 0.25 <= speed <= 4:
            raise ValueError(f"speed must be 0.25 to 4, not {speed}")
        if columns < 1 or size < 16:
            raise ValueError(f"columns and size must be 1 and 16 px or more: {columns}, {size}")
        strokes, titles = _checked(drawings, titles)
        super().__init__(
            strokes=strokes,
            titles=titles,
            columns=columns,
            size=size,
            pace=pace,
            speed=speed,
            loop=loop,
            autoplay=autoplay,
            along=along,
        )

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
            f"{to_markup(strokes, animate=False, digits=1, title=title or 'doodle')}"
            f"<figcaption>{escape(title)}</figcaption></figure>"
            for strokes, title in zip(self.strokes, self.titles, strict=True)
        ]
        width = self.columns * (self.size + 8)
        style = f"display:flex;flex-wrap:wrap;gap:8px;align-items:end;max-width:{width}px"
        return f'<div style="{style}">{"".join(figures)}</div>'


def _checked(drawings: Sequence, titles: Sequence[str]) -> tuple[list, list[str]]:
    """The drawings as sent to the page, with a title each."""
    if len(drawings) == 0 or len(titles) not in (0, len(drawings)):
        raise ValueError(f"{len(drawings)} drawings and {len(titles)} titles")
    return [_plain(drawing) for drawing in drawings], list(titles) or [""] * len(drawings)


def _plain(drawing: Sequence) -> list[list[list[float]]]:
    """Strokes [x, y, t], normalised to 255 px, as lists of numbers that are short in JSON."""
    timed = to_box(paced(drawing, constant=not is_timed(drawing)))
    return [[np.round(values, 1).tolist() for values in stroke] for stroke in timed]
