"""A pad to draw on in a notebook; the models guess, complete, reconstruct and retime drawings."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import ipywidgets
import traitlets

from doodlelib.lab.controls import Controls, Message, text
from doodlelib.lab.player import STATIC, Pictured, Player, Stage
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.vae import SketchVAE
from doodlelib.paths import RAW, RUNS, checked_name
from doodlelib.strokes import Drawing, as_drawing, geometry_id
from doodlelib.viz.export import to_gif, to_ndjson, to_svg
from doodlelib.viz.svg import to_markup

GUESSES = 5  # words that the classifier names
ENDINGS = 10  # that the VAE draws


class Paper(Pictured):
    """A square to draw on with mouse, finger, pen or the arrow keys; undo and clear.

    Args:
        size: Side, px of the page and of the drawing.
    """

    _esm = STATIC / "pad.js"
    _css = STATIC / "doodles.css"

    strokes = traitlets.List().tag(sync=True)
    guesses = traitlets.List().tag(sync=True)
    size = traitlets.Int().tag(sync=True)

    def __init__(self, *, size: int = 320) -> None:
        super().__init__(size=size)

    def to_html(self) -> str:
        """The drawing, standing still."""
        return to_markup(self.strokes, animate=False, title="drawing") if self.strokes else ""


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
        actions = {
            "Complete": (self._complete, f"{ENDINGS} ways to finish your drawing"),
            "Reconstruct": (self._reconstruct, "Your drawing, encoded and decoded again"),
            "Retime": (self._retime, "Your drawing at the model's pace"),
            "Save ndjson": (self._save_ndjson, "Keep it as training data, under its word"),
            "Save SVG": (self._save_svg, "An animated picture"),
            "Save GIF": (self._save_gif, "An animated picture"),
        }
        buttons = [self._button(name, *action) for name, action in actions.items()]
        self.player: Player | None = None
        rows = [ipywidgets.HBox(buttons[:3]), ipywidgets.HBox(buttons[3:])]
        super().__init__([self.paper, self.controls, *rows, self.message])
        self.paper.observe(self._guess, "strokes")

    @property
    def drawing(self) -> Drawing:
        """The drawing on the paper: strokes ``[x, y, t]``, px and ms.

        Raises:
            ValueError: The paper is empty.
        """
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
            self.paper.guesses = self._top_words() if self.paper.strokes else []

    def _top_words(self) -> list[tuple[str, float]]:
        shares = self._cnn.predict([self.drawing])[0]
        best = shares.argsort()[::-1][:GUESSES]
        return [(self._cnn.words[index], float(shares[index])) for index in best]

    def _complete(self) -> None:
        word, seed = self._word or None, next(self._seeds)
        self._play(self._vae.complete(self.drawing, n=ENDINGS, word=word, seed=seed))

    def _reconstruct(self) -> None:
        word, seed = self._word or None, next(self._seeds)
        (back,) = self._vae.reconstruct([self.drawing], word=word, seed=seed)
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

    def _save_ndjson(self) -> None:
        if not self._word:
            raise ValueError("to keep a drawing as data, say in Word what it shows")
        path = self._own / self._word / f"{geometry_id(self.drawing)}.ndjson"
        self._saved(to_ndjson(self.drawing, path, word=self._word))

    def _save_svg(self) -> None:
        self._saved(to_svg(self.drawing, self._picture(".svg"), title=self._word))

    def _save_gif(self) -> None:
        self._saved(to_gif(self.drawing, self._picture(".gif"), trail_ms=300.0, hold_ms=1000))

    @property
    def _word(self) -> str:
        """The word that the person typed, fit for a folder's name; or empty."""
        word = self.controls.values["word"].strip()
        return checked_name(word) if word else ""

    def _picture(self, suffix: str) -> Path:
        return self._pictures / f"{self._word or 'drawing'}_{geometry_id(self.drawing)}{suffix}"

    def _saved(self, path: Path) -> None:
        self.message.say(f"Saved {path}")
