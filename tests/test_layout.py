"""Which room may import which, and a few rules that hold for all files."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import doodlelib
from doodlelib.paths import ROOT

PACKAGE = ROOT / "doodlelib"
FILES = sorted(PACKAGE.rglob("*.py"))

# Each line may import only what stands above it, so imports run one way; in a room likewise, by
# the order in which its files import one another, which has no circle (below).
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "paths": set(),
    "interrupt": set(),
    "progress": set(),
    "jit": set(),
    "strokes": set(),
    "config": {"paths"},
    "simplify": {"strokes", "jit"},
    "raster": {"strokes", "jit"},
    "fast": {"jit"},
    "data": {"strokes", "simplify", "raster", "jit", "paths", "progress"},
    "models": {"strokes", "simplify", "raster", "config", "paths", "fast"},
    "training": {
        *("strokes", "simplify", "config", "paths", "interrupt", "progress"),
        *("fast", "data", "models"),
    },
    "analysis": {"strokes", "simplify", "models"},
    "viz": {"strokes", "paths"},
    "lab": {"strokes", "paths", "models", "analysis", "viz"},
    "page": {"strokes", "paths", "data", "models"},
    "cli": {
        *("strokes", "config", "paths", "interrupt", "progress"),
        *("data", "models", "training", "viz", "page"),
    },
    "__main__": {"cli"},
    "run": {"cli"},
    "cluster": {
        *("strokes", "config", "paths", "interrupt", "data", "models", "fast", "training", "viz"),
        *("analysis", "cli"),
    },
}
CORE = [
    *("strokes.py", "simplify.py", "models/batch.py", "models/lstm.py", "models/mdn.py"),
    *("models/network.py", "models/likelihood.py", "models/sampling.py"),
]
MOST_FILES, MOST_LINES = 69, 11_550
MOST_CORE_LINES, MOST_NAMES = 1_500, 12


def room_of(path: Path) -> str:
    first, *_ = path.relative_to(PACKAGE).with_suffix("").parts
    return first


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of the modules that are imported, at the top or within functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def by_id(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_the_table_runs_one_way() -> None:
    above: set[str] = set()
    for name, allowed in MAY_IMPORT.items():
        assert allowed <= above, f"{name} may not import {allowed - above}"
        above.add(name)


@pytest.mark.parametrize("path", FILES, ids=by_id)
def test_imports_keep_to_the_table(path: Path) -> None:
    ours = {name.split(".")[1] for name in imports(parsed(path)) if name.startswith("doodlelib.")}
    room = room_of(path)
    assert room in MAY_IMPORT, "a new room wants its line in the table"
    assert ours - {room} <= MAY_IMPORT[room], ours - {room} - MAY_IMPORT[room]


def test_no_circle() -> None:
    """Files in an order in which each imports only those before it; faces come after their room."""
    needs = {
        module_of(path): {n for n in imports(parsed(path)) if n in MODULES} - {module_of(path)}
        for path in FILES
    }
    done: set[str] = set()
    while ready := {name for name, wanted in needs.items() if wanted <= done} - done:
        done |= ready
    assert done == set(needs), f"files that import one another: {sorted(set(needs) - done)}"


@pytest.mark.parametrize("path", FILES, ids=by_id)
def test_no_file_reaches_for_what_another_keeps_to_itself(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("doodlelib"):
            assert not [alias.name for alias in node.names if alias.name.startswith("_")]


@pytest.mark.parametrize("room", [name for name in MAY_IMPORT if (PACKAGE / name).is_dir()])
def test_a_room_has_a_face(room: str) -> None:
    tree = parsed(PACKAGE / room / "__init__.py")
    assert (ast.get_docstring(tree) or "").strip()
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert sum(len(node.names) for node in froms) <= MOST_NAMES


def test_the_library_is_small() -> None:
    assert len(FILES) <= MOST_FILES
    assert sum(map(lines, FILES)) <= MOST_LINES


def test_the_core_can_be_read_in_an_afternoon() -> None:
    assert sum(lines(PACKAGE / name) for name in CORE) <= MOST_CORE_LINES


def test_what_the_core_imports() -> None:
    """Itself, PyTorch, and what it is made faster by; nothing else of ours."""
    core = {module_of(PACKAGE / name) for name in CORE}
    also = {"doodlelib.config", "doodlelib.jit", "doodlelib.paths", "doodlelib.models.prior"}
    for name in CORE:
        for wanted in imports(parsed(PACKAGE / name)):
            is_ours = wanted.startswith("doodlelib")
            assert not is_ours or wanted in core | also or wanted.startswith("doodlelib.fast")


def test_tests_mirror_the_rooms() -> None:
    """`tests/<room>/test_<file>.py` is about `doodlelib/<room>/<file>.py`."""
    for test in (ROOT / "tests").rglob("test_*.py"):
        folder, name = test.parent.relative_to(ROOT / "tests"), test.stem.removeprefix("test_")
        if folder.as_posix() in ("faults", "notebooks") or name in ("layout", "install"):
            continue
        assert (PACKAGE / folder / f"{name}.py").exists() or name in (
            "mirror",
            "browser",
            "pad_page",
        ), test


def test_old_names_lead_to_the_same_modules() -> None:
    for old, new in doodlelib.MOVED.items():
        module = importlib.import_module(f"doodlelib.{new}")
        assert getattr(doodlelib, old) is module
        assert importlib.import_module(f"doodlelib.{old}") is module


@pytest.mark.parametrize("path", FILES, ids=by_id)
def test_only_the_lab_knows_of_widgets(path: Path) -> None:
    libraries = {name.split(".")[0] for name in imports(parsed(path))}
    assert room_of(path) == "lab" or not libraries & {"ipywidgets", "anywidget"}


@pytest.mark.parametrize("path", FILES, ids=by_id)
def test_only_the_cluster_knows_of_ray(path: Path) -> None:
    libraries = {name.split(".")[0] for name in imports(parsed(path))}
    assert room_of(path) == "cluster" or "ray" not in libraries


@pytest.mark.parametrize("path", FILES, ids=by_id)
def test_no_private_function_of_a_library(path: Path) -> None:
    used = {ast.unparse(node) for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
    used |= set(imports(parsed(path)))
    assert not [
        name
        for name in used
        if re.match(r"torch\.ops\b|(torch|np|numpy|numba)\._[a-z]|numba\.core", name)
    ]


@pytest.mark.parametrize("path", FILES, ids=by_id)
def test_nothing_unpickles_at_will(path: Path) -> None:
    for call in (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)):
        name, keywords = (
            ast.unparse(call.func),
            {k.arg: ast.unparse(k.value) for k in call.keywords},
        )
        assert keywords.get("allow_pickle", "False") == "False"
        assert name not in ("pickle.load", "pickle.loads")
        if name == "torch.load":
            assert keywords.get("weights_only") == "True"


def test_nothing_points_out_of_the_repository() -> None:
    outside = [".." + "/shared", "/wor" + "k/"]  # in two parts, so that this file may hold them
    left_out = (".venv", ".git", "scratch", ".ci", ".pytest_cache", ".ruff_cache", ".hypothesis")
    kept = [path for path in ROOT.iterdir() if path.name not in left_out]
    suffixes = {".py", ".md", ".ipynb", ".yaml", ".yml", ".json", ".toml", ".txt", ""}
    for path in (path for top in kept for path in (top, *top.rglob("*"))):
        inside = path.relative_to(ROOT)
        generated = {"runs", "raw", "processed"} & set(inside.parts)
        if path.is_file() and path.suffix in suffixes and not generated:
            text = path.read_text(encoding="utf-8")
            assert not [word for word in outside if word in text], inside
