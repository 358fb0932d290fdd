"""The formats of a drawing: strokes, stroke-4, stroke-6. The only file that knows column numbers.

A *drawing* is a list of strokes ``[x, y, t]`` (pixels, pixels, ms since the first touch) or
``[x, y]`` (untimed). Timed and untimed strokes do not mix within a drawing.

*stroke-4* is one row a point, ``dx, dy, dt, p``: the move to that point from the one before. p = 1:
the pen was down, and dt is the time of a *segment*. p = 0: it was up, and dt is a *pause*. Row 0 is
``0 0 0 1``. So each p = 0 row starts a stroke, each p = 1 row continues it, and a stroke of one
point survives. Untimed drawings carry NaN in dt, in every row.

*stroke-6* is what the models read, ``dx, dy, dt, p1, p2, p3``: p is one-hot (pen down, pen up,
end), a start row comes first and an end row last, dx and dy are divided by the scale, and dt is the
standardised log of the time, segments and pauses apart.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from jaxtyping import Bool, Float, Float64, Int64

Drawing = list[list[np.ndarray]]

DX, DY, DT, PEN = 0, 1, 2, 3  # columns of stroke-4; the first three also of stroke-6
PEN_COLUMNS = slice(3, 6)  # of stroke-6, one-hot
PEN_DOWN, PEN_UP, END = 0, 1, 2  # the pen state: positions within the one-hot pen columns
BOX = 255.0  # px: the larger side of every drawing before simplification
MIN_DT = 1.0  # ms: the clock's resolution; the log needs a time above zero

MAX_POINTS = 10_000  # of a drawing in a file; the longest real one has a fifth of it
MAX_MAGNITUDE = 1e6  # px and ms: far over any screen; 17 minutes, where the game stops after 20 s
MIN_DURATION = 50.0  # ms; the shortest of 9,165 real drawings took 57
EMPTY = "under 1 stroke or 2 points"
TOO_LONG = f"over {MAX_POINTS} points"
TOO_LARGE = f"a number not finite or over {MAX_MAGNITUDE:g}"
CLOCK = "time runs back"
TOO_FAST = f"under {MIN_DURATION:g} ms in all or 1 ms a point: t counts ms, not s"


@dataclass(frozen=True)
class Scale:
    """Statistics of the training split, which turn pixels and ms into model units and back.

    Attributes:
        xy: Standard deviation of dx and dy, in pixels of the 255 box: one unit.
        segment_mean, segment_std: Of log(dt / ms) where the pen was down.
        pause_mean, pause_std: Of log(dt / ms) where the pen was up. Without any time, 0 and 1.
    """

    xy: float = 1.0
    segment_mean: float = 0.0
    segment_std: float = 1.0
    pause_mean: float = 0.0
    pause_std: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not np.isfinite(value):
                raise ValueError(f"scale: {name} must be a finite number, not {value}")
            if not (value > 0 or name.endswith("_mean")):
                raise ValueError(f"scale: {name} must be above 0, not {value}")

    @property
    def knows_time(self) -> bool:
        """Whether any drawing of the training split had times."""
        return Scale(xy=self.xy) != self


@dataclass(frozen=True)
class Record:
    """A drawing with what the data set says of it.

    Attributes:
        word: What the player was asked to draw.
        key_id: The drawing's id; the split hashes it, so it decides train, valid or test for ever.
        recognized: Whether the game guessed the word; None where that was not published.
        drawing: Strokes ``[x, y, t]`` or ``[x, y]``, px and ms.
    """

    word: str
    key_id: str
    recognized: bool | None
    drawing: Drawing
    countrycode: str | None = None
    timestamp: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The record in the official schema; whole numbers stay whole."""

        def plain(value: float) -> int | float:
            return int(value) if float(value).is_integer() else float(value)

        names = "word", "countrycode", "timestamp", "recognized", "key_id"
        strokes = [[[plain(x) for x in values] for values in stroke] for stroke in self.drawing]
        return {name: getattr(self, name) for name in names} | {"drawing": strokes}


def geometry_id(drawing: Drawing) -> str:
    """A key_id for a drawing that came without one: a digest of its points in the raw schema."""
    points = Record("", "", None, drawing).to_json()["drawing"]
    return f"geom-{hashlib.sha1(orjson.dumps(points)).hexdigest()[:16]}"


