"""The notebooks as files: their shape, their parameters, and nothing in them that was run."""

import ast
import dataclasses
import itertools
import json
import re
import statistics
import subprocess
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
from files import STEPS

from doodlelib import paths
from doodlelib.cli.notebooks import check_parameters, read_parameters, read_yaml
from doodlelib.config import CNNConfig, Config, RetimeConfig, VAEConfig, read_config
from doodlelib.data import make_drawings, read_store
from doodlelib.paths import CONFIG, NOTEBOOKS, ROOT
from doodlelib.viz.export import to_ndjson

CELL_LINES = 25
MEDIAN_LINES = 8
FORBIDDEN = r"^\s*[%!]|sys\.path|os\.chdir|CUDA_VISIBLE_DEVICES|\binteract\b"
WIDGETS = "doodlelib.lab"

Notebook = dict[str, Any]


@pytest.fixture(params=STEPS)
def step(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def notebook(step: str) -> Notebook:
    return json.loads((NOTEBOOKS / f"{step}.ipynb").read_text(encoding="utf-8"))


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def code_cells(notebook: Notebook) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def trains(notebook: Notebook) -> bool:
    return any("training.fit(" in source(cell) for cell in notebook["cells"])


def test_there_are_no_other_notebooks() -> None:
    assert tuple(sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))) == STEPS


def test_it_starts_with_its_question(notebook: Notebook, step: str) -> None:
    first = notebook["cells"][0]
    lines = source(first).splitlines()
    assert first["cell_type"] == "markdown"
    assert re.fullmatch(rf"# {step[:2]} · \S.*", lines[0])
    assert "?" in source(first)
    assert re.findall(r"\*\*(In|Out|Runs)\b", source(first)) == ["In", "Out", "Runs"]


def test_its_kernel_is_python3(notebook: Notebook) -> None:
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in notebook["metadata"]
    assert "papermill" not in notebook["metadata"]


def test_it_holds_no_outputs_as_it_is_committed(step: str) -> None:
    """One that is open in the lab may hold some."""
    command = ["git", "show", f":notebooks/{step}.ipynb"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True)
    if shown.returncode:
        pytest.skip("this is no clone")
    notebook = json.loads(shown.stdout)
    for cell in code_cells(notebook):
        assert not cell["outputs"]
        assert cell["execution_count"] is None
    assert "base64" not in json.dumps(notebook)


def test_its_cells_are_short_and_told_about(notebook: Notebook) -> None:
    code = code_cells(notebook)
    for cell in code:
        if "parameters" not in tags(cell):  # one a line, and the models have many
            assert len(source(cell).splitlines()) <= CELL_LINES, source(cell)
    markdown = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    assert len(markdown) / len(code) >= 0.6
    assert any(source(cell).startswith("## Result") for cell in markdown)
    # a training that is done has done its work, however poor; the others fail
    assert ("warnings.warn(" if trains(notebook) else "assert ") in source(code[-1])


def test_half_of_its_code_cells_are_very_short_and_none_is_hidden(notebook: Notebook) -> None:
    code = code_cells(notebook)
    assert statistics.median(len(source(cell).splitlines()) for cell in code) <= MEDIAN_LINES
    assert not any("jupyter" in cell["metadata"] for cell in code)


def test_it_says_that_a_program_made_the_sample(notebook: Notebook) -> None:
    told = " ".join(source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    code = "".join(source(cell) for cell in code_cells(notebook))
    assert "program" in told or "SAMPLE_NOTE" in code
    assert ".origin" in code or '"made by a program"' in code  # in titles of figures


def test_no_function_is_defined_in_two_notebooks() -> None:
    defined: Counter[str] = Counter()
    for path in NOTEBOOKS.glob("*.ipynb"):
        code = "\n".join(map(source, code_cells(json.loads(path.read_text("utf-8")))))
        functions = (n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.FunctionDef))
        defined.update({function.name for function in functions})
    assert not [name for name, count in defined.items() if count > 1]


