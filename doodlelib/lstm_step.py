"""What a step of our LSTM does beside its matrix product, both ways, compiled by Numba.

PyTorch's own functions carry every array of a step through memory a dozen times; here a row stays
in the cache. `recurrence` has the same step in PyTorch, for GPUs, and the tests hold this one to
it. Arrays of bfloat16, which NumPy does not have, come and go as int16 of the same bits.

B batch, H hidden; gates lie in the order input, forget, candidate, output.
"""

import math

import numba
import numpy as np

from doodlelib.kernels import kernel

EPSILON = 1e-5  # of the layer norms, as `torch.nn.LayerNorm`
# Sums may be taken in any order; but a NaN stays one, since `train.fit` looks for it.
_FAST = {"reassoc", "contract", "arcp", "nsz"}


def _fast(function):
    return kernel(function, fastmath=_FAST)


@_fast
def forward(t, total, affine, keep, trace):
    """Step `t`: from the products of its gates to its cell and output, into `trace`.

    Args:
        t: Which step.
        total: (B, 4 H) input's and recurrent share of the gates, of the products' type.
        affine: `recurrence.Affine`.
        keep: (T, B, H) factor of the candidate; empty: 1.
        trace: `recurrence.Trace`.
    """
    size = trace.cells.shape[2]
    wide = np.empty(4 * size, np.int32)
    shared = wide.view(np.float32)
    for b in range(len(total)):
        gates, cell, shown = trace.active[t, b], trace.cells[t + 1, b], trace.shown[t, b]
        _read(total[b], wide, shared, gates)
        if len(affine.gain):
            for k in range(4):
                own = gates[k * size : (k + 1) * size]
                normed = trace.gates_normed[t, b, k * size : (k + 1) * size]
                trace.gates_rstd[t, b, k] = _standardise(own, normed)
            _scale(trace.gates_normed[t, b], affine.gain, affine.bias, gates)
        else:
            _add(affine.bias, gates)
        _activate(gates)
        before = trace.cells[t, b]
        if len(keep):
            kept = keep[t, b]
            for k in range(size):
                candidate = gates[2 * size + k] * kept[k]
                cell[k] = gates[size + k] * before[k] + gates[k] * candidate
        else:
            for k in range(size):
                cell[k] = gates[size + k] * before[k] + gates[k] * gates[2 * size + k]
        if len(affine.cell_gain):
            trace.cells_rstd[t, b] = _standardise(cell, trace.cells_normed[t, b])
            _scale(trace.cells_normed[t, b], affine.cell_gain, affine.cell_bias, shown)
        else:
            for k in range(size):
                shown[k] = cell[k]
        _tanh(shown)
        y = trace.y[t, b]
        for k in range(size):
            y[k] = gates[3 * size + k] * shown[k]
        _write(y, wide, shared, trace.before[t + 1, b])


@_fast
def advance(total, affine, cell, h):
    """The same without a trace, for drawing: `cell` goes on in place, `h` is written.

    Args:
        total: (B, 4 H) input's and recurrent share of the gates, of the products' type.
        affine: `recurrence.Affine`.
        cell: (B, H).
        h: (B, H), of the products' type.
    """
    size = cell.shape[1]
    wide = np.empty(4 * size, np.int32)
    shared = wide.view(np.float32)
    gates, shown = np.empty(4 * size, cell.dtype), np.empty(size, cell.dtype)
    for b in range(len(cell)):
        _read(total[b], wide, shared, gates)
        if len(affine.gain):
            for k in range(4):
                own = gates[k * size : (k + 1) * size]
                _standardise(own, own)
            _scale(gates, affine.gain, affine.bias, gates)
        else:
            _add(affine.bias, gates)
        _activate(gates)
        own = cell[b]
        for k in range(size):
            own[k] = gates[size + k] * own[k] + gates[k] * gates[2 * size + k]
            shown[k] = own[k]
        if len(affine.cell_gain):
            _standardise(own, shown)
            _scale(shown, affine.cell_gain, affine.cell_bias, shown)
        _tanh(shown)
        for k in range(size):
            shown[k] *= gates[3 * size + k]
        _write(shown, wide, shared, h[b])


