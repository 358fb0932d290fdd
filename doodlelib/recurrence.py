"""All steps of an LSTM layer with layer norm, and their gradients written out.

Autograd would add up the gradient of the recurrent weights step by step; here it is one matrix
product over all steps. What a step does beside its product is compiled: by Numba on a CPU
(`lstm_step`), by Triton on a GPU (`lstm_gpu`). `InTorch` says the same in PyTorch, for any device.

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

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


def new_trace(steps: int, *, product: Tensor, state: Tensor) -> Trace:
    """Room for it.

    Args:
        steps: T.
        product: Any tensor of the matrix products' type.
        state: (B, H), of the states' type.
    """
    batch, size = state.shape
    return Trace(
        cells=state.new_empty(steps + 1, batch, size),
        before=product.new_empty(steps + 1, batch, size),
        gates=state.new_empty(steps, batch, 4 * size),
        rstd=state.new_empty(steps, batch, 4),
    )


class Recurrence(torch.autograd.Function):
    """Hidden states of all steps, and the last cell.

    Source: Ba et al. 2016 (layer norm), eq. 20-22, and their derivatives.
    """

    @staticmethod
    def forward(  # noqa: D417
        ctx: Any,
        projected: Float[Tensor, "T B 4*H"],
        h: Float[Tensor, "B H"],
        c: Float[Tensor, "B H"],
        weight: Float[Tensor, "4*H H"],
        bias: Float[Tensor, " 4*H"],
        gate_gain: Float[Tensor, " 4*H"] | None,
        cell_gain: Float[Tensor, " H"] | None,
        cell_bias: Float[Tensor, " H"] | None,
        keep: Float[Tensor, "T B H"] | None,
    ) -> tuple[Float[Tensor, "T B H"], Float[Tensor, "B H"]]:
        """Go through the steps.

        Args:
            projected: The inputs' share of the gates. Its type (bfloat16 under autocast) is that
                of the matrix products; everything else is of the weights' type.
            h, c: The first state.
            weight: Recurrent.
            bias: Of the gates, after their norm.
            gate_gain, cell_gain, cell_bias: Of the layer norms; None: there are none.
            keep: Factor of the candidate; None: 1.
        """
        product, state = weight.to(projected.dtype), c.to(weight.dtype)
        norm = (gate_gain, cell_gain, cell_bias)
        affine = Affine(bias, *(weight.new_empty(0) if v is None else v for v in norm))
        keep = weight.new_empty(0, *c.shape) if keep is None else keep
        trace = new_trace(len(projected), product=product, state=state)
        trace.cells[0], trace.before[0] = c, h
        y = trace.before[1:]  # the same, where the products have the type of the rest
        if product.dtype != weight.dtype:
            y = torch.empty_like(trace.cells[1:])
        steps_on(weight).forward(projected, product, affine, keep, trace, y)
        ctx.save_for_backward(product, keep, *affine, *trace)
        ctx.state_type = h.dtype
        return y, trace.cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Float[Tensor, "T B H"], dc: Float[Tensor, "B H"]) -> tuple:
        """Gradients of `forward`'s arguments, from those of what it gave."""
        product, keep, *saved = ctx.saved_tensors
        affine, trace = Affine(*saved[:4]), Trace(*saved[4:])
        d_affine = Affine(*map(torch.zeros_like, affine))
        d_gates = torch.empty_like(trace.gates, dtype=product.dtype)
        dc, dh = dc.contiguous().clone(), torch.zeros_like(trace.before[0])
        steps_on(dc).backward(
            dy.contiguous(), dh, dc, product, affine, keep, trace, d_gates, d_affine
        )
        d_weight = d_gates.flatten(0, 1).t() @ trace.before[:-1].flatten(0, 1)
        states = dh.to(ctx.state_type), dc.to(ctx.state_type)
        d_given = (d if len(d) else None for d in d_affine)
        return d_gates, *states, d_weight.to(dc.dtype), *d_given, None


class InTorch:
    """The steps in PyTorch, on any device."""

    @staticmethod
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
            projected: See `Recurrence.forward`.
            product: Its `weight`, in the type of the products.
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

    @staticmethod
    def backward(
        dy: Float[Tensor, "T B H"],
        dh: Float[Tensor, "B H"],
        dc: Float[Tensor, "B H"],
        product: Float[Tensor, "4*H H"],
        affine: Affine,
        keep: Float[Tensor, "T B H"],
        trace: Trace,
        d_gates: Float[Tensor, "T B 4*H"],
        d_affine: Affine,
    ) -> None:
        """All steps the other way.

        Args:
            dy: Gradients of the outputs.
            dh: Gradient of the last output by way of what comes after it; then of the first state.
            dc: The same for the cell.
            product: See `forward`.
            affine: See `forward`.
            keep: See `forward`.
            trace: As `forward` filled it.
            d_gates: Filled with the gradients of `projected`.
            d_affine: Gradients that are added to.
        """
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


class ByNumba:
    """The same on a CPU, compiled. Arguments as `InTorch`."""

    @staticmethod
    def forward(
        projected: Tensor, product: Tensor, affine: Affine, keep: Tensor, trace: Trace, y: Tensor
    ) -> None:
        """See `InTorch.forward`."""
        from doodlelib import lstm_step  # imports Numba, which takes a while

        total = torch.empty_like(projected[0])
        arrays = [_as_arrays(value) for value in (total, affine, keep, trace, y)]
        for t in range(len(projected)):
            torch.addmm(projected[t], trace.before[t], product.t(), out=total)
            lstm_step.forward(t, *arrays)

    @staticmethod
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
        """See `InTorch.backward`."""
        from doodlelib import lstm_step

        given = (dy, dh, dc, affine, keep, trace, d_gates, d_affine)
        arrays = [_as_arrays(value) for value in given]
        for t in reversed(range(len(dy))):
            lstm_step.backward(t, *arrays)
            torch.mm(d_gates[t], product, out=dh)


def steps_on(like: Tensor) -> Any:
    """What does the steps where `like` is."""
    if like.device.type == "cpu":
        return ByNumba
    if like.device.type == "cuda":
        from doodlelib import lstm_gpu  # imports Triton, where there is one

        return lstm_gpu
    return InTorch


def _as_arrays(value: Any) -> Any:
    """Tensors as arrays that share their memory, bfloat16 as the int16 of the same bits."""
    if isinstance(value, tuple):
        return type(value)(*map(_as_arrays, value))
    value = value.detach()
    return value.view(torch.int16).numpy() if value.dtype == torch.bfloat16 else value.numpy()
