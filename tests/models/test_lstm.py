"""The LSTM layers against PyTorch's and against the equations; padding changes nothing."""

import pytest
import torch
import torch.nn.functional as F

from doodlelib.models.lstm import LSTM, BiLSTM, Dropout, NormLayer, PlainLayer, keep_mask

pytestmark = pytest.mark.usefixtures("both_ways")


def zeros(batch: int, hidden: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(batch, hidden), torch.zeros(batch, hidden)


def test_without_norm_and_dropout_it_is_the_plain_lstm() -> None:
    plain, ours = PlainLayer(5, 8), NormLayer(5, 8, layer_norm=False, recurrent_dropout=0.0)
    weights = dict(plain.lstm.named_parameters())
    with torch.no_grad():
        ours.weight_ih.copy_(weights["weight_ih_l0"])
        ours.weight_hh.copy_(weights["weight_hh_l0"])
        ours.bias.copy_(weights["bias_ih_l0"] + weights["bias_hh_l0"])
    x, (h, c) = torch.randn(11, 3, 5), zeros(3, 8)
    expected, (_, last) = plain.lstm(x, (h[None], c[None]))
    for layer in (plain, ours):
        y, (_, cell) = layer(x, (h, c))
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(cell, last[0])


def reference(
    layer: NormLayer, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, keep: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The equations gate by gate, differentiated by autograd."""
    hidden, size = [], layer.hidden_size
    for t in range(len(x)):
        gates = []
        for k in range(4):
            part = slice(size * k, size * (k + 1))
            total = x[t] @ layer.weight_ih[part].t() + h @ layer.weight_hh[part].t()
            if layer.layer_norm:
                total = F.layer_norm(total, (size,)) * layer.gate_gain[part]
            gates.append(total + layer.bias[part])
        i, f, g, o = gates
        candidate = g.tanh() if keep is None else g.tanh() * keep[t]
        c = f.sigmoid() * c + i.sigmoid() * candidate
        h = o.sigmoid() * (layer.cell_norm(c) if layer.layer_norm else c).tanh()
        hidden.append(h)
    return torch.stack(hidden), h, c


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("drop", [0.0, 0.3])
def test_values_and_gradients_follow_the_equations(norm: bool, drop: float) -> None:
    layer = NormLayer(4, 6, layer_norm=norm, recurrent_dropout=drop).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    leaves = [torch.randn(7, 3, 4), torch.randn(3, 6), torch.randn(3, 6)]
    leaves = [leaf.double().requires_grad_() for leaf in leaves] + list(layer.parameters())
    x, h, c = leaves[:3]
    torch.manual_seed(5)
    y, (last, cell) = layer(x, (h, c))
    torch.manual_seed(5)  # the same masks
    masks = keep_mask((7, 3, 6), drop, like=layer.bias) if drop else None
    expected = reference(layer, x, h, c, masks)
    weights = [torch.randn_like(value) for value in expected]
    gradients = []
    for values in ((y, last, cell), expected):
        loss = sum((value * weight).sum() for value, weight in zip(values, weights, strict=True))
        gradients.append(torch.autograd.grad(loss, leaves))
    close = {"rtol": 0, "atol": 1e-9}
    for got, wanted in zip((y, last, cell, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(got, wanted, **close)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_none(precision: torch.dtype) -> None:
    layer = NormLayer(5, 24, layer_norm=True, recurrent_dropout=0.0)
    x = torch.randn(6, 3, 5)
    x[2, 1, 0] = torch.nan
    with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
        y, (_, c) = layer(x, zeros(3, 24))
    assert y[2:, 1].isnan().all()
    assert c[1].isnan().all()
    if precision == torch.float32:
        # oneDNN's bfloat16 product reads rows of odd length in pairs, one number of the next row
        # times 0: there a NaN reaches the row before it, too
        assert y[:, [0, 2]].isfinite().all()
    gradients = torch.autograd.grad(y.sum(), layer.parameters())
    assert all(gradient.isnan().any() for gradient in gradients)


def test_dropped_share_and_mean_of_the_candidate() -> None:
    keep = keep_mask((9, 50, 200), 0.25, like=torch.zeros(1))
    assert (keep == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert keep.mean().item() == pytest.approx(1, abs=0.01)


def test_dropout_of_outputs() -> None:
    dropout, x = Dropout(0.5), torch.ones(40, 50, 10, requires_grad=True)
    y = dropout(x)
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y)
    assert dropout.eval()(x) is x


def test_initial_weights() -> None:
    for layer in (PlainLayer(5, 8), NormLayer(5, 8, layer_norm=True, recurrent_dropout=0.1)):
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
    x = torch.randn(6, 2, 3)
    first, second = (layer(x, zeros(2, 16))[0] for _ in range(2))
    assert not torch.equal(first, second)
    layer.eval()
    first, second = (layer(x, zeros(2, 16))[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("norm", "drop"), [(False, 0.0), (True, 0.0), (False, 0.1)])
def test_the_plain_layer_is_used_where_it_can_be(norm: bool, drop: float) -> None:
    net = LSTM(3, 4, layers=2, dropout=0.0, layer_norm=norm, recurrent_dropout=drop)
    assert {type(layer) for layer in net.layers} == {NormLayer if norm or drop else PlainLayer}


def test_bilstm_equals_packed_and_ignores_padding() -> None:
    net = BiLSTM(4, 6, layers=2, dropout=0.0)
    x, lengths = torch.randn(3, 9, 4), torch.tensor([9, 4, 1])
    outputs, ends = net(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, end = net(x[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(outputs[row, :length], alone[0])
        torch.testing.assert_close(ends[row], end[0])
    other = x.clone()
    other[1, 4:] = 1e3
    torch.testing.assert_close(net(other, lengths)[1], ends)
