"""The training loop of the three models: a row of figures an epoch, checkpoints that can go on."""

import math
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from doodlelib.fast import distributed
from doodlelib.fast.cuda_graphs import Batch, Gradients
from doodlelib.fast.distributed import Sums
from doodlelib.fast.products import has_bfloat16
from doodlelib.interrupt import on_stop
from doodlelib.models.checkpoint import Model
from doodlelib.training.run_state import Epoch, Progress, Row, epochs_without_gain


@runtime_checkable
class Batches(Protocol):
    """What the loop asks of an epoch's batches; a `DataLoader` is one."""

    @property
    def dataset(self) -> Any: ...  # noqa: D102 - its `batches` hold their drawings' numbers
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...


class Interrupted(KeyboardInterrupt):
    """Training was told to stop, by Ctrl-C or SIGTERM; what it had reached is in a checkpoint."""


def fit(
    model: Model,
    *,
    train_batches: Callable[[int], Batches],
    valid_batches: Callable[[], Batches],
    folder: Path,
    seed: int = 0,
    checkpoint_every: int = 5,
    precision: Literal["float32", "bfloat16", "auto"] = "float32",
    resume: Path | None = None,
    key_id: Callable[[int], str] = str,
) -> Iterator[Row]:
    """Train `model`, yielding a row of figures after each epoch, until the last or early stopping.

    After each epoch `folder` holds ``<name>_metrics.csv`` (all rows), ``<name>_last.pt`` and, of
    the epoch with the least validation loss, ``<name>_best.pt``; every `checkpoint_every` epochs
    a ``<name>_epoch{X}_{Date-Time}.pt`` is kept. Ctrl-C and SIGTERM end it after the step, with a
    ``<name>_last.pt`` of the middle of the epoch. A run resumed from any of them on the same
    machine ends with the same weights as one that was never broken off: everything random is a
    function of (seed, epoch), within an epoch of the random states that are kept along.

    Where several processes train together (see `ranks`), each of them calls this alike, with the
    whole batches: every process works on its share of each, the gradient is that of the whole
    batch, all get the same rows, and the first writes the files.

    Args:
        model: On the device to train on; holds its configuration.
        train_batches: The batches of an epoch, whose number (from 1) it is given.
        valid_batches: Always the same batches.
        folder: Of the run.
        seed: Of everything random.
        checkpoint_every: Epochs between the checkpoints that are kept.
        precision: "bfloat16" runs matrix products in half precision (autocast), which is faster on
            a GPU and on a processor with instructions for it, slower on others; weights and
            likelihood stay in float32. "auto": see `chosen_precision`.
        resume: A checkpoint of the same configuration (but for num_epochs, num_workers
            and patience) to go on from.
        key_id: Names a drawing by its number in the training split, where an error is about it.

    Yields:
        epoch, step, learning_rate, seconds, and every figure of the model's loss as its mean over
        the epoch, ``train_*`` and ``valid_*``.

    Raises:
        ValueError: `resume` does not fit the model, or `precision` is none of the three.
        FloatingPointError: A loss or gradient is not finite, with the drawings that it is of; the
            checkpoints are those of before.
        OSError: `folder` cannot be written, or is gone; likewise.
        Interrupted: By Ctrl-C or SIGTERM.
    """
    device = next(model.parameters()).device
    half = chosen_precision(precision, device) == "bfloat16"
    progress = Progress(model, model.make_optimizer(), folder)
    if distributed.is_first():
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # better refused now than after an epoch
        for leftover in folder.glob(f".{progress.name}_*"):  # of a run that was killed as it wrote
            leftover.unlink()
    if resume:
        progress.restore(resume)
    if half and not has_bfloat16(device) and distributed.is_first():
        warnings.warn(
            f"there are no instructions for bfloat16 on this {device.type}: with it training takes "
            "longer than with precision 'float32', perhaps several times as long",
            stacklevel=2,
        )
    gradients = Gradients(distributed.parallel_loss(model), progress.optimizer, device, half=half)
    patience = getattr(model.config, "patience", math.inf)
    while len(progress.history) < model.config.num_epochs:
        if progress.history and epochs_without_gain(progress.history) >= patience:
            return
        began, stop, epoch = time.perf_counter(), threading.Event(), progress.next_epoch()
        with on_stop(stop.set):
            distributed.seed(seed * 1_000_003 + epoch.number)
            if not distributed.is_first():
                epoch.sums.clear()  # of before it was broken off; the first has them
            try:
                _train(progress, gradients, epoch, train_batches(epoch.number), stop, key_id)
                distributed.same_buffers(model)
                valid = validate(model, _until(stop, valid_batches()), seed=seed)
            except Interrupted:
                last = progress.save("last", epoch=epoch)
                raise Interrupted(
                    f"stopped after step {epoch.step}, in epoch {epoch.number}; resume from {last}"
                ) from None
            row: Row = {
                "epoch": epoch.number,
                "step": epoch.step,
                "learning_rate": progress.optimizer.param_groups[0]["lr"],
                **_means("train", distributed.total(epoch.sums)),
                **_means("valid", valid),
                "seconds": round(time.perf_counter() - began, 3),
            }
            if not math.isfinite(row["valid_loss"]):
                raise FloatingPointError(
                    f"validation loss is {row['valid_loss']} after epoch {epoch.number}; the "
                    f"checkpoints of before are kept in {folder}"
                )
            progress.history.append(row)
            last = progress.keep(checkpoint_every=checkpoint_every)
        if stop.is_set():
            raise Interrupted(f"stopped after epoch {epoch.number}; resume from {last}")
        yield row


