"""The sketch VAE for people: drawings in, drawings out.

N drawing, Z latent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from doodlelib.config import VAEConfig
from doodlelib.fast.parallel import in_one_thread
from doodlelib.models import mdn
from doodlelib.models.batch import StrokeBatch, collate_drawings
from doodlelib.models.likelihood import LogLikelihood
from doodlelib.models.network import SketchNet
from doodlelib.models.retimer import Retimer
from doodlelib.models.sampling import Decoder, sample
from doodlelib.simplify import simplify
from doodlelib.strokes import (
    BOX,
    DT,
    END,
    PEN,
    PEN_UP,
    Drawing,
    Scale,
    as_drawing,
    extent,
    from_stroke4,
    from_stroke6,
    is_timed,
    to_stroke4,
    without_time,
)

Latent = Literal["exemplars", "none"]
Timing = Literal["joint", "retimer", "none"]
NO_RETIMER = "no retimer is attached: vae.attach(checkpoint.load_retimer())"
CANDIDATES = 64  # latents tried for one beginning; four times as many are hardly better
MAX_BEHIND = 60.0  # nats behind the best: such a latent is dropped; in 2 of 586 beginnings wrongly
COMPARED = (4, 12, 28, 60)  # rows after which latents are compared


class SketchVAE(SketchNet):
    """Sequence VAE over strokes with time.

    Drawings that it is given are simplified as its training drawings were, and come back with all
    their points; drawings that it makes are in px of the 255 box and ms. Methods that make drawings
    share these options:

    - `word`: One for all drawings or one for each; None: not conditioned on a word.
    - `temperature`: Of geometry and pen; 0 takes the likeliest, 1 the model's own spread.
    - `time_temperature`: Of the times.
    - `timing`: Where times come from: "retimer", the default where one is attached, times the
      geometry once it is there (which the decoder makes in its untimed mode, where it draws
      better); "joint", the default elsewhere, move by move with the geometry; "none", the drawings
      are untimed. For a model trained on untimed drawings alone, "joint" is "none".
    - `latent`: Where z comes from: "exemplars", the word's training posteriors; "none", z = 0, so
      that the word alone conditions the decoder (for a model trained with `hide_z_prob`).
    - `seed`: Equal seeds give equal drawings (on a CPU).

    They raise ValueError where a temperature is not from 0 to 1e6, a word is unknown, an option is
    none of those named, or a retimer is needed and none is attached.

    Args:
        config: Its hyper-parameters.
        words: The words it was trained on; with class conditioning it can be asked for one.
        scale: The training split's; turns model units into px and ms.
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
        """Use this retimer, which is trained and stored apart: not a part of these weights."""
        object.__setattr__(self, "retimer", retimer)

    def word_or_none(self, word: str | Sequence[str] | None) -> str | Sequence[str] | None:
        """`word` as it is, for a model trained with words; None for one trained without them."""
        return word if self.word_size else None

    @torch.no_grad()
    def encode(self, drawings: Sequence, *, see_time: bool = True) -> Float[Tensor, "N Z"]:
        """Mean of q(z | drawing) of each drawing; errors as `to_batch`.

        `see_time=False` masks the time of timed drawings, so that z knows the geometry alone.
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
        timing: Timing | None = None,
        temperature: float = 0.25,
        time_temperature: float = 1.0,
        seed: int | None = None,
    ) -> list[Drawing]:
        """One drawing from each z. Options and errors: see the class."""
        timing = self._possible(timing)
        words, timed = self.word_indices(word, len(z)), timing == "joint"
        decoder = Decoder(self, z.to(self.device), words, timed=timed)
        return self._sample(decoder, timing, temperature, time_temperature, seed)

    @in_one_thread
    def generate(
        self,
        n: int,
        *,
        word: str | Sequence[str] | None = None,
        latent: Latent = "exemplars",
        timing: Timing | None = None,
        temperature: float = 0.25,
        time_temperature: float = 1.0,
        seed: int | None = None,
    ) -> list[Drawing]:
        """`n` new drawings. Options and errors: see the class.

        `temperature` is also that of z: a cool one keeps to what is usual for the word.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        if not 0 <= temperature <= mdn.MAX_TEMPERATURE:
            raise ValueError(f"temperatures are 0 to 1e6, not {temperature}")
        generator = _generator(seed)
        z = self._latents(self.word_indices(word, n), latent, generator, temperature)
        options: dict[str, Any] = {"word": word, "timing": timing, "temperature": temperature}
        options |= {"time_temperature": time_temperature, "seed": _next_seed(generator)}
        return self.decode(z, **options)

    def reconstruct(
        self, drawings: Sequence, *, see_time: bool = True, **options: Any
    ) -> list[Drawing]:
        """Each drawing through `encode` and `decode`, which takes the `options`."""
        return self.decode(self.encode(drawings, see_time=see_time), **options)

    @in_one_thread
    def complete(
        self,
        drawing: Sequence,
        *,
        n: int = 10,
        word: str | None = None,
        latent: Latent | None = None,
        timing: Timing | None = None,
        temperature: float = 0.25,
        time_temperature: float = 1.0,
        seed: int | None = None,
    ) -> list[Drawing]:
        """`n` drawings that begin with all of `drawing`. Options and errors: see the class.

        They are in its px. Its last stroke may be continued or not. Its times, from 0, are kept
        (but with timing "none"); where it has none, the retimer gives it some, with timing "joint"
        before it is continued. `latent` is "none" by default where a word is told and the model was
        trained for it, else "exemplars". Latents are resampled from the exemplars in proportion to
        the likelihood of the beginning (sampling-importance resampling), which is p(z | beginning).
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        if latent is None:  # few exemplars begin as the drawing does; of z = 0 more can become
            latent = "none" if word is not None and self.config.hide_z_prob else "exemplars"
        timing = self._possible(timing)
        if timing == "joint" and not is_timed(drawing):
            drawing = self.retime(drawing, seed=seed)
        generator, timed = _generator(seed), timing == "joint"
        decoder = self.condition_on_prefix(drawing, n, word, generator, latent=latent, timed=timed)
        known, seed = len(decoder.prefix) if is_timed(drawing) else 1, _next_seed(generator)
        temperatures = temperature, time_temperature
        endings = self._sample(decoder, timing, *temperatures, seed, known=known)
        return [self._continue(drawing, ending, len(decoder.prefix)) for ending in endings]

    def retime(
        self, drawing: Sequence, *, temperature: float = 1.0, seed: int | None = None
    ) -> Drawing:
        """All points of the drawing with times that a person might have taken.

        From the attached retimer; see `Retimer.retime_all`.
        """
        if self.retimer is None:
            raise ValueError(NO_RETIMER)
        return self.retimer.retime(drawing, temperature=temperature, seed=seed)

    @torch.no_grad()
    def log_likelihood(
        self,
        drawings: Sequence,
        given: Literal["z", "shape", "prior", "none"] = "z",
        *,
        word: str | Sequence[str] | None = None,
        seed: int = 0,
    ) -> list[LogLikelihood]:
        """Log-likelihood of each drawing's events, each given all events before it.

        `given` says where z comes from: "z", the mean of q(z | drawing); "shape", the same with the
        time masked, so that z cannot carry the times judged; "prior", a random one of the word's
        training posteriors; "none", z = 0. ValueError for another, or an unknown word.
        """
        if given not in ("z", "shape", "prior", "none"):
            raise ValueError(f"given must be 'z', 'shape', 'prior' or 'none', not {given!r}")
        batch = self.to_batch(drawings, words=self.word_indices(word, len(drawings)))
        if given in ("z", "shape"):
            z = self.encode(drawings, see_time=given == "z")
        else:
            latent: Latent = "none" if given == "none" else "exemplars"
            z = self._latents(batch.words, latent, _generator(seed))
        self.eval()
        return self.step_log_likelihood(batch, z.to(self.device)).by_drawing()

    def time_cdf(
        self, batch: StrokeBatch, z: Float[Tensor, "B Z"]
    ) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """P(a time no longer than the true one | position) of all timed moves; which are pauses."""
        targets, pen_state, _, mixture = self.predict(batch, z)
        xy, time = targets[..., :DT], targets[..., DT]
        mean = mixture.time_mean + mixture.time_slope * mdn.log_distance(xy)[..., None]
        below = torch.special.ndtr((time[..., None] - mean) / mixture.time_std)
        cdf = (mdn.position_terms(mixture, xy).softmax(dim=-1) * below).sum(dim=-1)
        timed = batch.is_step & (pen_state != END) & batch.timed[:, None]
        return cdf[timed], (pen_state == PEN_UP)[timed]

    @torch.no_grad()
    def time_pit(
        self, drawings: Sequence, *, word: str | Sequence[str] | None = None
    ) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " p"]]:
        """Quantiles of real times in their predicted distributions, of segments and of pauses.

        Given the geometry alone, as ``given="shape"``; 0 is faster than all that was predicted.
        Flat histograms mean that the predicted spread is the true one (the probability integral
        transform; Dawid 1984). Untimed drawings take no part.
        """
        batch = self.to_batch(drawings, words=self.word_indices(word, len(drawings)))
        cdf, is_pause = self.time_cdf(batch, self.encode(drawings, see_time=False))
        values, pauses = cdf.numpy(force=True), is_pause.numpy(force=True)
        return values[~pauses], values[pauses]

    @in_one_thread
    def condition_on_prefix(
        self,
        drawing: Sequence,
        n: int,
        word: str | None,
        generator: torch.Generator | None,
        *,
        latent: Latent = "exemplars",
        timed: bool = True,
    ) -> Decoder:
        """A decoder of `n` drawings at the end of `drawing`, with latents that make it likely.

        A latent that falls far behind the best on the way is dropped there, to save time.
        """
        words = self.word_indices(word, CANDIDATES if latent == "exemplars" else 1)
        decoder = Decoder(self, self._latents(words, latent, generator), words, timed=timed)
        rows = self.to_batch([drawing], words=words[:1]).rows[0, 2:-1]
        likelihood = rows.new_zeros(len(words))
        groups = rows.tensor_split([at for at in COMPARED if at < len(rows)])
        for some in groups[: len(rows)]:  # of no rows it makes one group
            likelihood = likelihood + decoder.score_prefix(some)
            near = (likelihood >= likelihood.max() - MAX_BEHIND).nonzero()[:, 0]
            decoder, likelihood = decoder.select(near), likelihood[near]
        chances = likelihood.cpu().softmax(0)
        chosen = torch.multinomial(chances, n, replacement=True, generator=generator)
        return decoder.select(chosen.to(self.device))

    def to_batch(self, drawings: Sequence, *, words: Int64[Tensor, " N"] | None) -> StrokeBatch:
        """A batch, simplified and scaled as the training drawings were, of these word indices.

        ValueError where there is no drawing, or one is malformed.
        """
        if len(drawings) == 0:
            raise ValueError("no drawings given")
        rows = [to_stroke4(simplify(drawing, **self.simplification)) for drawing in drawings]
        indices = np.zeros(len(rows), dtype=int) if words is None else words.numpy(force=True)
        batch = collate_drawings(rows, words=indices, scale=self.scale).to(self.device)
        return replace(batch, timed=batch.timed & self.scale.knows_time)

    def _possible(self, timing: Timing | None) -> Timing:
        """`timing`, checked, or what takes its place where none is given or known."""
        if timing is None:
            timing = "retimer" if self.retimer else "joint"
        if timing not in ("joint", "retimer", "none"):
            raise ValueError(f"timing must be 'joint', 'retimer' or 'none', not {timing!r}")
        if timing == "retimer" and self.retimer is None:
            raise ValueError(NO_RETIMER)
        return "none" if timing == "joint" and not self.scale.knows_time else timing

    def _latents(
        self,
        words: Int64[Tensor, " N"],
        latent: Latent,
        generator: torch.Generator | None,
        temperature: float = 1.0,
    ) -> Float[Tensor, "N Z"]:
        if latent not in ("exemplars", "none"):
            raise ValueError(f"latent must be 'exemplars' or 'none', not {latent!r}")
        if latent == "exemplars":
            return self.exemplars.sample(words, temperature=temperature, generator=generator)
        return torch.zeros(len(words), self.config.latent_size, device=self.device)

    def _continue(self, drawing: Sequence, ending: Drawing, known: int) -> Drawing:
        """`drawing`, and after it what follows `known` points of `ending`, in the units of both."""
        drawing, rows = as_drawing(drawing), to_stroke4(ending)[known:]
        if not is_timed(ending):
            drawing = without_time(drawing)
        elif not is_timed(drawing) and self.retimer:
            drawing = self.retimer.time_all_points(drawing, ending)
        unit = extent(drawing) / BOX or 1.0
        moves = rows[:, : len(drawing[0])] * [unit, unit, 1][: len(drawing[0])]
        points = moves.cumsum(axis=0) + [values[-1] for values in drawing[-1]]
        first, *others = np.split(points, np.flatnonzero(rows[:, PEN] < 0.5))
        last = [np.concatenate(both) for both in zip(drawing[-1], first.T, strict=True)]
        return [*drawing[:-1], last, *(list(stroke.T) for stroke in others)]

    def _sample(
        self,
        decoder: Decoder,
        timing: Timing,
        temperature: float,
        time_temperature: float,
        seed: int | None,
        *,
        known: int = 1,
    ) -> list[Drawing]:
        """Drawings from `decoder`; the retimer leaves the first `known` points their times."""
        temperatures = {"temperature": temperature, "time_temperature": time_temperature}
        rows6 = sample(decoder, **temperatures, generator=_generator(seed, self.device))
        rows = [from_stroke6(one, scale=self.scale) for one in rows6]
        if timing == "retimer" and self.retimer:
            options = {"known": known, "temperature": time_temperature, "seed": seed}
            return self.retimer.time_rows(rows, **options)
        for one in rows if timing == "none" else []:
            one[:, DT] = np.nan
        return [from_stroke4(one) for one in rows]


def _next_seed(generator: torch.Generator | None) -> int | None:
    """A seed for what is sampled given z, so that it does not share the random numbers of z."""
    return None if generator is None else int(torch.randint(2**62, (), generator=generator))


def _generator(seed: int | None, device: torch.device | str = "cpu") -> torch.Generator | None:
    return None if seed is None else torch.Generator(device).manual_seed(seed)
