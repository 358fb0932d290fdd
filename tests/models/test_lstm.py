"""Our LSTM against PyTorch's and against the equations; padding changes nothing."""

from functools import partial
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from doodlelib.fast import lstm, lstm_torch
from doodlelib.fast.lstm_trace import Affine, new_trace
from doodlelib.models.lstm import BiLSTM, Dropout, FusedLayer, NormLayer, make_layer


def zeros(batch: int, hidden: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(batch, hidden), torch.zeros(batch, hidden)


def test_without_norm_and_dropout_it_is_the_plain_lstm() -> None:
    fused, ours = FusedLayer(5, 8), NormLayer(5, 8, layer_norm=False, recurrent_dropout=0.0)
    weights = dict(fused.lstm.named_parameters())
    with torch.no_grad():
        ours.weight_ih.copy_(weights["weight_ih_l0"])
        ours.weight_hh.copy_(weights["weight_hh_l0"])
        ours.bias.copy_(weights["bias_ih_l0"] + weights["bias_hh_l0"])
    x, (h, c) = torch.randn(11, 3, 5), zeros(3, 8)
    expected, (_, last) = fused.lstm(x, (h[None], c[None]))
    for layer in (fused, ours):
        y, (_, cell) = layer(x, (h, c))
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(cell, last[0])


def test_a_step_alone_is_one_of_many() -> None:
    layer, x = FusedLayer(5, 8).double(), torch.randn(6, 3, 5, dtype=torch.double)
    state = (torch.randn(3, 8).double(), torch.randn(3, 8).double())
    with torch.no_grad():
        for bias in (layer.lstm.bias_ih_l0, layer.lstm.bias_hh_l0):
            bias.normal_()
        expected, (_, last) = layer(x, state)
        for step in range(6):
            y, state = layer(x[step : step + 1], state)
            torch.testing.assert_close(y[0], expected[step], rtol=0, atol=1e-9)
    torch.testing.assert_close(state[1], last, rtol=0, atol=1e-9)


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


def in_torch(like: torch.Tensor) -> ModuleType:
    """The steps as they are done on any other device."""
    return lstm_torch


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("drop", [0.0, 0.3])
@pytest.mark.usefixtures("two_parts")
def test_values_and_gradients_follow_the_equations(
    compiled: bool, norm: bool, drop: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(lstm, "steps_on", in_torch)
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
    expected = reference(layer, x, h, c, layer._keep(x))
    weights = [torch.randn_like(value) for value in expected]
    gradients = []
    for values in ((y, last, cell), expected):
        loss = sum((value * weight).sum() for value, weight in zip(values, weights, strict=True))
        gradients.append(torch.autograd.grad(loss, leaves))
    close = {"rtol": 0, "atol": 1e-9}
    for got, wanted in zip((y, last, cell, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(got, wanted, **close)


def test_the_fused_layer_follows_pytorch_both_ways() -> None:
    layer, x = FusedLayer(5, 8).double(), torch.randn(11, 3, 5, dtype=torch.double)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    h, c, weights = *torch.randn(2, 3, 8).double(), torch.randn(11, 3, 8).double()
    leaves = [leaf.requires_grad_() for leaf in (x, h, c, *layer.parameters())]
    found = []
    for through in (lambda: layer(x, (h, c))[0], lambda: layer.lstm(x, (h[None], c[None]))[0]):
        y = through()
        found.append([y, *torch.autograd.grad((y * weights).sum(), leaves)])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)


def test_steps_are_gone_back_once() -> None:
    layer = NormLayer(5, 8, layer_norm=True, recurrent_dropout=0.0)
    y, _ = layer(torch.randn(4, 3, 5), zeros(3, 8))
    y.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="go forward anew"):
        y.sum().backward()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("two_parts")
def test_the_compiled_step_equals_the_one_in_torch(
    precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = NormLayer(5, 24, layer_norm=True, recurrent_dropout=0.2)
    x, weights = 3 * torch.randn(12, 4, 5), torch.randn(12, 4, 24)
    found = []
    for engine in (lstm.steps_on, in_torch):
        monkeypatch.setattr(lstm, "steps_on", engine)
        torch.manual_seed(5)
        with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
            y, (_, c) = layer(x, zeros(4, 24))
        loss = (y * weights).sum() + c.sum()
        values = y, c, *torch.autograd.grad(loss, layer.parameters())
        found.append([value.detach() for value in values])
    close = 1e-5 if precision == torch.float32 else 2e-2  # a bfloat16 has 8 bits
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=close * float(wanted.abs().max()))


@pytest.mark.parametrize("product_type", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("drops", [False, True])
def test_the_steps_of_a_gpu_equal_those_in_torch(
    product_type: torch.dtype, norm: bool, drops: bool
) -> None:
    """In Triton's interpreter where there is no GPU."""
    triton = pytest.importorskip("doodlelib.fast.lstm_gpu", reason="no Triton for this system")
    steps, batch, size = 5, 3, 6
    wide, narrow = norm * 4 * size, norm * size
    state_type = torch.float32 if product_type == torch.bfloat16 else product_type
    device = "cuda" if torch.cuda.is_available() else "cpu"
    random = partial(torch.randn, dtype=state_type, device=device)
    product = (random(4 * size, size) / 3).to(product_type)
    projected = random(steps, batch, 4 * size).to(product_type)
    affine = Affine(random(4 * size), random(wide), random(narrow), random(narrow))
    keep, dy = random(steps * drops, batch, size), random(steps, batch, size)
    first, last = random(2, batch, size), random(2, batch, size)
    found = []
    for engine in (lstm_torch, triton):
        given = projected.clone()
        trace = new_trace(given, first[0])
        trace.cells[0], trace.before[0] = first
        y = trace.before[1:] if product_type == state_type else torch.empty_like(dy)
        engine.forward(given, product, affine, keep, trace, y)
        left = [part.clone() for part in trace]
        dh, dc = last[0].to(product_type, copy=True), last[1].clone()
        d_affine = Affine(*map(torch.ones_like, affine))  # is added to
        d_gates = engine.backward(dy, dh, dc, product, affine, keep, trace, d_affine)
        found.append([y, *left[:3], dh, dc, d_gates, *d_affine, *left[3:][:norm]])
    close = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 3e-2}[product_type]
    for got, wanted in zip(*found, strict=True):
        assert (got - wanted).norm() <= close * wanted.norm()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16])
