"""Loss and gradients of a batch; on a GPU captured as CUDA graphs.

A training step is some thousands of small kernels, which a CPU launches more slowly than a GPU
computes them. So a batch of a new shape is computed as usual, captured when the shape comes again,
and replayed from then on; batches are padded a little, so that there are few shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from doodlelib.fast import parallel
from doodlelib.fast.parallel import Sums

Loss = Callable[..., tuple[Tensor, Sums]]


@dataclass(frozen=True)
class Batch:
    """Tensors of some drawings, which come first in the shape of each."""

    @property
    def size(self) -> int:
        """Number of drawings."""
        return len(next(iter(vars(self).values())))

    def to(self, device: torch.device | str) -> Self:
        """The batch on `device`."""
        return type(self)(**{name: value.to(device) for name, value in vars(self).items()})

    def padded(self) -> Self:
        """A batch of the same loss, in one of a few shapes."""
        return self


class Captured(NamedTuple):
    """A graph, its inputs, and its outputs beside the gradients."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    step: Tensor
    loss: Tensor
    figures: Sums


class Gradients:
    """Computes the gradients of a batch and leaves them in the weights' `grad`.

    Of a model on `device`, by its `parallel.parallel_loss`. With `half` matrix products are in
    bfloat16 (autocast); weights and likelihood stay in float32.
    """

    def __init__(
        self, loss_of: Loss, optimizer: torch.optim.Optimizer, device: torch.device, *, half: bool
    ) -> None:
        self.loss_of, self.optimizer, self.device, self.half = loss_of, optimizer, device, half
        self.capturing = device.type == "cuda" and parallel.world_size() == 1
        self.captured: dict[tuple, Captured | None] = {}  # by shape, which are few; None: met once

    def of(self, batch: Batch, *, step: int) -> tuple[Tensor, Sums]:
        """The detached loss and its figures at optimiser step `step`; valid until the next call."""
        if self.capturing:
            with torch.cuda.device(self.device):
                return self._of_shape(batch.padded(), step)
        self.optimizer.zero_grad(set_to_none=True)
        return self._work(batch.to(self.device), step)

    def _of_shape(self, batch: Batch, step: int) -> tuple[Tensor, Sums]:
        shape = tuple(tuple(values.shape) for values in vars(batch).values())
        if shape not in self.captured:
            self.captured[shape] = None
            self.optimizer.zero_grad(set_to_none=False)
            return self._work(batch.to(self.device), torch.tensor(float(step)).to(self.device))
        captured = self.captured[shape] = self.captured[shape] or self._capture(batch)
        for into, values in zip(vars(captured.batch).values(), vars(batch).values(), strict=True):
            into.copy_(values)
        captured.step.fill_(step)
        captured.graph.replay()
        return captured.loss, captured.figures

    def _work(self, batch: Batch, step: int | Tensor) -> tuple[Tensor, Sums]:
        before = torch.get_float32_matmul_precision()
        if self.half:  # also of float32 products, which autocast leaves alone
            torch.set_float32_matmul_precision("medium")
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                loss, figures = self.loss_of(batch, step=step)
            loss.backward()
        finally:
            torch.set_float32_matmul_precision(before)
        return loss.detach(), figures

    def _capture(self, batch: Batch) -> Captured:
        batch, step = batch.to(self.device), torch.zeros((), device=self.device)
        graph = torch.cuda.CUDAGraph()
        pool = next((one.graph.pool() for one in self.captured.values() if one), None)
        try:
            with torch.cuda.graph(graph, pool=pool):
                # into the same gradients, whichever graph is replayed
                self.optimizer.zero_grad(set_to_none=False)
                loss, figures = self._work(batch, step)
        except RuntimeError as error:
            raise RuntimeError(
                "a training step cannot be captured as a CUDA graph: something in the model's loss "
                f"waits for the GPU (.item(), a boolean index, a check), see: {error}"
            ) from error
        return Captured(graph, batch, step, loss, figures)
