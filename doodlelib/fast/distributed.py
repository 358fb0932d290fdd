"""Data-parallel training over processes: each one's share of a batch, and sums over all of them.

A process takes part once `torch.distributed` has a process group, as Ray or torchrun sets up. In a
process without one, everything here leaves things as they are.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

Sums = dict[str, tuple[Tensor, Tensor]]  # by name: sum over some batches, and count of terms
SEED_STRIDE = 1 << 40  # between the seeds of two ranks


def count() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is rank 0, which writes files."""
    return _number() == 0


def seed(value: int) -> None:
    """Seed torch with `value` and the rank: ranks take noise for different drawings."""
    torch.manual_seed(value + _number() * SEED_STRIDE)


def shared_loss(model: Any) -> Callable[..., tuple[Tensor, Sums]]:
    """``model.loss`` on this rank's share of a batch; the mean over ranks is the batch's loss."""
    return model.loss if count() == 1 else SharedLoss(model)


def parallel_loss(model: Any) -> Callable[..., tuple[Tensor, Sums]]:
    """`shared_loss` whose gradients are averaged over ranks (`DistributedDataParallel`).

    All ranks begin with the weights of the first. Keep the result until the last backward pass.
    """
    if count() == 1:
        return model.loss
    shared = SharedLoss(model)
    for weights in shared.parameters():
        if not weights.numel():  # gets no gradient, for which the others would wait
            weights.requires_grad_(False)
    # Buffers take no part in training: `same_buffers` before they are read will do.
    return nn.parallel.DistributedDataParallel(shared, broadcast_buffers=False)


class SharedLoss(nn.Module):
    """A model's loss on this rank's share of a batch: every n-th drawing.

    It is weighted by the number of terms it is a mean over (the count of the figure "loss":
    drawings, or timed moves). A batch of fewer drawings than ranks is computed by all of them.
    Where a model normalises over its batch, each rank does so over its share.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, batch: Any, *, step: int | Tensor | None) -> tuple[Tensor, Sums]:
        """The weighted loss and the figures of the share, as ``model.loss`` gives them."""
        share, copies = batch, count()
        if batch.size >= count():
            parts = {name: values[_number() :: count()] for name, values in vars(batch).items()}
            share, copies = type(batch)(**parts), 1
        loss, figures = self.model.loss(share, step=step)
        held = figures["loss"][1].to(loss.device, torch.float64)
        mean_held = _total(held.clone()) / count()
        weight = held / mean_held.clamp(min=1e-9)  # none may hold any
        figures = {name: (part / copies, n / copies) for name, (part, n) in figures.items()}
        return loss * weight.to(loss.dtype), figures


def mean(values: Tensor) -> Tensor:
    """Mean of the values of all ranks, without a gradient."""
    values = values.detach()
    if count() == 1:
        return values.mean()
    total, number = _total(torch.stack([values.sum(), values.new_tensor(values.numel())]))
    return total / number


def total(sums: Sums) -> Sums:
    """Sums and counts added up over ranks, all of which have the same names."""
    if count() == 1:
        return sums
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    table = torch.tensor([[float(part) for part in sums[name]] for name in sorted(sums)])
    table = _total(table.to(device, torch.float64)).cpu()
    return {name: (part[0], part[1]) for name, part in zip(sorted(sums), table, strict=True)}


def same_buffers(model: nn.Module) -> None:
    """Copy rank 0's buffers (running means and the like) to all ranks."""
    if count() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def _number() -> int:
    return dist.get_rank() if count() > 1 else 0


def _total(values: Tensor) -> Tensor:
    dist.all_reduce(values)
    return values
