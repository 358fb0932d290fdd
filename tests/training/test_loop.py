"""Training: a broken-off run ends as an unbroken one, and nothing bad is kept."""

import csv
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from doodlelib.config import VAEConfig, read_config
from doodlelib.data.dataset import Split, load_split, prepare
from doodlelib.fast.cuda_graphs import Gradients
from doodlelib.models import checkpoint
from doodlelib.models.vae import SketchVAE
from doodlelib.training import loop
from doodlelib.training.batches import StrokeBatches
from doodlelib.training.run_state import epochs_without_gain
from doodlelib.training.setup import loaders

SMALL = {
    "latent_size": 4,
    "enc_hidden_size": 8,
    "dec_hidden_size": 16,
    "num_gmm_modes": 2,
    "batch_size": 16,
    "learning_rate": 0.01,
}
SIMPLIFICATION = {"method": "timed", "epsilon": 2.0, "epsilon_time": 8.0}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    folder = tmp_path_factory.mktemp("store") / "tiny"
    prepare(folder, words=["star", "apple"], samples_per_class=40, progress=False)
    return {part: load_split(folder, part) for part in ("train", "valid")}


def make_vae(splits: dict[str, Split], **overrides: object) -> SketchVAE:
    torch.manual_seed(7)
    config = read_config(VAEConfig, **(SMALL | overrides))
    train_split = splits["train"]
    return SketchVAE(
        config,
        words=train_split.classes,
        scale=train_split.scale,
        simplification=SIMPLIFICATION,
    )


def run(
    vae: SketchVAE, splits: dict[str, Split], folder: Path, **options: object
) -> Iterator[loop.Row]:
    return loop.fit(vae, **loaders(splits, vae.config, seed=1), folder=folder, seed=1, **options)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load_vae(path).state_dict()


def test_resumed_equals_unbroken(splits: dict[str, Split], tmp_path: Path) -> None:
    whole = list(run(make_vae(splits, num_epochs=5), splits, tmp_path / "whole"))

    broken = run(make_vae(splits, num_epochs=5), splits, tmp_path / "broken")
    next(broken), next(broken)
    broken.close()  # as if killed after the second epoch
    torch.manual_seed(123)  # whatever the new process did before
    rest = list(
        run(
            make_vae(splits, num_epochs=5),
            splits,
            tmp_path / "broken",
            resume=tmp_path / "broken" / "DoodleGenRNN_last.pt",
        )
    )
    assert [row["epoch"] for row in rest] == [3, 4, 5]
    one, other = (weights(tmp_path / name / "DoodleGenRNN_last.pt") for name in ("whole", "broken"))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert [row["valid_loss"] for row in whole[2:]] == [row["valid_loss"] for row in rest]
    rows = []
    for name in ("whole", "broken"):
        with (tmp_path / name / "DoodleGenRNN_metrics.csv").open() as file:
            rows.append(list(csv.DictReader(file)))
    for a, b in zip(*rows, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }


def test_a_run_that_goes_on_elsewhere_has_all_its_files(
    splits: dict[str, Split], tmp_path: Path
) -> None:
    list(run(make_vae(splits, num_epochs=2), splits, tmp_path / "first"))
    last = tmp_path / "first" / "DoodleGenRNN_last.pt"
    more = make_vae(splits, num_epochs=3, num_workers=1, learning_rate=0.01)
    for folder, ended in (("ended", make_vae(splits, num_epochs=2)), ("more", more)):
        list(run(ended, splits, tmp_path / folder, resume=last))
        assert (tmp_path / folder / "DoodleGenRNN_best.pt").exists()
        with (tmp_path / folder / "DoodleGenRNN_metrics.csv").open() as file:
            assert len(list(csv.DictReader(file))) == ended.config.num_epochs


