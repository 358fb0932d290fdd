"""The steps of our LSTM on a CPU: PyTorch's matrix products, and what Numba compiles of the rest.

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

from typing import Any

import torch
from torch import Tensor

from doodlelib import lstm_step
from doodlelib.lstm_trace import Affine, Trace


def forward(
    projected: Tensor, product: Tensor, affine: Affine, keep: Tensor, trace: Trace, y: Tensor
) -> None:
    """See `lstm_torch.forward`."""
    total = torch.empty_like(projected[0])
    arrays = [_as_arrays(value) for value in (total, affine, keep, trace, y)]
    for t in range(len(projected)):
        torch.addmm(projected[t], trace.before[t], product.t(), out=total)
        lstm_step.forward(t, *arrays)


def backward(
    dy: Tensor,
    dh: Tensor,
    dc: Tensor,
    product: Tensor,
    affine: Affine,
    keep: Tensor,
    trace: Trace,
    d_gates: Tensor,
    d_affine: Affine,
) -> None:
    """See `lstm_torch.backward`."""
    given = (dy, dh, dc, affine, keep, trace, d_gates, d_affine)
    arrays = [_as_arrays(value) for value in given]
    for t in reversed(range(len(dy))):
        lstm_step.backward(t, *arrays)
        torch.mm(d_gates[t], product, out=dh)


def _as_arrays(value: Any) -> Any:
    """Tensors as arrays that share their memory, bfloat16 as the int16 of the same bits."""
    if isinstance(value, tuple):
        return type(value)(*map(_as_arrays, value))
    value = value.detach()
    return value.view(torch.int16).numpy() if value.dtype == torch.bfloat16 else value.numpy()
