"""A map of drawings in the latent space, to point at and to walk on."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import traitlets
from jaxtyping import Float
from torch import Tensor

from doodlelib.analysis import latent
from doodlelib.lab.controls import Message
from doodlelib.lab.player import STATIC, Pictured, Player, Stage
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import Drawing, to_box
from doodlelib.viz.plots import PALETTE, separate_labels

WIDTH, HEIGHT, MARGIN = 620, 420, 24  # px
INNER = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
SHAPES = (  # a second sign beside the colour, of which there are fewer than words
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.5-3.5h7v7h-7z",
    "M0-5l4.6 8h-9.2z",
    "M0-5l5 5l-5 5l-5-5z",
)


class Dots(Pictured):
    """The map itself: a dot a drawing, which shows it when pointed at, and can be chosen.

    Args:
        points: Where the dots are, in any unit; y runs up.
        labels: Of each.
        drawings: Of each.
    """

    _esm = STATIC / "latent_map.js"
    _css = STATIC / "doodles.css"

    picture = traitlets.Unicode().tag(sync=True)
    places = traitlets.List().tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    outlines = traitlets.List().tag(sync=True)
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)
    way = traitlets.List().tag(sync=True)

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
        """Where `points` are on the page, px."""
        moved = (points - self._centre) * self._scale * (1, -1)
        return np.round(moved + INNER / 2 + MARGIN, 1).tolist()

    def to_html(self) -> str:
        """The map."""
        return self.picture


class LatentMap(Stage):
    """Drawings in the plane of the two directions in which their latents vary most.

    Pointing at a dot (or going to it with the arrow keys) shows its drawing; choosing two draws
    the way between them, slerp in the latent space, on the map and as doodles.

    Args:
        vae: The model.
        drawings: At least 3.
        labels: The word of each; where the model knows both ends' words, the decoder is told the
            nearer one.
        steps: Doodles on the way.
        temperature: Low, so that what changes is z.
        time_temperature: Low for the same reason.
        seed: One for all.

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
        temperature: float = 0.1,
        time_temperature: float = 0.1,
        seed: int = 0,
    ) -> None:
        if len(labels) != len(drawings):
            raise ValueError(f"{len(labels)} labels for {len(drawings)} drawings")
        self._vae = vae
        self._settings: dict[str, Any] = {
            "steps": steps,
            "temperature": temperature,
            "time_temperature": time_temperature,
            "seed": seed,
        }
        self._z = vae.encode(drawings)
        points = latent.project(self._z, seed=seed)
        # the projection is affine, so its equation can be found from the points and used for others
        self._plane = np.linalg.lstsq(_with_one(self._z), points, rcond=None)[0]
        self.dots, self.message = Dots(points, labels, drawings), Message()
        other = next((i for i, label in enumerate(labels) if label != labels[0]), 1)
        self.dots.chosen = [0, other]
        self.player = Player(self._walk(), along=self._along(), size=240, autoplay=False)
        super().__init__([self.dots, self.message, self.player])
        self.dots.observe(self._choose, "chosen")

    def _choose(self, _change: object) -> None:
        if len(self.dots.chosen) != 2:
            self.dots.way = []
            return
        with self.message.errors_shown():
            self.player.show(self._walk(), along=self._along())

    def _along(self) -> str:
        start, end = (self.dots.labels[index] for index in self.dots.chosen)
        return f"From {start} to {end}"

    def _walk(self) -> list[Drawing]:
        """The doodles between the two that are chosen; their way is marked on the map."""
        start, end = self._z[self.dots.chosen]
        way = latent.path(start, end, steps=self._settings["steps"])
        self.dots.way = self.dots.to_page(_with_one(way) @ self._plane)
        words = [self.dots.labels[index] for index in self.dots.chosen]
        known = self._vae.words if self._vae.word_size else []
        told = (words[0], words[1]) if set(words) <= set(known) else (None, None)
        return draw_way(self._vae, start, end, words=told, **self._settings)


def draw_way(
    vae: SketchVAE,
    start: Float[Tensor, " Z"],
    end: Float[Tensor, " Z"],
    *,
    steps: int,
    words: tuple[str | None, str | None],
    temperature: float,
    time_temperature: float,
    seed: int,
) -> list[Drawing]:
    """A drawing of each of `steps` latents on the arc from `start` to `end`.

    Args:
        vae: The model.
        start: Latent.
        end: Latent.
        steps: 2 or more.
        words: Of both ends; the decoder is told the nearer one. Nothing, if one is None.
        temperature: See `SketchVAE.decode`, as for the rest.
        time_temperature: See there.
        seed: See there.

    Raises:
        ValueError: See `latent.path` and `SketchVAE.decode`.
    """
    near = [words[0] if step < steps / 2 else words[1] for step in range(steps)]
    told = [word for word in near if word is not None]
    return vae.decode(
        latent.path(start, end, steps=steps),
        word=told if len(told) == steps else None,
        temperature=temperature,
        time_temperature=time_temperature,
        seed=seed,
    )


def _with_one(z: Float[Tensor, "N Z"]) -> Float[np.ndarray, "N Z+1"]:
    values = z.numpy(force=True).astype(np.float64)
    return np.column_stack([values, np.ones(len(values))])


def _outline(drawing: Sequence) -> str:
    """Path data of a drawing in the box, to the pixel."""
    data = ""
    for x, y, *_ in to_box(drawing):
        points = [f"{round(a)} {round(b)}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        data += f"M{'L'.join(points)}" + ("z" if len(points) == 1 else "")
    return data


def _picture(places: list[list[float]], labels: Sequence[str]) -> str:
    """The map as SVG: a shape and a colour for each word, its name near the median of its dots."""
    words = sorted(set(labels))
    dots, medians = [], []
    for number, word in enumerate(words):
        own = [place for place, label in zip(places, labels, strict=True) if label == word]
        color = PALETTE[number % len(PALETTE)]
        shape = SHAPES[number // len(PALETTE) % len(SHAPES)]
        dots += [
            f'<path d="{shape}" transform="translate({x} {y})" fill="{color}"/>' for x, y in own
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
