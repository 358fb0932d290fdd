"""What a step of our LSTM does beside its matrix product, both ways, compiled by Numba.

PyTorch's own functions carry every array of a step through memory a dozen times; here a row stays
in the cache. `lstm_torch` has the same step in PyTorch, and the tests hold this one to it. Arrays
of bfloat16, which NumPy does not have, come and go as int16 of the same bits.

B batch, H hidden; gates lie in the order input, forget, candidate, output. `kept` is the factor of
a row's candidate; empty: 1. Rows are arrays of their own: loops are not vectorised, and ten times
slower, over those unpacked from an array of rows (strided to Numba) or into the row read from.
"""

import math

import numpy as np

from doodlelib.fast.lstm_trace import EPSILON
from doodlelib.jit import kernel

# Sums may be taken in any order; but a NaN stays one, since `train.fit` looks for it.
_FAST = ("reassoc", "contract", "arcp", "nsz")


def _fast(function):
    return kernel(function, fastmath=_FAST)


@_fast
def forward(t, first, total, affine, keep, trace, y):
    """Step `t` of some rows: from the products of their gates to their cells and outputs.

    Args:
        t: Which step.
        first: The first of n rows; they lie one behind the other.
        total: (n, 4 H) input's and recurrent share of the gates, of the products' type.
        affine: `lstm_trace.Affine`.
        keep: (T, B, H) factor of the candidate; empty: 1.
        trace: `lstm_trace.Trace`, filled.
        y: (T, B, H), filled with the outputs.
    """
    size = trace.cells.shape[2]
    wide = np.empty(4 * size, np.int32)
    shared = wide.view(np.float32)
    raw, active = np.empty(4 * size, y.dtype), np.empty(4 * size, y.dtype)
    keep_all = np.empty(0, y.dtype)
    for n in range(len(total)):
        b = first + n
        _read(total[n], wide, shared, raw)
        kept = keep[t, b] if len(keep) else keep_all
        cell, shown = trace.cells[t + 1, b], y[t, b]
        _gates(raw, affine, trace.gates[t, b], trace.rstd[t, b], active)
        _through(active, affine, kept, trace.cells[t, b], cell, raw[:size], shown)
        write(shown, wide, shared, trace.before[t + 1, b])


@_fast
def advance(affine, total, cell, read, above):
    """For drawing: rows of `cell` go on; outputs end those of `read` and begin those of `above`."""
    size, first, kind = cell.shape[1], read.shape[1] - cell.shape[1], cell.dtype
    wide = np.empty(4 * size, np.int32)
    shared = wide.view(np.float32)
    raw, gates = np.empty(4 * size, kind), np.empty(4 * size, kind)
    active, rstd = np.empty(4 * size, kind), np.empty(4, kind)
    new, shown, keep_all = np.empty(size, kind), np.empty(size, kind), np.empty(0, kind)
    for b in range(len(cell)):
        _read(total[b], wide, shared, raw)
        _gates(raw, affine, gates, rstd, active)
        _through(active, affine, keep_all, cell[b], new, raw[:size], shown)
        cell[b] = new
        write(shown, wide, shared, read[b][first:])
        write(shown, wide, shared, above[b][:size])


@_fast
def backward(t, first, dh, dy, dc, affine, keep, trace, d_gates, d_affine):  # noqa: D417
    """Step `t` the other way.

    Args:
        t, first: See `forward`.
        dh: (n, H) gradient of the step's output by way of the next step, of the products' type.
        dy: (T, B, H) gradients of the outputs.
        dc: (B, H) gradient of the step's cell by way of the next step; then of the cell before.
        affine, keep, trace: See `forward`.
        d_gates: (T, B, 4 H) gets the gradient of the step's products.
        d_affine: `lstm_trace.Affine` whose gradients are added to.
    """
    size = dc.shape[1]
    wide = np.empty(4 * size, np.int32)
    shared = wide.view(np.float32)
    keep_all = np.empty(0, dc.dtype)
    dh_row, d_shown = np.empty(size, dc.dtype), np.empty(size, dc.dtype)
    shown, normed = np.empty(size, dc.dtype), np.empty(size, dc.dtype)
    active, d_active = np.empty(4 * size, dc.dtype), np.empty(4 * size, dc.dtype)
    rstd = dc.dtype.type(1)
    for n in range(len(dh)):
        b = first + n
        gates, cell = trace.gates[t, b], trace.cells[t + 1, b]
        _shift(gates, affine.gain, affine.bias, active)
        _activate(active)
        if len(affine.cell_gain):
            rstd = _standardise(cell, normed)
            _shift(normed, affine.cell_gain, affine.cell_bias, shown)
        else:
            shown[:] = cell
        _bend(shown, 1)
        _read(dh[n], wide, shared, dh_row)
        _open(dh_row, dy[t, b], active[3 * size :], shown, d_shown, d_active[3 * size :])
        if len(affine.cell_gain):
            _gather(d_shown, normed, d_affine.cell_gain, d_affine.cell_bias)
            _unscale(d_shown, affine.cell_gain, normed, rstd)
        kept = keep[t, b] if len(keep) else keep_all
        _share(d_shown, kept, trace.cells[t, b], active, dc[b], d_active)
        if len(affine.gain):
            _gather(d_active, gates, d_affine.gain, d_affine.bias)
            for k in range(4):
                own = slice(k * size, (k + 1) * size)
                _unscale(d_active[own], affine.gain[own], gates[own], trace.rstd[t, b, k])
        else:
            for k in range(4 * size):
                d_affine.bias[k] += d_active[k]
        write(d_active, wide, shared, d_gates[t, b])


