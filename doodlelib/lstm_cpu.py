"""The steps of our LSTM on a CPU: PyTorch's matrix products, and what Numba compiles of the rest.

Rows of the batch do not know of one another, so parts of it go through all steps side by side.

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

from typing import Any

import torch
from torch import Tensor

from doodlelib import lstm_step
from doodlelib.lstm_trace import Affine, Trace
from doodlelib.threads import in_parts


def forward(
    projected: Tensor, product: Tensor, affine: Affine, keep: Tensor, trace: Trace, y: Tensor
) -> None:
    """See `lstm_torch.forward`."""
    weight = laid_out(product) if len(projected) > 1 else product.t()  # a step is not worth it
    total = torch.empty_like(projected[0])
    arrays = [as_arrays(value) for value in (total, affine, keep, trace, y)]

    def steps(rows: slice) -> None:
        own, given = total[rows], zip(projected[:, rows], trace.before[:, rows], strict=False)
        for t, (share, before) in enumerate(given):
            torch.addmm(share, before, weight, out=own)
            lstm_step.forward(t, rows.start, rows.stop, *arrays)

    in_parts(steps, len(total))


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
    given = (dy, dh, dc, affine, keep, trace, d_gates)
    arrays = [as_arrays(value) for value in given]

    def steps(rows: slice) -> Affine:
        own, d_own = dh[rows], Affine(*map(torch.zeros_like, d_affine))
        d_arrays = as_arrays(d_own)
        for t in reversed(range(len(dy))):
            lstm_step.backward(t, rows.start, rows.stop, *arrays, d_arrays)
            torch.mm(d_gates[t, rows], product, out=own)
        return d_own

    for d_part in in_parts(steps, len(dc)):
        for total, part in zip(d_affine, d_part, strict=True):
            total += part
    return d_gates


def laid_out(weight: Tensor) -> Tensor:
    """(G, I) to (I, G), row by row in memory, which is faster but in bfloat16."""
    return weight.t() if weight.dtype == torch.bfloat16 else weight.t().contiguous()


def as_arrays(value: Any) -> Any:
    """Tensors as arrays that share their memory, bfloat16 as the int16 of the same bits."""
    if isinstance(value, tuple):
        return type(value)(*map(as_arrays, value))
    value = value.detach()
    return value.view(torch.int16).numpy() if value.dtype == torch.bfloat16 else value.numpy()