def as_drawing(drawing: Sequence) -> Drawing:
    """A checked copy of `drawing` with float64 arrays, from any sequences of numbers.

    Its times count from 0, whenever the clock began (at page load, in 1970).

    Raises:
        ValueError: No strokes, an empty stroke, x, y (and t) of unequal lengths, numbers that are
            not finite, timed and untimed strokes mixed.
    """
    if len(drawing) == 0:
        raise ValueError("drawing has no strokes")
    checked: Drawing = []
    for index, stroke in enumerate(drawing):
        if len(stroke) not in (2, 3):
            raise ValueError(f"stroke {index} has {len(stroke)} rows; [x, y] or [x, y, t] needed")
        arrays = [np.array(values, dtype=np.float64) for values in stroke]
        sizes = {array.shape for array in arrays}
        if len(sizes) != 1 or arrays[0].ndim != 1:
            raise ValueError(f"stroke {index}: x, y, t have shapes {[a.shape for a in arrays]}")
        if arrays[0].size == 0:
            raise ValueError(f"stroke {index} has no points")
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(f"stroke {index} has values that are not finite")
        checked.append(arrays)
    if len({len(stroke) for stroke in checked}) != 1:
        raise ValueError("timed strokes [x, y, t] and untimed ones [x, y] are mixed")
    if is_timed(checked):
        checked = [[x, y, t - checked[0][2][0]] for x, y, t in checked]
    return checked


def find_faults(
    points: Float64[np.ndarray, "3 n"], starts: Int64[np.ndarray, " drawings"]
) -> dict[str, Bool[np.ndarray, " drawings"]]:
    """Which drawings are not fit for a file, by reason: readers drop them, writers refuse them.

    `points` are x, y (px) and t (ms from 0, or NaN) of all, each of which begins at its start.
    """
    lengths, t = np.diff(starts, append=points.shape[1]), points[2]
    large = ~(np.abs(points[:2]) <= MAX_MAGNITUDE).all(axis=0) | (np.abs(t) > MAX_MAGNITUDE)
    backwards = t < np.roll(t, 1)
    backwards[starts] = False
    return {
        EMPTY: lengths < 2,
        TOO_LONG: lengths > MAX_POINTS,
        TOO_LARGE: np.logical_or.reduceat(large, starts),
        CLOCK: np.logical_or.reduceat(backwards, starts),
        TOO_FAST: t[starts + lengths - 1] < np.maximum(MIN_DURATION, lengths - 1),
    }


def is_timed(drawing: Sequence) -> bool:
    """Whether the strokes of `drawing` carry t."""
    return len(drawing[0]) == 3


def without_time(drawing: Sequence) -> Drawing:
    """The geometry alone: the same strokes as ``[x, y]``."""
    return [[np.asarray(stroke[0]), np.asarray(stroke[1])] for stroke in drawing]


def duration(drawing: Sequence) -> float:
    """Milliseconds from the first touch to the last point; NaN where the drawing is untimed."""
    return float(drawing[-1][2][-1] - drawing[0][2][0]) if is_timed(drawing) else float("nan")


def extent(drawing: Sequence) -> float:
    """The larger side of the box around the drawing, in its own units."""
    return max(float(np.ptp(np.concatenate(rows))) for rows in [*zip(*drawing, strict=True)][:2])


def to_box(drawing: Sequence, *, size: float = BOX) -> Drawing:
    """Scale to `size` px: least x and y at 0, the larger side `size` long. Time is kept.

    A drawing with no extent (one dot) is only moved.
    """
    drawing = as_drawing(drawing)
    left, top = (min(stroke[axis].min() for stroke in drawing) for axis in (0, 1))
    side = extent(drawing)
    factor = size / side if side > 1e-300 else 1.0  # below, the quotient overflows
    return [[(x - left) * factor, (y - top) * factor, *t] for x, y, *t in drawing]


def to_stroke4(drawing: Sequence) -> Float64[np.ndarray, "n 4"]:
    """One row a point: the move to it in px and ms, and whether the pen was down.

    ValueError: The drawing is malformed (see `as_drawing`), or its clock runs backwards.
    """
    drawing = as_drawing(drawing)
    timed = is_timed(drawing)
    points = np.concatenate([np.stack(stroke, axis=1) for stroke in drawing])
    rows = np.empty((len(points), 4))
    rows[:, : points.shape[1]] = np.diff(points, axis=0, prepend=points[:1])
    if not timed:
        rows[:, DT] = np.nan
    elif (rows[:, DT] < 0).any():
        raise ValueError(f"clock runs backwards at point {int((rows[:, DT] < 0).argmax())}")
    rows[:, PEN] = 1
    rows[np.cumsum([stroke[0].size for stroke in drawing])[:-1], PEN] = 0
    return rows


