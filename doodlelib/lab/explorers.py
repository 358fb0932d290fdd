"""Widgets that explore what a VAE draws: by temperature, along a path of latents, on a map.

Doodles are drawn by the model when a control is let go, and shown by a player. Where that fails,
the message stands under the controls and the error is raised all the same.
"""

from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from doodlelib.analysis import latent
from doodlelib.lab.controls import Controls, Message, choice, number, slider
from doodlelib.lab.player import Pictured, Player, Stage, module
from doodlelib.models.checkpoint import load_vae
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import Drawing, to_box
from doodlelib.viz.export import paths
from doodlelib.viz.plots import word_colors

MAX_DOODLES = 24  # at once
APART = 0.3  # between temperatures that are compared side by side
COMPARED = {"": "nothing", "temperature": "shape", "time_temperature": "time"}
WIDTH, LEAST, MOST, MARGIN = 620, 260, 560, 24  # px of the map: its width, heights and margin
SYMBOLS = (  # beside the colours, for those who cannot tell these apart
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.5-3.5h7v7h-7z",
    "M0-5l4.6 8h-9.2z",
    "M0-5l5 5l-5 5l-5-5z",
)
STAR = "M0-10l3 7h7l-5.5 4.5l2 7.5l-6.5-4.5l-6.5 4.5l2-7.5l-5.5-4.5h7z"  # of one's own drawings
OWN = "yours"


