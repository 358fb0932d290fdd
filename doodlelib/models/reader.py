"""What a trained sketch VAE sees in a shape, move by move.

It learned from ten times as many drawings as carry a time: what is being drawn, what may come next,
and what nobody would have expected, where people hesitate.

B drawing, T row.
"""

import math
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from doodlelib.config import VAEConfig
from doodlelib.models import mdn
from doodlelib.models.network import SketchNet, input_features
from doodlelib.strokes import DT, PEN_COLUMNS, PEN_UP, Scale

SURPRISE = 2  # log-likelihoods of each row: of its pen event, and of its position
LEAST, MOST = -10.0, 5.0  # nats; beyond, it is only said that it was unlikely
PER_NATS = 5.0


class Reader(nn.Module):
    """The networks of a sketch VAE, which is told neither word nor time. Its weights rest.

    Args:
        config: Of the VAE.
        scale: Of the rows that are read.
    """

    def __init__(self, config: VAEConfig, *, scale: Scale) -> None:
        super().__init__()
        self.net = SketchNet(config, words=[], scale=scale).requires_grad_(False)
        self.size = (
            2 * config.enc_hidden_size + config.dec_hidden_size + SURPRISE + config.latent_size
        )
        self.train()

    @classmethod
    def of(cls, vae: SketchNet, *, scale: Scale) -> Self:
        """With the weights of `vae`, which may be trained on without it.

        Args:
            vae: Trained on drawings of the same unit.
            scale: Of the model that it reads for.
        """
        reader = cls(vae.config, scale=scale).to(vae.device)
        wanted = reader.net.state_dict()
        weights = {name: value for name, value in vae.state_dict().items() if name in wanted}
        weights["embed_word.weight"] = weights["embed_word.weight"][-1:]  # of no word
        weights |= {name: value for name, value in wanted.items() if name.startswith("exemplars")}
        reader.net.load_state_dict(weights)
        return reader

    def train(self, mode: bool = True) -> Self:
        """Never: nothing is dropped."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, rows: Float[Tensor, "B T 6"], lengths: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B T R"]:
        """Of each row: the encoder's states, with all of the shape in view; what the decoder had in
        mind before it, and how likely it held it; and z.

        Args:
            rows: stroke-6 in model units, without the start row; their times are not looked at.
            lengths: Points of each drawing; what is said of rows behind them is of no use.
        """  # noqa: D205
        net, hide = self.net, torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        x, _ = input_features(rows, see_time=hide, xy=net.scale.xy)
        seen, ends = net.encoder(x, lengths)
        z = net.to_mean(ends)
        condition = net.condition(z, net.word_indices(None, len(rows)))
        states = net.first_states(condition)
        hidden, *_ = net.hidden_states(rows[:, :-1], timed=hide, condition=condition, states=states)
        logits, output = net.output(hidden)
        told, xy = rows[:, 1:, PEN_COLUMNS], rows[:, 1:, :DT]
        pen = (logits.log_softmax(dim=-1) * told).sum(dim=-1)
        position = mdn.position_terms(net.mixture(output, told[..., PEN_UP] > 0.5), xy)
        nats = torch.stack([pen, position.logsumexp(dim=-1) - 2 * math.log(net.scale.xy)], dim=-1)
        before = torch.cat([hidden, nats.clamp(LEAST, MOST) / PER_NATS], dim=-1)
        before = F.pad(before, (0, 0, 1, 0))  # nobody foresaw the first
        return torch.cat([seen, before, z[:, None].expand(-1, rows.shape[1], -1)], dim=-1)
