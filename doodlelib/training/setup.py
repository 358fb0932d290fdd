"""From a prepared store and a configuration to a model, its batches and its training."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from doodlelib.config import RetimeConfig, VAEConfig
from doodlelib.data.dataset import load_split, read_store
from doodlelib.data.store import Split
from doodlelib.models import checkpoint
from doodlelib.models.batch import collate_drawings
from doodlelib.models.prior import KEPT
from doodlelib.models.retimer import Retimer, ShapeFeatures
from doodlelib.models.vae import SketchVAE
from doodlelib.training import loop
from doodlelib.training.batches import StrokeBatches

ENCODE_BATCH = 200  # drawings


def train_on(
    store: Path,
    *,
    config: VAEConfig | RetimeConfig,
    device: torch.device | str = "cpu",
    seed: int = 0,
    reader: SketchVAE | None = None,
    **options: Any,
) -> Iterator[loop.Row]:
    """Train the model of `make_model` on a store; `options` and rows are those of `fit`."""
    splits = {part: load_split(store, part) for part in ("train", "valid")}
    model = make_model(config, store, seed=seed, reader=reader).to(device)
    return loop.fit(model, **loaders(splits, config, seed=seed), seed=seed, **options)


def make_model(
    config: VAEConfig | RetimeConfig, store: Path, *, seed: int, reader: SketchVAE | None = None
) -> Any:
    """A sketch VAE or a retimer, whichever `config` is of, for the words and scale of a store.

    `seed` is of the weights. `reader` is a VAE trained on this store (else ValueError), whose
    features of a drawing's geometry the retimer is given; its weights stay as they are.
    """
    described, split = read_store(store)["settings"], load_split(store)
    known: dict[str, Any] = {
        "words": split.classes,
        "scale": split.scale,
        "simplification": {key: described[key] for key in ("method", "epsilon", "epsilon_time")},
    }
    torch.manual_seed(seed)
    if isinstance(config, VAEConfig):
        if reader:
            raise ValueError("a sketch VAE takes no reader; it can be one, for a retimer")
        return SketchVAE(config, **known)
    if reader and not math.isclose(reader.scale.xy, split.scale.xy, rel_tol=1e-4):
        raise ValueError(
            f"the reader's unit is {reader.scale.xy} px, that of {store} {split.scale.xy}: it was "
            "trained on other drawings; take the VAE that was trained on this store"
        )
    made = ShapeFeatures.from_vae(reader, scale=split.scale) if reader else None
    return Retimer(config, **known, reader=made)


def loaders(
    splits: dict[str, Split], config: VAEConfig | RetimeConfig, *, seed: int
) -> dict[str, Any]:
    """The arguments of `fit` that describe the drawings, of a store's splits "train", "valid"."""
    train, valid = splits["train"], splits["valid"]
    return {
        "train_batches": lambda epoch: StrokeBatches(train, config, seed=seed, epoch=epoch).load(),
        "valid_batches": StrokeBatches(valid, config, seed=seed).load,
        "key_id": train.key_id,
    }


@torch.no_grad()
def fill_prior(path: Path, split: Split, *, seed: int = 0) -> None:
    """Fill the exemplar prior of a VAE's checkpoint with posteriors of the training split.

    Training fills it with the drawings it met last, augmented, some of them twice. Here each is
    encoded once, with its time masked, since the decoder is to find one. Timed drawings come first:
    they also have the points where the pen changed its speed, and z tells which there are. `seed`
    decides the choice among a word's drawings.
    """
    vae, training = checkpoint.read(path, SketchVAE)
    order = np.random.default_rng(seed).permutation(len(split))
    order = order[np.argsort(~split.timed[order], kind="stable")]
    order = order[(split.lengths[order] > 1) & (split.lengths[order] <= vae.config.max_seq_len)]
    chosen = np.concatenate(
        [order[split.words[order] == word][:KEPT] for word in range(len(split.classes))]
    )
    vae.eval()
    vae.exemplars.count.zero_()
    for some in np.array_split(chosen, np.arange(ENCODE_BATCH, len(chosen), ENCODE_BATCH)):
        rows, words = [split[index] for index in some.tolist()], split.words[some]
        batch = collate_drawings(rows, words=words.astype(int), scale=vae.scale)
        posterior = vae.posterior(batch, see_time=torch.zeros_like(batch.timed))
        vae.exemplars.update(batch.words, *posterior)
    checkpoint.save(path, vae, training=training)


def calibrate(path: Path, split: Split) -> None:
    """`Retimer.calibrate` a checkpoint on drawings that no training saw, if any has a time."""
    retimer, training = checkpoint.read(path, Retimer)
    if (split.timed & (split.lengths <= retimer.config.max_seq_len)).any():
        retimer.calibrate(StrokeBatches(split, retimer.config).load())
        checkpoint.save(path, retimer, training=training)
