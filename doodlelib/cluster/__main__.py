"""The same work on many machines, by Ray: drawings prepared, a model trained, notebooks swept.

Every function here places on a cluster what runs on one machine as well; ``address`` is the
cluster's, none starts one on this machine. All nodes need this package, and the folders that are
named must be there on all of them (a shared file system) or URLs that fsspec knows.
"""

import argparse
import re
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from doodlelib.cli.notebooks import INTERRUPTED, literal, parse_values, read_yaml
from doodlelib.cluster import prepare as shards
from doodlelib.cluster import sweep as trials
from doodlelib.cluster.session import RETRIES, connected
from doodlelib.cluster.train import train
from doodlelib.data import dataset, quickdraw
from doodlelib.data.dataset import PreparedBatch
from doodlelib.paths import RUNS

__all__ = ["prepare", "sweep", "train"]

OUTSIDE_BRACKETS = r",(?![^\[({]*[\])}])"  # commas that part values
EXAMPLES = """\
examples:
  python -m doodlelib.cluster prepare data/processed/all --source raw --samples_per_class all
  python -m doodlelib.cluster train data/processed/all reports/runs/big --workers 8 --gpu
  python -m doodlelib.cluster sweep notebooks/03_train_vae.ipynb -g latent_size=32,64,128 \\
      -g kl_weight=0.25,0.5,1 --draws 5
"""


def prepare(
    out: str | Path, *, address: str | None = None, workers_write: str | None = None, **options: Any
) -> Path:
    """`dataset.prepare`, with the work done by the cluster; the store is the same to the byte.

    Args:
        out: The store's folder, written by this process.
        address: See the module.
        workers_write: In which folder that all nodes see, or URL, workers leave their parts until
            they are put together; None: beside `out`.
        **options: Those of `dataset.prepare`; errors are its own, too.
    """
    out = Path(out).resolve()
    folder = f"{workers_write or out.parent}/.{out.name}.{uuid.uuid4().hex[:8]}"
    with connected(address) as ray:
        return dataset.prepare(out, **options, make_batches=partial(_make_batches, ray, folder))


