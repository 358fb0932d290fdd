"""Drawing row by row from the decoder, many drawings at once."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from doodlelib import mdn
from doodlelib.inputs import origin
from doodlelib.network import SketchNet
from doodlelib.strokes import DRAWN, DT, END, LIFTED, PEN_COLUMNS

MAX_TIME = 8.0  # standard deviations of log time: a pause of minutes, and no overflow


@torch.no_grad()
def sample(
    net: SketchNet,
    z: Float[Tensor, "N Z"],
    words: Int64[Tensor, " N"],
    *,
    temperature: float,
    time_temperature: float,
    generator: torch.Generator | None,
    begun: Float[Tensor, "T 6"] | None = None,
) -> list[Float[np.ndarray, "n 6"]]:
    """Draw one drawing from each z, until each has ended or holds `max_seq_len` points.

    A drawing that has ended leaves the batch, so that long ones do not hold short ones.

    Args:
        net: Its decoder is used.
        z: Latents.
        words: Index of each drawing's word.
        temperature: Of pen and position: logits are divided by it, variances multiplied; 0 takes
            the likeliest of everything.
        time_temperature: The same for the time.
        generator: Source of randomness, on the network's device.
        begun: stroke-6 of a beginning that all drawings share, with its start and end rows.

    Returns:
        stroke-6 of each drawing, model units, with start and end row. One that did not end has
        `max_seq_len` points.

    Raises:
        ValueError: A temperature is negative, or z has the wrong size.
    """
    if not (temperature >= 0 and time_temperature >= 0):
        raise ValueError(f"temperatures must be >= 0, not {temperature} and {time_temperature}")
    if z.ndim != 2 or z.shape[1] != net.config.latent_size:
        raise ValueError(f"z has shape (N, {net.config.latent_size}), not {tuple(z.shape)}")
    net.eval()
    start, end = (torch.eye(6, device=z.device)[PEN_COLUMNS.start + p] for p in (DRAWN, END))
    first = start[None] if begun is None else begun[1:-1]
    drawn = torch.empty(len(z), 2 + max(net.config.max_seq_len, len(first)), 6, device=z.device)
    drawn[:] = end
    drawn[:, 0] = start
    drawn[:, 1 : len(first) + 1] = first

    condition = net.condition(z, words)
    states = net.first_states(condition)
    rows = first.expand(len(z), *first.shape)
    place = origin(rows)
    active = torch.arange(len(z), device=z.device)
    for number in range(len(first) + 1, drawn.shape[1] - 1):
        timed = torch.ones(len(active), dtype=torch.bool, device=z.device)
        logits, output, place, states = net.step(
            rows, timed=timed, condition=condition, place=place, states=states
        )
        event = mdn.choose(logits[:, -1], temperature=temperature, generator=generator)
        going = event != END
        if not going.all():
            active, event, condition = active[going], event[going], condition[going]
            output, place = output[going], place.take(going)
            states = [(h[going], c[going]) for h, c in states]
            if not len(active):
                break
        mixture = net.mixture(output[:, -1], event == LIFTED)
        xy = mdn.sample_position(mixture, temperature=temperature, generator=generator)
        time = mdn.sample_time(mixture, xy, temperature=time_temperature, generator=generator)
        rows = torch.zeros(len(active), 1, 6, device=z.device)
        rows[:, 0, :DT] = xy
        rows[:, 0, DT] = time.clamp(-MAX_TIME, MAX_TIME)
        rows[:, 0, PEN_COLUMNS].scatter_(1, event[:, None], 1.0)
        drawn[active, number] = rows[:, 0]
    ends = (drawn[..., PEN_COLUMNS.start + END] == 1).int().argmax(dim=1).tolist()
    return [one[: stop + 1] for one, stop in zip(drawn.numpy(force=True), ends, strict=True)]
