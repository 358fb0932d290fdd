"""All steps of an LSTM layer, with layer norm or without, and their gradients written out.

Autograd would add up the gradient of the recurrent weights step by step; here it is one matrix
product over all steps, as is the inputs' share of the gates. What a step does beside its product is
compiled: by Numba on a CPU (`lstm_cpu`), by Triton on an NVIDIA GPU (`lstm_triton`); `lstm_torch`
says the same in PyTorch.

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

import subprocess
import warnings
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from doodlelib.fast import lstm_torch
from doodlelib.fast.lstm_trace import Affine, Trace, new_trace
from doodlelib.fast.products import linear, outer_sum


class Recurrence(torch.autograd.Function):
    """Hidden states of all steps, and the last cell.

    Source: Ba et al. 2016 (layer norm), eq. 20-22, and their derivatives.
    """

    @staticmethod
    def forward(  # noqa: D417
        ctx: Any,
        x: Float[Tensor, "T B I"],
        h: Float[Tensor, "B H"],
        c: Float[Tensor, "B H"],
        weight_in: Float[Tensor, "4*H I"],
        weight: Float[Tensor, "4*H H"],
        bias: Float[Tensor, " 4*H"],
        gate_gain: Float[Tensor, " 4*H"] | None,
        cell_gain: Float[Tensor, " H"] | None,
        cell_bias: Float[Tensor, " H"] | None,
        keep: Float[Tensor, "T B H"] | None,
    ) -> tuple[Float[Tensor, "T B H"], Float[Tensor, "B H"]]:
        """Go through the steps.

        Args:
            x: Inputs. Matrix products are of autocast's type, everything else of the weights'.
            h, c: The first state.
            weight_in: Of the inputs.
            weight: Recurrent.
            bias: Of the gates, after their norm.
            gate_gain, cell_gain, cell_bias: Of the layer norms; None: there are none.
            keep: Factor of the candidate; None: 1.
        """
        kind = x.device.type
        half = torch.is_autocast_enabled(kind) and weight.dtype == torch.float32
        product_type = torch.get_autocast_dtype(kind) if half else weight.dtype
        x, weight_in, product = (part.to(product_type) for part in (x, weight_in, weight))
        x = x.contiguous()
        projected, state = linear(x, weight_in), c.to(weight.dtype)
        norm = (gate_gain, cell_gain, cell_bias)
        affine = Affine(bias, *(weight.new_empty(0) if v is None else v for v in norm))
        keep = weight.new_empty(0, *c.shape) if keep is None else keep
        trace = new_trace(projected, state)
        trace.cells[0], trace.before[0] = c, h
        y = trace.before[1:]  # the same, where the products have the type of the rest
        if product.dtype != weight.dtype:
            y = torch.empty_like(trace.cells[1:])
        steps_on(weight).forward(projected, product, affine, keep, trace, y)
        ctx.save_for_backward(x, weight_in, product, keep, *affine, *trace)
        ctx.state_type, ctx.used_up = h.dtype, False
        return y, trace.cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Float[Tensor, "T B H"], dc: Float[Tensor, "B H"]) -> tuple:
        """Gradients of `forward`'s arguments, from those of what it gave."""
        if ctx.used_up:
            raise RuntimeError("the steps of an LSTM can be gone back once; go forward anew")
        x, weight_in, product, keep, *saved = ctx.saved_tensors
        affine, trace = Affine(*saved[:4]), Trace(*saved[4:])
        d_affine = Affine(*map(torch.zeros_like, affine))
        dc, dh = dc.contiguous().clone(), torch.zeros_like(trace.before[0])
        steps = steps_on(dc).backward
        d_gates = steps(dy.contiguous(), dh, dc, product, affine, keep, trace, d_affine)
        ctx.used_up = d_gates is trace.gates
        dx = linear(d_gates, weight_in.t().contiguous()) if ctx.needs_input_grad[0] else None
        rows, *read = (part.flatten(0, 1) for part in (d_gates, x, trace.before[:-1]))
        d_weights = (outer_sum(part, rows).t() for part in read)
        states = dh.to(ctx.state_type), dc.to(ctx.state_type)
        d_given = (d if len(d) else None for d in d_affine)
        return dx, *states, *(d.to(dc.dtype) for d in d_weights), *d_given, None


def steps_on(like: Tensor) -> ModuleType:
    """What does the steps where `like` is."""
    if like.device.type == "cpu":
        from doodlelib.fast import lstm_cpu  # imports Numba, which takes a while

        return lstm_cpu
    return _on_gpu() if like.device.type == "cuda" else lstm_torch


@lru_cache
def _on_gpu() -> ModuleType:
    """In Triton where it works; it is not for every system, and needs a C compiler."""
    try:
        from doodlelib.fast import lstm_gpu

        lstm_gpu.try_out()
    except (ImportError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        warnings.warn(
            f"Triton does not work here, so LSTM steps take longer: {str(error)[:200]}",
            stacklevel=2,
        )
        return lstm_torch
    return lstm_gpu
