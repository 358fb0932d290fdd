"""The decoder on a CPU, compiled: the next row of many drawings at once.

A step in PyTorch is some hundred small functions, whose calls take most of its time where there are
few drawings. Here it is one matrix product for each layer and one for the head, and two loops that
Numba compiles: the LSTM cell, and the choice of the row. What a layer reads lies beside its hidden
state, and the condition's share of the gates is computed once. `models.sampling.Decoder` is the
definition.

B drawing, T row, F feature, C condition, H hidden, M mixture component.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from doodlelib.fast.lstm import Affine
from doodlelib.fast.lstm_cpu import as_arrays, decode_step, store
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
    """Whether this is wanted, and works where `like` is."""
    return is_fast() and like.device.type == "cpu"


class CompiledDecoder:
    """State and weights of a decoder. Under autocast the matrix products are of its type.

    Args:
        layers: Parameters of each `PlainLayer` or `NormLayer`, by name.
        states: First h and c of each layer, (B, H).
        condition: (B, C) what the first layer reads at every step, behind the features.
        head: Weight and bias from hidden states to pen logits and mixture parameters.
        features: (F) of the first row.
        limits: See `Limits`.
    """

    def __init__(
        self,
        layers: Sequence[Mapping[str, Tensor]],
        states: Sequence[tuple[Tensor, Tensor]],
        condition: Float[Tensor, "B C"],
        head: tuple[Tensor, Tensor],
        features: Float[Tensor, " F"],
        limits: Limits,
    ) -> None:
        dtype = condition.dtype
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
        self.limits, self.weights, self.affines = limits, [], []
        self.head_weight, self.head_bias = head[0].t().contiguous(), head[1]
        self.tensors: dict[str, Tensor] = {}  # by name, with a row for each drawing
        for number, (layer, (h, c)) in enumerate(zip(layers, states, strict=True)):
            weight_ih, weight_hh, affine = _weights(layer)
            known = h[:, :0]
            if number == 0:
                known = F.linear(condition, weight_ih[:, NUM_FEATURES:])
                weight_ih = weight_ih[:, :NUM_FEATURES]
            self.affines.append(as_arrays(affine))
            self.weights.append(torch.cat([weight_ih, weight_hh], 1).to(dtype).t().contiguous())
            read = torch.cat([h.new_zeros(len(h), weight_ih.shape[1]), h], 1)
            new = {"cell": c.to(weight_hh.dtype), "read": read.to(dtype), "known": known.to(dtype)}
            self.tensors |= {f"{name} {number}": value for name, value in new.items()}
        self.tensors["hidden"] = self.head_bias.new_zeros(states[-1][0].shape)
        self.tensors["pen"] = condition.new_zeros(len(condition), 2, 2)
        self._carry(torch.arange(len(condition)))
        self.tensors["read 0"][:, :NUM_FEATURES] = features

    def select(self, order: Int64[Tensor, " n"]) -> Self:
        """A decoder of its own for the drawings of these numbers, which may repeat."""
        new = copy.copy(self)
        new._carry(order)
        return new

    def compact(self, into: Int64[np.ndarray, " n"], out_of: Int64[np.ndarray, " n"]) -> None:
        """Copy the drawings `out_of` to the places `into`."""
        for array in self.arrays.values():
            array[into] = array[out_of]

    def advance(
        self, features: Float[Tensor, "T F"], pen: Float[Tensor, "2 2"]
    ) -> Float[Tensor, "T B H"]:
        """Hidden states that predict each of T rows, the same for all drawings; reads the rows.

        Args:
            features: Of the rows.
            pen: After the last of them: position and start of the stroke.
        """
        hidden = self.tensors["hidden"].new_empty(len(features), *self.tensors["hidden"].shape)
        for row, states in zip(features, hidden, strict=True):
            states[:] = self._step(len(states))
            self.tensors["read 0"][:, :NUM_FEATURES] = row
        self.tensors["pen"][:] = pen
        return hidden

    def next_rows(
        self,
        numbers: Float[Tensor, "N 6"],
        which: Int64[np.ndarray, " b"],
        temperature: float,
        time_temperature: float,
    ) -> Float[np.ndarray, "b 6"]:
        """Sample the next row of the first b drawings; see `models.sampling.Decoder.next_rows`."""
        hidden = self._step(len(which))
        with torch.autocast("cpu", enabled=False):  # the mixture needs full precision
            output = torch.addmm(self.head_bias, hidden, self.head_weight).numpy()
        rows = np.empty((len(which), 6), output.dtype)
        temperatures = float(temperature), float(time_temperature)
        state = self.arrays["pen"], self.arrays["read 0"]
        _sample_rows(rows, output, numbers.numpy(), which, *state, *temperatures, self.limits)
        return rows

    def _carry(self, order: Int64[Tensor, " n"]) -> None:
        """Copy the tensors of these drawings; arrays share their memory."""
        self.tensors = {name: values[order] for name, values in self.tensors.items()}
        self.arrays = {name: as_arrays(values) for name, values in self.tensors.items()}

    def _step(self, count: int) -> Float[Tensor, "b H"]:
        """The last layer's hidden states of the first `count` drawings, once they read their row.

        The next step writes over them.
        """
        above = [f"read {number}" for number in range(1, len(self.weights))] + ["hidden"]
        for number, (weight, affine) in enumerate(zip(self.weights, self.affines, strict=True)):
            product = torch.mm(self.tensors[f"read {number}"][:count], weight)
            names = f"known {number}", f"cell {number}", f"read {number}", above[number]
            own = (self.arrays[name][:count] for name in names)
            decode_step(affine, as_arrays(product), *own)
        return self.tensors["hidden"][:count]


def _weights(layer: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Affine]:
    """Weights of the inputs, recurrent ones, and the rest, of one layer's parameters."""
    if "lstm.weight_ih_l0" in layer:
        weight_ih, weight_hh, bias_ih, bias_hh = layer.values()
        return weight_ih, weight_hh, Affine(bias_ih + bias_hh, *3 * [bias_ih[:0]])
    weight_ih, weight_hh, bias, *norm = layer.values()
    return weight_ih, weight_hh, Affine(bias, *norm or 3 * [bias[:0]])


