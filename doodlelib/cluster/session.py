"""The way into a Ray cluster, and what to do where there is no Ray."""

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

RETRIES = 3  # of a task whose worker was lost, or whose server broke off
INSTALL = "Ray is not installed: pip install -e '.[cluster]'"


@contextmanager
def connected(address: str | None) -> Generator[Any]:
    """The `ray` module, connected to a cluster.

    Args:
        address: Its address; None: that in the environment as ``RAY_ADDRESS``, else a new one on
            this machine, which ends with the block.

    Raises:
        ModuleNotFoundError: Ray is not installed; says how to install it.
        ConnectionError: There is no cluster at `address`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report home
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{INSTALL} ({error})", name="ray") from None
    begun = not ray.is_initialized()
    if begun:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        address = address or os.environ.get("RAY_ADDRESS", "local")
        ray.init(address, include_dashboard=False, **quiet)
    try:
        yield ray
    finally:
        if begun:
            ray.shutdown()
