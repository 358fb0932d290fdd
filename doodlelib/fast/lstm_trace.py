"""What the steps of an LSTM layer work on, and what they leave.

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-5  # of the layer norms, as `torch.nn.LayerNorm`


class Affine(NamedTuple):
    """What the gates and the cell are multiplied by and shifted by; or the gradients of these.

    Here and in `Trace`, tensors; for `lstm_step`, arrays that share their memory.

    Attributes:
        bias: (4 H) of the gates, after their norm.
        gain: (4 H) of the gates' norm; empty where there is no layer norm.
        cell_gain, cell_bias: (H) of the cell's norm; likewise.
    """

    bias: Tensor
    gain: Tensor
    cell_gain: Tensor
    cell_bias: Tensor


class Trace(NamedTuple):
    """What the steps leave for their gradients; the rest is computed anew from it.

    Attributes:
        cells: (T + 1, B, H).
        before: (T + 1, B, H) outputs, in the type of the matrix products.
        gates: (T, B, 4 H), standardised where there is layer norm.
        rstd: (T, B, 4) factor that standardised them.
    """

    cells: Tensor
    before: Tensor
    gates: Tensor
    rstd: Tensor

    def part(self, steps: slice) -> "Trace":
        """Of some steps alone, sharing memory."""
        beyond = slice(steps.start, steps.stop + 1)
        return Trace(self.cells[beyond], self.before[beyond], self.gates[steps], self.rstd[steps])


def new_trace(projected: Tensor, state: Tensor) -> Trace:
    """Room for it; the gates' is that of `projected`, where it has their type.

    Args:
        projected: (T, B, 4 H), see `lstm_torch.forward`.
        state: (B, H), of the states' type.
    """
    (steps, batch, _), size = projected.shape, state.shape[1]
    alike = projected.dtype == state.dtype
    return Trace(
        cells=state.new_empty(steps + 1, batch, size),
        before=projected.new_empty(steps + 1, batch, size),
        gates=projected if alike else torch.empty_like(projected, dtype=state.dtype),
        rstd=state.new_empty(steps, batch, 4),
    )
