"""Kernels of the layer-norm LSTM for a CPU, compiled by Numba, forward and backward.

All elementwise work of a step is done row by row, so that a row stays in the cache, where PyTorch's
own functions would carry every array through memory a dozen times.

B batch, T step, H hidden; gates lie in the order input, forget, candidate, output. Rows are arrays
of their own: Numba does not vectorise loops over rows unpacked from a matrix (strided, to it) or
over a row that is read and written.
"""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from doodlelib.jit import kernel

EPSILON = 1e-5  # of the layer norms, as `torch.nn.LayerNorm`
# Sums may be taken in any order; but a NaN stays one, since `training.fit` looks for it.
_fast = partial(kernel, fastmath=("reassoc", "contract", "arcp", "nsz"))


def forward(
    projected: Tensor, weight: Tensor, affine: Any, keep_mask: Tensor, saved: Any, y: Tensor
) -> None:
    """All steps from the first state in `saved` on, which is filled, as are the outputs `y`.

    `projected` is the inputs' share of the gates, (T, B, 4 H); an empty `keep_mask` stands for 1.
    """
    weight, product = weight.t().contiguous(), torch.empty_like(projected[0])
    saved.gates.copy_(projected)  # does nothing where they are the same
    values = affine, keep_mask, saved.cells, saved.gates, saved.rstd, y
    arrays = [as_arrays(value) for value in values]
    for t in range(len(projected)):
        matmul(saved.hidden[t], weight, out=product)
        _forward_step(t, as_arrays(product.to(y.dtype)), *arrays)
        if y.dtype != weight.dtype:  # else `y` is a part of `saved.hidden`
            saved.hidden[t + 1] = y[t]


def backward(
    dy: Tensor,
    d_state: tuple[Tensor, Tensor],
    weight: Tensor,
    affine: Any,
    keep_mask: Tensor,
    saved: Any,
    d_affine: Any,
) -> Tensor:
    """Gradient of `forward`'s `projected`; in the memory of `saved.gates`, which is used up.

    `dy` are gradients of the outputs; `d_state` come as what flows back into the last h (in the
    type of matrix products) and c, and become the gradients of the first; `d_affine` is added to.
    """
    dh, dc = d_state
    values = dc, dy, affine, keep_mask, saved.cells, saved.gates, saved.rstd, d_affine
    arrays = [as_arrays(value) for value in values]
    for t in reversed(range(len(dy))):
        _backward_step(t, as_arrays(dh.to(dy.dtype)), *arrays)
        matmul(saved.gates[t].to(weight.dtype), weight, out=dh)
    return saved.gates.to(weight.dtype)


def matmul(a: Tensor, b: Tensor, *, out: Tensor) -> None:
    """``out = a @ b``; in float32 by NumPy, see `benchmarks/products.py`."""
    if a.dtype == torch.float32:
        np.matmul(as_arrays(a), as_arrays(b), out=as_arrays(out))
    else:
        torch.mm(a, b, out=out)


def as_arrays(value: Any) -> Any:
    """Tensors as arrays that share their memory."""
    if isinstance(value, tuple):
        return type(value)(*map(as_arrays, value))
    return value.numpy(force=True)


@_fast
def _forward_step(t, product, affine, keep_mask, cells, gates, rstd, y):
    """Step `t`: from `gates`, the inputs' share, and `product`, the recurrent one, to outputs."""
    size = cells.shape[2]
    raw, active = np.empty(4 * size, y.dtype), np.empty(4 * size, y.dtype)
    no_mask = np.empty(0, y.dtype)
    for b in range(len(product)):
        own = gates[t, b]
        for k in range(4 * size):
            raw[k] = product[b, k] + own[k]
        mask = keep_mask[t, b] if len(keep_mask) else no_mask
        _gates(raw, affine, own, rstd[t, b], active)
        _cell_forward(active, affine, mask, cells[t, b], cells[t + 1, b], raw[:size], y[t, b])


