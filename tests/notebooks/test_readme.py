"""Every command of README and reports/CLUSTER.md, as it stands but for what makes it small."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from doodlelib.models.checkpoint import load_vae
from doodlelib.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")
CLUSTER = (ROOT / "reports" / "CLUSTER.md").read_text("utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README + CLUSTER, re.DOTALL)
INSTALLS = (
    "git clone",
    "source ",
    "python -m venv",
    ".venv/bin/",
)  # CI does these: its install, and `make test`
BRIEF = "-p model_params brief.json -p data sample -p epochs 1 -p samples 20"
VALUES = {  # of brief.json
    "rnn": {"enc_hidden_size": 32, "dec_hidden_size": 64, "num_gmm_modes": 4},
    "retime": {"num_epochs": 1, "hidden_size": 16},
    "cnn": {},
}
SMALL = {  # what is added to a command that begins so
    "papermill notebooks/03_train_vae.ipynb out.ipynb -p epochs": BRIEF,
    "python -m doodlelib.run notebooks/03": BRIEF,
    "papermill notebooks/02": "-p samples_per_class 20",
    "papermill notebooks/03_train_vae.ipynb out.ipynb -p name four": f"{BRIEF} -p data four",
    "python -m doodlelib -m train": "--words cat sun -p model_params brief.json -p epochs 1",
    "python -m doodlelib.cluster prepare": "--words cat sun",
    "python -m doodlelib.cluster train": "--workers 2 -p num_epochs 1 -p dec_hidden_size 32",
    "python -m doodlelib.cluster sweep": f"--draws 1 {BRIEF}",
}


def commands(block: str) -> list[str]:
    """The lines of a block without their comments."""
    return [line for line in re.sub(r"\s+#.*", "", block).splitlines() if line]


SHELL = [commands(text) for language, text in BLOCKS if language == "bash"]
RUN = [lines for lines in SHELL if not lines[0].startswith(INSTALLS)]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("lines", RUN, ids=lambda lines: lines[0][:50])
def test_the_commands_work(lines: list[str], repository: Path) -> None:
    given = json.loads((repository / "config/model_params.json").read_text())
    brief = {part: values | VALUES[part] for part, values in given.items()}
    (repository / "brief.json").write_text(json.dumps(brief))
    picture = Image.new("L", (300, 200), 255)
    ImageDraw.Draw(picture).ellipse((90, 40, 210, 160), outline=0, width=4)
    picture.save(repository / "photo.jpg")
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(repository), "PATH": tools}
    for line in lines:
        more = [extra for start, extra in SMALL.items() if line.startswith(start)]
        command = shlex.split(" ".join([line.replace(" --gpu", ""), *more]))
        done = subprocess.run(
            command, cwd=repository, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        if "-m train" in line:
            (folder,) = (repository / "reports" / "runs").glob("rnn_*")
            assert load_vae(folder / "DoodleGenRNN_best.pt").words == ["cat", "sun"]


def test_the_python_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [text for language, text in BLOCKS if language == "python"]
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert (tmp_path / "cat.gif").stat().st_size > 1000
    assert len(names["endings"]) == 10
    assert names["timed"][1][2][0] > 0


def test_nothing_is_left_out() -> None:
    assert len(SHELL) - len(RUN) == 3  # how to install, with make and without, and to activate
    assert len(README.split()) <= 1000
    lines = [line for block in RUN for line in block]
    unused = [start for start in SMALL if not any(line.startswith(start) for line in lines)]
    assert not unused, "the README has no such commands any more"


def test_what_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    own = [link for link in links if not link.startswith("https://")]
    assert len(own) > 20
    assert [link for link in own if not (ROOT / link).exists()] == []


def test_the_repository_has_one_address() -> None:
    files = ("README.md", "pyproject.toml", "CITATION.cff", "binder/lab.ipynb")
    pattern = r"(?:github\.com|/gh|/github)/([\w-]+/quickdraw-doodler)"
    named = {name: {*re.findall(pattern, (ROOT / name).read_text("utf-8"))} for name in files}
    assert set.union(*named.values()) == named["pyproject.toml"]
    assert all(len(found) == 1 for found in named.values()), named
    assert README.count(next(iter(named["README.md"]))) == 3  # Binder, Colab, git clone
