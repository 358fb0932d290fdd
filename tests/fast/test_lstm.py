"""The kernels of the layer-norm LSTM against its definition in plain PyTorch."""

from functools import partial

import pytest
import torch

from doodlelib import jit
from doodlelib.fast import lstm_cpu
from doodlelib.fast.lstm import Affine, new_saved
from doodlelib.models import lstm
from doodlelib.models.lstm import NormLayer


def zeros(batch: int, hidden: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(batch, hidden), torch.zeros(batch, hidden)


@pytest.mark.parametrize("drop", [0.0, 0.3])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_the_plain_cell(
    drop: float, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = NormLayer(5, 24, layer_norm=True, recurrent_dropout=drop)
    layer = layer.to(torch.float64 if precision == torch.float64 else torch.float32)
    random = partial(torch.randn, dtype=layer.bias.dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    leaves = [random(12, 4, 5), random(4, 24), random(4, 24)]
    leaves = [leaf.requires_grad_() for leaf in leaves] + list(layer.parameters())
    weights, found = [random(12, 4, 24), random(4, 24), random(4, 24)], []
    for switch in ("1", "0"):
        monkeypatch.setenv(jit.SWITCH, switch)
        torch.manual_seed(5)  # the same masks
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            y, (h, c) = layer(leaves[0], tuple(leaves[1:3]))
        is_fast = "LayerFunction" in type(y.grad_fn).__name__
        assert is_fast == (switch == "1")
        loss = sum((one * weight).sum() for one, weight in zip((y, h, c), weights, strict=True))
        values = y, h, c, *torch.autograd.grad(loss, leaves)
        found.append([value.detach() for value in values])
    close = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 3e-2}[precision]
    for got, wanted in zip(*found, strict=True):
        assert got.dtype == wanted.dtype
        torch.testing.assert_close(got, wanted, rtol=0, atol=close * max(1, wanted.abs().max()))


def test_a_layer_goes_backward_once() -> None:
    layer = NormLayer(5, 8, layer_norm=True, recurrent_dropout=0.0)
    y, _ = layer(torch.randn(4, 3, 5), zeros(3, 8))
    y.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        y.sum().backward()


@pytest.mark.parametrize("product_type", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("drops", [False, True])
def test_the_kernels_of_a_gpu_equal_those_of_a_cpu(product_type: torch.dtype, drops: bool) -> None:
    """In Triton's interpreter where there is no GPU."""
    triton = pytest.importorskip("doodlelib.fast.lstm_gpu", reason="no Triton for this system")
    steps, batch, size = 5, 3, 6
    state_type = torch.float32 if product_type == torch.bfloat16 else product_type
    device = "cuda" if torch.cuda.is_available() else "cpu"
    random = partial(torch.randn, dtype=state_type)
    product = (random(4 * size, size) / 3).to(product_type)
    projected = random(steps, batch, 4 * size).to(product_type)
    affine = Affine(random(4 * size), random(4 * size), random(size), random(size))
    keep, dy = random(steps * drops, batch, size), random(steps, batch, size)
    first, last = random(2, batch, size), random(2, batch, size)
    found = []
    for engine, place in ((lstm_cpu, "cpu"), (triton, device)):
        given = [value.to(place, copy=True) for value in (projected, *first, *last, dy, keep)]
        projected_here, h, c, dh, dc, dy_here, keep_here = given
        affine_here = Affine(*(value.to(place) for value in affine))
        saved = new_saved(projected_here, like=c)
        saved.cells[0], saved.hidden[0] = c, h
        y = saved.hidden[1:] if product_type == state_type else torch.empty_like(dy_here)
        weight = product.to(place)
        engine.forward(projected_here, weight, affine_here, keep_here, saved, y)
        left = [part.clone() for part in saved]
        dh, d_affine = dh.to(product_type), Affine(*map(torch.ones_like, affine_here))  # added to
        d_gates = engine.backward(
            dy_here, (dh, dc), weight, affine_here, keep_here, saved, d_affine
        )
        values = [y, *left, dh, dc, d_gates, *d_affine]
        found.append([value.cpu() for value in values])
    close = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 3e-2}[product_type]
    for wanted, got in zip(*found, strict=True):
        assert (got - wanted).norm() <= close * wanted.norm()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16])
def test_on_a_gpu_it_is_the_same(precision: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, half = NormLayer(5, 24, layer_norm=True, recurrent_dropout=0.2), torch.bfloat16
    layer = layer.to(torch.float64 if precision == torch.float64 else torch.float32)
    like = layer.bias
    x, weights = like.new_empty(77, 4, 5).normal_(), like.new_empty(77, 4, 24).normal_()
    keep = (torch.rand(77, 4, 24) > 0.2).to(like)
    found = []
    for device in ("cpu", "cuda"):
        layer = layer.to(device)
        monkeypatch.setattr(lstm, "keep_mask", lambda *_, to=device, **__: keep.to(to))
        zero = layer.bias.new_zeros(4, 24)
        with torch.autocast(device, half, enabled=precision == half):
            y, (_, c) = layer(x.to(device), (zero, zero))
        loss = (y * weights.to(device)).sum() + c.sum()
        values = y, c, *torch.autograd.grad(loss, layer.parameters())
        found.append([value.detach().cpu() for value in values])
    close = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2}[precision]
    for wanted, got in zip(*found, strict=True):
        assert (got - wanted).norm() < close * wanted.norm()
