"""A sketch VAE small enough to test with."""

from typing import Any

import torch

from doodlelib.config import VAEConfig, read_config
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import Scale

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
    scale = Scale(xy=30.0, segment_mean=4.5, segment_std=0.9, pause_mean=6.0, pause_std=0.8)
    return SketchVAE(config, words=["cat", "dog"], scale=scale, simplification={})
