"""Training on a Ray cluster: one model on several workers, or a notebook with many parameters."""

# PyTorch is imported where it is used: workers that prepare drawings import this room, too.

import hashlib
import json
import random
import signal
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

from doodlelib.cli.notebooks import check_parameters, read_parameters, run_notebook
from doodlelib.cluster.prepare import RETRIES, connected
from doodlelib.config import VAEConfig, read_config
from doodlelib.data.dataset import load_split, read_store
from doodlelib.paths import RUNS, checked_name, run_folder, write_whole

NAME = "DoodleGenRNN"  # start of the names of a sketch VAE's files


def train(
    store: str | Path,
    folder: str | Path,
    *,
    address: str | None = None,
    workers: int = 1,
    gpu: bool = False,
    seed: int = 0,
    precision: str = "float32",
    resume: str | Path | None = None,
    overwrite: bool = False,
    parameters: Mapping[str, Any] | None = None,
) -> Path:
    """Train a sketch VAE on several workers, each with its share of every batch; returns `folder`.

    Prints a line an epoch. A worker that is lost is replaced, and all go on from the last epoch
    that ended. So does a call with the same `folder` after one that failed. A batch is the
    configuration's whatever the number of workers: with more of them ask for a larger one.

    Args:
        store: Of prepared drawings, in a folder that all nodes see.
        folder: Gets the files of the run; all nodes see it.
        address: Of the Ray cluster; see `connected`.
        workers: How many train together.
        gpu: One for each worker, which then speak by NCCL; otherwise by gloo.
        seed: Of everything random.
        precision: "float32", "bfloat16" or "auto"; see `fit`.
        resume: A checkpoint to go on from, of any number of workers.
        overwrite: As of `run_folder`.
        parameters: Hyper-parameters in place of those of config/model_params.json.

    Raises:
        ValueError, FloatingPointError, OSError: As `fit` and `run_folder`.
        RuntimeError: Workers were lost too often.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; 1 or more")
    folder = Path(folder).resolve()
    job = {
        "store": Path(store).resolve(),
        "resume": Path(resume).read_bytes() if resume else None,
        "options": {
            "config": read_config(VAEConfig, **(parameters or {})),
            "seed": seed,
            "precision": precision,
        },
    }
    read_store(job["store"])
    if not (folder / f"{NAME}_cluster").is_dir():  # else of a training that goes on
        goes_on = str(Path(resume).resolve()) if resume else ""
        run_folder(folder, NAME, resume=goes_on, overwrite=overwrite)
    with connected(address) as ray, _printed_lines(ray) as job["lines"]:
        torch_trainer: Any = import_module("ray.train.torch").TorchTrainer
        trainer: Any = torch_trainer(
            _work,
            train_loop_config=job,
            scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=gpu),
            run_config=ray.train.RunConfig(
                name=f"{NAME}_cluster",
                storage_path=str(folder),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
                failure_config=ray.train.FailureConfig(max_failures=RETRIES),
                logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            ),
        )
        former = signal.getsignal(signal.SIGINT)  # Ray leaves its own behind
        try:
            result: Any = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise RuntimeError(f"training failed, and can go on from {folder}: {error}") from None
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, former)
        if isinstance(result.return_value, Exception):
            raise result.return_value
        if result.checkpoint is None:
            raise ValueError(f"{resume} has all epochs behind it; ask for more with num_epochs")
        result.checkpoint.to_directory(folder)
    fill_prior = import_module("doodlelib.training").fill_prior
    fill_prior(folder / f"{NAME}_best.pt", load_split(store), seed=seed)
    result.filesystem.delete_dir(str(result.path))
    return folder


@contextmanager
def _printed_lines(ray: Any) -> Generator[Any]:
    """A queue for workers, each line of which is printed here.

    It lives on this machine, so that it outlives any worker's.
    """
    affinity = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    here = affinity(ray.get_runtime_context().get_node_id(), soft=False)
    lines = import_module("ray.util.queue").Queue(
        actor_options={"num_cpus": 0, "scheduling_strategy": here}
    )
    printer = threading.Thread(target=lambda: [print(x, flush=True) for x in iter(lines.get, "")])
    printer.start()
    try:
        yield lines
    finally:
        lines.put("")
        printer.join()


def _work(job: dict[str, Any]) -> Exception | None:
    """What each worker does: its part of the training, from the last checkpoint on."""
    import ray.train
    import torch
    from ray.train.torch import get_device

    from doodlelib.training.loop import log_line
    from doodlelib.training.setup import train_on

    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    first = ray.train.get_context().get_world_rank() == 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        last = folder / f"{NAME}_last.pt"
        if checkpoint := ray.train.get_checkpoint():
            checkpoint.to_directory(folder)
        elif job["resume"]:
            last.write_bytes(job["resume"])
        try:
            options = job["options"] | {"resume": last if last.exists() else None}
            for row in train_on(job["store"], folder=folder, device=device, **options):
                if first:
                    epochs = job["options"]["config"].num_epochs
                    job["lines"].put(log_line(row, epochs=epochs))
                kept = ray.train.Checkpoint.from_directory(folder) if first else None
                ray.train.report(dict(row), checkpoint=kept)
        except (ValueError, FloatingPointError, OSError) as error:
            return error  # to try again would end alike
    return None


def sweep(
    notebook: str | Path,
    *,
    grid: Mapping[str, Sequence[Any]],
    fixed: Mapping[str, Any] | None = None,
    address: str | None = None,
    folder: str | Path | None = None,
    draws: int | None = None,
    gpus: float = 0,
) -> Path:
    """Run a training notebook with many combinations of parameters, and tabulate its metrics.

    As many trials run at once as there are cores, or `gpus` for each, and one that fails stops no
    other. What has run to its end is not run again by a later call.

    Args:
        notebook: Its parameter `name` gives each trial a folder of its own in ``reports/runs``.
        grid: Values to try, by parameter.
        fixed: Parameters that are the same in all trials.
        address: Of the Ray cluster; see `connected`.
        folder: Of executed notebooks and results, seen by all nodes; None: one of the notebook's
            name in ``reports/runs``.
        draws: So many combinations, drawn at random; None: all.
        gpus: GPUs of a trial, or a share of one.

    Returns:
        ``results.csv``, best first: of each trial the parameters, the error, and the row with the
        least validation loss of its ``*_metrics.csv``.

    Raises:
        ValueError, FileNotFoundError: As `check_parameters`; or one is swept and fixed.
    """
    import pandas as pd

    notebook, fixed = Path(notebook).resolve(), dict(fixed or {})
    folder = Path(folder or RUNS / f"sweep_{notebook.stem}").resolve()
    if twice := grid.keys() & fixed.keys():
        raise ValueError(f"{min(twice)} is both swept and fixed")
    trials = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    if not trials or (draws is not None and draws < 1):
        raise ValueError(f"nothing to try: {dict(grid)}, draws {draws}")
    if draws:
        trials = random.Random(0).sample(trials, min(draws, len(trials)))
    for trial in trials:
        check_parameters(notebook, {"name": checked_name(folder.name)} | fixed | trial)
    rows = []
    with connected(address) as ray:
        run = ray.remote(num_cpus=1, num_gpus=gpus)(_run_trial)
        texts = [json.dumps(fixed | trial, sort_keys=True).encode() for trial in trials]
        digests = [hashlib.blake2b(text, digest_size=4).hexdigest() for text in texts]
        named = {f"{folder.name}_{d}": trial for d, trial in zip(digests, trials, strict=True)}
        started = {
            name: run.remote(notebook, folder / f"{name}.ipynb", fixed | trial, RUNS / name)
            for name, trial in named.items()
        }
        for name, future in started.items():
            row = {"trial": name} | named[name]
            try:
                row |= ray.get(future)
            except ray.exceptions.RayError as error:
                row["error"] = " ".join(str(getattr(error, "cause", None) or error).split())
            print(row, flush=True)
            rows.append(row)
    table = pd.DataFrame(rows)
    if "valid_loss" in table:
        table = table.sort_values("valid_loss", ignore_index=True)
    return write_whole(folder / "results.csv", table.to_csv(index=False).encode())


def _run_trial(
    notebook: Path, output: Path, parameters: dict[str, Any], run: Path
) -> dict[str, float]:
    """Run one trial, unless it is done; the best row of its metrics."""
    import pandas as pd

    if not output.exists():
        parameters = parameters | {"name": run.name}
        if "overwrite" in read_parameters(notebook):
            parameters["overwrite"] = True  # what a failed trial left
        run_notebook(notebook, output, parameters)
    for path in run.glob("*_metrics.csv"):
        table = pd.read_csv(path)
        return table.loc[table["valid_loss"].idxmin()].to_dict()
    return {}
