"""The retimer: its density against its samples, time hidden, and that it learns."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from doodlelib.config import RetimeConfig, VAEConfig, read_config
from doodlelib.data.sample import make_drawings
from doodlelib.models import mdn
from doodlelib.models.batch import StrokeBatch, collate_drawings
from doodlelib.models.retimer import Retimer, ShapeFeatures
from doodlelib.models.vae import SketchVAE
from doodlelib.simplify import kept_points, simplify
from doodlelib.strokes import (
    DT,
    PEN,
    Scale,
    duration,
    is_timed,
    to_box,
    to_stroke4,
    without_time,
)

SIMPLIFICATION = {"method": "timed", "epsilon": 2.0, "epsilon_time": 8.0}
SCALE = Scale(30.0, 4.4, 0.8, 6.0, 0.8)
DRAWINGS = [simplify(record.drawing, **SIMPLIFICATION) for record in make_drawings("cat", n=12)]


def make_reader(*, words: bool = True) -> ShapeFeatures:
    torch.manual_seed(1)
    config = read_config(
        VAEConfig,
        latent_size=4,
        enc_hidden_size=6,
        dec_hidden_size=8,
        num_gmm_modes=2,
        class_conditioning=words,
    )
    known = {"scale": SCALE, "simplification": SIMPLIFICATION}
    return ShapeFeatures.from_vae(SketchVAE(config, words=["cat", "dog"], **known), scale=SCALE)


@pytest.fixture(params=["alone", "with a reader"])
def retimer(request: pytest.FixtureRequest) -> Retimer:
    reader = make_reader() if request.param == "with a reader" else None
    torch.manual_seed(0)
    config = read_config(RetimeConfig, hidden_size=24, num_modes=3, dropout=0.0)
    net = Retimer(config, words=["cat"], scale=SCALE, simplification=SIMPLIFICATION, reader=reader)
    return net.eval()


def batch_of(drawings: list) -> StrokeBatch:
    rows = [to_stroke4(drawing) for drawing in drawings]
    return collate_drawings(rows, words=np.zeros(len(rows), dtype=int), scale=SCALE)


def test_one_drawing_waits_for_no_other_thread(retimer: Retimer) -> None:
    seen, before = set(), torch.get_num_threads()
    retimer.net.shape.register_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    torch.set_num_threads(3)
    retimer.retime(DRAWINGS[0])
    torch.set_num_threads(before)
    assert seen == {1}


def test_a_single_point_takes_no_time(retimer: Retimer) -> None:
    ((x, y, t),) = retimer.retime([[[10], [10]]])
    assert (len(x), len(y), list(t)) == (1, 1, [0])


def test_the_density_integrates_to_one(retimer: Retimer) -> None:
    batch = batch_of(DRAWINGS[:1])
    rows = batch.rows[:, 1:-1]
    grid = torch.linspace(-12, 12, 4001)
    for step in (1, 5, len(rows[0]) - 1):
        at = rows[:, : step + 1].repeat(len(grid), 1, 1)
        at[:, step, DT] = grid
        # the shape after the step is cut off, which is a shape like any other
        lengths = torch.full((len(grid),), step + 1)
        with torch.no_grad():
            density = retimer.log_prob(at, lengths)[:, step - 1].exp()
        assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-4)


def test_samples_follow_the_density(retimer: Retimer) -> None:
    """Mean log density of samples is the negative entropy, which the density itself gives."""
    rows = batch_of(DRAWINGS[:1]).rows[:, 1:4].repeat(4000, 1, 1)
    lengths = torch.full((4000,), 3)
    generator = torch.Generator().manual_seed(1)
    times = retimer.sample(rows, lengths, temperature=1.0, generator=generator)
    grid = torch.linspace(-8, 8, 2001)
    at = rows[:1].repeat(len(grid), 1, 1)
    at[:, 1, DT] = grid
    with torch.no_grad():
        density = retimer.log_prob(at, torch.full((len(grid),), 3))[:, 0].exp()
    mean = torch.trapezoid(grid * density, grid)
    std = torch.trapezoid((grid - mean) ** 2 * density, grid).sqrt()
    assert times[:, 1].mean().item() == pytest.approx(mean.item(), abs=0.08)
    assert times[:, 1].std().item() == pytest.approx(std.item(), rel=0.08)
    assert (times[:, 0] == 0).all()
    assert times[:, 1].std() > 0.1


def test_mirror_images_are_timed_alike(retimer: Retimer) -> None:
    batch = batch_of(DRAWINGS[:3])
    mirrored = batch.rows.clone()
    mirrored[..., 0] *= -1
    with torch.no_grad():
        one, other = (
            retimer.log_prob(rows[:, 1:-1], batch.lengths) for rows in (batch.rows, mirrored)
        )
    torch.testing.assert_close(one, other)


def test_a_spread_that_fits_pauses(retimer: Retimer) -> None:
    batch = batch_of(DRAWINGS)
    before, _, is_pause = retimer.step_log_likelihood(batch)
    spread = retimer.calibrate([batch])
    after, *_ = retimer.step_log_likelihood(batch)
    assert after[is_pause].mean() > before[is_pause].mean()
    torch.testing.assert_close(after[~is_pause], before[~is_pause])
    for factor in (0.9, 1.1):
        retimer.pause_spread.fill_(factor * spread)
        assert retimer.step_log_likelihood(batch)[0][is_pause].mean() < after[is_pause].mean()
    retimer.pause_spread.fill_(spread)
    assert retimer.calibrate([replace(batch, timed=torch.zeros_like(batch.timed))]) == spread


def test_later_times_are_not_seen(retimer: Retimer) -> None:
    batch = batch_of(DRAWINGS[:1])
    rows = batch.rows[:, 1:-1]
    with torch.no_grad():
        before = retimer.log_prob(rows, batch.lengths)
        changed = rows.clone()
        changed[:, 6:, DT] += 1.0
        after = retimer.log_prob(changed, batch.lengths)
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert not torch.allclose(after[:, 6:], before[:, 6:])


def test_padding_changes_nothing(retimer: Retimer) -> None:
    together = batch_of(DRAWINGS[:6])
    with torch.no_grad():
        nats, is_segment, is_pause = retimer.step_log_likelihood(together)
        for number, drawing in enumerate(DRAWINGS[:6]):
            alone, segment, _ = retimer.step_log_likelihood(batch_of([drawing]))
            points = int(together.lengths[number]) - 1
            torch.testing.assert_close(nats[number, :points], alone[0])
            assert (is_segment[number].sum(), segment.sum()) == (segment.sum(),) * 2
    points = [to_stroke4(drawing) for drawing in DRAWINGS[:6]]
    assert is_pause.sum() == sum((rows[1:, PEN] < 0.5).sum() for rows in points)


def test_untimed_drawings_take_no_part(retimer: Retimer) -> None:
    mixed = batch_of([DRAWINGS[0], without_time(DRAWINGS[1])])
    loss, sums = retimer.loss(mixed, step=0)
    alone, _ = retimer.loss(batch_of(DRAWINGS[:1]), step=0)
    torch.testing.assert_close(loss, alone)
    assert int(sums["segment_time"][1] + sums["pause_time"][1]) == mixed.lengths[0] - 1
    nothing, _ = retimer.loss(batch_of([without_time(DRAWINGS[1])]), step=0)
    assert nothing == 0


def test_the_density_is_in_ms() -> None:
    """A log-normal of scipy's, in ms, against ours by way of the standardised log."""
    dt = np.array([3.0, 80.0, 900.0])
    time = torch.from_numpy((np.log(dt) - SCALE.pause_mean) / SCALE.pause_std)
    standard = torch.from_numpy(stats.norm.logpdf(time.numpy(), 0.3, 0.7))
    nats = mdn.log_density_in_ms(standard, time, torch.ones(3, dtype=torch.bool), scale=SCALE)
    law = stats.lognorm(
        s=0.7 * SCALE.pause_std, scale=np.exp(SCALE.pause_mean + 0.3 * SCALE.pause_std)
    )
    np.testing.assert_allclose(nats.numpy(), law.logpdf(dt), rtol=1e-6)


