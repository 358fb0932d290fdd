"""What the VAE expects of the next move in a drawing, on a grid, to be looked at.

S side of the grid of places, n time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from doodlelib.models import mdn
from doodlelib.models.vae import SketchVAE
from doodlelib.simplify import simplify
from doodlelib.strokes import DT, PEN_UP, Drawing, from_stroke4, to_stroke4

MARGIN = 25.0  # px that the grid reaches over the drawing's box


@dataclass(frozen=True)
class Forecast:
    """Of one move, told the drawing before it and its z (of the shape alone).

    Attributes:
        before: The drawing as it is before the move, px from its first point.
        goal: Where the move ends, likewise.
        pen: Probability that the move is drawn, that it is lifted, that the drawing has ended.
        place: Density per px^2 of where it ends, given whether it is drawn; rows run down.
        extent: Left, right, bottom and top of `place`, px from the drawing's first point.
        times: ms, evenly spread on a log axis.
        time: Density of how long it takes, per unit of the natural log, given where it ends.
        true_time: ms; NaN in an untimed drawing.
    """

    before: Drawing
    goal: Float[np.ndarray, "2"]
    pen: Float[np.ndarray, "3"]
    place: Float[np.ndarray, "S S"]
    extent: tuple[float, float, float, float]
    times: Float[np.ndarray, " n"]
    time: Float[np.ndarray, " n"]
    true_time: float


@torch.no_grad()
def forecast(
    vae: SketchVAE, drawing: Sequence, point: int, *, word: str | None = None, size: int = 120
) -> Forecast:
    """What `vae` expects of the move to a drawing's `point`, from 1, when it is at the one before.

    Args:
        vae: The model.
        drawing: Strokes; simplified as its training drawings were.
        point: Its number after that, over all strokes.
        word: What the model is told; none: nothing.
        size: Side of the grid of places.

    Raises:
        ValueError: There is no such point, or the word is unknown.
    """
    rows = to_stroke4(simplify(drawing, **vae.simplification))
    if not 1 <= point < len(rows):
        raise ValueError(f"point must be from 1 to {len(rows) - 1}, not {point}")
    z = vae.encode([drawing], see_time=False)
    batch = vae.to_batch([drawing], words=vae.word_indices(word, 1))
    targets, event, logits, mixture = vae.predict(batch, z)
    step, scale = point - 1, vae.scale
    mixture = mdn.Mixture(**{name: value[:, step] for name, value in vars(mixture).items()})
    positions = rows[:, :2].cumsum(0)
    low, high = positions.min(0) - MARGIN, positions.max(0) + MARGIN
    x, y = (np.linspace(low[axis], high[axis], size) for axis in (0, 1))
    grid = np.stack(np.meshgrid(x, y), axis=-1) - positions[step]
    places = torch.as_tensor(grid / scale.xy, dtype=z.dtype, device=z.device)
    place = mdn.position_terms(mixture, places.flatten(0, 1)).logsumexp(-1).exp() / scale.xy**2
    lifted = event[:, step] == PEN_UP
    spread = scale.pause_std if lifted else scale.segment_std
    middle = scale.pause_mean if lifted else scale.segment_mean
    standard = torch.linspace(-5, 5, 300, device=z.device)
    move = targets[:, step, :DT].expand(len(standard), -1)
    _, time = mdn.log_prob(mixture, move, standard)
    return Forecast(
        before=from_stroke4(rows[:point]),
        goal=positions[point],
        pen=logits[0, step].softmax(-1).numpy(force=True),
        place=place.view(size, size).numpy(force=True),
        extent=(x[0], x[-1], y[-1], y[0]),
        times=np.exp(middle + spread * standard.numpy(force=True)),
        time=time.exp().numpy(force=True) / spread,
        true_time=float(rows[point, DT]),
    )
