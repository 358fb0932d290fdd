"""The model for people: drawings in, drawings out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from doodlelib.config import RetimeConfig, VAEConfig, read_config
from doodlelib.data.sample import make_drawings
from doodlelib.fast.decoder import CompiledDecoder
from doodlelib.models import vae as vae_module
from doodlelib.models.batch import collate_drawings
from doodlelib.models.retimer import Retimer
from doodlelib.models.sampling import Decoder, sample
from doodlelib.models.vae import SketchVAE
from doodlelib.simplify import simplify
from doodlelib.strokes import Drawing, Scale, duration, is_timed, to_stroke4, without_time

pytestmark = pytest.mark.usefixtures("both_ways")
SIMPLIFICATION = {"method": "timed", "epsilon": 2.0, "epsilon_time": 8.0}
STAR = make_drawings("star", 1)[0].drawing
CAT = make_drawings("cat", 1)[0].drawing


def make_vae(max_seq_len: int = 30, hide_z_prob: float = 0.0) -> SketchVAE:
    torch.manual_seed(0)
    config = read_config(
        VAEConfig,
        latent_size=6,
        enc_hidden_size=12,
        dec_hidden_size=16,
        max_seq_len=max_seq_len,
        hide_z_prob=hide_z_prob,
    )
    scale = Scale(xy=32.0, segment_mean=4.4, segment_std=0.8, pause_mean=6.0, pause_std=0.8)
    return SketchVAE(config, words=["star", "cat"], scale=scale, simplification=SIMPLIFICATION)


@pytest.fixture(scope="module")
def vae() -> SketchVAE:
    return make_vae()


def same(one: list[Drawing], other: list[Drawing]) -> bool:
    return all(
        np.array_equal(to_stroke4(a), to_stroke4(b), equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )


def test_generated_drawings_are_timed_and_seeded(vae: SketchVAE) -> None:
    doodles = vae.generate(5, word="cat", seed=1)
    assert len(doodles) == 5
    for doodle in doodles:
        assert is_timed(doodle)
        rows = to_stroke4(doodle)  # raises if the clock ran back
        assert (rows[1:, 2] > 0).all()
        assert duration(doodle) == pytest.approx(rows[:, 2].sum())
    assert same(doodles, vae.generate(5, word="cat", seed=1))
    assert not same(doodles, vae.generate(5, word="cat", seed=2))
    assert not same(doodles, vae.generate(5, word="star", seed=1))
    assert len(vae.generate(2, word=["cat", "star"])) == len(vae.generate(2)) == 2


def test_time_temperature_leaves_the_first_move_alone(vae: SketchVAE) -> None:
    slow, still = (vae.generate(20, seed=4, time_temperature=t) for t in (1.0, 0.0))
    moved = [i for i in range(20) if len(to_stroke4(slow[i])) > 1]
    a, b = (np.array([to_stroke4(doodles[i])[1] for i in moved]) for doodles in (slow, still))
    np.testing.assert_allclose(a[:, :2], b[:, :2], atol=1e-3)
    assert (a[:, 2] != b[:, 2]).all()


def test_encode_decode_reconstruct(vae: SketchVAE) -> None:
    z = vae.encode([STAR, CAT])
    assert z.shape == (2, 6)
    torch.testing.assert_close(vae.encode([CAT])[0], z[1], atol=1e-5, rtol=1e-4)
    assert same(
        vae.decode(z, word=["star", "cat"], seed=3),
        vae.reconstruct([STAR, CAT], word=["star", "cat"], seed=3),
    )


def test_few_small_drawings_wait_for_no_other_thread(
    vae: SketchVAE, monkeypatch: pytest.MonkeyPatch, both_ways: str
) -> None:
    """One of PyTorch's threads for what is few and small."""
    seen, before = set(), torch.get_num_threads()
    choose = vae.exemplars.sample

    def chosen(*args: object, **kwargs: object) -> torch.Tensor:
        seen.add(("z", torch.get_num_threads()))
        return choose(*args, **kwargs)

    for kind in (Decoder, CompiledDecoder):

        def counted(*args: object, step: Callable = kind.next_rows) -> np.ndarray:
            seen.add(("step", torch.get_num_threads()))
            return step(*args)

        monkeypatch.setattr(kind, "next_rows", counted)
    monkeypatch.setattr(vae.exemplars, "sample", chosen)
    torch.set_num_threads(3)
    threads = 1 if both_ways == "fast" else 3
    for draw in (lambda: vae.generate(2), lambda: vae.complete(CAT[:1], n=2)):
        seen.clear()
        draw()
        assert seen == {("z", threads), ("step", threads)}
    seen.clear()
    vae.decode(torch.zeros(2, 6))
    assert seen == {("step", threads)}
    torch.set_num_threads(before)