def test_it_imports_rooms_and_few_files(notebook: Notebook) -> None:
    code = "\n".join(map(source, code_cells(notebook)))
    imports = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.ImportFrom)]
    assert len([n for n in imports if (n.module or "").startswith("doodlelib")]) <= 8


def test_it_leaves_work_to_the_package(notebook: Notebook) -> None:
    for cell in code_cells(notebook):
        assert not re.search(FORBIDDEN, source(cell), re.MULTILINE), source(cell)
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(ast.parse(source(cell))))


def test_parameters_come_first_among_the_code(notebook: Notebook, step: str) -> None:
    assert tags(code_cells(notebook)[0]) == ["parameters"]
    assert read_parameters(NOTEBOOKS / f"{step}.ipynb")


def declared(notebook: Notebook) -> dict[str, tuple[str, Any]]:
    """Type and default of each parameter; all are literals with their types."""
    lines = ast.parse(source(code_cells(notebook)[0])).body
    assert all(isinstance(line, ast.AnnAssign) and line.value for line in lines)
    return {
        line.target.id: (ast.unparse(line.annotation), ast.literal_eval(line.value))
        for line in lines
    }


def test_papermill_sees_the_same_parameters(notebook: Notebook, step: str) -> None:
    assert read_parameters(NOTEBOOKS / f"{step}.ipynb") == {
        name: type_ if default is not None else f"{type_} | None"
        for name, (type_, default) in declared(notebook).items()
    }


def test_defaults_and_smoke_values_are_of_the_declared_types(notebook: Notebook, step: str) -> None:
    path = NOTEBOOKS / f"{step}.ipynb"
    check_parameters(path, {name: default for name, (_, default) in declared(notebook).items()})
    check_parameters(path, read_yaml(CONFIG / "smoke" / f"{step[:2]}.yaml"))


def run_to_its_folder(notebook: Notebook, **values: object) -> dict[str, Any]:
    """Execute the parameters, given ones in their place, and the cell of imports; its variables."""
    variables: dict[str, Any] = {}
    parameters, first = code_cells(notebook)[:2]
    exec(source(parameters), variables)
    variables.update(values)
    with mpl.rc_context():
        exec(source(first), variables)
    return variables


def cell_with(notebook: Notebook, text: str) -> str:
    """The only cell of code that holds `text`."""
    (found,) = [source(cell) for cell in code_cells(notebook) if text in source(cell)]
    return found


@pytest.mark.parametrize("step", STEPS[1:2])
def test_too_few_drawings_for_a_split_are_told(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """As is what to do about it, each time that the store is read."""
    for name in ("RUNS", "PROCESSED"):
        monkeypatch.setattr(paths, name, tmp_path / name)
    to_ndjson(make_drawings("star", 2), tmp_path / "own" / "star.ndjson")
    values = {"source": str(tmp_path / "own"), "samples_per_class": 2, "name": "few"}
    variables = run_to_its_folder(notebook, **values)
    for text in ("words = words or", "prepare(", "splits = {", "splits = {"):
        exec(cell_with(notebook, text), variables)
    told = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"no drawing for .*test.*: add drawings, or give larger shares.*", told)
    assert read_store(tmp_path / "PROCESSED" / "few")["words"] == ["star"]


def poor_results() -> dict[str, Any]:
    """What the last cell of a training reads, where the training brought nothing."""
    best = pd.Series({"epoch": 1, "valid_loss": 9.0})
    report = pd.DataFrame({"precision": {"accuracy": 0.2}})
    table = pd.DataFrame({"segment_time": {"retimer": 3.0, "Gaussian": 2.0}})
    history = pd.DataFrame({"epoch": [1, 2]})
    known = {"warnings": warnings, "words": ["cat", "car"], "labels": [0, 1]}
    return known | {"best": best, "history": history, "report": report, "table": table}


def test_a_poor_training_is_done_all_the_same(notebook: Notebook, tmp_path: Path) -> None:
    if not trains(notebook):
        pytest.skip("it trains nothing")
    with pytest.warns(UserWarning, match=r"^no (epoch was )?better than "):
        exec(source(code_cells(notebook)[-1]), poor_results() | {"folder": tmp_path})


