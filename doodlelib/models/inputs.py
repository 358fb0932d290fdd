"""What the LSTMs read at each step: the row, whether its time is known, and where the pen is.

Rows are moves, and a network that sees nothing else must add them up to know where it is. The
position (from the drawing's first point) and the way back to the stroke's first point are given
to it instead: closing a circle is then a matter of one step.

B drawing, T step.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from doodlelib.strokes import BOX, DT, LIFTED, PEN_COLUMNS

INPUTS = 11  # stroke-6, whether the time is known, position, way from the stroke's start


@dataclass(frozen=True)
class Place:
    """Where the pen is, in model units from the drawing's first point.

    Attributes:
        position: Now.
        stroke_start: When the stroke it is in began.
    """

    position: Float[Tensor, "B 2"]
    stroke_start: Float[Tensor, "B 2"]

    def take(self, kept: Int64[Tensor, " n"]) -> "Place":
        """Of the drawings with the numbers `kept`."""
        return Place(self.position[kept], self.stroke_start[kept])


def origin(rows: Float[Tensor, "B T 6"]) -> Place:
    """The place before the first of `rows`."""
    zero = rows.new_zeros(len(rows), 2)
    return Place(zero, zero)


def inputs(
    rows: Float[Tensor, "B T 6"], *, see_time: Bool[Tensor, " B"], place: Place, xy: float
) -> tuple[Float[Tensor, "B T 11"], Place]:
    """The inputs of some steps, and the place after them.

    Args:
        rows: stroke-6 in model units.
        see_time: Drawings whose time is shown; the others get 0.
        place: Before the first of `rows`.
        xy: The scale's px to one unit; places are given in halves of the 255 box.
    """
    position = place.position[:, None] + rows[..., :DT].cumsum(dim=1)
    lifted = rows[..., PEN_COLUMNS.start + LIFTED] > 0.5
    steps = torch.arange(rows.shape[1], device=rows.device)
    last = torch.where(lifted, steps, -1).cummax(dim=1).values[..., None]  # the stroke's first row
    begun = position.gather(1, last.clamp(min=0).expand(-1, -1, 2))
    start = torch.where(last >= 0, begun, place.stroke_start[:, None])
    flag = see_time[:, None, None].expand(*rows.shape[:2], 1).to(rows.dtype)
    parts = [
        rows[..., :DT],
        rows[..., DT : DT + 1] * flag,
        rows[..., PEN_COLUMNS],
        flag,
        position * (2 * xy / BOX),
        (position - start) * (2 * xy / BOX),
    ]
    return torch.cat(parts, dim=-1), Place(position[:, -1], start[:, -1])
