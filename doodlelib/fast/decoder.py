"""The decoder on a CPU, compiled: the next row of many drawings at once.

A step in PyTorch is some hundred small functions, whose calls take most of its time where there are
few drawings. Here it is one matrix product for each layer and one for the head, and two loops that
Numba compiles: the LSTM cell, and the choice of the row. What a layer reads lies beside its hidden
state, and the condition's share of the gates is computed once. `models.sampling.Decoder` is the
definition.

B drawing, F feature, C condition, H hidden, M mixture component.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from doodlelib.fast.lstm import Affine
from doodlelib.fast.lstm_cpu import as_arrays, decode_step
from doodlelib.jit import is_fast, kernel

# Layout of rows, features and outputs: of `strokes`, `models.network` and `models.mdn`.
DT, PEN, NUM_FEATURES, PEN_STATES, PARAMETERS = 2, 3, 11, 3, 9
PEN_UP, END = 1, 2


class Limits(NamedTuple):
    """Constants of the mixture (see `models.mdn`) and of the features."""

    max_log: float
    max_rho: float
    max_time: float
    least_square: float
    reg_covar: float
    half_boxes: float  # in one unit of length
    timed: float  # 1, or 0 where rows carry no times


def is_available(like: Tensor) -> bool:
    """Whether `CompiledDecoder` is wanted, and works where `like` is."""
    return is_fast() and like.device.type == "cpu"


class CompiledDecoder:
    """State and weights of a decoder; see `models.sampling.Decoder`."""

    def __init__(
        self,
        layers: Sequence[Mapping[str, Tensor]],  # parameters by name
        states: Sequence[tuple[Tensor, Tensor]],  # h and c of each layer, (B, H)
        condition: Float[Tensor, "B C"],  # read at every step, behind the features
        head: tuple[Tensor, Tensor],  # weight and bias
        features: Float[Tensor, "B F"],  # of the last row of each drawing, which is read next
        pen: Float[Tensor, "B 2 2"],  # position and start of the stroke after that row
        limits: Limits,
    ) -> None:
        self.limits, self.weights, self.affines = limits, [], []
        self.head_weight, self.head_bias = head[0].t().contiguous(), head[1]
        tensors = {"hidden": states[-1][0], "pen": pen}  # by name, with a row for each drawing
        for number, (layer, (h, c)) in enumerate(zip(layers, states, strict=True)):
            weight_ih, weight_hh, affine = _weights(layer)
            if number == 0:
                inputs, known = features, F.linear(condition, weight_ih[:, NUM_FEATURES:])
                weight_ih = weight_ih[:, :NUM_FEATURES]
            else:
                inputs, known = h.new_zeros(len(h), weight_ih.shape[1]), h[:, :0]
            self.affines.append(as_arrays(affine))
            self.weights.append(as_arrays(torch.cat([weight_ih, weight_hh], 1).t().contiguous()))
            new = {"cell": c, "read": torch.cat([inputs, h], 1), "known": known}
            tensors |= {f"{name} {number}": value for name, value in new.items()}
        dtype = self.head_bias.dtype  # also under autocast
        self._hold({name: value.to(dtype, copy=True) for name, value in tensors.items()})

    def select(self, order: slice | Tensor) -> Self:
        """A decoder of the drawings at these places; those of a slice share their memory."""
        new = copy.copy(self)
        new._hold({name: values[order] for name, values in self.tensors.items()})
        return new

    @torch.no_grad()
    def next_rows(
        self, numbers: Float[Tensor, "B 6"], temperature: float, time_temperature: float
    ) -> Float[np.ndarray, "B 6"]:
        """Sample the next row of each drawing; see `models.sampling.Decoder.next_rows`."""
        hidden = self.tensors["hidden"]
        above = [f"read {number}" for number in range(1, len(self.weights))] + ["hidden"]
        with torch.autocast("cpu", enabled=False):
            for number, (weight, affine) in enumerate(zip(self.weights, self.affines, strict=True)):
                product = np.matmul(self.arrays[f"read {number}"], weight)
                names = f"known {number}", f"cell {number}", f"read {number}", above[number]
                decode_step(affine, product, *(self.arrays[name] for name in names))
            output = torch.addmm(self.head_bias, hidden, self.head_weight).numpy()
        rows = np.empty((len(output), 6), output.dtype)
        temperatures = map(float, (temperature, time_temperature))
        state = self.arrays["pen"], self.arrays["read 0"]
        _sample_rows(rows, output, numbers.numpy(), *state, *temperatures, self.limits)
        return rows

    def _hold(self, tensors: dict[str, Tensor]) -> None:
        """Work on `tensors`, and on arrays of the same memory."""
        self.tensors = {name: values.contiguous() for name, values in tensors.items()}
        self.arrays = {name: as_arrays(values) for name, values in self.tensors.items()}


def _weights(layer: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Affine]:
    """Weights of the inputs, recurrent ones, and the rest, of one layer's parameters."""
    if "lstm.weight_ih_l0" in layer:
        weight_ih, weight_hh, bias_ih, bias_hh = layer.values()
        return weight_ih, weight_hh, Affine(bias_ih + bias_hh, *3 * [bias_ih[:0]])
    weight_ih, weight_hh, bias, *norm = layer.values()
    return weight_ih, weight_hh, Affine(bias, *norm or 3 * [bias[:0]])


