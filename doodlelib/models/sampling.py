"""The autoregressive decoder: samples drawings row by row, or scores how one begins.

B drawing, T row, C condition.
"""

import copy
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from doodlelib.fast import decoder as fast_decoder
from doodlelib.fast.parallel import in_parts, raise_if_cancelled
from doodlelib.models import mdn
from doodlelib.models.network import SketchNet, input_features
from doodlelib.strokes import BOX, END, PEN_COLUMNS, PEN_DOWN, PEN_UP

AT_ONCE = 256  # compiled drawings under way; more would gain nothing, and leave a CPU's cache
START = torch.eye(6)[PEN_COLUMNS.start + PEN_DOWN]  # the first row of every drawing


class Decoder:
    """A `SketchNet`'s decoder at work on many drawings at once, at the first point of each.

    Args:
        net: Its decoder is used; put into evaluation mode.
        z: Latent of each drawing.
        words: Index of each drawing's word.
        timed: Whether rows carry times; the network learned from drawings of both kinds.
        compiled: Take `fast.decoder` where it is available, which does the same.

    Attributes:
        prefix: (T, 6) rows that all drawings begin with; the first is `START`.

    Raises:
        ValueError: z has the wrong size.
    """

    @torch.no_grad()
    def __init__(
        self,
        net: SketchNet,
        z: Float[Tensor, "B Z"],
        words: Int64[Tensor, " B"],
        *,
        timed: bool = True,
        compiled: bool = True,
    ) -> None:
        if z.ndim != 2 or z.shape[1] != net.config.latent_size:
            raise ValueError(f"z has shape (N, {net.config.latent_size}), not {tuple(z.shape)}")
        self.timed = timed
        self.net, self.condition = net.eval(), net.condition(z, words)
        self.prefix = START[None].to(self.condition)
        self.rows = self.prefix.expand(len(z), -1)  # the last of each drawing, not yet read
        self.states = net.first_states(self.condition)  # before that row, as `pen`
        self.pen = self.condition.new_zeros(len(z), 2, 2)  # see `network.input_features`
        self.compiled = self._compile() if compiled and fast_decoder.is_available(z) else None

    @property
    def size(self) -> int:
        """Number of drawings."""
        return len(self.rows)

    @torch.no_grad()
    def score_prefix(self, rows: Float[Tensor, "T 6"]) -> Float[Tensor, " B"]:
        """Append `rows` to the prefix, before anything is sampled; their log-likelihood.

        Args:
            rows: Moves; at least one.

        Returns:
            For each drawing, nats in model units.
        """
        given = rows.expand(self.size, -1, -1)
        if self.compiled:
            features, pen = self._features(rows)
            hidden = self.compiled.advance(features, pen[0]).transpose(0, 1)
            self.pen = pen.expand(self.size, -1, -1)
        else:
            hidden = self._hidden_states(torch.cat([self.rows[:, None], given[:, :-1]], dim=1))
        self.prefix, self.rows = torch.cat([self.prefix, rows]), given[:, -1]
        logits, parameters = self.net.output(hidden)
        mixture = self.net.mixture(parameters, given[..., PEN_COLUMNS.start + PEN_UP] == 1)
        return mdn.row_log_likelihood(logits, mixture, given, timed=self.timed).sum(1)

    @torch.no_grad()
    def next_rows(
        self,
        numbers: Float[Tensor, "N 6"],
        which: Int64[np.ndarray, " b"],
        temperature: float,
        time_temperature: float,
    ) -> Float[np.ndarray, "b 6"]:
        """Sample the next row of the first b drawings; an end row where one ends.

        Args:
            numbers: Random: three uniform ones, which choose the pen state, the component of the
                move and that of its time, and three standard normal ones for dx, dy and the time.
            which: The row of `numbers` for each of b drawings.
            temperature: See `sample`.
            time_temperature: See `sample`.
        """
        if self.compiled:
            return self.compiled.next_rows(numbers, which, temperature, time_temperature)
        logits, parameters = self.net.output(self._hidden_states(self.rows[:, None]))
        chance, noise = numbers[torch.from_numpy(which).to(numbers.device)].chunk(2, dim=1)
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

    def select(self, order: Int64[Tensor, " n"]) -> Self:
        """A decoder of its own for the drawings of these numbers, which may repeat."""
        new = copy.copy(self)
        new.rows, new.condition, new.pen = self.rows[order], self.condition[order], self.pen[order]
        new.states = [(h[order], c[order]) for h, c in self.states]
        new.compiled = self.compiled and self.compiled.select(order)
        return new

    def compact(self, going: Bool[np.ndarray, " B"]) -> tuple[Self, Int64[np.ndarray, " n"]]:
        """A decoder of the drawings that are `going`, in few moves; which one is at each place."""
        order = np.arange(int(going.sum()))
        into = np.flatnonzero(~going[: len(order)])
        order[into] = np.flatnonzero(going[len(order) :]) + len(order)
        if self.compiled:
            self.compiled.compact(into, order[into])  # in place
            return self, order
        return self.select(torch.from_numpy(order).to(self.rows.device)), order

    def _hidden_states(self, rows: Float[Tensor, "B T 6"]) -> Float[Tensor, "B T H"]:
        """The network's hidden states once it has read `rows`; moves on."""
        hidden, self.pen, self.states = self.net.hidden_states(
            rows,
            timed=torch.full((len(rows),), self.timed, device=rows.device),
            condition=self.condition,
            states=self.states,
            pen=self.pen,
        )
        return hidden

    def _features(self, rows: Float[Tensor, "T 6"]) -> tuple[Tensor, Tensor]:
        """Features of rows that all drawings share, (T, F), and the pen after them, (1, 2, 2)."""
        see_time, xy = torch.full((1,), self.timed), self.net.scale.xy
        features, pen = input_features(rows[None], see_time=see_time, xy=xy, pen=self.pen[:1])
        return features[0], pen

    def _compile(self) -> fast_decoder.CompiledDecoder:
        net = self.net
        bounds = mdn.MAX_LOG, mdn.MAX_RHO, mdn.MAX_TIME, mdn.LEAST_SQUARE, net.config.reg_covar
        return fast_decoder.CompiledDecoder(
            [dict(layer.named_parameters()) for layer in net.decoder.layers],
            self.states,
            self.condition,
            (net.head.weight, net.head.bias),
            self._features(self.prefix)[0][0],
            fast_decoder.Limits(
                *bounds, half_boxes=2 * net.scale.xy / BOX, timed=float(self.timed)
            ),
        )


