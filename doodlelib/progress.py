"""Progress of long work: a bar where somebody watches, elsewhere a line now and then."""

import os
import sys
from typing import Any

from tqdm import tqdm

DELAY = 2.0  # s: what takes less needs no bar
INTERVAL = 30.0  # s from line to line


class Bar(tqdm):
    """A progress bar that starts no thread, which would hinder processes from forking."""

    monitor_interval = 0


class _Lines:
    """Standard error, to which a bar writes its states as lines."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None: ...


def progress_bar(**options: Any) -> Bar:
    """A bar with the time left, for work of over two seconds; `options` are tqdm's.

    Where nobody watches it writes a line each half minute instead.
    """
    if is_watched():
        return Bar(delay=DELAY, **options)
    every = {"delay": INTERVAL, "mininterval": INTERVAL, "miniters": 1}
    return Bar(file=_Lines(), ncols=0, **every, **options)


def is_watched() -> bool:
    """Whether output goes to a terminal, or to a notebook that a person has open."""
    # papermill's kernel is not started by a Jupyter server, which sets the variable
    in_jupyter = "ipykernel" in sys.modules and "JPY_SESSION_NAME" in os.environ
    return in_jupyter or sys.stderr.isatty()
