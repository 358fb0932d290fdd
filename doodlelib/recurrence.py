"""All steps of an LSTM layer with layer norm, and their gradients written out.

Autograd would add up the gradient of the recurrent weights step by step; here it is one matrix
product over all steps. What a step does beside its product is compiled on a CPU (`lstm_step`).

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-5  # of the layer norms, as `torch.nn.LayerNorm`
_norm, _norm_backward = torch.native_layer_norm, torch.ops.aten.native_layer_norm_backward


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
    """What the steps leave for their gradients.

    Attributes:
        cells: (T + 1, B, H).
        before: (T + 1, B, H) outputs, in the type of the matrix products.
        y: (T, B, H) outputs.
        active: (T, B, 4 H) gates.
        shown: (T, B, H) tanh of the cells, which the output gate lets through.
        gates_normed, gates_rstd: (T, B, 4 H) and (T, B, 4): standardised, and the factor.
        cells_normed, cells_rstd: (T, B, H) and (T, B). All four are empty where there is no norm.
    """

    cells: Tensor
    before: Tensor
    y: Tensor
    active: Tensor
    shown: Tensor
    gates_normed: Tensor
    gates_rstd: Tensor
    cells_normed: Tensor
    cells_rstd: Tensor


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
        steps, (batch, size) = len(projected), h.shape
        product = weight.to(projected.dtype)
        new, normed = weight.new_empty, 0 if gate_gain is None else steps
        affine = Affine(
            bias, *(new(0) if v is None else v for v in (gate_gain, cell_gain, cell_bias))
        )
        keep = new(0, batch, size) if keep is None else keep
        trace = Trace(
            cells=new(steps + 1, batch, size),
            before=projected.new_empty(steps + 1, batch, size),
            y=new(steps, batch, size),
            active=new(steps, batch, 4 * size),
            shown=new(steps, batch, size),
            gates_normed=new(normed, batch, 4 * size),
            gates_rstd=new(normed, batch, 4),
            cells_normed=new(normed, batch, size),
            cells_rstd=new(normed, batch),
        )
        trace.cells[0], trace.before[0] = c, h
        total = torch.empty_like(projected[0])
        step, seen = engine(weight, total, affine, keep, trace)
        for t in range(steps):
            torch.addmm(projected[t], trace.before[t], product.t(), out=total)
            step.forward(t, *seen)
        ctx.save_for_backward(product, keep, *affine, *trace)
        ctx.state_type = h.dtype
        return trace.y, trace.cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Float[Tensor, "T B H"], dc: Float[Tensor, "B H"]) -> tuple:
        """Gradients of `forward`'s arguments, from those of what it gave."""
        product, keep, *saved = ctx.saved_tensors
        affine, trace = Affine(*saved[:4]), Trace(*saved[4:])
        d_affine = Affine(*map(torch.zeros_like, affine))
        d_gates = product.new_empty(trace.active.shape)
        dy, dc = dy.contiguous(), dc.contiguous().clone()
        dh = torch.zeros_like(trace.before[0])
        step, seen = engine(dc, dy, dh, dc, affine, keep, trace, d_gates, d_affine)
        for t in reversed(range(len(dy))):
            step.backward(t, *seen)
            torch.mm(d_gates[t], product, out=dh)
        d_weight = d_gates.flatten(0, 1).t() @ trace.before[:-1].flatten(0, 1)
        states = dh.to(ctx.state_type), dc.to(ctx.state_type)
        d_given = (d if len(d) else None for d in d_affine)
        return d_gates, *states, d_weight.to(dc.dtype), *d_given, None


