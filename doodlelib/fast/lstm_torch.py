"""The steps of our LSTM in PyTorch, on any device: what the faster ones are held to.

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from doodlelib.fast.lstm_trace import EPSILON, Affine, Trace


def forward(
    projected: Float[Tensor, "T B 4*H"],
    product: Float[Tensor, "4*H H"],
    affine: Affine,
    keep: Float[Tensor, "T B H"],
    trace: Trace,
    y: Float[Tensor, "T B H"],
) -> None:
    """All steps, from the first state in `trace`.

    Args:
        projected: The inputs' share of the gates. Overwritten, if the trace's gates lie there.
        product: Recurrent weights, in the type of the products.
        affine: Of the norms.
        keep: Factor of the candidate; empty: 1.
        trace: Filled.
        y: Filled with the outputs.
    """
    for t in range(len(projected)):
        total = torch.addmm(projected[t], trace.before[t], product.t())
        gates = total.to(y.dtype).unflatten(1, (4, -1))
        if len(affine.gain):
            gates, rstd = _standardise(gates)
            trace.rstd[t] = rstd.squeeze(-1)
        trace.gates[t] = gates.flatten(1)
        i, f, g, o = _active(trace.gates[t], affine)
        candidate = g * keep[t] if len(keep) else g
        trace.cells[t + 1] = f * trace.cells[t] + i * candidate
        y[t] = o * _shown(trace.cells[t + 1], affine)[0]
        trace.before[t + 1] = y[t]


def backward(
    dy: Float[Tensor, "T B H"],
    dh: Float[Tensor, "B H"],
    dc: Float[Tensor, "B H"],
    product: Float[Tensor, "4*H H"],
    affine: Affine,
    keep: Float[Tensor, "T B H"],
    trace: Trace,
    d_affine: Affine,
) -> Float[Tensor, "T B 4*H"]:
    """All steps the other way.

    Args:
        dy: Gradients of the outputs.
        dh: Gradient of the last output by way of what comes after it; then of the first state.
        dc: The same for the cell.
        product: See `forward`.
        affine: See `forward`.
        keep: See `forward`.
        trace: As `forward` filled it. Used up.
        d_affine: Gradients that are added to.

    Returns:
        Gradients of `projected`.
    """
    d_gates = torch.empty_like(trace.gates, dtype=product.dtype)
    for t in reversed(range(len(dy))):
        i, f, g, o = _active(trace.gates[t], affine)
        shown, normed, cell_rstd = _shown(trace.cells[t + 1], affine)
        total = dh.to(dc.dtype) + dy[t]
        d_shown = total * o * (1 - shown * shown)
        if len(affine.cell_gain):
            d_affine.cell_gain.add_((d_shown * normed).sum(0))
            d_affine.cell_bias.add_(d_shown.sum(0))
            d_shown = _unscaled(d_shown * affine.cell_gain, normed, cell_rstd)
        dc += d_shown
        kept = dc * keep[t] if len(keep) else dc
        d_active = torch.stack(
            [
                kept * g * i * (1 - i),
                dc * trace.cells[t] * f * (1 - f),
                kept * i * (1 - g * g),
                total * shown * o * (1 - o),
            ],
            dim=1,
        )
        dc *= f
        d_affine.bias.add_(d_active.sum(0).flatten())
        if len(affine.gain):
            normed = trace.gates[t].view_as(d_active)
            d_affine.gain.add_((d_active * normed).sum(0).flatten())
            scaled = d_active * affine.gain.view_as(d_active[0])
            d_active = _unscaled(scaled, normed, trace.rstd[t, ..., None])
        d_gates[t] = d_active.flatten(1)
        torch.mm(d_gates[t], product, out=dh)
    return d_gates


def _active(gates: Float[Tensor, "B 4*H"], affine: Affine) -> tuple[Tensor, ...]:
    """The four gates, (B, H) each."""
    gates = gates * affine.gain + affine.bias if len(affine.gain) else gates + affine.bias
    i, f, g, o = gates.chunk(4, dim=1)
    return i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()


def _shown(cell: Float[Tensor, "B H"], affine: Affine) -> tuple[Tensor, Tensor, Tensor]:
    """What the output gate lets through; the cell standardised, and the factor."""
    if not len(affine.cell_gain):
        return cell.tanh(), cell, cell
    normed, rstd = _standardise(cell)
    return (normed * affine.cell_gain + affine.cell_bias).tanh(), normed, rstd


def _standardise(x: Float[Tensor, "*rows H"]) -> tuple[Tensor, Tensor]:
    """`x` with mean 0 and variance 1, and the factor, (*rows, 1), that made it so."""
    centred = x - x.mean(-1, keepdim=True)
    rstd = (centred.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
    return centred * rstd, rstd


def _unscaled(
    d: Float[Tensor, "*rows H"], normed: Float[Tensor, "*rows H"], rstd: Float[Tensor, "*rows 1"]
) -> Float[Tensor, "*rows H"]:
    """The gradient before a layer norm, from the one after it."""
    along = (d * normed).mean(-1, keepdim=True)
    return rstd * (d - d.mean(-1, keepdim=True) - normed * along)
