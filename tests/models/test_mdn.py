"""The mixture's density against torch.distributions, its samples against its density."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from doodlelib.models import mdn

torch.set_default_dtype(torch.float32)


def random_mixture(*batch: int, modes: int = 5) -> mdn.Mixture:
    output = torch.randn(*batch, modes, mdn.PARAMETERS, dtype=torch.float64)
    return mdn.from_output(output, reg_covar=1e-4)


def covariance(mixture: mdn.Mixture) -> torch.Tensor:
    x, y = mixture.std.unbind(-1)
    across = mixture.rho * x * y
    return torch.stack([torch.stack([x**2, across], -1), torch.stack([across, y**2], -1)], -2)


def test_densities_agree_with_torch_distributions() -> None:
    torch.manual_seed(0)
    mixture = random_mixture(7, 3)
    xy = torch.randn(7, 3, 2, dtype=torch.float64)
    time = torch.randn(7, 3, dtype=torch.float64)
    position, given = mdn.log_prob(mixture, xy, time)

    components = MultivariateNormal(mixture.mean, covariance(mixture))
    expected = MixtureSameFamily(Categorical(logits=mixture.log_pi), components).log_prob(xy)
    torch.testing.assert_close(position, expected)

    mean = mixture.time_mean + mixture.time_slope * mdn.log_distance(xy)[..., None]
    joint = (
        mixture.log_pi
        + components.log_prob(xy[..., None, :])
        + Normal(mean, mixture.time_std).log_prob(time[..., None])
    ).logsumexp(-1)
    torch.testing.assert_close(position + given, joint)


def test_no_component_is_narrower_than_reg_covar() -> None:
    output = torch.full((4, mdn.PARAMETERS), -1e3)
    mixture = mdn.from_output(output, reg_covar=0.01)
    assert mixture.std.min() >= 0.1 - 1e-6
    assert mixture.time_std.min() >= 0.1 - 1e-6
    assert all(
        torch.isfinite(part).all()
        for part in mdn.log_prob(mixture, torch.zeros(2), torch.zeros(()))
    )


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e6])
def test_density_and_gradient_stay_finite(size: float) -> None:
    output = (torch.randn(50, 4, mdn.PARAMETERS) * size).requires_grad_()
    position, time = mdn.log_prob(
        mdn.from_output(output, reg_covar=1e-4), torch.randn(50, 2) * 3, torch.randn(50)
    )
    (position + time).sum().backward()
    assert torch.isfinite(position).all()
    assert torch.isfinite(output.grad).all()


def test_samples_have_the_moments_of_the_density() -> None:
    torch.manual_seed(1)
    one = random_mixture(modes=2)
    n = 40_000
    many = mdn.Mixture(**{name: value.expand(n, *value.shape) for name, value in vars(one).items()})
    generator = torch.Generator().manual_seed(2)
    chance = torch.rand(2, n, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    xy = mdn.sample_position(many, temperature=1.0, chance=chance[0], noise=noise[:, :2])
    mixture = MixtureSameFamily(
        Categorical(logits=one.log_pi), MultivariateNormal(one.mean, covariance(one))
    )
    spread = mixture.variance.sqrt()
    torch.testing.assert_close(xy.mean(0), mixture.mean, atol=float(4 * spread.max()) / 200, rtol=0)
    torch.testing.assert_close(xy.var(0), mixture.variance, rtol=0.05, atol=0)
    time = mdn.sample_time(many, xy, temperature=1.0, chance=chance[1], noise=noise[:, 2])
    # Rosenblatt: the conditional distribution function of a true sample is uniform
    weights = mdn.position_terms(many, xy).softmax(-1)
    mean = many.time_mean + many.time_slope * mdn.log_distance(xy)[..., None]
    uniform = (weights * Normal(mean, many.time_std).cdf(time[:, None])).sum(-1).sort().values
    gap = (uniform - torch.linspace(0, 1, n, dtype=uniform.dtype)).abs().max()
    assert gap < 1.63 / math.sqrt(n)  # Kolmogorov-Smirnov at 1 %


def test_temperature_zero_is_the_mean_of_the_weightiest() -> None:
    mixture = random_mixture(6)
    best = mixture.log_pi.argmax(-1)
    any_numbers = {"chance": torch.rand(6), "noise": torch.randn(6, 2)}
    xy = mdn.sample_position(mixture, temperature=0.0, **any_numbers)
    torch.testing.assert_close(xy, mixture.mean[torch.arange(6), best])


def test_chosen_indices_have_the_chances_of_their_weights() -> None:
    logits = torch.tensor([0.0, -math.inf, 1.0, 2.0, -math.inf])
    chance = (torch.arange(10_000) + 0.5) / 10_000
    for temperature in (0.5, 1.0):
        chosen = mdn.choose(logits.expand(10_000, 5), temperature=temperature, chance=chance)
        shares = torch.bincount(chosen, minlength=5) / 10_000
        expected = (logits / temperature).softmax(0)
        torch.testing.assert_close(shares, expected, atol=1e-4, rtol=0)
    ends = torch.tensor([0.0, 1 - 2**-24])
    chosen = mdn.choose(logits.expand(2, 5), temperature=1.0, chance=ends)
    assert chosen.tolist() == [0, 3]  # never one that has no weight
    zero = mdn.choose(logits.expand(2, 5), temperature=0.0, chance=ends)
    assert zero.tolist() == [3, 3]