def temperature_explorer(
    vae: SketchVAE,
    *,
    n: int = 9,
    word: str | None = None,
    temperature: float = 0.25,
    time_temperature: float = 1.0,
    seed: int = 0,
    compare: str = "",
    checkpoints: Sequence[str | Path] = (),
) -> Stage:
    """Doodles under sliders for both temperatures, the word, the number and the seed.

    The arguments are what the controls show at first: `n` from 1 to 24, a `word` that the model
    knows or None (unconditional), temperatures from 0 to 1.5. All settings share the seed, so that
    what changes is what was moved. `compare`, "temperature" or "time_temperature", shows three of
    them in columns: as set, and 0.3 lower and higher. `checkpoints` are other models to choose.

    Raises:
        ValueError: A value is out of its control's range, or the word is unknown.
    """
    load = cache(load_vae)
    named = {"": "as given", **{str(path): str(path) for path in checkpoints}}
    controls = Controls(
        temperature=slider("Shape temperature", temperature, top=1.5, step=0.05),
        time_temperature=slider("Time temperature", time_temperature, top=1.5, step=0.05),
        compare=choice("Compare temperatures", compare, options=COMPARED),
        word=choice("Word", word or "", options=_words(vae)),
        n=slider("Doodles", n, low=1, top=MAX_DOODLES, step=1),
        seed=number("Seed", seed, low=0, top=2**31 - 1),
        **({"checkpoint": choice("Model", "", options=named)} if checkpoints else {}),
    )

    def model() -> SketchVAE:
        path = controls.values.get("checkpoint")
        return load(path) if path else vae

    def doodles() -> dict[str, Any]:
        chosen: dict[str, Any] = {**controls.values}
        vae, word, compare = model(), chosen.pop("word"), chosen.pop("compare")
        chosen.pop("checkpoint", None)
        if not compare:
            drawings = vae.generate(word=word or None, **chosen)
            return {"drawings": drawings, "columns": 6, "word": word}
        chosen["n"] = rows = min(chosen["n"], MAX_DOODLES // 3)
        values: list[Any] = [max(0.0, chosen[compare] - APART) + i * APART for i in range(3)]
        columns = [vae.generate(word=word or None, **chosen | {compare: v}) for v in values]
        drawings = [drawing for row in zip(*columns, strict=True) for drawing in row]
        titles = [f"{value:.2f}" for value in values] * rows
        return {"drawings": drawings, "titles": titles, "columns": 3, "word": word}

    player, message = Player(**doodles()), Message()

    def update(_change: object) -> None:
        with message.errors_shown():
            options = _words(model())
            word = controls.fields["word"] | {"options": options}
            controls.fields = controls.fields | {"word": word}
            if controls.values["word"] not in options:
                controls.set(word="")  # which leads here again
            else:
                player.show(**doodles())

    controls.observe(update, "values")
    return Stage([controls, message, player])


def _words(vae: SketchVAE) -> dict[str, str]:
    return {"": "any", **{name: name for name in vae.word_or_none(vae.words) or []}}


def interpolation_explorer(
    vae: SketchVAE,
    start: Sequence,
    end: Sequence,
    *,
    steps: int = 21,
    word: str | Sequence[str] | None = None,
    **options: Any,
) -> Player:
    """A slider along the arc between the latents of two drawings; `steps` doodles, made beforehand.

    The decoder is conditioned on `word`, or on the nearer one of two. `options` are more arguments
    of `latent.decode_path`, whose errors these are.
    """
    words = (word, word) if word is None or isinstance(word, str) else word
    latents = vae.encode([start, end])
    drawings = latent.decode_path(vae, *latents, steps=steps, words=words, **options)
    along = f"From {words[0] or 'start'} to {words[1] or 'end'}"
    return Player(drawings, along=along, size=280, autoplay=False)


class Dots(Pictured):
    """The map itself: a dot for each drawing, which shows it when pointed at, and can be chosen.

    `points` are positions in any unit, y upwards, of `drawings`, whose words are `labels`.
    """

    _esm = module("latent_map.js")

    picture = traitlets.Unicode().tag(sync=True)
    places = traitlets.List().tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    outlines = traitlets.List().tag(sync=True)
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)
    path = traitlets.List().tag(sync=True)
    cursor = traitlets.List().tag(sync=True)  # a place between the dots; whether it is to play
    decoded = traitlets.List().tag(sync=True)  # that place, what is drawn there, and its name
    has_own = traitlets.Bool(False).tag(sync=True)  # a drawing that a button puts on the map
    asked = traitlets.Int(0).tag(sync=True)  # times that the button was pressed

    def __init__(
        self, points: Float[np.ndarray, "N 2"], labels: Sequence[str], drawings: Sequence
    ) -> None:
        low, high = points.min(axis=0), points.max(axis=0)
        room, spread = np.array([WIDTH, MOST]) - 2 * MARGIN, (high - low).clip(1e-9)
        self._scale = (room / spread).min() * np.array([1, -1])
        self._height = max(LEAST, round(spread[1] * abs(self._scale[1])) + 2 * MARGIN)
        self._middle, self._centre = np.array([WIDTH, self._height]) / 2, (low + high) / 2
        super().__init__()
        self.add(points, labels, drawings)

    def add(
        self, points: Float[np.ndarray, "K 2"], labels: Sequence[str], drawings: Sequence
    ) -> None:
        """More dots; one that would lie off the page lies at its edge."""
        edge = np.array([WIDTH, self._height]) - MARGIN / 2
        places = np.clip(self.to_page(points), MARGIN / 2, edge).tolist()
        with self.hold_sync():
            self.labels, self.places = [*self.labels, *labels], [*self.places, *places]
            self.outlines = [*self.outlines, *map(outline, drawings)]
            self.picture = self._draw()

    def to_page(self, points: Float[np.ndarray, "K 2"]) -> list[list[float]]:
        """Positions of `points` on the page, px."""
        return np.round((points - self._centre) * self._scale + self._middle, 1).tolist()

    def from_page(self, place: Sequence[float]) -> Float[np.ndarray, "2"]:
        """The point at a place on the page."""
        return (np.array(place) - self._middle) / self._scale + self._centre

    def to_html(self) -> str:
        """The map."""
        return self.picture

    def _draw(self) -> str:
        """The map as SVG, with a symbol, a colour and a name for each word, and a legend below."""
        marks, names, legend = [], [], []
        colors = word_colors([label for label in self.labels if label != OWN])
        signs = {word: SYMBOLS[i % len(SYMBOLS)] for i, word in enumerate(colors)}
        taken: list[tuple[float, float]] = []
        for word, color in (colors | {OWN: "currentColor"}).items():
            each = zip(self.places, self.labels, strict=True)
            if not (own := [place for place, label in each if label == word]):
                continue
            mark = f'<path d="{signs.get(word, STAR)}" fill="{color}"'
            marks += [f'{mark} transform="translate({x} {y})"/>' for x, y in own]
            x, y = np.median(own, axis=0) - (0, 18 * (word == OWN))
            while any(abs(x - a) < 80 and abs(y - b) < 18 for a, b in taken):
                y += 18 if y < self._height - 2 * MARGIN else -self._height / 2  # labels stay apart
            taken.append((x, y))
            names.append(f'<text x="{x:.0f}" y="{y + 5:.0f}" fill="{color}">{escape(word)}</text>')
            sign = f'<svg width="20" height="20" viewBox="-10 -10 20 20">{mark}/></svg>'
            legend.append(f'<span style="display:flex;gap:2px">{sign}{escape(word)}</span>')
        return (
            f'<div style="font:14px sans-serif"><svg xmlns="http://www.w3.org/2000/svg" role="img" '
            f'viewBox="0 0 {WIDTH} {self._height}" style="width:100%;max-width:{2 * WIDTH}px">'
            f"<title>Drawings in the latent space</title>"
            f'<g opacity="0.75">{"".join(marks)}</g><g font-size="15" font-weight="bold" '
            f'text-anchor="middle" stroke="var(--doodle-paper, #fff)" '
            f'stroke-width="4" paint-order="stroke" stroke-linejoin="round" pointer-events="none">'
            f'{"".join(names)}</g></svg><div class="doodle-legend" style="display:flex;'
            f'flex-wrap:wrap;align-items:center;gap:2px 12px">{"".join(legend)}</div></div>'
        )


