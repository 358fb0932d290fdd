"""Rows of a batch in parts side by side, each in a thread with its share of PyTorch's threads.

PyTorch's own threads meet after every small product and wait while Python or Numba works; a part
that goes through many steps by itself waits for nobody.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import TypeVar

import torch

Result = TypeVar("Result")
LEAST = 24  # rows of a part: for fewer, a product reads its weights too often


def in_parts(work: Callable[[slice], Result], rows: int) -> list[Result]:
    """`work` on all rows, without gradients; what it gave for each part, once all have ended.

    Args:
        work: Called with the rows of one part.
        rows: How many.
    """
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()
    parts = min(threads, rows // LEAST)

    def alone(part: slice) -> Result:
        with torch.inference_mode() if inference else torch.no_grad():  # a thread's own
            return work(part)

    if parts < 2:
        return [alone(slice(0, rows))]
    bounds = [rows * part // parts for part in range(parts + 1)]
    first, *others = map(slice, bounds[:-1], bounds[1:])
    pool = _pool(os.getpid(), threads, parts)
    try:
        futures = [pool.submit(alone, first)]
    except RuntimeError:  # the main thread has ended, after which no pool takes work
        return [alone(slice(0, rows))]
    futures += [pool.submit(alone, part) for part in others]
    try:
        return [future.result() for future in futures]
    finally:
        wait(futures)  # even if one failed, or somebody pressed Ctrl-C, none writes on


@lru_cache
def _pool(process: int, threads: int, parts: int) -> ThreadPoolExecutor:
    """A thread for each part; of this process, since threads do not outlive a fork."""
    all_begun = threading.Barrier(parts)

    def begin() -> None:
        torch.get_num_threads()  # a new thread takes the process's number only once it is asked
        torch.set_num_threads(threads // parts)

    pool = ThreadPoolExecutor(parts, "doodlelib", initializer=begin)
    list(pool.map(lambda _: all_begun.wait(), range(parts)))
    torch.set_num_threads(threads)  # of threads that are still to come
    return pool
