"""A signal to the runner reaches the training in the notebook, which leaves a checkpoint."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import victims
from nbformat.v4 import new_code_cell, new_notebook

from doodlelib.cli.notebooks import INTERRUPTED
from doodlelib.models import checkpoint
from doodlelib.models.vae import SketchVAE
from doodlelib.paths import ROOT

pytestmark = pytest.mark.slow
EPOCHS = 100_000  # more than anybody would wait for
CELLS = """\
data = ""
folder = ""
---
from pathlib import Path
import torch, victims
torch.set_num_threads(1)
victims.VAE["num_epochs"] = {EPOCHS}
---
for row in victims.training("rnn", Path(data), Path(folder)):
    if row["epoch"] == 3:
        print("epoch 3", flush=True)
---
Path(folder, "went on").touch()
"""


def test_a_notebook_is_told_to_stop(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Counter[str]
) -> None:
    cells = [new_code_cell(cell) for cell in CELLS.replace("{EPOCHS}", str(EPOCHS)).split("---\n")]
    cells[0].metadata.tags = ["parameters"]
    nbformat.write(new_notebook(cells=cells), tmp_path / "in.ipynb")
    folder, output = tmp_path / "run", tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "doodlelib.run", str(tmp_path / "in.ipynb"), str(output)]
    command += ["-p", "data", str(data), "-p", "folder", str(folder)]
    paths = os.pathsep.join([str(ROOT), str(Path(victims.__file__).parent)])
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert any(line.startswith("epoch 3") for line in process.stdout)
    process.send_signal(signal.SIGTERM)  # and Ctrl-C goes the same way
    _, errors = process.communicate(timeout=300)
    assert process.returncode == INTERRUPTED, errors
    assert "Interrupt" in errors
    assert not output.exists()
    assert "Interrupt" in (tmp_path / "out.failed.ipynb").read_text()
    assert not (folder / "went on").exists()

    last = folder / "DoodleGenRNN_last.pt"
    if "Interrupted" in errors:  # else it came between two epochs
        assert f"resume from {last}" in errors
    _, training = checkpoint.read(last, SketchVAE)
    reached = len(training["history"])
    assert reached >= 3
    monkeypatch.setitem(victims.VAE, "num_epochs", EPOCHS)
    assert next(victims.training("rnn", data, folder))["epoch"] == reached + 1
    tally["notebooks stopped by a signal, with a checkpoint"] += 1