def test_what_a_run_leaves_behind(splits: dict[str, Split], tmp_path: Path) -> None:
    history = list(run(make_vae(splits, num_epochs=4), splits, tmp_path, checkpoint_every=2))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[:2] == ["DoodleGenRNN_best.pt", names[1]]
    kept = [name for name in names if "_epoch" in name]
    assert [name.split("_")[1] for name in kept] == ["epoch2", "epoch4"]
    assert {"DoodleGenRNN_last.pt", "DoodleGenRNN_metrics.csv"} <= set(names)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    best = min(history, key=lambda row: row["valid_loss"])
    _, training = checkpoint.read(tmp_path / "DoodleGenRNN_best.pt", SketchVAE)
    assert training["history"][-1]["epoch"] == best["epoch"]
    line = loop.log_line(history[1], epochs=4)
    assert re.fullmatch(
        r"epoch 2/4 loss [\d.]+ valid [\d.]+: pen \S+ position \S+ segment \S+ pause \S+ kl \S+ "
        r"\([\d.]+ min left\)",
        line,
    )
    full = {key: 1.2345 if isinstance(value, float) else 100 for key, value in history[1].items()}
    assert len(loop.log_line(full | {"seconds": 1234.5}, epochs=100)) <= 110  # a notebook's page


def test_a_loss_that_is_not_finite_stops_before_anything_is_kept(
    splits: dict[str, Split], tmp_path: Path
) -> None:
    vae = make_vae(splits)
    with torch.no_grad():
        vae.head.bias[0] = float("nan")
    with pytest.raises(FloatingPointError, match="loss is nan at step 0"):
        next(run(vae, splits, tmp_path))
    assert not list(tmp_path.glob("*.pt"))


def test_resume_refuses_what_does_not_fit(splits: dict[str, Split], tmp_path: Path) -> None:
    next(run(make_vae(splits), splits, tmp_path))
    last = tmp_path / "DoodleGenRNN_last.pt"
    other = make_vae(splits, num_gmm_modes=3)
    with pytest.raises(ValueError, match="num_gmm_modes 2 -> 3"):
        next(run(other, splits, tmp_path, resume=last))
    loop_only = make_vae(splits, num_epochs=3, num_workers=1, lr_cooldown=0.5)
    assert next(run(loop_only, splits, tmp_path, resume=last))["epoch"] == 2
    bare = checkpoint.save(tmp_path / "bare.pt", make_vae(splits))
    with pytest.raises(ValueError, match="without the state"):
        next(run(make_vae(splits), splits, tmp_path, resume=bare))
    with pytest.raises(ValueError, match="precision"):
        next(run(make_vae(splits), splits, tmp_path, precision="float16"))


@pytest.mark.parametrize(
    ("precision", "able", "half"),
    [
        ("float32", True, False),
        ("bfloat16", False, True),
        ("auto", True, True),
        ("auto", False, False),
    ],
)
def test_bfloat16_where_it_is_asked_for_or_faster(
    splits: dict[str, Split],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    able: bool,
    half: bool,
) -> None:
    def gradients(*arguments: Any, half: bool) -> Gradients:
        halves.append(half)
        return Gradients(*arguments, half=half)

    halves: list[bool] = []
    monkeypatch.setattr(loop, "has_bfloat16", lambda device: able)
    monkeypatch.setattr(loop, "Gradients", gradients)
    next(run(make_vae(splits), splits, tmp_path, precision=precision))
    assert halves == [half]


def test_epochs_without_gain() -> None:
    history = [{"valid_loss": value} for value in (3.0, 1.0, 2.0, 1.5)]
    assert [epochs_without_gain(history[:n]) for n in (1, 2, 3, 4)] == [0, 0, 1, 2]


