"""Log-likelihoods of a drawing's events: pen states, positions, times.

B drawing, T step.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

EVENTS = ("pen", "position", "segment_time", "pause_time")


@dataclass(frozen=True)
class LogLikelihood:
    """Log-likelihood of one drawing's events in nats, and the number of events.

    Sums over the drawing; positions as a density in px of the 255 box, times as one in ms, given
    the position of the same step. An untimed drawing has no time events.
    """

    pen: float
    position: float
    segment_time: float
    pause_time: float
    pen_count: int
    position_count: int
    segment_time_count: int
    pause_time_count: int


@dataclass(frozen=True)
class StepLogLikelihood:
    """Log-likelihood of each step of a batch in nats; 0 where the step has no such event."""

    pen: Float[Tensor, "B T"]  # log p(pen state)
    position: Float[Tensor, "B T"]  # log p(dx, dy | pen state) of moves, density in px
    segment_time: Float[Tensor, "B T"]  # log p(dt | pen down, dx, dy) of timed moves, in ms
    pause_time: Float[Tensor, "B T"]  # log p(dt | pen up, dx, dy) of timed moves, in ms
    counted: dict[str, Bool[Tensor, "B T"]]  # which steps have the event, of each of the four

    def events(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Log-likelihood and count of each kind of event, by name, each summed over steps, (B,)."""
        return {name: (getattr(self, name).sum(1), self.counted[name].sum(1)) for name in EVENTS}

    def by_drawing(self) -> list[LogLikelihood]:
        """The sums and counts of each drawing."""
        values, counts = zip(*self.events().values(), strict=True)
        columns = [column.tolist() for column in (*values, *counts)]
        return [LogLikelihood(*row) for row in zip(*columns, strict=True)]
