"""Rows of a batch in parts side by side, each in a thread with its share of PyTorch's threads.

PyTorch's own threads meet after every small product and wait while Python or Numba works; a part
that goes through many steps by itself waits for nobody.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Result = TypeVar("Result")
LEAST = 24  # rows of a part: for fewer, a product reads its weights too often


def in_parts(work: Callable[[slice], Result], rows: int) -> list[Result]:
    """`work` on all rows, without gradients; what it gave for each part.

    Args:
        work: Called with the rows of one part.
        rows: How many.
    """
    threads = torch.get_num_threads()
    parts = min(threads, rows // LEAST)
    if parts < 2:
        with torch.no_grad():
            return [work(slice(0, rows))]
    bounds = [rows * part // parts for part in range(parts + 1)]
    slices = map(slice, bounds[:-1], bounds[1:])

    def alone(part: slice) -> Result:
        torch.get_num_threads()  # a new thread takes the process's number only once it is asked
        torch.set_num_threads(threads // parts)
        with torch.no_grad():
            return work(part)

    try:
        return list(_pool(os.getpid()).map(alone, slices))
    finally:
        torch.set_num_threads(threads)  # of threads that are still to come


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Of this process: threads do not outlive a fork."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="doodlelib")