def smooth_cat() -> Drawing:
    """A head of 150 points with ears, and two eyes of 30: as a pen reports them, in px of a pad."""
    way = np.linspace(0, 2 * np.pi, 150)
    radius = 90 + 30 * np.exp(-(((np.abs(way - np.pi) - 0.7) / 0.2) ** 2))
    head = [160 + radius * np.sin(way), 160 + radius * np.cos(way), 12.5 * np.arange(150)]
    turn = np.linspace(0, 2 * np.pi, 30)
    eyes = [
        [x + 8 * np.cos(turn), 140 + 8 * np.sin(turn), start + 11.0 * np.arange(30)]
        for x, start in ((130, 2500), (190, 3300))
    ]
    return [head, *eyes]


def begins_with(ending: Drawing, drawing: Drawing) -> bool:
    """Point for point, exactly; the last stroke may go on."""
    return all(
        np.array_equal(np.asarray(values), more[: len(values)])
        and (stroke is drawing[-1] or len(values) == len(more))
        for stroke, longer in zip(drawing, ending[: len(drawing)], strict=True)
        for values, more in zip(stroke, longer, strict=True)
    )


def test_completions_begin_as_the_drawing_did(vae: SketchVAE) -> None:
    begun = CAT[:1]
    endings = vae.complete(begun, n=4, word="cat", seed=0)
    assert len(endings) == 4
    assert all(begins_with(ending, begun) for ending in endings)
    assert same(endings, vae.complete(begun, n=4, word="cat", seed=0))
    assert len({sum(len(stroke[0]) for stroke in ending) for ending in endings}) > 1
    assert len(vae.complete([[[7.0], [7.0], [0.0]]], n=3, word="cat", seed=0)) == 3


