"""One training on several workers of a Ray cluster."""

import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from doodlelib.cluster.prepare import RETRIES, connected
from doodlelib.config import read_config
from doodlelib.data.dataset import load_split, read_store
from doodlelib.training import setup
from doodlelib.training.loop import log_line
from doodlelib.training.run_state import NAMES


def train(
    store: str | Path,
    folder: str | Path,
    *,
    address: str | None = None,
    kind: str = "rnn",
    workers: int = 1,
    gpu: bool = False,
    seed: int = 0,
    precision: str = "float32",
    checkpoint_every: int = 5,
    resume: str | Path | None = None,
    storage: str | None = None,
    retries: int = RETRIES,
    show: bool = True,
    **overrides: Any,
) -> Path:
    """Train one model on several workers, each with its share of every batch, as `fit` does.

    A worker that is lost is replaced, and all go on from the last epoch that ended. So does a call
    with the same `storage` after one that failed. A batch is the configuration's whatever the
    number of workers: with more of them ask for a larger `batch_size`.

    Args:
        store: Of prepared drawings, in a folder that all nodes see.
        folder: Gets ``<name>_best.pt``, ``<name>_last.pt``, ``<name>_metrics.csv``.
        address: Of the Ray cluster; see `connected`.
        kind: "rnn", the sketch VAE, or "retime", the retimer, without features of a VAE. Not the
            classifier: what its batch norm computes depends on how a batch is shared out.
        workers: How many train together.
        gpu: One for each worker, which then speak by NCCL; otherwise by gloo.
        seed: Of everything random.
        precision: "float32", "bfloat16" or "auto"; see `fit`.
        checkpoint_every: Epochs between checkpoints that are kept.
        resume: A checkpoint to go on from, of any number of workers.
        storage: Folder that all nodes see, or URL that Ray knows, of checkpoints under way; None:
            `folder`.
        retries: How often lost workers are replaced.
        show: Print a line an epoch.
        **overrides: Of the configuration; see `read_config`.

    Returns:
        `folder`.

    Raises:
        ValueError, FloatingPointError, OSError: As `fit`.
        RuntimeError: Workers were lost more often than `retries`.
    """
    if kind not in setup.CONFIGS:
        raise ValueError(f"kind must be one of {', '.join(setup.CONFIGS)}, not {kind!r}")
    if workers < 1:
        raise ValueError(f"workers is {workers}; 1 or more")
    folder = Path(folder).resolve()
    job = {
        "store": Path(store).resolve(),
        "config": read_config(setup.CONFIGS[kind], **overrides),
        "last": f"{NAMES[kind]}_last.pt",
        "resume": Path(resume).read_bytes() if resume else None,
        "options": {"seed": seed, "precision": precision, "checkpoint_every": checkpoint_every},
    }
    read_store(job["store"])
    storage, name = storage or str(folder), f"{NAMES[kind]}_cluster"
    with connected(address) as ray, _shown_lines(show) as job["lines"]:
        torch_trainer: Any = import_module("ray.train.torch").TorchTrainer
        trainer: Any = torch_trainer(
            _work,
            train_loop_config=job,
            scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=gpu),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=storage,
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
                failure_config=ray.train.FailureConfig(max_failures=retries),
                logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            ),
        )
        try:
            result: Any = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise RuntimeError(f"training failed, and can go on from {storage}: {error}") from None
        if isinstance(result.return_value, Exception):
            raise result.return_value
        if result.checkpoint is None:
            raise ValueError(f"{resume} has all epochs behind it; ask for more with num_epochs")
        result.checkpoint.to_directory(folder)
    if kind == "rnn":
        setup.fill_prior(folder / f"{NAMES[kind]}_best.pt", load_split(store), seed=seed)
    result.filesystem.delete_dir(str(result.path))
    return folder


@contextmanager
def _shown_lines(show: bool) -> Generator[Any]:
    """A queue, each line of which is printed here; None where nothing is to be shown."""
    if not show:
        yield None
        return
    lines = import_module("ray.util.queue").Queue(actor_options={"num_cpus": 0})
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
    from ray.train.torch import get_device

    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    first = ray.train.get_context().get_world_rank() == 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        last = folder / job["last"]
        if checkpoint := ray.train.get_checkpoint():
            checkpoint.to_directory(folder)
        elif job["resume"]:
            last.write_bytes(job["resume"])
        try:
            for row in setup.train_on(
                job["store"],
                config=job["config"],
                folder=folder,
                device=device,
                resume=last if last.exists() else None,
                **job["options"],
            ):
                if first and job["lines"] is not None:  # an empty one is false
                    job["lines"].put(log_line(row, epochs=job["config"].num_epochs))
                kept = ray.train.Checkpoint.from_directory(folder) if first else None
                ray.train.report(dict(row), checkpoint=kept)
        except (ValueError, FloatingPointError, OSError) as error:
            return error  # to try again would end alike
    return None
