"""The scale of a training split, from drawings that come in pieces."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float32, Int64

from doodlelib.strokes import DT, MIN_DT, PEN, Scale


@dataclass
class Spread:
    """Mean and standard deviation of values that come in pieces."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: Float[np.ndarray, "..."]) -> None:
        """Take more values in."""
        self.count += values.size
        self.total += float(values.sum(dtype=np.float64))
        self.squares += float(np.square(values, dtype=np.float64).sum())

    @property
    def mean(self) -> float:
        """0 where there are no values."""
        return self.total / self.count if self.count else 0.0

    @property
    def std(self) -> float:
        """1 where there is no spread."""
        variance = self.squares / self.count - self.mean**2 if self.count else 0.0
        return variance**0.5 if variance > 1e-9 else 1.0


@dataclass
class Spreads:
    """What `Scale` is made of, over moves within drawings."""

    xy: Spread = field(default_factory=Spread)
    segment: Spread = field(default_factory=Spread)
    pause: Spread = field(default_factory=Spread)

    def add(self, rows: Float32[np.ndarray, "n 4"], lengths: Int64[np.ndarray, " d"]) -> None:
        """Take in stroke-4 rows of drawings of these lengths."""
        rows = np.delete(rows, np.cumsum(lengths) - lengths, axis=0)
        self.xy.add(rows[:, :DT])
        rows = rows[~np.isnan(rows[:, DT])]
        log_dt = np.log(np.maximum(rows[:, DT], MIN_DT))
        drawn = rows[:, PEN] > 0.5
        self.segment.add(log_dt[drawn])
        self.pause.add(log_dt[~drawn])

    def to_scale(self) -> Scale:
        """The scale of all rows so far."""
        segment, pause = self.segment, self.pause
        return Scale(self.xy.std, segment.mean, segment.std, pause.mean, pause.std)