@kernel
def _sample_rows(rows, output, numbers, pen, read, temperature, time_temperature, limits):
    """Fill each drawing's next row, `pen` after it, and the features of it that are `read` next.

    From the head's `output`, (B, 3 + 2 M 9), as `models.sampling.Decoder.next_rows`. The flag
    behind the row stays as it is.
    """
    modes = (output.shape[1] - PEN_STATES) // (2 * PARAMETERS)
    logits, sums = np.empty(modes, output.dtype), np.empty(max(modes, PEN_STATES), output.dtype)
    noise_scale, time_noise_scale = math.sqrt(temperature), math.sqrt(time_temperature)
    for b in range(len(rows)):
        chance, noise = numbers[b, :3], numbers[b, 3:]
        event = _choose(output[b, :PEN_STATES], temperature, chance[0], sums)
        rows[b] = 0
        rows[b, PEN + event] = 1
        if event == END:
            continue
        first = PEN_STATES + modes * PARAMETERS * (event == PEN_UP)
        mixture = output[b, first : first + modes * PARAMETERS].reshape(modes, PARAMETERS)
        for m in range(modes):
            logits[m] = mixture[m, 0]
        chosen = mixture[_choose(logits, temperature, chance[1], sums)]
        std_x, std_y, rho = _covariance(chosen, limits)
        correlated = rho * noise[0] + math.sqrt(1 - rho**2) * noise[1]
        dx = chosen[1] + std_x * noise_scale * noise[0]
        dy = chosen[2] + std_y * noise_scale * correlated
        for m in range(modes):
            std_x, std_y, rho = _covariance(mixture[m], limits)
            zx, zy = (dx - mixture[m, 1]) / std_x, (dy - mixture[m, 2]) / std_y
            rest = 1 - rho**2
            logits[m] -= (zx**2 + zy**2 - 2 * rho * zx * zy) / (2 * rest) + math.log(
                std_x * std_y * math.sqrt(rest)
            )
        chosen = mixture[_choose(logits, time_temperature, chance[2], sums)]
        std = math.sqrt(math.exp(2 * _clamped(chosen[8], limits.max_log)) + limits.reg_covar)
        mean = chosen[6] + chosen[7] * 0.5 * math.log(dx**2 + dy**2 + limits.least_square)
        time = _clamped(mean + std * time_noise_scale * noise[2], limits.max_time)

        rows[b, 0], rows[b, 1], rows[b, DT] = dx, dy, time * limits.timed
        pen[b, 0, 0] += rows[b, 0]
        pen[b, 0, 1] += rows[b, 1]
        if event == PEN_UP:
            pen[b, 1] = pen[b, 0]
        read[b, :6] = rows[b]
        read[b, NUM_FEATURES - 4 : NUM_FEATURES - 2] = pen[b, 0] * limits.half_boxes
        read[b, NUM_FEATURES - 2 : NUM_FEATURES] = (pen[b, 0] - pen[b, 1]) * limits.half_boxes


@kernel
def _choose(logits, temperature, chance, sums):
    """`models.mdn.choose`; `sums` is scratch space."""
    best = np.argmax(logits)
    if temperature == 0:
        return best
    total = logits.dtype.type(0)
    for m in range(len(logits)):
        total += math.exp((logits[m] - logits[best]) / temperature)
        sums[m] = total
    for m in range(len(logits)):
        if sums[m] > chance * total:
            return m
    return len(logits) - 1


@kernel
def _covariance(values, limits):
    """Standard deviations of dx and dy, and rho, of a component; see `models.mdn.from_output`."""
    raw_x = math.exp(_clamped(values[3], limits.max_log))
    raw_y = math.exp(_clamped(values[4], limits.max_log))
    std_x = math.sqrt(raw_x**2 + limits.reg_covar)
    std_y = math.sqrt(raw_y**2 + limits.reg_covar)
    return std_x, std_y, math.tanh(values[5]) * limits.max_rho * raw_x * raw_y / (std_x * std_y)


@kernel
def _clamped(value, most):
    return min(max(value, -most), most)
