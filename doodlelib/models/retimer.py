"""The retimer: times for the moves of a given drawing, predicted with its whole geometry in view.

A bidirectional LSTM encodes the geometry; a second LSTM goes through the moves in order, reads the
times so far, and predicts the next move's time as a mixture of log-normals. Both may also read
features from a frozen sketch VAE, which learned from the many drawings without times. A prediction
is the mixture of two: of the drawing, and of its mirror image.

B drawing, T row, I input, R feature of the VAE, M mixture component.

Source: log-normal mixtures of time, Shchur et al. 2020 (arXiv 1909.12127); the rest is new here.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from doodlelib.config import RetimeConfig, VAEConfig
from doodlelib.fast.parallel import (
    Sums,
    in_one_thread,
    in_parts,
    raise_if_cancelled,
    with_gradients,
)
from doodlelib.models import mdn
from doodlelib.models.batch import StrokeBatch, collate_drawings
from doodlelib.models.lstm import LSTM, BiLSTM, Dropout, State
from doodlelib.models.network import NUM_FEATURES, SketchNet, input_features
from doodlelib.simplify import kept_points, simplify
from doodlelib.strokes import (
    DT,
    PEN_COLUMNS,
    PEN_UP,
    Drawing,
    Scale,
    as_drawing,
    from_stroke4,
    from_stroke6,
    to_box,
    to_stroke4,
    without_time,
)

TIME_EVENTS = "segment_time", "pause_time"
MOVE_FEATURES = NUM_FEATURES + 3  # and a move's direction and log distance
HISTORY_FEATURES = 5
MIN_STD = 0.05  # of a component, in standardised log time
SPREADS = 0.5, 2.0  # range of `Retimer.calibrate`
SURPRISE = -10.0, 5.0  # range of log-likelihoods as features, nats

Mixture = tuple[Float[Tensor, "B T M"], Float[Tensor, "B T M"], Float[Tensor, "B T M"]]


class ShapeFeatures(nn.Module):
    """Frozen feature extractor: what a trained sketch VAE computes of a drawing's geometry.

    The VAE has learned what is being drawn, what may come next, and what nobody would expect, where
    people hesitate. It is conditioned neither on a word nor on time. A row has `size` features.
    """

    def __init__(self, config: VAEConfig, *, scale: Scale) -> None:
        super().__init__()
        self.net = SketchNet(config, words=[], scale=scale).requires_grad_(False)
        self.size = 2 * config.enc_hidden_size + config.dec_hidden_size + 2 + config.latent_size
        self.train()

    @classmethod
    def from_vae(cls, vae: SketchNet, *, scale: Scale) -> Self:
        """With a copy of the weights of `vae`, for rows of `scale`, which has the same xy."""
        features = cls(vae.config, scale=scale).to(vae.device)
        wanted = features.net.state_dict()
        weights = {name: value for name, value in vae.state_dict().items() if name in wanted}
        weights["embed_word.weight"] = weights["embed_word.weight"][-1:]  # of no word
        weights |= {name: value for name, value in wanted.items() if name.startswith("exemplars")}
        features.net.load_state_dict(weights)
        return features

    def train(self, mode: bool = True) -> Self:
        """Always evaluation mode, without dropout."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, rows: Float[Tensor, "B T 6"], lengths: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B T R"]:
        """Features of each row of stroke-6 without the start row; times are not read.

        Those are the encoder's states (of the whole drawing), the decoder's state before the row,
        the log-likelihoods of the row's pen state and position under it, and z.
        """
        net, untimed = self.net, torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        x, _ = input_features(rows, see_time=untimed, xy=net.scale.xy)
        encoded, ends = net.encoder(x, lengths)
        z = net.to_mean(ends)
        condition = net.condition(z, net.word_indices(None, len(rows)))
        hidden, *_ = net.hidden_states(rows[:, :-1], timed=untimed, condition=condition)
        logits, parameters = net.output(hidden)
        pen_state, xy = rows[:, 1:, PEN_COLUMNS], rows[:, 1:, :DT]
        pen = (logits.log_softmax(dim=-1) * pen_state).sum(dim=-1)
        mixture = net.mixture(parameters, pen_state[..., PEN_UP] > 0.5)
        position = mdn.position_terms(mixture, xy).logsumexp(dim=-1) - 2 * math.log(net.scale.xy)
        surprise = torch.stack([pen, position], dim=-1).clamp(*SURPRISE)
        before = F.pad(torch.cat([hidden, surprise / 5], dim=-1), (0, 0, 1, 0))
        return torch.cat([encoded, before, z[:, None].expand(-1, rows.shape[1], -1)], dim=-1)


