"""LSTM layers behind one face: PyTorch's fused one, and one with layer norm and recurrent dropout.

B batch, T step, I input, H hidden, D both directions (2 H).
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from doodlelib.fast.lstm import Recurrence
from doodlelib.fast.parallel import generator

MakeLayer = Callable[[int, int], nn.Module]
NO_NORM = (None, None, None)
State = tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]  # h and c of one layer


class FusedLayer(nn.Module):
    """One layer of `torch.nn.LSTM`, our initial weights; a CPU learns faster by our own steps."""

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
        weight_in, weight, bias_in, bias = self.lstm.parameters()
        half = torch.is_autocast_enabled(x.device.type)
        if len(x) == 1 and not half and not torch.is_grad_enabled():
            # a step alone, as one draws: four times as fast
            h, c = torch.lstm_cell(x[0], state, weight_in, weight, bias_in, bias)
            return h[None], (h, c)
        if x.device.type == "cpu" and (half or torch.is_grad_enabled()):
            # PyTorch's own has no bfloat16 for every processor
            y, c = Recurrence.apply(x, *state, weight_in, weight, bias_in + bias, *NO_NORM, None)
            return y, (y[-1], c)
        y, (h, c) = self.lstm(x, (state[0][None].contiguous(), state[1][None].contiguous()))
        return y, (h[0], c[0])


class NormLayer(nn.Module):
    """LSTM layer with layer norm on each gate and on the cell, and dropout on the candidate.

    The input projection of all steps is one matrix product; only the recurrent one is per step
    (see `recurrence`).

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

    def forward(
        self, x: Float[Tensor, "T B I"], state: State
    ) -> tuple[Float[Tensor, "T B H"], State]:
        """Hidden states of all steps, and the last state."""
        norm = NO_NORM
        if self.layer_norm:
            norm = self.gate_gain, self.cell_norm.weight, self.cell_norm.bias
        given = (self.weight_ih, self.weight_hh, self.bias, *norm, self._keep(x))
        y, c = Recurrence.apply(x, *state, *given)
        return y, (y[-1], c)

    def _keep(self, x: Float[Tensor, "T B I"]) -> Float[Tensor, "T B H"] | None:
        """Masks of the candidate for all steps; None where nothing is dropped."""
        if not self.training or self.recurrent_dropout == 0:
            return None
        shape = (*x.shape[:2], self.hidden_size)
        return keep_mask(shape, self.recurrent_dropout, like=self.bias)


class Dropout(nn.Module):
    """`torch.nn.Dropout` from `keep_mask`."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Some of `x` set to zero, in training."""
        if not self.training or self.share == 0:
            return x
        return x * keep_mask(x.shape, self.share, like=x)


def keep_mask(shape: Sequence[int], share: float, *, like: Tensor) -> Float[Tensor, "*shape"]:
    """Zeros in `share` of the places, to the nearest 1/256, and what keeps the mean in the others.

    A byte of chance for each, eight of them from one random number: several times faster than
    `bernoulli_`.
    """
    size = math.prod(shape)
    chance = torch.empty(-(-size // 8), dtype=torch.int64, device=like.device)
    chance = (
        chance.random_(-(2**63), None, generator=generator()).view(torch.uint8)[:size].view(*shape)
    )
    dropped = min(round(256 * share), 255)
    return chance.to(like.dtype).ge_(dropped).mul_(256 / (256 - dropped))


def make_layer(
    input_size: int, hidden_size: int, *, layer_norm: bool, recurrent_dropout: float
) -> nn.Module:
    """PyTorch's layer where it can do what is asked for, our own otherwise."""
    if layer_norm or recurrent_dropout > 0:
        return NormLayer(
            input_size, hidden_size, layer_norm=layer_norm, recurrent_dropout=recurrent_dropout
        )
    return FusedLayer(input_size, hidden_size)


class LSTM(nn.Module):
    """Layers over one another, left to right, with dropout on each layer's outputs.

    Args:
        input_size: Columns of the first layer's input.
        hidden_size: Of every layer.
        layers: How many.
        dropout: Share of the outputs set to zero in training.
        layer: Makes one layer from its input and hidden sizes.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, layers: int, dropout: float, layer: MakeLayer
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
        x, last = x.transpose(0, 1), []  # steps lie one behind the other
        for layer, state in zip(self.layers, states, strict=True):
            x, state = layer(x, state)
            x = self.dropout(x)
            last.append(state)
        return x.transpose(0, 1), last


class BiLSTM(nn.Module):
    """Both directions over sequences of different lengths, without packing.

    The backward direction reads each sequence reversed within its own length, which on a CPU is
    much faster than packed sequences and gives the same. What stands behind a sequence's end is
    never seen by the states returned. Arguments as `LSTM`; each direction has `hidden_size`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, layers: int, dropout: float, layer: MakeLayer
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.dropout = Dropout(dropout)
        sizes = [input_size] + [2 * hidden_size] * (layers - 1)
        self.ahead = nn.ModuleList(layer(size, hidden_size) for size in sizes)
        self.back = nn.ModuleList(layer(size, hidden_size) for size in sizes)

    def forward(
        self, x: Float[Tensor, "B T I"], lengths: Int64[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D"]]:
        """Outputs of both directions at each step, and those at each direction's end.

        Steps at or behind a sequence's length hold nothing of use.
        """
        x = x.transpose(0, 1)  # steps lie one behind the other
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
    """Each of the four gates gets an orthogonal matrix of its own."""
    for gate in weight.chunk(4):
        nn.init.orthogonal_(gate)


@torch.no_grad()
def _forget_bias(bias: Float[Tensor, " G"]) -> None:
    """Zero but for the forget gate, which starts open (Jozefowicz et al. 2015)."""
    bias.zero_()
    bias.chunk(4)[1].fill_(1.0)
