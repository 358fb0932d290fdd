"""Kernels of the layer-norm LSTM for an NVIDIA GPU, in Triton; one program a drawing.

A step takes a GPU some ten microseconds, less than a processor needs to launch its product and its
kernel: `cuda_graphs` captures whole training steps.

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

EPSILON = 1e-5  # of the layer norms, as `torch.nn.LayerNorm`
WARPS = 4


def forward(
    projected: Tensor, weight: Tensor, affine: Any, keep_mask: Tensor, saved: Any, y: Tensor
) -> None:
    """All steps; arguments as `lstm_cpu.forward`."""
    total, constants = torch.empty_like(projected[0]), _constants(affine, keep_mask)
    with _device_of(total):
        for t in range(len(projected)):
            torch.addmm(projected[t], saved.hidden[t], weight.t(), out=total)
            _forward_step[(len(total),)](
                total,
                *affine,
                keep_mask[t] if len(keep_mask) else keep_mask,
                saved.cells[t],
                saved.cells[t + 1],
                saved.hidden[t + 1],
                saved.gates[t],
                saved.rstd[t],
                y[t],
                **constants,
            )


def backward(
    dy: Tensor,
    dh: Tensor,
    dc: Tensor,
    weight: Tensor,
    affine: Any,
    keep_mask: Tensor,
    saved: Any,
    d_affine: Any,
) -> Tensor:
    """Gradients of all steps; arguments as `lstm_cpu.backward`. Leaves `saved` as it is."""
    d_gates = torch.empty_like(saved.gates, dtype=weight.dtype)
    d_active = torch.empty_like(saved.gates)  # gradients behind the norms
    d_cell, normed_cell = torch.empty_like(dy), torch.empty_like(dy)
    constants = _constants(affine, keep_mask)
    with _device_of(dc):
        for t in reversed(range(len(dy))):
            _backward_step[(len(dc),)](
                dy[t],
                dh,
                dc,
                *affine,
                keep_mask[t] if len(keep_mask) else keep_mask,
                saved.cells[t],
                saved.cells[t + 1],
                saved.gates[t],
                saved.rstd[t],
                d_active[t],
                d_cell[t],
                normed_cell[t],
                d_gates[t],
                **constants,
            )
            torch.mm(d_gates[t], weight, out=dh)
    d_affine.bias.add_(d_active.sum((0, 1)))
    if len(affine.gain):
        d_affine.gain.add_((d_active * saved.gates).sum((0, 1)))
        d_affine.cell_gain.add_((d_cell * normed_cell).sum((0, 1)))
        d_affine.cell_bias.add_(d_cell.sum((0, 1)))
    return d_gates


def _device_of(like: Tensor) -> AbstractContextManager:
    """Where kernels are launched; in Triton's interpreter nothing is."""
    return torch.cuda.device_of(like) if like.is_cuda else nullcontext()


def _constants(affine: Any, keep_mask: Tensor) -> dict[str, int | bool | float]:
    size = len(affine.bias) // 4
    return {
        "SIZE": size,
        "BLOCK": triton.next_power_of_2(size),
        "NORM": len(affine.gain) > 0,
        "KEEP": len(keep_mask) > 0,
        "EPS": EPSILON,
        "num_warps": WARPS,
    }


@triton.jit
def _forward_step(
    total,
    bias,
    gain,
    cell_gain,
    cell_bias,
    keep,
    before,
    cell,
    h,
    gates,
    rstd,
    y,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    NORM: tl.constexpr,
    KEEP: tl.constexpr,
    EPS: tl.constexpr,
):
    b = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < SIZE
    at = b * SIZE + column
    state = y.dtype.element_ty
    active = ()
    for k in tl.static_range(4):
        own = (4 * b + k) * SIZE + column
        x = tl.load(total + own, mask=inside, other=0.0).to(state)
        if NORM:
            x, factor = _layer_norm(x, inside, SIZE, EPS)
            tl.store(rstd + 4 * b + k, factor)
        tl.store(gates + own, x, mask=inside)
        active = active + (_affine(x, gain, bias, k * SIZE + column, inside, NORM),)  # noqa: RUF005
    candidate = _tanh(active[2])
    if KEEP:
        candidate *= tl.load(keep + at, mask=inside, other=0.0)
    c = tl.load(before + at, mask=inside, other=0.0)
    c = tl.sigmoid(active[1]) * c + tl.sigmoid(active[0]) * candidate
    tl.store(cell + at, c, mask=inside)
    if NORM:
        c, _ = _layer_norm(c, inside, SIZE, EPS)
        c = _affine(c, cell_gain, cell_bias, column, inside, NORM)
    out = tl.sigmoid(active[3]) * _tanh(c)
    tl.store(y + at, out, mask=inside)
    tl.store(h + at, out.to(h.dtype.element_ty), mask=inside)


