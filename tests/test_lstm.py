"""Our LSTM against PyTorch's and against the equations; padding changes nothing."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from doodlelib.lstm import BiLSTM, FusedLayer, NormLayer, make_layer


def zeros(batch: int, hidden: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(batch, hidden), torch.zeros(batch, hidden)


def test_without_norm_and_dropout_it_is_the_plain_lstm() -> None:
    fused, ours = FusedLayer(5, 8), NormLayer(5, 8, layer_norm=False, recurrent_dropout=0.0)
    weights = dict(fused.lstm.named_parameters())
    with torch.no_grad():
        ours.weight_ih.copy_(weights["weight_ih_l0"])
        ours.weight_hh.copy_(weights["weight_hh_l0"])
        ours.bias.copy_(weights["bias_ih_l0"] + weights["bias_hh_l0"])
    x = torch.randn(3, 11, 5)
    for expected, got in zip(fused(x, zeros(3, 8)), ours(x, zeros(3, 8)), strict=True):
        torch.testing.assert_close(got, expected)


def test_layer_norm_follows_the_equations() -> None:
    layer = NormLayer(4, 6, layer_norm=True, recurrent_dropout=0.0).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    h = c = torch.zeros(2, 6, dtype=torch.float64)
    for t in range(5):
        gates = []
        for k in range(4):
            part = slice(6 * k, 6 * k + 6)
            total = x[:, t] @ layer.weight_ih[part].t() + h @ layer.weight_hh[part].t()
            gates.append(F.layer_norm(total, (6,), layer.gate_gain[part], layer.bias[part]))
        i, f, g, o = gates
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * layer.cell_norm(c).tanh()
    start = torch.zeros(2, 6, dtype=torch.float64)
    y, (last, cell) = layer(x, (start, start))
    torch.testing.assert_close(y[:, -1], h, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last, h, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cell, c, rtol=1e-12, atol=1e-12)


def test_initial_weights() -> None:
    for layer in (FusedLayer(5, 8), NormLayer(5, 8, layer_norm=True, recurrent_dropout=0.1)):
        weights = dict(layer.named_parameters())
        recurrent = next(value for name, value in weights.items() if "weight_hh" in name)
        for gate in recurrent.chunk(4):
            torch.testing.assert_close(gate @ gate.t(), torch.eye(8))
        biases = sum(
            value for name, value in weights.items() if "bias" in name and value.numel() == 32
        )
        assert biases.chunk(4)[1].tolist() == [1.0] * 8
        assert biases.sum() == 8


def test_recurrent_dropout_only_in_training() -> None:
    layer = NormLayer(3, 16, layer_norm=False, recurrent_dropout=0.5)
    x = torch.randn(2, 6, 3)
    first, second = (layer(x, zeros(2, 16))[0] for _ in range(2))
    assert not torch.equal(first, second)
    layer.eval()
    first, second = (layer(x, zeros(2, 16))[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("norm", "drop", "kind"),
    [
        (False, 0.0, FusedLayer),
        (True, 0.0, NormLayer),
        (False, 0.1, NormLayer),
    ],
)
def test_the_fused_layer_is_used_where_it_can_be(norm: bool, drop: float, kind: type) -> None:
    assert type(make_layer(3, 4, layer_norm=norm, recurrent_dropout=drop)) is kind


@pytest.mark.parametrize("norm", [False, True])
def test_bilstm_equals_packed_and_ignores_padding(norm: bool) -> None:
    layer = partial(make_layer, layer_norm=norm, recurrent_dropout=0.0)
    net = BiLSTM(4, 6, layers=2, dropout=0.0, layer=layer)
    x, lengths = torch.randn(3, 9, 4), torch.tensor([9, 4, 1])
    outputs, ends = net(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, end = net(x[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(outputs[row, :length], alone[0])
        torch.testing.assert_close(ends[row], end[0])
    other = x.clone()
    other[1, 4:] = 1e3
    torch.testing.assert_close(net(other, lengths)[1], ends)
