"""Processes that train together do what one does with the whole batches."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from doodlelib.config import RetimeConfig, VAEConfig, read_config
from doodlelib.data.dataset import load_split, prepare
from doodlelib.fast import distributed
from doodlelib.models.batch import StrokeBatch
from doodlelib.models.retimer import Retimer
from doodlelib.models.vae import SketchVAE
from doodlelib.training import loop
from doodlelib.training.batches import StrokeBatches
from doodlelib.training.run_state import Row

WORLD = 2
SEED = 3
SMALL = {
    "num_epochs": 2,
    "latent_size": 4,
    "enc_hidden_size": 8,
    "dec_hidden_size": 12,
    "num_gmm_modes": 2,
    "batch_size": 16,
    "learning_rate": 0.003,
    "use_layer_norm": False,
    "recurrent_dropout": 0.0,
    "hide_time_prob": 0.0,
    "hide_word_prob": 0.0,
    "kl_weight_start": 1.0,
}
SIMPLIFICATION = {"method": "timed", "epsilon": 2.0, "epsilon_time": 8.0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "tiny"
    return prepare(folder, words=["star", "apple"], samples_per_class=40, progress=False)


def batches(store: Path, part: str, epoch: int, *, batch_size: int = 16) -> StrokeBatches:
    augmented = 0.1 * (part == "train")
    return StrokeBatches(
        load_split(store, part),
        batch_size=batch_size,
        max_seq_len=200,
        seed=SEED,
        epoch=epoch,
        scale_factor=augmented,
        drop_prob=augmented,
    )


def make_vae(store: Path, **overrides: Any) -> SketchVAE:
    """One without noise: the posteriors are as good as points."""
    split = load_split(store, "train")
    torch.manual_seed(SEED)
    config = read_config(VAEConfig, **(SMALL | overrides))
    vae = SketchVAE(config, words=split.classes, scale=split.scale, simplification=SIMPLIFICATION)
    with torch.no_grad():
        vae.to_mean.weight.normal_()
        vae.to_log_std.bias.fill_(-30)
    return vae


def make_retimer(store: Path) -> Retimer:
    split = load_split(store, "train")
    torch.manual_seed(SEED)
    config = read_config(RetimeConfig, hidden_size=8, num_modes=2, dropout=0.0)
    return Retimer(config, words=split.classes, scale=split.scale, simplification=SIMPLIFICATION)


def gradients(model: SketchVAE | Retimer, batch: StrokeBatch) -> dict[str, torch.Tensor]:
    """Of the loss of `batch`, by name; with the loss of this rank's share."""
    loss_of = distributed.parallel_loss(
        model
    )  # takes part in the backward pass: to be kept till then
    loss, _ = loss_of(batch, step=0)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found | {"loss": loss.detach()}


def seven(store: Path) -> StrokeBatch:
    """Some drawings of unlike lengths, one of them untimed; 4 for one rank and 3 for the other."""
    batch = batches(store, "train", 1, batch_size=7)[0]
    batch.timed[3] = False
    return batch


def tolerances(store: Path) -> list[float]:
    """None; one between the mean KL of two ranks, below that of all; one that nothing reaches."""
    vae, batch = make_vae(store), seven(store)
    with torch.no_grad():
        mean, log_std = vae.posterior(batch, see_time=batch.timed)
        kl = 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std)
    halves = sorted((kl[::2].mean().item(), kl[1::2].mean().item()))
    assert halves[0] + 0.001 < halves[1]
    return [0.0, (halves[0] + kl.mean().item()) / 2, 1000.0]


def all_gradients(store: Path) -> list[dict[str, torch.Tensor]]:
    models = [make_vae(store, kl_tolerance=tolerance) for tolerance in tolerances(store)]
    models.append(make_vae(store, class_conditioning=False))
    return [gradients(model, seven(store)) for model in (*models, make_retimer(store))]


def fit(store: Path, folder: Path, *, resume: Path | None = None, **config: Any) -> list[Row]:
    return list(
        loop.fit(
            make_vae(store, **config),
            train_batches=lambda epoch: batches(store, "train", epoch).load(),
            valid_batches=lambda: batches(store, "valid", 0, batch_size=5).load(),
            folder=folder,
            seed=SEED,
            resume=resume,
        )
    )


def work(rank: int, top: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{top}/meet", rank=rank, world_size=WORLD)
    torch.set_num_threads(1)
    torch.save(function(*arguments), top / f"{rank}.pt")
    dist.destroy_process_group()


def on_ranks(top: Path, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function` returns in each of `WORLD` processes that train together."""
    context = multiprocessing.get_context("spawn")
    top.mkdir()
    started = [
        context.Process(target=work, args=(rank, top, function, arguments), daemon=True)
        for rank in range(WORLD)
    ]
    for process in started:
        process.start()
    left = {process.sentinel: process for process in started}
    while left:
        for ended in wait(list(left)):
            if left.pop(ended).exitcode:  # the other would wait for it
                for process in started:
                    process.kill()
                pytest.fail("a process failed; see what it wrote")
    return [torch.load(top / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


def test_the_gradient_is_that_of_the_whole_batch(store: Path, tmp_path: Path) -> None:
    """Whatever ranks hold, and on either side of the KL term's floor."""
    alone, together = all_gradients(store), on_ranks(tmp_path / "r", all_gradients, store)
    for expected, *found in zip(alone, *together, strict=True):
        loss = expected.pop("loss")
        torch.testing.assert_close(sum(one.pop("loss") for one in found) / WORLD, loss)
        assert expected.keys() >= found[0].keys()
        for name, gradient in found[0].items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-6)
            assert torch.equal(gradient, found[1][name]), name
        norm = torch.cat([g.flatten() for g in expected.values()]).norm()
        assert norm > 0.01


def test_training_together_goes_as_alone_and_on_with_another_number(
    store: Path, tmp_path: Path
) -> None:
    expected = fit(store, tmp_path / "alone", num_epochs=3)
    rows = on_ranks(tmp_path / "r", fit, store, tmp_path / "both")
    assert {path.name for path in (tmp_path / "both").iterdir()} == {
        *("DoodleGenRNN_best.pt", "DoodleGenRNN_last.pt", "DoodleGenRNN_metrics.csv")
    }
    last = fit(
        store, tmp_path / "both", num_epochs=3, resume=tmp_path / "both" / "DoodleGenRNN_last.pt"
    )
    for wanted, *found in zip(expected, rows[0] + last, rows[1] + last, strict=True):
        for row in found:
            for name in wanted.keys() - {"seconds"}:
                assert row[name] == pytest.approx(wanted[name], rel=1e-4), name
    assert expected[2]["valid_loss"] < expected[0]["valid_loss"] - 0.01
