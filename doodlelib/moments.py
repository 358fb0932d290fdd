"""Where z lay in training, for each word: what a random z is drawn from.

The encoder is not told the word, so z tells it too, and a z from N(0, 1) would speak against the
word that the decoder is told.

B drawing, W word, Z latent. Row W stands for all words together.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

MEMORY = 2000  # drawings of a word over which its moments are kept
SEEN_ENOUGH = 5  # drawings, from which a word has moments of its own


class LatentMoments(nn.Module):
    """Running mean and second moment of the posteriors of each word; not trained by gradient.

    Source: Ghosh et al. 2020 (arXiv 1903.12436), sec. 4, ex-post density estimation, here a
    diagonal normal of each word.
    """

    count: Tensor
    mean: Tensor
    square: Tensor

    def __init__(self, words: int, latent_size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(words + 1))
        self.register_buffer("mean", torch.zeros(words + 1, latent_size))
        self.register_buffer("square", torch.ones(words + 1, latent_size))

    @torch.no_grad()
    def follow(
        self, words: Int64[Tensor, " B"], mean: Float[Tensor, "B Z"], log_std: Float[Tensor, "B Z"]
    ) -> None:
        """Move the moments of each word, and of all, towards those of a batch's posteriors."""
        square = mean**2 + (2 * log_std).exp()
        for rows in (words, torch.full_like(words, len(self.count) - 1)):
            met = torch.zeros_like(self.count).index_add_(0, rows, mean.new_ones(len(rows)))
            self.count += met
            memory = self.count.clamp(min=1, max=MEMORY).maximum(met)
            for moment, values in ((self.mean, mean), (self.square, square)):
                total = torch.zeros_like(moment).index_add_(0, rows, values)
                moment += (total - met[:, None] * moment) / memory[:, None]

    @torch.no_grad()
    def draw(
        self,
        words: Int64[Tensor, " B"],
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None,
    ) -> Float[Tensor, "B Z"]:
        """A random z of each word; one that was hardly seen has the moments of all words.

        Args:
            words: Indices; W for a word that is not told.
            temperature: Variances are multiplied by it, as those of the moves are in `sampling`;
                at 0 every z is its word's mean.
            generator: On the CPU.
        """
        rows = torch.where(self.count[words] < SEEN_ENOUGH, len(self.count) - 1, words)
        noise = torch.randn(len(words), self.mean.shape[1], generator=generator)
        mean = self.mean[rows]
        spread = (self.square[rows] - mean**2).clamp(min=1e-4).sqrt()
        return mean + math.sqrt(temperature) * spread * noise.to(mean.device)
