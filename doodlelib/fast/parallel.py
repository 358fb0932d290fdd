"""Data parallelism: parts of a batch in threads, or in processes that train together.

PyTorch's own threads meet after every small product, wait while Python or Numba works, and keep a
processor busy for milliseconds after it. A thread that works on rows of its own waits for nobody.

A process takes part in distributed training once `torch.distributed` has a process group, as Ray or
torchrun sets up. Without one the functions of ranks leave things as they are.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from functools import lru_cache, partial, reduce, wraps
from itertools import pairwise
from typing import Any, ParamSpec, TypeVar, cast

import torch
import torch.distributed as dist
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from doodlelib.jit import is_fast

Given = ParamSpec("Given")
Result = TypeVar("Result")
Sums = dict[str, tuple[Tensor, Tensor]]  # by name: sum over some batches, and count of terms
MIN_ROWS = 16  # of a part: for fewer, a matrix product reads its weights too often
SEED_STRIDE = 1 << 40  # between the seeds of two ranks


class _Local(threading.local):
    """What each thread has of its own."""

    threads: int | None = None  # to be shared by parts; None: PyTorch's
    generator: torch.Generator | None = None
    cancelled: threading.Event | None = None


_local = _Local()


@torch.no_grad()
def in_parts(work: Callable[[slice], Result], rows: int) -> list[Result]:
    """Call `work` on parts of all rows, side by side and without gradients; results by part."""
    parts = _divided(rows)
    if len(parts) == 1:
        return [work(parts[0])]
    return _run_all([partial(work, part) for part in parts])


def in_one_thread(method: Callable[Given, Result]) -> Callable[Given, Result]:
    """A method that runs without gradients and, on a CPU, with one of PyTorch's threads.

    For few drawings all products are small: waking a second thread takes longer than it saves, and
    waiting for it beside other busy processes several times as long. `in_parts` within has all
    threads to share. The method belongs to something with a `device`.
    """

    @wraps(method)
    @torch.no_grad()
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        threads, device = torch.get_num_threads(), cast(Any, args[0]).device
        if not is_fast() or threads == 1 or device.type != "cpu":
            return method(*args, **kwargs)
        _local.threads = threads
        torch.set_num_threads(1)  # of this thread alone
        try:
            with _numpy_threads().limit(limits=1):
                return method(*args, **kwargs)
        finally:
            torch.set_num_threads(threads)
            _local.threads = None

    return run


def with_gradients(
    work: Callable[[slice], tuple[Tensor, ...]], rows: int, *, weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """What `work` gives for all rows, in parts with gradients, each in a thread; one on a GPU.

    `work` is called with the rows of a part, which come first in the shape of all it gives, and
    takes its random numbers from `generator`. Gradients reach the `weights` alone.
    """
    if weights[0].device.type != "cpu":
        return work(slice(0, rows))
    seed = int(torch.randint(2**62, ()))  # one for any number of parts: what comes after is equal
    parts = _divided(rows)
    if len(parts) == 1:
        return work(parts[0])

    def seeded(number: int) -> tuple[Tensor, ...]:
        _local.generator = torch.Generator().manual_seed(seed + number)
        try:
            return work(parts[number])
        finally:
            _local.generator = None

    jobs = [partial(seeded, number) for number in range(len(parts))]
    if not torch.is_grad_enabled():
        return _joined(_run_all(jobs))
    return _WithGradients.apply(jobs, parts, *(w for w in weights if w.requires_grad))


def generator() -> torch.Generator | None:
    """The source of random numbers in a part of `with_gradients`; elsewhere None, PyTorch's own."""
    return _local.generator


def raise_if_cancelled() -> None:
    """For long loops in parts: CancelledError where another part failed or Ctrl-C was pressed."""
    if _local.cancelled and _local.cancelled.is_set():
        raise CancelledError


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, jobs: list[Callable[[], tuple[Tensor, ...]]], parts: list[slice], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            ctx.results, ctx.parts, ctx.weights = _run_all(jobs), parts, weights
        joined = _joined(ctx.results)
        ctx.mark_non_differentiable(*(one for one in joined if not one.is_floating_point()))
        return joined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_joined: Tensor) -> tuple:
        def of_part(results: tuple[Tensor, ...], part: slice) -> tuple[Tensor, ...]:
            given = zip(results, d_joined, strict=True)
            pairs = [(one, d[part]) for one, d in given if one.requires_grad]
            outputs, d_outputs = zip(*pairs, strict=True)
            return torch.autograd.grad(outputs, ctx.weights, d_outputs, materialize_grads=True)

        jobs = [partial(of_part, *one) for one in zip(ctx.results, ctx.parts, strict=True)]
        ctx.results = None
        # not in place: autograd may give two weights the same memory
        return None, None, *(reduce(torch.add, ds) for ds in zip(*_run_all(jobs), strict=True))


