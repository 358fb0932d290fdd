"""Drawing row by row from the decoder, many drawings at once."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from doodlelib.fast.parallel import in_parts, raise_if_given_up
from doodlelib.models.network import SketchNet
from doodlelib.models.steps import START, Steps
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
        from doodlelib.fast.decoder import CompiledSteps as make  # Numba: where it is needed
    return make(net, net.condition(z, words))


@torch.no_grad()
def sample(
    steps: Steps,
    *,
    temperature: float,
    time_temperature: float,
    generator: torch.Generator | None,
) -> list[Float[np.ndarray, "n 6"]]:
    """Draw on until each drawing has ended or holds `max_seq_len` points.

    Where one ends, one that waits takes its place, so that long ones do not hold short ones; on a
    processor each thread has drawings of its own. Under `torch.autocast` matrix products are in
    half precision.

    Args:
        steps: From `start`, perhaps after a beginning. Used up.
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
    begun, numbers = steps.begun.numpy(force=True), _numbers(steps, generator)
    drawn = np.zeros((steps.size, 2 + len(begun) + numbers.shape[1], 6), dtype=begun.dtype)
    drawn[..., PEN_COLUMNS.start + END] = 1
    drawn[:, 0] = START
    drawn[:, 1 : len(begun) + 1] = begun

    def draw(part: slice) -> None:
        own, first = drawn[part], len(begun) + 1
        some = steps.part(part)
        at_once = some.at_once or some.size
        for active, row, new in _rows(some, numbers[part], temperature, time_temperature, at_once):
            own[active, first + row] = new

    if numbers.device.type == "cpu":
        in_parts(draw, steps.size, wide=steps.wide)
    else:
        draw(slice(0, steps.size))
    ends = (drawn[..., PEN_COLUMNS.start + END] == 1).argmax(axis=1)
    return [one[: stop + 1] for one, stop in zip(drawn, ends, strict=True)]


@torch.no_grad()
def rows(
    steps: Steps,
    *,
    temperature: float,
    time_temperature: float,
    generator: torch.Generator | None,
) -> Iterator[tuple[Int64[np.ndarray, " n"], Float[np.ndarray, "n 6"]]]:
    """The same, a row of each drawing at a time, as soon as it is drawn.

    Yields:
        Which drawings are still going on, and the next row of each; an end row is its last.
    """
    numbers = _numbers(steps, generator)
    for active, _, new in _rows(steps, numbers, temperature, time_temperature, steps.size):
        yield active, new


def _numbers(steps: Steps, generator: torch.Generator | None) -> Float[Tensor, "N T 6"]:
    """See `Steps.next`; for all rows that may come, so that each drawing has its own."""
    room = max(0, steps.net.config.max_seq_len - len(steps.begun))
    numbers = steps.begun.new_empty(steps.size, room, 6)
    numbers[..., :3].uniform_(generator=generator)
    numbers[..., 3:].normal_(generator=generator)
    return numbers


def _rows(
    steps: Steps,
    numbers: Float[Tensor, "N T 6"],
    temperature: float,
    time_temperature: float,
    at_once: int,
) -> Iterator[tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], Float[np.ndarray, "n 6"]]]:
    """Drawings under way, at most `at_once`; which row of each it is, and that row."""
    if not (temperature >= 0 and time_temperature >= 0):
        raise ValueError(f"temperatures must be >= 0, not {temperature} and {time_temperature}")
    size, room = numbers.shape[:2]
    numbers = numbers.flatten(0, 1)
    left = np.arange(size if room else 0)  # as they lie in `steps`: those under way are first
    number = np.zeros(size, dtype=np.int64)  # of each drawing's next row
    while len(left):
        active = left[:at_once]
        row = number[active]
        raise_if_given_up()
        new = steps.next(numbers, active * room + row, temperature, time_temperature)
        yield active, row, new
        number[active] += 1
        going = np.ones(len(left), dtype=bool)
        going[: len(active)] = (new[:, PEN_COLUMNS.start + END] == 0) & (row + 1 < room)
        if not going.all():
            into, out_of, count = _fill(going)
            left = left.copy()
            left[into] = left[out_of]
            left = left[:count]
            steps.keep(into, out_of, count)


def _fill(
    going: Bool[np.ndarray, " B"],
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], int]:
    """How to close the gaps with the fewest moves: into where, out of where, how many stay."""
    count = int(going.sum())
    into = np.flatnonzero(~going[:count])
    return into, np.flatnonzero(going[count:]) + count, count
