"""The compiled decoder against the one in PyTorch."""

import numpy as np
import pytest
import torch
from vaes import SCALE, make_net, make_prefix

from doodlelib.fast import decoder as fast_decoder
from doodlelib.models import mdn, network
from doodlelib.models.network import SketchNet, input_features
from doodlelib.models.sampling import START, Decoder, random_numbers, sample
from doodlelib.strokes import DT, END, PEN_COLUMNS, PEN_UP

N = 12


def start_some(net: SketchNet, generator: torch.Generator) -> Decoder:
    z = torch.randn(N, 8, dtype=net.head.weight.dtype, generator=generator)
    return Decoder(net, z, torch.arange(N) % 3)


def draw(net: SketchNet, *, temperature: float, prefixed: bool) -> list[np.ndarray]:
    generator = torch.Generator().manual_seed(3)
    decoder = start_some(net, generator)
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
def test_it_samples_the_same(
    layers: int, norm: bool, prefixed: bool, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = make_net(num_lstm_layers=layers, use_layer_norm=norm, recurrent_dropout=0.0).double()
    fast = draw(net, temperature=temperature, prefixed=prefixed)
    monkeypatch.setattr(fast_decoder, "is_available", lambda like: False)
    plain = draw(net, temperature=temperature, prefixed=prefixed)
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    if temperature == 1:
        assert len({len(drawing) for drawing in fast}) > 2  # some left the batch before others


def test_in_single_precision_the_first_rows_are_near() -> None:
    """Later rows follow from the first, so that small differences grow."""
    net, first = make_net(num_lstm_layers=2), []
    for compiled in (True, False):
        generator = torch.Generator().manual_seed(3)
        decoder = start_some(net, generator)
        numbers = random_numbers(decoder, generator)[:, 0]
        first.append((decoder.compiled() if compiled else decoder).next_rows(numbers, 0.4, 0.4))
    np.testing.assert_allclose(*first, rtol=1e-4, atol=1e-4)


def test_the_row_that_was_sampled_is_read_next() -> None:
    net, generator = make_net(num_lstm_layers=2, max_seq_len=4), torch.Generator().manual_seed(3)
    net.head.bias.data[END] = -100  # none ends by itself
    decoder = start_some(net, generator)
    numbers, compiled = random_numbers(decoder, generator), decoder.compiled()
    drawn = [torch.from_numpy(compiled.next_rows(numbers[:, t], 1.0, 1.0)) for t in range(3)]
    drawn = torch.stack([START.expand(N, 6), *drawn], dim=1)
    wanted, _ = input_features(drawn, see_time=torch.ones(N, dtype=torch.bool), xy=SCALE.xy)
    read = compiled.tensors["read 0"][:, : network.NUM_FEATURES]
    torch.testing.assert_close(read, wanted[:, -1])