@torch.no_grad()
def validate(model: Model, batches: Iterable[Batch], *, seed: int = 0) -> Sums:
    """Sums and counts of the model's figures over `batches`, under the final KL weight.

    Whatever is random in the loss is drawn from `seed`, so that epochs can be compared.
    """
    model.eval()
    loss, device = distributed.shared_loss(model), next(model.parameters()).device
    sums: Sums = {}
    with torch.random.fork_rng():
        distributed.seed(seed)
        for batch in batches:
            _add(sums, loss(batch.to(device), step=None)[1])
    return distributed.total(sums)


def chosen_precision(
    precision: Literal["float32", "bfloat16", "auto"], device: str | torch.device
) -> Literal["float32", "bfloat16"]:
    """What `fit` computes in; "auto" is bfloat16 where `device` has instructions for it.

    Raises:
        ValueError: `precision` is none of the three.
    """
    if precision == "auto":
        return "bfloat16" if has_bfloat16(torch.device(device)) else "float32"
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision must be 'float32', 'bfloat16' or 'auto', not {precision!r}")
    return precision


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


def _train(
    progress: Progress[Model],
    gradients: Gradients,
    epoch: Epoch,
    batches: Batches,
    stop: threading.Event,
    key_id: Callable[[int], str],
) -> None:
    """The steps of an epoch that are not done yet."""
    model, optimizer, config = progress.model, progress.optimizer, progress.model.config
    model.train()
    coming = iter(batches)
    for _ in range(epoch.batches):
        next(coming)
    if distributed.is_first():  # whose states they are
        epoch.set_random_states(gradients.device)
    for batch in _until(stop, coming):
        loss, figures = gradients.of(batch, step=epoch.step)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        if not torch.isfinite(loss + norm):
            drawings = map(key_id, batches.dataset.batches[epoch.batches].tolist())
            raise FloatingPointError(
                f"loss is {loss.item()} at step {epoch.step} (epoch {epoch.number}), the norm of "
                f"its gradient {norm.item()}; the checkpoints of before are kept. A lower "
                "learning_rate or grad_clip may help, or a look at this batch's drawings: "
                + ", ".join(drawings)
            )
        share = (epoch.number - 1 + epoch.batches / len(batches)) / config.num_epochs
        for group in optimizer.param_groups:
            group["lr"] = model.learning_rate(epoch.step, progress=share)
        optimizer.step()
        epoch.step += 1
        epoch.batches += 1
        _add(epoch.sums, figures)


def _until(stop: threading.Event, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches, as long as nobody asks to stop; each is worked on to its end."""
    for batch in batches:
        yield batch
        if stop.is_set():
            raise Interrupted


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
