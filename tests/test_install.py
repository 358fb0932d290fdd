"""The package without its repository: built as a wheel, installed, and used from another folder."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import doodlelib
from doodlelib.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LOCAL = ["--no-deps", "--no-index", "--quiet"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and all that it needs, but not the repository."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip"]
    build = [*pip, "wheel", *LOCAL, "--no-build-isolation", f"--wheel-dir={folder}", str(ROOT)]
    subprocess.run(build, check=True)
    venv.create(folder / "env", with_pip=False)
    found = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    (wheel,) = folder.glob("doodlelib-*.whl")
    subprocess.run([*pip, "--python", str(found), "install", *LOCAL, str(wheel)], check=True)
    # Dependencies come from this environment. A folder in a .pth file is only searched: its own
    # .pth files, one of which leads to the repository, are not read.
    variables = {"base": str(folder / "env"), "platbase": str(folder / "env")}
    site = Path(sysconfig.get_path("purelib", "venv", variables))
    site.joinpath("needed.pth").write_text(sysconfig.get_path("purelib"))
    return found


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One command in `cwd`, without what the environment says of other packages."""
    environ = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, *arguments], cwd=cwd, env=environ, capture_output=True, text=True
    )


def works(python: Path, *arguments: str, cwd: Path) -> str:
    """What a command prints that must succeed."""
    done = run(python, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_promised_names_are_those_of_the_wheel(python: Path, tmp_path: Path) -> None:
    code = f"""
import sys
import doodlelib
from doodlelib import {", ".join(doodlelib.MOVED)}
from doodlelib import config, paths, raster, simplify, strokes
for name, module in sys.modules.items():
    if name.startswith("doodlelib"):
        assert {str(ROOT)!r} not in module.__file__, module
assert not [path for path in sys.path if path == {str(ROOT)!r}]
print(doodlelib.__version__, paths.RUNS)
"""
    printed = works(python, "-c", code, cwd=tmp_path).split()
    assert printed == [doodlelib.__version__, str(tmp_path / "reports" / "runs")]


def test_what_the_readme_does_in_python(python: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    works(python, "-c", code, cwd=tmp_path)
    assert list(tmp_path.glob("*.gif"))


def test_all_shipped_models_configurations_words_and_widgets(python: Path, tmp_path: Path) -> None:
    code = """
from doodlelib import checkpoint, dataset, player, quickdraw, sample
from doodlelib.config import CNNConfig, RetimeConfig, VAEConfig, read_config
assert len(quickdraw.words()) == 345
(record,) = sample.make_drawings("cat", 1)
for name in ("trained", "trained_345"):
    cnn = checkpoint.load_cnn(name)
    assert cnn.predict([record.drawing]).shape == (1, len(cnn.words))
assert checkpoint.load_vae().decoder and checkpoint.load_retimer()
for kind in (VAEConfig, CNNConfig, RetimeConfig):
    assert read_config(kind)
store = dataset.prepare("store", words=["cat"], samples_per_class=20, progress=False)
assert dataset.load_split(store, "train")
assert player.Player([record.drawing])
"""
    works(python, "-W", "ignore", "-c", code, cwd=tmp_path)


def test_the_notebook_for_colab_needs_no_clone(python: Path, tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "binder" / "lab.ipynb").read_text("utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    parameters, install, *cells = cells
    assert install.splitlines()[-1].startswith("%pip install ")
    shown = [cell.splitlines()[-1] for cell in cells]  # the widgets
    asked = [
        f"assert ({widget})._repr_mimebundle_()[0]['text/html'] is not None" for widget in shown
    ]
    code = [parameters, *(line for pair in zip(cells, asked, strict=True) for line in pair)]
    works(python, "-W", "ignore", "-c", "\n".join([*code, "assert explorer.doodles"]), cwd=tmp_path)


def test_generate_and_infer(python: Path, tmp_path: Path) -> None:
    command = ("-m", "doodlelib", "-m", "generate", "-ng", "1", "--word", "cat")
    *_, svg = works(python, *command, cwd=tmp_path).splitlines()
    assert Path(svg).is_relative_to(tmp_path / "reports" / "runs" / "generated")
    assert Path(svg).stat().st_size
    printed = works(python, "-m", "doodlelib", "-m", "infer", "-i", svg, cwd=tmp_path)
    assert printed.count("0.") >= 5


@pytest.mark.parametrize(
    "command",
    [
        "doodlelib.run --demo",
        "doodlelib.run notebooks/03_train_vae.ipynb out.ipynb",
        "doodlelib -m train --source sample",
    ],
)
def test_what_needs_notebooks_says_so(python: Path, tmp_path: Path, command: str) -> None:
    done = run(python, "-m", *command.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert "in a clone of the repository" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
