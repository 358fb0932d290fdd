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
from doodlelib.lab.player import STATIC, Pictured, Player, Stage
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import Drawing, to_box
from doodlelib.viz.plots import PALETTE, separate_labels

MAX_DOODLES = 24  # at once
WIDTH, HEIGHT, MARGIN = 620, 420, 24  # px of the map
INNER = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
SYMBOLS = (  # beside the colours, of which there are fewer than words
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.5-3.5h7v7h-7z",
    "M0-5l4.6 8h-9.2z",
    "M0-5l5 5l-5 5l-5-5z",
)
End = Float[Tensor, " Z"] | str | Sequence


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

    All settings share the seed, so that what changes is what was moved.

    Args:
        vae: The model.
        n: Doodles at first, 1 to 24; like the other arguments, the value that its control shows.
        word: One that the model knows; None: unconditional.
        temperature: Of geometry and pen, 0 to 1.5.
        time_temperature: Of the times, 0 to 1.5.
        seed: 0 or more.

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

    def doodles(*, word: str, **chosen: Any) -> list:
        return vae.generate(word=word or None, **chosen)

    player, message = Player(doodles(**controls.values)), Message()

    def update(_change: object) -> None:
        with message.errors_shown():
            player.show(doodles(**controls.values))

    controls.observe(update, "values")
    return Stage([controls, message, player])


def interpolation_explorer(
    vae: SketchVAE,
    start: End,
    end: End,
    *,
    steps: int = 21,
    word: str | Sequence[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> Player:
    """A slider along the arc between two latents, whose doodles are all drawn beforehand.

    Args:
        vae: The model.
        start: The left end: a latent, such as ``vae.encode([drawing])[0]``; a drawing; or a word,
            of which the model draws one.
        end: The right end.
        steps: Doodles along the arc.
        word: Condition of the decoder, or one word for each end, of which the nearer counts. None:
            the ends themselves where both are words, else unconditional.
        seed: Of the ends that are words, and of all doodles.
        options: More arguments of `latent.decode_path`.

    Raises:
        ValueError: As `latent.decode_path`.
    """
    given = [word, word] if word is None or isinstance(word, str) else list(word)
    ends = (start, end)
    left, right = (
        one or (place if isinstance(place, str) else None)
        for one, place in zip(given, ends, strict=True)
    )
    drawings = latent.decode_path(
        vae,
        *(_latent(vae, place, seed=seed) for place in ends),
        steps=steps,
        words=(left, right),
        seed=seed,
        **options,
    )
    along = f"From {left or 'start'} to {right or 'end'}"
    return Player(drawings, along=along, size=280, autoplay=False)


def _latent(vae: SketchVAE, place: End, *, seed: int) -> Float[Tensor, " Z"]:
    if isinstance(place, Tensor):
        return place
    drawings = vae.generate(1, word=place, seed=seed) if isinstance(place, str) else [place]
    return vae.encode(drawings)[0]


class Dots(Pictured):
    """The map itself: a dot for each drawing, which shows it when pointed at, and can be chosen.

    Args:
        points: Positions of the dots, in any unit; y upwards.
        labels: Word of each.
        drawings: One for each.
    """

    _esm = STATIC / "latent_map.js"
    _css = STATIC / "doodles.css"

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
        super().__init__(
            picture=_picture(places, labels),
            places=places,
            labels=list(labels),
            outlines=[_outline(drawing) for drawing in drawings],
        )

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

    Args:
        vae: The model.
        drawings: At least 3.
        labels: Word of each. Where the model knows the words of both ends, the decoder is
            conditioned on the nearer one.
        steps: Doodles along the arc.
        options: More arguments of `latent.decode_path`.

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
        if len(labels) != len(drawings):
            raise ValueError(f"{len(labels)} labels for {len(drawings)} drawings")
        self._vae, self._steps, self._options = vae, steps, options
        self._z = vae.encode(drawings)
        points = latent.project(self._z)
        # the projection is affine, so its equation can be found from the points and used for others
        self._plane = np.linalg.lstsq(_with_one(self._z), points, rcond=None)[0]
        self.dots, self.message = Dots(points, labels, drawings), Message()
        other = next((i for i, label in enumerate(labels) if label != labels[0]), 1)
        self.dots.chosen = [0, other]
        self.player = Player(self._decode(), along=self._along(), size=240, autoplay=False)
        super().__init__([self.dots, self.message, self.player])
        self.dots.observe(self._choose, "chosen")

    def _choose(self, _change: object) -> None:
        if len(self.dots.chosen) != 2:
            self.dots.path = []
            return
        with self.message.errors_shown():
            self.player.show(self._decode(), along=self._along())

    def _along(self) -> str:
        start, end = (self.dots.labels[index] for index in self.dots.chosen)
        return f"From {start} to {end}"

    def _decode(self) -> list[Drawing]:
        """Doodles between the two chosen drawings; the arc between these is put on the map."""
        start, end = self._z[self.dots.chosen]
        arc = latent.path(start, end, steps=self._steps)
        self.dots.path = self.dots.to_page(_with_one(arc) @ self._plane)
        left, right = (self.dots.labels[index] for index in self.dots.chosen)
        known = {left, right} <= set(self._vae.word_or_none(self._vae.words) or [])
        words = (left, right) if known else (None, None)
        return latent.decode_path(
            self._vae, start, end, steps=self._steps, words=words, **self._options
        )


def _with_one(z: Float[Tensor, "N Z"]) -> Float[np.ndarray, "N Z+1"]:
    values = z.numpy(force=True).astype(np.float64)
    return np.column_stack([values, np.ones(len(values))])


def _outline(drawing: Sequence) -> str:
    """SVG path data of a drawing, normalised to 255 px and rounded to 1 px."""
    data = ""
    for x, y, *_ in to_box(drawing):
        points = [f"{round(a)} {round(b)}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        data += f"M{'L'.join(points)}" + ("z" if len(points) == 1 else "")
    return data


def _picture(places: list[list[float]], labels: Sequence[str]) -> str:
    """The map as SVG: a symbol and a colour for each word, its name near the median of its dots."""
    words = sorted(set(labels))
    dots, medians = [], []
    for index, word in enumerate(words):
        own = [place for place, label in zip(places, labels, strict=True) if label == word]
        color = PALETTE[index % len(PALETTE)]
        symbol = SYMBOLS[index // len(PALETTE) % len(SYMBOLS)]
        dots += [
            f'<path d="{symbol}" transform="translate({x} {y})" fill="{color}"/>' for x, y in own
        ]
        medians.append(np.median(own, axis=0))
    spots = separate_labels(np.array(medians), words, height=16)
    names = [
        f'<text x="{x:.0f}" y="{y:.0f}">{escape(word)}</text>'
        for word, (x, y) in zip(words, spots, strict=True)
    ]
    text = 'text-anchor="middle" font-weight="bold" font-family="sans-serif" font-size="14"'
    halo = 'fill="#22223b" stroke="#fff" stroke-width="4" paint-order="stroke"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'role="img" style="max-width:100%"><title>Drawings in the latent space</title>'
        f'<g opacity="0.75">{"".join(dots)}</g><g {text} {halo}>{"".join(names)}</g></svg>'
    )