@triton.jit
def _backward_step(
    dy,
    dh,
    dc,
    bias,
    gain,
    cell_gain,
    cell_bias,
    keep,
    before,
    cell,
    gates,
    rstd,
    d_active,
    d_cell,
    normed_cell,
    d_gates,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    NORM: tl.constexpr,
    KEEP: tl.constexpr,
    EPS: tl.constexpr,
):
    b = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < SIZE
    at = b * SIZE + column
    state = dc.dtype.element_ty
    normed = ()
    active = ()
    for k in tl.static_range(4):
        x = tl.load(gates + (4 * b + k) * SIZE + column, mask=inside, other=0.0)
        normed = normed + (x,)  # noqa: RUF005 - Triton knows no stars
        active = active + (_affine(x, gain, bias, k * SIZE + column, inside, NORM),)  # noqa: RUF005
    i, f, o = tl.sigmoid(active[0]), tl.sigmoid(active[1]), tl.sigmoid(active[3])
    g = _tanh(active[2])
    c = tl.load(cell + at, mask=inside, other=0.0)
    factor = 1.0
    shown = c
    if NORM:
        c, factor = _layer_norm(c, inside, SIZE, EPS)
        shown = _affine(c, cell_gain, cell_bias, column, inside, NORM)
    shown = _tanh(shown)
    d_out = tl.load(dh + at, mask=inside, other=0.0).to(state)
    d_out += tl.load(dy + at, mask=inside, other=0.0)
    d = d_out * o * (1 - shown * shown)
    if NORM:
        tl.store(d_cell + at, d, mask=inside)
        tl.store(normed_cell + at, c, mask=inside)
        d = _layer_norm_backward(d, cell_gain, column, c, factor, inside, SIZE)
    d += tl.load(dc + at, mask=inside, other=0.0)
    kept = d
    if KEEP:
        kept *= tl.load(keep + at, mask=inside, other=0.0)
    tl.store(dc + at, d * f, mask=inside)
    d_f = d * tl.load(before + at, mask=inside, other=0.0) * f * (1 - f)
    each = (kept * g * i * (1 - i), d_f, kept * i * (1 - g * g), d_out * shown * o * (1 - o))
    for k in tl.static_range(4):
        own = (4 * b + k) * SIZE + column
        d = each[k]
        tl.store(d_active + own, d, mask=inside)
        if NORM:
            factor = tl.load(rstd + 4 * b + k)
            d = _layer_norm_backward(d, gain, k * SIZE + column, normed[k], factor, inside, SIZE)
        tl.store(d_gates + own, d.to(d_gates.dtype.element_ty), mask=inside)


@triton.jit
def _layer_norm(x, inside, SIZE: tl.constexpr, EPS: tl.constexpr):
    """`x` normalised, and 1 / its standard deviation; `x` is 0 outside, and stays so."""
    centred = tl.where(inside, x - tl.sum(x, 0) / SIZE, 0.0)
    factor = tl.rsqrt(tl.sum(centred * centred, 0) / SIZE + EPS)
    return centred * factor, factor


@triton.jit
def _layer_norm_backward(d, gain, column, normed, factor, inside, SIZE: tl.constexpr):
    """The gradient of a layer norm's input from that of its output."""
    d *= tl.load(gain + column, mask=inside, other=0.0)
    return factor * (d - tl.sum(d, 0) / SIZE - normed * (tl.sum(d * normed, 0) / SIZE))


@triton.jit
def _affine(x, gain, bias, column, inside, NORM: tl.constexpr):
    if NORM:
        x *= tl.load(gain + column, mask=inside, other=0.0)
    return x + tl.load(bias + column, mask=inside, other=0.0)


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1
