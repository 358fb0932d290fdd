"""What the sample's drawings look like: a shape grammar, and the hand that draws it.

``sample_shapes.json`` maps a name to steps, in the order of drawing. A step maps what may be drawn
to how likely it is; what lacks to 1 is the chance that the step is left out. What may be drawn is
strokes, parted by ``;``, and a stroke is pieces, joined by ``+`` where the pen stays down:

- ``line x,y x,y …`` straight lines; ``curve x,y x,y …`` a smooth line through the points
- ``loop center radii [start,0] [bumps,depth]`` once round, not quite closed or a bit too far
- ``arc center radii start,sweep [bumps,depth]`` part of an ellipse; bumps stand out of a whole turn
- ``curls center radii`` small circles strung round an ellipse; ``dot center`` a touch
- ``both`` before a stroke: drawn, then drawn again mirrored, right and left
- ``@name`` another entry of the file; ``@name center size`` about there, about that size

Coordinates are hundredths of a drawing, y down; angles are degrees, clockwise from three o'clock.
The shapes are our own; no drawing of a data set is copied.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64

Points = Float64[np.ndarray, "_ 2"]
Grammar = dict[str, list[dict[str, float]]]

_STEPS = np.linspace(0, 1, 8)
_CATMULL_ROM = 0.5 * np.array([[0, -1, 2, -1], [2, 0, -5, 3], [0, 1, 4, -3], [0, 0, -1, 1]])
_SPLINE = _CATMULL_ROM @ np.stack([_STEPS**0, _STEPS, _STEPS**2, _STEPS**3])  # (knots, steps)


@cache
def grammar() -> Grammar:
    """The shapes, by name."""
    return json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))


@cache
def _parse(piece: str) -> tuple[str, Points]:
    """The kind of a piece and its pairs of numbers, (n, 2)."""
    kind, *pairs = piece.split()
    return kind, np.array([[float(number) for number in pair.split(",")] for pair in pairs])


@dataclass(frozen=True)
class Hand:
    """A random source with one person's habits; what it draws is in hundredths of a drawing.

    Attributes:
        rng: Where every choice comes from.
        slop: How far a point lands from where it was meant, standard deviation in drawings.
        turn: 1 where the person draws circles clockwise, -1 where not.
    """

    rng: np.random.Generator
    slop: float
    turn: int

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < probability)

    def vary(self, value: float, spread: float) -> float:
        """`value` times a log-normal factor about 1."""
        return value * float(np.exp(spread * self.rng.standard_normal()))

    def compose(self, name: str) -> list[Points]:
        """One drawing of an entry of the grammar: a path a stroke."""
        return [
            path
            for step in grammar()[name]
            for stroke in self._pick(step).split(";")
            if stroke
            for path in self.strokes(stroke.strip())
        ]

    def _pick(self, step: dict[str, float]) -> str:
        threshold = self.rng.random()
        for choice, probability in step.items():
            threshold -= probability
            if threshold < 0:
                return choice
        return ""

    def strokes(self, stroke: str) -> list[Points]:
        """The paths of one stroke of the grammar: one, or two with ``both``, or an entry's."""
        if stroke.startswith("@"):
            name, *place = stroke[1:].split()
            paths = self.compose(name)
            if not place:
                return paths
            center = self._near(_parse(f"at {place[0]}")[1], 100.0)
            scale = self.vary(float(place[1]) / 100, 0.08)
            return [center + scale * path for path in paths]
        if stroke.startswith("both "):
            return [self._stroke(stroke[5:], side) for side in (-1, 1)]
        return [self._stroke(stroke, 1)]

    def _stroke(self, stroke: str, side: int) -> Points:
        pieces = [self._piece(*_parse(piece), side) for piece in stroke.split("+")]
        return np.concatenate(pieces) * (side, 1)

    def _piece(self, kind: str, pairs: Points, side: int) -> Points:
        if kind == "line":
            return self._near(pairs, float(np.ptp(pairs, axis=0).max()))
        if kind == "curve":
            return _spline(self._near(pairs, float(np.ptp(pairs, axis=0).max())))
        if kind == "dot":
            return pairs + self._ellipse(np.ones(2), -90.0, 30 + 700 * self.rng.random() ** 3)
        if kind == "curls":
            angle = np.radians(np.arange(0, 360, self.vary(11.0, 0.25)) - 90)[:, None]
            ring = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * pairs[1]
            curl = np.concatenate([np.cos(9 * angle), np.sin(9 * angle)], axis=1)
            return _spline(pairs[0] + self._near(ring + self.turn * 17 * curl, 60.0))
        (start, sweep), bumps = pairs[2] if len(pairs) > 2 else (-90.0, 0.0), pairs[3:]
        if kind == "loop":
            start = start + 25 * self.rng.standard_normal()
            sweep = side * self.turn * (365 + 12 * self.rng.standard_normal())
        return pairs[0] + self._ellipse(pairs[1], start, sweep, *bumps)

    def _near(self, points: Points, extent: float) -> Points:
        """The points as they are hit; small shapes are drawn with smaller errors."""
        error = 100 * self.slop * min(1.0, max(0.2, extent / 40))
        return points + error * self.rng.standard_normal(points.shape)

    def _ellipse(
        self,
        radii: Float64[np.ndarray, " 2"],
        start: float,
        sweep: float,
        bumps: Float64[np.ndarray, " 2"] | tuple[float, float] = (0.0, 0.0),
    ) -> Points:
        """Part of a dented ellipse about the origin, spiralling a little."""
        count = round(self.vary(bumps[0], 0.15))
        size = max(12, int(abs(sweep) / 10), int(abs(sweep) / 36 * count))
        progress = np.linspace(0, 1, size)
        angle = np.radians(start + sweep * progress)
        phase = self.rng.uniform(0, 2 * np.pi, 2)
        dent = self.rng.normal(0, 0.03, 2)
        radius = 1 + dent[0] * np.sin(2 * angle + phase[0]) + dent[1] * np.sin(3 * angle + phase[1])
        radius += 2 * self.slop * self.rng.standard_normal() * progress
        if count:
            uneven = angle + 0.5 / count * np.sin(2 * angle + phase[0])
            radius *= 1 + bumps[1] / 100 * (np.abs(np.sin(count / 2 * uneven + phase[1])) - 0.5)
        return np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None] * radii


def _spline(knots: Points) -> Points:
    """A smooth line through the knots (Catmull-Rom)."""
    knots = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    windows = np.lib.stride_tricks.sliding_window_view(knots, 4, axis=0)  # (pieces, xy, knots)
    return (windows @ _SPLINE).transpose(0, 2, 1).reshape(-1, 2)
