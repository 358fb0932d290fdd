"""The folder of a run holds one run."""

from pathlib import Path

import pytest

from doodlelib import paths
from doodlelib.paths import run_folder

VAE = "DoodleGenRNN"
OLD = (  # what a VAE's run left, and the retimer made for it
    *("DoodleGenRNN_best.pt", "DoodleGenRNN_metrics.csv", "03_loss.png", "distributions.csv"),
    *("time_panel.csv", "DoodleRetime_best.pt", "06_retimed.png", "time_baselines.csv"),
)
OTHERS = ("DoodleCNN_best.pt", "02_steps.png", "03_train_vae.ipynb", "03_train_vae.failed.ipynb")


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    (tmp_path / "old").mkdir()
    for name in OLD + OTHERS:
        (tmp_path / "old" / name).write_text(name)
    return tmp_path / "old"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_that_holds_a_run_is_refused(old: Path) -> None:
    for resume in ("", str(old.with_name("other") / "DoodleGenRNN_last.pt")):
        with pytest.raises(FileExistsError, match=r"old holds a run already \(DoodleGenRNN_best"):
            run_folder("old", VAE, resume=resume)
    with pytest.raises(FileExistsError, match="DoodleRetime_best"):
        run_folder(old, "DoodleRetime")
    assert names(old) == {*OLD, *OTHERS}
    assert run_folder("new", VAE) == old.with_name("new")


def test_a_resumed_run_keeps_all(old: Path) -> None:
    resume = str(old / "DoodleGenRNN_last.pt")
    for overwrite in (False, True):
        assert run_folder("old", VAE, resume=resume, overwrite=overwrite) == old
    assert names(old) == {*OLD, *OTHERS}


def test_what_is_overwritten_leaves_nothing_but_notebooks_and_other_models(old: Path) -> None:
    assert run_folder("old", VAE, overwrite=True) == old
    assert names(old) == set(OTHERS)
    assert run_folder("old", VAE) == old  # executed notebooks are no run


def test_weights_to_start_from_are_not_deleted(old: Path) -> None:
    start = str(old / "DoodleGenRNN_best.pt")
    with pytest.raises(ValueError, match=r"best\.pt is of the run to be overwritten"):
        run_folder("old", VAE, start=start, overwrite=True)
    assert names(old) == {*OLD, *OTHERS}
    run_folder("next", VAE, start=start, overwrite=True)
