"""The autoregressive decoder: samples drawings row by row, or scores how one begins.

B drawing, T row, C condition.
"""

import copy
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from doodlelib.fast import decoder as fast_decoder
from doodlelib.fast.parallel import in_parts, raise_if_cancelled
from doodlelib.models import mdn
from doodlelib.models.network import SketchNet, input_features
from doodlelib.strokes import BOX, DT, END, PEN_COLUMNS, PEN_DOWN, PEN_UP

START = torch.eye(6)[PEN_COLUMNS.start + PEN_DOWN]  # the first row of every drawing


class Decoder:
    """A `SketchNet`'s decoder at work on many drawings at once, at the first point of each.

    Puts the network into evaluation mode. Without `timed` rows carry no times; the network learned
    from drawings of both kinds. `prefix`, (T, 6), are the rows that all drawings begin with.
    """

    @torch.no_grad()
    def __init__(
        self,
        net: SketchNet,
        z: Float[Tensor, "B Z"],
        words: Int64[Tensor, " B"],
        *,
        timed: bool = True,
    ) -> None:
        if z.ndim != 2 or z.shape[1] != net.config.latent_size:
            raise ValueError(f"z has shape (N, {net.config.latent_size}), not {tuple(z.shape)}")
        self.net, self.timed, self.condition = net.eval(), timed, net.condition(z, words)
        self.prefix = START[None].to(self.condition)
        self.rows = self.prefix.expand(len(z), -1)  # the last of each drawing, not yet read
        self.states = net.first_states(self.condition)  # before that row, as `pen`
        self.pen = self.condition.new_zeros(len(z), 2, 2)  # see `network.input_features`

    @torch.no_grad()
    def score_prefix(self, rows: Float[Tensor, "T 6"]) -> Float[Tensor, " B"]:
        """Append moves to the prefix; their log-likelihood in each drawing, nats in model units."""
        given = rows.expand(len(self.rows), -1, -1)
        hidden = self._hidden_states(torch.cat([self.rows[:, None], given[:, :-1]], dim=1))
        self.prefix, self.rows = torch.cat([self.prefix, rows]), given[:, -1]
        logits, parameters = self.net.output(hidden)
        mixture = self.net.mixture(parameters, given[..., PEN_COLUMNS.start + PEN_UP] == 1)
        pen = (logits.log_softmax(dim=-1) * given[..., PEN_COLUMNS]).sum(dim=-1)
        position, time = mdn.log_prob(mixture, given[..., :DT], given[..., DT])
        return (pen + position + time * self.timed).sum(dim=1)

    @torch.no_grad()
    def next_rows(
        self, numbers: Float[Tensor, "B 6"], temperature: float, time_temperature: float
    ) -> Float[np.ndarray, "B 6"]:
        """Sample the next row of each drawing; an end row where it ends.

        Of its random `numbers` three are uniform and choose the pen state, the component of the
        move and that of its time; three are standard normal, for dx, dy and the time.
        """
        logits, parameters = self.net.output(self._hidden_states(self.rows[:, None]))
        chance, noise = numbers.chunk(2, dim=1)
        event = mdn.choose(logits[:, 0], temperature=temperature, chance=chance[:, 0])
        mixture = self.net.mixture(parameters[:, 0], event == PEN_UP)
        xy = mdn.sample_position(
            mixture, temperature=temperature, chance=chance[:, 1], noise=noise[:, :2]
        )
        time = mdn.sample_time(
            mixture, xy, temperature=time_temperature, chance=chance[:, 2], noise=noise[:, 2]
        )
        move = torch.cat([xy, self.timed * time[:, None]], dim=-1) * (event != END)[:, None]
        self.rows = torch.cat([move, F.one_hot(event, 3).to(move.dtype)], dim=-1)
        return self.rows.numpy(force=True)

    def select(self, order: slice | Int64[Tensor, " n"]) -> Self:
        """A decoder of its own for the drawings at these places, which may repeat."""
        new = copy.copy(self)
        new.rows, new.condition, new.pen = self.rows[order], self.condition[order], self.pen[order]
        new.states = [(h[order], c[order]) for h, c in self.states]
        return new

    @torch.no_grad()
    def compiled(self) -> fast_decoder.CompiledDecoder:
        """The same, compiled, with the methods `next_rows` and `select`."""
        net, timed = self.net, torch.full((len(self.rows),), self.timed)
        bounds = mdn.MAX_LOG, mdn.MAX_RHO, mdn.MAX_TIME, mdn.LEAST_SQUARE, net.config.reg_covar
        limits = fast_decoder.Limits(*bounds, 2 * net.scale.xy / BOX, float(self.timed))
        features, pen = input_features(
            self.rows[:, None], see_time=timed, xy=net.scale.xy, pen=self.pen
        )
        layers = [dict(layer.named_parameters()) for layer in net.decoder.layers]
        head = net.head.weight, net.head.bias
        return fast_decoder.CompiledDecoder(
            layers, self.states, self.condition, head, features[:, 0], pen, limits
        )

    def _hidden_states(self, rows: Float[Tensor, "B T 6"]) -> Float[Tensor, "B T H"]:
        """The network's hidden states once it has read `rows`; moves on."""
        timed = torch.full((len(rows),), self.timed, device=rows.device)
        known = {"timed": timed, "condition": self.condition}
        hidden, self.pen, self.states = self.net.hidden_states(
            rows, **known, states=self.states, pen=self.pen
        )
        return hidden


