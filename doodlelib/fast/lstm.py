"""The layer-norm LSTM layer with its gradients written out: `models.lstm.NormLayer`, twice as fast.

Autograd would add up the gradient of the recurrent weights step by step; here it is one matrix
product over all steps, as is the inputs' share of the gates. The elementwise work of a step is one
kernel: of Numba on a CPU (`lstm_cpu`), of Triton on an NVIDIA GPU (`lstm_gpu`).

B batch, T step, I input, H hidden; gates are in the order input, forget, candidate, output.
"""

import subprocess
import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from doodlelib.jit import is_fast


class Affine(NamedTuple):
    """Gains and biases of a layer, or their gradients; arrays of the same memory for Numba."""

    bias: Tensor  # (4 H) of the gates, after their norm
    gain: Tensor  # (4 H) of the gates' norm; this and the next two are empty without layer norm
    cell_gain: Tensor  # (H) of the cell's norm
    cell_bias: Tensor


class Saved(NamedTuple):
    """Tensors saved for the backward pass, which computes the rest anew from them."""

    cells: Tensor  # (T + 1, B, H)
    hidden: Tensor  # (T + 1, B, H) outputs, in the type of the matrix products
    gates: Tensor  # (T, B, 4 H) normalised, before gain and bias
    rstd: Tensor  # (T, B, 4) 1 / standard deviation that normalised them


def is_available(like: Tensor) -> bool:
    """Whether `LayerFunction` has kernels for the device of `like`, and is wanted."""
    device = like.device.type
    return is_fast() and (device == "cpu" or (device == "cuda" and _has_triton()))


class LayerFunction(torch.autograd.Function):
    """Hidden states of all steps, and the last cell.

    Source: Ba et al. 2016 (layer norm), eq. 20-22, and their derivatives.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "T B I"],
        h: Float[Tensor, "B H"],
        c: Float[Tensor, "B H"],
        weight_ih: Float[Tensor, "4*H I"],
        weight_hh: Float[Tensor, "4*H H"],
        bias: Float[Tensor, " 4*H"],
        gate_gain: Float[Tensor, " 4*H"],
        cell_gain: Float[Tensor, " H"],
        cell_bias: Float[Tensor, " H"],
        keep_mask: Float[Tensor, "T B H"] | None,
    ) -> tuple[Float[Tensor, "T B H"], Float[Tensor, "B H"]]:
        """Run all steps; matrix products are of autocast's type, all else of the weights'.

        `bias` is that of the gates, after their norm; `keep_mask` the candidate's factor, None: 1.
        """
        dtype, device = weight_hh.dtype, x.device.type
        if torch.is_autocast_enabled(device) and dtype == torch.float32:
            dtype = torch.get_autocast_dtype(device)
        x, weight_ih, weight = x.to(dtype), weight_ih.to(dtype), weight_hh.to(dtype)
        projected, affine = F.linear(x, weight_ih), Affine(bias, gate_gain, cell_gain, cell_bias)
        keep_mask = bias.new_empty(0, *c.shape) if keep_mask is None else keep_mask
        saved = new_saved(projected, like=bias)
        saved.cells[0], saved.hidden[0] = c, h
        y = saved.hidden[1:] if dtype == bias.dtype else torch.empty_like(saved.cells[1:])
        _kernels(bias).forward(projected, weight, affine, keep_mask, saved, y)
        ctx.save_for_backward(x, weight_ih, weight, keep_mask, *affine, *saved)
        ctx.state_dtype, ctx.is_used_up = h.dtype, False
        return y, saved.cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Float[Tensor, "T B H"], dc: Float[Tensor, "B H"]) -> tuple:
        """Gradients of `forward`'s arguments from those of its results; possible once."""
        if ctx.is_used_up:
            raise RuntimeError("an LSTM layer can go backward once only: its memory is used again")
        x, weight_ih, weight, keep_mask, *rest = ctx.saved_tensors
        affine, saved = Affine(*rest[:4]), Saved(*rest[4:])
        d_affine = Affine(*map(torch.zeros_like, affine))
        d_state = torch.zeros_like(saved.hidden[0]), dc.contiguous().clone()
        run = _kernels(dc).backward
        d_gates = run(dy.contiguous(), d_state, weight, affine, keep_mask, saved, d_affine)
        ctx.is_used_up = dc.device.type == "cpu"
        dx = torch.matmul(d_gates, weight_ih) if ctx.needs_input_grad[0] else None
        rows = d_gates.flatten(0, 1).t()
        d_weights = (rows @ read.flatten(0, 1) for read in (x, saved.hidden[:-1]))
        d_first = (d.to(ctx.state_dtype) for d in d_state)
        return dx, *d_first, *(d.to(dc.dtype) for d in d_weights), *d_affine, None


def new_saved(projected: Float[Tensor, "T B 4*H"], *, like: Tensor) -> Saved:
    """Memory for `Saved`; the gates' is that of `projected`, where it has their type, `like`'s."""
    (steps, batch, gates), same_type = projected.shape, projected.dtype == like.dtype
    return Saved(
        cells=like.new_empty(steps + 1, batch, gates // 4),
        hidden=projected.new_empty(steps + 1, batch, gates // 4),
        gates=projected if same_type else torch.empty_like(projected, dtype=like.dtype),
        rstd=like.new_empty(steps, batch, 4),
    )


def _kernels(like: Tensor) -> Any:
    """The module with `forward` and `backward` for the device of `like`."""
    if like.device.type == "cpu":
        from doodlelib.fast import lstm_cpu as kernels
    else:
        from doodlelib.fast import lstm_gpu as kernels  # Triton is not there for every system
    return kernels


@lru_cache
def _has_triton() -> bool:
    """Whether a step compiles and runs; Triton needs a C compiler, too."""
    x, weight = torch.zeros(1, 1, 1, device="cuda"), torch.zeros(4, 1, device="cuda")
    gates, cell = 2 * (weight[:, 0],), 2 * (x[0, 0],)
    try:
        LayerFunction.apply(x, x[0], x[0], weight, weight, *gates, *cell, None)
    except (ImportError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        problem = str(error)[:200]
        warnings.warn(f"Triton does not work here, so LSTMs take longer: {problem}", stacklevel=2)
        return False
    return True
