"""Work with a share of PyTorch's threads: rows of a batch in parts side by side, small calls.

PyTorch's own threads meet after every small product, wait while Python or Numba works, and keep a
processor busy for milliseconds after it; a part that goes its way by itself waits for nobody.
"""

import math
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

Given = ParamSpec("Given")
Result = TypeVar("Result")
Work = Callable[[int], tuple[Tensor, ...]]  # on the part of a number
LEAST = 16  # rows of a part: for fewer, a product reads its weights too often
_own = threading.local()


def in_parts(work: Callable[[slice], Result], rows: int, *, wide: bool = False) -> list[Result]:
    """`work` on all rows, without gradients; what it gave for each part, once all have ended.

    Args:
        work: Called with the rows of one part.
        rows: How many.
        wide: A single part has all of PyTorch's threads, within `in_one_thread` too.
    """
    jobs = [partial(work, part) for part in _divided(rows, _workers(rows))]
    return _together(jobs, gradients=False, wide=wide)


def in_one_thread(method: Callable[Given, Result]) -> Callable[Given, Result]:
    """A method, without gradients, that has one of PyTorch's threads; its parts share all of them.

    For few drawings all products are small: waking a second thread takes longer than it saves, and
    waiting for it beside other busy processes several times as long. On a GPU, and within a part,
    it is only without gradients. The method is of something with a `device`.
    """

    @wraps(method)
    @torch.no_grad()
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        threads = _threads()
        if _pooled() or threads == 1 or cast(Any, args[0]).device.type != "cpu":
            return method(*args, **kwargs)

        def alone() -> Result:
            _own.threads = threads
            try:
                return method(*args, **kwargs)
            finally:
                _own.threads = None

        # as many calls at once as there are threads; a pool of their own, for parts to wait in none
        return _submitted([alone], threads, 1, threads, gradients=False)[0]

    return run


def with_gradients(
    work: Callable[[slice], tuple[Tensor, ...]],
    rows: int,
    *,
    weights: Sequence[Tensor],
    most: int | None = None,
) -> tuple[Tensor, ...]:
    """What `work` gives for all rows, and gradients of `weights` through it, part by part too.

    On a GPU there is one part.

    Args:
        work: Called with the rows of one part, which come first in the shape of all it gives. Takes
            its random numbers from `generator`.
        rows: How many.
        weights: What gradients are to reach; all else is taken for constant.
        most: Rows in memory at once; None: all. If there are more, each part goes forward again for
            its gradients, so that others need not be kept meanwhile.
    """
    if weights[0].device.type != "cpu":
        return work(slice(0, rows))
    seed = int(torch.randint(2**62, ()))  # one, so that what comes after is the same for any parts
    workers = min(_workers(rows), most or rows)
    count = min(rows, workers * math.ceil(rows / most)) if most else workers
    if count < 2:
        return work(slice(0, rows))
    parts = _divided(rows, count)

    def seeded(number: int) -> tuple[Tensor, ...]:
        _own.generator = torch.Generator().manual_seed(seed + number)
        try:
            return work(parts[number])
        finally:
            _own.generator = None

    if not torch.is_grad_enabled():
        return _joined(_shared_out(seeded, count, workers, gradients=False))
    learning = [weight for weight in weights if weight.requires_grad]
    return _WithGradients.apply(seeded, parts, workers, *learning)


def generator() -> torch.Generator | None:
    """The source of random numbers in a part of `with_gradients`; elsewhere None, PyTorch's own."""
    return getattr(_own, "generator", None)


def raise_if_given_up() -> None:
    """For long loops in parts: ends them where another part failed or somebody pressed Ctrl-C.

    Raises:
        CancelledError: It is so; nobody waits for what the part gives.
    """
    if any(event.is_set() for event in getattr(_own, "given_up", ())):
        raise CancelledError


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, work: Work, parts: list[slice], workers: int, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        keep = len(parts) == workers
        results = _shared_out(work, len(parts), workers, gradients=keep)
        joined = _joined(results)
        ctx.mark_non_differentiable(*(one for one in joined if not one.is_floating_point()))
        ctx.work, ctx.parts, ctx.workers, ctx.weights = work, parts, workers, weights
        ctx.results = dict(enumerate(results)) if keep else {}
        ctx.autocast = _autocast()
        return joined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_joined: Tensor) -> tuple:
        def of_part(number: int) -> Sequence[Tensor | None]:
            """Its results end with the call: none may be in memory while the next goes forward."""
            results = ctx.results.pop(number, None)
            if results is None:
                with torch.autocast("cpu", **ctx.autocast):  # as it went forward
                    results = ctx.work(number)
            given = (d[ctx.parts[number]] for d in d_joined)
            pairs = [pair for pair in zip(results, given, strict=True) if pair[0].requires_grad]
            if not pairs:
                return [None] * len(ctx.weights)
            results, given = zip(*pairs, strict=True)
            return torch.autograd.grad(results, ctx.weights, given, allow_unused=True)

        def of_worker(first: int) -> Sequence[Tensor | None]:
            numbers = range(first, len(ctx.parts), ctx.workers)
            return reduce(_sums, map(of_part, numbers))

        jobs = [partial(of_worker, first) for first in range(ctx.workers)]
        return None, None, None, *reduce(_sums, _together(jobs, gradients=True))