@torch.no_grad()
def sample(
    decoder: Decoder,
    *,
    temperature: float,
    time_temperature: float,
    generator: torch.Generator | None,
) -> list[Float[np.ndarray, "n 6"]]:
    """Sample rows until each drawing has ended or holds `max_seq_len` points.

    Drawings that end leave the batch. On a CPU each thread has drawings of its own.

    Args:
        decoder: Perhaps after a prefix. Used up.
        temperature: Of pen and position: logits are divided by it, variances multiplied; 0 takes
            the likeliest of everything. ValueError where it is not from 0 to 1e6.
        time_temperature: The same for the time.
        generator: Source of randomness, on the network's device.

    Returns:
        stroke-6 of each drawing, model units, with start and end row.
    """
    if not all(0 <= given <= mdn.MAX_TEMPERATURE for given in (temperature, time_temperature)):
        raise ValueError(f"temperatures are 0 to 1e6, not {temperature} and {time_temperature}")
    prefix, numbers = decoder.prefix.numpy(force=True), random_numbers(decoder, generator)
    size, room = numbers.shape[:2]
    drawn = np.zeros((size, 2 + len(prefix) + room, 6), dtype=prefix.dtype)
    drawn[..., PEN_COLUMNS.start + END] = 1
    drawn[:, 0] = START
    drawn[:, 1 : len(prefix) + 1] = prefix
    whole = decoder.compiled() if fast_decoder.is_available(numbers) else decoder

    def sample_part(part: slice) -> None:
        some, left, new_rows = whole.select(part), np.arange(size)[part], numbers[part]
        for step in range(room):
            raise_if_cancelled()
            new = some.next_rows(new_rows[:, step], temperature, time_temperature)
            drawn[left, 1 + len(prefix) + step] = new
            going = new[:, PEN_COLUMNS.start + END] == 0
            if not going.any():
                break
            if not going.all():
                order = torch.from_numpy(going.nonzero()[0])
                some, left, new_rows = some.select(order), left[going], new_rows[order]

    if numbers.device.type == "cpu":
        in_parts(sample_part, size)
    else:
        sample_part(slice(0, size))
    ends = (drawn[..., PEN_COLUMNS.start + END] == 1).argmax(axis=1)
    return [one[: stop + 1] for one, stop in zip(drawn, ends, strict=True)]


def random_numbers(decoder: Decoder, generator: torch.Generator | None) -> Float[Tensor, "B T 6"]:
    """For `next_rows`, of all rows that may come: so no drawing depends on those beside it."""
    room = max(0, decoder.net.config.max_seq_len - len(decoder.prefix))
    numbers = decoder.prefix.new_empty(len(decoder.rows), room, 6)
    numbers[..., :3].uniform_(generator=generator)
    numbers[..., 3:].normal_(generator=generator)
    return numbers