def test_padded_batches_cost_the_same(splits: dict[str, Split]) -> None:
    vae = make_vae(splits, dropout=0.0, recurrent_dropout=0.0, kl_decay_rate=0.9)
    batch = StrokeBatches(splits["train"], vae.config)[0]
    padded = batch.padded()
    assert (padded.rows.shape[1] - 2) % 8 == 0
    found = []
    for some, step in ((batch, 3), (padded, 3), (padded, torch.tensor(3.0))):
        torch.manual_seed(0)
        found.append(vae.loss(some, step=step)[0])
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_graphs_train_as_launches_do(
    precision: str,
    splits: dict[str, Split],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gradients(*args: Any, **options: Any) -> Gradients:
        made.append(Gradients(*args, **options))
        made[-1].capturing = capturing
        return made[-1]

    monkeypatch.setattr(loop, "Gradients", gradients)
    found, made = [], []
    for capturing in (False, True):
        vae = make_vae(splits, num_epochs=4, dropout=0.0, recurrent_dropout=0.0).cuda()
        rows = list(run(vae, splits, tmp_path / str(capturing), precision=precision))
        found.append([row["train_loss"] for row in rows] + [row["valid_loss"] for row in rows])
    assert any(made[1].captured.values())
    assert found[1] == pytest.approx(found[0], rel=1e-3 if precision == "float32" else 2e-2)


def test_the_learning_rate_cools_down_in_the_last_epochs(
    splits: dict[str, Split], tmp_path: Path
) -> None:
    rates = {}
    for cooldown in (0.0, 0.5):
        vae = make_vae(splits, num_epochs=4, lr_decay=0.9, lr_min=0.001, lr_cooldown=cooldown)
        rows = run(vae, splits, tmp_path / str(cooldown))
        rates[cooldown] = {row["step"]: row["learning_rate"] for row in rows}
    steps = list(rates[0.0])
    for step in steps:  # the row's is that of the step before
        assert rates[0.0][step] == pytest.approx(0.009 * 0.9 ** (step - 1) + 0.001)
        height = min(1, 2 * (1 - (step - 1) / steps[-1]))
        assert rates[0.5][step] - 0.001 == pytest.approx(height * (rates[0.0][step] - 0.001))


@pytest.mark.parametrize("watched", [False, True])
def test_a_progress_bar_within_an_epoch_where_somebody_watches(
    watched: bool,
    splits: dict[str, Split],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if watched:
        monkeypatch.setattr(loop, "is_watched", lambda: True)
    steps = int(next(run(make_vae(splits, num_epochs=2), splits, tmp_path))["step"])
    shown = capsys.readouterr()
    assert shown.out == ""
    if watched:
        assert re.search(rf"epoch 1/2: +\d+%.* {steps}/{steps} .*steps", shown.err)
        assert "epoch 1/2, validation" in shown.err
        assert not shown.err.rpartition("\r")[0].endswith("\n"), "a line is cleared for the next"
    else:
        assert shown.err == "", "captured output is no terminal"


def test_a_bar_is_closed_when_training_is_stopped(
    splits: dict[str, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = []

    class Bar(loop.Bar):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            bars.append(self)

        def update(self, n: float | None = 1) -> bool | None:
            if self.n == 1:
                signal.raise_signal(signal.SIGINT)
            return super().update(n)

    monkeypatch.setattr(loop, "Bar", Bar)
    monkeypatch.setattr(loop, "is_watched", lambda: True)
    with pytest.raises(loop.Interrupted, match="after step 2, in epoch 1"):
        next(run(make_vae(splits), splits, tmp_path))
    assert len(bars) == 1 and bars[0].disable, "which closing a bar does"


@pytest.mark.parametrize(
    ("able", "fast"),
    [
        ({}, False),
        ({"avx512_f": True}, False),
        *(({name: True}, True) for name in ("avx512_bf16", "amx_bf16", "bf16")),
    ],
)
def test_bfloat16_is_fast_where_there_are_instructions(
    monkeypatch: pytest.MonkeyPatch, able: dict, fast: bool
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert loop.has_bfloat16(cpu) == fast
    assert not loop.has_bfloat16(torch.device("meta"))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not loop.has_bfloat16(cpu)
