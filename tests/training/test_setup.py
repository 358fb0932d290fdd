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
    for word, name in enumerate(split.classes):
        own = [split.drawing(i) for i in np.flatnonzero(split.words == word)]
        z = vae.encode(own, see_time=False)
        distance = torch.cdist(exemplars.mean[word].float(), z).amin(dim=1)
        assert distance.max() < 1e-2 * z.std(), name
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
    first = vae.exemplars.mean[0, :20].float()
    z = vae.encode([split.drawing(i) for i in range(len(split) - 20, len(split))], see_time=False)
    assert torch.cdist(z, first).amin(dim=1).max() < 1e-2 * z.std()


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
