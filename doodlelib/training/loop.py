"""The training loop of all three models: one row of figures an epoch, and resumable checkpoints."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from doodlelib.fast import parallel
from doodlelib.fast.cuda_graphs import Batch, Gradients
from doodlelib.fast.parallel import Sums
from doodlelib.interrupt import on_stop
from doodlelib.models.checkpoint import Model
from doodlelib.progress import Bar, is_watched
from doodlelib.training.run_state import Epoch, Row, RunState


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM; a checkpoint holds what it had reached."""


def fit(
    model: Model,
    *,
    train_batches: Callable[[int], DataLoader],
    valid_batches: Callable[[], DataLoader],
    folder: Path,
    seed: int = 0,
    checkpoint_every: int = 5,
    precision: str = "float32",
    resume: Path | None = None,
    key_id: Callable[[int], str] = str,
) -> Iterator[Row]:
    """Train `model`, yielding a row of figures after each epoch, until the last or early stopping.

    After each epoch `folder` holds ``<name>_metrics.csv`` (all rows), ``<name>_last.pt`` and, of
    the epoch with the least validation loss, ``<name>_best.pt``; every `checkpoint_every` epochs
    a ``<name>_epoch{X}_{Date-Time}.pt`` is kept. Ctrl-C and SIGTERM end it after the step, with a
    ``<name>_last.pt`` of the middle of the epoch. A run resumed from any of them on the same
    machine ends with the same weights as one that was never interrupted: everything random is a
    function of (seed, epoch), and within an epoch the checkpoint has the generators' states.

    Processes that train together each call this alike, with the whole batches (`fast.parallel`).

    Args:
        model: On the device to train on; holds its configuration.
        train_batches: The batches of an epoch, by its number (from 1); see `training.batches`.
        valid_batches: Always the same batches.
        folder: Of the run.
        seed: Of everything random.
        checkpoint_every: Epochs between the checkpoints that are kept.
        precision: "bfloat16" computes matrix products in bfloat16 (autocast); weights and
            likelihood stay in float32. "auto": see `chosen_precision`.
        resume: A checkpoint to go on from; only `RESUMABLE_KEYS` of its configuration may differ.
        key_id: Names a drawing by its index in the training split, where an error is about it.

    Yields:
        epoch, step, learning_rate, seconds, and every figure of the model's loss as its mean over
        the epoch, ``train_*`` and ``valid_*``.

    Raises:
        ValueError: `resume` does not fit the model.
        FloatingPointError: A loss or gradient is not finite; names the drawings of the batch.
        Interrupted: By Ctrl-C or SIGTERM. Whatever is raised, earlier checkpoints are kept.
    """
    device = next(model.parameters()).device
    bfloat16 = chosen_precision(precision, device) == "bfloat16"
    state = RunState(model, model.make_optimizer(), folder)
    state.make_folder()
    if resume:
        state.restore(resume)
    gradients = Gradients(parallel.parallel_loss(model), state.optimizer, device, half=bfloat16)
    shown = is_watched() and parallel.is_first_rank()
    while not state.is_over:
        began, stop, epoch = time.perf_counter(), threading.Event(), state.next_epoch()
        with on_stop(stop.set):
            label = f"epoch {epoch.number}/{model.config.num_epochs}"
            bar = {"unit": " steps", "leave": False, "disable": not shown, "miniters": 1}
            parallel.seed_rank(seed * 1_000_003 + epoch.number)
            try:
                batches = train_batches(epoch.number)
                with Bar(desc=label, total=len(batches), initial=epoch.batches, **bar) as steps:
                    _train(state, gradients, epoch, batches, stop, steps, key_id)
                parallel.sync_buffers(model)
                with Bar(valid_batches(), desc=f"{label}, validation", **bar) as steps:
                    valid = validate(model, _until(stop, steps), seed=seed)
            except Interrupted:
                last = state.save("last", epoch=epoch)
                raise Interrupted(
                    f"stopped after step {epoch.step}, in epoch {epoch.number}; resume from {last}"
                ) from None
            row: Row = {
                "epoch": epoch.number,
                "step": epoch.step,
                "learning_rate": state.optimizer.param_groups[0]["lr"],
                **_means("train", parallel.sum_over_ranks(epoch.sums)),
                **_means("valid", valid),
                "seconds": round(time.perf_counter() - began, 3),
            }
            if not math.isfinite(row["valid_loss"]):
                raise FloatingPointError(
                    f"validation loss is {row['valid_loss']} after epoch {epoch.number}; the "
                    f"checkpoints of before are kept in {folder}"
                )
            last = state.save_epoch(row, checkpoint_every=checkpoint_every)
        if stop.is_set():
            raise Interrupted(f"stopped after epoch {epoch.number}; resume from {last}")
        yield row


@torch.no_grad()
def validate(model: Model, batches: Iterable[Batch], *, seed: int = 0) -> Sums:
    """Sums and counts of the model's figures over `batches`, under the final KL weight."""
    model.eval()
    loss: Any = model.loss if parallel.world_size() == 1 else parallel.SharedLoss(model)
    device = next(model.parameters()).device
    sums: Sums = {}
    with torch.random.fork_rng():
        parallel.seed_rank(seed)
        for batch in batches:
            _add(sums, loss(batch.to(device), step=None)[1])
    return parallel.sum_over_ranks(sums)


def chosen_precision(precision: str, device: str | torch.device) -> str:
    """What `fit` computes in; "auto" is bfloat16 where `device` has instructions for it."""
    if precision not in ("float32", "bfloat16", "auto"):
        raise ValueError(f"precision must be 'float32', 'bfloat16' or 'auto', not {precision!r}")
    if precision == "auto":
        return "bfloat16" if has_bfloat16(torch.device(device)) else "float32"
    return precision


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` has instructions for matrix products in bfloat16, which then are faster."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def log_line(row: Row, *, epochs: int) -> str:
    """One epoch in a line that fits a page: losses, the validation's parts, and the time left.

    The time is what is left if all epochs take as long.
    """
    parts = [key[6:] for key in row if key.startswith("valid_") and key != "valid_loss"]
    figures = " ".join(f"{name.removesuffix('_time')} {row[f'valid_{name}']:.3g}" for name in parts)
    losses = f"loss {row['train_loss']:.4g} valid {row['valid_loss']:.4g}"
    left = (epochs - row["epoch"]) * row["seconds"] / 60
    return f"epoch {row['epoch']}/{epochs} {losses}: {figures} ({left:.1f} min left)"


def _train(
    state: RunState[Model],
    gradients: Gradients,
    epoch: Epoch,
    batches: DataLoader,
    stop: threading.Event,
    steps: Bar,
    key_id: Callable[[int], str],
) -> None:
    """The steps of an epoch that are not done yet."""
    model, optimizer, config = state.model, state.optimizer, state.model.config
    model.train()
    coming = iter(batches)
    for _ in range(epoch.batches):
        next(coming)
    if parallel.is_first_rank():  # whose states they are
        epoch.set_random_states(gradients.device)
    for batch in _until(stop, coming):
        loss, figures = gradients.of(batch, step=epoch.step)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        if not torch.isfinite(loss + norm):
            dataset: Any = batches.dataset
            drawings = map(key_id, dataset.batches[epoch.batches].tolist())
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
        steps.update()
    steps.refresh()


def _until(stop: threading.Event, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches, until `stop` is set; the one at hand is worked on to its end."""
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
