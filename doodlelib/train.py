"""The training loop of both models: one row of figures an epoch, checkpoints that can go on."""

import csv
import dataclasses
import io
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from doodlelib import checkpoint
from doodlelib.checkpoint import Model
from doodlelib.paths import atomic_write

Row = dict[str, int | float]
Sums = dict[str, tuple[Tensor, Tensor]]
NAMES = {"rnn": "DoodleGenRNN", "cnn": "DoodleCNN"}


@runtime_checkable
class Batches(Protocol):
    """What the loop asks of an epoch's batches; a `DataLoader` is one."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator["Batch"]: ...


@runtime_checkable
class Batch(Protocol):
    """What the loop asks of a batch."""

    @property
    def size(self) -> int: ...  # noqa: D102
    def to(self, device: torch.device | str, /) -> Any: ...  # noqa: D102


def fit(
    model: Model,
    *,
    train_batches: Callable[[int], Batches],
    valid_batches: Callable[[], Batches],
    folder: Path,
    seed: int = 0,
    checkpoint_every: int = 5,
    precision: Literal["float32", "bfloat16"] = "float32",
    resume: Path | None = None,
) -> Iterator[Row]:
    """Train `model`, yielding a row of figures after each epoch, until the last or early stopping.

    After each epoch `folder` holds ``<name>_metrics.csv`` (all rows), ``<name>_last.pt`` and, of
    the epoch with the least validation loss, ``<name>_best.pt``; every `checkpoint_every` epochs
    a ``<name>_epoch{X}_{Date-Time}.pt`` is kept. A run resumed from any of them on the same machine
    ends with the same weights as one that was never broken off: everything random is a function
    of (seed, epoch).

    Args:
        model: On the device to train on; holds its configuration.
        train_batches: The batches of an epoch, whose number (from 1) it is given.
        valid_batches: Always the same batches.
        folder: Of the run.
        seed: Of everything random.
        checkpoint_every: Epochs between the checkpoints that are kept.
        precision: "bfloat16" runs matrix products in half precision (autocast), which is faster on
            processors that have it; weights and likelihood stay in float32.
        resume: A checkpoint of the same configuration (but for num_epochs) to go on from.

    Yields:
        epoch, step, learning_rate, seconds, and every figure of the model's loss as its mean over
        the epoch, ``train_*`` and ``valid_*``.

    Raises:
        ValueError: `resume` does not fit the model, or `precision` is neither of the two.
        FloatingPointError: The loss is not finite; the checkpoints are those of before.
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision must be 'float32' or 'bfloat16', not {precision!r}")
    name = NAMES[checkpoint.KINDS[type(model)]]
    optimizer = model.make_optimizer()
    history: list[Row] = _restore(resume, model, optimizer) if resume else []
    device = next(model.parameters()).device
    step = int(history[-1]["step"]) if history else 0
    for epoch in range(len(history) + 1, model.config.num_epochs + 1):
        began = time.perf_counter()
        torch.manual_seed(seed * 1_000_003 + epoch)
        model.train()
        sums: Sums = {}
        batches = train_batches(epoch)
        for number, batch in enumerate(batches):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                loss, parts = model.loss(batch.to(device), step=step)
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"loss is {loss.item()} at step {step} (epoch {epoch}); a lower learning_rate "
                    f"or grad_clip may help; {folder} keeps the checkpoints of earlier epochs"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), model.config.grad_clip)
            progress = (epoch - 1 + number / len(batches)) / model.config.num_epochs
            for group in optimizer.param_groups:
                group["lr"] = model.learning_rate(step, progress=progress)
            optimizer.step()
            step += 1
            _add(sums, parts)
        row: Row = {
            "epoch": epoch,
            "step": step,
            "learning_rate": optimizer.param_groups[0]["lr"],
            **_means("train", sums),
            **_means("valid", validate(model, valid_batches(), seed=seed)),
            "seconds": round(time.perf_counter() - began, 3),
        }
        history.append(row)
        _keep(model, optimizer, history, folder, name, checkpoint_every)
        yield row
        if epochs_without_gain(history) >= getattr(model.config, "patience", float("inf")):
            return


@torch.no_grad()
def validate(model: Model, batches: Batches, *, seed: int = 0) -> Sums:
    """Sums and counts of the model's figures over `batches`, under the final KL weight.

    Whatever is random in the loss is drawn from `seed`, so that epochs can be compared.
    """
    model.eval()
    device = next(model.parameters()).device
    sums: Sums = {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for batch in batches:
            _add(sums, model.loss(batch.to(device), step=None)[1])
    return sums


def epochs_without_gain(history: Sequence[Row]) -> int:
    """Epochs since the one with the least validation loss."""
    losses = [row["valid_loss"] for row in history]
    return len(losses) - 1 - losses.index(min(losses))


def log_line(row: Row, *, epochs: int) -> str:
    """One epoch in one line, with the time left if all epochs take as long."""
    left = (epochs - row["epoch"]) * row["seconds"]
    figures = " ".join(
        f"{key} {value:.4g}"
        for key, value in row.items()
        if key.startswith("valid_") or key == "train_loss"
    )
    return (
        f"epoch {row['epoch']:.0f}/{epochs} {figures} "
        f"({row['seconds']:.1f} s, {left / 60:.1f} min left)"
    )


def _restore(path: Path, model: Model, optimizer: torch.optim.Optimizer) -> list[Row]:
    """Fill model and optimiser from a checkpoint; its history."""
    stored, training = checkpoint.read(path, type(model))
    ours, theirs = (dataclasses.asdict(m.config) | {"num_epochs": 0} for m in (model, stored))
    differing = [f"{key} {theirs[key]} -> {ours[key]}" for key in ours if ours[key] != theirs[key]]
    if differing or stored.words != model.words:
        raise ValueError(f"{path} was trained otherwise: {', '.join(differing) or 'other words'}")
    if "optimizer" not in training:
        raise ValueError(f"{path} holds a model without the state of its training")
    model.load_state_dict(stored.state_dict())
    optimizer.load_state_dict(training["optimizer"])
    return training["history"]


def _keep(
    model: Model,
    optimizer: torch.optim.Optimizer,
    history: list[Row],
    folder: Path,
    name: str,
    checkpoint_every: int,
) -> None:
    """Write what the epoch just ended leaves behind."""
    training = {"optimizer": optimizer.state_dict(), "history": history}
    epoch = len(history)
    if epochs_without_gain(history) == 0:
        checkpoint.save(folder / f"{name}_best.pt", model, training=training)
    if epoch % checkpoint_every == 0:
        now = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
        checkpoint.save(folder / f"{name}_epoch{epoch}_{now}.pt", model, training=training)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]))
    writer.writeheader()
    writer.writerows(history)
    with atomic_write(folder / f"{name}_metrics.csv") as file:
        file.write(text.getvalue().encode())
    checkpoint.save(folder / f"{name}_last.pt", model, training=training)


def _add(sums: Sums, parts: Sums) -> None:
    for key, (total, count) in parts.items():
        had = sums.get(key, (0.0, 0.0))
        sums[key] = (had[0] + total, had[1] + count)


def _means(prefix: str, sums: Sums) -> Row:
    """Means by name; a figure without events (no timed drawing, say) is NaN."""
    return {
        f"{prefix}_{key}": float(total) / float(count) if count else float("nan")
        for key, (total, count) in sums.items()
    }