@_fast
def decode_step(affine, product, known, cell, read, above):
    """A step without saved tensors: `cell` advances; outputs end `read` and begin `above`.

    These are what this layer (inputs, hidden state) and the next one, or the head, read. The gates
    before the norm are `product` plus `known`, which may be empty.
    """
    size, first, dtype = cell.shape[1], read.shape[1] - cell.shape[1], cell.dtype
    raw, gates = np.empty(4 * size, dtype), np.empty(4 * size, dtype)
    active, rstd = np.empty(4 * size, dtype), np.empty(4, dtype)
    new, shown, no_mask = np.empty(size, dtype), np.empty(size, dtype), np.empty(0, dtype)
    for b in range(len(cell)):
        raw[:] = product[b]
        for k in range(known.shape[1]):
            raw[k] += known[b, k]
        _gates(raw, affine, gates, rstd, active)
        _cell_forward(active, affine, no_mask, cell[b], new, raw[:size], shown)
        cell[b] = new
        read[b, first:] = shown
        above[b, :size] = shown


@_fast
def _backward_step(t, dh, dc, dy, affine, keep_mask, cells, all_gates, all_rstd, d_affine):
    """Step `t` backward: from what flows back into `dh` and `dc` to gates and the cell before."""
    size = dc.shape[1]
    no_mask, d_shown = np.empty(0, dc.dtype), np.empty(size, dc.dtype)
    shown, normed = np.empty(size, dc.dtype), np.empty(size, dc.dtype)
    active, d_active = np.empty(4 * size, dc.dtype), np.empty(4 * size, dc.dtype)
    for b in range(len(dh)):
        gates = all_gates[t, b]
        _affine(gates, affine.gain, affine.bias, active)
        _activate(active)
        rstd = _layer_norm(cells[t + 1, b], normed)
        _affine(normed, affine.cell_gain, affine.cell_bias, shown)
        _tanh(shown, 1)
        d_o = d_active[3 * size :]
        _backward_output_gate(dh[b], dy[t, b], active[3 * size :], shown, d_shown, d_o)
        _accumulate_norm_grads(d_shown, normed, d_affine.cell_gain, d_affine.cell_bias)
        _layer_norm_backward(d_shown, affine.cell_gain, normed, rstd)
        mask = keep_mask[t, b] if len(keep_mask) else no_mask
        _backward_cell(d_shown, mask, cells[t, b], active, dc[b], d_active)
        _accumulate_norm_grads(d_active, gates, d_affine.gain, d_affine.bias)
        for k in range(4):
            own, factor = slice(k * size, (k + 1) * size), all_rstd[t, b, k]
            _layer_norm_backward(d_active[own], affine.gain[own], gates[own], factor)
        gates[:] = d_active


@_fast
def _backward_output_gate(dh, dy, o, shown, d_shown, d_o):
    """Gradients of the cell, before its tanh, and of the output gate, from those of the output."""
    one = dh.dtype.type(1)
    for k in range(len(dh)):
        total = dh[k] + dy[k]
        d_o[k] = total * shown[k] * o[k] * (one - o[k])
        d_shown[k] = total * o[k] * (one - shown[k] * shown[k])


@_fast
def _backward_cell(d_cell, mask, before, active, dc, d_active):
    """Gradients of the other gates and, in `dc`, of the cell before.

    Those of the cell are `d_cell`, by way of the output, and `dc`, by way of the next step.
    """
    # one array for each gate: Numba vectorises only indices that cannot be negative
    size, one = len(dc), dc.dtype.type(1)
    i, f, g = active[:size], active[size : 2 * size], active[2 * size : 3 * size]
    d_i, d_f, d_g = d_active[:size], d_active[size : 2 * size], d_active[2 * size : 3 * size]
    for k in range(size):
        d = dc[k] + d_cell[k]
        d_f[k] = d * before[k] * f[k] * (one - f[k])
        dc[k] = d * f[k]
        d_i[k] = d * g[k] * i[k] * (one - i[k])
        d_g[k] = d * i[k] * (one - g[k] * g[k])
    if len(mask):
        for k in range(size):
            d_i[k] *= mask[k]
            d_g[k] *= mask[k]


