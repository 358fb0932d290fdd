"""The compiled steps of the decoder against those through the network, and against its density."""

import math

import numpy as np
import pytest
import torch

from doodlelib.config import VAEConfig, read_config
from doodlelib.fast import decoder
from doodlelib.models import mdn
from doodlelib.models.batch import StrokeBatch
from doodlelib.models.network import NUM_FEATURES, SketchNet, input_features
from doodlelib.models.sampling import rows, sample, start
from doodlelib.models.steps import START, Steps
from doodlelib.strokes import DT, END, PEN_COLUMNS, PEN_UP, Scale

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


def start_some(net: SketchNet, generator: torch.Generator, *, compiled: bool) -> Steps:
    z = torch.randn(N, 8, dtype=net.head.weight.dtype, generator=generator)
    return start(net, z, torch.arange(N) % 3, compiled=compiled)


def draw(net: SketchNet, *, compiled: bool, temperature: float, begun: bool) -> list[np.ndarray]:
    generator = torch.Generator().manual_seed(3)
    steps = start_some(net, generator, compiled=compiled)
    if begun:
        with torch.no_grad():
            steps.follow(beginning(net.head.weight.dtype)[2:-1])
    options = {"temperature": temperature, "time_temperature": temperature}
    return sample(steps, generator=generator, **options)


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


@pytest.mark.parametrize("begun", [False, True])
def test_whoever_draws_beside_it_a_drawing_is_the_same(
    begun: bool, monkeypatch: pytest.MonkeyPatch, two_parts: None
) -> None:
    """In one thread or two, all at once or some waiting for others to end."""
    net = make_net(max_seq_len=14).double()
    found = []
    for threads, at_once in ((1, N), (2, N), (2, 2)):
        torch.set_num_threads(threads)
        monkeypatch.setattr(decoder.CompiledSteps, "at_once", at_once)
        torch.manual_seed(1)  # the same beginning
        found.append(draw(net, compiled=True, temperature=1.0, begun=begun))
    alone, *others = found
    assert len({len(drawing) for drawing in alone}) > 2
    assert max(len(drawing) for drawing in alone) == 16  # some do not end
    for drawings in others:
        for one, other in zip(drawings, alone, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("compiled", [False, True])
def test_where_there_is_no_room_nothing_is_drawn(compiled: bool) -> None:
    net = make_net(max_seq_len=4).double()
    drawn = draw(net, compiled=compiled, temperature=1.0, begun=True)
    assert [len(drawing) for drawing in drawn] == N * [6]
    np.testing.assert_array_equal(drawn[0][1:-1, 5], 0)
    np.testing.assert_array_equal(drawn[0][-1, 3:], [0, 0, 1])


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("compiled", [False, True])
@torch.no_grad()
def test_a_beginning_is_as_likely_as_the_network_says(
    compiled: bool, layers: int, norm: bool
) -> None:
    """Whether it is followed as a whole or in parts, and the drawings reordered in between."""
    net = make_net(num_lstm_layers=layers, use_layer_norm=norm, recurrent_dropout=0.0).double()
    z = torch.randn(N, 8, dtype=torch.double)
    words, begun = torch.arange(N) % 3, beginning(torch.double)
    ones = torch.ones(N, dtype=torch.long)
    batch = StrokeBatch(begun.expand(N, -1, -1), 4 * ones, words, timed=ones > 0)
    nats = net.step_log_likelihood(batch, z)
    times = scale_nats(begun[2:-1])
    expected = (nats.pen[:, :-1].sum(1) + nats.position.sum(1)) + (
        nats.segment_time + nats.pause_time
    ).sum(1)

    whole = start(net, z, words, compiled=compiled)
    torch.testing.assert_close(whole.follow(begun[2:-1]) + times, expected)
    parts, order = start(net, z, words, compiled=compiled), torch.tensor([4, 0, 4, 7])
    first = parts.follow(begun[2:3])
    parts.take(order)
    torch.testing.assert_close(first[order] + parts.follow(begun[3:-1]) + times, expected[order])

    options = {"temperature": 0.0, "time_temperature": 0.0, "generator": None}
    drawn = sample(whole, **options)
    for number, drawing in zip(order.tolist(), sample(parts, **options), strict=True):
        np.testing.assert_allclose(drawing, drawn[number], rtol=0, atol=1e-9)


def scale_nats(moves: torch.Tensor) -> float:
    """What the units of px and ms add to the log-likelihood of moves in model units."""
    lifted = moves[:, PEN_COLUMNS.start + PEN_UP] == 1
    zero = torch.zeros(len(moves), dtype=moves.dtype)
    times = mdn.log_density_in_ms(zero, moves[:, DT], lifted, scale=SCALE)
    return float(times.sum()) - 2 * len(moves) * math.log(SCALE.xy)


@pytest.mark.parametrize("half", [False, True])
def test_in_less_precision_the_first_rows_are_near(half: bool) -> None:
    """Later rows follow from the first, so that small differences grow."""
    net, tolerance = make_net(num_lstm_layers=2), 0.05 if half else 1e-4
    first = []
    for compiled in (True, False):
        generator = torch.Generator().manual_seed(3)
        z, words = torch.randn(N, 8, generator=generator), torch.zeros(N, dtype=torch.long)
        options = {"temperature": 0.4, "time_temperature": 0.4, "generator": generator}
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            _, new = next(rows(start(net, z, words, compiled=compiled), **options))
        first.append(new)
    np.testing.assert_allclose(*first, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("half", [False, True])
def test_the_row_that_was_drawn_is_read_next(half: bool) -> None:
    net, generator = make_net(num_lstm_layers=2, max_seq_len=4), torch.Generator().manual_seed(3)
    net.head.bias.data[END] = -100  # none ends by itself
    options = {"temperature": 1.0, "time_temperature": 1.0, "generator": generator}
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        steps = start_some(net, generator, compiled=True)
        drawn = [torch.from_numpy(new) for _, new in rows(steps, **options)]
    drawn = torch.stack([START.expand(N, 6), *drawn], dim=1)
    see_time = torch.ones(N, dtype=torch.bool)
    wanted, _ = input_features(drawn, see_time=see_time, xy=SCALE.xy)
    read = steps.layers[0].read[:N, :NUM_FEATURES]
    assert read.dtype == (torch.bfloat16 if half else torch.float32)
    torch.testing.assert_close(read, wanted[:, -1].to(read.dtype))


def test_rows_come_as_they_are_drawn() -> None:
    net = make_net()
    options = {"temperature": 1.0, "time_temperature": 1.0}
    generator = torch.Generator().manual_seed(2)
    drawn = start_some(net, generator, compiled=True)
    steps = list(rows(drawn, generator=generator, **options))
    generator.manual_seed(2)
    whole = sample(start_some(net, generator, compiled=True), generator=generator, **options)
    for number, drawing in enumerate(whole):
        own = [new[active == number] for active, new in steps]
        points = np.concatenate(own)
        np.testing.assert_array_equal(points[: len(drawing) - 2], drawing[2 : len(points) + 2])
