"""Which file may import which, and a few rules that hold for all of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from doodlelib.paths import ROOT

PACKAGE = ROOT / "doodlelib"
FILES = sorted(PACKAGE.glob("*.py"))
LONGEST = 300  # lines

RAY = {"nodes", "together", "cluster"}
WIDGETS = {"player", "controls", "pad", "latent_map", "widgets"}

# Each line may import only what stands above it, so imports run one way.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "paths": set(),
    "signals": set(),
    "ranks": set(),
    "strokes": set(),
    "kernels": set(),
    "threads": set(),
    "products": set(),
    "words": set(),
    "lstm_trace": set(),
    "lstm_torch": {"lstm_trace"},
    "lstm_step": {"kernels", "lstm_trace"},
    "lstm_cpu": {"threads", "products", "lstm_trace", "lstm_step"},
    "lstm_triton": {"lstm_trace"},
    "recurrence": {"products", "lstm_trace", "lstm_torch", "lstm_cpu", "lstm_triton"},
    "lstm": {"threads", "recurrence"},
    "mdn": {"strokes"},
    "parameters": set(),
    "config": {"paths"},
    # files in and out
    "transfer": {"paths"},
    "chunks": {"strokes", "kernels"},
    "ndjson": {"strokes", "kernels", "chunks"},
    "binary": {"strokes", "ndjson"},
    "npz": {"strokes", "ndjson"},
    "frames": {"strokes"},
    "svg": {"strokes", "frames"},
    "formats": {"strokes", "ndjson", "binary", "npz", "svg"},
    "gif": {"strokes", "frames"},
    "export": {"paths", "strokes", "frames", "svg", "formats", "gif"},
    # drawings, prepared
    "quickdraw": {"paths", "strokes", "transfer", "ndjson"},
    "sample_shapes": set(),
    "sample": {"strokes", "sample_shapes"},
    "sources": {"paths", "strokes", "chunks", "ndjson", "formats", "quickdraw", "sample"},
    "simplify": {"strokes", "kernels", "chunks"},
    "raster": {"strokes", "kernels"},
    "framing": {"strokes", "raster"},
    "spread": {"strokes"},
    "store": {"paths", "strokes"},
    "blocks": {"chunks", "simplify", "sources", "spread", "store"},
    "dataset": {"paths", "blocks", "sources", "spread", "store"},
    # models
    "inputs": {"strokes"},
    "exemplars": set(),
    "nats": set(),
    "optimizers": set(),
    "batches": {"strokes", "kernels", "store", "dataset"},
    "network": {
        "ranks",
        "threads",
        "words",
        "strokes",
        "config",
        "inputs",
        "lstm",
        "mdn",
        "exemplars",
        "nats",
        "optimizers",
        "batches",
    },
    "reader": {"strokes", "config", "inputs", "mdn", "network"},
    "timenet": {"strokes", "config", "inputs", "lstm", "mdn"},
    "retime": {
        *("ranks", "strokes", "config", "inputs", "lstm", "mdn", "simplify", "batches", "reader"),
        *("timenet", "optimizers", "threads"),
    },
    "steps": {"strokes", "inputs", "mdn", "network"},
    "draw_step": {"strokes", "kernels", "mdn", "network", "inputs", "lstm_step"},
    "stepper": {
        *("strokes", "products", "inputs", "mdn", "network", "steps", "draw_step"),
        *("lstm", "lstm_cpu", "lstm_step", "lstm_trace", "threads"),
    },
    "sampling": {"strokes", "threads", "network", "steps", "stepper"},
    "vae": {
        *("strokes", "config", "simplify", "batches", "nats", "network", "retime"),
        *("steps", "sampling", "threads"),
    },
    "pictures": {"config", "raster", "store"},
    "cnn": {"ranks", "config", "optimizers", "pictures"},
    "archive": set(),
    "checkpoint": {
        *("paths", "strokes", "config", "simplify", "vae", "cnn", "reader", "retime", "archive"),
    },
    "progress": {"paths", "ranks", "checkpoint"},
    "gradients": {"ranks"},
    "train": {"signals", "ranks", "checkpoint", "products", "gradients", "progress"},
    "measures": {"strokes"},
    "metrics": {"measures"},
    "ladder": {"strokes"},
    "latent": {"vae"},
    # what people see and call
    "plot": {"strokes"},
    "forecast": {"strokes", "mdn", "simplify", "vae"},
    "charts": {"plot"},
    # what lives in a notebook's page
    "player": {"strokes", "frames", "svg"},
    "controls": {"player"},
    "pad": {"paths", "strokes", "svg", "formats", "export", "vae", "cnn", "player", "controls"},
    "latent_map": {"strokes", "vae", "latent", "plot", "player", "controls"},
    "widgets": {"vae", "player", "controls", "latent_map"},
    # the command line
    "page": {"paths"},
    "run": {"paths", "signals", "parameters", "page"},
    "commands": {"paths", "parameters", "formats", "export", "framing", "checkpoint", "run"},
    "__main__": {"run", "commands"},
    # on many machines
    "shards": {"blocks", "quickdraw", "sources", "spread", "store"},
    "recipe": {
        "batches",
        "checkpoint",
        "config",
        "dataset",
        "exemplars",
        "reader",
        "retime",
        "store",
        "train",
        "vae",
    },
    "trials": {"paths", "parameters", "charts", "run"},
    "nodes": set(),
    "together": {"config", "dataset", "nodes", "progress", "recipe", "shards", "train"},
    "cluster": {
        *("paths", "parameters", "quickdraw", "blocks", "dataset", "run"),
        *("nodes", "shards", "together", "trials"),
    },
}


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of the modules that are imported, at the top or within functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            if node.module == "doodlelib":
                yield from (f"doodlelib.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_the_table_runs_one_way() -> None:
    above: set[str] = set()
    for name, allowed in MAY_IMPORT.items():
        assert allowed <= above, f"{name} may not import {allowed - above}"
        above.add(name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_keep_to_the_table(path: Path) -> None:
    ours = {name.split(".")[1] for name in imports(parsed(path)) if name.startswith("doodlelib.")}
    assert path.stem in MAY_IMPORT, "a new file wants its line in the table"
    assert ours <= MAY_IMPORT[path.stem], ours - MAY_IMPORT[path.stem]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_widgets_know_of_widgets(path: Path) -> None:
    libraries = {name.split(".")[0] for name in imports(parsed(path))}
    assert path.stem in WIDGETS or not libraries & {"ipywidgets", "anywidget"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_the_cluster_knows_of_ray(path: Path) -> None:
    libraries = {name.split(".")[0] for name in imports(parsed(path))}
    assert path.stem in RAY or "ray" not in libraries


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
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