def test_parameters_are_checked_before_anything_is_done(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    for name, value in (("seed", "many"), ("name", ["a"]), ("overrides", 3), ("words", "cat")):
        if name in declared(notebook):
            with pytest.raises(ValueError, match=rf"^{name} must be "):
                run_to_its_folder(notebook, **{name: value})
    assert not (tmp_path / "runs").exists()
    values = {"recognized": "false", "overwrite": "true"}
    known = {name: value for name, value in values.items() if name in declared(notebook)}
    variables = run_to_its_folder(notebook, name=2026, **known)
    assert (tmp_path / "runs" / "2026").is_dir()
    assert variables["name"] == "2026"
    assert [variables[name] for name in known] == [value == "true" for value in known.values()]


def test_no_training_is_mixed_with_another(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not trains(notebook):
        pytest.skip("all that it writes is written anew")
    code = "\n".join(map(source, code_cells(notebook)))
    (model,) = re.findall(r'run_folder\(name, "(\w+)"', code)
    written = set(re.findall(r'folder / "([^"]+)"', code))
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    (tmp_path / "a").mkdir()
    for name in written:
        (tmp_path / "a" / name).touch()
    assert f"{model}_best.pt" in written
    with pytest.raises(FileExistsError, match="a holds a run already"):
        run_to_its_folder(notebook, name="a")
    run_to_its_folder(notebook, name="a", resume=str(tmp_path / "a" / f"{model}_last.pt"))
    assert {path.name for path in (tmp_path / "a").iterdir()} == written
    run_to_its_folder(notebook, name="a", overwrite=True)
    assert not list((tmp_path / "a").iterdir())


def test_every_parameter_is_read(notebook: Notebook, step: str) -> None:
    code = "\n".join(source(cell) for cell in code_cells(notebook)[1:])
    read = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    assert set(read_parameters(NOTEBOOKS / f"{step}.ipynb")) <= read


@pytest.mark.parametrize(
    ("step", "kind"), [(STEPS[2], VAEConfig), (STEPS[3], CNNConfig), (STEPS[5], RetimeConfig)]
)
def test_hyper_parameters_are_those_of_the_configuration(
    notebook: Notebook, step: str, kind: type[Config]
) -> None:
    """None stands for the value of the parameter file; what is not listed goes into overrides."""
    defaults = {name: found[1] for name, found in declared(notebook).items()}
    keys = {"epochs" if f.name == "num_epochs" else f.name for f in dataclasses.fields(kind)}
    assert {name for name, value in defaults.items() if value is None} == keys & {*defaults}
    assert defaults["overrides"] == {}
    assert {"epochs", "batch_size", "learning_rate"} <= keys & {*defaults}
    read_config(kind, **read_yaml(CONFIG / "smoke" / f"{step[:2]}.yaml").get("overrides", {}))


def test_widgets_have_a_static_twin(notebook: Notebook) -> None:
    """A cell that makes a widget is one line, tagged skip-execution, after one that is executed."""
    code, names = code_cells(notebook), set()
    for cell in code:
        for node in ast.walk(ast.parse(source(cell))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if f"{node.module}.{alias.name}.".startswith(f"{WIDGETS}."):
                        names.add(alias.asname or alias.name)
    for before, cell in itertools.pairwise(code):
        calls = [node for node in ast.walk(ast.parse(source(cell))) if isinstance(node, ast.Call)]
        makes_widget = any(ast.unparse(call.func).split(".")[0] in names for call in calls)
        assert makes_widget == ("skip-execution" in tags(cell)), source(cell)
        if makes_widget:
            assert len(source(cell).splitlines()) == 1
            assert "skip-execution" not in tags(before)


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*/*.yaml")), ids=lambda path: str(path)[-20:])
def test_every_file_of_parameters_fits_its_notebook(path: Path) -> None:
    number = re.search(r"(?<!\d)\d\d(?!\d)", path.stem)[0]
    check_parameters(next(NOTEBOOKS.glob(f"{number}_*.ipynb")), read_yaml(path))
