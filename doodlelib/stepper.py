"""The decoder step by step on a CPU, compiled: the next row of many drawings at once.

A step in PyTorch is some hundred small functions, and for few drawings their calls are most of its
time. Here it is one matrix product a layer and one of the head, and two loops that Numba compiles;
what the condition adds to the gates is computed once. `steps.Steps` is the same in PyTorch, for
any device, and the tests hold this one to it.

B drawing, H hidden, I input of a layer, M mixture component.
"""

import math
from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from doodlelib import mdn
from doodlelib.inputs import INPUTS, Place, inputs
from doodlelib.kernels import kernel
from doodlelib.lstm import FusedLayer, NormLayer, State
from doodlelib.lstm_cpu import as_arrays, laid_out
from doodlelib.lstm_step import advance
from doodlelib.lstm_trace import Affine
from doodlelib.mdn import LEAST_SQUARE, MAX_LOG, MAX_RHO, MAX_TIME, PARAMETERS
from doodlelib.network import PEN_EVENTS, SketchNet
from doodlelib.steps import START, Steps
from doodlelib.strokes import BOX, DT, END, LIFTED, PEN_COLUMNS

_PEN = PEN_COLUMNS.start
_OF_STEPS = ("x", "position", "stroke_start")


class CompiledSteps(Steps):
    """See `steps.Steps`. Under autocast the layers' matrix products are of its type."""

    def __init__(self, net: SketchNet, condition: Float[Tensor, "B C"]) -> None:
        product = condition.dtype
        if torch.is_autocast_enabled("cpu"):
            product = torch.get_autocast_dtype("cpu")
        layers = cast(Iterable[FusedLayer | NormLayer], net.decoder.layers)
        states = net.first_states(condition)
        self.layers = [
            _Layer(layer, state, constant=None if number else condition, product=product)
            for number, (layer, state) in enumerate(zip(layers, states, strict=True))
        ]
        self.net, self.begun = net, START[None].to(condition)
        self.per_box = 2 * net.scale.xy / BOX
        self.position = condition.new_zeros(len(condition), 2)
        self.stroke_start = torch.zeros_like(self.position)
        self.x = self._read(self.begun).repeat(len(condition), 1)  # of the last row, for `_pass`
        self.output = condition.new_empty(len(condition), net.head.out_features)

    @property
    def size(self) -> int:
        """See `steps.Steps.size`."""
        return len(self.x)

    @torch.no_grad()
    def follow(self, rows: Float[Tensor, "T 6"]) -> Float[Tensor, " B"]:
        """See `steps.Steps.follow`. Only the components of each row's kind are computed."""
        self.begun = torch.cat([self.begun, rows])
        hidden = self.x.new_empty(len(rows), self.size, self.net.head.in_features)
        for number, x in enumerate(self._read(rows)):
            hidden[number] = self._pass()
            self.x[:] = x
        bias, weight = self.net.head.bias, self.net.head.weight
        moves = list(zip(weight[PEN_EVENTS:].chunk(2), bias[PEN_EVENTS:].chunk(2), strict=True))
        kinds = rows[:, _PEN + LIFTED].int().tolist()
        with torch.autocast("cpu", enabled=False):  # the likelihood needs full precision
            logits = F.linear(hidden, weight[:PEN_EVENTS], bias[:PEN_EVENTS])
            output = torch.stack(
                [F.linear(y, *moves[kind]) for y, kind in zip(hidden, kinds, strict=True)]
            )
        output, covar = output.unflatten(-1, (-1, PARAMETERS)), self.net.config.reg_covar
        mixture = mdn.from_output(output, reg_covar=covar)
        return mdn.row_nats(logits, mixture, rows[:, None].expand(-1, self.size, -1)).sum(0)

    def next(
        self,
        chance: Float[Tensor, "B 3"],
        noise: Float[Tensor, "B 3"],
        temperature: float,
        time_temperature: float,
    ) -> Float[Tensor, "B 6"]:
        """See `steps.Steps.next`."""
        head = self.net.head
        torch.addmm(head.bias, self._pass().to(self.x.dtype), head.weight.t(), out=self.output)
        rows = self.x.new_empty(self.size, 6)
        arrays = (self.output, chance, noise, self.position, self.stroke_start, rows, self.x)
        settings = temperature, time_temperature, self.net.config.reg_covar, self.per_box
        _draw(*map(Tensor.numpy, arrays), *settings)
        return rows

    def take(self, order: Int64[Tensor, " n"]) -> None:
        """See `steps.Steps.take`."""
        for layer in self.layers:
            layer.take(order)
        _take(self, (*_OF_STEPS, "output"), order)

    def keep(self, into: Int64[Tensor, " n"], out_of: Int64[Tensor, " n"], count: int) -> None:
        """See `steps.Steps.keep`."""
        for layer in self.layers:
            layer.keep(into, out_of, count)
        _keep(self, _OF_STEPS, into, out_of, count)
        self.output = self.output[:count]

    def _read(self, rows: Float[Tensor, "T 6"]) -> Float[Tensor, "T I"]:
        """What the first layer reads at each of `rows`, of all drawings; moves the pen along."""
        x, place = inputs(
            rows[None],
            see_time=torch.ones(1, dtype=torch.bool),
            place=Place(self.position[:1], self.stroke_start[:1]),
            xy=self.net.scale.xy,
        )
        self.position[:], self.stroke_start[:] = place.position, place.stroke_start
        return x[0]

    def _pass(self) -> Float[Tensor, "B H"]:
        """The last layer's hidden states once the last rows are read."""
        y = self.x
        for layer in self.layers:
            y = layer.next(y)
        return y


