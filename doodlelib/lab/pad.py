"""A pad to draw on in a notebook; the models guess, complete, reconstruct and retime drawings."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import traitlets

from doodlelib.lab.controls import Controls, Message, text
from doodlelib.lab.player import Pictured, Player, Stage, module
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.vae import SketchVAE
from doodlelib.paths import RAW, RUNS, checked_name
from doodlelib.strokes import Drawing, as_drawing, geometry_id
from doodlelib.viz.export import to_gif, to_markup, to_ndjson, to_svg

GUESSES = 5  # words that the classifier names
ENDINGS = 10  # that the VAE draws


class Paper(Pictured):
    """A square of `size` px to draw on with mouse, finger, pen or arrow keys; undo and clear."""

    _esm = module("pad.js")

    strokes = traitlets.List().tag(sync=True)
    guesses = traitlets.List().tag(sync=True)
    size = traitlets.Int(320).tag(sync=True)

    def to_html(self) -> str:
        """The drawing, standing still."""
        return to_markup(self.strokes, title="drawing") if self.strokes else ""


class DrawingPad(Stage):
    """Paper to draw on, with the classifier's guesses, and buttons for the VAE and for saving.

    Times are those of the pen, ms since the first touch. A stroke that is undone leaves its time
    behind, as a longer pause.

    Args:
        vae: Completes, reconstructs and retimes the drawing.
        cnn: Guesses what it shows.
        own: Folder for ``<word>/*.ndjson``, which `data.prepare` takes as a source.
        pictures: Folder for SVG and GIF.
        seed: Of the first button press; each press takes the next.
    """

    def __init__(
        self,
        vae: SketchVAE,
        cnn: DoodleCNN,
        *,
        own: str | Path = RAW / "mine",
        pictures: str | Path = RUNS / "pad",
        seed: int = 0,
    ) -> None:
        self._vae, self._cnn = vae, cnn
        self._own, self._pictures = Path(own), Path(pictures)
        self._seeds = itertools.count(seed)
        self.paper, self.message = Paper(), Message()
        self.controls = Controls(word=text("Word", "", suggestions=vae.words))
        self.player: Player | None = None
        actions = {
            "Complete": (self._complete, f"{ENDINGS} ways to finish your drawing"),
            "Reconstruct": (self._reconstruct, "Your drawing, encoded and decoded again"),
            "Retime": (self._retime, "Your drawing at the model's pace"),
            "Save ndjson": (partial(self._save, ".ndjson"), "Training data, under its word"),
            "Save SVG": (partial(self._save, ".svg"), "An animated picture"),
            "Save GIF": (partial(self._save, ".gif"), "An animated picture"),
        }
        buttons = [self._button(name, *action) for name, action in actions.items()]
        rows = [ipywidgets.HBox(buttons[:3]), ipywidgets.HBox(buttons[3:])]
        super().__init__([self.paper, self.controls, *rows, self.message])
        self.paper.observe(self._guess, "strokes")

    @property
    def drawing(self) -> Drawing:
        """The drawing on the paper, strokes ``[x, y, t]``, px and ms; ValueError: it is empty."""
        return as_drawing(self.paper.strokes)

    def _button(self, name: str, act: Callable[[], None], tooltip: str) -> ipywidgets.Button:
        button = ipywidgets.Button(description=name, tooltip=tooltip)

        def press(_button: ipywidgets.Button) -> None:
            button.disabled = True
            try:
                with self.message.errors_shown():
                    act()
            finally:
                button.disabled = False

        button.on_click(press)
        return button

    def _guess(self, _change: object) -> None:
        with self.message.errors_shown():
            shares = self._cnn.predict([self.drawing])[0] if self.paper.strokes else np.array([])
            best = shares.argsort()[::-1][:GUESSES]
            self.paper.guesses = [(self._cnn.words[i], float(shares[i])) for i in best]

    def _options(self) -> dict[str, Any]:
        return {"word": self._word or None, "seed": next(self._seeds)}

    def _complete(self) -> None:
        self._play(self._vae.complete(self.drawing, n=ENDINGS, **self._options()))

    def _reconstruct(self) -> None:
        (back,) = self._vae.reconstruct([self.drawing], **self._options())
        self._play([self.drawing, back], titles=["yours", "through the latent"])

    def _retime(self) -> None:
        retimed = self._vae.retime(self.drawing, seed=next(self._seeds))
        self._play([self.drawing, retimed], titles=["your pace", "the model's pace"])

    def _play(self, drawings: Sequence, *, titles: Sequence[str] = ()) -> None:
        if self.player is None:
            self.player = Player(drawings, titles=titles, columns=5)
            self.children = [*self.children, self.player]
        else:
            self.player.show(drawings, titles=titles)

    def _save(self, suffix: str) -> None:
        drawing, word = self.drawing, self._word
        name = geometry_id(drawing) + suffix
        path = self._pictures / f"{word or 'drawing'}_{name}"
        if suffix == ".svg":
            to_svg(drawing, path, title=word)
        elif suffix == ".gif":
            to_gif(drawing, path, trail_ms=300.0, hold_ms=1000)
        elif word:
            path = to_ndjson(drawing, self._own / word / name, word=word)
        else:
            raise ValueError("to keep a drawing as data, say in Word what it shows")
        self.message.say(f"Saved {path}")

    @property
    def _word(self) -> str:
        """The word that the person typed, fit for a folder's name; or empty."""
        word = self.controls.values["word"].strip()
        return checked_name(word) if word else ""
