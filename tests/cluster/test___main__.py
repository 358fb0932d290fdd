"""Its errors are one line, with and without Ray."""

import subprocess
import sys
from pathlib import Path

import pytest

from doodlelib.cluster import __main__
from doodlelib.paths import ROOT


@pytest.mark.slow
def test_without_ray_it_is_said_how_to_install_it_and_all_else_works(tmp_path: Path) -> None:
    code = (
        "import importlib, pathlib, sys; sys.modules['ray'] = None\n"
        "for path in pathlib.Path('doodlelib').rglob('[a-z]*.py'):\n"
        "    if path.stem != 'lstm_gpu':\n"
        "        importlib.import_module('.'.join(path.with_suffix('').parts))\n"
        "from doodlelib.cluster.__main__ import main\n"
        f"main(['prepare', {str(tmp_path / 's')!r}, '--source', 'sample'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "error: Ray is not installed: pip install -e '.[cluster]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("count", ["x", "0", "-1", "2.5"])
def test_how_many_drawings_is_a_number_or_all(
    count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        __main__.main(["prepare", "nowhere", f"--samples_per_class={count}"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(f"'{count}' is not a whole number above 0, or all")


def test_words_may_be_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict = {}
    monkeypatch.setattr(__main__, "prepare", lambda out, **options: asked.update(options))
    __main__.main(["prepare", "s", "--words", "cat", "dog", "--words", "sun"])
    assert asked["words"] == ["cat", "dog", "sun"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "notebooks/03_train_vae.ipynb", "-g", "latnt_size=3"], "no parameter"),
        (["sweep", "notebooks/03_train_vae.ipynb", "-g", "latent_size=a,b"], "must be int"),
        (["sweep", "notebooks/03_train_vae.ipynb", "-g", "latent_size"], "as NAME=VALUE,VALUE"),
        (["sweep", "notebooks/03_train_vae.ipynb", "-g", "seed=1,2", "--draws", "0"], "draws 0"),
        (
            ["sweep", "notebooks/03_train_vae.ipynb", "-g", "seed=1", "-p", "seed", "2"],
            "both swept",
        ),
        (["sweep", "nowhere.ipynb", "-g", "seed=1"], "nowhere.ipynb"),
        (["train", "nowhere", "run"], "no whole store"),
        (["train", "nowhere", "run", "-p", "latent_size", "0"], "latent_size"),
        (["train", "nowhere", "run", "--workers", "0"], "workers is 0"),
        (["train", "nowhere", "run", "-p", "seed", "3"], "seed: Unexpected"),
        (["train", "nowhere", "run", "-p", "kind", "x"], "kind: Unexpected"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        __main__.main(arguments)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("python -m doodlelib.cluster: error: ")
    assert message in error
