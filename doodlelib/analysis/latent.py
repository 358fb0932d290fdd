"""Ways through the latent space. N drawing, Z latent dimension."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Kind = Literal["slerp", "lerp"]
Method = Literal["pca", "tsne"]

STRAIGHT = 1e-3  # sine of the angle below which an arc is taken for its chord
PERPLEXITY = 30.0  # of t-SNE, where there are drawings enough


def lerp(
    a: Float[Tensor, "*N Z"], b: Float[Tensor, "*N Z"], t: float | Float[Tensor, "*M 1"]
) -> Float[Tensor, "*K Z"]:
    """The point at share `t` of the straight way from `a` to `b`; shapes are broadcast."""
    return a * (1 - t) + b * t


def slerp(
    a: Float[Tensor, "*N Z"], b: Float[Tensor, "*N Z"], t: float | Float[Tensor, "*M 1"]
) -> Float[Tensor, "*K Z"]:
    """The point at share `t` of the arc from `a` to `b`; shapes are broadcast.

    A Gaussian's samples lie near a sphere; the arc stays near it, where the straight way passes
    through latents that the decoder rarely saw. Where there is no arc (parallel, opposite or zero
    vectors) this is `lerp`.

    Source: Shoemake 1985; for latents White 2016 (arXiv 1609.04468).
    """
    unit_a, unit_b = (x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12) for x in (a, b))
    # exact at every angle, where arccos of the product loses the small ones
    angle = 2 * torch.atan2((unit_a - unit_b).norm(dim=-1), (unit_a + unit_b).norm(dim=-1))
    angle = angle[..., None]
    sine = angle.sin()
    is_arc = (sine > STRAIGHT) & (unit_a != 0).any(-1, keepdim=True)
    is_arc = is_arc & (unit_b != 0).any(-1, keepdim=True)
    safe = torch.where(is_arc, sine, 1)
    arc = a * (((1 - t) * angle).sin() / safe) + b * ((t * angle).sin() / safe)
    return torch.where(is_arc, arc, lerp(a, b, t))


def path(
    a: Float[Tensor, " Z"], b: Float[Tensor, " Z"], *, steps: int, kind: Kind = "slerp"
) -> Float[Tensor, "steps Z"]:
    """`steps` points from `a` to `b`, both included.

    Raises:
        ValueError: `steps` is below 2, or `kind` unknown.
    """
    if steps < 2:
        raise ValueError(f"a path has at least 2 steps, not {steps}")
    if kind not in get_args(Kind):
        raise ValueError(f"kind {kind!r} is not one of {get_args(Kind)}")
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[:, None]
    return (slerp if kind == "slerp" else lerp)(a, b, t)


def arithmetic(
    plus: Sequence[Float[Tensor, " Z"]], minus: Sequence[Float[Tensor, " Z"]]
) -> Float[Tensor, " Z"]:
    """The sum of `plus` less the sum of `minus`, as in cat face + pig - pig face = cat.

    Raises:
        ValueError: There is nothing to add.
    """
    if len(plus) == 0:
        raise ValueError("nothing to add")
    return torch.stack(list(plus)).sum(0) - sum(minus, torch.zeros_like(plus[0]))


def word_means(z: Float[Tensor, "N Z"], words: Sequence[str]) -> dict[str, Float[Tensor, " Z"]]:
    """The mean latent of each word, in order of the words' first drawings.

    Args:
        z: Latents.
        words: Of each.

    Raises:
        ValueError: Not as many words as latents.
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
