"""A store and a configuration to a training: what notebook 03 shows step by step, in one call."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from doodlelib import train
from doodlelib.batches import StrokeBatches
from doodlelib.config import RetimeConfig, VAEConfig
from doodlelib.dataset import load_split, read_store
from doodlelib.retime import Retimer
from doodlelib.store import Split
from doodlelib.vae import SketchVAE

KINDS: dict[str, Any] = {"rnn": VAEConfig, "retime": RetimeConfig}


def train_on(
    store: Path,
    *,
    config: VAEConfig | RetimeConfig,
    device: torch.device | str = "cpu",
    seed: int = 0,
    **options: Any,
) -> Iterator[train.Row]:
    """Train the model that `config` describes on the drawings of a store.

    Args:
        store: See `dataset.prepare`.
        config: Of the sketch VAE or the retimer.
        device: Where to train.
        seed: Of everything random.
        **options: The others of `train.fit`, but for the batches; errors and rows are its own.
    """
    splits = {part: load_split(store, part) for part in ("train", "valid")}
    settings = read_store(store)["settings"]
    torch.manual_seed(seed)
    known: dict[str, Any] = {
        "words": splits["train"].classes,
        "scale": splits["train"].scale,
        "simplification": {key: settings[key] for key in ("method", "epsilon", "epsilon_time")},
    }
    is_vae = isinstance(config, VAEConfig)
    model: Any = SketchVAE(config, **known) if is_vae else Retimer(config, **known)
    return train.fit(
        model.to(device),
        train_batches=lambda epoch: batches(splits["train"], config, seed=seed, epoch=epoch).load(
            num_workers=config.num_workers
        ),
        valid_batches=lambda: batches(splits["valid"], config, seed=seed, epoch=None).load(),
        seed=seed,
        key_id=splits["train"].key_id,
        **options,
    )


def batches(
    split: Split, config: VAEConfig | RetimeConfig, *, seed: int, epoch: int | None
) -> StrokeBatches:
    """An epoch's batches, augmented; None: those for validation, as they are."""
    augmented = epoch is not None
    own: dict[str, Any]
    if isinstance(config, VAEConfig):
        own = {"drop_prob": config.augment_stroke_prob * augmented}
    else:
        own = {"rdp_prob": config.rdp_prob * augmented, "timed_only": True}
    return StrokeBatches(
        split,
        batch_size=config.batch_size,
        max_seq_len=config.max_seq_len,
        seed=seed,
        epoch=epoch or 0,
        scale_factor=config.random_scale_factor * augmented,
        flip_prob=config.flip_prob * augmented,
        **own,
    )
