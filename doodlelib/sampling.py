"""Drawing row by row from the decoder, many drawings at once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from doodlelib.network import SketchNet
from doodlelib.steps import START, Steps
from doodlelib.strokes import END, PEN_COLUMNS


@torch.no_grad()
def start(
    net: SketchNet,
    z: Float[Tensor, "N Z"],
    words: Int64[Tensor, " N"],
    *,
    compiled: bool = True,
) -> Steps:
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


def sample(steps: Steps, **options: Any) -> list[Float[np.ndarray, "n 6"]]:
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
    steps: Steps,
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


def _fill(going: Bool[Tensor, " B"]) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"], int]:
    """How to close the gaps with the fewest moves: into where, out of where, how many stay."""
    count = int(going.sum())
    into = (~going[:count]).nonzero()[:, 0]
    return into, going[count:].nonzero()[:, 0] + count, count
