"""The embedded sample: drawings of ten words that a program makes, without a download.

**No person drew them.** What the sample shows of people is what was built in:

- geometry: shapes of our own by a grammar (`Hand`, ``sample_shapes.json``), each drawn in its own
  order, size, slant and direction, with a hand's misses and slow drift;
- speed within a stroke: a train of log-normal pulses along the path (Plamondon 1995), slower where
  the path bends (a power law of curvature: Lacquaniti, Terzuolo & Viviani 1983);
- a stroke's time grows with its length to the power 0.73, a pause's with the distance that the pen
  travels in the air to the power 0.3, both with log-normal scatter;
- a person's tempo scales all times of a drawing, another factor all its pauses;
- medians of drawing and pause time of each word: those that Google published for that word;
- a device's clock (8 or 16.7 ms, with missed looks and jitter) and its pixels round the outcome.

So a model that finds these laws in the sample has found what this file says, not how people draw.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

from doodlelib.data.sample_shapes import Hand, Points
from doodlelib.strokes import Drawing, Record


@dataclass(frozen=True)
class Pace:
    """How long one word's strokes and pauses take.

    Attributes:
        stroke_ms: What a straight stroke as long as the drawing takes, in the median.
        pause_ms: What a pause takes whose gap is as long as the drawing, in the median.
    """

    stroke_ms: int
    pause_ms: int


# Set so that the medians of a drawing's pen-down and pen-up time come out at those that Google's
# statistics of 46 million recognised drawings give; a star has no pause in the median.
WORDS = {
    "cat": Pace(520, 530),
    "dog": Pace(690, 620),
    "car": Pace(710, 590),
    "tree": Pace(670, 670),
    "house": Pace(540, 610),
    "flower": Pace(640, 640),
    "fish": Pace(660, 580),
    "star": Pace(660, 600),
    "apple": Pace(730, 830),
    "face": Pace(480, 640),
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


@dataclass(frozen=True)
class Device:
    """What the drawing is made on.

    Attributes:
        size: Larger side of the drawing, px.
        fractional: Whether positions carry a fraction of a pixel.
        period: Milliseconds between two looks at the pen.
        busy: Share of looks that the browser misses.
    """

    size: float
    fractional: bool
    period: float
    busy: float


def make_drawings(word: str, n: int, seed: int = 0) -> list[Record]:
    """`n` drawings of `word` as the raw files have them: px, whole ms from the first touch.

    Drawing i depends on `word`, `seed` and i alone, so asking for more keeps those one has.

    Args:
        word: One of `WORDS`.
        n: How many.
        seed: Another seed gives other drawings and other key_ids.

    Raises:
        ValueError: `word` is not in the sample, or `n` is negative.

    Source: speed as a sum of log-normals: Plamondon 1995, "A kinematic theory of rapid human
        movements"; here the sum runs along the path, not as vectors. Speed against curvature:
        Lacquaniti, Terzuolo & Viviani 1983, with an exponent at which the recorded drawings show
        what real ones do (median -0.39) in place of -1/3.
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
    device = Device(
        size=float(np.clip(rng.lognormal(5.87, 0.45), 174, 825)),  # median 354, as real boxes
        fractional=rng.random() < 0.25,
        period=16.7 if rng.random() < 0.75 else 8.0,
        busy=rng.uniform(0.05, 0.55),
    )
    while (drawing := _draw(paths, WORDS[word], device, rng))[-1][2][-1] > GAME_MS:
        pass  # who was too slow tries again
    return Record(word, key_id, True, drawing)


def _arrange(hand: Hand, paths: list[Points]) -> list[Points]:
    """The paths in this person's order, directions, proportions and slant, in a box of side 1."""
    rng = hand.rng
    for index in range(1, len(paths) - 1):  # the first part stays first
        if hand.chance(0.12):
            paths[index], paths[index + 1] = paths[index + 1], paths[index]
    paths = [path[::-1] if hand.chance(0.1) else path for path in paths]
    points = np.concatenate(paths) / 100
    stretch = np.array([(-1 if hand.chance(0.3) else 1) * hand.vary(1.0, 0.1), 1.0])
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


def _draw(paths: list[Points], pace: Pace, device: Device, rng: np.random.Generator) -> Drawing:
    """The strokes as the device reports them, t running on through the pauses."""
    tempo, hesitance = np.exp(rng.multivariate_normal([0, 0], [[0.14, 0.06], [0.06, 0.14]]))
    exponent = rng.normal(0.55, 0.1)  # recorded and smoothed, it comes out near 0.39
    origin = rng.uniform(10, 120, 2)
    drawing: Drawing = []
    clock = 0.0
    for index, path in enumerate(paths):
        if index:
            gap = max(0.01, float(np.hypot(*(path[0] - paths[index - 1][-1]))))
            clock += pace.pause_ms * hesitance * gap**GAP_EXPONENT * rng.lognormal(0, 0.6)
        positions, times = _trace(path, pace.stroke_ms * tempo, exponent, device, rng)
        pixels = origin + device.size * positions
        whole = np.rint(pixels)
        seen = np.concatenate([[True], (np.diff(whole, axis=0) != 0).any(axis=1)])
        x, y = (np.round(pixels, 2) if device.fractional else whole)[seen].T
        drawing.append([x, y, np.rint(clock + times[seen])])
        clock += times[-1]
    return drawing


def _trace(
    path: Points, pace: float, exponent: float, device: Device, rng: np.random.Generator
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

    looks = np.arange(0, max(duration - JITTER_MS, 1), device.period)
    looks = looks[(rng.random(looks.size) > device.busy) | (looks == 0)]
    looks[1:] += rng.uniform(-JITTER_MS, JITTER_MS, looks.size - 1)
    times = np.append(looks, duration)
    since = np.maximum(times - onsets[:, None], 1e-3) / widths[:, None]
    done = shares @ ndtr(np.log(since) / PULSE_SIGMA)
    done *= effort[-1] / done[-1]
    positions = np.column_stack([np.interp(done, effort, axis) for axis in path.T])
    return positions, times
