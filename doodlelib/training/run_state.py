"""State of a training run: what is kept on disk after each epoch, and how a run is resumed."""

import dataclasses
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Generic

import pandas as pd
import torch
from torch import Tensor

from doodlelib.fast import parallel
from doodlelib.fast.parallel import Sums
from doodlelib.models import checkpoint
from doodlelib.models.checkpoint import Model
from doodlelib.paths import write_whole

Row = dict[str, int | float]  # figures of an epoch, by name
RESUMABLE_KEYS = {"num_epochs", "num_workers", "patience", "lr_cooldown"}  # may differ on resuming
NAMES = {"rnn": "DoodleGenRNN", "cnn": "DoodleCNN", "retime": "DoodleRetime"}


@dataclass
class Epoch:
    """An epoch under way: what is needed, beside weights and optimiser state, to continue it."""

    number: int  # from 1
    step: int  # optimiser steps done, over all epochs
    batches: int = 0  # done, of this epoch
    sums: Sums = field(default_factory=dict)  # of the figures over those
    random_states: list[Tensor] = field(default_factory=list)  # of CPU and, if one is used, GPU

    def set_random_states(self, device: torch.device) -> None:
        """Set the generators to the stored states, if there are any."""
        if self.random_states:
            torch.set_rng_state(self.random_states[0])
        for state in self.random_states[1:]:
            torch.cuda.set_rng_state(state, device)


@dataclass
class RunState(Generic[Model]):
    """A model in training, its history, and the folder where both are kept.

    In distributed training the first process writes the files.
    """

    model: Model
    optimizer: torch.optim.Optimizer
    folder: Path
    history: list[Row] = field(default_factory=list)  # of the epochs that ended
    interrupted: Epoch | None = None  # in which the resumed checkpoint was written

    @property
    def name(self) -> str:
        """Start of its files' names."""
        return NAMES[checkpoint.KINDS[type(self.model)]]

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or `patience` of them brought nothing."""
        patience = getattr(self.model.config, "patience", math.inf)
        return len(self.history) >= self.model.config.num_epochs or (
            bool(self.history) and epochs_without_gain(self.history) >= patience
        )

    def next_epoch(self) -> Epoch:
        """The interrupted epoch, or a new one."""
        epoch, self.interrupted = self.interrupted, None
        if epoch and not parallel.is_first_rank():
            epoch.sums.clear()  # which the first process has
        step = int(self.history[-1]["step"]) if self.history else 0
        return epoch or Epoch(len(self.history) + 1, step)

    def make_folder(self) -> None:
        """Make the folder, or clear it of files that a killed run left half written.

        OSError: It cannot be written, which is better known now than after an epoch.
        """
        if parallel.is_first_rank():
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
            for leftover in self.folder.glob(f".{self.name}_*"):
                leftover.unlink()

    def restore(self, path: Path) -> None:
        """Load a checkpoint; ValueError if it is of another training. See `checkpoint.read`."""
        stored, training = checkpoint.read(path, type(self.model))
        ours, theirs = (
            dataclasses.asdict(model.config)
            | {"words": model.words, "scale": getattr(model, "scale", None)}
            for model in (self.model, stored)
        )
        if differing := sorted(k for k in ours.keys() - RESUMABLE_KEYS if ours[k] != theirs[k]):
            named = (f"{key} {str(theirs[key])[:60]} -> {str(ours[key])[:60]}" for key in differing)
            raise ValueError(f"{path} was trained otherwise: {', '.join(named)}")
        if "optimizer" not in training:
            raise ValueError(f"{path} holds a model without the state of its training")
        try:
            self.model.load_state_dict(stored.state_dict())
        except RuntimeError as error:  # a retimer with a reader and one without, say
            raise ValueError(f"{path} was trained otherwise: {str(error)[:300]}") from None
        try:
            self.optimizer.load_state_dict(training["optimizer"])
            self.history = [dict(row) for row in training["history"]]
            self.interrupted = Epoch(**training["epoch"]) if "epoch" in training else None
            for weights, state in self.optimizer.state.items():
                if any(value.shape not in ((), weights.shape) for value in state.values()):
                    raise ValueError("the optimiser's state is of other weights")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: the state of its training is damaged: {error}") from None
        if parallel.is_first_rank() and self.history:
            self._write_history()
            best = self.folder / f"{self.name}_best.pt"
            if not best.exists():  # in another folder; this run may never again be as good
                theirs = path.with_name(best.name)
                write_whole(best, (theirs if theirs.exists() else path).read_bytes())

    def save(self, stem: str, *, epoch: Epoch | None = None) -> Path:
        """Write ``<name>_<stem>.pt``, a checkpoint to resume from, within `epoch` if one is given.

        FloatingPointError, OSError: See `checkpoint.save`.
        """
        path = self.folder / f"{self.name}_{stem}.pt"
        if not parallel.is_first_rank():
            return path
        if not self.folder.is_dir():  # removed, or a drive is gone: not to be made anew in silence
            raise FileNotFoundError(f"{self.folder} is gone, so that {path.name} cannot be written")
        training = {"optimizer": self.optimizer.state_dict(), "history": self.history}
        if epoch:
            device = next(self.model.parameters()).device
            of_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
            epoch.random_states = [torch.get_rng_state(), *of_gpu]
            training["epoch"] = dataclasses.asdict(epoch)
        return checkpoint.save(path, self.model, training=training)

    def save_epoch(self, row: Row, *, checkpoint_every: int) -> Path:
        """Add an epoch's row and write the files that are due; returns the one to resume from."""
        self.history.append(row)
        if epochs_without_gain(self.history) == 0:
            self.save("best")
        if len(self.history) % checkpoint_every == 0:
            now = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
            self.save(f"epoch{len(self.history)}_{now}")
        if parallel.is_first_rank():
            self._write_history()
        return self.save("last")

    def _write_history(self) -> None:
        text = pd.DataFrame(self.history).to_csv(index=False, na_rep="nan")
        write_whole(self.folder / f"{self.name}_metrics.csv", text.encode())


def epochs_without_gain(history: Sequence[Row]) -> int:
    """Epochs since the one with the least validation loss."""
    losses = [row["valid_loss"] for row in history]
    return len(losses) - 1 - losses.index(min(losses))
