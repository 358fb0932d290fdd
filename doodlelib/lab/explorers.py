"""Widgets that explore what a VAE draws: by temperature, along a path of latents, on a map.

Doodles are drawn by the model when a control is let go, and shown by a player. Where that fails,
the message stands under the controls and the error is raised all the same.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import traitlets
from jaxtyping import Float
from torch import Tensor

from doodlelib.analysis import latent
from doodlelib.lab.controls import Controls, Message, choice, number, slider
from doodlelib.lab.player import Pictured, Player, Stage, module
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import Drawing, to_box
from doodlelib.viz.export import path_data
from doodlelib.viz.plots import PALETTE

MAX_DOODLES = 24  # at once
WIDTH, HEIGHT, MARGIN = 620, 420, 24  # px of the map
INNER = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
SYMBOLS = (  # beside the colours, of which there are fewer than words
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.5-3.5h7v7h-7z",
    "M0-5l4.6 8h-9.2z",
    "M0-5l5 5l-5 5l-5-5z",
)


def temperature_explorer(
    vae: SketchVAE,
    *,
    n: int = 9,
    word: str | None = None,
    temperature: float = 0.4,
    time_temperature: float = 1.0,
    seed: int = 0,
) -> Stage:
    """Doodles under sliders for both temperatures, the word, the number and the seed.

    The arguments are what the controls show at first: `n` from 1 to 24, a `word` that the model
    knows or None (unconditional), temperatures from 0 to 1.5. All settings share the seed, so that
    what changes is what was moved.

    Raises:
        ValueError: A value is out of its control's range, or the word is unknown.
    """
    known = vae.word_or_none(vae.words) or []
    controls = Controls(
        temperature=slider("Shape temperature", temperature, top=1.5, step=0.05),
        time_temperature=slider("Time temperature", time_temperature, top=1.5, step=0.05),
        word=choice("Word", word or "", options={"": "any", **{name: name for name in known}}),
        n=slider("Doodles", n, low=1, top=MAX_DOODLES, step=1),
        seed=number("Seed", seed, low=0, top=2**31 - 1),
    )

    def doodles() -> list[Drawing]:
        chosen: dict[str, Any] = {**controls.values}
        return vae.generate(word=chosen.pop("word") or None, **chosen)

    player, message = Player(doodles()), Message()

    def update(_change: object) -> None:
        with message.errors_shown():
            player.show(doodles())

    controls.observe(update, "values")
    return Stage([controls, message, player])


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

    def __init__(
        self, points: Float[np.ndarray, "N 2"], labels: Sequence[str], drawings: Sequence
    ) -> None:
        low, high = points.min(axis=0), points.max(axis=0)
        self._centre = (low + high) / 2
        self._scale = (INNER / (high - low).clip(1e-9)).min()
        places = self.to_page(points)
        outlines = [
            "".join(path_data(stroke, digits=0) for stroke in to_box(drawing))
            for drawing in drawings
        ]
        picture, labels = _picture(places, labels), list(labels)
        super().__init__(picture=picture, places=places, labels=labels, outlines=outlines)

    def to_page(self, points: Float[np.ndarray, "K 2"]) -> list[list[float]]:
        """Positions of `points` on the page, px."""
        moved = (points - self._centre) * self._scale * (1, -1)
        return np.round(moved + INNER / 2 + MARGIN, 1).tolist()

    def to_html(self) -> str:
        """The map."""
        return self.picture


class LatentMap(Stage):
    """Drawings in the plane of the two directions in which their latents vary most (PCA).

    Pointing at a dot (or going to it with the arrow keys) shows its drawing; choosing two draws
    the arc between their latents on the map, and doodles along it in a player.

    `labels` are the words of the drawings, of which there are at least two. Where the model knows
    the words of both ends, the decoder is conditioned on the nearer one. There are `steps` doodles
    along an arc; `options` are more arguments of `latent.decode_path`.

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
        **options: Any,
    ) -> None:
        from sklearn.decomposition import PCA

        if len(labels) != len(drawings):
            raise ValueError(f"{len(labels)} labels for {len(drawings)} drawings")
        self._vae, self._options = vae, {"steps": steps, **options}
        self._z = vae.encode(drawings)
        self._plane = PCA(2, svd_solver="full").fit(self._z.numpy(force=True))
        self.dots, self.message = Dots(self._project(self._z), labels, drawings), Message()
        other = next((i for i, label in enumerate(labels) if label != labels[0]), 1)
        self.dots.chosen = [0, other]
        self.player = Player(**self._decode(), size=240, autoplay=False)
        super().__init__([self.dots, self.message, self.player])
        self.dots.observe(self._choose, "chosen")

    def _project(self, z: Float[Tensor, "N Z"]) -> Float[np.ndarray, "N 2"]:
        return self._plane.transform(z.numpy(force=True))

    def _choose(self, _change: object) -> None:
        if len(self.dots.chosen) != 2:
            self.dots.path = []
            return
        with self.message.errors_shown():
            self.player.show(**self._decode())

    def _decode(self) -> dict[str, Any]:
        """Doodles between the two chosen drawings; the arc between these is put on the map."""
        ends = self._z[self.dots.chosen]
        arc = latent.path(*ends, steps=self._options["steps"])
        self.dots.path = self.dots.to_page(self._project(arc))
        words = [self.dots.labels[index] for index in self.dots.chosen]
        known = set(words) <= set(self._vae.word_or_none(self._vae.words) or [])
        given = words if known else (None, None)
        drawings = latent.decode_path(self._vae, *ends, words=given, **self._options)
        return {"drawings": drawings, "along": f"From {words[0]} to {words[1]}"}


def _picture(places: list[list[float]], labels: Sequence[str]) -> str:
    """The map as SVG: a symbol and a colour for each word, and a legend on the right."""
    words, marks, names = sorted(set(labels)), [], []
    for index, word in enumerate(words):
        own = [place for place, label in zip(places, labels, strict=True) if label == word]
        color = PALETTE[index % len(PALETTE)]
        symbol = SYMBOLS[index // len(PALETTE) % len(SYMBOLS)]
        line = MARGIN + 20 * index
        for x, y in [*own, (WIDTH + 8, line)]:
            marks.append(f'<path d="{symbol}" transform="translate({x} {y})" fill="{color}"/>')
        names.append(f'<text x="{WIDTH + 20}" y="{line + 5}">{escape(word)}</text>')
    width, height = WIDTH + 120, max(HEIGHT, 20 * len(words) + MARGIN)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'role="img" style="max-width:100%"><title>Drawings in the latent space</title>'
        f'<g opacity="0.75">{"".join(marks)}</g>'
        f'<g font-family="sans-serif" font-size="14" fill="#888">{"".join(names)}</g></svg>'
    )