def test_it_learns_slow_pauses_and_quick_lines(retimer: Retimer) -> None:
    """Trained on drawings of one even pace, it gives others that pace."""

    def even(drawing: list) -> list:
        """Every drawn move 50 ms, every pause 400 ms."""
        clock, strokes = 0.0, []
        for x, y, _ in drawing:
            t = clock + 50.0 * np.arange(len(x))
            strokes.append([x, y, t])
            clock = t[-1] + 400
        return strokes

    batch = batch_of([even(drawing) for drawing in DRAWINGS[:8]])
    optimizer = torch.optim.Adam(retimer.parameters(), lr=0.02)
    for step in range(60):
        loss, _ = retimer.train().loss(batch, step=step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    timed = retimer.retime(without_time(DRAWINGS[10]), seed=1)
    rows = to_stroke4(timed)[1:]
    drawn = rows[:, PEN] > 0.5
    assert np.median(rows[drawn, DT]) == pytest.approx(50, rel=0.2)
    assert np.median(rows[~drawn, DT]) == pytest.approx(400, rel=0.2)


def test_retiming_keeps_every_point_and_is_seeded(retimer: Retimer) -> None:
    drawing = DRAWINGS[3]
    first, again, other = (retimer.retime(drawing, seed=seed) for seed in (1, 1, 2))
    assert is_timed(first)
    for stroke, expected in zip(first, drawing, strict=True):
        np.testing.assert_array_equal(stroke[:2], expected[:2])
    assert duration(first) == duration(again) != duration(other)
    slower = [[x, y, 3 * t] for x, y, t in drawing]
    assert duration(retimer.retime(slower, seed=1)) == duration(first)
    for temperature in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"are 0 to 1e6, not {temperature}"):
            retimer.retime(drawing, temperature=temperature)


