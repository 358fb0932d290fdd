"""What the benchmarks share: the machine's line, its matmul rate, and times of jobs in turn.

With one thread seconds are those of the processor, so that what else the machine does takes less
part; with more, and on a GPU, they are those of the clock on the wall.
"""

import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

from doodlelib.training.loop import has_bfloat16

Name = TypeVar("Name", bound=Hashable)
SIZES = {"cpu": 1536, "cuda": 8192}  # of a square product, large enough for the best rate
PRODUCTS = 4  # in a row: one alone may fall into a neighbour's turn


def describe(device: str = "cpu") -> str:
    """Versions, threads and how busy the machine is; what the GPU is called."""
    load = os.getloadavg()[0]
    gpu = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} cores, "
        f"load {load:.1f}{gpu}"
    )


def precisions(device: str = "cpu") -> dict[str, torch.dtype]:
    """Those that are worth measuring here; prints which is not."""
    if not has_bfloat16(torch.device(device)):
        print("bfloat16 is left out: there are no instructions for it")
        return {"float32": torch.float32}
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}


def now() -> float:
    """Seconds; see above."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def matmul(dtype: torch.dtype, device: str = "cpu") -> Callable[[], object]:
    """A job of some square products, of `matmul_flop`."""
    a, b = torch.randn(2, SIZES[device], SIZES[device], device=device).to(dtype)
    return lambda: [torch.mm(a, b) for _ in range(PRODUCTS)]


def matmul_flop(device: str = "cpu") -> int:
    """Of these products."""
    return PRODUCTS * 2 * SIZES[device] ** 3


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