@torch.no_grad()
def test_endings_are_of_latents_that_make_the_beginning_likely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against all candidates told the whole beginning; many are given up on the way."""
    vae, many, scored = make_vae(max_seq_len=60).eval(), vae_module.CANDIDATES, []
    for part in (vae.decoder, vae.head, vae.to_state):
        for weight in part.parameters():
            weight.add_(0.6 * torch.randn_like(weight))
    generator = torch.Generator().manual_seed(1)
    words = vae.word_indices("star", many)
    z = vae.exemplars.sample(words, generator=generator)
    batch = vae.to_batch(many * [STAR], words=words)
    nats = vae.step_log_likelihood(batch, z)
    likelihood = nats.pen[:, :-1].sum(1)  # not that it ends there
    likelihood += (nats.position + nats.segment_time + nats.pause_time).sum(1)
    chosen = torch.multinomial(likelihood.softmax(0), 20, replacement=True, generator=generator)
    assert len(chosen.unique()) > 1
    slow = Decoder(vae, z[chosen], words[chosen])
    slow.score_prefix(batch.rows[0, 2:-1])

    score = Decoder.score_prefix
    monkeypatch.setattr(
        Decoder, "score_prefix", lambda *args: scored.append(len(args[0].rows)) or score(*args)
    )
    monkeypatch.setattr(vae_module, "MAX_BEHIND", 15.0)
    fast = vae.condition_on_prefix(STAR, 20, "star", generator.manual_seed(1))
    assert scored[0] == many > scored[-1] + 20
    options = {"temperature": 0.0, "time_temperature": 0.0, "generator": None}
    endings = [sample(decoder, **options) for decoder in (fast, slow)]
    for one, other in zip(*endings, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_an_untimed_beginning_is_given_a_time(vae: SketchVAE) -> None:
    begun = without_time(CAT[:1])
    with pytest.raises(ValueError, match="no retimer"):
        vae.complete(begun, word="cat", seed=0)
    config = read_config(RetimeConfig, hidden_size=8, num_modes=2)
    known = {"words": vae.words, "scale": vae.scale, "simplification": vae.simplification}
    vae.attach(Retimer(config, **known))
    try:
        endings = vae.complete(begun, n=2, word="cat", timing="joint", seed=0)
        timed = vae.retime(begun, seed=0)
    finally:
        vae.attach(None)
    assert np.unique(to_stroke4(timed)[1:, 2]).size > 1
    assert all(begins_with(ending, timed) for ending in endings)


def test_a_word_alone_completes_where_z_was_masked_in_training() -> None:
    hiding, seeing = (make_vae(hide_z_prob=share) for share in (0.2, 0.0))
    for vae, word, latent in (
        (hiding, "cat", "none"),
        (hiding, None, "exemplars"),
        (seeing, "cat", "exemplars"),
    ):
        wanted = vae.complete(CAT[:1], n=3, word=word, latent=latent, timing="none", seed=1)
        assert same(vae.complete(CAT[:1], n=3, word=word, timing="none", seed=1), wanted)
        other = "none" if latent == "exemplars" else "exemplars"
        assert not same(
            vae.complete(CAT[:1], n=3, word=word, latent=other, timing="none", seed=1), wanted
        )


def test_z_and_the_strokes_from_it_share_no_random_numbers(vae: SketchVAE) -> None:
    """A first pen event is chosen by the first uniform number of its stream."""
    seen = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        z = vae.exemplars.sample(vae.word_indices("cat", 1), generator=generator)
        after = torch.Generator().manual_seed(vae_module._next_seed(generator))
        seen.append([float(z[0, :2].square().sum()), float(torch.rand(1, generator=after))])
    radius, uniform = np.array(seen).T
    assert abs(np.corrcoef(radius, -2 * np.log(1 - uniform))[0, 1]) < 0.25


def test_likelihood_counts_events_and_hides_what_it_says(vae: SketchVAE) -> None:
    rows = to_stroke4(simplify(CAT, **SIMPLIFICATION))
    (nats,) = vae.log_likelihood([CAT])
    assert nats.pen_count == len(rows)
    assert nats.position_count == len(rows) - 1
    assert nats.pause_time_count == (rows[1:, 3] == 0).sum()
    assert nats.segment_time_count == (rows[1:, 3] == 1).sum()
    assert nats.pen < 0

    untimed = vae.log_likelihood([without_time(CAT)], "shape")[0]
    assert untimed.segment_time_count == untimed.pause_time_count == 0
    assert untimed.segment_time == untimed.pause_time == 0

    by_given = {g: vae.log_likelihood([CAT], g)[0].position for g in ("z", "shape", "prior")}
    assert len(set(by_given.values())) == 3
    with pytest.raises(ValueError, match="given must be"):
        vae.log_likelihood([CAT], "time")  # ty: ignore[invalid-argument-type]


def test_times_judged_given_the_shape_do_not_reach_z(vae: SketchVAE) -> None:
    """Position and pen of the first move come before any time, so hidden time leaves them alone."""
    simple = simplify(STAR, **SIMPLIFICATION)
    slower = [[x, y, 3 * t] for x, y, t in simple]
    torch.testing.assert_close(
        vae.encode([simple], see_time=False), vae.encode([slower], see_time=False)
    )
    assert not torch.allclose(vae.encode([simple]), vae.encode([slower]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda vae: vae.generate(0), "n must be at least 1"),
        (lambda vae: vae.generate(1, word="dog"), "does not know 'dog'"),
        (lambda vae: vae.generate(2, word=["cat"]), "1 words for 2"),
        (lambda vae: vae.generate(1, temperature=-1.0), "temperatures"),
        (lambda vae: vae.decode(torch.zeros(1, 5)), "z has shape"),
        (lambda vae: vae.encode([]), "no drawings"),
        (lambda vae: vae.encode([[]]), "no strokes"),
        (lambda vae: vae.complete(CAT, n=0), "n must be at least 1"),
    ],
)
def test_bad_requests_are_named(vae: SketchVAE, call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(vae)


def test_without_class_conditioning_there_are_no_words_to_ask_for(vae: SketchVAE) -> None:
    config = read_config(
        VAEConfig, latent_size=6, enc_hidden_size=8, dec_hidden_size=8, class_conditioning=False
    )
    plain = SketchVAE(config, words=vae.words, scale=vae.scale, simplification=SIMPLIFICATION)
    assert len(plain.generate(2, seed=0)) == 2
    with pytest.raises(ValueError, match="without words"):
        plain.generate(1, word="cat")


def test_times_that_the_model_drew_are_uniform_in_its_own_forecast(vae: SketchVAE) -> None:
    """The probability integral transform, on doodles whose z is known."""
    z = torch.zeros(300, vae.config.latent_size)
    doodles = vae.decode(z, temperature=1.0, seed=3)
    words = np.full(len(doodles), vae.unknown_word)
    rows = [to_stroke4(doodle) for doodle in doodles]
    with torch.no_grad():
        cdf, _ = vae.time_cdf(collate_drawings(rows, words=words, scale=vae.scale), z)
    deciles = np.histogram(cdf.numpy(), bins=5, range=(0, 1))[0] / len(cdf)
    assert np.abs(deciles - 0.2).max() < 0.05


def with_retimer() -> SketchVAE:
    vae = make_vae()
    config = read_config(RetimeConfig, hidden_size=8, num_modes=2)
    known = {"words": vae.words, "scale": vae.scale, "simplification": vae.simplification}
    vae.attach(Retimer(config, **known).eval())
    return vae


@pytest.mark.parametrize("timing", ["joint", "retimer", "none"])
@pytest.mark.parametrize("latent", ["exemplars", "none"])
def test_where_z_and_times_come_from(latent: str, timing: str) -> None:
    vae, options = with_retimer(), {"word": "cat", "latent": latent, "timing": timing}
    doodles = vae.generate(4, seed=1, **options)
    assert all(is_timed(doodle) == (timing != "none") for doodle in doodles)
    assert same(doodles, vae.generate(4, seed=1, **options))
    assert not same(doodles, vae.generate(4, seed=2, **options))
    if timing != "none":
        assert all((to_stroke4(doodle)[1:, 2] > 0).all() for doodle in doodles)
    endings = vae.complete(CAT[:1], n=3, seed=1, **options)
    start = without_time(CAT[:1]) if timing == "none" else CAT[:1]  # the retimer keeps known times
    assert all(begins_with(ending, start) for ending in endings)


@pytest.mark.parametrize("timing", ["joint", "retimer", "none"])
@pytest.mark.parametrize("timed", [True, False])
def test_every_point_of_a_smooth_drawing_comes_back(timed: bool, timing: str) -> None:
    vae, cat = with_retimer(), smooth_cat()
    kept = len(to_stroke4(simplify(cat, **SIMPLIFICATION)))
    assert kept < 80 < 200 < len(to_stroke4(cat))
    drawing = cat if timed else without_time(cat)
    vae.config = replace(vae.config, max_seq_len=kept + 20)
    endings = vae.complete(drawing, n=5, timing=timing, temperature=1.0, seed=1)
    expected = drawing if timed and timing != "none" else without_time(cat)
    for ending in endings:
        assert is_timed(ending) == (timing != "none")
        assert begins_with(ending if is_timed(expected) else without_time(ending), expected)
        if is_timed(ending):
            assert (to_stroke4(ending)[1:, 2] > 0).all()
    lengths = [len(to_stroke4(ending)) for ending in endings]
    assert max(lengths) > len(to_stroke4(cat))


def test_endings_go_on_in_the_px_of_the_drawing() -> None:
    """A drawing of half the size has the same endings, half as large."""
    vae = make_vae()
    half = [[x / 2 + 7, y / 2 - 3, t] for x, y, t in CAT[:1]]
    for one, other in zip(*(vae.complete(d, n=4, seed=1) for d in (CAT[:1], half)), strict=True):
        rows, small = to_stroke4(one), to_stroke4(other)
        np.testing.assert_allclose(rows[:, :2], 2 * small[:, :2], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(rows[:, 2:], small[:, 2:], rtol=1e-4)


def test_the_retimer_times_untimed_doodles_as_they_are() -> None:
    vae = with_retimer()
    plain, timed = (vae.generate(4, seed=1, timing=timing) for timing in ("none", "retimer"))
    for one, other in zip(plain, timed, strict=True):
        found = to_stroke4(without_time(other))
        np.testing.assert_allclose(found, to_stroke4(one), rtol=1e-5, atol=1e-4)
    shorter = without_time(CAT[:1])  # an untimed beginning needs no times first
    ending = vae.complete(shorter, n=1, timing="none", seed=1)[0]
    assert not is_timed(ending)


def test_a_model_that_saw_no_times_takes_them_from_the_retimer_or_draws_without() -> None:
    vae = with_retimer()
    vae.scale = Scale(xy=32.0)  # what `scale_of` makes of untimed drawings
    timed, plain = (vae.generate(3, seed=1, timing=timing) for timing in ("retimer", "none"))
    assert same(vae.generate(3, seed=1), timed)
    assert torch.equal(vae.encode([CAT]), vae.encode([CAT], see_time=False))
    (ending,) = vae.complete(CAT[:1], n=1, seed=1)
    assert begins_with(ending, CAT[:1])
    assert vae.log_likelihood([CAT], "z")[0].segment_time_count == 0
    vae.attach(None)
    assert same(vae.generate(3, seed=1), plain)
    drawn = [*vae.reconstruct([CAT, without_time(CAT)]), *vae.complete(CAT[:1], n=2)]
    assert not any(map(is_timed, drawn))
    drawn = vae.complete(without_time(CAT[:1]), n=2)
    assert not any(map(is_timed, drawn))


def test_untimed_decoding_reads_no_times(vae: SketchVAE) -> None:
    """Whatever `time_temperature` is, the geometry stays as it is."""
    z, words = torch.randn(5, 6), torch.zeros(5, dtype=torch.long)
    found = [
        sample(
            Decoder(vae, z, words, timed=False),
            temperature=0.4,
            time_temperature=time_temperature,
            generator=torch.Generator().manual_seed(3),
        )
        for time_temperature in (0.0, 2.0)
    ]
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
            assert (other[:, 2] == 0).all()


@torch.no_grad()
def test_an_untimed_prefix_is_scored_without_times(vae: SketchVAE) -> None:
    batch = vae.to_batch([without_time(CAT)], words=vae.word_indices("cat", 1))
    z = torch.randn(1, 6)
    nats = vae.step_log_likelihood(batch, z)
    wanted = nats.pen[:, :-1].sum() + nats.position.sum()
    wanted += 2 * np.log(vae.scale.xy) * (batch.lengths.item() - 1)  # in model units
    decoder = Decoder(vae, z, batch.words, timed=False)
    torch.testing.assert_close(decoder.score_prefix(batch.rows[0, 2:-1])[0], wanted)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["temperature", "time_temperature"])
def test_impossible_temperatures_are_refused(vae: SketchVAE, name: str, value: float) -> None:
    calls = (vae.generate, 1), (vae.decode, torch.zeros(1, 6))
    for call, given in (*calls, (vae.reconstruct, [CAT]), (vae.complete, CAT)):
        with pytest.raises(ValueError, match=rf"temperatures are 0 to 1e6, not .*{value}"):
            call(given, word="cat", **{name: value})


def test_options_are_checked(vae: SketchVAE) -> None:
    for call in (vae.generate, lambda n, **options: vae.complete(CAT, n=n, **options)):
        with pytest.raises(ValueError, match="latent must be"):
            call(1, latent="normal")
        with pytest.raises(ValueError, match="timing must be"):
            call(1, timing="later")
        with pytest.raises(ValueError, match="no retimer"):
            call(1, timing="retimer")


def test_z_is_masked_in_some_of_the_training_drawings(vae: SketchVAE) -> None:
    """With every z masked, z takes no gradient from the likelihood; the encoder rests."""
    batch = vae.to_batch([CAT, STAR], words=vae.word_indices(["cat", "star"], 2))
    net = make_vae()
    for probability, learns in ((1.0, False), (0.0, True)):
        net.config = replace(net.config, hide_z_prob=probability, kl_weight=0.0)
        net.zero_grad()
        net.loss(batch, step=0)[0].backward()
        assert bool(net.to_mean.weight.grad.abs().sum() > 0) == learns
