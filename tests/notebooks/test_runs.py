"""Notebooks 01 to 06, executed in order in a copy of the repository, as `make run` does it."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from files import STEPS
from nbformat.v4 import new_code_cell
from PIL import Image, ImageSequence

from doodlelib.cli.notebooks import read_yaml
from doodlelib.data.sample import make_drawings
from doodlelib.data.store import load_split
from doodlelib.models.checkpoint import load_cnn, load_retimer, load_vae
from doodlelib.paths import CONFIG
from doodlelib.viz.export import to_ndjson, to_svg

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def execute(repository: Path, *arguments: str, cwd: Path | None = None) -> str:
    """What ``python -m …`` prints, with the package of the copy."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd or repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=1400,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def demo(repository: Path) -> str:
    """The demo has been run; what it printed."""
    return execute(repository, "doodlelib.run", "--demo")


@pytest.mark.usefixtures("demo")
def test_every_cell_was_executed_but_those_of_widgets(repository: Path) -> None:
    for step in STEPS:
        executed = json.loads((repository / f"reports/runs/demo/{step}.ipynb").read_text())
        for cell in executed["cells"]:
            if cell["cell_type"] == "code":
                skipped = "skip-execution" in cell["metadata"].get("tags", [])
                assert (cell["execution_count"] is None) == skipped
                assert not any(output["output_type"] == "error" for output in cell["outputs"])
        assert "UserWarning: no " not in json.dumps(executed)  # better than chance, and so on


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize(
    ("step", "model", "load"),
    [
        ("03", "DoodleGenRNN", load_vae),
        ("04", "DoodleCNN", load_cnn),
        ("06", "DoodleRetime", load_retimer),
    ],
)
def test_training_left_its_artefacts(
    repository: Path, step: str, model: str, load: Callable
) -> None:
    folder = repository / "reports" / "runs" / "demo"
    for kind in ("best", "last"):
        assert load(folder / f"{model}_{kind}.pt").words
    with (folder / f"{model}_metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert 1 <= len(rows) <= read_yaml(CONFIG / "smoke" / f"{step}.yaml")["epochs"]
    assert all(float(row["train_loss"]) < 1e6 for row in rows)
    assert list(folder.glob(f"{step}_*.png"))


@pytest.mark.usefixtures("demo")
def test_a_doodle_was_made_that_plays_for_the_sum_of_its_times(repository: Path) -> None:
    folder = repository / "reports" / "runs" / "demo"
    told = re.search(r"03_doodle\.gif: ([\d.]+) s", (folder / "03_train_vae.ipynb").read_text())
    with Image.open(folder / "03_doodle.gif") as image:
        delays = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert sum(delays) == pytest.approx(1000 * float(told[1]), abs=11)  # both are rounded to 10 ms
    assert sum(delays) > 500


def test_the_demo_says_where_everything_lies(demo: str, repository: Path) -> None:
    listed = [line.strip() for line in demo.split("All done in")[1].splitlines()[1:]]
    paths = [line for line in listed if "." in line]
    assert all((repository / path).is_file() for path in paths)
    for step in STEPS:
        assert f"reports/runs/demo/{step}.ipynb" in paths
        assert f"== {step}: " in demo
    for suffix in (".pt", ".csv", ".gif", ".png"):
        assert any(path.endswith(suffix) for path in paths)


@pytest.mark.usefixtures("demo")
def test_plain_papermill_goes_on_from_given_weights_from_the_folder_of_the_notebooks(
    repository: Path,
) -> None:
    values = read_yaml(CONFIG / "smoke" / "03.yaml")
    flags = [f for name, value in values.items() for f in ("-y", json.dumps({name: value}))]
    arguments = ["papermill", "03_train_vae.ipynb", "out.ipynb", *flags, "-p", "epochs", "1"]
    arguments += ["-p", "name", "plain", "-p", "start", "reports/runs/demo/DoodleGenRNN_best.pt"]
    execute(repository, *arguments, cwd=repository / "notebooks")
    losses = {}
    for run in ("demo", "plain"):
        assert (repository / "reports" / "runs" / run / "DoodleGenRNN_best.pt").is_file()
        with (repository / "reports" / "runs" / run / "DoodleGenRNN_metrics.csv").open() as file:
            losses[run] = float(next(csv.DictReader(file))["valid_loss"])  # of the first epoch
    assert losses["plain"] < losses["demo"] - 0.1
    assert not (repository / "notebooks" / "reports").exists()


def test_plain_papermill_sets_parameters_as_they_are_meant(
    repository: Path, tmp_path: Path
) -> None:
    """Or refuses them in one sentence, in the kernel, which knows the types alone."""
    whole = nbformat.read(repository / "notebooks" / "02_preprocess.ipynb", as_version=4)
    code = [cell for cell in whole.cells if cell.cell_type == "code"][:2]
    whole.cells = [*code, new_code_cell("print([recognized, name, words, str(folder)])")]
    nbformat.write(whole, tmp_path / "first.ipynb")

    def papermill(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "papermill", "first.ipynb", "out.ipynb", *flags]
        environment = {**os.environ, "PYTHONPATH": str(repository)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    done = papermill("-p", "recognized", "false", "-p", "name", "2026", "-y", "words: [cat]")
    assert done.returncode == 0, done.stderr
    *_, last = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert last.outputs[0].text.startswith("[False, '2026', ['cat'], ")
    refused = papermill("-p", "words", "cat")
    assert refused.returncode
    assert "ValueError: words must be list, not 'cat': papermill takes -y 'words" in refused.stderr


def test_the_whole_way_on_one_s_own_drawings(repository: Path) -> None:
    """A folder of ndjson, with time, and SVG, without, named by word."""
    mine = repository / "data" / "raw" / "mine"
    to_ndjson(make_drawings("star", 40), mine / "star.ndjson")
    for record in make_drawings("fish", 40):
        to_svg(record.drawing, mine / "fish" / f"{record.key_id}.svg")
    small = "-p name mine -p latent_size 8 -p enc_hidden_size 16 -p dec_hidden_size 32 -p epochs 1"
    execute(
        repository,
        *shlex.split("doodlelib.run notebooks/02_preprocess.ipynb 02.ipynb -p name mine"),
        *shlex.split("-p source data/raw/mine"),
    )
    train = load_split(repository / "data" / "processed" / "mine", "train")
    by_word = {name: train.timed[train.words == i] for i, name in enumerate(train.classes)}
    assert set(by_word) == {"star", "fish"}
    assert by_word["star"].all() and not by_word["fish"].any()
    command = f"doodlelib.run notebooks/03_train_vae.ipynb 03.ipynb -p data mine {small}"
    execute(repository, *shlex.split(command))
    model = load_vae(repository / "reports" / "runs" / "mine" / "DoodleGenRNN_best.pt")
    assert set(model.words) == {"star", "fish"}