class _Layer:
    """A layer's weights, and what it carries from step to step."""

    def __init__(
        self,
        layer: FusedLayer | NormLayer,
        state: State,
        *,
        constant: Float[Tensor, "B C"] | None,
        product: torch.dtype,
    ) -> None:
        """Take `layer` and its first `state`; the last of its inputs are `constant`."""
        if isinstance(layer, FusedLayer):
            weights = dict(layer.lstm.named_parameters())
            weight_in, recurrent = weights["weight_ih_l0"], weights["weight_hh_l0"]
            bias, norm = weights["bias_ih_l0"] + weights["bias_hh_l0"], ()
        else:
            weight_in, recurrent, bias = layer.weight_ih, layer.weight_hh, layer.bias
            norm = (layer.gate_gain, *layer.cell_norm.parameters()) if layer.layer_norm else ()
        self.affine = as_arrays(Affine(bias, *(norm or 3 * (bias[:0],))))
        h, cell = state
        self.cell, self.hidden = cell.to(recurrent.dtype).clone(), h.to(product).clone()
        self.known, self.own = None, ("cell", "hidden")
        if constant is not None:
            self.own = (*self.own, "known")
            self.known = F.linear(constant, weight_in[:, INPUTS:]).to(product)
            weight_in = weight_in[:, :INPUTS]
        lay = laid_out if len(h) > 1 else Tensor.t
        self.weight_in, self.recurrent = lay(weight_in.to(product)), lay(recurrent.to(product))
        self.total = self.hidden.new_empty(len(h), 4 * h.shape[1])

    def next(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B H"]:
        """The hidden state after another step."""
        if self.known is None:
            torch.mm(x, self.weight_in, out=self.total)
        else:
            torch.addmm(self.known, x.to(self.total.dtype), self.weight_in, out=self.total)
        self.total.addmm_(self.hidden, self.recurrent)
        advance(as_arrays(self.total), self.affine, self.cell.numpy(), as_arrays(self.hidden))
        return self.hidden

    def keep(self, into: Tensor, out_of: Tensor, count: int) -> None:
        """See `steps.Steps.keep`."""
        _keep(self, self.own, into, out_of, count)
        self.total = self.total[:count]

    def take(self, order: Tensor) -> None:
        """See `steps.Steps.take`."""
        _take(self, (*self.own, "total"), order)


def _take(thing: object, names: tuple[str, ...], order: Tensor) -> None:
    for name in names:
        setattr(thing, name, getattr(thing, name)[order])


def _keep(thing: object, names: tuple[str, ...], into: Tensor, out_of: Tensor, count: int) -> None:
    for name in names:
        values = getattr(thing, name)
        array = as_arrays(values)  # PyTorch would wake its threads for a few rows
        array[into] = array[out_of]
        setattr(thing, name, values[:count])


@kernel
def _draw(
    output,
    chance,
    noise,
    position,
    begun,
    rows,
    x,
    temperature,
    time_temperature,
    reg_covar,
    per_box,
):
    """Draw each drawing's next row, and what the decoder then reads, as `mdn` and `inputs` do.

    Args:
        output: (B, 3 + 2 M 9) of the head.
        chance: (B, 3) uniform numbers, see `steps.Steps.next`.
        noise: (B, 3) normal numbers, likewise.
        position: (B, 2) of the pen; moved along.
        begun: (B, 2) of the first point of its stroke; likewise.
        rows: (B, 6) gets the rows.
        x: (B, INPUTS) gets what the decoder reads next.
        temperature: Of pen and position.
        time_temperature: Of the time.
        reg_covar: See `mdn.from_output`.
        per_box: Halves of the box in one unit.
    """
    modes = (output.shape[1] - PEN_EVENTS) // (2 * PARAMETERS)
    weights, room = np.empty(modes, output.dtype), np.empty(max(modes, PEN_EVENTS), output.dtype)
    spread, time_spread = math.sqrt(temperature), math.sqrt(time_temperature)
    for b in range(len(output)):
        event = _choose(output[b, :PEN_EVENTS], temperature, chance[b, 0], room)
        rows[b] = 0
        rows[b, _PEN + event] = 1
        if event == END:
            continue
        first = PEN_EVENTS + modes * PARAMETERS * (event == LIFTED)
        modes_of = output[b, first : first + modes * PARAMETERS].reshape(modes, PARAMETERS)
        for m in range(modes):
            weights[m] = modes_of[m, 0]
        own = modes_of[_choose(weights, temperature, chance[b, 1], room)]
        std_x, std_y, rho = _spread(own, reg_covar)
        across = rho * noise[b, 0] + math.sqrt(1 - rho**2) * noise[b, 1]
        dx = own[1] + std_x * spread * noise[b, 0]
        dy = own[2] + std_y * spread * across
        for m in range(modes):
            std_x, std_y, rho = _spread(modes_of[m], reg_covar)
            zx, zy = (dx - modes_of[m, 1]) / std_x, (dy - modes_of[m, 2]) / std_y
            rest = 1 - rho**2
            weights[m] -= (zx**2 + zy**2 - 2 * rho * zx * zy) / (2 * rest) + math.log(
                std_x * std_y * math.sqrt(rest)
            )
        own = modes_of[_choose(weights, time_temperature, chance[b, 2], room)]
        std = math.sqrt(math.exp(2 * _clamped(own[8], MAX_LOG)) + reg_covar)
        mean = own[6] + own[7] * 0.5 * math.log(dx**2 + dy**2 + LEAST_SQUARE)
        time = _clamped(mean + std * time_spread * noise[b, 2], MAX_TIME)

        rows[b, 0], rows[b, 1], rows[b, DT] = dx, dy, time
        position[b, 0] += rows[b, 0]
        position[b, 1] += rows[b, 1]
        if event == LIFTED:
            begun[b] = position[b]
        x[b, : len(rows[b])] = rows[b]
        x[b, -4:-2] = position[b] * per_box
        x[b, -2:] = (position[b] - begun[b]) * per_box


@kernel
def _choose(logits, temperature, chance, room):
    """See `mdn.choose`; `room` is for the sums of the weights."""
    best = np.argmax(logits)
    if temperature == 0:
        return best
    total = logits.dtype.type(0)
    for m in range(len(logits)):
        total += math.exp((logits[m] - logits[best]) / temperature)
        room[m] = total
    for m in range(len(logits)):
        if room[m] > chance * total:
            return m
    return len(logits) - 1


@kernel
def _spread(values, reg_covar):
    """Standard deviations of dx and dy, and rho, of a component; see `mdn.from_output`."""
    raw_x, raw_y = math.exp(_clamped(values[3], MAX_LOG)), math.exp(_clamped(values[4], MAX_LOG))
    std_x, std_y = math.sqrt(raw_x**2 + reg_covar), math.sqrt(raw_y**2 + reg_covar)
    return std_x, std_y, math.tanh(values[5]) * MAX_RHO * raw_x * raw_y / (std_x * std_y)


@kernel
def _clamped(value, most):
    return min(max(value, -most), most)
