"""The mixture over one move: where to, and how long it takes, given whether the pen is down.

One mixture of products: component m says both where (a 2-D Gaussian) and when (a log-normal whose
mean depends on the distance moved), so that a fast component can also be a long one.

... any batch axes, M mixture component. Positions and log times are in model units (see
`strokes.Scale`).

Source: Graves 2013, eq. 24-26 for (dx, dy); Shchur et al. 2020 (arXiv 1909.12127) for log-normal
mixtures of time. New here: time joins the position's components and depends on the distance.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from doodlelib.strokes import Scale

PARAMETERS = 9  # numbers the network gives for each component
MAX_LOG = 10.0  # of a standard deviation's log, either way
MAX_RHO = 1 - 1e-4
LEAST_SQUARE = 1e-4  # added to the square of a distance
MAX_TEMPERATURE = 1e6  # beyond, samples overflow
MAX_TIME = 8.0  # standard deviations of log time: a pause of minutes, and no overflow
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Mixture:
    """Parameters in their ranges; see `from_output`.

    The standardised log time has mean time_mean + time_slope * log r, r being the distance moved.
    """

    log_pi: Float[Tensor, "*batch M"]  # log weights, normalised over M
    mean: Float[Tensor, "*batch M 2"]  # of dx and dy
    std: Float[Tensor, "*batch M 2"]
    rho: Float[Tensor, "*batch M"]  # correlation of dx and dy, within (-1, 1)
    time_mean: Float[Tensor, "*batch M"]
    time_slope: Float[Tensor, "*batch M"]
    time_std: Float[Tensor, "*batch M"]


def from_output(output: Float[Tensor, "*batch M 9"], *, reg_covar: float) -> Mixture:
    """The mixture that the network's unbounded output describes.

    `reg_covar` is added to the variances, as to the diagonal of the covariance matrix, so that no
    component can close in on a single value (many moves have dx = 0 exactly).
    """
    log_pi, mean_x, mean_y, log_x, log_y, rho, time_mean, time_slope, log_time = output.unbind(-1)
    raw_std = torch.stack([log_x, log_y], dim=-1).clamp(-MAX_LOG, MAX_LOG).exp()
    std = (raw_std**2 + reg_covar).sqrt()
    shrunk = raw_std / std  # not `prod`, whose gradient asks the GPU for zeros and waits
    return Mixture(
        log_pi=log_pi.log_softmax(dim=-1),
        mean=torch.stack([mean_x, mean_y], dim=-1),
        std=std,
        rho=rho.tanh() * MAX_RHO * shrunk[..., 0] * shrunk[..., 1],
        time_mean=time_mean,
        time_slope=time_slope,
        time_std=((2 * log_time.clamp(-MAX_LOG, MAX_LOG)).exp() + reg_covar).sqrt(),
    )


def log_distance(xy: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
    """Log of the distance moved, in model units; smooth and finite where nothing moved."""
    return 0.5 * (xy.square().sum(dim=-1) + LEAST_SQUARE).log()


def position_terms(mixture: Mixture, xy: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch M"]:
    """Log of weight times density of (dx, dy), of each component."""
    zx, zy = ((xy[..., None, :] - mixture.mean) / mixture.std).unbind(-1)
    one_less_rho2 = 1 - mixture.rho**2
    return (
        mixture.log_pi
        - (zx**2 + zy**2 - 2 * mixture.rho * zx * zy) / (2 * one_less_rho2)
        - mixture.std.log().sum(dim=-1)
        - 0.5 * one_less_rho2.log()
        - _LOG_2PI
    )


def time_terms(
    mixture: Mixture, xy: Float[Tensor, "*batch 2"], time: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch M"]:
    """Log density of the standardised log time given the move, of each component."""
    mean = mixture.time_mean + mixture.time_slope * log_distance(xy)[..., None]
    z = (time[..., None] - mean) / mixture.time_std
    return -0.5 * z**2 - mixture.time_std.log() - 0.5 * _LOG_2PI


def log_prob(
    mixture: Mixture, xy: Float[Tensor, "*batch 2"], time: Float[Tensor, "*batch"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Log p(dx, dy) and log p(time | dx, dy), nats in model units; their sum is the joint."""
    position = position_terms(mixture, xy)
    joint = torch.logsumexp(position + time_terms(mixture, xy, time), dim=-1)
    log_position = torch.logsumexp(position, dim=-1)
    return log_position, joint - log_position


def log_density_in_ms(
    log_density: Float[Tensor, "*batch"],
    time: Float[Tensor, "*batch"],
    is_pen_up: Bool[Tensor, "*batch"],
    *,
    scale: Scale,
) -> Float[Tensor, "*batch"]:
    """Log density of dt itself, in ms, from that of its standardised log, `time`."""
    mean = torch.where(is_pen_up, scale.pause_mean, scale.segment_mean)
    std = torch.where(is_pen_up, scale.pause_std, scale.segment_std)
    return log_density - std.log() - (time * std + mean)


def sample_position(
    mixture: Mixture,
    *,
    temperature: float,
    chance: Float[Tensor, "*batch"],
    noise: Float[Tensor, "*batch 2"],
) -> Float[Tensor, "*batch 2"]:
    """Sample dx, dy; at temperature 0 the mean of the weightiest component.

    Log weights are divided by `temperature`, variances multiplied. `chance` are uniform random
    numbers, which choose the component, `noise` standard normal ones.

    Source: Ha & Eck 2017, eq. 8.
    """
    component = choose(mixture.log_pi, temperature=temperature, chance=chance)
    rho, index = _take(mixture.rho, component), component[..., None, None]
    mean, std = (x.take_along_dim(index, -2).squeeze(-2) for x in (mixture.mean, mixture.std))
    x, y = noise.unbind(-1)
    correlated = torch.stack([x, rho * x + (1 - rho**2).sqrt() * y], dim=-1)
    return mean + std * math.sqrt(temperature) * correlated


def sample_time(
    mixture: Mixture,
    xy: Float[Tensor, "*batch 2"],
    *,
    temperature: float,
    chance: Float[Tensor, "*batch"],
    noise: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """Sample the standardised log time given the move made, within `MAX_TIME`.

    The component is sampled anew, by its weight given the move: at temperature 1 this is exactly
    p(time | dx, dy), however the move itself was sampled. Arguments as `sample_position`.
    """
    weights = position_terms(mixture, xy)
    component = choose(weights, temperature=temperature, chance=chance)
    mean = mixture.time_mean + mixture.time_slope * log_distance(xy)[..., None]
    mean, std = _take(mean, component), _take(mixture.time_std, component)
    return (mean + std * math.sqrt(temperature) * noise).clamp(-MAX_TIME, MAX_TIME)


def choose(
    logits: Float[Tensor, "*batch M"], *, temperature: float, chance: Float[Tensor, "*batch"]
) -> Int64[Tensor, "*batch"]:
    """An index with probability softmax(logits / temperature), at 0 the largest.

    `chance` are uniform numbers in [0, 1): index m where the sum of the weights passes them.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    sums = (logits / temperature).softmax(dim=-1).cumsum(dim=-1)
    passed = sums <= chance[..., None] * sums[..., -1:]
    return passed.sum(dim=-1).clamp(max=logits.shape[-1] - 1)


def _take(
    values: Float[Tensor, "*batch M"], component: Int64[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    return values.gather(-1, component[..., None]).squeeze(-1)