def _sums(one: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> list[Tensor | None]:
    """None is 0. Not in place: autograd may give two weights the same memory."""
    pairs = zip(one, other, strict=True)
    return [b if a is None else a if b is None else a + b for a, b in pairs]


def _autocast() -> dict[str, Any]:
    """Arguments of `torch.autocast` that make another thread's like this one's.

    Without its cache, since weights that one thread has cast would be of its graph.
    """
    enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    return {"enabled": enabled, "dtype": dtype, "cache_enabled": False}


def _workers(rows: int) -> int:
    """How many threads are worth it."""
    return max(1, min(_threads(), rows // LEAST))


def _threads() -> int:
    """How many of PyTorch's threads there are for parts."""
    return getattr(_own, "threads", None) or torch.get_num_threads()


def _pooled() -> bool:
    """Whether this thread is of a pool here."""
    return hasattr(_own, "process")


def _divided(rows: int, parts: int) -> list[slice]:
    bounds = [rows * part // parts for part in range(parts + 1)]
    return [slice(*ends) for ends in pairwise(bounds)]


def _joined(results: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(
        torch.cat([one.detach() for one in column]) for column in zip(*results, strict=True)
    )


def _shared_out(
    work: Work, count: int, workers: int, *, gradients: bool
) -> list[tuple[Tensor, ...]]:
    """`work` on parts 0 to `count`, those of a worker one after the other."""

    def of_worker(first: int) -> list[tuple[Tensor, ...]]:
        return [work(number) for number in range(first, count, workers)]

    jobs = [partial(of_worker, first) for first in range(workers)]
    done = _together(jobs, gradients=gradients)
    return [done[number % workers][number // workers] for number in range(count)]


def _together(
    jobs: Sequence[Callable[[], Result]], *, gradients: bool, wide: bool = False
) -> list[Result]:
    """All `jobs`, each in a thread of its own; what they gave, once all have ended."""
    threads = _threads()
    if len(jobs) == 1 and (not wide or threads == torch.get_num_threads()):
        return [_in_modes(gradients)(jobs[0])]
    return _submitted(jobs, len(jobs), threads // len(jobs), threads, gradients=gradients)


def _submitted(
    jobs: Sequence[Callable[[], Result]],
    workers: int,
    share: int,
    threads: int,
    *,
    gradients: bool,
) -> list[Result]:
    """In a pool of `workers`, each with its `share` of all `threads`."""
    alone = _in_modes(gradients)
    given_up = (*getattr(_own, "given_up", ()), threading.Event())  # of what this is a part of, too

    def run(job: Callable[[], Result]) -> Result:
        _own.given_up = given_up
        return alone(job)

    try:
        pool = _pool(os.getpid(), threads, workers, share, len(jobs) == 1)
        futures = [pool.submit(run, jobs[0])]
    except RuntimeError:  # the main thread has ended, after which no pool takes work
        return [alone(job) for job in jobs]
    futures += [pool.submit(run, job) for job in jobs[1:]]
    try:
        return [future.result() for future in futures]
    except BaseException:  # one failed, or somebody pressed Ctrl-C
        given_up[-1].set()
        raise
    finally:  # even then none writes on
        wait([future for future in futures if not future.cancel()])


def _in_modes(gradients: bool) -> Callable[[Callable[[], Any]], Any]:
    """Calls a job in this thread's modes, since another has modes of its own."""
    inference, autocast = torch.is_inference_mode_enabled(), _autocast()

    def alone(job: Callable[[], Any]) -> Any:
        with (
            torch.inference_mode() if inference else torch.set_grad_enabled(gradients),
            torch.autocast("cpu", **autocast),
        ):
            return job()

    return alone


@lru_cache
def _pool(process: int, threads: int, workers: int, share: int, single: bool) -> ThreadPoolExecutor:
    """Threads for parts or, of which one waits for parts, for a `single` job.

    Of this process, since threads do not outlive a fork.
    """
    all_begun = threading.Barrier(workers)
    number = getattr(_own, "process", None) or torch.get_num_threads()

    def begin() -> None:
        torch.get_num_threads()  # a new thread takes the process's number only once it is asked
        torch.set_num_threads(share)
        _own.process = number

    pool = ThreadPoolExecutor(workers, "doodlelib", initializer=begin)
    list(pool.map(lambda _: all_begun.wait(), range(workers)))
    # threads that are still to come have the number that was set last, this one keeps its own
    last = threading.Thread(target=torch.set_num_threads, args=(number,))
    last.start()
    last.join()
    return pool
