"""Padded batches of drawings in stroke-6.

B drawing, T row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from doodlelib.fast.cuda_graphs import Batch
from doodlelib.strokes import DT, END, PEN, PEN_COLUMNS, PEN_DOWN, PEN_UP, Scale, standardise

PADDED = 8  # steps


@dataclass(frozen=True)
class StrokeBatch(Batch):
    """Padded stroke-6 of some drawings: start row, the points, then end rows up to the longest."""

    rows: Float32[Tensor, "B T 6"]  # dt is 0 where it is unknown
    lengths: Int64[Tensor, " B"]  # points of each drawing
    words: Int64[Tensor, " B"]  # index of each one's word
    timed: Bool[Tensor, " B"]  # whether dt is known

    @property
    def is_step(self) -> Bool[Tensor, "B T-2"]:
        """Which rows from the second point to the first end row, i.e. not the padding after it."""
        steps = torch.arange(self.rows.shape[1] - 2, device=self.lengths.device)
        return steps < self.lengths[:, None]

    def padded(self) -> "StrokeBatch":
        """With end rows up to a multiple of `PADDED` steps, so that there are few lengths."""
        behind = self.rows.new_zeros(self.size, -(self.rows.shape[1] - 2) % PADDED, 6)
        behind[..., PEN_COLUMNS.start + END] = 1
        return replace(self, rows=torch.cat([self.rows, behind], dim=1))

    def part(self, drawings: slice) -> "StrokeBatch":
        """Some of the drawings, padded to their longest, but at least to two points."""
        if drawings == slice(0, self.size):
            return self  # does not wait for a GPU
        some = StrokeBatch(**{name: value[drawings] for name, value in vars(self).items()})
        return replace(some, rows=some.rows[:, : max(int(some.lengths.max()), 2) + 2])


def collate(
    rows: np.ndarray, lengths: np.ndarray, *, words: np.ndarray, scale: Scale
) -> StrokeBatch:
    """Pad drawings that lie one behind the other, as stroke-4 with NaN in dt where untimed.

    `rows` are (sum of `lengths`, 4); `lengths` and the indices of `words` (B,).
    """
    starts = np.cumsum(lengths) - lengths
    drawing = np.repeat(np.arange(len(lengths)), lengths)
    step = np.arange(len(rows)) - starts[drawing] + 1  # row 0 of the batch is the start row
    is_pen_down = rows[:, PEN] > 0.5
    padded = np.zeros((len(lengths), int(lengths.max()) + 2, 6), dtype=np.float32)
    padded[..., PEN_COLUMNS.start + END] = 1
    padded[:, 0, PEN_COLUMNS] = np.eye(3)[PEN_DOWN]
    padded[drawing, step, :3] = np.nan_to_num(standardise(rows, scale=scale), nan=0.0)
    padded[:, 1, DT] = 0  # the first point has no time before it
    padded[drawing, step, PEN_COLUMNS.start + PEN_DOWN] = is_pen_down
    padded[drawing, step, PEN_COLUMNS.start + PEN_UP] = ~is_pen_down
    padded[drawing, step, PEN_COLUMNS.start + END] = 0
    return StrokeBatch(
        rows=torch.from_numpy(padded),
        lengths=torch.from_numpy(lengths.astype(np.int64)),
        words=torch.from_numpy(words.astype(np.int64)),
        timed=torch.from_numpy(~np.isnan(rows[starts, DT])),
    )


def collate_drawings(rows: Sequence[np.ndarray], *, words: np.ndarray, scale: Scale) -> StrokeBatch:
    """`collate` for separate stroke-4 arrays."""
    lengths = np.array([len(drawing) for drawing in rows])
    return collate(np.concatenate(rows), lengths, words=words, scale=scale)
