"""Where z lies: the posteriors of the latest training drawings of each word, to draw new z from.

The encoder is not told the word, so z tells it too, and a z from N(0, 1) would speak against the
word that the decoder is told. Nor are the posteriors of a word normal: a z from a normal fitted to
them lies, more often than not, where no drawing does.

B drawing, W word, Z latent, K exemplar.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

KEPT = 64  # exemplars of a word


class Exemplars(nn.Module):
    """A ring of posteriors for each word; not trained by gradient.

    Source: the aggregated posterior as prior, Norouzi et al. 2020 (arXiv 2004.04795), sec. 3; found
    after training rather than by it, Ghosh et al. 2020 (arXiv 1903.12436), sec. 4.
    """

    count: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, words: int, latent_size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(words, dtype=torch.long))  # seen so far
        for name in ("mean", "std"):
            self.register_buffer(name, torch.zeros(words, KEPT, latent_size, dtype=torch.float16))

    @torch.no_grad()
    def follow(
        self, words: Int64[Tensor, " B"], mean: Float[Tensor, "B Z"], log_std: Float[Tensor, "B Z"]
    ) -> None:
        """Put a batch's posteriors in the place of each word's oldest."""
        order = words.argsort(stable=True)
        own = words[order]
        met = torch.zeros_like(self.count).index_add_(0, own, torch.ones_like(own))
        number = torch.arange(len(own), device=own.device)
        nth = number - (met.cumsum(0) - met)[own]
        place = (self.count[own] + nth) % KEPT
        # of several for one place the last counts; nothing here may depend on how many there are
        order = order[number + (met[own] - 1 - nth) // KEPT * KEPT]
        self.mean[own, place] = mean[order].to(self.mean.dtype)
        self.std[own, place] = log_std[order].exp().to(self.std.dtype)
        self.count += met

    @torch.no_grad()
    def draw(
        self,
        words: Int64[Tensor, " B"],
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None,
    ) -> Float[Tensor, "B Z"]:
        """A random z of each word, from one of its exemplars; N(0, 1) before any training.

        Args:
            words: Indices. W, a word that is not told, or one never seen: any word's.
            temperature: Variances about the exemplar are multiplied by it; and below 1, that share
                of a word's exemplars is drawn from, the most usual ones.
            generator: On the CPU.
        """
        seen, device = self.count.clamp(max=KEPT).cpu(), self.mean.device
        noise = torch.randn(len(words), self.mean.shape[-1], generator=generator)
        if not seen.any():
            return noise.to(device)
        words = words.cpu()
        others = torch.multinomial(seen.float(), len(words), replacement=True, generator=generator)
        known = (words < len(seen)) & (seen[words.clamp(max=len(seen) - 1)] > 0)
        words = torch.where(known, words, others)
        chance = torch.rand(len(words), generator=generator)
        nth = (chance * seen[words]).long()
        if temperature < 1:
            for word in words.unique().tolist():
                usual = self._by_usualness(word)
                usual = usual[: math.ceil(max(temperature * len(usual), 1))]
                own = words == word
                nth[own] = usual[(chance[own] * len(usual)).long()]
        place = (words.to(device), nth.to(device))
        spread = math.sqrt(temperature) * self.std[place].float()
        return self.mean[place].float() + spread * noise.to(device)

    def _by_usualness(self, word: int) -> Int64[Tensor, " k"]:
        """Numbers of a word's exemplars, the one in the densest place among the others first."""
        seen = min(int(self.count[word]), KEPT)
        mean, std = self.mean[word, :seen].float(), self.std[word, :seen].float()
        apart = ((mean[:, None] - mean) / std).square().sum(-1)  # of each, as the others see it
        nats = -0.5 * apart - std.log().sum(-1)
        return nats.fill_diagonal_(-math.inf).logsumexp(-1).argsort(descending=True).cpu()
