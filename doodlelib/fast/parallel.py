"""Data parallelism over threads: parts of a batch side by side, and methods in one thread.

PyTorch's own threads meet after every small product, wait while Python or Numba works, and keep a
processor busy for milliseconds after it. A thread that works on rows of its own waits for nobody.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from functools import lru_cache, partial, reduce, wraps
from itertools import pairwise
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from doodlelib.jit import is_fast

Given = ParamSpec("Given")
Result = TypeVar("Result")
MIN_ROWS = 16  # of a part: for fewer, a matrix product reads its weights too often
_local = threading.local()


def in_parts(work: Callable[[slice], Result], rows: int) -> list[Result]:
    """Call `work` on parts of all rows, side by side and without gradients; results by part.

    Args:
        work: Called with the rows of one part.
        rows: How many.
    """
    return _run_all([partial(work, part) for part in _divided(rows)], gradients=False)


def in_one_thread(method: Callable[Given, Result]) -> Callable[Given, Result]:
    """A method that runs without gradients and with one of PyTorch's threads.

    For few drawings all products are small: waking a second thread takes longer than it saves, and
    waiting for it beside other busy processes several times as long. `in_parts` within has all
    threads to share. On a GPU, and within a part, the method just runs without gradients. It
    belongs to something with a `device`.
    """

    @wraps(method)
    @torch.no_grad()
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        threads, device = _threads(), cast(Any, args[0]).device
        if not is_fast() or _is_in_pool() or threads == 1 or device.type != "cpu":
            return method(*args, **kwargs)

        def alone() -> Result:
            _local.threads = threads
            try:
                return method(*args, **kwargs)
            finally:
                _local.threads = None

        # As many callers at once as there are threads, in a pool in which no parts wait.
        return _submit([alone], workers=threads, share=1, gradients=False)[0]

    return run


def with_gradients(
    work: Callable[[slice], tuple[Tensor, ...]], rows: int, *, weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """What `work` gives for all rows, computed in parts with gradients, each part in a thread.

    On a GPU there is one part.

    Args:
        work: Called with the rows of one part, which come first in the shape of all it gives. Takes
            its random numbers from `generator`.
        rows: How many.
        weights: What gradients are to reach; all else is taken for constant.
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
        return _joined(_run_all(jobs, gradients=False))
    return _WithGradients.apply(jobs, parts, *(w for w in weights if w.requires_grad))


def generator() -> torch.Generator | None:
    """The source of random numbers in a part of `with_gradients`; elsewhere None, PyTorch's own."""
    return getattr(_local, "generator", None)


def raise_if_cancelled() -> None:
    """For long loops in parts: end them where another part failed or somebody pressed Ctrl-C.

    Raises:
        CancelledError: It is so; nobody waits for what the part gives.
    """
    if any(event.is_set() for event in getattr(_local, "cancelled", ())):
        raise CancelledError


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, jobs: list[Callable[[], tuple[Tensor, ...]]], parts: list[slice], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.results, ctx.parts, ctx.weights = _run_all(jobs, gradients=True), parts, weights
        joined = _joined(ctx.results)
        ctx.mark_non_differentiable(*(one for one in joined if not one.is_floating_point()))
        return joined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_joined: Tensor) -> tuple:
        def of_part(results: tuple[Tensor, ...], part: slice) -> Sequence[Tensor | None]:
            pairs = [(one, d[part]) for one, d in zip(results, d_joined, strict=True)]
            pairs = [pair for pair in pairs if pair[0].requires_grad]
            if not pairs:
                return [None] * len(ctx.weights)
            outputs, given = zip(*pairs, strict=True)
            return torch.autograd.grad(outputs, ctx.weights, given, allow_unused=True)

        jobs = [partial(of_part, *one) for one in zip(ctx.results, ctx.parts, strict=True)]
        ctx.results = None
        return None, None, *reduce(_sums, _run_all(jobs, gradients=True))


def _sums(one: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> list[Tensor | None]:
    """None is 0. Not in place: autograd may give two weights the same memory."""
    pairs = zip(one, other, strict=True)
    return [b if a is None else a if b is None else a + b for a, b in pairs]


def _threads() -> int:
    """How many of PyTorch's threads there are to share."""
    return getattr(_local, "threads", None) or torch.get_num_threads()


def _is_in_pool() -> bool:
    """Whether this thread is of a pool here."""
    return hasattr(_local, "process_threads")


def _divided(rows: int) -> list[slice]:
    """As many parts of all rows as threads are worth it."""
    count = max(1, min(_threads(), rows // MIN_ROWS)) if is_fast() else 1
    bounds = [rows * part // count for part in range(count + 1)]
    return [slice(*ends) for ends in pairwise(bounds)]


def _joined(results: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    columns = zip(*results, strict=True)
    return tuple(torch.cat([one.detach() for one in column]) for column in columns)


def _run_all(jobs: Sequence[Callable[[], Result]], *, gradients: bool) -> list[Result]:
    """Run all `jobs`, each in a thread of its own; their results once all have ended."""
    if len(jobs) == 1:
        return [_in_these_modes(gradients)(jobs[0])]
    return _submit(jobs, workers=len(jobs), share=_threads() // len(jobs), gradients=gradients)


def _submit(
    jobs: Sequence[Callable[[], Result]], *, workers: int, share: int, gradients: bool
) -> list[Result]:
    """In a pool of `workers`, each of which has a `share` of PyTorch's threads."""
    in_modes = _in_these_modes(gradients)
    cancelled = (*getattr(_local, "cancelled", ()), threading.Event())  # of what this is part of

    def run(job: Callable[[], Result]) -> Result:
        _local.cancelled = cancelled
        return in_modes(job)

    try:
        pool = _pool(os.getpid(), _threads(), workers, share, len(jobs) == 1)
        futures = [pool.submit(run, jobs[0])]
    except RuntimeError:  # the main thread has ended, after which no pool takes work
        return [in_modes(job) for job in jobs]
    futures += [pool.submit(run, job) for job in jobs[1:]]
    try:
        return [future.result() for future in futures]
    except BaseException:  # one failed, or somebody pressed Ctrl-C
        cancelled[-1].set()
        raise
    finally:  # even then none writes on
        wait([future for future in futures if not future.cancel()])


def _in_these_modes(gradients: bool) -> Callable[[Callable[[], Any]], Any]:
    """A function that calls a job in this thread's modes; another thread has its own."""
    inference = torch.is_inference_mode_enabled()
    enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def call(job: Callable[[], Any]) -> Any:
        with (
            torch.inference_mode() if inference else torch.set_grad_enabled(gradients),
            # no cache: weights that one thread has cast would be of its graph
            torch.autocast("cpu", enabled=enabled, dtype=dtype, cache_enabled=False),
        ):
            return job()

    return call


@lru_cache
def _pool(process: int, threads: int, workers: int, share: int, single: bool) -> ThreadPoolExecutor:
    """Threads for parts or, of which one waits for parts, for a `single` job.

    Of this process, since threads do not outlive a fork.
    """
    all_begun = threading.Barrier(workers)
    number = getattr(_local, "process_threads", None) or torch.get_num_threads()

    def begin() -> None:
        torch.get_num_threads()  # a new thread takes the process's number only once it is asked
        torch.set_num_threads(share)
        _local.process_threads = number

    pool = ThreadPoolExecutor(workers, "doodlelib", initializer=begin)
    list(pool.map(lambda _: all_begun.wait(), range(workers)))
    # threads that are still to come have the number that was set last, this one keeps its own
    last = threading.Thread(target=torch.set_num_threads, args=(number,))
    last.start()
    last.join()
    return pool
