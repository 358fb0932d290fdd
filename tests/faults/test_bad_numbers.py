"""Losses, gradients and weights that are no numbers: training stops, says where, keeps the good."""

from collections import Counter
from pathlib import Path

import pytest
import torch
import victims

from doodlelib.config import VAEConfig, read_config
from doodlelib.data import dataset
from doodlelib.models import checkpoint
from doodlelib.models.batch import StrokeBatch
from doodlelib.models.network import SketchNet
from doodlelib.models.vae import SketchVAE
from doodlelib.training.batches import StrokeBatches

LAST = "DoodleGenRNN_last.pt"
STEPS = 4  # of an epoch


def no_loss(loss: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return loss * float("nan")


def endless_loss(loss: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return loss / 0


def no_gradient(loss: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return loss + (weights.sum() * 0).sqrt()  # the loss stays as it is


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(no_loss, "loss is nan"), (endless_loss, "loss is inf"), (no_gradient, "gradient nan")],
)
def test_what_is_no_number_stops_training_and_names_the_drawings(
    data: Path, tmp_path: Path, monkeypatch, spoil, message: str, tally: Counter[str]
) -> None:
    whole, spoilt = SketchNet.loss, []

    def loss(vae: SketchNet, batch: StrokeBatch, *, step: int | None) -> tuple:
        value, sums = whole(vae, batch, step=step)
        if step == STEPS + 2:
            spoilt.append(batch)
            value = spoil(value, vae.head.weight)
        return value, sums

    monkeypatch.setattr(SketchNet, "loss", loss)
    rows = victims.training("rnn", data, tmp_path)
    next(rows)
    before = (tmp_path / LAST).read_bytes()
    with pytest.raises(
        FloatingPointError, match=rf"{message}.* at step 6|at step 6.*{message}"
    ) as e:
        next(rows)
    assert (tmp_path / LAST).read_bytes() == before
    split = dataset.load_split(data, "train")
    config = read_config(VAEConfig, **victims.VAE)
    numbers = StrokeBatches(split, config, seed=5, epoch=2).batches[2]
    assert len(numbers) == spoilt[0].size
    assert all(split.key_id(number) in str(e.value) for number in numbers)
    monkeypatch.undo()
    assert len(list(victims.training("rnn", data, tmp_path))) == victims.EPOCHS - 1
    tally["trainings stopped at a loss or gradient that is no number"] += 1


@pytest.mark.parametrize("rate", [0.6, 1e18, 1e38])
def test_a_training_that_explodes_keeps_its_best(
    data: Path, tmp_path: Path, monkeypatch, rate: float, tally: Counter[str]
) -> None:
    rows = victims.training("rnn", data, tmp_path)
    next(rows)
    best = (tmp_path / "DoodleGenRNN_best.pt").read_bytes()
    monkeypatch.setattr(SketchNet, "learning_rate", lambda *_, progress: rate)
    if rate > 1:
        with pytest.raises(FloatingPointError):
            list(rows)
    else:
        assert list(rows)  # a number, if a bad one
    assert (tmp_path / "DoodleGenRNN_best.pt").read_bytes() == best
    for path in tmp_path.glob("*.pt"):
        checkpoint.read(path, SketchVAE)
    tally["trainings that exploded, with the best checkpoint kept"] += 1


def test_weights_that_are_no_numbers_are_neither_written_nor_read(data: Path, tmp_path: Path):
    next(victims.training("rnn", data, tmp_path))
    before = (tmp_path / LAST).read_bytes()
    vae, training = checkpoint.read(tmp_path / LAST, SketchVAE)
    with torch.no_grad():
        vae.head.bias[3] = float("inf")
    with pytest.raises(FloatingPointError, match=r"head\.bias is not finite"):
        checkpoint.save(tmp_path / LAST, vae, training=training)
    assert (tmp_path / LAST).read_bytes() == before
    contents = torch.load(tmp_path / LAST, weights_only=True)
    contents["weights"]["head.bias"][3] = float("nan")
    torch.save(contents, tmp_path / LAST)
    with pytest.raises(ValueError, match=r"head\.bias is not torch.float32, or not finite"):
        checkpoint.read(tmp_path / LAST, SketchVAE)
