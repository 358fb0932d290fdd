"""What the benchmarks share: the machine's line, its matmul rate, and times of jobs in turn.

With one thread seconds are those of the processor, so that what else the machine does takes less
part; with more they are those of the clock on the wall.
"""

import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)
SIZE = 1536
MATMUL_FLOP = 2 * SIZE**3


def describe() -> str:
    """Versions, threads and how busy the machine is."""
    load = os.getloadavg()[0]
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} cores, "
        f"load {load:.1f}"
    )


def now() -> float:
    """Seconds; see above."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def matmul(dtype: torch.dtype) -> Callable[[], object]:
    """A job of one square product, of `MATMUL_FLOP`; large enough for the processor's best."""
    a, b = torch.randn(2, SIZE, SIZE).to(dtype)
    return lambda: torch.mm(a, b)


def medians(jobs: Mapping[Name, Callable[[], object]], *, repeats: int) -> dict[Name, float]:
    """Median seconds of each job, all in turn `repeats` times after one to warm up."""
    seconds: dict[Name, list[float]] = {name: [] for name in jobs}
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            begin = now()
            job()
            if repeat:
                seconds[name].append(now() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}
