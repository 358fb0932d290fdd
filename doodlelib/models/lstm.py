"""LSTM layers: PyTorch's own, and one with layer norm and recurrent dropout.

`NormLayer.cell` is the definition of the latter. Where `fast.lstm` has kernels for the device, they
compute the same, with gradients, at about twice the speed.

B batch, T step, I input, H hidden, D both directions (2 H).
"""

import math
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from doodlelib.fast import lstm as fast_lstm
from doodlelib.fast.parallel import generator

State = tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]  # h and c of one layer


class PlainLayer(nn.Module):
    """One layer of `torch.nn.LSTM`, with the initial weights of this file."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size)
        weight_ih, weight_hh, bias_ih, bias_hh = self.lstm.parameters()
        _initialise(weight_ih, weight_hh, bias_ih)
        nn.init.zeros_(bias_hh)

    def forward(
        self, x: Float[Tensor, "T B I"], state: State
    ) -> tuple[Float[Tensor, "T B H"], State]:
        """Hidden states of all steps, and the last state."""
        given = x, (state[0][None].contiguous(), state[1][None].contiguous())
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not _has_half_lstm():
            with torch.autocast("cpu", enabled=False):
                y, (h, c) = self.lstm(x.float(), tuple(each.float() for each in given[1]))
        else:
            y, (h, c) = self.lstm(*given)
        return y, (h[0], c[0])


@cache
def _has_half_lstm() -> bool:
    """Whether oneDNN has an LSTM in bfloat16 for this processor: with AVX-512, or on ARM."""
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return able.get("avx512_f", True)


class NormLayer(nn.Module):
    """LSTM layer with layer norm on each gate and on the cell, and dropout on the candidate.

    Source: Ba et al. 2016 (layer norm), eq. 20-22; Semeniuta et al. 2016 (recurrent dropout on the
    candidate, a new mask each step), as in magenta's LayerNormLSTMCell.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, layer_norm: float, recurrent_dropout: float
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.layer_norm, self.recurrent_dropout = layer_norm, recurrent_dropout
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        _initialise(self.weight_ih, self.weight_hh, self.bias)
        if layer_norm:
            self.gate_gain = nn.Parameter(torch.ones(4 * hidden_size))
            self.cell_norm = nn.LayerNorm(hidden_size)

    def cell(
        self,
        gates: Float[Tensor, "B 4*H"],
        c: Float[Tensor, "B H"],
        keep_mask: Float[Tensor, "B H"] | None,
    ) -> State:
        """One step: the next h and c.

        Args:
            gates: ``weight_ih @ x + weight_hh @ h`` for the input, forget, candidate, output gate.
            c: The cell before.
            keep_mask: Factor of the candidate (recurrent dropout); None: 1.
        """
        if self.layer_norm:  # each gate is normalised by itself
            gates = F.layer_norm(gates.unflatten(1, (4, -1)), (self.hidden_size,)).flatten(1)
            gates = gates * self.gate_gain
        i, f, g, o = (gates + self.bias).chunk(4, dim=1)
        candidate = g.tanh() if keep_mask is None else g.tanh() * keep_mask
        c = f.sigmoid() * c + i.sigmoid() * candidate
        h = o.sigmoid() * (self.cell_norm(c) if self.layer_norm else c).tanh()
        return h, c

    def forward(
        self, x: Float[Tensor, "T B I"], state: State
    ) -> tuple[Float[Tensor, "T B H"], State]:
        """Hidden states of all steps, and the last state."""
        keep_masks = None
        if self.training and self.recurrent_dropout:
            shape = *x.shape[:2], self.hidden_size
            keep_masks = keep_mask(shape, self.recurrent_dropout, like=self.bias)
        if self.layer_norm and fast_lstm.is_available(x):
            norm = self.gate_gain, *self.cell_norm.parameters()
            weights = self.weight_ih, self.weight_hh, self.bias, *norm
            y, c = fast_lstm.LayerFunction.apply(x, *state, *weights, keep_masks)
            return y, (y[-1], c)
        (h, c), outputs, inputs = state, [], F.linear(x, self.weight_ih)
        for t in range(len(x)):
            gates = inputs[t] + F.linear(h, self.weight_hh)
            h, c = self.cell(gates, c, None if keep_masks is None else keep_masks[t])
            outputs.append(h)
        return torch.stack(outputs), (h, c)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` from `keep_mask`."""

    def forward(self, input: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`input`, some of it set to zero in training."""
        if not self.training or self.p == 0:
            return input
        return input * keep_mask(input.shape, self.p, like=input)


def keep_mask(shape: Sequence[int], share: float, *, like: Tensor) -> Float[Tensor, "*shape"]:
    """A dropout mask: 0 in `share` of the places, to the nearest 1/256, and a mean of 1.

    Eight places from one random number, a byte each: several times as fast as `bernoulli_`.
    """
    size = math.prod(shape)
    random = torch.empty(-(-size // 8), dtype=torch.int64, device=like.device)
    random = random.random_(-(2**63), None, generator=generator())
    dropped = min(round(256 * share), 255)
    mask = random.view(torch.uint8)[:size].view(*shape).to(like.dtype)
    return mask.ge_(dropped).mul_(256 / (256 - dropped))


class LSTM(nn.Module):
    """Layers on top of one another, left to right, with dropout on each layer's outputs.

    `norm` are `layer_norm` and `recurrent_dropout` of a `NormLayer`; neither: `PlainLayer`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, layers: int, dropout: float, **norm: float
    ) -> None:
        super().__init__()
        self.hidden_size, self.dropout = hidden_size, Dropout(dropout)
        sizes = [(input_size, hidden_size)] + [(hidden_size, hidden_size)] * (layers - 1)
        self.layers = nn.ModuleList(
            NormLayer(*size, **norm) if any(norm.values()) else PlainLayer(*size) for size in sizes
        )

    def forward(
        self, x: Float[Tensor, "B T I"], states: list[State]
    ) -> tuple[Float[Tensor, "B T H"], list[State]]:
        """Outputs of the last layer, and the last state of each layer."""
        x, last = x.transpose(0, 1), []
        for layer, state in zip(self.layers, states, strict=True):
            x, state = layer(x, state)
            x = self.dropout(x)
            last.append(state)
        return x.transpose(0, 1), last


class BiLSTM(nn.Module):
    """Plain layers of both directions over sequences of different lengths, without packing.

    The backward direction reads each sequence reversed within its own length, which on a CPU is
    much faster than packed sequences and gives the same. Each direction has `hidden_size`.
    """

    def __init__(self, input_size: int, hidden_size: int, *, layers: int, dropout: float) -> None:
        super().__init__()
        self.hidden_size, self.dropout = hidden_size, Dropout(dropout)
        sizes = [input_size] + [2 * hidden_size] * (layers - 1)
        self.ahead = nn.ModuleList(PlainLayer(size, hidden_size) for size in sizes)
        self.back = nn.ModuleList(PlainLayer(size, hidden_size) for size in sizes)

    def forward(
        self, x: Float[Tensor, "B T I"], lengths: Int64[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D"]]:
        """Outputs of both directions at each step (void from `lengths` on), and at their ends."""
        x = x.transpose(0, 1)
        rows, steps = (torch.arange(count, device=x.device) for count in (x.shape[1], len(x)))
        mirrored = lengths - 1 - steps[:, None]  # (T, B)
        order = torch.where(mirrored >= 0, mirrored, steps[:, None]) * len(rows) + rows
        zero = x.new_zeros(len(rows), self.hidden_size)

        def reverse(x: Float[Tensor, "T B I"]) -> Float[Tensor, "T B I"]:
            return x.flatten(0, 1).index_select(0, order.flatten()).view_as(x)

        for ahead, back in zip(self.ahead, self.back, strict=True):
            y_ahead, _ = ahead(x, (zero, zero))
            y_back, _ = back(reverse(x), (zero, zero))
            x = self.dropout(torch.cat([y_ahead, reverse(y_back)], dim=-1))
        ends = x[lengths - 1, rows, : self.hidden_size], x[0, :, self.hidden_size :]
        return x.transpose(0, 1), torch.cat(ends, dim=-1)


@torch.no_grad()
def _initialise(weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> None:
    """Xavier; an orthogonal matrix for each gate; a forget gate open at first (Jozefowicz 2015)."""
    nn.init.xavier_uniform_(weight_ih)
    for gate in weight_hh.chunk(4):
        nn.init.orthogonal_(gate)
    bias.zero_()
    bias.chunk(4)[1].fill_(1.0)