def test_a_vae_without_a_retimer_says_what_to_do(retimer: Retimer) -> None:
    config = read_config(VAEConfig, enc_hidden_size=4, dec_hidden_size=4, latent_size=2)
    vae = SketchVAE(config, words=["cat"], scale=SCALE, simplification=SIMPLIFICATION)
    with pytest.raises(ValueError, match="no retimer"):
        vae.retime(DRAWINGS[0])
    vae.attach(retimer)
    assert duration(vae.retime(DRAWINGS[0], seed=1)) == duration(
        retimer.retime(DRAWINGS[0], seed=1)
    )
    assert not any(name.startswith("retimer") for name in vae.state_dict())


@pytest.mark.parametrize("words", [True, False])
def test_a_reader_sees_what_the_vae_does(words: bool) -> None:
    reader, batch = make_reader(words=words), batch_of(DRAWINGS[:3])
    rows = batch.rows[:, 1:-1]
    read = reader.train()(rows, batch.lengths)
    assert read.shape == (*rows.shape[:2], reader.size)
    assert not read.requires_grad
    net = reader.net
    z, _ = net.posterior(batch, see_time=torch.zeros_like(batch.timed))
    unknown = torch.full_like(batch.words, net.unknown_word)
    nats = net.step_log_likelihood(
        replace(batch, words=unknown, timed=torch.zeros_like(batch.timed)), z
    )
    number = torch.arange(1, rows.shape[1])
    own = number < batch.lengths[:, None]
    surprise = read[:, 1:, -6:-4] * 5  # before the four numbers of z
    for got, wanted in zip(surprise.unbind(-1), (nats.pen, nats.position), strict=True):
        torch.testing.assert_close(got[own], wanted[:, :-1][own].clamp(-10, 5))
    torch.testing.assert_close(read[:, 0, -4:], z)


def test_a_reader_looks_at_no_time() -> None:
    reader, batch = make_reader(), batch_of(DRAWINGS[:2])
    rows = batch.rows[:, 1:-1]
    changed = rows.clone()
    changed[..., DT] += torch.randn(rows.shape[:2])
    torch.testing.assert_close(
        reader(rows, batch.lengths), reader(changed, batch.lengths), rtol=0, atol=0
    )


def test_a_reader_does_not_learn() -> None:
    reader, batch = make_reader(), batch_of(DRAWINGS)
    config = read_config(RetimeConfig, hidden_size=8, num_modes=2)
    net = Retimer(config, words=["cat"], scale=SCALE, simplification={}, reader=reader).train()
    optimizer = net.make_optimizer()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.loss(batch, step=0)[0].backward()
    optimizer.step()
    changed = {
        name.split(".")[0]
        for name, value in net.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"net"}


