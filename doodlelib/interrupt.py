"""Ctrl-C and a cluster's SIGTERM, put off until the work can be left."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_stop(act: Callable[[], object]) -> Generator[None]:
    """Within, the first SIGINT and the first SIGTERM call `act`; again, they act as they used to.

    Does nothing outside of the main thread, where Python takes no handlers, and nothing about a
    signal that this process ignores.
    """
    former = {int(number): signal.getsignal(number) for number in STOPS}

    def once(number: int, frame: FrameType | None) -> None:
        signal.signal(number, former[number])
        act()

    is_main = threading.current_thread() is threading.main_thread()
    held = [n for n in former if is_main and former[n] not in (signal.SIG_IGN, None)]
    for number in held:
        signal.signal(number, once)
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, former[number])
