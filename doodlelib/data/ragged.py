"""Many drawings as a few flat arrays, which whole-array operations and compiled loops work on."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from doodlelib.strokes import DT, PEN, Record


@dataclass(frozen=True)
class Chunk:
    """Drawings as flat arrays.

    Attributes:
        points: x, y (px) and t (ms; NaN where untimed) of all points.
        strokes: Stroke j has points ``strokes[j]`` up to ``strokes[j + 1]``.
        drawings: Drawing i has strokes ``drawings[i]`` up to ``drawings[i + 1]``.
        heads: What is known of each drawing: the other fields of `Record`.
        dropped: How many others were left out where these were read, by reason.
    """

    points: Float64[np.ndarray, "3 n"]
    strokes: Int64[np.ndarray, " stroke_bounds"]
    drawings: Int64[np.ndarray, " bounds"]
    heads: list[dict[str, Any]]
    dropped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.heads)

    @property
    def offsets(self) -> Int64[np.ndarray, " bounds"]:
        """Drawing i has points ``offsets[i]`` up to ``offsets[i + 1]``."""
        return self.strokes[self.drawings]

    @property
    def timed(self) -> Bool[np.ndarray, " drawings"]:
        """Whether each drawing carries t."""
        return ~np.isnan(self.points[2, self.offsets[:-1]])

    def take(self, indices: Int64[np.ndarray, " m"]) -> "Chunk":
        """The drawings at `indices`, in that order."""
        from doodlelib.data import kernels

        points, sizes, counts = kernels.take(self.points, self.strokes, self.drawings, indices)
        heads = [self.heads[index] for index in indices.tolist()]
        return Chunk(points, to_offsets(sizes), to_offsets(counts), heads)

    def select(self, kept: Bool[np.ndarray, " n"]) -> "Chunk":
        """The points that `kept` marks, which leaves at least one of each stroke."""
        sizes = np.add.reduceat(kept, self.strokes[:-1], dtype=np.int64)
        return Chunk(
            self.points.compress(kept, axis=1), to_offsets(sizes), self.drawings, self.heads
        )

    def records(self) -> Iterator[Record]:
        """The drawings one by one; their arrays are views of the chunk's."""
        for head, timed, first, last in zip(
            self.heads, self.timed, self.drawings[:-1], self.drawings[1:], strict=True
        ):
            rows = self.points if timed else self.points[:2]
            bounds = self.strokes[first : last + 1].tolist()
            yield Record(drawing=[list(rows[:, a:b]) for a, b in pairwise(bounds)], **head)


def from_records(records: Sequence[Record]) -> Chunk:
    """One chunk of `records`, whose drawings are as `strokes.as_drawing` gives them."""
    points, sizes, heads = [], [], []
    for record in records:
        sizes.append([len(stroke[0]) for stroke in record.drawing])
        points.append(np.full((3, sum(sizes[-1])), np.nan))
        for row, parts in enumerate(zip(*record.drawing, strict=True)):
            np.concatenate(parts, out=points[-1][row])
        heads.append({key: value for key, value in vars(record).items() if key != "drawing"})
    return join(points, sizes, heads)


def join(
    points: Sequence[Float64[np.ndarray, "3 _"]],
    sizes: Sequence[list[int]],
    heads: list[dict[str, Any]],
) -> Chunk:
    """One chunk of drawings that came one by one: points, points of each stroke, head."""
    return Chunk(
        np.concatenate(points, axis=1) if points else np.empty((3, 0)),
        to_offsets([size for drawing in sizes for size in drawing]),
        to_offsets([len(drawing) for drawing in sizes]),
        heads,
    )


def concatenate(first: Chunk, second: Chunk) -> Chunk:
    """The drawings of `first`, then those of `second`."""
    return Chunk(
        np.concatenate([first.points, second.points], axis=1),
        np.concatenate([first.strokes, second.strokes[1:] + first.strokes[-1]]),
        np.concatenate([first.drawings, second.drawings[1:] + first.drawings[-1]]),
        first.heads + second.heads,
    )


def to_stroke4(chunk: Chunk) -> Float32[np.ndarray, "n 4"]:
    """`strokes.to_stroke4` of each drawing of `chunk`, one drawing after the other."""
    starts = chunk.offsets[:-1]
    rows = np.ones((chunk.points.shape[1], 4), dtype=np.float32)
    rows[1:, :PEN] = np.diff(chunk.points).T
    rows[chunk.strokes[:-1], PEN] = 0
    rows[starts, :DT] = 0
    rows[starts, DT] = np.where(chunk.timed, 0, np.nan)
    rows[starts, PEN] = 1
    return rows


def to_offsets(sizes: Sequence[int] | np.ndarray) -> Int64[np.ndarray, " bounds"]:
    """Where each of consecutive pieces begins, and the end."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
