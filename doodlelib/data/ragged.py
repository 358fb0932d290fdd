"""Many drawings as a few flat arrays, on which whole-array operations and compiled loops work."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from doodlelib.simplify import checked_limits, keep_mask
from doodlelib.strokes import BOX, DT, PEN, Record


@dataclass(frozen=True)
class RaggedDrawings:
    """Drawings of unequal length, one after the other in flat arrays."""

    points: Float64[np.ndarray, "3 n"]  # x, y (px) and t (ms; NaN where untimed)
    strokes: Int64[np.ndarray, " stroke_bounds"]  # stroke j has points strokes[j] to strokes[j + 1]
    drawings: Int64[np.ndarray, " bounds"]  # drawing i has strokes drawings[i] to drawings[i + 1]
    metadata: list[dict[str, Any]]  # the other fields of each drawing's `Record`
    dropped: Counter[str] = field(default_factory=Counter)  # what was left out, by reason

    @classmethod
    def from_records(cls, records: Sequence[Record]) -> "RaggedDrawings":
        """The drawings of `records`, which are as `strokes.as_drawing` gives them."""
        points, sizes, metadata = [np.empty((3, 0))], [], []
        for record in records:
            sizes += [len(stroke[0]) for stroke in record.drawing]
            rows = [np.concatenate(parts) for parts in zip(*record.drawing, strict=True)]
            points.append(np.stack([*rows, np.full(len(rows[0]), np.nan)][:3]))
            metadata.append({key: value for key, value in vars(record).items() if key != "drawing"})
        counts = [len(record.drawing) for record in records]
        return cls(np.concatenate(points, axis=1), to_offsets(sizes), to_offsets(counts), metadata)

    def __len__(self) -> int:
        return len(self.metadata)

    @property
    def offsets(self) -> Int64[np.ndarray, " bounds"]:
        """Drawing i has points ``offsets[i]`` up to ``offsets[i + 1]``."""
        return self.strokes[self.drawings]

    @property
    def timed(self) -> Bool[np.ndarray, " drawings"]:
        """Whether each drawing carries t."""
        return ~np.isnan(self.points[2, self.offsets[:-1]])

    def select(self, indices: Int64[np.ndarray, " m"]) -> "RaggedDrawings":
        """The drawings at `indices`, in that order."""
        counts = np.diff(self.drawings)[indices]
        strokes = ranges(self.drawings[indices], counts)
        sizes = np.diff(self.strokes)[strokes]
        return RaggedDrawings(
            self.points.take(ranges(self.strokes[strokes], sizes), axis=1),
            to_offsets(sizes),
            to_offsets(counts),
            [self.metadata[index] for index in indices.tolist()],
        )

    def simplified(self, *, method: str, epsilon: float, epsilon_time: float) -> "RaggedDrawings":
        """`simplify.simplify` of each drawing."""
        limits = checked_limits(method, epsilon, epsilon_time)
        # as `strokes.to_box` of each drawing: the same numbers
        starts, lengths = self.offsets[:-1], np.diff(self.offsets)
        low = np.minimum.reduceat(self.points[:2], starts, axis=1)
        extent = (np.maximum.reduceat(self.points[:2], starts, axis=1) - low).max(axis=0)
        factor = np.divide(BOX, extent, where=extent > 1e-300, out=np.ones_like(extent))
        boxed = self.points.copy()
        boxed[:2] -= np.repeat(low, lengths, axis=1)
        boxed[:2] *= np.repeat(factor, lengths)
        kept = keep_mask(boxed, self.strokes, *limits)
        sizes = np.add.reduceat(kept, self.strokes[:-1], dtype=np.int64)
        return replace(self, points=boxed.compress(kept, axis=1), strokes=to_offsets(sizes))

    def stroke4_rows(self) -> Float32[np.ndarray, "n 4"]:
        """`strokes.to_stroke4` of each drawing, one drawing after the other."""
        starts = self.offsets[:-1]
        rows = np.ones((self.points.shape[1], 4), dtype=np.float32)
        rows[1:, :PEN] = np.diff(self.points).T
        rows[self.strokes[:-1], PEN] = 0
        rows[starts, :DT] = 0
        rows[starts, DT] = np.where(self.timed, 0, np.nan)
        rows[starts, PEN] = 1
        return rows

    def records(self) -> Iterator[Record]:
        """The drawings one by one; their arrays are views of these."""
        for metadata, timed, first, last in zip(
            self.metadata, self.timed, self.drawings[:-1], self.drawings[1:], strict=True
        ):
            rows = self.points if timed else self.points[:2]
            bounds = self.strokes[first : last + 1].tolist()
            yield Record(drawing=[list(rows[:, a:b]) for a, b in pairwise(bounds)], **metadata)


def to_offsets(sizes: Sequence[int] | np.ndarray) -> Int64[np.ndarray, " bounds"]:
    """Where each of consecutive pieces begins, and the end."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def ranges(
    starts: Int64[np.ndarray, " m"], sizes: Int64[np.ndarray, " m"]
) -> Int64[np.ndarray, " n"]:
    """The indices ``starts[0], starts[0] + 1, …`` of pieces of these sizes, one after the other."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)