@torch.no_grad()
def sample(
    decoder: Decoder,
    *,
    temperature: float,
    time_temperature: float,
    generator: torch.Generator | None,
) -> list[Float[np.ndarray, "n 6"]]:
    """Sample rows until each drawing has ended or holds `max_seq_len` points.

    Where one ends, one that waits takes its place, so that long ones do not hold up short ones; on
    a CPU each thread has drawings of its own. Under `torch.autocast` matrix products are in half
    precision.

    Args:
        decoder: Perhaps after a prefix. Used up.
        temperature: Of pen and position: logits are divided by it, variances multiplied; 0 takes
            the likeliest of everything.
        time_temperature: The same for the time.
        generator: Source of randomness, on the network's device.

    Returns:
        stroke-6 of each drawing, model units, with start and end row. One that did not end has
        `max_seq_len` points.

    Raises:
        ValueError: A temperature is negative.
    """
    if not (temperature >= 0 and time_temperature >= 0):
        raise ValueError(f"temperatures must be >= 0, not {temperature} and {time_temperature}")
    prefix, numbers = decoder.prefix.numpy(force=True), random_numbers(decoder, generator)
    size, room = numbers.shape[:2]
    drawn = np.zeros((size, 2 + len(prefix) + room, 6), dtype=prefix.dtype)
    drawn[..., PEN_COLUMNS.start + END] = 1
    drawn[:, 0] = START
    drawn[:, 1 : len(prefix) + 1] = prefix

    def sample_part(part: slice) -> None:
        some, own = decoder.select(torch.arange(size, device=numbers.device)[part]), drawn[part]
        left = np.arange(len(own) if room else 0)  # in the decoder's order
        row, own_numbers = np.zeros(len(own), dtype=np.int64), numbers[part].flatten(0, 1)
        while len(left):
            raise_if_cancelled()
            active = left[:AT_ONCE] if some.compiled else left
            which = active * room + row[active]
            new = some.next_rows(own_numbers, which, temperature, time_temperature)
            own[active, 1 + len(prefix) + row[active]] = new
            row[active] += 1
            going = np.ones(len(left), dtype=bool)
            going[: len(active)] = (new[:, PEN_COLUMNS.start + END] == 0) & (row[active] < room)
            if not going.all():
                some, order = some.compact(going)
                left = left[order]

    if numbers.device.type == "cpu":
        in_parts(sample_part, size)
    else:
        sample_part(slice(0, size))
    ends = (drawn[..., PEN_COLUMNS.start + END] == 1).argmax(axis=1)
    return [one[: stop + 1] for one, stop in zip(drawn, ends, strict=True)]


def random_numbers(decoder: Decoder, generator: torch.Generator | None) -> Float[Tensor, "B T 6"]:
    """For `next_rows`, of all rows that may come: so no drawing depends on those beside it."""
    room = max(0, decoder.net.config.max_seq_len - len(decoder.prefix))
    numbers = decoder.prefix.new_empty(decoder.size, room, 6)
    numbers[..., :3].uniform_(generator=generator)
    numbers[..., 3:].normal_(generator=generator)
    return numbers
