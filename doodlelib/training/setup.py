"""A store and a configuration to a training: the parts of it, and all of it in one call."""

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
from doodlelib.models.reader import Reader
from doodlelib.models.retimer import Retimer
from doodlelib.models.vae import SketchVAE
from doodlelib.training import loop
from doodlelib.training.batches import StrokeBatches

REMEMBERED = 200  # drawings encoded at a time
KINDS: dict[str, Any] = {"rnn": VAEConfig, "retime": RetimeConfig}


def train_on(
    store: Path,
    *,
    config: VAEConfig | RetimeConfig,
    device: torch.device | str = "cpu",
    seed: int = 0,
    reader: SketchVAE | None = None,
    **options: Any,
) -> Iterator[loop.Row]:
    """Train the model that `config` describes on the drawings of a store.

    Args:
        store: See `dataset.prepare`.
        config: Of the sketch VAE or the retimer.
        device: Where to train.
        seed: Of everything random.
        reader: See `make_model`.
        **options: The others of `train.fit`, but for the batches; errors and rows are its own.
    """
    splits = {part: load_split(store, part) for part in ("train", "valid")}
    return loop.fit(
        make_model(config, store, seed=seed, reader=reader).to(device),
        **loaders(splits, config, seed=seed),
        seed=seed,
        **options,
    )


def make_model(
    config: VAEConfig | RetimeConfig, store: Path, *, seed: int, reader: SketchVAE | None = None
) -> Any:
    """The sketch VAE or the retimer that `config` describes, for a store, with new weights.

    A retimer is told what `reader`, trained on drawings of the same scale, sees in a shape; a
    resumed one goes on with the reader of its checkpoint.

    Raises:
        ValueError: The reader's scale is another, or a VAE is given one.
    """
    described, split = read_store(store)["settings"], load_split(store)
    known: dict[str, Any] = {
        "words": split.classes,
        "scale": split.scale,
        "simplification": {key: described[key] for key in ("method", "epsilon", "epsilon_time")},
    }
    torch.manual_seed(seed)
    is_vae = isinstance(config, VAEConfig)
    if is_vae and reader:
        raise ValueError("a sketch VAE takes no reader; it can be one, for a retimer")
    if is_vae:
        return SketchVAE(config, **known)
    if reader and not math.isclose(reader.scale.xy, split.scale.xy, rel_tol=1e-4):
        raise ValueError(
            f"the reader's unit is {reader.scale.xy} px, that of {store} {split.scale.xy}: it was "
            "trained on other drawings; take the VAE that was trained on this store"
        )
    made = Reader.of(reader, scale=split.scale) if reader else None
    return Retimer(config, **known, reader=made)


def loaders(
    splits: dict[str, Split], config: VAEConfig | RetimeConfig, *, seed: int
) -> dict[str, Any]:
    """What `train.fit` is to be told of a store's splits "train" and "valid"."""
    return {
        "train_batches": lambda epoch: batches(
            splits["train"], config, seed=seed, epoch=epoch
        ).load(num_workers=config.num_workers),
        "valid_batches": lambda: batches(splits["valid"], config, seed=seed, epoch=None).load(),
        "key_id": splits["train"].key_id,
    }


def remember_in(path: Path, split: Split, *, seed: int = 0) -> None:
    """`remember` in a sketch VAE's checkpoint, which is written anew."""
    vae, training = checkpoint.read(path, SketchVAE)
    remember(vae, split, seed=seed)
    checkpoint.save(path, vae, training=training)


def calibrate_in(path: Path, split: Split) -> None:
    """`Retimer.calibrate` in a checkpoint, which is written anew.

    Args:
        path: Of the checkpoint.
        split: That no training saw; where none of its drawings has a time, nothing is done.
    """
    retimer, training = checkpoint.read(path, Retimer)
    if (split.timed & (split.lengths <= retimer.config.max_seq_len)).any():
        retimer.calibrate(batches(split, retimer.config, seed=0, epoch=None).load())
        checkpoint.save(path, retimer, training=training)


@torch.no_grad()
def remember(vae: SketchVAE, split: Split, *, seed: int = 0) -> None:
    """Let z of new doodles come from drawings of `split` as they are (see `exemplars`).

    Training remembers the drawings it met last, changed by augmentation, some of them twice. Here
    each is remembered once, with its time hidden, since the decoder is to find one. Timed ones come
    first: they also have the points where the pen changed its speed, and z tells which there are.

    Args:
        vae: Trained on `split`; what it remembered is forgotten.
        split: The training split.
        seed: Of the choice among a word's drawings.
    """
    order = np.random.default_rng(seed).permutation(len(split))
    order = order[np.argsort(~split.timed[order], kind="stable")]
    order = order[(split.lengths[order] > 1) & (split.lengths[order] <= vae.config.max_seq_len)]
    chosen = np.concatenate(
        [order[split.words[order] == word][:KEPT] for word in range(len(split.classes))]
    )
    vae.eval()
    vae.exemplars.count.zero_()
    for some in np.array_split(chosen, np.arange(REMEMBERED, len(chosen), REMEMBERED)):
        rows, words = [split[index] for index in some.tolist()], split.words[some]
        batch = collate_drawings(rows, words=words.astype(int), scale=vae.scale).to(vae.device)
        posterior = vae.posterior(batch, see_time=torch.zeros_like(batch.timed))
        vae.exemplars.update(batch.words, *posterior)


def batches(
    split: Split, config: VAEConfig | RetimeConfig, *, seed: int, epoch: int | None
) -> StrokeBatches:
    """An epoch's batches, augmented; None: those for validation, as they are."""
    augmented = epoch is not None
    own: dict[str, Any]
    if isinstance(config, VAEConfig):
        own = {
            "drop_prob": config.augment_stroke_prob * augmented,
            "rotate": config.rotate * augmented,
            "shear": config.shear * augmented,
            "balance": config.balance if augmented else 1.0,
        }
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
