"""The network of the sketch VAE, tensors in and out, from the features of a row to the loss.

In reading order: input features, encoder, posterior q(z | drawing), decoder, pen logits and
mixture of each next row, log-likelihood, loss (negative ELBO). A step predicts the next row: first
its pen state (down, up, end), then, given it, the move and its time from a mixture with components
of its own for either state.

B drawing, T step, F feature, C condition, M mixture component, Z latent, K pen state of a move.

Source: Ha & Eck 2017 (arXiv 1704.03477); time, the order pen-then-move, masked time and the
position features are new.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from doodlelib.config import VAEConfig
from doodlelib.fast import parallel
from doodlelib.fast.parallel import Sums, with_gradients
from doodlelib.models import mdn
from doodlelib.models.batch import StrokeBatch
from doodlelib.models.likelihood import EVENTS, StepLogLikelihood
from doodlelib.models.lstm import LSTM, BiLSTM, State
from doodlelib.models.prior import ExemplarPrior
from doodlelib.paths import similar_names
from doodlelib.strokes import BOX, DT, END, PEN_COLUMNS, PEN_UP, Scale

NUM_FEATURES = 11  # stroke-6, whether the time is known, position, offset from the stroke's start
WORD_SIZE = 32  # of the word embedding that conditions the decoder
PEN_STATES = 3
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "none": nn.Identity}


def input_features(
    rows: Float[Tensor, "B T 6"],
    *,
    see_time: Bool[Tensor, " B"],
    xy: float,
    pen: Float[Tensor, "B 2 2"] | None = None,
) -> tuple[Float[Tensor, "B T F"], Float[Tensor, "B 2 2"]]:
    """What an LSTM reads at each step, and where the pen is after the last.

    Rows are moves, which a network would have to add up to know where it is. So it also gets the
    position (from the drawing's first point) and the offset from the stroke's first point: closing
    a circle is then a matter of one step.

    Args:
        rows: stroke-6 in model units.
        see_time: Drawings whose time is shown; for the others the time and its flag are 0.
        xy: The scale's px to one unit; positions are given in halves of the 255 box.
        pen: Position and start of the stroke before `rows`, in model units; None: both 0.
    """
    pen = rows.new_zeros(len(rows), 2, 2) if pen is None else pen
    position = pen[:, :1] + rows[..., :DT].cumsum(dim=1)
    is_pen_up = rows[..., PEN_COLUMNS.start + PEN_UP] > 0.5
    steps = torch.arange(rows.shape[1], device=rows.device)
    first = torch.where(is_pen_up, steps, -1).cummax(dim=1).values[..., None]  # of the stroke
    start = position.gather(1, first.clamp(min=0).expand(-1, -1, 2))
    start = torch.where(first >= 0, start, pen[:, 1:])
    flag = see_time[:, None, None].expand(*rows.shape[:2], 1).to(rows.dtype)
    time, half_boxes = rows[..., DT : DT + 1] * flag, 2 * xy / BOX
    features = rows[..., :DT], time, rows[..., PEN_COLUMNS], flag
    offsets = position * half_boxes, (position - start) * half_boxes
    return torch.cat([*features, *offsets], -1), torch.stack([position[:, -1], start[:, -1]], 1)


class SketchNet(nn.Module):
    """A bidirectional LSTM encodes a drawing; an LSTM with a mixture head decodes z, row by row.

    It also keeps an `ExemplarPrior`: recent training posteriors of each word. Arguments: see
    `vae.SketchVAE`.
    """

    def __init__(self, config: VAEConfig, *, words: Sequence[str], scale: Scale) -> None:
        super().__init__()
        self.config, self.words, self.scale = config, list(words), scale
        self.unknown_word = len(self.words)  # the index that stands for "no word given"
        stack: dict[str, Any] = {"layers": config.num_lstm_layers, "dropout": config.dropout}
        self.encoder = BiLSTM(NUM_FEATURES, config.enc_hidden_size, **stack)
        self.to_mean = nn.Linear(2 * config.enc_hidden_size, config.latent_size)
        self.to_log_std = nn.Linear(2 * config.enc_hidden_size, config.latent_size)

        self.word_size = WORD_SIZE if config.class_conditioning else 0
        embedding = torch.empty(len(self.words) + 1, self.word_size).uniform_(-1, 1)
        self.embed_word = nn.Embedding.from_pretrained(embedding, freeze=False)  # last: no word
        condition_size = config.latent_size + self.word_size
        states = 2 * config.num_lstm_layers
        self.to_state = nn.Linear(condition_size, states * config.dec_hidden_size)
        self.act = ACTIVATIONS[config.decoder_act]()
        norm = {"layer_norm": config.use_layer_norm, "recurrent_dropout": config.recurrent_dropout}
        inputs = NUM_FEATURES + condition_size
        self.decoder = LSTM(inputs, config.dec_hidden_size, **stack, **norm)
        outputs = PEN_STATES + 2 * config.num_gmm_modes * mdn.PARAMETERS
        self.head = nn.Linear(config.dec_hidden_size, outputs)
        self.exemplars = ExemplarPrior(len(self.words), config.latent_size)
        for linear in (self.to_mean, self.to_log_std, self.to_state):
            nn.init.uniform_(linear.weight, -0.0017, 0.0017)
            nn.init.zeros_(linear.bias)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def word_indices(self, word: str | Sequence[str] | None, n: int) -> Int64[Tensor, " N"]:
        """Indices of one word for all of `n` drawings, of one for each, or of none for any.

        ValueError where one is unknown, there are not `n`, or the model was trained without words.
        """
        if word is None:
            return torch.full((n,), self.unknown_word, device=self.device)
        if not self.word_size:
            raise ValueError(f"this model draws without words; {word!r} cannot be asked for")
        wanted = [word] * n if isinstance(word, str) else list(word)
        if len(wanted) != n:
            raise ValueError(f"{len(wanted)} words for {n} drawings")
        for name in set(wanted) - set(self.words):
            near = ", ".join(similar_names(name, self.words))
            known = f"its {len(self.words)} words"
            raise ValueError(f"the model does not know {name!r}; of {known} try {near}")
        return torch.tensor([self.words.index(name) for name in wanted], device=self.device)

    def posterior(
        self, batch: StrokeBatch, *, see_time: Bool[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Mean and log standard deviation of q(z | drawing); the encoder sees some's times."""
        rows, see_time = batch.rows[:, 1:-1], batch.timed & see_time
        x, _ = input_features(rows, see_time=see_time, xy=self.scale.xy)
        _, ends = self.encoder(x, batch.lengths)
        return self.to_mean(ends), self.to_log_std(ends)

    def condition(
        self, z: Float[Tensor, "B Z"], words: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B C"]:
        """What the decoder reads at every step beside the row: z and the word's embedding."""
        return torch.cat([z, self.embed_word(words)], dim=-1) if self.word_size else z

    def first_states(self, condition: Float[Tensor, "B C"]) -> list[State]:
        """The decoder's h and c before the first step, of each layer."""
        states = self.act(self.to_state(condition)).chunk(2 * self.config.num_lstm_layers, dim=-1)
        return list(zip(states[::2], states[1::2], strict=True))

    def hidden_states(
        self,
        rows: Float[Tensor, "B T 6"],
        *,
        timed: Bool[Tensor, " B"],
        condition: Float[Tensor, "B C"],
        states: list[State] | None = None,
        pen: Float[Tensor, "B 2 2"] | None = None,
    ) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B 2 2"], list[State]]:
        """The decoder's hidden state after each of `rows`; the last pen position and states."""
        states = self.first_states(condition) if states is None else states
        x, pen = input_features(rows, see_time=timed, xy=self.scale.xy, pen=pen)
        condition = condition[:, None].expand(-1, rows.shape[1], -1)
        hidden, states = self.decoder(torch.cat([x, condition], dim=-1), states)
        return hidden, pen, states

    def output(
        self, hidden: Float[Tensor, "B T H"]
    ) -> tuple[Float[Tensor, "B T 3"], Float[Tensor, "B T K M 9"]]:
        """Pen logits and mixture parameters of the next row, from hidden states."""
        with torch.autocast(self.device.type, enabled=False):  # the likelihood needs full precision
            output = self.head(hidden.to(self.head.weight.dtype))
        shape = (2, self.config.num_gmm_modes, mdn.PARAMETERS)
        return output[..., :PEN_STATES], output[..., PEN_STATES:].unflatten(-1, shape)

    def mixture(
        self, parameters: Float[Tensor, "*batch K M 9"], is_pen_up: Bool[Tensor, "*batch"]
    ) -> mdn.Mixture:
        """The mixture of each move given its pen state."""
        state = is_pen_up.long()[..., None, None, None]
        state = state.expand(*is_pen_up.shape, 1, *parameters.shape[-2:])
        chosen = parameters.gather(-3, state).squeeze(-3)
        return mdn.from_output(chosen, reg_covar=self.config.reg_covar)

    def predict(
        self, batch: StrokeBatch, z: Float[Tensor, "B Z"]
    ) -> tuple[Float[Tensor, "B T 6"], Int64[Tensor, "B T"], Float[Tensor, "B T 3"], mdn.Mixture]:
        """Each row but the first, its pen state, and the predicted pen logits and mixture.

        Each step reads the true rows before it (teacher forcing).
        """
        rows, targets = batch.rows[:, 1:-1], batch.rows[:, 2:]
        condition = self.condition(z, batch.words)
        hidden, *_ = self.hidden_states(rows, timed=batch.timed, condition=condition)
        logits, parameters = self.output(hidden)
        pen_state = targets[..., PEN_COLUMNS].argmax(dim=-1)
        return targets, pen_state, logits, self.mixture(parameters, pen_state == PEN_UP)

    def step_log_likelihood(self, batch: StrokeBatch, z: Float[Tensor, "B Z"]) -> StepLogLikelihood:
        """Log-likelihood of each row of `batch` but the first, given z and the rows before it."""
        targets, pen_state, logits, mixture = self.predict(batch, z)
        is_pen_up = pen_state == PEN_UP
        pen = -F.cross_entropy(logits.transpose(1, 2), pen_state, reduction="none")
        position, time = mdn.log_prob(mixture, targets[..., :DT], targets[..., DT])
        position = position - 2 * math.log(self.scale.xy)
        time = mdn.log_density_in_ms(time, targets[..., DT], is_pen_up, scale=self.scale)
        is_move = batch.is_step & (pen_state != END)
        is_timed = is_move & batch.timed[:, None]
        masks = batch.is_step, is_move, is_timed & ~is_pen_up, is_timed & is_pen_up
        pairs = zip(masks, (pen, position, time, time), strict=True)
        values = [torch.where(mask, value, 0) for mask, value in pairs]
        return StepLogLikelihood(*values, counted=dict(zip(EVENTS, masks, strict=True)))

    def loss(self, batch: StrokeBatch, *, step: int | Tensor | None) -> tuple[Tensor, Sums]:
        """The training loss, a weighted negative ELBO, and its parts.

        The log-likelihood of a drawing is divided by `max_seq_len`, a constant, so that a move
        weighs the same in a batch of short drawings as in one of long ones; the KL term is the mean
        over drawings and latent dimensions and costs nothing below `kl_tolerance`. A nat of KL thus
        weighs ``kl_weight * max_seq_len / latent_size`` of a nat of likelihood (the beta of a
        beta-VAE). Time, word and z are masked in random shares of the drawings, so that the model
        also learns q(z | shape), p(drawing | z) and p(drawing | word).

        `step` decides the KL term's weight; None: its final one. Parts are sums and counts; that of
        the loss is under the final weight, so that epochs compare, and training with validation.

        Source: Ha & Eck 2017, eq. 9-11, the mean over dimensions as in magenta's code.
        """
        config = self.config
        chance = torch.rand(3, batch.size, device=self.device)
        see_time, see_z = chance[0] >= config.hide_time_prob, chance[2] >= config.hide_z_prob
        words = torch.where(chance[1] < config.hide_word_prob, self.unknown_word, batch.words)
        batch, true_words = replace(batch, words=words), batch.words
        noise = self.head.weight.new_empty(batch.size, config.latent_size).normal_()

        def log_likelihood(drawings: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            """Log-likelihood and count of each kind of event, (b, E); mean and log std of q."""
            part = batch.part(drawings)
            posterior = self.posterior(part, see_time=see_time[drawings])
            mean, log_std = (value.to(noise.dtype) for value in posterior)  # under autocast too
            z = (mean + log_std.exp() * noise[drawings]) * see_z[drawings, None]
            events = self.step_log_likelihood(part, z).events().values()
            values, counts = (torch.stack(kind, dim=1) for kind in zip(*events, strict=True))
            return values, counts, mean, log_std

        values, counts, mean, log_std = with_gradients(
            log_likelihood, batch.size, weights=list(self.parameters())
        )
        if self.training:
            self.exemplars.update(true_words, mean.detach(), log_std.detach())
        kl = 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std)  # (B, Z)
        free = parallel.mean_over_ranks(kl) < config.kl_tolerance  # of the whole batch
        cost = torch.where(free, config.kl_tolerance, kl.mean())
        loss = self.kl_weight(step) * cost - values.sum() / (batch.size * config.max_seq_len)
        sums = dict(zip(EVENTS, zip(-values.sum(0), counts.sum(0), strict=True), strict=True))
        size = torch.tensor(float(batch.size))
        final = loss + (config.kl_weight - self.kl_weight(step)) * cost
        sums |= {"loss": (final * size, size), "kl": (kl.sum(), size)}
        return loss, {name: (total.detach(), count) for name, (total, count) in sums.items()}

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Adam, as in the paper."""
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)

    def learning_rate(self, step: int, *, progress: float) -> float:
        """At optimiser step `step` and a share `progress` of training; see `VAEConfig`."""
        config = self.config
        height = (config.learning_rate - config.lr_min) * config.lr_decay**step
        if config.lr_cooldown:
            height *= min(1.0, (1 - progress) / config.lr_cooldown)
        return config.lr_min + height

    def kl_weight(self, step: int | Tensor | None) -> float | Tensor:
        """Weight of the KL term at optimiser step `step`; None: its final value.

        Source: Ha & Eck 2017, appendix on training (eta_step), times kl_weight.
        """
        config = self.config
        left = 0.0 if step is None else config.kl_decay_rate**step
        return config.kl_weight * (1 - (1 - config.kl_weight_start) * left)