def from_stroke4(rows: Float[np.ndarray, "n 4"]) -> Drawing:
    """The drawing that `rows` describe, from the origin at t = 0. Inverse of `to_stroke4`.

    ValueError: `rows` is empty or not (n, 4), or dt is NaN in some rows only.
    """
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != 4 or len(rows) == 0:
        raise ValueError(f"stroke-4 has shape (n, 4), n > 0, not {rows.shape}")
    untimed = np.isnan(rows[:, DT])
    if untimed.any() and not untimed.all():
        raise ValueError("dt is NaN in some rows and not in others")
    points = np.cumsum(rows[:, : 2 if untimed.all() else 3], axis=0)
    starts = np.flatnonzero(rows[1:, PEN] < 0.5) + 1
    return [list(stroke.T) for stroke in np.split(points, starts)]


def standardise(rows: Float[np.ndarray, "n 4"], *, scale: Scale) -> Float[np.ndarray, "n 3"]:
    """dx, dy, dt of stroke-4 rows in model units. NaN stays NaN; the clock's 0 ms count as 1 ms."""
    is_pen_down = rows[:, PEN] > 0.5
    mean = np.where(is_pen_down, scale.segment_mean, scale.pause_mean)
    std = np.where(is_pen_down, scale.segment_std, scale.pause_std)
    log_dt = np.log(np.maximum(rows[:, DT], MIN_DT))
    return np.column_stack([rows[:, :DT] / scale.xy, (log_dt - mean) / std]).astype(rows.dtype)


def to_stroke6(
    rows: Float[np.ndarray, "n 4"], *, scale: Scale | None = None
) -> Float[np.ndarray, "n+2 6"]:
    """Model rows: a start row ``0 0 0 1 0 0``, one row a point, an end row ``0 0 0 0 0 1``.

    dt is 0 for the first point, which has no time before it, and NaN for an untimed drawing.
    Without `scale`, the training split's (a model carries its own), units are 1 px and log ms.
    """
    rows = np.asarray(rows, dtype=np.float64)
    rows6 = np.zeros((len(rows) + 2, 6))
    rows6[1:-1, :3] = standardise(rows, scale=scale or Scale())
    if len(rows) and not np.isnan(rows[0, DT]):
        rows6[1, DT] = 0
    is_pen_down = rows[:, PEN] > 0.5
    rows6[1:-1, PEN_COLUMNS.start + PEN_DOWN] = is_pen_down
    rows6[1:-1, PEN_COLUMNS.start + PEN_UP] = ~is_pen_down
    rows6[0, PEN_COLUMNS.start + PEN_DOWN] = 1
    rows6[-1, PEN_COLUMNS.start + END] = 1
    return rows6


def from_stroke6(
    rows6: Float[np.ndarray, "n 6"], *, scale: Scale | None = None
) -> Float[np.ndarray, "m 4"]:
    """stroke-4 in px and ms, from the row after the start row to the one before the first end row.

    ValueError: `rows6` is not (n, 6), or holds no point.
    """
    rows6 = np.asarray(rows6, dtype=np.float64)
    if rows6.ndim != 2 or rows6.shape[1] != 6:
        raise ValueError(f"stroke-6 has shape (n, 6), not {rows6.shape}")
    scale = scale or Scale()
    pen = rows6[:, PEN_COLUMNS].argmax(axis=1)
    stop = int((pen == END).argmax()) if (pen == END).any() else len(rows6)
    if stop < 2:
        raise ValueError("stroke-6 holds no point between its start row and its end row")
    rows6, is_pen_down = rows6[1:stop], pen[1:stop] == PEN_DOWN
    mean = np.where(is_pen_down, scale.segment_mean, scale.pause_mean)
    std = np.where(is_pen_down, scale.segment_std, scale.pause_std)
    rows = np.empty((len(rows6), 4))
    rows[:, :DT] = rows6[:, :DT] * scale.xy
    rows[:, DT] = np.exp(rows6[:, DT] * std + mean)
    rows[:, PEN] = is_pen_down
    rows[0] = (0, 0, rows[0, DT] * 0, 1)  # keeps the NaN of an untimed drawing
    return rows
