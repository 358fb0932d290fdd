"""The compiled steps of the decoder against those through the network, and against its density."""

import numpy as np
import pytest
import torch

from doodlelib.config import VAEConfig, read_config
from doodlelib.network import SketchNet
from doodlelib.sampling import rows, sample
from doodlelib.strokes import END, PEN_COLUMNS, Scale

SCALE = Scale(xy=30.0, segment_mean=4.5, segment_std=0.9, pause_mean=6.0, pause_std=0.8)
N = 12


def make_net(**overrides: object) -> SketchNet:
    """With weights large enough for every part of it to count, and a pen that ends seldom."""
    small = {"latent_size": 8, "enc_hidden_size": 8, "dec_hidden_size": 24, "num_gmm_modes": 4}
    torch.manual_seed(0)
    config = read_config(VAEConfig, **(small | {"max_seq_len": 30} | overrides))
    net = SketchNet(config, words=["cat", "dog"], scale=SCALE).eval()
    with torch.no_grad():
        for part in (net.decoder, net.head, net.to_state):
            for weight in part.parameters():
                weight.add_(0.3 * torch.randn_like(weight))
        net.head.bias[END] -= 1
    return net


def beginning(dtype: torch.dtype) -> torch.Tensor:
    """stroke-6 of four points in two strokes, with start and end row."""
    begun = torch.zeros(6, 6, dtype=dtype)
    begun[:, PEN_COLUMNS.start] = 1
    begun[3, PEN_COLUMNS] = torch.tensor([0, 1, 0], dtype=dtype)
    begun[-1, PEN_COLUMNS] = torch.tensor([0, 0, 1], dtype=dtype)
    begun[2:-1, :3] = torch.randn(3, 3, dtype=dtype)
    return begun


def draw(net: SketchNet, *, compiled: bool, temperature: float, begun: bool) -> list[np.ndarray]:
    dtype, generator = net.head.weight.dtype, torch.Generator().manual_seed(3)
    return sample(
        net,
        torch.randn(N, 8, dtype=dtype, generator=generator),
        torch.arange(N) % 3,
        temperature=temperature,
        time_temperature=temperature,
        generator=generator,
        begun=beginning(dtype) if begun else None,
        compiled=compiled,
    )


@pytest.mark.parametrize("temperature", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_compiled_steps_draw_the_same(
    layers: int, norm: bool, begun: bool, temperature: float
) -> None:
    net = make_net(num_lstm_layers=layers, use_layer_norm=norm, recurrent_dropout=0.0).double()
    torch.manual_seed(1)
    fast = draw(net, compiled=True, temperature=temperature, begun=begun)
    torch.manual_seed(1)
    slow = draw(net, compiled=False, temperature=temperature, begun=begun)
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    if temperature == 1:
        assert len({len(drawing) for drawing in fast}) > 2  # some left the batch before others


@pytest.mark.parametrize("half", [False, True])
def test_in_less_precision_the_first_rows_are_near(half: bool) -> None:
    """Later rows follow from the first, so that small differences grow."""
    net, tolerance = make_net(num_lstm_layers=2), 0.05 if half else 1e-4
    first = []
    for compiled in (True, False):
        generator = torch.Generator().manual_seed(3)
        z = torch.randn(N, 8, generator=generator)
        options = {"temperature": 0.4, "time_temperature": 0.4, "generator": generator}
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            words = torch.zeros(N, dtype=torch.long)
            _, new = next(rows(net, z, words, compiled=compiled, **options))
        first.append(new)
    torch.testing.assert_close(*first, rtol=tolerance, atol=tolerance)


def test_rows_come_as_they_are_drawn() -> None:
    net = make_net()
    options = {"temperature": 1.0, "time_temperature": 1.0}
    z, words = torch.randn(N, 8), torch.zeros(N, dtype=torch.long)
    generator = torch.Generator().manual_seed(2)
    steps = list(rows(net, z, words, generator=generator, **options))
    generator.manual_seed(2)
    whole = sample(net, z, words, generator=generator, **options)
    for number, drawing in enumerate(whole):
        own = [new[active == number] for active, new in steps]
        points = torch.cat(own).numpy()
        np.testing.assert_array_equal(points[: len(drawing) - 2], drawing[2 : len(points) + 2])
