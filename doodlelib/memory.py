"""Memory that a training step frees stays with the process, for the next step."""

import ctypes
from collections.abc import Generator
from contextlib import contextmanager

# of glibc's malloc.h, with what they are once a process has freed a large array
_SETTINGS = {-1: 64 * 2**20, -4: 65536}  # M_TRIM_THRESHOLD, M_MMAP_MAX
_KEEPING = {-1: -1, -4: 0}  # nothing is handed back, no array lies apart


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
        for name, value in _SETTINGS.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)