def test_on_a_gpu_it_is_the_same(precision: torch.dtype, norm: bool) -> None:
    layer, half = NormLayer(5, 24, layer_norm=norm, recurrent_dropout=0.2), torch.bfloat16
    layer = layer.to(torch.float64 if precision == torch.float64 else torch.float32)
    like = layer.bias
    x, weights = like.new_empty(77, 4, 5).normal_(), like.new_empty(77, 4, 24).normal_()
    keep = (torch.rand(77, 4, 24) > 0.2).to(like)
    found = []
    for device in ("cpu", "cuda"):
        layer = layer.to(device)
        layer._keep = lambda x, to=device: keep.to(to)
        zero = layer.bias.new_zeros(4, 24)
        with torch.autocast(device, half, enabled=precision == half):
            y, (_, c) = layer(x.to(device), (zero, zero))
        loss = (y * weights.to(device)).sum() + c.sum()
        values = y, c, *torch.autograd.grad(loss, layer.parameters())
        found.append([value.detach().cpu() for value in values])
    close = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2}[precision]
    for wanted, got in zip(*found, strict=True):
        assert (got - wanted).norm() < close * wanted.norm()


@pytest.mark.parametrize("steps", [1, 9])
def test_a_plain_layer_is_the_same_in_bfloat16_without_gradients(steps: int) -> None:
    layer, x = FusedLayer(5, 24), torch.randn(steps, 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        wanted, (h, c) = layer(x, zeros(3, 24))
        with torch.no_grad():
            got, state = layer(x, zeros(3, 24))
    for one, other in ((got, wanted), (state[0], h), (state[1], c)):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_none(precision: torch.dtype) -> None:
    layer = NormLayer(5, 24, layer_norm=True, recurrent_dropout=0.0)
    x = torch.randn(6, 3, 5)
    x[2, 1, 0] = torch.nan
    with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
        y, (_, c) = layer(x, zeros(3, 24))
    assert y[2:, 1].isnan().all()
    assert c[1].isnan().all()
    assert y[:, [0, 2]].isfinite().all()
    gradients = torch.autograd.grad(y.sum(), layer.parameters())
    assert all(gradient.isnan().any() for gradient in gradients)


def test_dropped_share_and_mean_of_the_candidate() -> None:
    layer = NormLayer(3, 200, layer_norm=False, recurrent_dropout=0.25)
    keep = layer._keep(torch.zeros(9, 50, 3))
    assert keep is not None
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
    x = torch.randn(6, 2, 3)
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