def test_parts_of_a_batch_learn_as_the_whole(
    retimer: Retimer, monkeypatch: pytest.MonkeyPatch, two_parts: None
) -> None:
    """The second part, of one point each, has no times."""
    points = [[[[3.0], [4.0], [0.0]]]] * 12
    batch = batch_of([*DRAWINGS[:11], without_time(DRAWINGS[11]), *points])
    nats, *kinds = retimer.train().step_log_likelihood(batch)
    sums = [nats[kind].sum() for kind in kinds]
    counts = [kind.sum() for kind in kinds]
    weight = retimer.config.pause_weight
    total, count = -(sums[0] + weight * sums[1]), counts[0] + weight * counts[1]
    wanted_loss = (total / count).detach()
    wanted = {"segment_time": (-sums[0], counts[0]), "pause_time": (-sums[1], counts[1])}
    wanted |= {"loss": (total, count)}
    grads = torch.autograd.grad(total / count, list(retimer.net.parameters()))

    parts, judge = [], retimer.step_log_likelihood
    monkeypatch.setattr(
        retimer, "step_log_likelihood", lambda some: parts.append(some.size) or judge(some)
    )
    for threads, sizes in ((1, [24]), (2, [12, 12]), (3, [8, 8, 8])):
        torch.set_num_threads(threads)
        loss, figures = retimer.loss(batch, step=0)
        retimer.zero_grad()
        loss.backward()
        assert sorted(parts) == sizes
        parts.clear()
        close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-6)
        close(loss.detach(), wanted_loss)
        assert figures.keys() == wanted.keys()
        for name, pair in wanted.items():
            for got, value in zip(figures[name], pair, strict=True):
                close(got, value.detach())
        for weights, grad in zip(retimer.net.parameters(), grads, strict=True):
            close(weights.grad, grad)


def test_equal_seeds_drop_alike_in_any_order_of_the_threads(two_parts: None) -> None:
    config = read_config(RetimeConfig, hidden_size=8, num_modes=2, dropout=0.5)
    known = {"words": ["cat"], "scale": SCALE, "simplification": {}, "reader": make_reader()}
    net, found = Retimer(config, **known).train(), []
    for _ in range(3):
        torch.manual_seed(1)
        loss, _ = net.loss(batch_of(DRAWINGS), step=0)
        found.append((loss.item(), torch.rand(()).item()))
    assert len(set(found)) == 1
    torch.manual_seed(1)
    torch.randint(2**62, ())  # all that a loss takes of the common numbers
    assert found[0][1] == torch.rand(())


def test_several_drawings_are_timed_at_once(retimer: Retimer) -> None:
    drawings = [without_time(DRAWINGS[0]), [[[3.0], [4.0]]], without_time(DRAWINGS[1])]
    timed = retimer.retime_all(drawings, temperature=0, seed=1)
    for drawing, found in zip(drawings, timed, strict=True):
        alone = retimer.retime(drawing, temperature=0)
        np.testing.assert_allclose(to_stroke4(found), to_stroke4(alone), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="no drawings"):
        retimer.retime_all([])


def test_points_between_those_that_simplification_keeps_are_timed_by_distance(
    retimer: Retimer,
) -> None:
    """A smooth curve whose points lie close comes back whole; a list does as its drawings alone."""
    turn = np.linspace(0, 2 * np.pi, 200)
    curve = [[(160 + 90 * np.sin(turn)).tolist(), (120 + 60 * np.cos(2 * turn)).tolist()]]
    pairs = [curve, [[[3, 3, 3, 9], [4, 4, 4, 4]], [[5], [5]]]]  # of which a pen rested
    for drawing, found in zip(pairs, retimer.retime_all(pairs, temperature=0), strict=True):
        (few,) = retimer.time_rows(
            [to_stroke4(simplify(drawing, **SIMPLIFICATION))], temperature=0, known=1
        )
        alone = retimer.retime(drawing, temperature=0)
        assert len(to_stroke4(found)) == len(to_stroke4(drawing))
        assert (to_stroke4(found)[1:, DT] > 0).all()
        masks = kept_points(to_box(drawing), **SIMPLIFICATION)
        for index, (x, y, t) in enumerate(found):
            np.testing.assert_array_equal((x, y), drawing[index][:2])
            np.testing.assert_allclose(t[masks[index]], few[index][2], rtol=1e-4)
            np.testing.assert_allclose(t, alone[index][2], rtol=1e-4)
    ((x, y, t),), (mask,) = retimer.retime(curve), kept_points(to_box(curve), **SIMPLIFICATION)
    first, stop = np.flatnonzero(mask)[:2]
    speed = np.hypot(np.diff(x), np.diff(y))[first:stop] / np.diff(t)[first:stop]
    np.testing.assert_allclose(speed, speed[0], rtol=1e-3)
    assert stop - first > 3