class TimeNet(nn.Module):
    """Encodes a geometry, and predicts the time of each move.

    `features` is the number of `ShapeFeatures` of a row, 0 where there are none.
    """

    def __init__(self, config: RetimeConfig, *, features: int = 0) -> None:
        super().__init__()
        self.note = None
        if features:
            self.note = nn.Sequential(
                Dropout(config.dropout), nn.Linear(features, config.read_size), nn.Tanh()
            )
        size, hidden = MOVE_FEATURES + config.read_size * (features > 0), config.hidden_size
        self.shape = BiLSTM(size, hidden, layers=1, dropout=config.dropout)
        inputs = 2 * hidden + size + HISTORY_FEATURES
        self.course = LSTM(inputs, hidden, layers=1, dropout=config.dropout)
        self.head = nn.Linear(hidden, 2 * config.num_modes * 4)

    def encode(
        self,
        moves: Float[Tensor, "B T I"],
        features: Float[Tensor, "B T R"] | None,
        lengths: Int64[Tensor, " B"],
    ) -> Float[Tensor, "B T C"]:
        """Each move's own features, and the encoding of all before and after it."""
        if self.note and features is not None:
            moves = torch.cat([moves, self.note(features)], dim=-1)
        return torch.cat([self.shape(moves, lengths)[0], moves], dim=-1)

    def forward(
        self,
        encoded: Float[Tensor, "B T C"],
        history: Float[Tensor, "B T 5"],
        rows: Float[Tensor, "B T 6"],
        *,
        pause_spread: Tensor | float,
        state: list[State] | None = None,
    ) -> tuple[Mixture, list[State]]:
        """Log weights, means and standard deviations of each row's log time; the LSTM's last state.

        `encoded` is of the same moves, `history` of those before; the rows' times are not read.
        Factor `pause_spread` widens pauses. `state` is that before the first row, None: zeros.
        """
        zero = rows.new_zeros(len(rows), self.course.hidden_size)
        output, state = self.course(torch.cat([encoded, history], dim=-1), state or [(zero, zero)])
        with torch.autocast(rows.device.type, enabled=False):
            parameters = self.head(output.float()).unflatten(-1, (2, -1, 4))
        is_pen_up = rows[..., PEN_COLUMNS.start + PEN_UP, None] > 0.5
        down, up = parameters.unbind(-3)
        logits, mean, slope, raw_std = torch.where(is_pen_up[..., None], up, down).unbind(-1)
        mean = mean + slope * mdn.log_distance(rows[..., :DT])[..., None]
        std = torch.where(is_pen_up, pause_spread, 1.0) * (F.softplus(raw_std) + MIN_STD)
        return (logits.log_softmax(-1), mean, std), state


def history_features(rows: Float[Tensor, "B T 6"]) -> Float[Tensor, "B T 5"]:
    """Each row's time, and of pen-down and of pen-up moves up to it the mean time and if any."""
    states = rows[..., PEN_COLUMNS][..., :2].clone()
    states[:, 0] = 0  # the first point has no time before it
    count = states.cumsum(dim=1)
    mean = (states * rows[..., DT, None]).cumsum(dim=1) / count.clamp(min=1)
    return torch.cat([rows[..., DT, None], mean, (count > 0).to(rows.dtype)], dim=-1)


def mirrored(rows: Float[Tensor, "B T 6"]) -> Float[Tensor, "B T 6"]:
    """The drawings' mirror images, left for right."""
    return torch.cat([-rows[..., :1], rows[..., 1:]], dim=-1)


