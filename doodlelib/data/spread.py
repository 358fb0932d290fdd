"""The scale of a training split, from drawings that come in pieces.

Sums are whole numbers, so that they are the same in whatever pieces and order the drawings come.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from doodlelib.strokes import DT, MIN_DT, PEN, Scale

UNITS = 1 << 20  # to 1; a hundred million moves across the whole box still fit 64 bits


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of values; a sum of spreads is that of all their values.

    Attributes:
        count: How many there are.
        total: Their sum, each rounded to 1 / `UNITS`, times `UNITS`.
        squares: That of their squares, likewise.
    """

    count: int = 0
    total: int = 0
    squares: int = 0

    @classmethod
    def of(cls, values: Float64[np.ndarray, "..."]) -> "Spread":
        """That of `values`."""
        total, squares = (
            int(np.rint(part * UNITS).astype(np.int64).sum())
            for part in (values, np.square(values))
        )
        return cls(values.size, total, squares)

    def __add__(self, other: "Spread") -> "Spread":
        return Spread(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    @property
    def mean(self) -> float:
        """0 where there are no values."""
        return self.total / (self.count * UNITS) if self.count else 0.0

    @property
    def std(self) -> float:
        """1 where there is no spread."""
        mean_square = self.squares / (self.count * UNITS) if self.count else 0.0
        variance = mean_square - self.mean**2
        return variance**0.5 if variance > 1e-9 else 1.0


@dataclass(frozen=True)
class Spreads:
    """What `Scale` is made of, over moves within drawings."""

    xy: Spread = Spread()
    segment: Spread = Spread()
    pause: Spread = Spread()

    @classmethod
    def of(cls, rows: Float32[np.ndarray, "n 4"], lengths: Int64[np.ndarray, " d"]) -> "Spreads":
        """Those of the stroke-4 rows of drawings of these lengths."""
        moves = np.ones(len(rows), dtype=bool)
        moves[np.cumsum(lengths) - lengths] = False
        columns = rows.compress(moves, axis=0).T.astype(np.float64, order="C")
        dt, drawn = columns[DT], columns[PEN] > 0.5
        log_dt, timed = np.log(np.maximum(dt, MIN_DT)), ~np.isnan(dt)
        segments, pauses = log_dt[timed & drawn], log_dt[timed & ~drawn]
        return cls(Spread.of(columns[:DT]), Spread.of(segments), Spread.of(pauses))

    def __add__(self, other: "Spreads") -> "Spreads":
        return Spreads(self.xy + other.xy, self.segment + other.segment, self.pause + other.pause)

    def to_scale(self) -> Scale:
        """The scale of all these moves."""
        segment, pause = self.segment, self.pause
        return Scale(self.xy.std, segment.mean, segment.std, pause.mean, pause.std)
