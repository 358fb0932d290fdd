"""A sketch VAE small enough to test with, a network that draws much, and a prefix for it."""

from typing import Any

import torch

from doodlelib.config import VAEConfig, read_config
from doodlelib.models.network import SketchNet
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import END, PEN_COLUMNS, Scale

SCALE = Scale(xy=30.0, segment_mean=4.5, segment_std=0.9, pause_mean=6.0, pause_std=0.8)
SMALL = {
    "latent_size": 8,
    "enc_hidden_size": 8,
    "dec_hidden_size": 16,
    "num_gmm_modes": 3,
    "max_seq_len": 20,
}


def make_vae(**overrides: Any) -> SketchVAE:
    torch.manual_seed(0)
    values: dict[str, Any] = SMALL | {"class_conditioning": True} | overrides
    config = read_config(VAEConfig, **values)
    return SketchVAE(config, words=["cat", "dog"], scale=SCALE, simplification={})


def make_net(**overrides: Any) -> SketchNet:
    """With weights large enough for every part of it to count, and a pen that ends seldom."""
    torch.manual_seed(0)
    values = SMALL | {"dec_hidden_size": 24, "num_gmm_modes": 4, "max_seq_len": 30} | overrides
    net = SketchNet(read_config(VAEConfig, **values), words=["cat", "dog"], scale=SCALE).eval()
    with torch.no_grad():
        for part in (net.decoder, net.head, net.to_state):
            for weight in part.parameters():
                weight.add_(0.3 * torch.randn_like(weight))
        net.head.bias[END] -= 1
    return net


def make_prefix(dtype: torch.dtype) -> torch.Tensor:
    """stroke-6 of four points in two strokes, with start and end row."""
    rows = torch.zeros(6, 6, dtype=dtype)
    rows[:, PEN_COLUMNS.start] = 1
    rows[3, PEN_COLUMNS] = torch.tensor([0, 1, 0], dtype=dtype)
    rows[-1, PEN_COLUMNS] = torch.tensor([0, 0, 1], dtype=dtype)
    rows[2:-1, :3] = torch.randn(3, 3, dtype=dtype)
    return rows