@_fast
def _open(dh, dy, o, shown, d_shown, d_o):
    """Through the output gate: from a row's gradient to those of what it shows and of the gate."""
    one = dh.dtype.type(1)
    for k in range(len(dh)):
        total = dh[k] + dy[k]
        d_o[k] = total * shown[k] * o[k] * (one - o[k])
        d_shown[k] = total * o[k] * (one - shown[k] * shown[k])


@_fast
def _share(d_cell, kept, before, active, dc, d_active):
    """From a row's gradient of the cell to those of the other gates and, in `dc`, the cell before.

    `d_cell` is that by way of the output; that by way of the next step is in `dc`.
    """
    # parts of their own: only indices that cannot be negative are vectorised
    size, one = len(dc), dc.dtype.type(1)
    i, f, g = active[:size], active[size : 2 * size], active[2 * size : 3 * size]
    d_i, d_f, d_g = d_active[:size], d_active[size : 2 * size], d_active[2 * size : 3 * size]
    for k in range(size):
        d = dc[k] + d_cell[k]
        d_f[k] = d * before[k] * f[k] * (one - f[k])
        dc[k] = d * f[k]
        d_i[k] = d * g[k] * i[k] * (one - i[k])
        d_g[k] = d * i[k] * (one - g[k] * g[k])
    if len(kept):
        for k in range(size):
            d_i[k] *= kept[k]
            d_g[k] *= kept[k]


@_fast
def _gates(raw, affine, gates, rstd, active):
    """From a row of products to `gates`, standardised if there is layer norm, and as they act."""
    size = len(raw) // 4
    if len(affine.gain):
        for k in range(4):
            own = slice(k * size, (k + 1) * size)
            rstd[k] = _standardise(raw[own], gates[own])
    else:
        gates[:] = raw
    _shift(gates, affine.gain, affine.bias, active)
    _activate(active)


@_fast
def _through(active, affine, kept, before, cell, normed, shown):
    """From a row of gates and the cell `before` to the new `cell` and, in `shown`, the output.

    `normed` is room.
    """
    size = len(cell)
    i, f = active[:size], active[size : 2 * size]
    g, o = active[2 * size : 3 * size], active[3 * size :]
    if len(kept):
        for k in range(size):
            g[k] *= kept[k]
    for k in range(size):
        cell[k] = f[k] * before[k] + i[k] * g[k]
    if len(affine.cell_gain):
        _standardise(cell, normed)
        _shift(normed, affine.cell_gain, affine.cell_bias, shown)
    else:
        shown[:] = cell
    _bend(shown, 1)
    for k in range(size):
        shown[k] *= o[k]


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


@_fast  # `draw_step.draw` has it compiled in, which Numba renews only when that file changes
def write(source, wide, shared, out):
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
def _shift(x, gain, bias, out):
    """Multiply and add; no `gain`: 1."""
    if len(gain):
        for k in range(len(x)):
            out[k] = x[k] * gain[k] + bias[k]
    else:
        for k in range(len(x)):
            out[k] = x[k] + bias[k]


@_fast
def _activate(gates):
    """In place: tanh of the candidate, sigmoid of the others."""
    size = len(gates) // 4
    _bend(gates[: 2 * size], 0.5)
    _bend(gates[2 * size : 3 * size], 1)
    _bend(gates[3 * size :], 0.5)


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
def _bend(x, steepness):
    """In place: the tanh for a `steepness` of 1, for 1/2 the sigmoid, (1 + tanh(x / 2)) / 2."""
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
