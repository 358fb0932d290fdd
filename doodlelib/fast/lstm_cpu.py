"""The steps of our LSTM on a CPU: oneDNN's matrix products, and what Numba compiles of the rest.

Rows of the batch do not know of one another, so parts of it go through all steps side by side.

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

from typing import Any

import torch
from torch import Tensor

from doodlelib.fast import lstm_step
from doodlelib.fast.lstm_trace import Affine, Trace
from doodlelib.fast.parallel import in_parts
from doodlelib.fast.products import LaidOut


def forward(
    projected: Tensor, product: Tensor, affine: Affine, keep: Tensor, trace: Trace, y: Tensor
) -> None:
    """See `lstm_torch.forward`."""
    weight = LaidOut(product, most=y.shape[1])
    arrays = [as_arrays(value) for value in (affine, keep, trace, y)]

    def steps(rows: slice) -> None:
        given = zip(projected[:, rows], trace.before[:, rows], strict=False)
        for t, (share, before) in enumerate(given):
            total = as_arrays(weight.times(before, plus=share))
            lstm_step.forward(t, rows.start, total, *arrays)

    in_parts(steps, y.shape[1])


def backward(
    dy: Tensor,
    dh: Tensor,
    dc: Tensor,
    product: Tensor,
    affine: Affine,
    keep: Tensor,
    trace: Trace,
    d_affine: Affine,
) -> Tensor:
    """See `lstm_torch.backward`. The gradients take the place of the gates, if of their type."""
    alike = trace.gates.dtype == product.dtype
    d_gates = trace.gates if alike else torch.empty_like(trace.gates, dtype=product.dtype)
    arrays = [as_arrays(value) for value in (dy, dc, affine, keep, trace, d_gates)]
    weight = LaidOut(product.t(), most=len(dc))

    def steps(rows: slice) -> Affine:
        d_own, own = Affine(*map(torch.zeros_like, d_affine)), dh[rows]
        d_arrays = as_arrays(d_own)
        for t in reversed(range(len(dy))):
            lstm_step.backward(t, rows.start, as_arrays(own), *arrays, d_arrays)
            own = weight.times(d_gates[t, rows])
        dh[rows] = own
        return d_own

    for d_part in in_parts(steps, len(dc)):
        for total, part in zip(d_affine, d_part, strict=True):
            total += part
    return d_gates


def as_arrays(value: Any) -> Any:
    """Tensors as arrays that share their memory, bfloat16 as the int16 of the same bits."""
    if isinstance(value, tuple):
        return type(value)(*map(as_arrays, value))
    value = value.detach()
    return value.view(torch.int16).numpy() if value.dtype == torch.bfloat16 else value.numpy()
