"""Trials of a sweep, and the folder of a training, without Ray."""

from pathlib import Path
from typing import Any

import pytest
from files import write_notebook

from doodlelib.cli.notebooks import NotebookError
from doodlelib.cluster.__main__ import main
from doodlelib.cluster.train import _run_trial
from doodlelib.data import prepare

PARAMETERS = """
top: str = ""
name: str = "one"
overwrite: bool = False
width: int = 1
"""
POOR = """
import pathlib, warnings
run = pathlib.Path(top, name)
if run.exists() and not overwrite:
    raise FileExistsError(run)
run.mkdir(exist_ok=True)
with (run / "runs.txt").open("a") as log:
    log.write(f"{width} ")
if not (run.parent / "mended").exists():
    raise ArithmeticError("fails at first")
(run / "Toy_metrics.csv").write_text("epoch,valid_loss\\n1,9\\n2,8.5\\n")
warnings.warn("no better than chance", stacklevel=1)
"""


def test_a_poor_trial_counts_as_done_and_a_failed_one_is_run_again(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "01_toy.ipynb", PARAMETERS, POOR)
    given: dict[str, Any] = {"top": str(tmp_path), "width": 8}
    trial = notebook, tmp_path / "sweep" / "a.ipynb", given, tmp_path / "a"
    with pytest.raises(NotebookError, match="fails at first"):
        _run_trial(*trial)
    (tmp_path / "mended").touch()
    for _ in range(2):
        assert _run_trial(*trial) == {"epoch": 2, "valid_loss": 8.5}
    assert (tmp_path / "a" / "runs.txt").read_text() == "8 8 ", "once failed, once done"


def test_a_folder_that_holds_a_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = prepare(tmp_path / "store", words=["cat"], samples_per_class=5, progress=False)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "DoodleGenRNN_best.pt").touch()
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(store), str(tmp_path / "run")])
    assert "run holds a run already" in capsys.readouterr().err.splitlines()[-1]