def _divided(rows: int) -> list[slice]:
    """As many parts of all rows as threads are worth it."""
    threads = _local.threads or torch.get_num_threads()
    count = max(1, min(threads, rows // MIN_ROWS)) if is_fast() else 1
    return [slice(*ends) for ends in pairwise(rows * part // count for part in range(count + 1))]


def _joined(results: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    columns = zip(*results, strict=True)
    return tuple(torch.cat([one.detach() for one in column]) for column in columns)


def _run_all(jobs: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run all `jobs`, each in a thread of its own; their results once all have ended."""
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    cancelled = threading.Event()

    def run(job: Callable[[], Result]) -> Result:
        _local.cancelled = cancelled
        with (
            torch.inference_mode() if inference else torch.set_grad_enabled(gradients),
            # no cache: weights that one thread has cast would be of its graph
            torch.autocast("cpu", enabled=autocast, dtype=dtype, cache_enabled=False),
        ):
            return job()

    share = max(1, (_local.threads or torch.get_num_threads()) // len(jobs))
    futures = [_pool(os.getpid(), len(jobs), share).submit(run, job) for job in jobs]
    try:
        with _numpy_threads().limit(limits=share):
            return [future.result() for future in futures]
    except BaseException:  # one failed, or somebody pressed Ctrl-C
        cancelled.set()
        raise
    finally:  # even then none writes on
        wait([future for future in futures if not future.cancel()])


@lru_cache
def _numpy_threads() -> Any:
    """The threads of NumPy's matrix products, which are the process's."""
    return ThreadpoolController().select(user_api="blas")


@lru_cache
def _pool(process: int, workers: int, share: int) -> ThreadPoolExecutor:
    """Threads with a `share` of PyTorch's each; of this process, since none outlives a fork."""
    before, all_begun = torch.get_num_threads(), threading.Barrier(workers)

    def begin() -> None:
        torch.get_num_threads()  # a new thread takes the process's number only once it is asked
        torch.set_num_threads(share)
        all_begun.wait()

    pool = ThreadPoolExecutor(workers, "doodlelib", initializer=begin)
    list(pool.map(bool, range(workers)))
    torch.set_num_threads(before)  # other threads that are still to come have what was set last
    return pool


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first_rank() -> bool:
    """Whether this is rank 0, which writes files."""
    return _rank() == 0


def seed_rank(value: int) -> None:
    """Seed torch with `value` and the rank: ranks take noise for different drawings."""
    torch.manual_seed(value + _rank() * SEED_STRIDE)


def parallel_loss(model: Any) -> Callable[..., tuple[Tensor, Sums]]:
    """`SharedLoss` whose gradients are averaged over ranks; to be kept until the last of them."""
    if world_size() == 1:
        return model.loss
    shared = SharedLoss(model)
    for weights in shared.parameters():
        if not weights.numel():  # gets no gradient, for which the others would wait
            weights.requires_grad_(False)
    # Buffers take no part in training: `sync_buffers` before they are read will do.
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
        ranks = copies = world_size()
        if batch.size >= ranks:
            values = {name: value[_rank() :: ranks] for name, value in vars(batch).items()}
            batch, copies = type(batch)(**values), 1
        loss, figures = self.model.loss(batch, step=step)
        terms = figures["loss"][1].to(loss.device, torch.float64)
        mean_terms = _total(terms.clone()) / ranks
        weight = terms / mean_terms.clamp(min=1e-9)  # there may be none
        figures = {name: (part / copies, n / copies) for name, (part, n) in figures.items()}
        return loss * weight.to(loss.dtype), figures


def mean_over_ranks(values: Tensor) -> Tensor:
    """Mean of the values of all ranks, without a gradient."""
    values = values.detach()
    if world_size() == 1:
        return values.mean()
    total, number = _total(torch.stack([values.sum(), values.new_tensor(values.numel())]))
    return total / number


def sum_over_ranks(sums: Sums) -> Sums:
    """Sums and counts added up over ranks, all of which have the same names."""
    if world_size() == 1:
        return sums
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    table = torch.tensor([[float(part) for part in sums[name]] for name in sorted(sums)])
    table = _total(table.to(device, torch.float64)).cpu()
    return {name: (part[0], part[1]) for name, part in zip(sorted(sums), table, strict=True)}


def sync_buffers(model: nn.Module) -> None:
    """Copy rank 0's buffers (running means and the like) to all ranks."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def _rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def _total(values: Tensor) -> Tensor:
    dist.all_reduce(values)
    return values
