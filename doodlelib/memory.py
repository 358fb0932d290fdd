"""Memory that a training step frees stays with the process, for the next step."""

import ctypes
from collections.abc import Generator
from contextlib import contextmanager

# M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_MMAP_MAX of glibc's malloc.h
_KEEPING = {-1: -1, -4: 0}  # nothing is handed back, no array lies apart
_USUAL = {-1: 64 * 2**20, -3: 32 * 2**20, -4: 65536}  # as once a large array was freed


@contextmanager
def memory_kept() -> Generator[None]:
    """Keep what is freed until the end; on Linux, where else each step asks for it again.

    The system hands memory out page by page, and zeroes it, which is a twentieth of a step's time
    (`benchmarks/train_step.py`). Elsewhere this does nothing.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # not glibc
        yield
        return
    for name, value in _KEEPING.items():
        libc.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _USUAL.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)
