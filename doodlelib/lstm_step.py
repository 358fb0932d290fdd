"""What a step of our LSTM does beside its matrix product, both ways, compiled by Numba.

PyTorch's own functions carry every array of a step through memory a dozen times; here a row stays
in the cache. `lstm_torch` has the same step in PyTorch, and the tests hold this one to it. Arrays
of bfloat16, which NumPy does not have, come and go as int16 of the same bits.

B batch, H hidden; gates lie in the order input, forget, candidate, output.
"""

import numpy as np

from doodlelib.lstm_rows import (
    activate,
    fast,
    gather,
    read,
    shift,
    standardise,
    tanh,
    unscale,
    write,
)


@fast
def forward(t, total, affine, keep, trace, y):
    """Step `t`: from the products of its gates to its cell and output.

    Args:
        t: Which step.
        total: (B, 4 H) input's and recurrent share of the gates, of the products' type.
        affine: `lstm_trace.Affine`.
        keep: (T, B, H) factor of the candidate; empty: 1.
        trace: `lstm_trace.Trace`, filled.
        y: (T, B, H), filled with the outputs.
    """
    size = trace.cells.shape[2]
    wide = np.empty(4 * size, np.int32)
    shared = wide.view(np.float32)
    active, keep_all = np.empty(4 * size, y.dtype), np.empty(0, y.dtype)
    for b in range(len(total)):
        read(total[b], wide, shared, trace.gates[t, b])
        kept = keep[t, b] if len(keep) else keep_all
        cell, shown = trace.cells[t + 1, b], y[t, b]
        _gates(trace.gates[t, b], affine, trace.rstd[t, b], active)
        _through(active, affine, kept, trace.cells[t, b], cell, shown)
        write(shown, wide, shared, trace.before[t + 1, b])


@fast
def advance(total, affine, cell, h):
    """The same without a trace, for drawing: `cell` goes on in place, `h` is written.

    Args:
        total: (B, 4 H) input's and recurrent share of the gates, of the products' type.
        affine: `lstm_trace.Affine`.
        cell: (B, H).
        h: (B, H), of the products' type.
    """
    size = cell.shape[1]
    wide = np.empty(4 * size, np.int32)
    shared = wide.view(np.float32)
    gates, shown = np.empty(4 * size, cell.dtype), np.empty(size, cell.dtype)
    rstd, keep_all = np.empty(4, cell.dtype), np.empty(0, cell.dtype)
    for b in range(len(cell)):
        read(total[b], wide, shared, gates)
        _gates(gates, affine, rstd, gates)
        _through(gates, affine, keep_all, cell[b], cell[b], shown)
        write(shown, wide, shared, h[b])


@fast
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
    for b in range(len(dc)):
        gates, cell = trace.gates[t, b], trace.cells[t + 1, b]
        shift(gates, affine.gain, affine.bias, active)
        activate(active)
        if len(affine.cell_gain):
            rstd = standardise(cell, normed)
            shift(normed, affine.cell_gain, affine.cell_bias, shown)
        else:
            shown[:] = cell
        tanh(shown)
        read(dh[b], wide, shared, dh_row)
        _open(dh_row, dy[t, b], active[3 * size :], shown, d_shown, d_active[3 * size :])
        if len(affine.cell_gain):
            gather(d_shown, normed, d_affine.cell_gain, d_affine.cell_bias)
            unscale(d_shown, affine.cell_gain, normed, rstd)
        kept = keep[t, b] if len(keep) else keep_all
        _share(d_shown, kept, trace.cells[t, b], active, dc[b], d_active)
        if len(affine.gain):
            gather(d_active, gates, d_affine.gain, d_affine.bias)
            for k in range(4):
                own = slice(k * size, (k + 1) * size)
                unscale(d_active[own], affine.gain[own], gates[own], trace.rstd[t, b, k])
        else:
            for k in range(4 * size):
                d_affine.bias[k] += d_active[k]
        write(d_active, wide, shared, d_gates[t, b])


@fast
def _open(dh, dy, o, shown, d_shown, d_o):
    """Through the output gate: from a row's gradient to those of what it shows and of the gate."""
    one = dh.dtype.type(1)
    for k in range(len(dh)):
        total = dh[k] + dy[k]
        d_o[k] = total * shown[k] * o[k] * (one - o[k])
        d_shown[k] = total * o[k] * (one - shown[k] * shown[k])


@fast
def _share(d_cell, kept, before, active, dc, d_active):
    """From a row's gradient of the cell to those of the other gates and, in `dc`, the cell before.

    Args:
        d_cell: (H), by way of the output; that by way of the next step is in `dc`.
        kept: (H) factor of the candidate; empty: 1.
        before: (H) cell.
        active: (4 H) gates.
        dc: (H).
        d_active: (4 H).
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


@fast
def _gates(gates, affine, rstd, active):
    """Standardise `gates` where there is layer norm, and write the gates as they act.

    Args:
        gates: (4 H) of one drawing; may be `active`.
        affine: `lstm_trace.Affine`.
        rstd: (4) gets the factors.
        active: (4 H).
    """
    size = len(gates) // 4
    if len(affine.gain):
        for k in range(4):
            own = gates[k * size : (k + 1) * size]
            rstd[k] = standardise(own, own)
    shift(gates, affine.gain, affine.bias, active)
    activate(active)


@fast
def _through(active, affine, kept, before, cell, shown):
    """From the gates and the cell `before` to the new `cell` and, in `shown`, the output.

    Args:
        active: (4 H) of `_gates`.
        affine: `lstm_trace.Affine`.
        kept: (H) factor of the candidate; empty: 1.
        before: (H); may be `cell`.
        cell: (H).
        shown: (H).
    """
    size = len(cell)
    i, f, g, o = (
        active[:size],
        active[size : 2 * size],
        active[2 * size : 3 * size],
        active[3 * size :],
    )
    if len(kept):
        for k in range(size):
            g[k] *= kept[k]
    for k in range(size):
        cell[k] = f[k] * before[k] + i[k] * g[k]
        shown[k] = cell[k]
    if len(affine.cell_gain):
        standardise(cell, shown)
        shift(shown, affine.cell_gain, affine.cell_bias, shown)
    tanh(shown)
    for k in range(size):
        shown[k] *= o[k]
