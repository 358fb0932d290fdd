"""The embedded sample: drawings of ten words that a program makes, without a download.

**No person drew them.** `SAMPLE_NOTE` says which laws were built in; a model that finds these in
the sample has found what this file says, not how people draw. Sources: Plamondon 1995 for trains of
log-normal pulses (there summed as vectors), Lacquaniti, Terzuolo & Viviani 1983 for the power law
of curvature, Google's statistics for the medians of each word.

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
No drawing of a data set is copied.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

from doodlelib.strokes import Drawing, Record

Points = Float64[np.ndarray, "_ 2"]
Grammar = dict[str, list[dict[str, float]]]

# ms that a straight stroke as long as the drawing takes, and a pause whose gap is as long, in the
# median: so set that the medians of a drawing's pen-down and pen-up time come out at those of
# Google's statistics of 46 million recognised drawings; a star has no pause in the median.
WORDS = {
    "cat": (520, 530),
    "dog": (690, 620),
    "car": (710, 590),
    "tree": (670, 670),
    "house": (540, 610),
    "flower": (640, 640),
    "fish": (660, 580),
    "star": (660, 600),
    "apple": (730, 830),
    "face": (480, 640),
}
SAMPLE_NOTE = (
    "These drawings are a sample that a program made; no person drew them. Built in are: shapes of "
    "a grammar; speed as a train of log-normal pulses, slower where the path bends (power law of "
    "curvature); stroke times that grow with length^0.73 and pauses with distance^0.3, with "
    "log-normal scatter; a tempo for each drawing; and each word's median times as published. "
    "What the sample shows of people is what was built in (doodlelib/data/sample.py)."
)
GAME_MS = 20_000  # after which the game stops
SPACING = 0.01  # of a path's points once it is smoothed, in drawings
STRAIGHT = 1.0  # 1/drawing: below this curvature a path counts as straight
LENGTH_EXPONENT = 0.73  # of a stroke's time in its length; real drawings: 0.70 to 0.74
GAP_EXPONENT = 0.3  # of a pause's time in its gap; real drawings: 0.23 to 0.26, stop to touch
PULSE_MS = 160.0  # one submovement
PULSE_SIGMA = 0.35  # of a pulse's log-normal
JITTER_MS = 3.0  # of the device's clock, at most; under half of its shortest period

_STEPS = np.linspace(0, 1, 8)
_CATMULL_ROM = 0.5 * np.array([[0, -1, 2, -1], [2, 0, -5, 3], [0, 1, 4, -3], [0, 0, -1, 1]])
_SPLINE = _CATMULL_ROM @ np.stack([_STEPS**0, _STEPS, _STEPS**2, _STEPS**3])  # (knots, steps)


@cache
def grammar() -> Grammar:
    """The shapes, by name."""
    return json.loads(Path(__file__).with_name("sample_shapes.json").read_text(encoding="utf-8"))


@cache
def _parse(piece: str) -> tuple[str, Points]:
    """The kind of a piece and its pairs of numbers, (n, 2)."""
    kind, *pairs = piece.split()
    return kind, np.array([[float(number) for number in pair.split(",")] for pair in pairs])


@dataclass(frozen=True)
class Hand:
    """A random source with one person's habits; what it draws is in hundredths of a drawing."""

    rng: np.random.Generator
    slop: float  # standard deviation of how far a point lands from where it was meant, in drawings
    turn: int  # 1 where the person draws circles clockwise, -1 where not

    def vary(self, value: float, log_std: float) -> float:
        """`value` times a log-normal factor with median 1."""
        return value * float(np.exp(log_std * self.rng.standard_normal()))

    def compose(self, name: str) -> list[Points]:
        """One drawing of an entry of the grammar: a path a stroke."""
        return [
            path
            for step in grammar()[name]
            for stroke in self._pick(step).split(";")
            for path in (self.strokes(stroke.strip()) if stroke else ())
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


def make_drawings(word: str, n: int, seed: int = 0) -> list[Record]:
    """`n` drawings of `word` as the raw files have them: px, whole ms from the first touch.

    Drawing i depends on `word`, `seed` and i alone, so asking for more keeps those one has.
    ValueError: `word` is not one of `WORDS`, or `n` is negative.
    """
    if word not in WORDS:
        raise ValueError(f"no sample of {word!r}; there are {', '.join(WORDS)}")
    if n < 0:
        raise ValueError(f"n is {n}; 0 or more needed")
    return [_make_record(word, f"sample-{word}-{seed}-{index}") for index in range(n)]


def _make_record(word: str, key_id: str) -> Record:
    rng = np.random.default_rng(list(key_id.encode()))
    hand = Hand(rng, slop=0.018 * rng.lognormal(0, 0.45), turn=1 if rng.random() < 0.3 else -1)
    paths = _arrange(hand, hand.compose(word))
    size = float(np.clip(rng.lognormal(5.87, 0.45), 174, 825))  # px; median 354, as real boxes
    digits = 2 if rng.random() < 0.25 else 0  # of a position in px
    period = 16.7 if rng.random() < 0.75 else 8.0  # ms between two looks at the pen
    device = size, digits, period, rng.uniform(0.05, 0.55)  # share of looks that it misses
    while (drawing := _timed_strokes(paths, *WORDS[word], device, rng))[-1][2][-1] > GAME_MS:
        pass  # who was too slow tries again
    return Record(word, key_id, True, drawing)


def _arrange(hand: Hand, paths: list[Points]) -> list[Points]:
    """The paths in this person's order, directions, proportions and slant, in a box of side 1."""
    rng = hand.rng
    for index in range(1, len(paths) - 1):  # the first part stays first
        if rng.random() < 0.12:
            paths[index], paths[index + 1] = paths[index + 1], paths[index]
    paths = [path[::-1] if rng.random() < 0.1 else path for path in paths]
    points = np.concatenate(paths) / 100
    stretch = np.array([(-1 if rng.random() < 0.3 else 1) * hand.vary(1.0, 0.1), 1.0])
    waves = 2 * np.pi * (points @ rng.normal(0, 0.6, (2, 2)) + rng.random(2))
    points = (points + 0.05 * np.sin(waves)) * stretch  # one warp for all parts: they still meet
    tilt = np.radians(4 * rng.standard_normal())
    points = points @ np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    points = (points - points.min(axis=0)) / np.ptp(points, axis=0).max()
    ends = np.cumsum([len(path) for path in paths])
    return [_wobble(path, hand) for path in np.split(points, ends[:-1])]


def _wobble(path: Points, hand: Hand) -> Points:
    """The path with evenly spaced points, rounded corners and a hand's slow drift."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = np.linspace(0, length[-1], max(5, int(length[-1] / SPACING)))
    path = np.column_stack([np.interp(at, length, path[:, 0]), np.interp(at, length, path[:, 1])])
    padded = np.concatenate([path[:1], path, path[-1:]])
    path = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    waves = hand.rng.uniform(0, 2 * np.pi, (2, 3, 1))
    cycles = np.array([[0.9], [2.1], [4.7]])  # to one drawing's length
    drift = np.sin(2 * np.pi * cycles * at + waves) / cycles
    miss = hand.rng.standard_normal((2, 1))
    return path + hand.slop * min(1.0, length[-1]) * (miss + 0.6 * drift.sum(axis=1)).T


def _timed_strokes(
    paths: list[Points], stroke_ms: int, pause_ms: int, device: tuple, rng: np.random.Generator
) -> Drawing:
    """The strokes as the device reports them, t running on through the pauses."""
    size, digits, *looks = device
    tempo, hesitance = np.exp(rng.multivariate_normal([0, 0], [[0.14, 0.06], [0.06, 0.14]]))
    exponent = rng.normal(0.55, 0.1)  # recorded and smoothed, it comes out near 0.39
    origin = rng.uniform(10, 120, 2)
    drawing: Drawing = []
    clock = 0.0
    for index, path in enumerate(paths):
        if index:
            gap = max(0.01, float(np.hypot(*(path[0] - paths[index - 1][-1]))))
            clock += pause_ms * hesitance * gap**GAP_EXPONENT * rng.lognormal(0, 0.6)
        positions, times = _timed_path(path, stroke_ms * tempo, exponent, *looks, rng)
        pixels = origin + size * positions
        whole = np.rint(pixels)
        seen = np.concatenate([[True], (np.diff(whole, axis=0) != 0).any(axis=1)])
        x, y = np.round(pixels, digits)[seen].T
        drawing.append([x, y, np.rint(clock + times[seen])])
        clock += times[-1]
    return drawing


def _timed_path(
    path: Points, pace: float, exponent: float, period: float, busy: float, rng: np.random.Generator
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, " n"]]:
    """Where the pen is each time the device looks, and when (ms from the touch).

    Effort is length, stretched where the path bends: equal efforts take equal times. The pulses
    share out the whole effort; each has its own time and strength.
    """
    step = np.diff(path, axis=0)
    length = np.hypot(*step.T) + 1e-9
    heading = np.arctan2(step[:, 1], step[:, 0])
    turn = np.abs((np.diff(heading, prepend=heading[0]) + np.pi) % (2 * np.pi) - np.pi)
    bend = np.hypot(1, turn / length / STRAIGHT) ** exponent
    effort = np.concatenate([[0.0], np.cumsum(bend * length)])

    duration = pace * effort[-1] ** LENGTH_EXPONENT * rng.lognormal(0, 0.37)
    widths = rng.lognormal(0, 0.65, max(1, round(duration / PULSE_MS)))
    shares = widths * rng.lognormal(0, 0.5, widths.size)
    widths *= duration / (widths.sum() + widths[-1] * (np.exp(2 * PULSE_SIGMA) - 1))
    onsets = np.cumsum(widths) - widths

    looks = np.arange(0, max(duration - JITTER_MS, 1), period)
    looks = looks[(rng.random(looks.size) > busy) | (looks == 0)]
    looks[1:] += rng.uniform(-JITTER_MS, JITTER_MS, looks.size - 1)
    times = np.append(looks, duration)
    since = np.maximum(times - onsets[:, None], 1e-3) / widths[:, None]
    done = shares @ ndtr(np.log(since) / PULSE_SIGMA)
    done *= effort[-1] / done[-1]
    positions = np.column_stack([np.interp(done, effort, axis) for axis in path.T])
    return positions, times
