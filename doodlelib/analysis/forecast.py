"""The distribution that the VAE predicts for one next move of a drawing, on a grid, for plots."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from doodlelib.models import mdn
from doodlelib.models.vae import SketchVAE
from doodlelib.simplify import simplify
from doodlelib.strokes import DT, PEN_UP, Drawing, from_stroke4, to_stroke4

MARGIN = 120.0  # px by which the grid exceeds the drawing's bounding box; moves seldom go farther


@dataclass(frozen=True)
class NextMove:
    """Prediction for one move, given the drawing before it and the z of the drawing's geometry."""

    before: Drawing  # up to the move, px from its first point
    target: Float[np.ndarray, "2"]  # where the move ends, likewise
    pen: Float[np.ndarray, "3"]  # probabilities of pen down, pen up and end of drawing
    position: Float[np.ndarray, "S S"]  # density per px^2 of its end, given the pen; rows run down
    extent: tuple[float, float, float, float]  # left, right, bottom and top of that, px
    times: Float[np.ndarray, " n"]  # ms, evenly spaced on a log axis
    time: Float[np.ndarray, " n"]  # density at those, per unit of the natural log, given its end
    true_time: float  # ms; NaN in an untimed drawing


@torch.no_grad()
def forecast(
    vae: SketchVAE, drawing: Sequence, point: int, *, word: str | None = None, size: int = 240
) -> NextMove:
    """What `vae` predicts for the move to point number `point` of a drawing, from the one before.

    The drawing is simplified first, as the training drawings were; `point` counts over all strokes
    after that, and 1 is the first move's end. `size` is that of the grid of positions.

    Raises:
        ValueError: There is no such point, or the word is unknown.
    """
    rows = to_stroke4(simplify(drawing, **vae.simplification))
    if not 1 <= point < len(rows):
        raise ValueError(f"point must be from 1 to {len(rows) - 1}, not {point}")
    z = vae.encode([drawing], see_time=False)
    targets, event, logits, mixture = vae.predict(
        vae.to_batch([drawing], words=vae.word_indices(word, 1)), z
    )
    step, scale = point - 1, vae.scale
    mixture = mdn.Mixture(**{name: value[:, step] for name, value in vars(mixture).items()})
    points = rows[:, :2].cumsum(0)
    low, high = points.min(0) - MARGIN, points.max(0) + MARGIN
    x, y = np.linspace(low, high, size).T
    grid = np.stack(np.meshgrid(x, y), axis=-1) - points[step]
    moves = torch.as_tensor(grid / scale.xy, dtype=z.dtype, device=z.device)
    position = mdn.position_terms(mixture, moves.flatten(0, 1)).logsumexp(-1).exp() / scale.xy**2
    kind = "pause" if event[0, step] == PEN_UP else "segment"
    mean, std = (getattr(scale, f"{kind}_{name}") for name in ("mean", "std"))
    standardised = torch.linspace(-5, 5, 300, device=z.device)
    move = targets[:, step, :DT].expand(len(standardised), -1)
    _, time = mdn.log_prob(mixture, move, standardised)
    return NextMove(
        before=from_stroke4(rows[:point]),
        target=points[point],
        pen=logits[0, step].softmax(-1).numpy(force=True),
        position=position.view(size, size).numpy(force=True),
        extent=(x[0], x[-1], y[-1], y[0]),
        times=np.exp(mean + std * standardised.numpy(force=True)),
        time=time.exp().numpy(force=True) / std,
        true_time=float(rows[point, DT]),
    )
