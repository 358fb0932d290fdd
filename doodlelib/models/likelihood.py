"""What events cost: log-likelihoods, of each step and summed over each drawing.

B drawing, T step.
"""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

EVENTS = ("pen", "position", "segment_time", "pause_time")


@dataclass(frozen=True)
class LogLikelihood:
    """What one drawing's events cost, and how many there were.

    Attributes:
        pen, position, segment_time, pause_time: Sums of log-likelihood, nats. Positions as a
            density in px of the 255 box, times in ms given the position of the same step.
        pen_count, position_count, segment_time_count, pause_time_count: Numbers of the events. An
            untimed drawing has no time events.
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
class StepNats:
    """Log-likelihood of each step in nats; 0 where the step has no such event.

    Attributes:
        pen: log p(pen event).
        position: log p(dx, dy | pen event) of moves, density in px.
        segment_time, pause_time: log p(dt | pen event, dx, dy) of drawn and of lifted moves of
            timed drawings, density in ms.
        is_step, is_move, is_segment, is_pause: Which steps have the four.
    """

    pen: Float[Tensor, "B T"]
    position: Float[Tensor, "B T"]
    segment_time: Float[Tensor, "B T"]
    pause_time: Float[Tensor, "B T"]
    is_step: Bool[Tensor, "B T"]
    is_move: Bool[Tensor, "B T"]
    is_segment: Bool[Tensor, "B T"]
    is_pause: Bool[Tensor, "B T"]

    @classmethod
    def of_kinds(
        cls,
        pen: Float[Tensor, "B T"],
        position: Float[Tensor, "B T"],
        time: Float[Tensor, "B T"],
        *,
        is_step: Bool[Tensor, "B T"],
        is_move: Bool[Tensor, "B T"],
        is_lifted: Bool[Tensor, "B T"],
        timed: Bool[Tensor, " B"],
    ) -> Self:
        """From log-likelihoods that hold for each step as if it had all three."""
        is_timed = is_move & timed[:, None]
        is_segment, is_pause = is_timed & ~is_lifted, is_timed & is_lifted
        return cls(
            pen=torch.where(is_step, pen, 0),
            position=torch.where(is_move, position, 0),
            segment_time=torch.where(is_segment, time, 0),
            pause_time=torch.where(is_pause, time, 0),
            is_step=is_step,
            is_move=is_move,
            is_segment=is_segment,
            is_pause=is_pause,
        )

    def events(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Log-likelihood and count of each kind of event, by name, each summed over steps, (B,)."""
        nats = self.pen, self.position, self.segment_time, self.pause_time
        counts = self.is_step, self.is_move, self.is_segment, self.is_pause
        kinds = zip(EVENTS, nats, counts, strict=True)
        return {name: (nats.sum(1), count.sum(1)) for name, nats, count in kinds}

    def by_drawing(self) -> list[LogLikelihood]:
        """The sums and counts of each drawing."""
        events = self.events()
        columns = {name: nats.tolist() for name, (nats, _) in events.items()}
        columns |= {f"{name}_count": count.tolist() for name, (_, count) in events.items()}
        return [
            LogLikelihood(**dict(zip(columns, row, strict=True)))
            for row in zip(*columns.values(), strict=True)
        ]
