"""Where z lay in training."""

import runpy

import pytest
import torch

from doodlelib.models.prior import KEPT, ExemplarPrior
from doodlelib.paths import ROOT

FINE = -9.0  # log of a spread that is as good as none


def test_each_word_draws_from_its_own_posteriors() -> None:
    torch.manual_seed(0)
    exemplars = ExemplarPrior(2, 3)
    centre = torch.tensor([[1.0, 0.0, -2.0], [-1.0, 3.0, 0.0]])
    for _ in range(30):
        words = torch.randint(2, (50,))
        side = torch.where(torch.rand(50, 1) < 0.5, 5.0, -5.0)  # two heaps, nothing between them
        exemplars.update(words, centre[words] + side, torch.full((50, 3), 0.4).log())
    drawn = exemplars.sample(torch.ones(4000, dtype=torch.long), generator=None) - centre[1]
    assert drawn.abs().min() > 3
    assert (drawn.abs() - 5).std(0).sub(0.4).abs().max() < 0.05
    assert 0.3 < (drawn[:, 0] > 0).double().mean() < 0.7
    cool = exemplars.sample(torch.ones(4000, dtype=torch.long), temperature=0.25, generator=None)
    assert ((cool - centre[1]).abs() - 5).std(0).sub(0.2).abs().max() < 0.03


def test_a_cool_z_is_a_usual_one() -> None:
    exemplars = ExemplarPrior(1, 2)
    torch.manual_seed(0)
    mean = torch.cat([0.2 * torch.randn(16, 2), 8 * torch.randn(48, 2).sign()])
    mean[16:] += 3 * torch.randn(48, 2)  # the usual ones lie close together
    exemplars.update(torch.zeros(KEPT, dtype=torch.long), mean, torch.full((KEPT, 2), 0.1).log())
    words = torch.zeros(500, dtype=torch.long)
    cool, warm = (
        exemplars.sample(words, temperature=temperature, generator=None)
        for temperature in (0.25, 1.0)
    )
    assert cool.abs().max() < 2
    assert 0.1 < (warm.abs().amax(1) < 2).double().mean() < 0.4
    assert len(exemplars.sample(words, temperature=0.0, generator=None).unique(dim=0)) == 1


def test_an_untrained_model_draws_from_a_standard_normal() -> None:
    generator = torch.Generator().manual_seed(1)
    z = ExemplarPrior(2, 5).sample(torch.zeros(5000, dtype=torch.long), generator=generator)
    torch.testing.assert_close(z.mean(0), torch.zeros(5), atol=0.1, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(5), atol=0.1, rtol=0)


def test_a_word_not_told_or_never_seen_draws_from_any() -> None:
    exemplars = ExemplarPrior(3, 1)
    for word, centre in ((0, 5.0), (1, -5.0)):
        words = torch.full((40,), word)
        exemplars.update(words, torch.full((40, 1), centre), torch.full((40, 1), FINE))
    for word in (2, 3):  # never seen; not told
        z = exemplars.sample(torch.full((200,), word), generator=None)
        assert 0.3 < (z > 0).double().mean() < 0.7
    assert (exemplars.sample(torch.zeros(50, dtype=torch.long), generator=None) > 4).all()


def test_the_latest_are_kept() -> None:
    exemplars = ExemplarPrior(1, 1)
    for start in range(0, 3 * KEPT, 16):
        mean = torch.arange(start, start + 16.0)[:, None]
        exemplars.update(torch.zeros(16, dtype=torch.long), mean, torch.full((16, 1), FINE))
    assert sorted(exemplars.mean[0, :, 0].tolist()) == list(range(2 * KEPT, 3 * KEPT))


def test_of_a_large_batch_the_latest_are_kept() -> None:
    exemplars = ExemplarPrior(1, 1)
    mean = torch.arange(3.0 * KEPT)[:, None]
    exemplars.update(torch.zeros(3 * KEPT, dtype=torch.long), mean, torch.full_like(mean, FINE))
    assert sorted(exemplars.mean[0, :, 0].tolist()) == list(range(2 * KEPT, 3 * KEPT))
    assert exemplars.count.tolist() == [3 * KEPT]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_posteriors_of_any_type_are_kept(dtype: torch.dtype) -> None:
    exemplars = ExemplarPrior(1, 2).to(dtype)
    mean = torch.tensor([[3.0, -2.0]], dtype=dtype)
    exemplars.update(torch.zeros(1, dtype=torch.long), mean, torch.full_like(mean, FINE))
    drawn = exemplars.sample(torch.zeros(4, dtype=torch.long), generator=None)
    torch.testing.assert_close(drawn, mean.float().expand(4, 2), rtol=0, atol=1e-2)


def test_the_latest_few_may_be_kept() -> None:
    exemplars = ExemplarPrior(2, 1)
    for count, word in ((KEPT + 7, 0), (3, 1)):
        mean = torch.arange(float(count))[:, None]
        exemplars.update(torch.full((count,), word), mean, torch.full_like(mean, FINE))
    runpy.run_path(str(ROOT / "experiments/ship.py"))["keep_latest"](exemplars, 5)
    assert exemplars.mean[0, :, 0].tolist() == list(range(KEPT + 2, KEPT + 7))
    assert exemplars.mean[1, :3, 0].tolist() == [0, 1, 2]
    assert exemplars.count.tolist() == [5, 3]
    mean = torch.full((1, 1), 99.0)  # takes the place of the oldest
    exemplars.update(torch.zeros(1, dtype=torch.long), mean, torch.full_like(mean, FINE))
    assert exemplars.mean[0, :, 0].tolist() == [99, *range(KEPT + 3, KEPT + 7)]
