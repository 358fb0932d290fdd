"""When a given shape would have been drawn: the time of every move, with the whole shape in view.

A bidirectional LSTM reads the shape; a second LSTM goes through the moves in order, is told the
times so far as well, and says with a mixture of log-normals how long the next move takes. Both are
told what a sketch VAE, where there is one, sees in the shape (`reader`). Timed drawings are few,
and several such networks together foresee better than each: they learn apart, each looks at a
drawing and at its mirror image, and what is predicted is the mixture of all that they predict.

B drawing, T row, M mixture component, K pen kind (drawn, lifted).

Source: log-normal mixtures of time, Shchur et al. 2020 (arXiv 1909.12127); ensembles,
Lakshminarayanan et al. 2017 (arXiv 1612.01474), sec. 2.4; the rest is new here.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from doodlelib.config import RetimeConfig
from doodlelib.fast.distributed import Sums
from doodlelib.fast.parallel import in_one_thread, raise_if_given_up, with_gradients
from doodlelib.models import mdn
from doodlelib.models.batch import StrokeBatch, collate_drawings
from doodlelib.models.lstm import State
from doodlelib.models.network import input_features
from doodlelib.models.reader import Reader
from doodlelib.models.timenet import Mixture, TimeNet
from doodlelib.simplify import simplify
from doodlelib.strokes import (
    DT,
    PEN_COLUMNS,
    PEN_UP,
    Drawing,
    Scale,
    from_stroke4,
    from_stroke6,
    to_stroke4,
    without_time,
)

SPREADS = 0.5, 2.0  # between which `calibrate` looks
KINDS = "segment_time", "pause_time"  # as `step_log_likelihood` gives them


class Retimer(nn.Module):
    """Density and samples of the time of each move, given all moves and the times before it.

    Args:
        config: Its hyper-parameters.
        words: The words it was trained on; it is not told them.
        scale: The training split's.
        simplification: Keyword arguments of `simplify.simplify` in its training data.
        reader: Of a VAE of the same scale; its weights become a part of these.

    Attributes:
        pause_spread: Factor of the standard deviations of pauses' log times; see `calibrate`.
    """

    pause_spread: Tensor

    def __init__(
        self,
        config: RetimeConfig,
        *,
        words: Sequence[str],
        scale: Scale,
        simplification: Mapping[str, Any],
        reader: Reader | None = None,
    ) -> None:
        super().__init__()
        self.config, self.words, self.scale = config, list(words), scale
        self.simplification = dict(simplification)
        self.reader = reader
        self.register_buffer("pause_spread", torch.ones(()))
        read = reader.size if reader else 0
        self.members: Any = nn.ModuleList(TimeNet(config, read=read) for _ in range(config.members))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @in_one_thread
    def retime(
        self, drawing: Sequence, *, temperature: float = 1.0, seed: int | None = None
    ) -> Drawing:
        """The drawing, simplified by its shape alone, with the time a person might have taken.

        Args:
            drawing: Timed or untimed; its own time is not looked at.
            temperature: 0 takes the likeliest times, 1 the model's own spread.
            seed: Equal seeds give equal times (on a CPU).

        Raises:
            ValueError: The temperature is negative, or the drawing is malformed.
        """
        if not temperature >= 0:
            raise ValueError(f"temperature must be >= 0, not {temperature}")
        shape = to_stroke4(simplify(without_time(drawing), **self.simplification))
        batch = collate_drawings([shape], words=np.zeros(1, dtype=int), scale=self.scale)
        batch = batch.to(self.device)
        rows = batch.rows[:, 1:-1]
        generator = None if seed is None else torch.Generator(self.device).manual_seed(seed)
        if len(shape) > 1:  # a single point takes no time
            times = self.sample(rows, batch.lengths, temperature=temperature, generator=generator)
            batch.rows[:, 1:-1, DT] = times
        return from_stroke4(from_stroke6(batch.rows[0].numpy(force=True), scale=self.scale))

    def loss(self, batch: StrokeBatch, *, step: int | Tensor | None) -> tuple[Tensor, Sums]:
        """Mean negative log-likelihood of the times of timed drawings, and its parts in nats.

        A pause counts `pause_weight` times: pauses are few, and hard to foresee. `step`, the
        optimiser's, plays no part here.

        Returns:
            The loss, and for each figure of interest its sum over the batch and the count.
        """
        judge, weights = partial(self._judge, batch), list(self.parameters())
        nats, counts = (each.sum(0) for each in with_gradients(judge, batch.size, weights=weights))
        weight = self.config.pause_weight
        total, count = -(nats[0] + weight * nats[1]), counts[0] + weight * counts[1]
        sums = dict(zip(KINDS, zip(-nats.detach(), counts, strict=True), strict=True))
        return total / count.clamp(min=1), sums | {"loss": (total.detach(), count)}

    def _judge(self, batch: StrokeBatch, drawings: slice) -> tuple[Tensor, Tensor]:
        """Of some `drawings`: nats of the times of both `KINDS`, and how many; each (b, 2)."""
        nats, *kinds = self.step_log_likelihood(batch.part(drawings))
        total = torch.stack([nats.where(kind, 0).sum(1) for kind in kinds], dim=1)
        return total, torch.stack([kind.sum(1) for kind in kinds], dim=1)

    def step_log_likelihood(
        self, batch: StrokeBatch
    ) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Log density, in ms, of the time of each point but the first.

        Returns:
            Nats, and where they are those of a segment's and of a pause's time.
        """
        rows = batch.rows[:, 1:-1]
        is_lifted = rows[:, 1:, PEN_COLUMNS.start + PEN_UP] > 0.5
        number = torch.arange(1, rows.shape[1], device=rows.device)
        known = (number < batch.lengths[:, None]) & batch.timed[:, None]
        nats = mdn.log_density_in_ms(
            self.log_prob(rows, batch.lengths), rows[:, 1:, DT], is_lifted, scale=self.scale
        )
        return nats, known & ~is_lifted, known & is_lifted

    def log_prob(
        self, rows: Float[Tensor, "B T 6"], lengths: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B T-1"]:
        """Log density of the standardised log time of each row but the first, in nats.

        In training the mean of the members' log densities, so that each learns as if alone, from
        the drawing as it is.

        Args:
            rows: stroke-6 in model units, without the start row.
            lengths: Points of each drawing; what is said of rows behind them is of no use.
        """
        views, looks = self._see(rows, lengths)
        past, each = self._past(views[:, :-1]), []
        for member, seen in zip(self.members, looks, strict=True):
            (logits, mean, std), _ = self._predict(
                member, seen[:, 1:], past, views[:, 1:], member.first_states(views)
            )
            # unchecked: a check asks the GPU for its answer and waits
            mixture = MixtureSameFamily(
                Categorical(logits=logits, validate_args=False),
                Normal(mean, std, validate_args=False),
                validate_args=False,
            )
            each.append(mixture.log_prob(views[:, 1:, DT]).unflatten(0, (-1, len(rows))))
        together = torch.cat(each)
        if self.training:
            return together.mean(0)
        return together.logsumexp(0) - math.log(len(together))

    @torch.no_grad()
    def sample(
        self,
        rows: Float[Tensor, "B T 6"],
        lengths: Int64[Tensor, " B"],
        *,
        temperature: float,
        generator: torch.Generator | None,
    ) -> Float[Tensor, "B T"]:
        """Standardised log time of each row; 0 for the first, nothing of use behind `lengths`.

        Args:
            rows: See `log_prob`; their times are not looked at.
            lengths: See there.
            temperature: Logits are divided by it, variances multiplied; 0 takes the mean of the
                weightiest component.
            generator: Source of randomness, on the rows' device.
        """
        self.eval()
        views, looks = self._see(rows, lengths)
        states = [member.first_states(views) for member in self.members]
        views[..., DT] = 0
        for step in range(1, rows.shape[1]):
            raise_if_given_up()
            now, past = slice(step, step + 1), self._past(views[:, :step])[:, -1:]
            mixtures = []
            for number, (member, seen) in enumerate(zip(self.members, looks, strict=True)):
                mixture, states[number] = self._predict(
                    member, seen[:, now], past, views[:, now], states[number]
                )
                mixtures += zip(*(part[:, 0].split(len(rows)) for part in mixture), strict=True)
            logits, mean, std = (torch.cat(parts, dim=-1) for parts in zip(*mixtures, strict=True))
            chance = torch.rand(len(rows), generator=generator, device=rows.device)
            component = mdn.choose(logits, temperature=temperature, chance=chance)[:, None]
            noise = torch.randn(component.shape, generator=generator, device=rows.device)
            time = mean.gather(1, component) + (
                math.sqrt(temperature) * std.gather(1, component) * noise
            )
            time = time[:, 0].clamp(-mdn.MAX_TIME, mdn.MAX_TIME)
            views[:, step, DT] = time.repeat(len(views) // len(rows))
        return views[: len(rows), :, DT]

    @staticmethod
    def _past(rows: Float[Tensor, "B T 6"]) -> Float[Tensor, "B T 5"]:
        """The time of each row, and of drawn and lifted moves up to it the mean and whether any."""
        kinds = rows[..., PEN_COLUMNS][..., :2].clone()
        kinds[:, 0] = 0  # the first point has no time before it
        count = kinds.cumsum(dim=1)
        mean = (kinds * rows[..., DT, None]).cumsum(dim=1) / count.clamp(min=1)
        return torch.cat([rows[..., DT, None], mean, (count > 0).to(rows.dtype)], dim=-1)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[StrokeBatch]) -> float:
        """Set the spread under which the pauses of `batches` are likeliest, and tell it.

        There are few pauses to learn from, and the networks become surer of them than they are
        right. Without any in `batches`, of drawings held out from training, nothing changes.

        Source: Guo et al. 2017 (arXiv 1706.04599), sec. 4.2, for a scale instead of logits.
        """
        from scipy.optimize import minimize_scalar

        self.eval()
        held_out = [batch.to(self.device) for batch in batches]

        def cost(log: float) -> float:
            self.pause_spread.fill_(math.exp(log))
            parts = [self.step_log_likelihood(batch) for batch in held_out]
            return -torch.cat([nats[is_pause] for nats, _, is_pause in parts]).sum().item()

        bounds = tuple(map(math.log, SPREADS))
        if any(self.step_log_likelihood(batch)[2].any() for batch in held_out):
            cost(minimize_scalar(cost, bounds=bounds, options={"xatol": 0.01}).x)
        return self.pause_spread.item()

    def _see(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The drawings, and after training their mirror images behind them; what each network sees.

        Returns:
            (B or 2 B, T, 6), and of each network that of `TimeNet.see`.
        """
        views = rows.clone()
        if not self.training:
            mirrored = torch.cat([-rows[..., :1], rows[..., 1:]], dim=-1)
            views, lengths = torch.cat([rows, mirrored]), lengths.repeat(2)
        own = self._own(views)
        read = self.reader(views, lengths) if self.reader else None
        return views, [member.see(own, read, lengths) for member in self.members]

    def _predict(
        self, member: TimeNet, seen: Tensor, past: Tensor, rows: Tensor, states: list[State]
    ) -> tuple[Mixture, list[State]]:
        """`TimeNet.forward` with the spread of `calibrate`, after training."""
        (logits, mean, std), states = member(seen, past, rows, states)
        if not self.training:
            is_lifted = rows[..., PEN_COLUMNS.start + PEN_UP, None] > 0.5
            std = torch.where(is_lifted, self.pause_spread, 1.0) * std
        return (logits, mean, std), states

    def _own(self, rows: Float[Tensor, "B T 6"]) -> Float[Tensor, "B T I"]:
        """The geometry of each move; times are not looked at."""
        hidden = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        moves, _ = input_features(rows, see_time=hidden, xy=self.scale.xy)
        distance = mdn.log_distance(rows[..., :DT])[..., None]
        return torch.cat([moves, rows[..., :DT] / distance.exp(), distance], dim=-1)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)

    def learning_rate(self, step: int, *, progress: float) -> float:
        """At a share `progress` of training: a cosine from learning_rate down to lr_min."""
        first, last = self.config.learning_rate, self.config.lr_min
        return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
