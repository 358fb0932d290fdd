"""The decoder row by row, in PyTorch: drawn, or told.

B drawing, T row, C condition.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from doodlelib.models import mdn
from doodlelib.models.network import SketchNet
from doodlelib.strokes import END, PEN_COLUMNS, PEN_DOWN, PEN_UP

START = torch.eye(6)[PEN_COLUMNS.start + PEN_DOWN]


class Steps:
    """The decoder's steps through `SketchNet.step`: on any device, and plain to read.

    Args:
        net: In evaluation mode.
        condition: See `SketchNet.condition`.

    Attributes:
        net: Likewise.
        begun: (T, 6) rows of the beginning that all drawings share; the first is `START`.
        at_once: How many drawings `next` draws; the others wait. None: all.
        wide: Whether a step is worth all of PyTorch's threads; see `threads.in_parts`.
    """

    at_once: int | None = None
    wide = False

    def __init__(self, net: SketchNet, condition: Float[Tensor, "B C"]) -> None:
        self.net, self.condition = net, condition
        self.begun = START[None].to(condition)
        self.rows = self.begun.expand(len(condition), -1)  # the last of each, not yet read
        self.pen = condition.new_zeros(len(condition), 2, 2)
        self.states = net.first_states(condition)

    @property
    def size(self) -> int:
        """Number of drawings."""
        return len(self.rows)

    @torch.no_grad()
    def follow(self, rows: Float[Tensor, "T 6"]) -> Float[Tensor, " B"]:
        """Lengthen the beginning, before anything is drawn.

        Args:
            rows: Moves, of every drawing alike; at least one.

        Returns:
            Log-likelihood of `rows` in each drawing, nats in model units.
        """
        read, rows = torch.cat([self.rows[:1], rows[:-1]]), rows.expand(self.size, -1, -1)
        logits, output = self._step(read.expand(self.size, -1, -1))
        self.begun, self.rows = torch.cat([self.begun, rows[0]]), rows[:, -1]
        mixture = self.net.mixture(output, rows[..., PEN_COLUMNS.start + PEN_UP] == 1)
        return mdn.row_log_likelihood(logits, mixture, rows).sum(1)

    def next(
        self,
        numbers: Float[Tensor, "M 6"],
        which: Int64[np.ndarray, " b"],
        temperature: float,
        time_temperature: float,
    ) -> Float[np.ndarray, "b 6"]:
        """The rows that follow in the first b drawings; where one ends, its end row.

        Args:
            numbers: At random: three uniform ones, which choose the pen event, the component of
                the move and that of its time, and three standard normal ones for dx, dy and the
                time.
            which: Of the `numbers` each drawing takes. There are b drawings, at most `at_once`.
            temperature: See `sampling.sample`.
            time_temperature: See `sampling.sample`.
        """
        logits, output = self._step(self.rows[:, None])
        chance, noise = numbers[torch.from_numpy(which).to(numbers.device)].chunk(2, dim=1)
        event = mdn.choose(logits[:, 0], temperature=temperature, chance=chance[:, 0])
        mixture = self.net.mixture(output[:, 0], event == PEN_UP)
        xy = mdn.sample_position(
            mixture, temperature=temperature, chance=chance[:, 1], noise=noise[:, :2]
        )
        time = mdn.sample_time(
            mixture, xy, temperature=time_temperature, chance=chance[:, 2], noise=noise[:, 2]
        )
        move = torch.cat([xy, time[:, None]], dim=-1) * (event != END)[:, None]
        pen = F.one_hot(event, 3)
        self.rows = torch.cat([move, pen.to(move.dtype)], dim=-1)
        return self.rows.numpy(force=True)

    def take(self, order: Int64[Tensor, " n"]) -> None:
        """Go on with the drawings of these numbers; with one several times, if it is there so."""
        self.rows, self.condition = self.rows[order], self.condition[order]
        self.pen = self.pen[order]
        self.states = [(h[order], c[order]) for h, c in self.states]

    def keep(
        self, into: Int64[np.ndarray, " n"], out_of: Int64[np.ndarray, " n"], count: int
    ) -> None:
        """Put the drawings `out_of` in the place of those `into`, and drop all from `count` on."""
        order = np.arange(count)
        order[into] = out_of
        self.take(torch.from_numpy(order).to(self.rows.device))

    def part(self, drawings: slice) -> "Steps":
        """Some of the drawings, by themselves."""
        new = copy.copy(self)
        new.take(torch.arange(self.size, device=self.rows.device)[drawings])
        return new

    def _step(
        self, rows: Float[Tensor, "B T 6"]
    ) -> tuple[Float[Tensor, "B T 3"], Float[Tensor, "B T K M 9"]]:
        hidden, self.pen, self.states = self.net.hidden_states(
            rows,
            timed=torch.ones(len(rows), dtype=torch.bool, device=rows.device),
            condition=self.condition,
            states=self.states,
            pen=self.pen,
        )
        return self.net.output(hidden)
