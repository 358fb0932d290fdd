"""Drawing row by row from the decoder, many drawings at once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from doodlelib import mdn
from doodlelib.inputs import Place, origin
from doodlelib.lstm import State
from doodlelib.network import SketchNet
from doodlelib.strokes import DRAWN, END, LIFTED, PEN_COLUMNS

START = torch.eye(6)[PEN_COLUMNS.start + DRAWN]


def sample(
    net: SketchNet,
    z: Float[Tensor, "N Z"],
    words: Int64[Tensor, " N"],
    *,
    begun: Float[Tensor, "T 6"] | None = None,
    **options: Any,
) -> list[Float[np.ndarray, "n 6"]]:
    """Draw one drawing from each z, until each has ended or holds `max_seq_len` points.

    Arguments and errors as `rows`.

    Returns:
        stroke-6 of each drawing, model units, with start and end row. One that did not end has
        `max_seq_len` points.
    """
    first = START[None] if begun is None else begun[1:-1]
    drawn = z.new_zeros(len(z), 2 + max(net.config.max_seq_len, len(first)), 6)
    drawn[..., PEN_COLUMNS.start + END] = 1
    drawn[:, 0] = START
    drawn[:, 1 : len(first) + 1] = first
    coming = enumerate(rows(net, z, words, begun=begun, **options), start=len(first) + 1)
    for number, (active, new) in coming:
        drawn[active, number] = new
    ends = (drawn[..., PEN_COLUMNS.start + END] == 1).int().argmax(dim=1).tolist()
    return [one[: stop + 1] for one, stop in zip(drawn.numpy(force=True), ends, strict=True)]


@torch.no_grad()
def rows(
    net: SketchNet,
    z: Float[Tensor, "N Z"],
    words: Int64[Tensor, " N"],
    *,
    temperature: float,
    time_temperature: float,
    generator: torch.Generator | None,
    begun: Float[Tensor, "T 6"] | None = None,
    compiled: bool = True,
) -> Iterator[tuple[Int64[Tensor, " n"], Float[Tensor, "n 6"]]]:
    """The same, a row of each drawing at a time, as soon as it is drawn.

    A drawing that has ended leaves the batch, so that long ones do not hold short ones. Under
    `torch.autocast` matrix products are in half precision.

    Args:
        net: Its decoder is used.
        z: Latents.
        words: Index of each drawing's word.
        temperature: Of pen and position: logits are divided by it, variances multiplied; 0 takes
            the likeliest of everything.
        time_temperature: The same for the time.
        generator: Source of randomness, on the network's device.
        begun: stroke-6 of a beginning that all drawings share, with its start and end rows.
        compiled: On a CPU take the compiled steps, which draw the same.

    Yields:
        Which drawings are still going on, and the next row of each; an end row is its last.

    Raises:
        ValueError: A temperature is negative, or z has the wrong size.
    """
    if not (temperature >= 0 and time_temperature >= 0):
        raise ValueError(f"temperatures must be >= 0, not {temperature} and {time_temperature}")
    if z.ndim != 2 or z.shape[1] != net.config.latent_size:
        raise ValueError(f"z has shape (N, {net.config.latent_size}), not {tuple(z.shape)}")
    net.eval()
    first = (START[None].to(z) if begun is None else begun[1:-1]).expand(len(z), -1, -1)
    condition, place = net.condition(z, words), origin(first)
    states = net.first_states(condition)
    if first.shape[1] > 1:
        timed = torch.ones(len(z), dtype=torch.bool, device=z.device)
        *_, place, states = net.step(
            first[:, :-1], timed=timed, condition=condition, place=place, states=states
        )
    make = Steps
    if compiled and z.device.type == "cpu":
        from doodlelib.stepper import CompiledSteps as make  # Numba: where it is needed
    steps = make(
        net,
        first[:, -1],
        condition=condition,
        place=place,
        states=states,
        temperature=temperature,
        time_temperature=time_temperature,
    )
    active = torch.arange(len(z), device=z.device)
    for _ in range(first.shape[1], net.config.max_seq_len):
        chance = z.new_empty(len(active), 3).uniform_(generator=generator)
        noise = z.new_empty(len(active), 3).normal_(generator=generator)
        new = steps.next(chance, noise)
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
        rows: The last row of each drawing.
        condition: See `SketchNet.condition`.
        place: Before that row.
        states: Likewise.
        temperature: See `sample`.
        time_temperature: See `sample`.
    """

    def __init__(
        self,
        net: SketchNet,
        rows: Float[Tensor, "B 6"],
        *,
        condition: Float[Tensor, "B C"],
        place: Place,
        states: list[State],
        temperature: float,
        time_temperature: float,
    ) -> None:
        self.net, self.rows, self.condition = net, rows, condition
        self.place, self.states = place, states
        self.temperature, self.time_temperature = temperature, time_temperature

    def next(
        self, chance: Float[Tensor, "B 3"], noise: Float[Tensor, "B 3"]
    ) -> Float[Tensor, "B 6"]:
        """The rows that follow; where a drawing ends, its end row.

        Args:
            chance: Uniform numbers that choose the pen event, the component of the move and that
                of its time.
            noise: Standard normal numbers for dx, dy and the time.
        """
        logits, output, self.place, self.states = self.net.step(
            self.rows[:, None],
            timed=torch.ones(len(self.rows), dtype=torch.bool, device=self.rows.device),
            condition=self.condition,
            place=self.place,
            states=self.states,
        )
        event = mdn.choose(logits[:, 0], temperature=self.temperature, chance=chance[:, 0])
        mixture = self.net.mixture(output[:, 0], event == LIFTED)
        xy = mdn.sample_position(
            mixture, temperature=self.temperature, chance=chance[:, 1], noise=noise[:, :2]
        )
        time = mdn.sample_time(
            mixture, xy, temperature=self.time_temperature, chance=chance[:, 2], noise=noise[:, 2]
        )
        move = torch.cat([xy, time[:, None]], dim=-1) * (event != END)[:, None]
        pen = torch.nn.functional.one_hot(event, 3)
        self.rows = torch.cat([move, pen.to(move.dtype)], dim=-1)
        return self.rows

    def keep(self, into: Int64[Tensor, " n"], out_of: Int64[Tensor, " n"], count: int) -> None:
        """Put the drawings `out_of` in the place of those `into`, and drop all from `count` on."""
        order = torch.arange(count, device=self.rows.device)
        order[into] = out_of
        self.rows, self.condition = self.rows[order], self.condition[order]
        self.place = self.place.take(order)
        self.states = [(h[order], c[order]) for h, c in self.states]


def _fill(going: Bool[Tensor, " B"]) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"], int]:
    """How to close the gaps with the fewest moves: into where, out of where, how many stay."""
    count = int(going.sum())
    into = (~going[:count]).nonzero()[:, 0]
    return into, going[count:].nonzero()[:, 0] + count, count
