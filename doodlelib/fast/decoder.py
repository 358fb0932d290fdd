"""The decoder step by step on a CPU, compiled: the next row of many drawings at once.

A step in PyTorch is some hundred small functions, and for few drawings their calls are most of its
time. Here it is one matrix product a layer and one of the head, and two loops that Numba compiles:
what a layer reads lies beside its hidden state, and what the condition adds to the gates is
computed once. `steps.Steps` is the same in PyTorch, for any device, and the tests hold this one to
it.

B drawing, H hidden, I input of a layer, M mixture component.
"""

import copy
from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from doodlelib.fast.draw_step import draw
from doodlelib.fast.lstm_cpu import as_arrays
from doodlelib.fast.lstm_step import advance
from doodlelib.fast.lstm_trace import Affine
from doodlelib.fast.parallel import in_parts
from doodlelib.fast.products import LaidOut, few_sizes
from doodlelib.models import mdn
from doodlelib.models.lstm import FusedLayer, NormLayer, State
from doodlelib.models.mdn import PARAMETERS
from doodlelib.models.network import NUM_FEATURES, PEN_STATES, SketchNet, input_features
from doodlelib.models.steps import START, Steps
from doodlelib.strokes import BOX, PEN_COLUMNS, PEN_UP

WAKE = 1 << 20  # numbers of a layer's weights; for fewer, PyTorch's threads are not worth waking
_PEN = PEN_COLUMNS.start


class _Carried:
    """Tensors that have a row for each drawing, and a few more rows for `few_sizes`.

    Attributes:
        arrays: By the tensors' names, what shares their memory; slices of arrays cost little.
    """

    def carry(self, **tensors: Tensor) -> None:
        """Make copies attributes."""
        self.arrays: dict[str, np.ndarray] = {}
        for name, values in tensors.items():
            new = values.new_zeros(few_sizes(len(values)), *values.shape[1:])
            new[: len(values)] = values
            setattr(self, name, new)
            self.arrays[name] = as_arrays(new)

    def take(self, order: Int64[Tensor, " n"]) -> None:
        """See `steps.Steps.take`."""
        self.carry(**{name: getattr(self, name)[order] for name in self.arrays})

    def keep(self, into: np.ndarray, out_of: np.ndarray, count: int) -> None:
        """See `steps.Steps.keep`."""
        for array in self.arrays.values():
            array[into] = array[out_of]