@kernel
def _sample_rows(rows, output, numbers, which, pen, read, temperature, time_temperature, limits):
    """Sample each drawing's next row, and write what the decoder reads next.

    Args:
        rows: (B, 6) gets the rows. The other arrays may have more.
        output: (B, 3 + 2 M 9) of the head.
        numbers: (N, 6) random, see `models.sampling.Decoder.next_rows`.
        which: (B) of the numbers each drawing takes.
        pen: (B, 2, 2) position and start of the stroke; moved along.
        read: (B, at least F) gets the features, but for the flag behind the row, which stays.
        temperature: Of pen and position.
        time_temperature: Of the time.
        limits: `Limits`.
    """
    modes = (output.shape[1] - PEN_STATES) // (2 * PARAMETERS)
    logits, sums = np.empty(modes, output.dtype), np.empty(max(modes, PEN_STATES), output.dtype)
    noise_scale, time_noise_scale = math.sqrt(temperature), math.sqrt(time_temperature)
    bits, offsets = np.empty(rows.shape[1], np.int32), np.empty(4, output.dtype)
    floats = bits.view(np.float32)
    for b in range(len(rows)):
        chance, noise = numbers[which[b], :3], numbers[which[b], 3:]
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
        offsets[:2] = pen[b, 0] * limits.half_boxes
        offsets[2:] = (pen[b, 0] - pen[b, 1]) * limits.half_boxes
        store(rows[b], bits, floats, read[b][: len(rows[b])])
        store(offsets, bits, floats, read[b][NUM_FEATURES - len(offsets) : NUM_FEATURES])


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
