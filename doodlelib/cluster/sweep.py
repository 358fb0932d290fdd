"""Hyper-parameter sweep: a notebook executed once for each combination of parameters, by Ray Tune.

A trial leaves the executed notebook in the sweep's folder; the notebook's own files lie where it
puts them.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doodlelib.cli.notebooks import check_parameters, read_parameters, run_notebook
from doodlelib.cluster.prepare import connected
from doodlelib.paths import RUNS, atomic_write, checked_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def sweep(
    notebook: str | Path,
    *,
    address: str | None = None,
    folder: str | Path | None = None,
    grid: Mapping[str, Sequence[Any]],
    fixed: Mapping[str, Any] | None = None,
    draws: int | None = None,
    seed: int = 0,
    cpus: float = 1,
    gpus: float = 0,
    runs: str | Path = RUNS,
) -> Path:
    """Run a notebook with many combinations of parameters, and tabulate its metrics.

    As many trials run at once as there is room for, and one that fails stops no other. The same
    call again runs only those that have failed or not ended.

    Args:
        notebook: Where it has a parameter `name`, for the folder of its run, each trial gets its
            own.
        address: Of the Ray cluster; see `connected`.
        folder: Of executed notebooks and results, seen by all nodes; None: one of the notebook's
            name in `runs`.
        grid: Values to try, by parameter.
        fixed: Parameters that are the same in all trials.
        draws: Random search, so many combinations, each value at random; None: grid search.
        seed: Of the random search.
        cpus: Cores of a trial.
        gpus: GPUs of a trial, or a share of one.
        runs: Where the notebook's parameter `name` puts its folder.

    Returns:
        ``results.csv``, best first: of each trial the parameters, the error, and from each
        ``*_metrics.csv`` in its folder the row with the least validation loss. Beside it a plot,
        ``results.png``.

    Raises:
        FileNotFoundError: There is no such notebook.
        ValueError: A parameter that it has not, or that is fixed as well; a value that does not
            fit; none to try.
        KeyboardInterrupt: Stopped by Ctrl-C.
    """
    notebook, runs, fixed = Path(notebook).resolve(), Path(runs).resolve(), dict(fixed or {})
    folder = Path(folder or runs / f"sweep_{notebook.stem}").resolve()
    if twice := grid.keys() & fixed.keys():
        raise ValueError(f"{min(twice)} is both swept and fixed")
    if not all(grid.values()) or (draws is not None and draws < 1):
        raise ValueError(f"nothing to try: {dict(grid)}, draws {draws}")
    for name, values in grid.items():
        for value in values:
            check_parameters(notebook, fixed | {name: value})
    is_named = "name" in read_parameters(notebook) and "name" not in {**grid, **fixed}
    prefix = checked_name(folder.name) if is_named else None
    text = json.dumps([str(notebook), dict(grid), fixed, draws, seed])
    place = folder / f"tune_{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # paths are from this process's folder
    with connected(address):
        from ray import tune
        from ray.tune.search import BasicVariantGenerator

        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # tracebacks of failed trials
        where = {"notebook": notebook, "folder": folder, "runs": runs, "prefix": prefix}
        run = tune.with_parameters(_run_trial, fixed=fixed, **where)
        run = tune.with_resources(run, {"cpu": cpus, "gpu": gpus})
        if tune.Tuner.can_restore(str(place)):
            tuner = tune.Tuner.restore(str(place), run, restart_errored=True)
        else:
            choose: Any = tune.choice if draws else tune.grid_search
            tuner = tune.Tuner(
                run,
                param_space={name: choose(list(values)) for name, values in grid.items()},
                tune_config=tune.TuneConfig(
                    num_samples=draws or 1, search_alg=BasicVariantGenerator(random_state=seed)
                ),
                run_config=tune.RunConfig(name=place.name, storage_path=str(folder), verbose=1),
            )
        results: Any = tuner.fit()
    if results.num_terminated + results.num_errors < len(results):
        raise KeyboardInterrupt("stopped; the same command goes on with what has not ended")
    return _write_results(results, folder, swept=[name for name in grid if len(grid[name]) > 1])


def _run_trial(
    config: dict[str, Any],
    *,
    fixed: dict[str, Any],
    notebook: Path,
    folder: Path,
    runs: Path,
    prefix: str | None,
) -> dict[str, float]:
    """Run one trial; of each ``*_metrics.csv`` the best row, by file and column."""
    import pandas as pd
    from ray import tune

    trial = tune.get_context().get_trial_id()
    parameters = {**fixed, **config} | ({"name": f"{prefix}_{trial}"} if prefix else {})
    run_notebook(notebook, folder / f"{trial}.ipynb", parameters)
    metrics = {}
    for path in sorted((runs / str(parameters.get("name"))).glob("*_metrics.csv")):
        table = pd.read_csv(path)
        best = table.loc[table["valid_loss"].idxmin()]
        metrics |= {f"{path.stem.removesuffix('_metrics')}.{n}": float(v) for n, v in best.items()}
    return metrics


def _write_results(results: Any, folder: Path, *, swept: Sequence[str]) -> Path:
    """The table of all trials, best first, and a plot of the first validation loss."""
    import pandas as pd

    rows = []
    for result in results:
        error = str(getattr(result.error, "cause", None) or result.error or "")
        found = result.metrics or {}
        own = {"error": " ".join(error.split()), "seconds": found.get("time_total_s")}
        metrics = {name: value for name, value in found.items() if "." in name}
        rows.append({"trial": found.get("trial_id"), **(result.config or {}), **own, **metrics})
    table = pd.DataFrame(rows)
    score = next((name for name in table if str(name).endswith(".valid_loss")), None)
    if score:
        table = table.sort_values(score, ignore_index=True)
    with atomic_write(folder / "results.csv") as file:
        file.write(table.to_csv(index=False).encode())
    if score and swept:
        _plot(table, swept=swept, score=str(score)).savefig(folder / "results.png")
    return folder / "results.csv"


def _plot(table: "pd.DataFrame", *, swept: Sequence[str], score: str) -> "Figure":
    """A panel for each swept column, a dot for each trial that has a score; lower is better."""
    from doodlelib.viz.plots import PALETTE, new_figure

    figure = new_figure(figsize=(3.4 * len(swept), 3.0))
    for number, name in enumerate(swept):
        ax = figure.add_subplot(1, len(swept), number + 1)
        known = table.dropna(subset=score).sort_values(name)
        texts = known[name].astype(str)
        ax.plot(texts, known[score], "o", color=PALETTE[0], alpha=0.6)
        best = known[score].groupby(texts, sort=False).min()
        ax.plot(best.index, best, "o", color=PALETTE[1])
        ax.set(xlabel=name.replace("_", " "), ylabel=score)
    return figure