class InTorch:
    """The step as in `lstm_step`, whose docstrings say what goes in and out, on any device."""

    @staticmethod
    def forward(t: int, total: Tensor, affine: Affine, keep: Tensor, trace: Trace) -> None:
        """Step `t`: from the products of its gates to its cell and output, into `trace`."""
        size = trace.cells.shape[-1]
        gates = total.view(-1, 4, size).to(trace.cells.dtype)
        active = trace.active[t].view(-1, 4, size)
        if not len(affine.gain):
            torch.add(gates, affine.bias.view(4, size), out=active)
        else:
            gates, _, rstd = _norm(gates, (size,), None, None, EPSILON)
            trace.gates_normed[t], trace.gates_rstd[t] = gates.flatten(1), rstd.squeeze(-1)
            torch.addcmul(affine.bias.view(4, size), gates, affine.gain.view(4, size), out=active)
        active[:, :2].sigmoid_()
        active[:, 2].tanh_()
        active[:, 3].sigmoid_()
        i, f, g, o = active.unbind(1)
        candidate = g * keep[t] if len(keep) else g
        c = torch.addcmul(f * trace.cells[t], i, candidate, out=trace.cells[t + 1])
        if len(affine.cell_gain):
            normed, _, rstd = _norm(c, (size,), None, None, EPSILON)
            trace.cells_normed[t], trace.cells_rstd[t] = normed, rstd.squeeze(-1)
            c = torch.addcmul(affine.cell_bias, normed, affine.cell_gain)
        torch.tanh(c, out=trace.shown[t])
        trace.before[t + 1] = torch.mul(o, trace.shown[t], out=trace.y[t])

    @staticmethod
    def backward(
        t: int,
        dy: Tensor,
        dh: Tensor,
        dc: Tensor,
        affine: Affine,
        keep: Tensor,
        trace: Trace,
        d_gates: Tensor,
        d_affine: Affine,
    ) -> None:
        """Step `t` the other way."""
        size, shown = dc.shape[-1], trace.shown[t]
        i, f, g, o = trace.active[t].view(-1, 4, size).unbind(1)
        dh = dh.to(dc.dtype) + dy[t]
        d_shown = dh * o * (1 - shown * shown)
        if len(affine.cell_gain):
            normed = trace.cells_normed[t]
            d_affine.cell_gain.add_((d_shown * normed).sum(0))
            d_affine.cell_bias.add_(d_shown.sum(0))
            d_shown = _unscaled(d_shown * affine.cell_gain, normed, trace.cells_rstd[t])
        dc += d_shown
        kept = dc * keep[t] if len(keep) else dc
        parts = [
            kept * g * i * (1 - i),
            dc * trace.cells[t] * f * (1 - f),
            kept * i * (1 - g * g),
            dh * shown * o * (1 - o),
        ]
        dc *= f
        d_active = torch.stack(parts, dim=1)
        d_affine.bias.add_(d_active.sum(0).flatten())
        if len(affine.gain):
            normed = trace.gates_normed[t].view_as(d_active)
            d_affine.gain.add_((d_active * normed).sum(0).flatten())
            scaled = d_active * affine.gain.view(4, size)
            d_active = _unscaled(scaled, normed, trace.gates_rstd[t])
        d_gates[t] = d_active.flatten(1)


def _unscaled(
    d: Float[Tensor, "*rows H"], normed: Float[Tensor, "*rows H"], rstd: Float[Tensor, "*rows"]
) -> Float[Tensor, "*rows H"]:
    """The gradient before a layer norm, from the one after it."""
    along = (d * normed).mean(-1, keepdim=True)
    return rstd[..., None] * (d - d.mean(-1, keepdim=True) - normed * along)


def engine(like: Tensor, *given: Any) -> tuple[Any, list]:
    """What does the steps where `like` is, and its arguments in the form that it takes."""
    if like.device.type != "cpu":
        return InTorch, list(given)
    from doodlelib import lstm_step  # imports Numba, which takes a while

    return lstm_step, [_as_arrays(value) for value in given]


def _as_arrays(value: Any) -> Any:
    """Tensors as arrays that share their memory, bfloat16 as the int16 of the same bits."""
    if isinstance(value, tuple):
        return type(value)(*map(_as_arrays, value))
    if isinstance(value, Tensor):
        value = value.detach()
        return value.view(torch.int16).numpy() if value.dtype == torch.bfloat16 else value.numpy()
    return value
