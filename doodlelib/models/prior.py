"""Exemplar prior: the posteriors of recent training drawings of each word, to sample z from.

The encoder does not see the word, so z carries it too, and a z from N(0, 1) would contradict the
word that the decoder is conditioned on. Nor are the posteriors of a word normal: a z from a normal
fitted to them lies, more often than not, where no drawing does.

B drawing, W word, Z latent, K exemplar.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

KEPT = 64  # exemplars of a word


class ExemplarPrior(nn.Module):
    """A ring buffer of posteriors for each word; not trained by gradient.

    Source: the aggregated posterior as prior, Norouzi et al. 2020 (arXiv 2004.04795), sec. 3; found
    after training rather than by it, Ghosh et al. 2020 (arXiv 1903.12436), sec. 4.
    """

    count: Tensor  # (W,) posteriors seen so far
    mean: Tensor  # (W, K, Z)
    std: Tensor  # (W, K, Z)

    def __init__(self, words: int, latent_size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(words, dtype=torch.long))
        for name in ("mean", "std"):
            self.register_buffer(name, torch.zeros(words, KEPT, latent_size, dtype=torch.float16))
        self.register_load_state_dict_pre_hook(_resize)

    @torch.no_grad()
    def update(
        self, words: Int64[Tensor, " B"], mean: Float[Tensor, "B Z"], log_std: Float[Tensor, "B Z"]
    ) -> None:
        """Replace each word's oldest posteriors with those of a batch."""
        kept = self.mean.shape[1]
        order = words.argsort(stable=True)
        own = words[order]
        met = torch.zeros_like(self.count).index_add_(0, own, torch.ones_like(own))
        number = torch.arange(len(own), device=own.device)
        nth = number - (met.cumsum(0) - met)[own]
        slot = (self.count[own] + nth) % kept
        # of several for one slot the last counts; no shape here may depend on how many there are
        order = order[number + (met[own] - 1 - nth) // kept * kept]
        self.mean[own, slot] = mean[order].to(self.mean.dtype)
        self.std[own, slot] = log_std[order].exp().to(self.std.dtype)
        self.count += met

    @torch.no_grad()
    def sample(
        self,
        words: Int64[Tensor, " B"],
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None,
    ) -> Float[Tensor, "B Z"]:
        """A random z for each word, about one of its exemplars; N(0, 1) before any training.

        Args:
            words: Indices. W (no word) and a word never seen take any word's exemplars.
            temperature: Factor of the variances about the exemplar; below 1 also the share of a
                word's exemplars that is sampled from, those in the densest regions.
            generator: On the CPU.
        """
        seen, device = self.count.clamp(max=self.mean.shape[1]).cpu(), self.mean.device
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
                dense = self._densest_first(word)
                dense = dense[: math.ceil(max(temperature * len(dense), 1))]
                own = words == word
                nth[own] = dense[(chance[own] * len(dense)).long()]
        words, nth = words.to(device), nth.to(device)
        std = math.sqrt(temperature) * self.std[words, nth].float()
        return self.mean[words, nth].float() + std * noise.to(device)

    def densest(self, word: int, n: int) -> tuple[Float[Tensor, "N Z"], Float[Tensor, "N Z"]]:
        """Means and standard deviations of a word's `n` exemplars in the densest regions.

        Of fewer, some come again; of none, N(0, 1).
        """
        if not self.count[word]:
            return torch.zeros(n, self.mean.shape[-1]), torch.ones(n, self.mean.shape[-1])
        order = self._densest_first(word).to(self.mean.device)
        chosen = order[torch.arange(n, device=order.device) % len(order)]
        return self.mean[word, chosen].float(), self.std[word, chosen].float()

    def _densest_first(self, word: int) -> Int64[Tensor, " k"]:
        """Indices of a word's exemplars, by their density under the others' posteriors."""
        seen = min(int(self.count[word]), self.mean.shape[1])
        mean, std = (values[word, :seen].float() for values in (self.mean, self.std))
        distance = ((mean[:, None] - mean) / std).square().sum(-1)
        log_density = -0.5 * distance - std.log().sum(-1)
        log_density = log_density.fill_diagonal_(-math.inf).logsumexp(-1)
        return log_density.argsort(descending=True).cpu()


def _resize(prior: ExemplarPrior, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Before weights are loaded: room for as many exemplars as they have."""
    mean, std = (state.get(f"{prefix}{name}") for name in ("mean", "std"))
    if mean is None or std is None or mean.ndim != 3 or mean.shape != std.shape:
        return  # `load_state_dict` will complain
    if mean.shape[::2] == prior.mean.shape[::2]:
        prior.mean, prior.std = (x.new_empty(mean.shape) for x in (prior.mean, prior.std))
