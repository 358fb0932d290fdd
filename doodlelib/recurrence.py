"""All steps of an LSTM layer with layer norm, and their gradients written out.

Autograd would add up the gradient of the recurrent weights step by step; here it is one matrix
product over all steps, and every other array is touched as seldom as PyTorch's own functions allow.

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-5  # of the layer norms, as `torch.nn.LayerNorm`
_norm, _norm_backward = torch.native_layer_norm, torch.ops.aten.native_layer_norm_backward
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_FIRST = [True, False, False]  # of a layer norm's gradients, that of its input alone


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
        steps, batch, size = len(projected), *h.shape
        product, gate_bias = weight.to(projected.dtype), bias.view(4, size)
        active = weight.new_empty(steps, batch, 4, size)
        cells = weight.new_empty(steps + 1, batch, size)
        shown, y = weight.new_empty(2, steps, batch, size)
        before = projected.new_empty(steps + 1, batch, size)  # h, in the type of the products
        normed: list[tuple[Tensor, Tensor]] = []  # gates, and what they were multiplied by
        cell_stats: list[list[Tensor]] = []
        cells[0], before[0] = c, h
        for t in range(steps):
            total = torch.addmm(projected[t], before[t], product.t())
            gates = total.view(batch, 4, size).to(weight.dtype)
            if gate_gain is None:
                torch.add(gates, gate_bias, out=active[t])
            else:
                gates, _, rstd = _norm(gates, (size,), None, None, EPSILON)
                torch.addcmul(gate_bias, gates, gate_gain.view(4, size), out=active[t])
                normed.append((gates, rstd))
            active[t, :, :2].sigmoid_()
            active[t, :, 2].tanh_()
            active[t, :, 3].sigmoid_()
            i, f, g, o = active[t].unbind(1)
            candidate = g if keep is None else g * keep[t]
            c = torch.addcmul(f * cells[t], i, candidate, out=cells[t + 1])
            if cell_gain is not None:
                c_normed, *stats = _norm(c, (size,), cell_gain, cell_bias, EPSILON)
                cell_stats.append(stats)
            torch.tanh(c if cell_gain is None else c_normed, out=shown[t])
            before[t + 1] = torch.mul(o, shown[t], out=y[t])
        ctx.save_for_backward(
            product, gate_gain, cell_gain, cell_bias, keep, active, cells, shown, before
        )
        ctx.normed, ctx.cell_stats, ctx.state_type = normed, cell_stats, h.dtype
        return y, cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Float[Tensor, "T B H"], dc: Float[Tensor, "B H"]) -> tuple:
        """Gradients of `forward`'s arguments, from those of what it gave."""
        product, gate_gain, cell_gain, cell_bias, keep, *states = ctx.saved_tensors
        active, cells, shown, before = states
        steps, batch, size = shown.shape
        d_active, d_shown = torch.empty_like(active[0]), torch.empty_like(shown)
        d_bias, d_gain = torch.zeros(2, 4, size, dtype=active.dtype, device=active.device)
        d_projected = before.new_empty(steps, batch, 4, size)
        dh = torch.zeros_like(dc)
        zero, one = active.new_zeros(batch, 4, 1), active.new_ones(batch, 4, 1)
        for t in reversed(range(steps)):
            i, f, g, o = active[t].unbind(1)
            di, df, dg, do = d_active.unbind(1)
            dh = dh + dy[t]
            _sigmoid_backward(dh * shown[t], o, grad_input=do)
            _tanh_backward(dh * o, shown[t], grad_input=d_shown[t])
            if cell_gain is None:
                dc = dc + d_shown[t]
            else:
                dc = (
                    dc
                    + _norm_backward(
                        d_shown[t],
                        cells[t + 1],
                        (size,),
                        *ctx.cell_stats[t],
                        cell_gain,
                        cell_bias,
                        _FIRST,
                    )[0]
                )
            kept = dc if keep is None else dc * keep[t]
            _sigmoid_backward(kept * g, i, grad_input=di)
            _sigmoid_backward(dc * cells[t], f, grad_input=df)
            _tanh_backward(kept * i, g, grad_input=dg)
            dc = dc * f
            d_bias += d_active.sum(0)
            if gate_gain is None:
                d_projected[t] = d_active
            else:
                gates, rstd = ctx.normed[t]
                d_gain += (d_active * gates).sum(0)
                d_active *= gate_gain.view(4, size)
                unscaled, *_ = _norm_backward(
                    d_active, gates, (size,), zero, one, None, None, _FIRST
                )
                torch.mul(unscaled, rstd, out=d_projected[t])
            dh = (d_projected[t].flatten(1) @ product).to(dc.dtype)

        d_gates = d_projected.flatten(2)
        d_weight = d_gates.flatten(0, 1).t() @ before[:-1].flatten(0, 1)
        d_cell_gain = d_cell_bias = None
        if cell_gain is not None:
            mean, rstd = (torch.stack(values) for values in zip(*ctx.cell_stats, strict=True))
            _, d_cell_gain, d_cell_bias = _norm_backward(
                d_shown, cells[1:], (size,), mean, rstd, cell_gain, cell_bias, [False, True, True]
            )
        return (
            d_gates,
            dh.to(ctx.state_type),
            dc.to(ctx.state_type),
            d_weight.to(dc.dtype),
            d_bias.flatten(),
            None if gate_gain is None else d_gain.flatten(),
            d_cell_gain,
            d_cell_bias,
            None,
        )
