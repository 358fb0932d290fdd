"""LSTM layers: PyTorch's own, and one with layer norm and recurrent dropout.

`NormLayer.cell` is the definition of the latter. Where `fast.lstm` has kernels for the device, they
compute the same, with gradients, at about twice the speed.

B batch, T step, I input, H hidden, D both directions (2 H).
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from doodlelib.fast import lstm as fast_lstm
from doodlelib.fast.parallel import generator

MakeLayer = Callable[[int, int], nn.Module]
Weights = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]
State = tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]  # h and c of one layer


class PlainLayer(nn.Module):
    """One layer of `torch.nn.LSTM`, with the initial weights of this file."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size)
        weights = dict(self.lstm.named_parameters())
        nn.init.xavier_uniform_(weights["weight_ih_l0"])
        _orthogonal_gates(weights["weight_hh_l0"])
        nn.init.zeros_(weights["bias_hh_l0"])
        _forget_bias(weights["bias_ih_l0"])

    def forward(
        self, x: Float[Tensor, "T B I"], state: State
    ) -> tuple[Float[Tensor, "T B H"], State]:
        """Hidden states of all steps, and the last state."""
        y, (h, c) = self.lstm(x, (state[0][None].contiguous(), state[1][None].contiguous()))
        return y, (h[0], c[0])

    def weights(self) -> Weights:
        """As `NormLayer.weights`."""
        weight_ih, weight_hh, bias_ih, bias_hh = self.lstm.parameters()
        return weight_ih, weight_hh, bias_ih + bias_hh, None, None, None


class NormLayer(nn.Module):
    """LSTM layer with layer norm on each gate and on the cell, and dropout on the candidate.

    Source: Ba et al. 2016 (layer norm), eq. 20-22; Semeniuta et al. 2016 (recurrent dropout on the
    candidate, a new mask each step), as in magenta's LayerNormLSTMCell.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, layer_norm: bool, recurrent_dropout: float
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.recurrent_dropout = recurrent_dropout
        self.layer_norm = layer_norm
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        nn.init.xavier_uniform_(self.weight_ih)
        _orthogonal_gates(self.weight_hh)
        _forget_bias(self.bias)
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
        keep_mask = self._keep_mask(x)
        if fast_lstm.is_available(x):
            y, c = fast_lstm.LayerFunction.apply(x, *state, *self.weights(), keep_mask)
            return y, (y[-1], c)
        (h, c), outputs = state, []
        inputs = F.linear(x, self.weight_ih)
        for t in range(len(x)):
            gates = inputs[t] + F.linear(h, self.weight_hh)
            h, c = self.cell(gates, c, None if keep_mask is None else keep_mask[t])
            outputs.append(h)
        return torch.stack(outputs), (h, c)

    def weights(self) -> Weights:
        """Weights of inputs, recurrent ones, bias; gate gain, cell gain and cell bias or None."""
        norm = None, None, None
        if self.layer_norm:
            norm = self.gate_gain, self.cell_norm.weight, self.cell_norm.bias
        return self.weight_ih, self.weight_hh, self.bias, *norm

    def _keep_mask(self, x: Float[Tensor, "T B I"]) -> Float[Tensor, "T B H"] | None:
        """Recurrent dropout of all steps; None where nothing is dropped."""
        if not self.training or self.recurrent_dropout == 0:
            return None
        return keep_mask((*x.shape[:2], self.hidden_size), self.recurrent_dropout, like=self.bias)


class Dropout(nn.Module):
    """`torch.nn.Dropout` from `keep_mask`."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`x`, some of it set to zero in training."""
        if not self.training or self.share == 0:
            return x
        return x * keep_mask(x.shape, self.share, like=x)


def keep_mask(shape: Sequence[int], share: float, *, like: Tensor) -> Float[Tensor, "*shape"]:
    """A dropout mask: 0 in `share` of the places, to the nearest 1/256; elsewhere mean 1 is kept.

    Eight places from one random number, a byte each: several times as fast as `bernoulli_`.
    """
    size = math.prod(shape)
    random = torch.empty(-(-size // 8), dtype=torch.int64, device=like.device)
    random = random.random_(-(2**63), None, generator=generator())
    dropped = min(round(256 * share), 255)
    mask = random.view(torch.uint8)[:size].view(*shape).to(like.dtype)
    return mask.ge_(dropped).mul_(256 / (256 - dropped))


def make_layer(
    input_size: int, hidden_size: int, *, layer_norm: bool, recurrent_dropout: float
) -> nn.Module:
    """PyTorch's layer where it can do what is asked for, `NormLayer` otherwise."""
    if not layer_norm and recurrent_dropout == 0:
        return PlainLayer(input_size, hidden_size)
    return NormLayer(
        input_size, hidden_size, layer_norm=layer_norm, recurrent_dropout=recurrent_dropout
    )


class LSTM(nn.Module):
    """Layers on top of one another, left to right, with dropout on each layer's outputs.

    Args:
        input_size: Columns of the first layer's input.
        hidden_size: Of every layer.
        layers: How many.
        dropout: Share of the outputs set to zero in training.
        layer: Makes one layer from its input and hidden sizes.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        layers: int,
        dropout: float,
        layer: MakeLayer = PlainLayer,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.dropout = Dropout(dropout)
        sizes = [input_size] + [hidden_size] * (layers - 1)
        self.layers = nn.ModuleList(layer(size, hidden_size) for size in sizes)

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
    much faster than packed sequences and gives the same; padding has no effect on the ends.
    Arguments as `LSTM`; each direction has `hidden_size`.
    """

    def __init__(self, input_size: int, hidden_size: int, *, layers: int, dropout: float) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.dropout = Dropout(dropout)
        sizes = [input_size] + [2 * hidden_size] * (layers - 1)
        self.ahead = nn.ModuleList(PlainLayer(size, hidden_size) for size in sizes)
        self.back = nn.ModuleList(PlainLayer(size, hidden_size) for size in sizes)

    def forward(
        self, x: Float[Tensor, "B T I"], lengths: Int64[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D"]]:
        """Outputs of both directions at each step, and those at each direction's end.

        Steps at or behind a sequence's length hold nothing of use.
        """
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
def _orthogonal_gates(weight: Float[Tensor, "G H"]) -> None:
    """Fill with an orthogonal matrix for each of the four gates."""
    for gate in weight.chunk(4):
        nn.init.orthogonal_(gate)


@torch.no_grad()
def _forget_bias(bias: Float[Tensor, " G"]) -> None:
    """Fill with 0, and 1 for the forget gate, which starts open (Jozefowicz et al. 2015)."""
    bias.zero_()
    bias.chunk(4)[1].fill_(1.0)