def outline(drawing: Sequence) -> str:
    """Path data of a drawing in the 255 px box."""
    return "".join(paths(to_box(drawing), digits=0))


class LatentMap(Stage):
    """Drawings in the plane of the two directions in which their latents vary most (PCA).

    Pointing at a dot (or going to it with the arrow keys) shows its drawing, pointing between dots
    what the model draws there; choosing two draws the arc between their latents on the map, and
    doodles along it in a player.

    `labels` are the words of the drawings, of which there are at least two. Where the model knows
    the words of both ends, the decoder is conditioned on the nearer one. There are `steps` doodles
    along an arc; `options` are more arguments of `latent.decode_path`. With a `pad`, a button puts
    its drawing on the map.

    Raises:
        ValueError: Too few drawings, or another number of labels.
    """

    def __init__(
        self,
        vae: SketchVAE,
        drawings: Sequence,
        labels: Sequence[str],
        *,
        steps: int = 21,
        pad: Any = None,
        **options: Any,
    ) -> None:
        from sklearn.decomposition import PCA

        if len(labels) != len(drawings):
            raise ValueError(f"{len(labels)} labels for {len(drawings)} drawings")
        self._vae, self._steps, self._options, self._pad = vae, steps, options, pad
        self._z, self._words = vae.encode(drawings), list(labels)
        self._plane = PCA(2, svd_solver="full").fit(self._z.numpy(force=True))
        self.dots, self.message = Dots(self._project(self._z), labels, drawings), Message()
        other = next((i for i, label in enumerate(labels) if label != labels[0]), 1)
        self.dots.chosen, self.dots.has_own = [0, other], pad is not None
        self.player = Player(**self._between(), size=240, autoplay=False)
        super().__init__([self.dots, self.player, self.message], beside=True)
        self.dots.observe(self._choose, "chosen")
        self.dots.observe(self._visit, "cursor")
        self.dots.observe(self._ask, "asked")

    def add(self, drawing: Sequence) -> None:
        """Put a drawing of your own on the map, and choose it: a second dot shows the way there."""
        z = self._vae.encode([drawing])
        self._words.append(self._word_at(z))
        self._z = torch.cat([self._z, z])
        self.dots.add(self._project(z), [OWN], [drawing])
        self.dots.chosen = [len(self._z) - 1]
        self.message.say(f"Your drawing is the star; its nearest neighbour is: {self._words[-1]}")

    def _ask(self, _change: object) -> None:
        with self.message.errors_shown():
            self.add(self._pad.drawing)

    def _project(self, z: Float[Tensor, "N Z"]) -> Float[np.ndarray, "N 2"]:
        return self._plane.transform(z.numpy(force=True))

    def _word_at(self, z: Float[Tensor, "1 Z"]) -> str:
        """The word of the drawing with the nearest latent."""
        return self._words[int((self._z - z).norm(dim=1).argmin())]

    def _path(self, a: Tensor, b: Tensor, words: Sequence[str], *, steps: int) -> list[Drawing]:
        """Doodles along an arc, conditioned on the words where the model knows both."""
        given = words if {*words} <= {*_words(self._vae)} else (None, None)
        return latent.decode_path(self._vae, a, b, steps=steps, words=given, **self._options)

    def _choose(self, _change: object) -> None:
        if len(self.dots.chosen) != 2:
            self.dots.path = []
            return
        with self.message.errors_shown():
            self.player.show(**self._between())

    def _visit(self, change: dict[str, Any]) -> None:
        """Draw what lies at the cursor, and play it if it was clicked at."""
        x, y, is_played = change["new"]
        with self.message.errors_shown():
            point = self._plane.inverse_transform(self.dots.from_page([x, y])[None])
            z = torch.from_numpy(point).to(self._z)
            word = self._word_at(z)
            doodle = self._path(z[0], z[0], [word] * 2, steps=2)[0]
            self.dots.decoded = [x, y, outline(doodle), f"drawn here, near {word}"]
            if is_played:
                self.player.show([doodle], titles=[f"near {word}"], along="")

    def _between(self) -> dict[str, Any]:
        """Doodles between the two chosen drawings; the arc between these is put on the map."""
        ends, steps = self._z[self.dots.chosen], self._steps
        arc = latent.path(*ends, steps=steps)
        self.dots.path = self.dots.to_page(self._project(arc))
        drawings = self._path(
            *ends, [self._words[index] for index in self.dots.chosen], steps=steps
        )
        names = [self.dots.labels[index] for index in self.dots.chosen]
        return {"drawings": drawings, "along": f"From {names[0]} to {names[1]}"}
