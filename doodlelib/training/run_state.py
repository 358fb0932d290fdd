"""How far a training has come: what of it is kept on disk, and how it goes on from there."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor

from doodlelib.fast import distributed
from doodlelib.fast.distributed import Sums
from doodlelib.models import checkpoint
from doodlelib.models.checkpoint import Model
from doodlelib.paths import atomic_write

Row = dict[str, int | float]  # figures of an epoch, by name
FREE = {"num_epochs": 0, "num_workers": 0, "patience": 0}  # what a run may go on with otherwise
NAMES = {"rnn": "DoodleGenRNN", "cnn": "DoodleCNN", "retime": "DoodleRetime"}


@dataclass
class Epoch:
    """An epoch under way: what it takes, beside weights and optimiser, to go on in it.

    Attributes:
        number: From 1.
        step: Of the optimiser, over all epochs.
        batches: Of this epoch, done.
        sums: The figures of those.
        random_states: Where the random numbers are: on the CPU and, if one is used, the GPU.
    """

    number: int
    step: int
    batches: int = 0
    sums: Sums = field(default_factory=dict)
    random_states: list[Tensor] = field(default_factory=list)

    def note_random_states(self, device: torch.device) -> None:
        """Keep where the random numbers are now."""
        of_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        self.random_states = [torch.get_rng_state(), *of_gpu]

    def set_random_states(self, device: torch.device) -> None:
        """Go on with the random numbers where they were noted, if they were."""
        if self.random_states:
            torch.set_rng_state(self.random_states[0])
        for state in self.random_states[1:]:
            torch.cuda.set_rng_state(state, device)


@dataclass
class Progress(Generic[Model]):
    """A model with what its training has reached, and the folder where that is kept."""

    model: Model
    optimizer: torch.optim.Optimizer
    folder: Path
    history: list[Row] = field(default_factory=list)  # of the epochs that ended
    begun: Epoch | None = None  # when it was broken off within one

    @property
    def name(self) -> str:
        """How the names of its files begin."""
        return NAMES[checkpoint.KINDS[type(self.model)]]

    def next_epoch(self) -> Epoch:
        """The epoch that was begun, else the one to begin."""
        epoch, self.begun = self.begun, None
        step = int(self.history[-1]["step"]) if self.history else 0
        return epoch or Epoch(len(self.history) + 1, step)

    def restore(self, path: Path) -> None:
        """Take everything from a checkpoint of the same training.

        Raises:
            FileNotFoundError, ValueError: See `checkpoint.read`; or it is of another training.
        """
        model = self.model
        stored, training = checkpoint.read(path, type(model))
        ours, theirs = (dataclasses.asdict(m.config) | FREE for m in (model, stored))
        differing = [
            f"{key} {theirs[key]} -> {ours[key]}" for key in ours if ours[key] != theirs[key]
        ]
        if differing or stored.words != model.words:
            raise ValueError(
                f"{path} was trained otherwise: {', '.join(differing) or 'other words'}"
            )
        if getattr(stored, "scale", None) != getattr(model, "scale", None):
            raise ValueError(f"{path} was trained on other drawings: their scale differs")
        if "optimizer" not in training:
            raise ValueError(f"{path} holds a model without the state of its training")
        try:
            model.load_state_dict(stored.state_dict())
        except RuntimeError as error:  # a retimer with a reader and one without, say
            raise ValueError(f"{path} was trained otherwise: {str(error)[:300]}") from None
        try:
            self.optimizer.load_state_dict(training["optimizer"])
            self.history = [dict(row) for row in training["history"]]
            self.begun = Epoch(**training["epoch"]) if "epoch" in training else None
            for weights, state in self.optimizer.state.items():
                if any(value.shape not in ((), weights.shape) for value in state.values()):
                    raise ValueError("the optimiser's state is of other weights")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: the state of its training is damaged: {error}") from None
        if distributed.is_first() and self.history:
            self._bring_from(path)

    def save(self, stem: str, *, epoch: Epoch | None = None) -> Path:
        """Write a checkpoint to go on from.

        Args:
            stem: The end of its name.
            epoch: The epoch under way, if it has not ended.

        Raises:
            FileNotFoundError: The folder is gone.
            FloatingPointError, OSError: See `checkpoint.save`.
        """
        path = self.folder / f"{self.name}_{stem}.pt"
        if not distributed.is_first():
            return path  # which the first writes
        if not self.folder.is_dir():  # somebody removed it, or a drive is gone: tell, not hide it
            raise FileNotFoundError(f"{self.folder} is gone, so that {path.name} cannot be written")
        training = {"optimizer": self.optimizer.state_dict(), "history": self.history}
        if epoch:
            epoch.note_random_states(next(self.model.parameters()).device)
            training["epoch"] = dataclasses.asdict(epoch)
        return checkpoint.save(path, self.model, training=training)

    def keep(self, *, checkpoint_every: int) -> Path:
        """Write what the epoch just ended leaves behind; the checkpoint to go on from."""
        if not distributed.is_first():
            return self.save("last")  # which writes nothing
        if epochs_without_gain(self.history) == 0:
            self.save("best")
        if len(self.history) % checkpoint_every == 0:
            now = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
            self.save(f"epoch{len(self.history)}_{now}")
        self._write_history()
        return self.save("last")

    def _bring_from(self, path: Path) -> None:
        """What a run leaves that goes on elsewhere: it may never again reach what it had."""
        self._write_history()
        best = self.folder / f"{self.name}_best.pt"
        if not best.exists():
            theirs = path.with_name(best.name)
            contents = (theirs if theirs.exists() else path).read_bytes()
            with atomic_write(best) as file:
                file.write(contents)

    def _write_history(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.history[0]))
        writer.writeheader()
        writer.writerows(self.history)
        with atomic_write(self.folder / f"{self.name}_metrics.csv") as file:
            file.write(text.getvalue().encode())


def epochs_without_gain(history: Sequence[Row]) -> int:
    """Epochs since the one with the least validation loss."""
    losses = [row["valid_loss"] for row in history]
    return len(losses) - 1 - losses.index(min(losses))