class Retimer(nn.Module):
    """Density and samples of the time of each move, given all moves and the times before it.

    Args:
        config: Its hyper-parameters.
        words: The words it was trained on; it is not conditioned on them.
        scale: The training split's.
        simplification: Keyword arguments of `simplify.simplify` in its training data.
        reader: Features from a VAE of the same scale; its weights become a part of these.
    """

    pause_spread: Tensor  # factor of the standard deviations of pauses' log times; see `calibrate`

    def __init__(
        self,
        config: RetimeConfig,
        *,
        words: Sequence[str],
        scale: Scale,
        simplification: Mapping[str, Any],
        reader: ShapeFeatures | None = None,
    ) -> None:
        super().__init__()
        self.config, self.words, self.scale = config, list(words), scale
        self.simplification = dict(simplification)
        self.reader = reader
        self.register_buffer("pause_spread", torch.ones(()))
        features = reader.size if reader else 0
        self.net = TimeNet(config, features=features)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def retime(
        self, drawing: Sequence, *, temperature: float = 1.0, seed: int | None = None
    ) -> Drawing:
        """`retime_all` for one drawing."""
        return self.retime_all([drawing], temperature=temperature, seed=seed)[0]

    def retime_all(
        self, drawings: Sequence, *, temperature: float = 1.0, seed: int | None = None
    ) -> list[Drawing]:
        """The drawings with times, from 0, that a person might have taken.

        Times are predicted for the points that `simplify` keeps of the geometry alone; those
        between pass at constant speed. Their own times are not read. Temperature 0 takes the
        likeliest times, 1 the model's own spread; equal seeds give equal times (on a CPU).
        ValueError where the temperature is not from 0 to 1e6, a drawing is malformed, or there is
        none.
        """
        plain = [without_time(as_drawing(drawing)) for drawing in drawings]
        rows = [to_stroke4(simplify(drawing, **self.simplification)) for drawing in plain]
        timed = self.time_rows(rows, temperature=temperature, seed=seed)
        return list(map(self.time_all_points, plain, timed))

    def time_all_points(self, drawing: Drawing, kept: Drawing) -> Drawing:
        """`drawing`, untimed, with times: those of `kept`, which begins with its simplification."""
        masks, timed = kept_points(to_box(drawing), **self.simplification), []
        for (x, y), mask, (*_, times) in zip(drawing, masks, kept, strict=False):
            way = np.hypot(np.diff(x, prepend=x[0]), np.diff(y, prepend=y[0])).cumsum()
            way += np.arange(x.size) * 1e-6 * (way[-1] or 1)  # so that equal points take time too
            timed.append([x, y, np.interp(way, way[mask], times[: mask.sum()])])
        return timed

    @in_one_thread
    def time_rows(
        self,
        rows: Sequence[Float[np.ndarray, "n 4"]],
        *,
        known: int = 1,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> list[Drawing]:
        """Drawings of stroke-4 rows, timed; the first `known` of each keep their times."""
        if not 0 <= temperature <= mdn.MAX_TEMPERATURE:
            raise ValueError(f"temperatures are 0 to 1e6, not {temperature}")
        if len(rows) == 0:
            raise ValueError("no drawings given")
        batch = collate_drawings(rows, words=np.zeros(len(rows), dtype=int), scale=self.scale)
        batch = batch.to(self.device)
        generator = None if seed is None else torch.Generator(self.device).manual_seed(seed)
        if batch.rows.shape[1] > 3:  # a single point takes no time
            options = {"known": known, "temperature": temperature, "generator": generator}
            batch.rows[:, 1:-1, DT] = self.sample(batch.rows[:, 1:-1], batch.lengths, **options)
        rows6 = batch.rows.numpy(force=True)
        return [from_stroke4(from_stroke6(drawing, scale=self.scale)) for drawing in rows6]

    def loss(self, batch: StrokeBatch, *, step: int | Tensor | None) -> tuple[Tensor, Sums]:
        """Mean negative log-likelihood of the times of timed drawings, and its parts in nats.

        A pause counts `pause_weight` times: pauses are few, and hard to predict. Each part is a sum
        over the batch and a count. `step`, the optimiser's, plays no part here.
        """

        def log_likelihood(drawings: slice) -> tuple[Tensor, Tensor]:
            """Log-likelihood of the `TIME_EVENTS` of each drawing, and their number, (b, 2)."""
            values, *masks = self.step_log_likelihood(batch.part(drawings))
            total = torch.stack([values.where(mask, 0).sum(1) for mask in masks], dim=1)
            return total, torch.stack([mask.sum(1) for mask in masks], dim=1)

        results = with_gradients(log_likelihood, batch.size, weights=list(self.parameters()))
        values, counts = (each.sum(0) for each in results)
        weight = self.config.pause_weight
        total, count = -(values[0] + weight * values[1]), counts[0] + weight * counts[1]
        sums = dict(zip(TIME_EVENTS, zip(-values.detach(), counts, strict=True), strict=True))
        return total / count.clamp(min=1), sums | {"loss": (total.detach(), count)}

    def step_log_likelihood(
        self, batch: StrokeBatch
    ) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Log density, in ms, of the time of each point but the first, in nats.

        And which of these are of segments, and which of pauses, of timed drawings.
        """
        rows = batch.rows[:, 1:-1]
        is_pen_up = rows[:, 1:, PEN_COLUMNS.start + PEN_UP] > 0.5
        number = torch.arange(1, rows.shape[1], device=rows.device)
        known = (number < batch.lengths[:, None]) & batch.timed[:, None]
        log_density = self.log_prob(rows, batch.lengths)
        values = mdn.log_density_in_ms(log_density, rows[:, 1:, DT], is_pen_up, scale=self.scale)
        return values, known & ~is_pen_up, known & is_pen_up

    def log_prob(
        self, rows: Float[Tensor, "B T 6"], lengths: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B T-1"]:
        """Log density of the standardised log time of each row but the first, in nats.

        `rows` are stroke-6 in model units, without the start row; void behind `lengths`.
        """
        views = rows
        if not self.training:
            views, lengths = torch.cat([rows, mirrored(rows)]), lengths.repeat(2)
        encoded, history = self._encode(views, lengths), history_features(views[:, :-1])
        known = {"pause_spread": self._spread}
        (logits, mean, std), _ = self.net(encoded[:, 1:], history, views[:, 1:], **known)
        z = (views[:, 1:, DT, None] - mean) / std
        terms = logits - 0.5 * z**2 - std.log() - 0.5 * math.log(2 * math.pi)
        densities = terms.logsumexp(-1).unflatten(0, (-1, len(rows)))
        return densities.logsumexp(0) - math.log(len(densities))

    @torch.no_grad()
    def sample(
        self,
        rows: Float[Tensor, "B T 6"],
        lengths: Int64[Tensor, " B"],
        *,
        known: int = 1,
        temperature: float,
        generator: torch.Generator | None,
    ) -> Float[Tensor, "B T"]:
        """Standardised log time of each row; 0 for the first, void behind `lengths`.

        The times of the first `known` rows are given, the others' are not read. Each drawing is
        read as it is or as its mirror image, by chance. Logits are divided by the temperature,
        variances multiplied; 0 reads it as it is and takes the mean of the weightiest component.
        """
        self.eval()
        rows = rows.clone()
        rows[:, known:, DT] = rows[:, 0, DT] = 0
        numbers = rows.new_empty(2, *rows.shape[:2])
        chance = numbers[0].uniform_(generator=generator)
        noise = numbers[1].normal_(generator=generator)
        if temperature > 0:
            rows = torch.where(chance[:, :1, None] < 0.5, rows, mirrored(rows))

        def sample_part(part: slice) -> None:
            some, state = rows[part], None
            encoded = self._encode(some, lengths[part])
            for step in range(1, rows.shape[1]):
                raise_if_cancelled()
                now, history = slice(step, step + 1), history_features(some[:, :step])[:, -1:]
                (logits, mean, std), state = self.net(
                    encoded[:, now], history, some[:, now], pause_spread=self._spread, state=state
                )
                component = mdn.choose(
                    logits[:, 0], temperature=temperature, chance=chance[part, step]
                )[:, None]
                spread = math.sqrt(temperature) * std[:, 0].gather(1, component)
                time = mean[:, 0].gather(1, component) + spread * noise[part, step, None]
                if step >= known:
                    some[:, step, DT] = time[:, 0].clamp(-mdn.MAX_TIME, mdn.MAX_TIME)

        if rows.device.type == "cpu":
            in_parts(sample_part, len(rows))
        else:
            sample_part(slice(0, len(rows)))
        return rows[..., DT]

    @torch.no_grad()
    def calibrate(self, batches: Iterable[StrokeBatch]) -> float:
        """Set and return the `pause_spread` under which the pauses of `batches` are likeliest.

        Pauses are few, and the networks become overconfident about them. Without any in `batches`
        (of held-out drawings) nothing changes.

        Source: Guo et al. 2017 (arXiv 1706.04599), sec. 4.2, for a scale instead of logits.
        """
        from scipy.optimize import minimize_scalar

        self.eval()
        held_out = [batch.to(self.device) for batch in batches]

        def cost(log: float) -> float:
            self.pause_spread.fill_(math.exp(log))
            parts = [self.step_log_likelihood(batch) for batch in held_out]
            return -torch.cat([values[is_pause] for values, _, is_pause in parts]).sum().item()

        bounds = tuple(map(math.log, SPREADS))
        if any(self.step_log_likelihood(batch)[2].any() for batch in held_out):
            cost(minimize_scalar(cost, bounds=bounds, options={"xatol": 0.01}).x)
        return self.pause_spread.item()

    def _encode(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """What `net` is to know of each move, of all of the drawing's geometry."""
        untimed = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        moves, _ = input_features(rows, see_time=untimed, xy=self.scale.xy)
        distance = mdn.log_distance(rows[..., :DT])[..., None]
        moves = torch.cat([moves, rows[..., :DT] / distance.exp(), distance], dim=-1)
        return self.net.encode(moves, self.reader(rows, lengths) if self.reader else None, lengths)

    @property
    def _spread(self) -> Tensor | float:
        """The `pause_spread`, which is calibrated for predictions and plays no part in training."""
        return 1.0 if self.training else self.pause_spread

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)

    def learning_rate(self, step: int, *, progress: float) -> float:
        """At a share `progress` of training: a cosine from learning_rate down to lr_min."""
        first, last = self.config.learning_rate, self.config.lr_min
        return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
