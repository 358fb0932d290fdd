"""A pad to draw on in a notebook; the models guess, complete, reconstruct and retime drawings."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from doodlelib.lab.player import Pictured, Player, Stage, module
from doodlelib.models.checkpoint import load_cnn
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.vae import SketchVAE
from doodlelib.paths import RAW, RUNS, checked_name
from doodlelib.strokes import Drawing, as_drawing, geometry_id, to_box
from doodlelib.viz.export import to_gif, to_markup, to_ndjson, to_png, to_svg

GUESSES = 5  # words that the classifier names
ENDINGS = 10  # that the VAE draws


class Paper(Pictured):
    """A square of `size` px to draw on, with all that is around it in the page.

    `words` can be drawn, `named` recognised; by `name` the browser finds the drawing again.
    """

    _esm = module("pad.js")

    strokes = traitlets.List().tag(sync=True)
    guesses = traitlets.List().tag(sync=True)
    size = traitlets.Int(320).tag(sync=True)
    words = traitlets.List(traitlets.Unicode()).tag(sync=True)
    named = traitlets.List(traitlets.Unicode()).tag(sync=True)
    name = traitlets.Unicode().tag(sync=True)

    def to_html(self) -> str:
        """The drawing, standing still."""
        return to_markup(self.strokes, title="drawing") if self.strokes else ""


class DrawingPad(Stage):
    """Paper to draw on, with the classifier's guesses, what the VAE makes of it, and files.

    Times are those of the pen, ms since the first touch. A stroke that is undone or erased leaves
    its time behind, as a longer pause. The drawing outlives this object in the browser: the pad of
    a cell that is run again, in a new kernel too, has it.

    Args:
        vae: Completes, reconstructs and retimes the drawing.
        cnn: Guesses what it shows; by default the shipped one that knows all words.
        own: Folder for ``<word>/*.ndjson``, which `data.prepare` takes as a source.
        pictures: Folder for GIF, SVG and PNG.
        seed: Of the first button press; each press takes the next.
        name: Of the pad, where a notebook has several.
    """

    def __init__(
        self,
        vae: SketchVAE,
        cnn: DoodleCNN | None = None,
        *,
        own: str | Path = RAW / "mine",
        pictures: str | Path = RUNS / "pad",
        seed: int = 0,
        name: str = "pad",
    ) -> None:
        self._vae, self._cnn = vae, cnn or load_cnn("trained_345")
        self._own, self._pictures = Path(own), Path(pictures)
        self._seeds = itertools.count(seed)
        self.paper = Paper(words=vae.words, named=self._cnn.words, name=name)
        self.player: Player | None = None
        super().__init__([self.paper])
        self.paper.observe(self._guess, "strokes")
        self.paper.on_msg(self._hear)

    @property
    def drawing(self) -> Drawing:
        """The drawing on the paper, strokes ``[x, y, t]``, px and ms; ValueError: it is empty."""
        return as_drawing(self.paper.strokes)

    def answer(
        self, act: str, strokes: Sequence, word: str = "", *, n: int = ENDINGS, **saved: Any
    ) -> dict[str, Any]:
        """What a button of the page asks for: "complete", "reconstruct", "retime", "save".

        The strokes come with it, since those of the paper may be older. It holds what the page is
        to show: `n` "endings" (0 to 255 px), or where a file is "saved".

        Raises:
            ValueError: There are no strokes, or the word is unknown or no name for a folder.
            OSError: The file cannot be written.
        """
        drawing, word = as_drawing(strokes), checked_name(word) if word else ""
        if act == "save":
            return {"saved": str(self._save(drawing, word, **saved))}
        told: Any = self._vae.word_or_none(word or None)
        seed = next(self._seeds)
        if act == "complete":
            timing = "joint" if n == 1 else None  # the first ending is to move at once
            options: dict[str, Any] = {"word": told, "timing": timing, "seed": seed}
            endings = self._vae.complete(to_box(drawing), n=n, **options)
            lists = [[[row.round(2).tolist() for row in stroke] for stroke in e] for e in endings]
            return {"endings": lists}
        if act == "reconstruct":
            (other,) = self._vae.reconstruct([drawing], word=told, seed=seed)
            title = "through the latent"
        else:
            other, title = self._vae.retime(drawing, seed=seed), "the model's pace"
        if self.player is None:
            self.player = Player([drawing, other], titles=["yours", title])
            self.children = [*self.children, self.player]
        self.player.show([drawing, other], titles=["yours", title])
        return {}

    def _hear(self, _paper: Paper, asked: dict[str, Any], _buffers: object) -> None:
        number = asked.pop("id")
        answer: dict[str, Any] = {"error": "this went wrong; the kernel's log says why"}
        try:
            answer = self.answer(**asked)
        except (OSError, ValueError) as error:  # for the person to mend
            answer = {"error": str(error)}
        finally:
            self.paper.send({**answer, "id": number})

    def _guess(self, _change: object) -> None:
        shares = self._cnn.predict([self.drawing])[0] if self.paper.strokes else np.array([])
        best = shares.argsort()[::-1][:GUESSES]
        self.paper.guesses = [(self._cnn.words[i], float(shares[i])) for i in best]

    def _save(self, drawing: Drawing, word: str, *, suffix: str, wait: float | None) -> Path:
        name = geometry_id(drawing) + suffix
        path = self._pictures / f"{word or 'drawing'}_{name}"
        if suffix == ".gif":
            return to_gif(drawing, path, trail_ms=300, hold_ms=1000)
        if suffix != ".ndjson":
            return to_png(drawing, path) if suffix == ".png" else to_svg(drawing, path, title=word)
        if not word:
            raise ValueError("to keep a drawing as data, say in Word what it shows")
        return to_ndjson(drawing, self._own / word / name, word=word, first_point_ms=wait)
