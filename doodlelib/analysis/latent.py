"""Paths in the VAE's latent space, of Z dimensions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from doodlelib.strokes import Drawing

if TYPE_CHECKING:
    from doodlelib.models.vae import SketchVAE

MIN_SINE = 1e-3  # of the angle below which an arc is taken for its chord


def slerp(
    a: Float[Tensor, "*N Z"], b: Float[Tensor, "*N Z"], t: float | Float[Tensor, "*M 1"]
) -> Float[Tensor, "*K Z"]:
    """Spherical interpolation: the point at share `t` of the arc from `a` to `b`, broadcast.

    A Gaussian's samples lie near a sphere. The arc stays near it; the line passes through latents
    that the decoder rarely saw. Where there is no arc (parallel or opposite vectors) the point lies
    on the line.

    Source: Shoemake 1985; for latents White 2016 (arXiv 1609.04468).
    """
    unit_a, unit_b = (x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12) for x in (a, b))
    # exact at every angle, where arccos of the product loses the small ones
    gap, joint = ((unit_a + sign * unit_b).norm(dim=-1, keepdim=True) for sign in (-1, 1))
    angle = 2 * torch.atan2(gap, joint)
    sine = angle.sin()
    is_arc = sine > MIN_SINE
    safe = torch.where(is_arc, sine, 1)
    arc = a * (((1 - t) * angle).sin() / safe) + b * ((t * angle).sin() / safe)
    return torch.where(is_arc, arc, a * (1 - t) + b * t)


def path(a: Float[Tensor, " Z"], b: Float[Tensor, " Z"], *, steps: int) -> Float[Tensor, "steps Z"]:
    """`steps` (2 or more, else ValueError) evenly spaced points on the arc from `a` to `b`."""
    if steps < 2:
        raise ValueError(f"a path has at least 2 steps, not {steps}")
    return slerp(a, b, torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[:, None])


def decode_path(
    vae: "SketchVAE",
    start: Float[Tensor, " Z"],
    end: Float[Tensor, " Z"],
    *,
    steps: int,
    words: Sequence[str | None] = (None, None),
    temperature: float = 0.1,
    time_temperature: float = 0.1,
    seed: int = 0,
) -> list[Drawing]:
    """A drawing of each of `steps` latents on the arc from `start` to `end`.

    `words` are those of both ends: the decoder is conditioned on the nearer one, and on none if
    either is None. Temperatures are low, and all drawings share the seed, so that what changes
    along the path is z.
    """
    nearer = [words[step >= steps / 2] for step in range(steps)]
    return vae.decode(
        path(start, end, steps=steps),
        word=None if None in words else [word for word in nearer if word],
        temperature=temperature,
        time_temperature=time_temperature,
        seed=seed,
    )
