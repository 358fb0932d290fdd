"""The network of the sketch VAE, tensors in and out: encoder, decoder, likelihood, loss.

B drawing, T step, M mixture component, Z latent, K pen kind (drawn, lifted).
A step predicts the next row: first the pen event (drawn, lifted, end), then, given it, the move and
its time from a mixture of that kind's own components.

Source: Ha & Eck 2017 (arXiv 1704.03477); time, the order pen-then-move and hidden time are new.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from doodlelib.config import VAEConfig
from doodlelib.fast import distributed
from doodlelib.fast.distributed import Sums
from doodlelib.fast.parallel import with_gradients
from doodlelib.models import mdn
from doodlelib.models.batch import StrokeBatch
from doodlelib.models.inputs import INPUTS, Place, inputs, origin
from doodlelib.models.likelihood import EVENTS, StepNats
from doodlelib.models.lstm import LSTM, BiLSTM, FusedLayer, State, make_layer
from doodlelib.models.optimizers import Adam
from doodlelib.models.prior import Exemplars
from doodlelib.models.words import numbers_of
from doodlelib.strokes import DT, END, LIFTED, PEN_COLUMNS, Scale

WORD_SIZE = 32  # of the embedding that tells the decoder the word
PEN_EVENTS = 3
AT_ONCE = 16_000_000  # LSTM cells in memory in training, some 35 bytes each


class SketchNet(nn.Module):
    """A bi-LSTM encodes a drawing, an LSTM with a mixture head draws one, in time.

    Beside its weights it keeps the posteriors that training met last, of each word.

    Args:
        config: Its hyper-parameters.
        words: The words it was trained on; with class conditioning it can be asked for one.
        scale: The training split's; turns what it draws into px and ms.
    """

    def __init__(self, config: VAEConfig, *, words: Sequence[str], scale: Scale) -> None:
        super().__init__()
        self.config, self.words, self.scale = config, list(words), scale
        layer = partial(
            make_layer,
            layer_norm=config.use_layer_norm,
            recurrent_dropout=config.recurrent_dropout,
        )
        stack = {"layers": config.num_lstm_layers, "dropout": config.dropout}
        self.encoder = BiLSTM(INPUTS, config.enc_hidden_size, layer=FusedLayer, **stack)
        self.to_mean = nn.Linear(2 * config.enc_hidden_size, config.latent_size)
        self.to_log_std = nn.Linear(2 * config.enc_hidden_size, config.latent_size)

        self.word_size = WORD_SIZE if config.class_conditioning else 0
        # one more: the word is not told
        self.embed_word = nn.Embedding(len(self.words) + 1, self.word_size)
        condition_size = config.latent_size + self.word_size
        self.to_state = nn.Linear(
            condition_size, 2 * config.num_lstm_layers * config.dec_hidden_size
        )
        self.act = {"tanh": nn.Tanh(), "relu": nn.ReLU(), "gelu": nn.GELU(), "none": nn.Identity()}[
            config.decoder_act
        ]
        self.decoder = LSTM(INPUTS + condition_size, config.dec_hidden_size, layer=layer, **stack)
        modes = 2 * config.num_gmm_modes * mdn.PARAMETERS
        self.head = nn.Linear(config.dec_hidden_size, PEN_EVENTS + modes)
        self.exemplars = Exemplars(len(self.words), config.latent_size)
        for linear in (self.to_mean, self.to_log_std, self.to_state):
            nn.init.normal_(linear.weight, std=0.001)
            nn.init.zeros_(linear.bias)

    @property
    def unknown_word(self) -> int:
        """The index that stands for a word that is not told."""
        return len(self.words)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def word_indices(self, word: str | Sequence[str] | None, n: int) -> Int64[Tensor, " N"]:
        """Indices of the `n` words asked for; the unknown word's where none is."""
        if word is None:
            return torch.full((n,), self.unknown_word, device=self.device)
        if not self.word_size:
            raise ValueError(f"this model draws without words; {word!r} cannot be asked for")
        return torch.tensor(numbers_of(word, n, among=self.words), device=self.device)

    def posterior(
        self, batch: StrokeBatch, *, see_time: Bool[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Mean and log standard deviation of q(z | drawing).

        Args:
            batch: Drawings.
            see_time: Which drawings' time the encoder sees, where they have any.
        """
        rows = batch.rows[:, 1:-1]
        x, _ = inputs(rows, see_time=batch.timed & see_time, place=origin(rows), xy=self.scale.xy)
        _, ends = self.encoder(x, batch.lengths)
        return self.to_mean(ends), self.to_log_std(ends)

    def condition(
        self, z: Float[Tensor, "B Z"], words: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B C"]:
        """What the decoder knows at every step: z, and the word where it is told."""
        return torch.cat([z, self.embed_word(words)], dim=-1) if self.word_size else z

    def first_states(self, condition: Float[Tensor, "B C"]) -> list[State]:
        """The decoder's h and c before the first step, of each layer."""
        states = self.act(self.to_state(condition)).chunk(2 * self.config.num_lstm_layers, dim=-1)
        return list(zip(states[::2], states[1::2], strict=True))

    def step(
        self,
        rows: Float[Tensor, "B T 6"],
        *,
        timed: Bool[Tensor, " B"],
        condition: Float[Tensor, "B C"],
        place: Place,
        states: list[State],
    ) -> tuple[Float[Tensor, "B T 3"], Float[Tensor, "B T K M 9"], Place, list[State]]:
        """Pen logits and mixture outputs for the rows that follow `rows`; place and last states."""
        hidden, place, states = self.hidden_states(
            rows, timed=timed, condition=condition, place=place, states=states
        )
        return *self.predictions(hidden), place, states

    def hidden_states(
        self,
        rows: Float[Tensor, "B T 6"],
        *,
        timed: Bool[Tensor, " B"],
        condition: Float[Tensor, "B C"],
        place: Place,
        states: list[State],
    ) -> tuple[Float[Tensor, "B T H"], Place, list[State]]:
        """The decoder's hidden states after each of `rows`; place and last states."""
        x, place = inputs(rows, see_time=timed, place=place, xy=self.scale.xy)
        known = condition[:, None].expand(-1, rows.shape[1], -1)
        hidden, states = self.decoder(torch.cat([x, known], dim=-1), states)
        return hidden, place, states

    def predictions(
        self, hidden: Float[Tensor, "B T H"]
    ) -> tuple[Float[Tensor, "B T 3"], Float[Tensor, "B T K M 9"]]:
        """Pen logits and mixture outputs that hidden states stand for."""
        with torch.autocast(self.device.type, enabled=False):  # the likelihood needs full precision
            output = self.head(hidden.to(self.head.weight.dtype))
        shape = (2, self.config.num_gmm_modes, mdn.PARAMETERS)
        mixtures = output[..., PEN_EVENTS:].unflatten(-1, shape)
        return output[..., :PEN_EVENTS], mixtures

    def mixture(
        self, output: Float[Tensor, "*batch K M 9"], is_lifted: Bool[Tensor, "*batch"]
    ) -> mdn.Mixture:
        """The mixture of the kind of each move: the pen's up or its down components."""
        kind = is_lifted.long()[..., None, None, None].expand(
            *is_lifted.shape, 1, *output.shape[-2:]
        )
        chosen = output.gather(-3, kind).squeeze(-3)
        return mdn.from_output(chosen, reg_covar=self.config.reg_covar)

    def step_nats(self, batch: StrokeBatch, z: Float[Tensor, "B Z"]) -> StepNats:
        """Log-likelihood of each step of `batch`, told what came before (teacher forcing).

        The first row is the same in every drawing; it is given, not predicted.
        """
        targets, event, logits, mixture = self.predict(batch, z)
        number = torch.arange(event.shape[1], device=event.device)
        is_step, is_lifted = number < batch.lengths[:, None], event == LIFTED
        position, time = mdn.log_prob(mixture, targets[..., :DT], targets[..., DT])
        return StepNats.of_kinds(
            -F.cross_entropy(logits.transpose(1, 2), event, reduction="none"),
            position - 2 * math.log(self.scale.xy),
            mdn.density_in_ms(time, targets[..., DT], is_lifted, scale=self.scale),
            is_step=is_step,
            is_move=is_step & (event != END),
            is_lifted=is_lifted,
            timed=batch.timed,
        )

    def time_cdf(
        self, batch: StrokeBatch, z: Float[Tensor, "B Z"]
    ) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """P(a time no longer than its own | position, what came before) of every timed move.

        Returns:
            Of all moves in one row, and which of them are pauses.
        """
        targets, event, _, mixture = self.predict(batch, z)
        number = torch.arange(event.shape[1], device=event.device)
        timed = (number < batch.lengths[:, None]) & (event != END) & batch.timed[:, None]
        cdf = mdn.time_cdf(mixture, targets[..., :DT], targets[..., DT])
        return cdf[timed], (event == LIFTED)[timed]

    def predict(
        self, batch: StrokeBatch, z: Float[Tensor, "B Z"]
    ) -> tuple[Float[Tensor, "B T 6"], Int64[Tensor, "B T"], Float[Tensor, "B T 3"], mdn.Mixture]:
        """Each next row, its pen event, the logits of pen events, and the mixture given it.

        Each step is told all that truly came before (teacher forcing).
        """
        rows, targets = batch.rows[:, 1:-1], batch.rows[:, 2:]
        condition = self.condition(z, batch.words)
        logits, output, *_ = self.step(
            rows,
            timed=batch.timed,
            condition=condition,
            place=origin(rows),
            states=self.first_states(condition),
        )
        event = targets[..., PEN_COLUMNS].argmax(dim=-1)
        return targets, event, logits, self.mixture(output, event == LIFTED)

    def loss(self, batch: StrokeBatch, *, step: int | Tensor | None) -> tuple[Tensor, Sums]:
        """What is minimised, the negative ELBO with weights, and its parts.

        The nats of a drawing are divided by `max_seq_len`, a constant, so that a move weighs the
        same in a batch of short drawings as in one of long ones; the KL term is the mean over
        drawings and latent dimensions and costs nothing below `kl_tolerance`. A nat of KL thus
        weighs ``kl_weight * max_seq_len / latent_size`` of a nat of likelihood (the beta of a
        beta-VAE).

        Args:
            batch: Drawings.
            step: Of the optimiser, which decides the KL term's weight; None: its final weight.

        Returns:
            The loss, and for each figure of interest its sum over the batch and the count.

        Source: Ha & Eck 2017, eq. 9-11, the mean over dimensions as in magenta's code.
        """
        config, weights = self.config, list(self.parameters())
        chance = torch.rand(2, batch.size, device=self.device)
        words = torch.where(chance[1] < config.hide_word_prob, self.unknown_word, batch.words)
        noise = self.head.weight.new_empty(batch.size, config.latent_size).normal_()
        known = {"see_time": chance[0] >= config.hide_time_prob, "noise": noise}
        judge = partial(self._judge, replace(batch, words=words), **known)
        cells = config.num_lstm_layers * (2 * config.enc_hidden_size + config.dec_hidden_size)
        most = max(1, AT_ONCE // (cells * batch.rows.shape[1]))
        nats, counts, mean, log_std = with_gradients(judge, batch.size, weights=weights, most=most)
        if self.training:
            self.exemplars.follow(batch.words, mean.detach(), log_std.detach())
        kl = 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std)  # (B, Z)
        free = distributed.mean(kl) < config.kl_tolerance  # of the whole batch
        cost = self.kl_weight(step) * torch.where(free, config.kl_tolerance, kl.mean())
        loss = cost - nats.sum() / (batch.size * config.max_seq_len)
        sums = dict(zip(EVENTS, zip(-nats.sum(0), counts.sum(0), strict=True), strict=True))
        size = torch.tensor(float(batch.size))
        sums |= {"loss": (loss * size, size), "kl": (kl.sum(), size)}
        return loss, {name: (total.detach(), count) for name, (total, count) in sums.items()}

    def _judge(
        self,
        batch: StrokeBatch,
        drawings: slice,
        *,
        see_time: Bool[Tensor, " B"],
        noise: Float[Tensor, "B Z"],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of some `drawings`: nats and count of each kind of event, given a z of each, (b, E).

        And mean and log standard deviation of q(z | drawing), (b, Z).
        """
        part = batch.part(drawings)
        posterior = self.posterior(part, see_time=see_time[drawings])
        mean, log_std = (value.to(noise.dtype) for value in posterior)  # under autocast too
        events = self.step_nats(part, mean + log_std.exp() * noise[drawings]).events()
        nats, counts = (torch.stack(kind, dim=1) for kind in zip(*events.values(), strict=True))
        return nats, counts, mean, log_std

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Adam, as in the paper."""
        return Adam(self.parameters(), lr=self.config.learning_rate, fused=True)

    def learning_rate(self, step: int, *, progress: float) -> float:
        """At optimiser step `step` and a share `progress` of training; see `VAEConfig`."""
        config = self.config
        height = (config.learning_rate - config.lr_min) * config.lr_decay**step
        if config.lr_cooldown:
            height *= min(1.0, (1 - progress) / config.lr_cooldown)
        return config.lr_min + height

    def kl_weight(self, step: int | Tensor | None) -> float | Tensor:
        """Weight of the KL term at optimiser step `step`; None: where it ends.

        Source: Ha & Eck 2017, appendix on training (eta_step), times kl_weight.
        """
        config = self.config
        if step is None:
            return config.kl_weight
        return config.kl_weight * (1 - (1 - config.kl_weight_start) * config.kl_decay_rate**step)
