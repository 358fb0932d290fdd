"""The sketch VAE for people: drawings in, drawings out.

N drawing, Z latent.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from doodlelib.config import VAEConfig
from doodlelib.fast.parallel import in_one_thread
from doodlelib.models.batch import StrokeBatch, collate_drawings
from doodlelib.models.likelihood import LogLikelihood
from doodlelib.models.network import SketchNet
from doodlelib.models.retimer import Retimer
from doodlelib.models.sampling import Decoder, sample, start
from doodlelib.simplify import simplify
from doodlelib.strokes import Drawing, Scale, from_stroke4, from_stroke6, is_timed, to_stroke4

CANDIDATES = 64  # latents tried for one beginning; four times as many foresee its end little better
FAR = 60.0  # nats behind the best: such a latent is given up; in 2 of 586 beginnings wrongly
COMPARED = (4, 12, 28, 60)  # rows after which they are


class SketchVAE(SketchNet):
    """Sequence VAE over strokes with time.

    Every drawing it is given is simplified as its training drawings were; every drawing it gives
    is in the 255 box's px and in ms, timed.

    Args:
        config: Its hyper-parameters.
        words: The words it was trained on; with class conditioning it can be asked for one.
        scale: The training split's; turns what it draws into px and ms.
        simplification: Keyword arguments of `simplify.simplify` in its training data.
    """

    retimer: Retimer | None

    def __init__(
        self,
        config: VAEConfig,
        *,
        words: Sequence[str],
        scale: Scale,
        simplification: Mapping[str, Any],
    ) -> None:
        super().__init__(config, words=words, scale=scale)
        self.simplification = dict(simplification)
        self.attach(None)

    def attach(self, retimer: Retimer | None) -> None:
        """Let `retime` use this one. It is trained and kept apart: not a part of these weights."""
        object.__setattr__(self, "retimer", retimer)

    def word_or_none(self, word: str | Sequence[str] | None) -> str | Sequence[str] | None:
        """`word` as it is, for a model trained with words; None for one trained without them."""
        return word if self.word_size else None

    @torch.no_grad()
    def encode(self, drawings: Sequence, *, see_time: bool = True) -> Float[Tensor, "N Z"]:
        """Mean of q(z | drawing) of each.

        Args:
            drawings: Timed or untimed.
            see_time: False hides the time of timed drawings, so that z knows the shape alone.

        Raises:
            ValueError: There is no drawing, or one is malformed.
        """
        batch = self.to_batch(drawings, words=None)
        self.eval()
        mean, _ = self.posterior(batch, see_time=torch.full_like(batch.timed, see_time))
        return mean

    @in_one_thread
    def decode(
        self,
        z: Float[Tensor, "N Z"],
        *,
        word: str | Sequence[str] | None = None,
        temperature: float = 0.4,
        time_temperature: float = 1.0,
        seed: int | None = None,
    ) -> list[Drawing]:
        """One drawing of each z.

        Args:
            z: Latents.
            word: Of all drawings, or one for each; none: the decoder is not told.
            temperature: Of the shape and the pen; 0 takes the likeliest, 1 the model's own spread.
            time_temperature: Of the time.
            seed: Equal seeds give equal drawings (on a CPU).

        Raises:
            ValueError: A temperature is negative, z has another size, or a word is unknown.
        """
        decoder = start(self, z.to(self.device), self.word_indices(word, len(z)))
        return self._draw(decoder, temperature, time_temperature, seed)

    @in_one_thread
    def generate(
        self,
        n: int,
        *,
        word: str | Sequence[str] | None = None,
        temperature: float = 0.4,
        time_temperature: float = 1.0,
        seed: int | None = None,
    ) -> list[Drawing]:
        """`n` new drawings, each from a random z of its own. Arguments and errors as `decode`.

        The temperature is also that of z: a cool one keeps to what is usual for the word.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        if not temperature >= 0:
            raise ValueError(f"temperatures must be >= 0, not {temperature}")
        generator = _generator(seed)
        words = self.word_indices(word, n)
        z = self.exemplars.sample(words, temperature=temperature, generator=generator)
        decoder = start(self, z, words)
        return self._draw(decoder, temperature, time_temperature, _another(generator))

    def reconstruct(
        self,
        drawings: Sequence,
        *,
        word: str | Sequence[str] | None = None,
        temperature: float = 0.4,
        time_temperature: float = 1.0,
        seed: int | None = None,
    ) -> list[Drawing]:
        """Each drawing through the latent and back. Arguments and errors as `decode`."""
        return self.decode(
            self.encode(drawings),
            word=word,
            temperature=temperature,
            time_temperature=time_temperature,
            seed=seed,
        )

    @in_one_thread
    def complete(
        self,
        drawing: Sequence,
        *,
        n: int = 10,
        word: str | None = None,
        temperature: float = 0.4,
        time_temperature: float = 1.0,
        seed: int | None = None,
    ) -> list[Drawing]:
        """`n` endings of a drawing that somebody began; each result starts with that beginning.

        The encoder takes no part: random latents are kept in proportion to the
        likelihood of the beginning (sampling-importance resampling), which is p(z | beginning).

        Args:
            drawing: The beginning; its last stroke may be carried on or left. Untimed, it is
                given a time first.
            n: How many.
            word: What it is to become; none: the decoder is not told.
            temperature: See `decode`.
            time_temperature: See `decode`.
            seed: See `decode`.

        Raises:
            ValueError: `n` is under 1, the beginning has no time and there is no retimer to give it
                one, and see `decode`.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        if not is_timed(drawing):
            drawing = self.retime(drawing, seed=seed)
        generator = _generator(seed)
        decoder = self.beginnings(drawing, n, word, generator)
        return self._draw(decoder, temperature, time_temperature, _another(generator))

    def retime(
        self, drawing: Sequence, *, temperature: float = 1.0, seed: int | None = None
    ) -> Drawing:
        """The drawing with the time a person might have taken; see `Retimer.retime`.

        Raises:
            ValueError: No retimer is attached, and see there.
        """
        if self.retimer is None:
            raise ValueError("no retimer is attached: vae.attach(checkpoint.load_retimer())")
        return self.retimer.retime(drawing, temperature=temperature, seed=seed)

    @torch.no_grad()
    def log_likelihood(
        self,
        drawings: Sequence,
        given: Literal["z", "shape", "prior"] = "z",
        *,
        word: str | Sequence[str] | None = None,
        seed: int = 0,
    ) -> list[LogLikelihood]:
        """Log-likelihood of each drawing's events, each given all events before it.

        Args:
            drawings: To be judged.
            given: Where z comes from: "z", the mean of q(z | drawing); "shape", the same with the
                time hidden, so that z cannot carry the times judged; "prior", a random z as
                `generate` takes it, from the word's training drawings.
            word: See `decode`.
            seed: Of the prior's z.

        Raises:
            ValueError: `given` is none of the three.
        """
        if given not in ("z", "shape", "prior"):
            raise ValueError(f"given must be 'z', 'shape' or 'prior', not {given!r}")
        batch = self.to_batch(drawings, words=self.word_indices(word, len(drawings)))
        if given == "prior":
            z = self.exemplars.sample(batch.words, generator=_generator(seed))
        else:
            z = self.encode(drawings, see_time=given == "z")
        self.eval()
        return self.step_log_likelihood(batch, z.to(self.device)).by_drawing()

    @torch.no_grad()
    def time_pit(
        self, drawings: Sequence, *, word: str | Sequence[str] | None = None
    ) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " p"]]:
        """Where real times lie within what was predicted: 0 quicker than all of it, 1 slower.

        Given the shape alone, as ``given="shape"``. Flat histograms mean that the spread that the
        model predicts is the true one (the probability integral transform; Dawid 1984).

        Args:
            drawings: Untimed ones take no part.
            word: See `decode`.

        Returns:
            Of all segments, and of all pauses.
        """
        batch = self.to_batch(drawings, words=self.word_indices(word, len(drawings)))
        cdf, is_pause = self.time_cdf(batch, self.encode(drawings, see_time=False))
        values, pauses = cdf.numpy(force=True), is_pause.numpy(force=True)
        return values[~pauses], values[pauses]

    @in_one_thread
    def beginnings(
        self, drawing: Sequence, n: int, word: str | None, generator: torch.Generator | None
    ) -> Decoder:
        """The decoder at the end of `drawing`, with the latents of `n` drawings that begin so.

        A latent that falls far behind the best on the way is given up there, so that the many
        that never fitted cost little. The drawing is timed.
        """
        words = self.word_indices(word, CANDIDATES)
        decoder = start(self, self.exemplars.sample(words, generator=generator), words)
        rows = self.to_batch([drawing], words=words[:1]).rows[0, 2:-1]
        likelihood = rows.new_zeros(CANDIDATES)
        groups = rows.tensor_split([at for at in COMPARED if at < len(rows)])
        for some in groups[: len(rows)]:  # of no rows it makes one group
            likelihood = likelihood + decoder.score_prefix(some)
            near = (likelihood >= likelihood.max() - FAR).nonzero()[:, 0]
            decoder.select(near)
            likelihood = likelihood[near]
        chances = likelihood.cpu().softmax(0)
        chosen = torch.multinomial(chances, n, replacement=True, generator=generator)
        decoder.select(chosen.to(self.device))
        return decoder

    def _draw(
        self, decoder: Decoder, temperature: float, time_temperature: float, seed: int | None
    ) -> list[Drawing]:
        rows = sample(
            decoder,
            temperature=temperature,
            time_temperature=time_temperature,
            generator=_generator(seed, self.device),
        )
        return [from_stroke4(from_stroke6(drawing, scale=self.scale)) for drawing in rows]

    def to_batch(self, drawings: Sequence, *, words: Int64[Tensor, " N"] | None) -> StrokeBatch:
        """The drawings, simplified and scaled as the training drawings were; None: no words."""
        if len(drawings) == 0:
            raise ValueError("no drawings given")
        rows = [to_stroke4(simplify(drawing, **self.simplification)) for drawing in drawings]
        indices = np.zeros(len(rows), dtype=int) if words is None else words.numpy(force=True)
        return collate_drawings(rows, words=indices, scale=self.scale).to(self.device)


def _another(generator: torch.Generator | None) -> int | None:
    """A seed for what is drawn from a z, so that it does not share the random numbers of the z."""
    return None if generator is None else int(torch.randint(2**62, (), generator=generator))


def _generator(seed: int | None, device: torch.device | str = "cpu") -> torch.Generator | None:
    return None if seed is None else torch.Generator(device).manual_seed(seed)
