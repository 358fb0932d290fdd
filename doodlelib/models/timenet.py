"""The network of the retimer: from a shape and the times so far to the time of the next move.

B drawing, T row, M mixture component.

Source: log-normal mixtures of time, Shchur et al. 2020 (arXiv 1909.12127); the rest is new here.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from doodlelib.config import RetimeConfig
from doodlelib.models import mdn
from doodlelib.models.lstm import LSTM, BiLSTM, Dropout, FusedLayer, State
from doodlelib.models.network import NUM_FEATURES
from doodlelib.strokes import DT, PEN_COLUMNS, PEN_UP

GEOMETRY = 3  # inputs beside those of `inputs`: direction of the move, log of its distance
PAST = 5  # inputs about the times so far, see `Retimer._past`
OWN = NUM_FEATURES + GEOMETRY
LEAST_STD = 0.05  # of a component, in standardised log time

Mixture = tuple[Float[Tensor, "B T M"], Float[Tensor, "B T M"], Float[Tensor, "B T M"]]


class TimeNet(nn.Module):
    """One of the networks: sees a shape, and predicts the time of each move.

    Args:
        config: Of the retimer.
        read: Numbers a row that a reader gives; 0: there is none.
    """

    def __init__(self, config: RetimeConfig, *, read: int = 0) -> None:
        super().__init__()
        self.num_modes = config.num_modes
        self.note = None
        if read:
            self.note = nn.Sequential(
                Dropout(config.dropout), nn.Linear(read, config.read_size), nn.Tanh()
            )
        own = OWN + config.read_size * (read > 0)
        stack = {"layers": 1, "dropout": config.dropout, "layer": FusedLayer}
        self.shape = BiLSTM(own, config.hidden_size, **stack)
        self.course = LSTM(2 * config.hidden_size + own + PAST, config.hidden_size, **stack)
        self.head = nn.Linear(config.hidden_size, 2 * config.num_modes * 4)

    def see(
        self,
        own: Float[Tensor, "B T I"],
        read: Float[Tensor, "B T R"] | None,
        lengths: Int64[Tensor, " B"],
    ) -> Float[Tensor, "B T C"]:
        """What the shape tells of each move: its own geometry, and what lies before and after."""
        if self.note and read is not None:
            own = torch.cat([own, self.note(read)], dim=-1)
        return torch.cat([self.shape(own, lengths)[0], own], dim=-1)

    def first_states(self, like: Tensor) -> list[State]:
        """Before the first move of each drawing."""
        zero = like.new_zeros(len(like), self.course.hidden_size)
        return [(zero, zero)]

    def forward(
        self,
        seen: Float[Tensor, "B T C"],
        past: Float[Tensor, "B T 5"],
        rows: Float[Tensor, "B T 6"],
        states: list[State],
    ) -> tuple[Mixture, list[State]]:
        """Log weights, means and standard deviations for the kind of each of `rows`; last states.

        Args:
            seen: Of `see`, for the same moves.
            past: Of `Retimer._past`, for the moves before them.
            rows: The moves; their times are not looked at.
            states: Before the first of them.
        """
        output, states = self.course(torch.cat([seen, past], dim=-1), states)
        with torch.autocast(rows.device.type, enabled=False):
            values = self.head(output.float()).unflatten(-1, (2, self.num_modes, 4))
            lifted = (rows[..., PEN_COLUMNS.start + PEN_UP] > 0.5)[..., None, None]
            values = torch.where(lifted, values[..., 1, :, :], values[..., 0, :, :])
            logits, mean, slope, raw_std = values.unbind(-1)
            mean = mean + slope * mdn.log_distance(rows[..., :DT])[..., None]
            std = nn.functional.softplus(raw_std) + LEAST_STD
        return (logits.log_softmax(-1), mean, std), states
