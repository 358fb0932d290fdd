"""Paths, word means and projections in the VAE's latent space.

Dimensions in annotations: N drawings, Z latent size.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from doodlelib.strokes import Drawing

if TYPE_CHECKING:
    from doodlelib.models.vae import SketchVAE

Kind = Literal["slerp", "lerp"]
Method = Literal["pca", "tsne"]

MIN_SINE = 1e-3  # of the angle below which an arc is taken for its chord
PERPLEXITY = 30.0  # of t-SNE, where there are drawings enough


def lerp(
    a: Float[Tensor, "*N Z"], b: Float[Tensor, "*N Z"], t: float | Float[Tensor, "*M 1"]
) -> Float[Tensor, "*K Z"]:
    """Linear interpolation: the point at share `t` of the line from `a` to `b`, broadcast."""
    return a * (1 - t) + b * t


def slerp(
    a: Float[Tensor, "*N Z"], b: Float[Tensor, "*N Z"], t: float | Float[Tensor, "*M 1"]
) -> Float[Tensor, "*K Z"]:
    """Spherical interpolation: the point at share `t` of the arc from `a` to `b`, broadcast.

    A Gaussian's samples lie near a sphere. The arc stays near it; the line passes through latents
    that the decoder rarely saw. Where there is no arc (parallel, opposite or zero vectors) this is
    `lerp`.

    Source: Shoemake 1985; for latents White 2016 (arXiv 1609.04468).
    """
    unit_a, unit_b = (x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12) for x in (a, b))
    # exact at every angle, where arccos of the product loses the small ones
    angle = 2 * torch.atan2((unit_a - unit_b).norm(dim=-1), (unit_a + unit_b).norm(dim=-1))
    angle = angle[..., None]
    sine = angle.sin()
    is_arc = (sine > MIN_SINE) & (unit_a != 0).any(-1, keepdim=True)
    is_arc = is_arc & (unit_b != 0).any(-1, keepdim=True)
    safe = torch.where(is_arc, sine, 1)
    arc = a * (((1 - t) * angle).sin() / safe) + b * ((t * angle).sin() / safe)
    return torch.where(is_arc, arc, lerp(a, b, t))


def path(
    a: Float[Tensor, " Z"], b: Float[Tensor, " Z"], *, steps: int, kind: Kind = "slerp"
) -> Float[Tensor, "steps Z"]:
    """`steps` evenly spaced points from `a` to `b`, both included.

    Raises:
        ValueError: `steps` is below 2, or `kind` unknown.
    """
    if steps < 2:
        raise ValueError(f"a path has at least 2 steps, not {steps}")
    if kind not in get_args(Kind):
        raise ValueError(f"kind {kind!r} is not one of {get_args(Kind)}")
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[:, None]
    return (slerp if kind == "slerp" else lerp)(a, b, t)


def decode_path(
    vae: "SketchVAE",
    start: Float[Tensor, " Z"],
    end: Float[Tensor, " Z"],
    *,
    steps: int,
    words: tuple[str | None, str | None] = (None, None),
    temperature: float = 0.1,
    time_temperature: float = 0.1,
    seed: int = 0,
) -> list[Drawing]:
    """A drawing of each of `steps` latents on the arc from `start` to `end`.

    Args:
        vae: The model.
        start: Latent at one end.
        end: Latent at the other.
        steps: At least 2.
        words: Of both ends; the decoder is conditioned on the nearer one, and on none if either is
            None.
        temperature: As in `SketchVAE`; low, so that what changes along the path is z.
        time_temperature: As in `SketchVAE`; low for the same reason.
        seed: One for all drawings, for the same reason.

    Raises:
        ValueError: As `path` and `SketchVAE.decode`.
    """
    nearer = [words[0] if step < steps / 2 else words[1] for step in range(steps)]
    return vae.decode(
        path(start, end, steps=steps),
        word=None if None in words else [word for word in nearer if word],
        temperature=temperature,
        time_temperature=time_temperature,
        seed=seed,
    )


def word_means(z: Float[Tensor, "N Z"], words: Sequence[str]) -> dict[str, Float[Tensor, " Z"]]:
    """Mean latent of each word, in order of the words' first drawings.

    Raises:
        ValueError: `words` does not name one word for each of `z`.
    """
    if len(words) != len(z):
        raise ValueError(f"{len(words)} words for {len(z)} latents")
    names = np.array(words)
    return {word: z[torch.from_numpy(names == word)].mean(0) for word in dict.fromkeys(words)}


def project(
    z: Float[Tensor, "N Z"], *, method: Method = "pca", seed: int = 0
) -> Float[np.ndarray, "N 2"]:
    """Latents in the plane.

    Args:
        z: Latents, at least 3.
        method: "pca": the two directions of largest variance; "tsne": neighbours stay neighbours,
            and distances between groups mean nothing.
        seed: Of t-SNE.

    Raises:
        ValueError: Fewer than 3 latents, or `method` unknown.

    Source: van der Maaten & Hinton 2008 (t-SNE).
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(z) < 3:
        raise ValueError(f"a projection needs at least 3 latents, not {len(z)}")
    if method not in get_args(Method):
        raise ValueError(f"method {method!r} is not one of {get_args(Method)}")
    perplexity = min(PERPLEXITY, (len(z) - 1) / 3)
    projection = (
        PCA(2, svd_solver="full")
        if method == "pca"
        else TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    )
    return projection.fit_transform(z.numpy(force=True))
