"""The compiled decoder against the one in PyTorch."""

import numpy as np
import pytest
import torch
from vaes import SCALE, make_net, make_prefix

from doodlelib.fast import decoder as fast_decoder
from doodlelib.models import mdn, network, sampling
from doodlelib.models.network import SketchNet, input_features
from doodlelib.models.sampling import START, Decoder, random_numbers, sample
from doodlelib.strokes import DT, END, PEN_COLUMNS, PEN_UP

N = 12


def start_some(net: SketchNet, generator: torch.Generator, *, compiled: bool) -> Decoder:
    z = torch.randn(N, 8, dtype=net.head.weight.dtype, generator=generator)
    decoder = Decoder(net, z, torch.arange(N) % 3, compiled=compiled)
    assert bool(decoder.compiled) == compiled
    return decoder


def draw(net: SketchNet, *, compiled: bool, temperature: float, prefixed: bool) -> list[np.ndarray]:
    generator = torch.Generator().manual_seed(3)
    decoder = start_some(net, generator, compiled=compiled)
    if prefixed:
        torch.manual_seed(1)
        decoder.score_prefix(make_prefix(net.head.weight.dtype)[2:-1])
    options = {"temperature": temperature, "time_temperature": temperature}
    return sample(decoder, generator=generator, **options)


def test_its_layout_is_that_of_the_formats_and_the_network() -> None:
    assert (DT, PEN_COLUMNS.start) == (fast_decoder.DT, fast_decoder.PEN)
    assert (fast_decoder.PEN_UP, fast_decoder.END) == (PEN_UP, END)
    assert fast_decoder.PARAMETERS == mdn.PARAMETERS
    assert fast_decoder.NUM_FEATURES == network.NUM_FEATURES
    assert fast_decoder.PEN_STATES == network.PEN_STATES


@pytest.mark.parametrize("temperature", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_it_samples_the_same(layers: int, norm: bool, prefixed: bool, temperature: float) -> None:
    net = make_net(num_lstm_layers=layers, use_layer_norm=norm, recurrent_dropout=0.0).double()
    fast, plain = (
        draw(net, compiled=compiled, temperature=temperature, prefixed=prefixed)
        for compiled in (True, False)
    )
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    if temperature == 1:
        assert len({len(drawing) for drawing in fast}) > 2  # some left the batch before others


@pytest.mark.parametrize("prefixed", [False, True])
def test_drawings_may_wait_for_others_to_end(
    prefixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, found = make_net(max_seq_len=14).double(), []
    for at_once in (N, 2):
        monkeypatch.setattr(sampling, "AT_ONCE", at_once)
        found.append(draw(net, compiled=True, temperature=1.0, prefixed=prefixed))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("half", [False, True])
def test_in_less_precision_the_first_rows_are_near(half: bool) -> None:
    """Later rows follow from the first, so that small differences grow."""
    net, tolerance = make_net(num_lstm_layers=2), 0.05 if half else 1e-4
    first = []
    for compiled in (True, False):
        generator = torch.Generator().manual_seed(3)
        z, words = torch.randn(N, 8, generator=generator), torch.zeros(N, dtype=torch.long)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            decoder = Decoder(net, z, words, compiled=compiled)
            numbers = random_numbers(decoder, generator)[:, 0]
            first.append(decoder.next_rows(numbers, np.arange(N), 0.4, 0.4))
    np.testing.assert_allclose(*first, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("half", [False, True])
def test_the_row_that_was_sampled_is_read_next(half: bool) -> None:
    net, generator = make_net(num_lstm_layers=2, max_seq_len=4), torch.Generator().manual_seed(3)
    net.head.bias.data[END] = -100  # none ends by itself
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        decoder = start_some(net, generator, compiled=True)
        numbers = random_numbers(decoder, generator)
        drawn = [
            torch.from_numpy(decoder.next_rows(numbers[:, step], np.arange(N), 1.0, 1.0))
            for step in range(3)
        ]
    drawn = torch.stack([START.expand(N, 6), *drawn], dim=1)
    wanted, _ = input_features(drawn, see_time=torch.ones(N, dtype=torch.bool), xy=SCALE.xy)
    read = decoder.compiled.tensors["read 0"][:, : network.NUM_FEATURES]
    assert read.dtype == (torch.bfloat16 if half else torch.float32)
    torch.testing.assert_close(read, wanted[:, -1].to(read.dtype))
