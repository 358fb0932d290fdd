"""Numba's `njit` with a cache on disk.

Importing Numba takes half a second, so this module is imported inside the functions that need it.
"""

from collections.abc import Callable
from inspect import unwrap
from typing import Any

import numba


def kernel(function: Callable, **options: Any) -> Callable:
    """`function` compiled; kept on disk where there is a folder to keep it in."""
    function = unwrap(function)  # runtime type checks, where they are on, wrap it
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(nogil=True, error_model="numpy", **options)(function)