@_fast
def _gates(raw, affine, gates, rstd, active):
    """`gates`, normalised if there is layer norm, and `active`, after gain, bias and sigmoid."""
    size = len(raw) // 4
    if len(affine.gain):
        for k in range(4):
            own = slice(k * size, (k + 1) * size)
            rstd[k] = _layer_norm(raw[own], gates[own])
    else:
        gates[:] = raw
    _affine(gates, affine.gain, affine.bias, active)
    _activate(active)


@_fast
def _cell_forward(active, affine, mask, before, cell, normed, shown):
    """The new `cell` and, in `shown`, the output; `normed` is scratch space."""
    size = len(cell)
    i, f = active[:size], active[size : 2 * size]
    g, o = active[2 * size : 3 * size], active[3 * size :]
    if len(mask):
        for k in range(size):
            g[k] *= mask[k]
    for k in range(size):
        cell[k] = f[k] * before[k] + i[k] * g[k]
    if len(affine.cell_gain):
        _layer_norm(cell, normed)
        _affine(normed, affine.cell_gain, affine.cell_bias, shown)
    else:
        shown[:] = cell
    _tanh(shown, 1)
    for k in range(size):
        shown[k] *= o[k]


@_fast
def _layer_norm(x, out):
    """Write `x` normalised to mean 0 and variance 1; 1 / its standard deviation."""
    mean = variance = x.dtype.type(0)
    for k in range(len(x)):
        mean += x[k]
    mean /= x.dtype.type(len(x))
    for k in range(len(x)):
        variance += (x[k] - mean) * (x[k] - mean)
    variance /= x.dtype.type(len(x))
    rstd = x.dtype.type(1) / math.sqrt(variance + x.dtype.type(EPSILON))
    for k in range(len(x)):
        out[k] = (x[k] - mean) * rstd
    return rstd


@_fast
def _affine(x, gain, bias, out):
    """X * gain + bias; an empty `gain` is 1 (of a decoder without layer norm)."""
    if len(gain):
        for k in range(len(x)):
            out[k] = x[k] * gain[k] + bias[k]
    else:
        for k in range(len(x)):
            out[k] = x[k] + bias[k]


@_fast
def _activate(gates):
    """In place: tanh of the candidate, sigmoid of the other gates."""
    size = len(gates) // 4
    _tanh(gates[: 2 * size], 0.5)
    _tanh(gates[2 * size : 3 * size], 1)
    _tanh(gates[3 * size :], 0.5)


@_fast
def _accumulate_norm_grads(d, normed, d_gain, d_bias):
    """Add one row's gradients of a layer norm's gain and bias."""
    for k in range(len(d)):
        d_gain[k] += d[k] * normed[k]
        d_bias[k] += d[k]


@_fast
def _layer_norm_backward(d, gain, normed, rstd):
    """In place: the gradient of a layer norm's input from that of its output."""
    mean = along = d.dtype.type(0)
    for k in range(len(d)):
        d[k] *= gain[k]
        mean += d[k]
        along += d[k] * normed[k]
    mean /= d.dtype.type(len(d))
    along /= d.dtype.type(len(d))
    for k in range(len(d)):
        d[k] = rstd * (d[k] - mean - normed[k] * along)


@_fast
def _tanh(x, steepness):
    """In place: tanh for a `steepness` of 1; for 1/2 the sigmoid, (1 + tanh(x / 2)) / 2."""
    a, rest = x.dtype.type(steepness), x.dtype.type(1 - steepness)
    if x.itemsize == 8:  # exact
        for k in range(len(x)):
            x[k] = a * math.tanh(a * x[k]) + rest
    else:
        for k in range(len(x)):
            x[k] = a * _tanh32(a * x[k]) + rest


@kernel
def _tanh32(x):
    """tanh(x / 2) by seven levels of Lambert's continued fraction, then doubled; error 3e-7."""
    half = np.float32(0.5) * (math.copysign(np.float32(9), x) if abs(x) > np.float32(9) else x)
    y = half * half
    p = half * (((y + np.float32(378)) * y + np.float32(17325)) * y + np.float32(135135))
    q = ((np.float32(28) * y + np.float32(3150)) * y + np.float32(62370)) * y + np.float32(135135)
    return np.float32(2) * p * q / (p * p + q * q)
