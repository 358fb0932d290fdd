"""The network's likelihood, loss and samples."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from doodlelib.config import VAEConfig, read_config
from doodlelib.models.batch import StrokeBatch, collate_drawings
from doodlelib.models.network import SketchNet
from doodlelib.models.sampling import Decoder, sample
from doodlelib.strokes import DT, END, PEN_COLUMNS, Scale

pytestmark = pytest.mark.usefixtures("both_ways")
SCALE = Scale(xy=30.0, segment_mean=4.5, segment_std=0.9, pause_mean=6.0, pause_std=0.8)
SMALL = {
    "latent_size": 8,
    "enc_hidden_size": 16,
    "dec_hidden_size": 32,
    "num_gmm_modes": 4,
    "max_seq_len": 40,
}


def make_net(**overrides: object) -> SketchNet:
    torch.manual_seed(0)
    config = read_config(VAEConfig, **(SMALL | overrides))
    return SketchNet(config, words=["cat", "dog"], scale=SCALE)


def random_rows(length: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.column_stack(
        [
            rng.normal(0, 30, (length, 2)),
            rng.lognormal(4.5, 0.8, length).round(),
            rng.random(length) > 0.2,
        ]
    )
    rows[0] = (0, 0, 0, 1)
    return rows


def make_batch(*lengths: int, timed: bool = True) -> StrokeBatch:
    rows = [random_rows(length, seed) for seed, length in enumerate(lengths)]
    if not timed:
        for drawing in rows:
            drawing[:, DT] = np.nan
    words = np.arange(len(lengths)) % 2
    return collate_drawings(rows, words=words, scale=SCALE)


@pytest.mark.parametrize("norm", [False, True])
def test_padding_changes_nothing(norm: bool) -> None:
    net = make_net(use_layer_norm=norm, recurrent_dropout=0.0).eval()
    together = make_batch(17, 5, 9, 1)
    z = torch.randn(4, 8)
    events = net.step_log_likelihood(together, z).events()
    mean, _ = net.posterior(together, see_time=together.timed)
    for row, length in enumerate((17, 5, 9, 1)):
        alone = StrokeBatch(
            rows=together.rows[row : row + 1, : length + 2],
            lengths=together.lengths[row : row + 1],
            words=together.words[row : row + 1],
            timed=together.timed[row : row + 1],
        )
        for name, (nats, count) in (
            net.step_log_likelihood(alone, z[row : row + 1]).events().items()
        ):
            torch.testing.assert_close(events[name][0][row], nats[0], atol=1e-4, rtol=1e-5)
            assert events[name][1][row] == count[0]
        end, _ = net.posterior(alone, see_time=alone.timed)
        torch.testing.assert_close(mean[row], end[0])


def test_events_are_counted_once() -> None:
    batch = make_batch(17, 5)
    counts = {
        n: c.tolist()
        for n, (_, c) in make_net().step_log_likelihood(batch, torch.zeros(2, 8)).events().items()
    }
    assert counts["pen"] == [17, 5]  # 16 and 4 moves, and the end
    assert counts["position"] == [16, 4]
    lifted = batch.rows[:, 2:, PEN_COLUMNS][..., 1].sum(1).int().tolist()
    assert counts["pause_time"] == lifted
    assert counts["segment_time"] == [16 - lifted[0], 4 - lifted[1]]


def test_time_density_is_per_ms() -> None:
    """A scale is a change of units: the likelihood in ms must not see it."""
    net = make_net().eval()
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.zero_()  # every component: standard normal, no slope
    rows = random_rows(12, 3)
    nats = net.step_log_likelihood(
        collate_drawings([rows], words=np.array([0]), scale=SCALE), torch.zeros(1, 8)
    )
    drawn = rows[1:, 3] > 0.5
    mean, std = np.where(drawn, 4.5, 6.0), np.where(drawn, 0.9, 0.8) * np.sqrt(1 + 1e-4)
    log_dt = np.log(np.maximum(rows[1:, DT], 1))
    expected = -0.5 * ((log_dt - mean) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi)) - log_dt
    got = (nats.segment_time + nats.pause_time)[0, :11].detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_untimed_drawings_have_no_time_loss_and_no_nan() -> None:
    net = make_net()
    batch = make_batch(12, 7, timed=False)
    assert not batch.timed.any()
    loss, sums = net.loss(batch, step=3)
    loss.backward()
    assert sums["segment_time"][1] == sums["pause_time"][1] == 0
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_hidden_time_cannot_be_seen() -> None:
    net = make_net().eval()
    batch = make_batch(12, 7)
    rows = batch.rows.clone()
    rows[:, 2:, DT] += 1.0 * (rows[:, 2:, PEN_COLUMNS][..., END] == 0)
    other = replace(batch, rows=rows)
    hidden = torch.zeros(2, dtype=torch.bool)
    torch.testing.assert_close(
        net.posterior(batch, see_time=hidden)[0], net.posterior(other, see_time=hidden)[0]
    )
    seen = [net.posterior(b, see_time=~hidden)[0] for b in (batch, other)]
    assert not torch.allclose(*seen)


def test_kl_weight_is_a_pure_function_of_the_step() -> None:
    net = make_net(kl_weight=0.5, kl_weight_start=0.01, kl_decay_rate=0.9)
    assert net.kl_weight(0) == pytest.approx(0.005)
    assert net.kl_weight(10) == pytest.approx(0.5 * (1 - 0.99 * 0.9**10))
    assert net.kl_weight(10) == net.kl_weight(10)
    assert net.kl_weight(None) == 0.5


def test_losses_that_are_kept_are_under_the_final_weight() -> None:
    """So that those of all epochs compare, and training with validation."""
    net = make_net(kl_weight=0.5, kl_weight_start=0.01, kl_tolerance=0.0, recurrent_dropout=0.0)
    batch, minimised, kept = make_batch(9, 9), [], []
    for step in (0, None):
        torch.manual_seed(1)
        loss, sums = net.loss(batch, step=step)
        minimised.append(loss.item())
        kept.append((sums["loss"][0] / sums["loss"][1]).item())
    assert minimised[0] < minimised[1] == pytest.approx(kept[0]) == pytest.approx(kept[1])


def test_free_nats_cost_nothing() -> None:
    batch = make_batch(9, 9)
    losses = {}
    for tolerance, weight in ((0.0, 1.0), (50.0, 1.0), (50.0, 2.0)):
        net = make_net(kl_tolerance=tolerance, kl_weight=weight)
        torch.manual_seed(1)
        losses[tolerance, weight] = net.loss(batch, step=None)[0]
    below = losses[50.0, 2.0] - losses[50.0, 1.0]
    assert below.item() == pytest.approx(50.0, rel=1e-4)  # the floor, not the KL, is weighed


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("norm", [False, True])
def test_parts_of_a_batch_learn_as_the_whole(norm: bool, words: bool, two_parts: None) -> None:
    net = make_net(use_layer_norm=norm, recurrent_dropout=0.0, class_conditioning=words)
    net, found = net.double().eval(), []
    rows = make_batch(17, 5, 9, 1, 12, 8, 30)
    batch = replace(rows, rows=rows.rows.double())
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(3)
        loss, sums = net.loss(batch, step=3)
        net.zero_grad()
        loss.backward()
        found.append([loss.detach(), *(total for total, _ in sums.values())])
        found[-1] += [weight.grad.clone() for weight in net.parameters() if weight.numel()]
    for other in found[1:]:
        for got, wanted in zip(other, found[0], strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


def test_eight_drawings_can_be_learned_by_heart() -> None:
    net = make_net(kl_weight=0.0, recurrent_dropout=0.0, dec_hidden_size=64, hide_time_prob=0.0)
    batch = make_batch(*range(6, 14))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    first = None
    for step in range(500):
        loss, sums = net.loss(batch, step=step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        first = first or sums
    means = {key: float(total / count) for key, (total, count) in sums.items()}
    before = {key: float(total / count) for key, (total, count) in first.items()}
    assert means["pen"] < 0.35 < before["pen"]
    assert means["position"] < before["position"] - 3
    assert means["segment_time"] < before["segment_time"] - 1.5


def test_samples_are_seeded_well_formed_and_end() -> None:
    net = make_net()
    z, words = torch.randn(30, 8), torch.zeros(30, dtype=torch.long)
    again = [
        sample(
            Decoder(net, z, words),
            temperature=1.0,
            time_temperature=1.0,
            generator=torch.Generator().manual_seed(5),
        )
        for _ in range(2)
    ]
    for one, other in zip(*again, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one[0].tolist() == one[1].tolist() == [0, 0, 0, 1, 0, 0]
        assert one[-1].tolist() == [0, 0, 0, 0, 0, 1]
        assert (one[:, PEN_COLUMNS].sum(1) == 1).all()
        assert (one[:-1, PEN_COLUMNS][:, END] == 0).all()
        assert len(one) <= 40 + 2
    assert len({len(one) for one in again[0]}) > 3


def test_leaving_the_batch_changes_no_other_drawing() -> None:
    """At temperature 0 nothing is random, so each drawing must come out as it does alone."""
    net = make_net()
    z, words = 5 * torch.randn(6, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    options = {"temperature": 0.0, "time_temperature": 0.0, "generator": None}
    together = sample(Decoder(net, z, words), **options)
    for row, drawing in enumerate(together):
        steps = Decoder(net, z[row : row + 1], words[row : row + 1])
        alone = sample(steps, **options)[0]
        np.testing.assert_allclose(drawing, alone, atol=1e-4)


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf"), 1e80])
def test_impossible_temperatures_are_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperatures"):
        sample(
            Decoder(make_net(), torch.zeros(1, 8), torch.zeros(1, dtype=torch.long)),
            temperature=temperature,
            time_temperature=1.0,
            generator=None,
        )
