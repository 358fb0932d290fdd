"""Functions of a row of numbers, of which `lstm_step` is made, compiled by Numba.

Rows are apart in memory or the same; what is written through views that Numba takes for strided
(rows unpacked from an array of them, say) is not vectorised, and ten times slower.
"""

import math
from collections.abc import Callable

import numba
import numpy as np

from doodlelib.kernels import kernel
from doodlelib.lstm_trace import EPSILON

# Sums may be taken in any order; but a NaN stays one, since `train.fit` looks for it.
_FAST = {"reassoc", "contract", "arcp", "nsz"}


def fast(function: Callable) -> Callable:
    """`function` compiled."""
    return kernel(function, fastmath=_FAST)


@fast
def read(source, wide, shared, out):
    """Copy a row; int16 are the bits of bfloat16, for which `wide` and `shared` are one room."""
    if source.itemsize == 2:
        for k in range(len(out)):
            wide[k] = np.int32(source[k]) << 16
        for k in range(len(out)):
            out[k] = shared[k]
    else:
        for k in range(len(out)):
            out[k] = source[k]


@fast
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


@fast
def standardise(x, out):
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


@fast
def shift(x, gain, bias, out):
    """Multiply and add; no `gain`: 1."""
    if len(gain):
        for k in range(len(x)):
            out[k] = x[k] * gain[k] + bias[k]
    else:
        for k in range(len(x)):
            out[k] = x[k] + bias[k]


@fast
def activate(gates):
    """In place: tanh of the candidate, sigmoid of the others."""
    size = len(gates) // 4
    sigmoid(gates[: 2 * size])
    tanh(gates[2 * size : 3 * size])
    sigmoid(gates[3 * size :])


@fast
def gather(d, normed, d_gain, d_bias):
    """Add what a row `d`, the gradient after a norm, means for the norm's gain and bias."""
    for k in range(len(d)):
        d_gain[k] += d[k] * normed[k]
        d_bias[k] += d[k]


@fast
def unscale(d, gain, normed, rstd):
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


@fast
def tanh(x):
    """In place; exact in float64."""
    if x.itemsize == 8:
        for k in range(len(x)):
            x[k] = math.tanh(x[k])
    else:
        for k in range(len(x)):
            x[k] = _tanh32(x[k])


@fast
def sigmoid(x):
    """In place: (1 + tanh(x / 2)) / 2."""
    for k in range(len(x)):
        x[k] *= np.float32(0.5)
    tanh(x)
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
