"""A store and a configuration to a training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doodlelib.config import RetimeConfig, VAEConfig, read_config
from doodlelib.data import dataset
from doodlelib.models import checkpoint
from doodlelib.models.prior import KEPT
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import Scale
from doodlelib.training import setup

SMALL = {"enc_hidden_size": 8, "dec_hidden_size": 8, "latent_size": 4, "num_gmm_modes": 2}


def assert_among(stored: torch.Tensor, z: torch.Tensor) -> None:
    """Each stored posterior is that of one of the drawings: others lie several times as far away.

    Not to the last bit: it is kept in half precision, and a drawing read back is rounded.
    """
    distances = torch.cdist(stored.float(), z).sort(dim=1).values
    assert distances[:, 0].max() < distances[:, 1].median() / 5


def test_the_prior_is_filled_with_drawings_as_they_are(tmp_path: Path) -> None:
    store = dataset.prepare(
        tmp_path / "s", words=["star", "cat"], samples_per_class=100, progress=False
    )
    split = dataset.load_split(store)
    vae = setup.make_model(read_config(VAEConfig, **SMALL), store, seed=5)
    path = checkpoint.save(tmp_path / "vae.pt", vae)
    setup.fill_prior(path, split, seed=2)
    vae, _ = checkpoint.read(path, SketchVAE)
    exemplars = vae.exemplars
    assert exemplars.count.tolist() == [KEPT, KEPT]
    for word in range(len(split.classes)):
        own = [split.drawing(i) for i in np.flatnonzero(split.words == word)]
        z = vae.encode(own, see_time=False)
        assert_among(exemplars.mean[word], z)
        assert len(exemplars.mean[word].unique(dim=0)) == KEPT


def test_the_prior_holds_timed_drawings_first(tmp_path: Path) -> None:
    store = dataset.prepare(tmp_path / "s", words=["star"], samples_per_class=200, progress=False)
    split = dataset.load_split(store)
    timed = np.zeros(len(split), dtype=bool)
    timed[-20:] = True
    vae = setup.make_model(read_config(VAEConfig, **SMALL), store, seed=1)
    path = checkpoint.save(tmp_path / "vae.pt", vae)
    setup.fill_prior(path, dataset.Split(**(vars(split) | {"timed": timed})), seed=0)
    vae, _ = checkpoint.read(path, SketchVAE)
    z = vae.encode([split.drawing(i) for i in range(len(split) - 20, len(split))], see_time=False)
    assert_among(vae.exemplars.mean[0, :20], z)


def test_a_retimer_goes_on_with_its_reader(tmp_path: Path) -> None:
    store = dataset.prepare(tmp_path / "s", words=["star"], samples_per_class=40, progress=False)
    vae = setup.make_model(read_config(VAEConfig, **SMALL), store, seed=1)
    config = read_config(RetimeConfig, hidden_size=8, num_modes=2, num_epochs=2)

    def train_on(name: str, **options: Any) -> list[float]:
        rows = setup.train_on(store, config=config, folder=tmp_path / name, **options)
        return [row["valid_loss"] for row in rows]

    whole = train_on("whole", reader=vae, checkpoint_every=1)
    (first,) = (tmp_path / "whole").glob("*_epoch1_*.pt")
    assert train_on("rest", reader=vae, resume=first) == whole[1:]
    with pytest.raises(ValueError, match="trained otherwise"):
        train_on("alone", resume=first)
    vae.scale = Scale(**(vars(vae.scale) | {"xy": 2 * vae.scale.xy}))
    with pytest.raises(ValueError, match="trained on other drawings"):
        train_on("other", reader=vae)
