"""Kernels of the layer-norm LSTM for an NVIDIA GPU, in Triton; one program a drawing.

A step takes a GPU some ten microseconds, less than a processor needs to launch its product and its
kernel: `cuda_graphs` captures whole training steps.

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

EPSILON = tl.constexpr(1e-5)  # of the layer norms, as `torch.nn.LayerNorm`


def forward(
    projected: Tensor, weight: Tensor, affine: Any, keep_mask: Tensor, saved: Any, y: Tensor
) -> None:
    """All steps; arguments as `lstm_cpu.forward`."""
    gates, constants = torch.empty_like(projected[0]), _constants(affine, keep_mask)
    with torch.cuda.device_of(gates):
        for t in range(len(projected)):
            torch.addmm(projected[t], saved.hidden[t], weight.t(), out=gates)
            mask = keep_mask[t] if len(keep_mask) else keep_mask
            cells, left = saved.cells[t : t + 2], (saved.gates[t], saved.rstd[t])
            outputs = saved.hidden[t + 1], y[t]
            _forward_step[(len(gates),)](gates, *affine, mask, *cells, *left, *outputs, **constants)


def backward(
    dy: Tensor,
    d_state: tuple[Tensor, Tensor],
    weight: Tensor,
    affine: Any,
    keep_mask: Tensor,
    saved: Any,
    d_affine: Any,
) -> Tensor:
    """Gradient of `projected`; arguments as `lstm_cpu.backward`. Leaves `saved` as it is."""
    d_gates = torch.empty_like(saved.gates, dtype=weight.dtype)
    d_active = torch.empty_like(saved.gates)  # gradients behind the norms
    d_cell, normed_cell = torch.empty_like(dy), torch.empty_like(dy)
    constants, left = _constants(affine, keep_mask), (d_active, d_cell, normed_cell, d_gates)
    with torch.cuda.device_of(dy):
        for t in reversed(range(len(dy))):
            mask = keep_mask[t] if len(keep_mask) else keep_mask
            read = *saved.cells[t : t + 2], saved.gates[t], saved.rstd[t]
            written = (values[t] for values in left)
            _backward_step[(dy.shape[1],)](
                dy[t], *d_state, *affine, mask, *read, *written, **constants
            )
            torch.mm(d_gates[t], weight, out=d_state[0])
    d_affine.bias.add_(d_active.sum((0, 1)))
    d_affine.gain.add_((d_active * saved.gates).sum((0, 1)))
    d_affine.cell_gain.add_((d_cell * normed_cell).sum((0, 1)))
    d_affine.cell_bias.add_(d_cell.sum((0, 1)))
    return d_gates


def _constants(affine: Any, keep_mask: Tensor) -> dict[str, int | bool]:
    size = len(affine.cell_bias)
    return {"SIZE": size, "BLOCK": triton.next_power_of_2(size), "KEEP": len(keep_mask) > 0}


@triton.jit
def _forward_step(
    products,
    bias,
    gain,
    cell_gain,
    cell_bias,
    keep,
    before,
    cell,
    gates,
    rstd,
    h,
    y,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    KEEP: tl.constexpr,
):
    b = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < SIZE
    at = b * SIZE + column
    state = y.dtype.element_ty
    active = ()
    for k in tl.static_range(4):
        own = (4 * b + k) * SIZE + column
        x = tl.load(products + own, mask=inside, other=0.0).to(state)
        x, factor = _layer_norm(x, inside, SIZE)
        tl.store(rstd + 4 * b + k, factor)
        tl.store(gates + own, x, mask=inside)
        active = active + (_affine(x, gain, bias, k * SIZE + column, inside),)  # noqa: RUF005
    candidate = _tanh(active[2])
    if KEEP:
        candidate *= tl.load(keep + at, mask=inside, other=0.0)
    c = tl.load(before + at, mask=inside, other=0.0)
    c = tl.sigmoid(active[1]) * c + tl.sigmoid(active[0]) * candidate
    tl.store(cell + at, c, mask=inside)
    c, _ = _layer_norm(c, inside, SIZE)
    c = _affine(c, cell_gain, cell_bias, column, inside)
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
    KEEP: tl.constexpr,
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
        active = active + (_affine(x, gain, bias, k * SIZE + column, inside),)  # noqa: RUF005
    i, f, o = tl.sigmoid(active[0]), tl.sigmoid(active[1]), tl.sigmoid(active[3])
    g = _tanh(active[2])
    c = tl.load(cell + at, mask=inside, other=0.0)
    c, factor = _layer_norm(c, inside, SIZE)
    shown = _tanh(_affine(c, cell_gain, cell_bias, column, inside))
    d_out = tl.load(dh + at, mask=inside, other=0.0).to(state)
    d_out += tl.load(dy + at, mask=inside, other=0.0)
    d = d_out * o * (1 - shown * shown)
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
        factor = tl.load(rstd + 4 * b + k)
        d = _layer_norm_backward(d, gain, k * SIZE + column, normed[k], factor, inside, SIZE)
        tl.store(d_gates + own, d.to(d_gates.dtype.element_ty), mask=inside)


@triton.jit
def _layer_norm(x, inside, SIZE: tl.constexpr):
    """`x` normalised, and 1 / its standard deviation; `x` is 0 outside, and stays so."""
    centred = tl.where(inside, x - tl.sum(x, 0) / SIZE, 0.0)
    factor = tl.rsqrt(tl.sum(centred * centred, 0) / SIZE + EPSILON)
    return centred * factor, factor


@triton.jit
def _layer_norm_backward(d, gain, column, normed, factor, inside, SIZE: tl.constexpr):
    """The gradient of a layer norm's input from that of its output."""
    d *= tl.load(gain + column, mask=inside, other=0.0)
    return factor * (d - tl.sum(d, 0) / SIZE - normed * (tl.sum(d * normed, 0) / SIZE))


@triton.jit
def _affine(x, gain, bias, column, inside):
    x *= tl.load(gain + column, mask=inside, other=0.0)
    return x + tl.load(bias + column, mask=inside, other=0.0)


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1
