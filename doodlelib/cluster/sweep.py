"""Trials of a sweep: which there are, one of them run, and what came of all.

A trial leaves in the sweep's folder the executed notebook and, as JSON, what came of it; the
notebook's own files lie where the notebook puts them.
"""

import hashlib
import itertools
import json
import math
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doodlelib.cli.notebooks import NotebookError, check_parameters, read_parameters, run_notebook
from doodlelib.paths import atomic_write, checked_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LONGEST = 80  # characters of a trial's name


@dataclass(frozen=True)
class Trial:
    """One run of a notebook.

    Attributes:
        name: Tells it from the others; the parameters decide it.
        parameters: Of the notebook, by name.
    """

    name: str
    parameters: dict[str, Any]


def make_trials(
    notebook: str | Path,
    *,
    prefix: str,
    grid: Mapping[str, Sequence[Any]],
    fixed: Mapping[str, Any],
    draws: int | None,
    seed: int,
) -> list[Trial]:
    """All combinations of the values in `grid`, or `draws` of them at random.

    Where the notebook has a parameter `name`, for the folder of its run, every trial gets its own,
    which begins with `prefix`.

    Raises:
        FileNotFoundError: There is no such notebook.
        ValueError: A parameter that it has not, or has fixed as well, a value that does not fit,
            none to try, or fewer combinations than `draws`.
    """
    if twice := grid.keys() & fixed.keys():
        raise ValueError(f"{min(twice)} is both swept and fixed")
    if not all(grid.values()):
        raise ValueError(f"no values to try: {dict(grid)}")
    combinations = [
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ]
    if draws is not None:
        if not 1 <= draws <= len(combinations):
            raise ValueError(f"{draws} draws out of {len(combinations)} combinations")
        combinations = random.Random(seed).sample(combinations, draws)
    is_named = "name" in read_parameters(notebook) and "name" not in grid.keys() | fixed.keys()
    made = []
    for combination in combinations:
        name = _name(combination)
        own = {"name": checked_name(f"{prefix}_{name}")} if is_named else {}
        made.append(Trial(name, {**fixed, **combination, **own}))
        check_parameters(notebook, made[-1].parameters)
    return made


def run_trial(trial: Trial, *, notebook: Path, folder: Path, runs: Path) -> dict[str, Any]:
    """Run it and note in `folder` what came of it; a notebook that fails is a result too.

    Args:
        trial: One of `make_trials`.
        notebook: Which one.
        folder: Of the sweep.
        runs: Where the notebook's parameter `name` puts its folder.
    """
    began = time.perf_counter()
    try:
        run_notebook(notebook, folder / f"{trial.name}.ipynb", trial.parameters)
    except (NotebookError, OSError, ValueError) as error:
        return note(trial, folder, error=str(error), seconds=time.perf_counter() - began)
    figures = _figures(runs / trial.parameters["name"]) if "name" in trial.parameters else {}
    return note(trial, folder, figures=figures, seconds=time.perf_counter() - began)


def note(
    trial: Trial,
    folder: Path,
    *,
    error: str = "",
    seconds: float = math.nan,
    figures: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Write down what came of a trial, and give it back."""
    result = {
        "parameters": trial.parameters,
        "error": " ".join(error.split()),
        "seconds": round(seconds, 1),
        "figures": dict(figures or {}),
    }
    with atomic_write(folder / f"{trial.name}.json") as file:
        file.write(json.dumps(result, indent=2).encode())
    return result


def is_done(trial: Trial, folder: Path) -> bool:
    """Whether it has ended well before, with the very parameters."""
    result = _result(trial, folder)
    return result["parameters"] == trial.parameters and not result["error"]


def write_results(trials: Sequence[Trial], folder: Path, *, swept: Sequence[str]) -> Path:
    """The table of all trials, best first, and a plot of the first figure that is a loss."""
    import pandas as pd

    rows = []
    for trial in trials:
        result = _result(trial, folder)
        own = {name: trial.parameters[name] for name in trial.parameters if name != "name"}
        known = {"error": result["error"], "seconds": result["seconds"], **result["figures"]}
        rows.append({"trial": trial.name, **own, **known})
    table = pd.DataFrame(rows)
    scores = [name for name in table if str(name).endswith("valid_loss")]
    if scores:
        table = table.sort_values(scores[0], ignore_index=True)
    with atomic_write(folder / "results.csv") as file:
        file.write(table.to_csv(index=False).encode())
    if scores and swept:
        _plot(table, swept=swept, score=scores[0]).savefig(folder / "results.png")
    return folder / "results.csv"


def _plot(table: "pd.DataFrame", *, swept: Sequence[str], score: str) -> "Figure":
    """A panel for each swept column, a dot for each trial that has a score; lower is better."""
    from doodlelib.viz.plots import PALETTE, new_figure

    known = table.dropna(subset=score)
    figure = new_figure(figsize=(3.4 * len(swept), 3.0))
    for number, name in enumerate(swept):
        ax = figure.add_subplot(1, len(swept), number + 1)
        texts = known[name].astype(str)
        values = list(dict.fromkeys(known.sort_values(name)[name].astype(str)))
        for position, value in enumerate(values):
            scores = known[score][texts == value]
            ax.plot([position] * len(scores), scores, "o", color=PALETTE[0], alpha=0.6)
            ax.plot(position, scores.min(), "o", color=PALETTE[1])
        ax.set(xlabel=name.replace("_", " "), ylabel=score)
        ax.set_xticks(range(len(values)), values)
    return figure


def _name(values: Mapping[str, Any]) -> str:
    """Short, fit for a file, and another one for other values."""
    text = json.dumps(values, sort_keys=True)
    plain = "_".join(f"{name}-{value}" for name, value in values.items()) or "all"
    if len(plain) <= LONGEST and re.fullmatch(r"[\w.-]+", plain):
        return plain
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', plain)[:LONGEST]}-{digest}"


def _figures(folder: Path) -> dict[str, float]:
    """Of each ``*_metrics.csv`` the row with the least validation loss, by file and column."""
    import pandas as pd

    figures = {}
    for path in sorted(folder.glob("*_metrics.csv")):
        table = pd.read_csv(path)
        best = table.loc[table["valid_loss"].idxmin()]
        kind = path.stem.removesuffix("_metrics")
        figures |= {f"{kind}.{name}": float(value) for name, value in best.items()}
    return figures


def _result(trial: Trial, folder: Path) -> dict[str, Any]:
    """What was noted of it; where nothing was, that it was not run."""
    try:
        return json.loads((folder / f"{trial.name}.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {"parameters": None, "error": "not run", "seconds": math.nan, "figures": {}}
