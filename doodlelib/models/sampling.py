"""The autoregressive decoder: samples drawings row by row, or scores how one begins.

B drawing, T row, C condition.
"""

import copy
from collections.abc import Iterator
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

START = torch.eye(6)[PEN_COLUMNS.start + PEN_DOWN]  # the first row of every drawing


class Decoder:
    """A `SketchNet`'s decoder at work on many drawings at once.

    Args:
        net: In evaluation mode.
        condition: See `SketchNet.condition`; a row for each drawing.
        timed: Whether rows carry times; the network learned from drawings of both kinds.
        compiled: Take `fast.decoder` where it is available, which does the same.

    Attributes:
        prefix: (T, 6) rows that all drawings begin with; the first is `START`.
        rows: (B, 6) the last row of each drawing, not yet read.
        pen, states: Before that row; see `SketchNet.hidden_states`.
    """

    def __init__(
        self,
        net: SketchNet,
        condition: Float[Tensor, "B C"],
        *,
        timed: bool = True,
        compiled: bool = True,
    ) -> None:
        self.timed = timed
        self.net, self.condition, self.compiled = net, condition, None
        self.prefix = START[None].to(condition)
        self.rows = self.prefix.expand(len(condition), -1)
        self.pen, self.states = (
            condition.new_zeros(len(condition), 2, 2),
            net.first_states(condition),
        )
        if compiled and fast_decoder.is_available(condition.device):
            self.compiled = self._compile()

    @property
    def size(self) -> int:
        """Number of drawings."""
        return len(self.rows)

    @property
    def at_once(self) -> int:
        """How many drawings `sample` works on at once; the others wait."""
        return self.compiled.at_once if self.compiled else self.size

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
            hidden = self.compiled.advance(features, pen).transpose(0, 1)
            self.pen = pen.expand(self.size, -1, -1)
        else:
            hidden = self._hidden_states(torch.cat([self.rows[:, None], given[:, :-1]], dim=1))
        self.prefix, self.rows = torch.cat([self.prefix, rows]), given[:, -1]
        logits, parameters = self.net.output(hidden)
        mixture = self.net.mixture(parameters, given[..., PEN_COLUMNS.start + PEN_UP] == 1)
        return mdn.row_log_likelihood(logits, mixture, given, timed=self.timed).sum(1)

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
            which: The row of `numbers` for each of b drawings, at most `at_once`.
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

    def select(self, order: Int64[Tensor, " n"]) -> None:
        """Go on with the drawings of these numbers, which may repeat."""
        self.rows, self.condition, self.pen = (
            values[order] for values in (self.rows, self.condition, self.pen)
        )
        self.states = [(h[order], c[order]) for h, c in self.states]
        if self.compiled:
            self.compiled = self.compiled.part(order)

    def compact(self, going: Bool[np.ndarray, " B"]) -> Int64[np.ndarray, " n"]:
        """Drop the drawings that are not `going`, moving as few as may be; who is where now."""
        order = np.arange(int(going.sum()))
        into = np.flatnonzero(~going[: len(order)])
        out_of = np.flatnonzero(going[len(order) :]) + len(order)
        order[into] = out_of
        if self.compiled:
            self.compiled.compact(into, out_of)
        else:
            self.select(torch.from_numpy(order).to(self.rows.device))
        return order

    def part(self, drawings: slice) -> Self:
        """A decoder of its own for some of the drawings."""
        new = copy.copy(self)
        new.select(torch.arange(self.size, device=self.rows.device)[drawings])
        return new

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
        """Features of rows that all drawings share, and the pen after them."""
        see_time = torch.full((1,), self.timed)
        features, pen = input_features(
            rows[None], see_time=see_time, xy=self.net.scale.xy, pen=self.pen[:1]
        )
        return features[0], pen[0]

    def _compile(self) -> fast_decoder.CompiledDecoder:
        net = self.net
        bounds = mdn.MAX_LOG, mdn.MAX_RHO, mdn.MAX_TIME, mdn.LEAST_SQUARE, net.config.reg_covar
        return fast_decoder.CompiledDecoder(
            [layer.weights() for layer in net.decoder.layers],
            self.states,
            self.condition,
            (net.head.weight, net.head.bias),
            self._features(self.prefix)[0][0],
            fast_decoder.Limits(
                *bounds, half_boxes=2 * net.scale.xy / BOX, timed=float(self.timed)
            ),
        )


