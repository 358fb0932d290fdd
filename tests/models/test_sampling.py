"""The decoder: its samples, and the likelihood of a prefix against the network's own."""

import math

import numpy as np
import pytest
import torch
from vaes import SCALE, make_net, make_prefix

from doodlelib.models import mdn
from doodlelib.models.batch import StrokeBatch
from doodlelib.models.network import SketchNet
from doodlelib.models.sampling import Decoder, random_numbers, sample
from doodlelib.strokes import DT, PEN_COLUMNS, PEN_UP

pytestmark = pytest.mark.usefixtures("both_ways")
N = 12
WARM = {"temperature": 1.0, "time_temperature": 1.0}


def start_some(net: SketchNet, generator: torch.Generator) -> Decoder:
    z = torch.randn(N, 8, dtype=net.head.weight.dtype, generator=generator)
    return Decoder(net, z, torch.arange(N) % 3)


def test_where_there_is_no_room_nothing_is_sampled() -> None:
    net = make_net(max_seq_len=4).double()
    generator = torch.Generator().manual_seed(3)
    decoder = start_some(net, generator)
    decoder.score_prefix(make_prefix(torch.double)[2:-1])
    drawn = sample(decoder, generator=generator, **WARM)
    assert [len(drawing) for drawing in drawn] == N * [6]
    np.testing.assert_array_equal(drawn[0][1:-1, 5], 0)
    np.testing.assert_array_equal(drawn[0][-1, 3:], [0, 0, 1])


@pytest.mark.parametrize("prefixed", [False, True])
def test_a_drawing_does_not_depend_on_those_beside_it(prefixed: bool, two_parts: None) -> None:
    """In one thread or two."""
    net = make_net(max_seq_len=14).double()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(1)  # the same prefix
        generator = torch.Generator().manual_seed(3)
        decoder = start_some(net, generator)
        if prefixed:
            decoder.score_prefix(make_prefix(torch.double)[2:-1])
        found.append(sample(decoder, generator=generator, **WARM))
    assert len({len(drawing) for drawing in found[0]}) > 2
    assert max(len(drawing) for drawing in found[0]) == 16  # some do not end
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_a_prefix_is_as_likely_as_the_network_says(layers: int, norm: bool) -> None:
    """Whether it is scored as a whole or in parts, and the drawings reordered in between."""
    net = make_net(num_lstm_layers=layers, use_layer_norm=norm, recurrent_dropout=0.0).double()
    z = torch.randn(N, 8, dtype=torch.double)
    words, prefix = torch.arange(N) % 3, make_prefix(torch.double)
    ones = torch.ones(N, dtype=torch.long)
    batch = StrokeBatch(prefix.expand(N, -1, -1), 4 * ones, words, timed=ones > 0)
    nats = net.step_log_likelihood(batch, z)
    times = in_other_units(prefix[2:-1])
    expected = (nats.pen[:, :-1].sum(1) + nats.position.sum(1)) + (
        nats.segment_time + nats.pause_time
    ).sum(1)

    whole = Decoder(net, z, words)
    torch.testing.assert_close(whole.score_prefix(prefix[2:-1]) + times, expected)
    parts, order = Decoder(net, z, words), torch.tensor([4, 0, 4, 7])
    first = parts.score_prefix(prefix[2:3])
    parts = parts.select(order)
    scores = first[order] + parts.score_prefix(prefix[3:-1]) + times
    torch.testing.assert_close(scores, expected[order])

    options = {"temperature": 0.0, "time_temperature": 0.0, "generator": None}
    drawn = sample(whole, **options)
    for number, drawing in zip(order.tolist(), sample(parts, **options), strict=True):
        np.testing.assert_allclose(drawing, drawn[number], rtol=0, atol=1e-9)


def in_other_units(moves: torch.Tensor) -> float:
    """What the units of px and ms add to the log-likelihood of moves in model units."""
    is_pen_up = moves[:, PEN_COLUMNS.start + PEN_UP] == 1
    zero = torch.zeros(len(moves), dtype=moves.dtype)
    times = mdn.log_density_in_ms(zero, moves[:, DT], is_pen_up, scale=SCALE)
    return float(times.sum()) - 2 * len(moves) * math.log(SCALE.xy)


def test_sampling_takes_rows_one_by_one() -> None:
    net, generator = make_net(), torch.Generator().manual_seed(2)
    decoder = start_some(net, generator)
    numbers = random_numbers(decoder, generator)
    rows = [
        decoder.next_rows(numbers[:, step], *WARM.values()).copy()
        for step in range(numbers.shape[1])
    ]
    generator.manual_seed(2)
    whole = sample(start_some(net, generator), generator=generator, **WARM)
    for number, drawing in enumerate(whole):
        alone = np.stack([row[number] for row in rows[: len(drawing) - 2]])
        np.testing.assert_allclose(alone, drawing[2 : len(alone) + 2], rtol=1e-4, atol=1e-4)