class CompiledSteps(_Carried, Steps):
    """See `steps.Steps`. Under autocast the layers' matrix products are of its type."""

    at_once = 256  # more would gain nothing, and leave the processor's cache
    hidden: Tensor  # room for `_pass`
    position: Tensor
    stroke_start: Tensor

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
        self.net, self.begun, self.count = net, START[None].to(condition), len(condition)
        self.head = LaidOut(net.head.weight, net.head.bias, most=self.count)
        self.wide = max(layer.weight.weight.numel() for layer in self.layers) >= WAKE
        self.per_box = 2 * net.scale.xy / BOX
        at, hidden = (condition.new_zeros(self.count, size) for size in (2, net.head.in_features))
        self.carry(position=at, stroke_start=at, hidden=hidden)
        self.layers[0].read[:, :NUM_FEATURES] = self._read(self.begun)

    @property
    def size(self) -> int:
        """See `steps.Steps.size`."""
        return self.count

    @torch.no_grad()
    def follow(self, rows: Float[Tensor, "T 6"]) -> Float[Tensor, " B"]:
        """See `steps.Steps.follow`."""
        self.begun = torch.cat([self.begun, rows])
        return in_parts(lambda _: self._follow(rows), 1, wide=self.wide)[0]

    def _follow(self, rows: Float[Tensor, "T 6"]) -> Float[Tensor, " B"]:
        """Only the components of each row's kind are computed."""
        hidden = self.hidden.new_empty(len(rows), self.count, self.hidden.shape[1])
        inputs_of_first = self.layers[0].read[:, :NUM_FEATURES]
        for x, y in zip(self._read(rows), hidden, strict=True):
            y[:] = self._pass(self.count)[: self.count]
            inputs_of_first[:] = x
        bias, weight = self.net.head.bias, self.net.head.weight
        moves = list(zip(weight[PEN_STATES:].chunk(2), bias[PEN_STATES:].chunk(2), strict=True))
        kinds = rows[:, _PEN + PEN_UP].int().tolist()
        with torch.autocast("cpu", enabled=False):  # the likelihood needs full precision
            logits = F.linear(hidden, weight[:PEN_STATES], bias[:PEN_STATES])
            output = torch.stack(
                [F.linear(y, *moves[kind]) for y, kind in zip(hidden, kinds, strict=True)]
            )
        output, covar = output.unflatten(-1, (-1, PARAMETERS)), self.net.config.reg_covar
        mixture = mdn.from_output(output, reg_covar=covar)
        return mdn.row_log_likelihood(logits, mixture, rows[:, None].expand(-1, self.size, -1)).sum(
            0
        )

    def next(
        self,
        numbers: Float[Tensor, "M 6"],
        which: Int64[np.ndarray, " b"],
        temperature: float,
        time_temperature: float,
    ) -> Float[np.ndarray, "b 6"]:
        """See `steps.Steps.next`."""
        output = self.head.times(self._pass(len(which))).numpy()
        rows = np.empty((len(which), 6), output.dtype)
        places = self.arrays["position"], self.arrays["stroke_start"], self.layers[0].arrays["read"]
        settings = temperature, time_temperature, self.net.config.reg_covar, self.per_box
        draw(rows, output, numbers.numpy(), which, *places, *settings)
        return rows

    def take(self, order: Int64[Tensor, " n"]) -> None:
        """See `steps.Steps.take`."""
        self.count = len(order)
        for part in self.layers:
            part.take(order)
        super().take(order)

    def keep(
        self, into: Int64[np.ndarray, " n"], out_of: Int64[np.ndarray, " n"], count: int
    ) -> None:
        """See `steps.Steps.keep`."""
        self.count = count
        for part in self.layers:
            part.keep(into, out_of, count)
        super().keep(into, out_of, count)

    def part(self, drawings: slice) -> "CompiledSteps":
        """See `steps.Steps.part`."""
        new = copy.copy(self)
        new.layers = [copy.copy(layer) for layer in self.layers]
        new.take(torch.arange(self.count)[drawings])
        return new

    def _read(self, rows: Float[Tensor, "T 6"]) -> Float[Tensor, "T I"]:
        """What the first layer reads at each of `rows`, of all drawings; moves the pen along."""
        x, pen = input_features(
            rows[None],
            see_time=torch.ones(1, dtype=torch.bool),
            pen=torch.stack([self.position[:1], self.stroke_start[:1]], dim=1),
            xy=self.net.scale.xy,
        )
        self.position[:], self.stroke_start[:] = pen[:, 0], pen[:, 1]
        return x[0]

    def _pass(self, count: int) -> Float[Tensor, "b H"]:
        """The last layer's hidden states once the first `count` drawings' last rows are read.

        Rows of the result behind these are void; what is carried of them stays. The next pass
        writes over it.
        """
        above = [*(layer.arrays["read"] for layer in self.layers[1:]), self.arrays["hidden"]]
        for layer, reads in zip(self.layers, above, strict=True):
            layer.next(count, reads)
        return self.hidden[: few_sizes(count)]


class _Layer(_Carried):
    """A layer's weights, and what it carries from step to step."""

    read: Tensor  # (rows, I + H) the inputs, and the hidden state of before
    known: Tensor  # what the constant adds to the gates; empty: there is none

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
        (h, cell), known = state, state[0][:, :0]
        if constant is not None:
            known = F.linear(constant, weight_in[:, NUM_FEATURES:])
            weight_in = weight_in[:, :NUM_FEATURES]
        read = torch.cat([h.new_zeros(len(h), weight_in.shape[1]), h], dim=1)
        self.carry(cell=cell.to(recurrent.dtype), read=read.to(product), known=known.to(product))
        self.weight = LaidOut(torch.cat([weight_in, recurrent], dim=1).to(product), most=len(h))

    def next(self, count: int, above: np.ndarray) -> None:
        """Another step of the first `count` rows, whose hidden states go to `above`, too.

        Args:
            count: Rows whose inputs lie in `read`.
            above: (rows, ≥ H) where the next layer reads them, or the head.
        """
        size = few_sizes(count)
        known = self.known[:size] if self.known.shape[1] else None
        total = as_arrays(self.weight.times(self.read[:size], plus=known))
        cell = self.arrays["cell"][:count]
        advance(self.affine, total, cell, self.arrays["read"], above)