@torch.no_grad()
def start(
    net: SketchNet,
    z: Float[Tensor, "N Z"],
    words: Int64[Tensor, " N"],
    *,
    timed: bool = True,
    compiled: bool = True,
) -> Decoder:
    """The decoder at the first point of one drawing from each z.

    Args:
        net: Put into evaluation mode.
        z: Latents.
        words: Index of each drawing's word.
        timed: See `Decoder`.
        compiled: See `Decoder`.

    Raises:
        ValueError: z has the wrong size.
    """
    if z.ndim != 2 or z.shape[1] != net.config.latent_size:
        raise ValueError(f"z has shape (N, {net.config.latent_size}), not {tuple(z.shape)}")
    net.eval()
    return Decoder(net, net.condition(z, words), timed=timed, compiled=compiled)


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
        decoder: From `start`, perhaps after a prefix. Used up.
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
    prefix, numbers = decoder.prefix.numpy(force=True), _random_numbers(decoder, generator)
    drawn = np.zeros((decoder.size, 2 + len(prefix) + numbers.shape[1], 6), dtype=prefix.dtype)
    drawn[..., PEN_COLUMNS.start + END] = 1
    drawn[:, 0] = START
    drawn[:, 1 : len(prefix) + 1] = prefix

    def sample_part(part: slice) -> None:
        own, first, some = drawn[part], len(prefix) + 1, decoder.part(part)
        temperatures = temperature, time_temperature
        for active, row, new in _rows(some, numbers[part], *temperatures, some.at_once):
            own[active, first + row] = new

    if numbers.device.type == "cpu":
        in_parts(sample_part, decoder.size)
    else:
        sample_part(slice(0, decoder.size))
    ends = (drawn[..., PEN_COLUMNS.start + END] == 1).argmax(axis=1)
    return [one[: stop + 1] for one, stop in zip(drawn, ends, strict=True)]


@torch.no_grad()
def sample_rows(
    decoder: Decoder,
    *,
    temperature: float,
    time_temperature: float,
    generator: torch.Generator | None,
) -> Iterator[tuple[Int64[np.ndarray, " n"], Float[np.ndarray, "n 6"]]]:
    """`sample`, a row of each drawing at a time, as soon as there is one.

    Yields:
        Which drawings are still going on, and the next row of each; an end row is its last.
    """
    numbers = _random_numbers(decoder, generator)
    for active, _, new in _rows(decoder, numbers, temperature, time_temperature, decoder.size):
        yield active, new


def _random_numbers(decoder: Decoder, generator: torch.Generator | None) -> Float[Tensor, "N T 6"]:
    """For all rows that may come, so that no drawing depends on those beside it."""
    room = max(0, decoder.net.config.max_seq_len - len(decoder.prefix))
    numbers = decoder.prefix.new_empty(decoder.size, room, 6)
    numbers[..., :3].uniform_(generator=generator)
    numbers[..., 3:].normal_(generator=generator)
    return numbers


def _rows(
    decoder: Decoder,
    numbers: Float[Tensor, "N T 6"],
    temperature: float,
    time_temperature: float,
    at_once: int,
) -> Iterator[tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], Float[np.ndarray, "n 6"]]]:
    """Numbers of at most `at_once` drawings, the index of the next row of each, and that row."""
    if not (temperature >= 0 and time_temperature >= 0):
        raise ValueError(f"temperatures must be >= 0, not {temperature} and {time_temperature}")
    size, room = numbers.shape[:2]
    numbers = numbers.flatten(0, 1)
    left = np.arange(size if room else 0)  # in the decoder's order; those under way come first
    next_row = np.zeros(size, dtype=np.int64)
    while len(left):
        active = left[:at_once]
        row = next_row[active]
        raise_if_cancelled()
        new = decoder.next_rows(numbers, active * room + row, temperature, time_temperature)
        yield active, row, new
        next_row[active] += 1
        going = np.ones(len(left), dtype=bool)
        going[: len(active)] = (new[:, PEN_COLUMNS.start + END] == 0) & (row + 1 < room)
        if not going.all():
            left = left[decoder.compact(going)]