def _make_batches(
    ray: Any,
    folder: str,
    settings: dict[str, Any],
    sources: Sequence[str | Path],
    *,
    dropped: dict[str, Counter[str]],  # filled where batches are made in this process
    cache: str | Path | None,
    progress: bool,
) -> Iterator[tuple[str, str, PreparedBatch]]:
    """What `dataset.prepared_batches` gives, made by tasks of the cluster."""
    options = {"max_retries": RETRIES, "retry_exceptions": [ConnectionError]}
    make = ray.remote(**options)(shards.make_shard)
    tasks = shards.make_tasks(settings, sources)
    try:
        futures = [
            make.remote(task, settings=settings, folder=folder, cache=cache) for task in tasks
        ]
        while futures:
            try:
                shard = ray.get(futures.pop(0))
            except ray.exceptions.RayError as error:
                for future in futures:
                    ray.cancel(future, force=True)
                raise getattr(error, "cause", None) or RuntimeError(f"no store: {error}") from None
            with shards.opened(shard) as batch:
                yield shard.task.word, shard.task.source, batch
    finally:
        shards.remove(folder)


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
    runs: Path = RUNS,
) -> Path:
    """Run a notebook once for each combination of parameters, as many at once as there is room for.

    Trials that ended well in an earlier call are not run again. One that fails stops no other.

    Args:
        notebook: See `run.run_notebook`.
        address: See the module.
        folder: Of the executed notebooks and the results, seen by all nodes; None: one of the
            notebook's name in ``reports/runs/``.
        grid: Values to try, by parameter.
        fixed: Parameters that are the same in all trials.
        draws: Only so many combinations, drawn at random; None: all.
        seed: Of that.
        cpus: Cores that a trial takes.
        gpus: GPUs, or a share of one, that it takes.
        runs: Where the notebook's parameter `name` puts its folder.

    Returns:
        ``results.csv``, a row a trial with its parameters, state, error, time and figures; beside
        it ``results.png``.

    Raises:
        FileNotFoundError, ValueError: Before anything is run: see `trials.make_trials`.
    """
    folder = Path(folder or runs / f"sweep_{Path(notebook).stem}").resolve()
    wanted = trials.make_trials(
        notebook, prefix=folder.name, grid=grid, fixed=fixed or {}, draws=draws, seed=seed
    )
    todo = [trial for trial in wanted if not trials.is_done(trial, folder)]
    print(f"{len(wanted)} trials, {len(wanted) - len(todo)} of them done before", flush=True)
    with connected(address) as ray:
        run = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(trials.run_trial)
        where = {"notebook": Path(notebook).resolve(), "folder": folder, "runs": Path(runs)}
        running = {run.remote(trial, **where): trial for trial in todo}
        while running:
            (future,), _ = ray.wait(list(running))
            trial = running.pop(future)
            try:
                result = ray.get(future)
            except ray.exceptions.RayError as error:  # its machine, more often than it may
                result = trials.note(trial, folder, error=str(error))
            print(f"{trial.name}: {result['error'] or 'done'}; {len(running)} left", flush=True)
    return trials.write_results(
        wanted, folder, swept=[name for name in grid if len(grid[name]) > 1]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    command = options.pop("command")
    try:
        print(command(**options))
    except (ImportError, OSError, ValueError) as error:
        parser.error(" ".join(str(error).split()))
    except (ArithmeticError, RuntimeError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m doodlelib.cluster",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="{prepare,train,sweep}")

    def new(name: str, command: Any) -> Any:
        own = commands.add_parser(name, help=command.__doc__.splitlines()[0])
        own.set_defaults(command=command)
        own.add_argument(
            "--address", metavar="HOST:PORT", help="of the cluster (default: one here)"
        )
        return own.add_argument

    add = new("prepare", _prepare)
    add("out", type=Path, help="the store")
    add("--words", nargs="+", metavar="WORD", help="default: all 345")
    add("--source", default="raw", help="raw, simplified, sample or a folder (%(default)s)")
    add("--samples_per_class", type=_count, default=1000, metavar="N", help="or all (%(default)s)")
    add("--workers_write", metavar="URL", help="where workers leave their parts under way")
    add("--base_url", metavar="URL", help="of the published files or a mirror")

    add = new("train", _train)
    add("store", type=Path, help="prepared drawings")
    add("folder", type=Path, help="of the run")
    add("--workers", type=int, default=1, metavar="N", help="that train together (%(default)s)")
    add("--gpu", action="store_true", help="one for each worker")
    add("--kind", default="rnn", help="rnn or retime (%(default)s)")
    add("--seed", type=int, default=0, metavar="N")
    add("--precision", default="float32", help="or bfloat16, or auto (%(default)s)")
    add("--resume", type=Path, metavar="CHECKPOINT", help="to go on from")
    add("--storage", metavar="URL", help="where checkpoints are kept under way")
    add(*("-p", "--parameter"), nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))

    add = new("sweep", _sweep)
    add("notebook", type=Path, help="the notebook to execute")
    add(*("-g", "--grid"), action="append", default=[], metavar="NAME=VALUE,VALUE", required=True)
    add(*("-p", "--parameter"), nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    add(*("-f", "--file"), action="append", default=[], metavar="YAML", help="parameters in a file")
    add("--folder", type=Path, help="of executed notebooks and results")
    add("--draws", type=int, metavar="N", help="combinations drawn at random (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="of the draws")
    add("--cpus", type=float, default=1, metavar="N", help="cores a trial takes (%(default)s)")
    add("--gpus", type=float, default=0, metavar="N", help="GPUs a trial takes (%(default)s)")
    return parser


def _prepare(out: Path, *, words: list[str] | None, **options: Any) -> Path:
    """Prepare drawings; the store is the same as on one machine."""
    return prepare(out, words=words or list(quickdraw.words()), **options)


def _train(store: Path, folder: Path, *, parameter: list[list[str]], **options: Any) -> Path:
    """Train the sketch VAE, each worker with its share of every batch."""
    own = {name: f"--{name}" for name in options} | {"store": "STORE", "folder": "FOLDER"}
    for name, text in parameter:
        if name in own:
            raise ValueError(f"-p {name} {text}: {name} is no hyper-parameter; use {own[name]}")
    return train(store, folder, **options, **{name: literal(text) for name, text in parameter})


def _sweep(
    notebook: Path, *, grid: list[str], parameter: list[list[str]], file: list[str], **options: Any
) -> Path:
    """Run a notebook with many combinations of parameters."""
    values = {}
    for text in grid:
        name, found, listed = text.partition("=")
        if not found or name in values:
            raise ValueError(f"-g {text}: once for each name, as NAME=VALUE,VALUE")
        pairs = [(name, value) for value in re.split(OUTSIDE_BRACKETS, listed)]
        values[name] = [parse_values(notebook, [pair])[name] for pair in pairs]
    fixed = {name: value for path in file for name, value in read_yaml(path).items()}
    fixed |= parse_values(notebook, parameter)
    return sweep(notebook, grid=values, fixed=fixed, **options)


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0, or all")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
