"""Drawing row by row from the decoder, many drawings at once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from doodlelib import mdn
from doodlelib.inputs import origin
from doodlelib.network import SketchNet
from doodlelib.strokes import DRAWN, END, LIFTED, PEN_COLUMNS

START = torch.eye(6)[PEN_COLUMNS.start + DRAWN]


@torch.no_grad()
def start(
    net: SketchNet,
    z: Float[Tensor, "N Z"],
    words: Int64[Tensor, " N"],
    *,
    compiled: bool = True,
) -> "Steps":
    """The decoder at the first point of one drawing from each z.

    Args:
        net: Its decoder is used.
        z: Latents.
        words: Index of each drawing's word.
        compiled: On a CPU take the compiled steps, which draw the same.

    Raises:
        ValueError: z has the wrong size.
    """
    if z.ndim != 2 or z.shape[1] != net.config.latent_size:
        raise ValueError(f"z has shape (N, {net.config.latent_size}), not {tuple(z.shape)}")
    net.eval()
    make = Steps
    if compiled and z.device.type == "cpu":
        from doodlelib.stepper import CompiledSteps as make  # Numba: where it is needed
    return make(net, net.condition(z, words))


def sample(steps: "Steps", **options: Any) -> list[Float[np.ndarray, "n 6"]]:
    """Draw on until each drawing has ended or holds `max_seq_len` points.

    Arguments and errors as `rows`.

    Returns:
        stroke-6 of each drawing, model units, with start and end row. One that did not end has
        `max_seq_len` points.
    """
    begun = steps.begun
    drawn = begun.new_zeros(steps.size, 2 + max(steps.net.config.max_seq_len, len(begun)), 6)
    drawn[..., PEN_COLUMNS.start + END] = 1
    drawn[:, 0] = START
    drawn[:, 1 : len(begun) + 1] = begun
    for number, (active, new) in enumerate(rows(steps, **options), start=len(begun) + 1):
        drawn[active, number] = new
    ends = (drawn[..., PEN_COLUMNS.start + END] == 1).int().argmax(dim=1).tolist()
    return [one[: stop + 1] for one, stop in zip(drawn.numpy(force=True), ends, strict=True)]


@torch.no_grad()
def rows(
    steps: "Steps",
    *,
    temperature: float,
    time_temperature: float,
    generator: torch.Generator | None,
) -> Iterator[tuple[Int64[Tensor, " n"], Float[Tensor, "n 6"]]]:
    """The same, a row of each drawing at a time, as soon as it is drawn.

    A drawing that has ended leaves the batch, so that long ones do not hold short ones. Under
    `torch.autocast` matrix products are in half precision.

    Args:
        steps: From `start`, perhaps after a beginning. Used up.
        temperature: Of pen and position: logits are divided by it, variances multiplied; 0 takes
            the likeliest of everything.
        time_temperature: The same for the time.
        generator: Source of randomness, on the network's device.

    Yields:
        Which drawings are still going on, and the next row of each; an end row is its last.

    Raises:
        ValueError: A temperature is negative.
    """
    if not (temperature >= 0 and time_temperature >= 0):
        raise ValueError(f"temperatures must be >= 0, not {temperature} and {time_temperature}")
    begun = steps.begun
    active = torch.arange(steps.size, device=begun.device)
    for _ in range(len(begun), steps.net.config.max_seq_len):
        chance = begun.new_empty(len(active), 3).uniform_(generator=generator)
        noise = begun.new_empty(len(active), 3).normal_(generator=generator)
        new = steps.next(chance, noise, temperature, time_temperature)
        yield active, new
        going = new[:, PEN_COLUMNS.start + END] == 0
        if not going.all():
            into, out_of, count = _fill(going)
            active = active.clone()
            active[into] = active[out_of]
            active = active[:count]
            steps.keep(into, out_of, count)
            if not count:
                return


class Steps:
    """The decoder's steps through `SketchNet.step`: on any device, and plain to read.

    Args:
        net: In evaluation mode.
        condition: See `SketchNet.condition`.

    Attributes:
        net: Likewise.
        begun: (T, 6) rows of the beginning that all drawings share; the first is `START`.
    """

    def __init__(self, net: SketchNet, condition: Float[Tensor, "B C"]) -> None:
        self.net, self.condition = net, condition
        self.begun = START[None].to(condition)
        self.rows = self.begun.expand(len(condition), -1)  # the last of each, not yet read
        self.place, self.states = origin(self.rows[:, None]), net.first_states(condition)

    @property
    def size(self) -> int:
        """Number of drawings."""
        return len(self.rows)

    def follow(self, rows: Float[Tensor, "T 6"]) -> Float[Tensor, " B"]:
        """Lengthen the beginning, before anything is drawn.

        Args:
            rows: Moves, of every drawing alike; at least one.

        Returns:
            Log-likelihood of `rows` in each drawing, nats in model units.
        """
        read, rows = torch.cat([self.rows[:1], rows[:-1]]), rows.expand(self.size, -1, -1)
        logits, output = self._step(read.expand(self.size, -1, -1))
        self.begun, self.rows = torch.cat([self.begun, rows[0]]), rows[:, -1]
        mixture = self.net.mixture(output, rows[..., PEN_COLUMNS.start + LIFTED] == 1)
        return mdn.row_nats(logits, mixture, rows).sum(1)

    def next(
        self,
        chance: Float[Tensor, "B 3"],
        noise: Float[Tensor, "B 3"],
        temperature: float,
        time_temperature: float,
    ) -> Float[Tensor, "B 6"]:
        """The rows that follow; where a drawing ends, its end row.

        Args:
            chance: Uniform numbers that choose the pen event, the component of the move and that
                of its time.
            noise: Standard normal numbers for dx, dy and the time.
            temperature: See `rows`.
            time_temperature: See `rows`.
        """
        logits, output = self._step(self.rows[:, None])
        event = mdn.choose(logits[:, 0], temperature=temperature, chance=chance[:, 0])
        mixture = self.net.mixture(output[:, 0], event == LIFTED)
        xy = mdn.sample_position(
            mixture, temperature=temperature, chance=chance[:, 1], noise=noise[:, :2]
        )
        time = mdn.sample_time(
            mixture, xy, temperature=time_temperature, chance=chance[:, 2], noise=noise[:, 2]
        )
        move = torch.cat([xy, time[:, None]], dim=-1) * (event != END)[:, None]
        pen = torch.nn.functional.one_hot(event, 3)
        self.rows = torch.cat([move, pen.to(move.dtype)], dim=-1)
        return self.rows

    def take(self, order: Int64[Tensor, " n"]) -> None:
        """Go on with the drawings of these numbers; with one several times, if it is there so."""
        self.rows, self.condition = self.rows[order], self.condition[order]
        self.place = self.place.take(order)
        self.states = [(h[order], c[order]) for h, c in self.states]

    def keep(self, into: Int64[Tensor, " n"], out_of: Int64[Tensor, " n"], count: int) -> None:
        """Put the drawings `out_of` in the place of those `into`, and drop all from `count` on."""
        order = torch.arange(count, device=self.rows.device)
        order[into] = out_of
        self.take(order)

    def _step(
        self, rows: Float[Tensor, "B T 6"]
    ) -> tuple[Float[Tensor, "B T 3"], Float[Tensor, "B T K M 9"]]:
        logits, output, self.place, self.states = self.net.step(
            rows,
            timed=torch.ones(len(rows), dtype=torch.bool, device=rows.device),
            condition=self.condition,
            place=self.place,
            states=self.states,
        )
        return logits, output


def _fill(going: Bool[Tensor, " B"]) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"], int]:
    """How to close the gaps with the fewest moves: into where, out of where, how many stay."""
    count = int(going.sum())
    into = (~going[:count]).nonzero()[:, 0]
    return into, going[count:].nonzero()[:, 0] + count, count
