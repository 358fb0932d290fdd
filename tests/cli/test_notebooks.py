"""Notebooks through papermill: what may be set, what is left behind, and how errors are told."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from files import write_notebook
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from doodlelib.cli import notebooks
from doodlelib.cli.notebooks import (
    NotebookError,
    check_parameters,
    literal,
    main,
    parse_values,
    read_parameters,
    read_yaml,
    run_notebook,
)
from doodlelib.paths import ROOT

PARAMETERS = """\
epochs: int = None  # a number: fewer
rate: float = 0.1
name: str = "demo"
words: list[str] = [
    "cat",  # and a comment
    "dog",
]
source: object = "sample"
untyped = 3
"""
WORK = """\
import os
import sys
print(f"epochs {epochs}, words {words}", flush=True)
print("on stderr", file=sys.stderr)
assert os.environ["OMP_WAIT_POLICY"] == "passive"
"""


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write_notebook(tmp_path / "01_small.ipynb", PARAMETERS, WORK)


def test_parameters_are_read_with_their_types(notebook: Path) -> None:
    assert read_parameters(notebook) == {
        "epochs": "int | None",
        "rate": "float",
        "name": "str",
        "words": "list[str]",
        "source": "object",
        "untyped": "object",
    }


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"epochs": 3, "rate": 1, "name": "a", "words": [], "source": ["a"], "untyped": 0},
        {"epochs": None, "rate": 0.001, "source": "raw"},
    ],
)
def test_values_that_fit_pass(notebook: Path, values: dict[str, Any]) -> None:
    check_parameters(notebook, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eopchs": 3}, "no parameter 'eopchs'; it has epochs"),
        ({"zzz": 3}, "no parameter 'zzz'; it has epochs, name, rate, source, untyped, words"),
        ({"epochs": "3"}, r"epochs must be int \| None.*, not '3'"),
        ({"epochs": True}, "epochs must be"),
        ({"rate": "1e-3"}, "rate must be float, not '1e-3'"),
        ({"rate": None}, "rate must be float, not None"),
        ({"name": 7}, "name must be str, not 7"),
        ({"words": "cat"}, "words must be"),
        ({"words": ["cat", 1]}, "words must be"),
    ],
)
def test_what_does_not_fit_is_named(notebook: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_parameters(notebook, values)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": 3}', "\xff"])
def test_what_is_no_notebook_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.ipynb").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"bad\.ipynb is no notebook"):
        read_parameters(tmp_path / "bad.ipynb")
    with pytest.raises(FileNotFoundError, match="no notebook at"):
        read_parameters(tmp_path / "absent.ipynb")


def test_text_becomes_what_the_parameter_is(notebook: Path) -> None:
    pairs = [
        ("epochs", "3"),
        ("rate", "1e-3"),
        ("name", "2026"),
        ("words", "['The Eiffel Tower']"),
        ("source", "raw"),
        ("unknown", "3"),
    ]
    assert parse_values(notebook, pairs) == {
        "epochs": 3,
        "rate": 0.001,
        "name": "2026",
        "words": ["The Eiffel Tower"],
        "source": "raw",
        "unknown": 3,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("[1, 'a']", [1, "a"]), ("raw", "raw"), ("1 +", "1 +"), ("{[]: 1}", "{[]: 1}")],
)
def test_text_that_is_no_literal_stays_text(text: str, value: object) -> None:
    assert literal(text) == value


def test_yaml_files_are_flat(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text("epochs: 3\nwords: [cat, dog]\n")
    assert read_yaml(path) == {"epochs": 3, "words": ["cat", "dog"]}
    path.write_text("")
    assert read_yaml(path) == {}
    for text in ("- a\n- b\n", "a: [", "1: 2"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"values\.yaml"):
            read_yaml(path)


def test_a_run_leaves_the_executed_notebook_and_shows_what_is_printed(
    notebook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = notebook.parent / "deep" / "out.ipynb"
    before = notebook.read_bytes()
    assert run_notebook(notebook, output, {"epochs": 2, "words": ["a b"]}, live=True) == output
    assert capsys.readouterr() == ("epochs 2, words ['a b']\n", "on stderr\n")
    assert [path.name for path in output.parent.iterdir()] == ["out.ipynb"]
    executed = json.loads(output.read_text())
    assert executed["metadata"]["papermill"]["parameters"] == {"epochs": 2, "words": ["a b"]}
    assert executed["cells"][-1]["execution_count"]
    assert notebook.read_bytes() == before


def test_a_failure_keeps_what_ran_and_tells_the_cells_error(tmp_path: Path) -> None:
    notebook = write_notebook(
        tmp_path / "02_bad.ipynb", "n = 1", "print('before')", "raise KeyError('cat')\n", "n"
    )
    output = tmp_path / "out.ipynb"
    output.write_text("of an earlier run")
    with pytest.raises(NotebookError, match=r"02_bad.*out\.failed\.ipynb.*\[3\]: KeyError: 'cat'$"):
        run_notebook(notebook, output, {})
    assert output.read_text() == "of an earlier run"
    assert "before" in (tmp_path / "out.failed.ipynb").read_text()
    assert not (tmp_path / "out.running.ipynb").exists()


def test_a_notebook_is_not_replaced_by_its_copy(notebook: Path) -> None:
    with pytest.raises(ValueError, match="is the notebook itself"):
        run_notebook(notebook, notebook.parent / "." / notebook.name, {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "eopchs", "3"], "has no parameter 'eopchs'; it has epochs"),
        (["-p", "epochs", "many"], "epochs must be"),
        (["-f", "no/such.yaml"], "no/such.yaml"),
        (["--demo"], "alone"),
        (["--source", "raw"], "goes with --demo"),
    ],
)
def test_usage_errors_run_nothing(
    notebook: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = notebook.parent / "out.ipynb"
    with pytest.raises(SystemExit) as exit_info:
        main([str(notebook), str(output), *arguments])
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not output.exists()


def test_an_output_that_cannot_be_written_is_named(
    notebook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    below = notebook / "out" / "copy.ipynb"  # a file has nothing below it
    with pytest.raises(SystemExit) as exit_info:
        main([str(notebook), str(below)])
    assert exit_info.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("python -m doodlelib.run: error: ")
    assert str(below.parent) in message


def test_the_command_line_runs_a_notebook(notebook: Path) -> None:
    values = notebook.with_name("values.yaml")
    values.write_text("epochs: 1\nname: of the file\n")
    command = [sys.executable, "-m", "doodlelib.run", notebook.name, "out.ipynb"]
    command += ["-f", values.name, "-p", "epochs", "5"]
    done = subprocess.run(command, cwd=notebook.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "epochs 5" in done.stdout
    executed = json.loads((notebook.parent / "out.ipynb").read_text())
    parameters = executed["metadata"]["papermill"]["parameters"]
    assert parameters == {"epochs": 5, "name": "of the file"}


def test_a_series_runs_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = 'name: str = "demo"\nwords: list = []'
    cells = [parameters + '\nsource: str = "sample"', "print(name, words, source)"]
    write_notebook(tmp_path / "01_first.ipynb", *cells)
    write_notebook(tmp_path / "02_second.ipynb", parameters, "print(name, words, 'no source')")
    config = tmp_path / "config" / "few"
    config.mkdir(parents=True)
    for stem, word in (("02_more", "dog"), ("01", "cat"), ("02", "owl")):
        (config / f"{stem}.yaml").write_text(f"name: some\nwords: [{word}]\n")
    for place in ("NOTEBOOKS", "ROOT"):
        monkeypatch.setattr(notebooks, place, tmp_path)
    monkeypatch.setattr(notebooks, "RUNS", tmp_path / "reports" / "runs")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    outputs = notebooks.run_series("few", source="raw")
    printed = capsys.readouterr().out
    said = ("cat'] raw", "owl'] no source", "dog'] no source")
    places = [printed.index(f"some ['{words}") for words in said]
    assert places == sorted(places)
    steps = zip(outputs, ("01_first", "02_second", "02_second_more"), strict=True)
    for (output, step), word in zip(steps, ("cat", "owl", "dog"), strict=True):
        assert output == tmp_path / f"reports/runs/some/{step}.ipynb"
        assert word in output.read_text()
        assert f"reports/runs/some/{step}.ipynb" in printed


def test_without_a_clone_there_are_no_notebooks_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    for arguments in (["--demo"], [str(tmp_path / "notebooks" / "01.ipynb"), "x"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert "in a clone of the repository" in capsys.readouterr().err.splitlines()[-1]


GIF = "R0lGODdhAQABAIAAAAAAAP///ywAAAAAAQABAAACAkQBADs="


def test_a_page_has_its_equations_and_moving_pictures_in_it(tmp_path: Path) -> None:
    moving = new_output("display_data", {"image/gif": GIF, "text/plain": "<an Image>"})
    cells = [
        new_markdown_cell("The rate $\\beta=wN/Z$ of\n$$\\sum_m \\pi_m\\,p_m$$ stands here."),
        new_code_cell("show()", outputs=[moving]),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")
    sheet = runpy.run_path(str(ROOT / "experiments/pages.py"))
    page = sheet["to_html"](tmp_path / "a.ipynb", tmp_path / "pages" / "a.html").read_text("utf-8")
    assert page.count("<math") == page.count("</math>") == 2
    assert 'display="block"' in page
    assert "<msub><mi>π</mi><mi>m</mi></msub>" in page
    assert f"data:image/gif;base64,{GIF}" in page
    assert "an Image" not in page
    assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="https?:', page)