@_fast
def backward(t, dy, dh, dc, affine, keep, trace, d_gates, d_affine):
    """Step `t` the other way.

    Args:
        t: Which step.
        dy: (T, B, H) gradients of the outputs.
        dh: (B, H) gradient of the step's output by way of the next step, of the products' type.
        dc: (B, H) gradient of the step's cell by way of the next step; then of the cell before.
        affine: See `forward`.
        keep: See `forward`.
        trace: See `forward`.
        d_gates: (T, B, 4 H) gets the gradient of the step's products.
        d_affine: `recurrence.Affine` whose gradients are added to.
    """
    size = dc.shape[1]
    wide = np.empty(4 * size, np.int32)
    shared = wide.view(np.float32)
    dh_row, d_shown, kept_row = np.empty((3, size), dc.dtype)
    d_active = np.empty(4 * size, dc.dtype)
    one = dc.dtype.type(1)
    for b in range(len(dc)):
        gates, shown, dc_row = trace.active[t, b], trace.shown[t, b], dc[b]
        _read(dh[b], wide, shared, dh_row)
        for k in range(size):
            dh_k, o = dh_row[k] + dy[t, b, k], gates[3 * size + k]
            d_active[3 * size + k] = dh_k * shown[k] * o * (one - o)
            d_shown[k] = dh_k * o * (one - shown[k] * shown[k])
        if len(affine.cell_gain):
            normed = trace.cells_normed[t, b]
            _gather(d_shown, normed, d_affine.cell_gain, d_affine.cell_bias)
            _unscale(d_shown, affine.cell_gain, normed, trace.cells_rstd[t, b])
        for k in range(size):
            dc_row[k] += d_shown[k]
            kept_row[k] = dc_row[k]
        if len(keep):
            for k in range(size):
                kept_row[k] *= keep[t, b, k]
        before = trace.cells[t, b]
        for k in range(size):
            i, f, g, kept = gates[k], gates[size + k], gates[2 * size + k], kept_row[k]
            d_active[k] = kept * g * i * (one - i)
            d_active[size + k] = dc_row[k] * before[k] * f * (one - f)
            d_active[2 * size + k] = kept * i * (one - g * g)
            dc_row[k] *= f
        if len(affine.gain):
            _gather(d_active, trace.gates_normed[t, b], d_affine.gain, d_affine.bias)
            for k in range(4):
                own = slice(k * size, (k + 1) * size)
                rstd = trace.gates_rstd[t, b, k]
                _unscale(d_active[own], affine.gain[own], trace.gates_normed[t, b, own], rstd)
        else:
            for k in range(4 * size):
                d_affine.bias[k] += d_active[k]
        _write(d_active, wide, shared, d_gates[t, b])


@_fast
def _read(source, wide, shared, out):
    """Copy a row; int16 are the bits of bfloat16, for which `wide` and `shared` are one room."""
    if source.itemsize == 2:
        for k in range(len(out)):
            wide[k] = np.int32(source[k]) << 16
        for k in range(len(out)):
            out[k] = shared[k]
    else:
        for k in range(len(out)):
            out[k] = source[k]


@_fast
def _write(source, wide, shared, out):
    """Copy a row the other way, rounded to the nearest bfloat16, ties to even."""
    if out.itemsize == 2:
        for k in range(len(out)):
            shared[k] = source[k]
        for k in range(len(out)):
            odd = (wide[k] >> 16) & np.int32(1)
            out[k] = (wide[k] + np.int32(0x7FFF) + odd) >> 16
    else:
        for k in range(len(out)):
            out[k] = source[k]


@_fast
def _standardise(x, out):
    """Write `x` with mean 0 and variance 1; the factor that made it so."""
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
def _scale(x, gain, bias, out):
    for k in range(len(x)):
        out[k] = x[k] * gain[k] + bias[k]


@_fast
def _add(bias, out):
    for k in range(len(out)):
        out[k] += bias[k]


@_fast
def _activate(gates):
    """In place: tanh of the candidate, sigmoid of the others."""
    size = len(gates) // 4
    _sigmoid(gates[: 2 * size])
    _tanh(gates[2 * size : 3 * size])
    _sigmoid(gates[3 * size :])


@_fast
def _gather(d, normed, d_gain, d_bias):
    """Add what a row `d`, the gradient after a norm, means for the norm's gain and bias."""
    for k in range(len(d)):
        d_gain[k] += d[k] * normed[k]
        d_bias[k] += d[k]


@_fast
def _unscale(d, gain, normed, rstd):
    """Turn the gradient after a layer norm into the one before it, in place."""
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
def _tanh(x):
    """In place; exact in float64."""
    if x.itemsize == 8:
        for k in range(len(x)):
            x[k] = math.tanh(x[k])
    else:
        for k in range(len(x)):
            x[k] = _tanh32(x[k])


@_fast
def _sigmoid(x):
    """In place: (1 + tanh(x / 2)) / 2."""
    for k in range(len(x)):
        x[k] *= np.float32(0.5)
    _tanh(x)
    for k in range(len(x)):
        x[k] = np.float32(0.5) * x[k] + np.float32(0.5)


@numba.njit(inline="always")
def _tanh32(x):
    """tanh(x / 2) by seven levels of Lambert's continued fraction, then doubled; error 3e-7."""
    half = np.float32(0.5) * (math.copysign(np.float32(9), x) if abs(x) > np.float32(9) else x)
    y = half * half
    p = half * (((y + np.float32(378)) * y + np.float32(17325)) * y + np.float32(135135))
    q = ((np.float32(28) * y + np.float32(3150)) * y + np.float32(62370)) * y + np.float32(135135)
    return np.float32(2) * p * q / (p * p + q * q)
