"""Functions compiled by Numba at their first call and kept on disk between runs.

Importing this module does not import Numba, which takes half a second.
"""

import hashlib
import inspect
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

SWITCH = "DOODLELIB_FAST"  # the environment variable; 0: `fast/` is not used
_one_at_a_time = threading.RLock()  # changes Numba's settings for a moment


def is_fast() -> bool:
    """Whether compiled and parallel code stands in for plain PyTorch; DOODLELIB_FAST=0: no."""
    return os.environ.get(SWITCH) != "0"


def kernel(function: Callable, *, fastmath: Sequence[str] = ()) -> "Kernel":
    """`function`, compiled; `fastmath` are the liberties that `numba.njit` may take with sums."""
    return Kernel(inspect.unwrap(function), fastmath)  # runtime type checks, where on, wrap it


class Kernel:
    """A compiled function; of the kernels that it calls it has copies compiled in.

    Calls from one compiled function to another would let the linker choose between two versions of
    the callee, one optimised alone and one together with its caller, which round differently: the
    choice depends on what else the process has compiled.

    On disk it is found by a digest of its source, its constants and its callees' sources, so that
    no change to any of them leaves an old version in use. One process compiles it at a time, since
    two that write to Numba's cache at once can mix up their files.
    """

    def __init__(self, function: FunctionType, fastmath: Sequence[str]) -> None:
        self.function, self.fastmath = function, set(fastmath)
        self.known: set[tuple] = set()  # kinds of arguments that it is compiled for

    def __call__(self, *args: Any) -> Any:
        """The result of the function for `args`, which are numbers, arrays and tuples of them."""
        kinds = tuple(map(_kind, args))
        if kinds not in self.known:
            from filelock import FileLock

            with FileLock(self._folder / "lock") if self._folder else nullcontext():
                self._compiled.compile(tuple(map(_numba().typeof, args)))
            self.known.add(kinds)
        return self._compiled(*args)

    @cached_property
    def _references(self) -> dict[str, Any]:
        """What the function uses of its module, by name: kernels and constants."""
        used = inspect.getclosurevars(self.function).globals
        return {name: used[name] for name in sorted(used) if not isinstance(used[name], ModuleType)}

    @cached_property
    def _linked(self) -> FunctionType:
        """The function with inlined versions of its callees in their places."""
        inlined = {
            name: _numba().njit(inline="always")(value._linked)
            for name, value in self._references.items()
            if isinstance(value, Kernel)
        }
        code, names = self.function.__code__, self.function.__globals__ | inlined
        return FunctionType(code, names, self.function.__name__, self.function.__defaults__)

    @cached_property
    def _compiled(self) -> Any:
        options = {"nogil": True, "error_model": "numpy", "fastmath": self.fastmath}
        with _one_at_a_time:
            before = _numba().config.CACHE_DIR
            _numba().config.CACHE_DIR = str(self._folder or before)
            try:
                return _numba().njit(cache=bool(self._folder), **options)(self._linked)
            finally:
                _numba().config.CACHE_DIR = before

    @cached_property
    def _folder(self) -> Path | None:
        """Where its versions for different arguments lie; None: nowhere can be written."""
        from filelock import FileLock

        try:
            text = "\n".join([_numba().__version__, *sorted(self.fastmath), *self._sources()])
        except OSError:  # made by `exec`, so that there is no source
            return None
        name = f"{self.function.__name__}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        places = [Path(__file__).parent / "__pycache__", Path(home, "doodlelib").expanduser()]
        for place in [Path(_numba().config.CACHE_DIR)] if _numba().config.CACHE_DIR else places:
            try:
                (place / name).mkdir(parents=True, exist_ok=True)
                with FileLock(place / name / "lock"):
                    return place / name
            except (OSError, NotImplementedError):  # not writable, or a disk without locks
                continue
        return None

    def _sources(self) -> Iterator[str]:
        """Texts that change when what is compiled does."""
        yield inspect.getsource(self.function)
        for name, value in self._references.items():
            if isinstance(value, Kernel):
                yield from value._sources()
            else:
                yield f"{name} = {pickle.dumps(value)!r}"


def _numba() -> Any:
    import numba

    return numba


def _kind(value: Any) -> Any:
    """What decides which version of a kernel is needed for an argument."""
    if isinstance(value, tuple):
        return type(value), *map(_kind, value)
    if hasattr(value, "flags"):
        flags = value.flags
        return value.dtype, value.ndim, flags.c_contiguous, flags.f_contiguous, flags.writeable
    return type(value)
