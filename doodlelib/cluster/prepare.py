"""Drawings prepared by the tasks of a Ray cluster; the store is the same to the byte."""

import logging
import os
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from doodlelib.data import dataset
from doodlelib.data.dataset import Batches, batches_of, make_tasks
from doodlelib.data.ragged import RaggedDrawings

RETRIES = 3  # of a task or a training whose worker was lost, or whose server broke off
STARTS = 6  # attempts, of which each fails after half a minute on a busy machine
STARTED = 2  # tasks a core that are under way or wait to be written: of all drawings, 150 MB each
ENVIRONMENT = {  # of Ray, unless there are other values
    "RAY_USAGE_STATS_ENABLED": "0",  # it would report home
    # On a busy machine a start and an answer take longer than Ray waits, and its usual niceness of
    # 15 leaves workers a thirtieth of what other processes have.
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_worker_niceness": "0",
}


def prepare(out: str | Path, *, address: str | None = None, **options: Any) -> Path:
    """`dataset.prepare`, with its arguments, by the cluster at `address` (see `connected`).

    This process writes the store. A folder of drawings must be seen by all nodes. RuntimeError:
    workers were lost too often.
    """
    with connected(address) as ray:
        return dataset.prepare(out, **options, make_batches=partial(_batches, ray))


@contextmanager
def connected(address: str | None) -> Generator[Any]:
    """The `ray` module, connected to a cluster; ConnectionError if there is none.

    `address` is its ``HOST:PORT``; None: that in the environment as ``RAY_ADDRESS``, else a new one
    on this machine, which ends with the block.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        advice = f"Ray is not installed: pip install -e '.[cluster]' ({error})"
        raise ModuleNotFoundError(advice, name="ray") from None
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS", "local")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    for tries_left in reversed(range(STARTS)):
        try:
            ray.init(address, include_dashboard=False, **quiet)
            break
        except Exception as error:  # Ray has no narrower one for a node that is not up in 30 s
            if "timed out during startup" not in str(error):
                raise
            if not tries_left:
                raise ConnectionError(f"Ray did not start {STARTS} times: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _batches(
    ray: Any,
    settings: dict[str, Any],
    sources: Sequence[str | Path],
    *,
    cache: str | Path | None = None,
    **unused: Any,
) -> Batches:
    """What `dataset.make_batches_here` gives, made by tasks of the cluster.

    Results wait in Ray's object store; those of a node that dies are made again.
    """
    options = {"max_retries": RETRIES, "retry_exceptions": [ConnectionError]}
    run = ray.remote(**options)(_run_task)
    started = (
        (word, source, run.remote(settings, where, cache))
        for word, source, where in make_tasks(settings, sources)
    )
    cores = int(ray.cluster_resources().get("CPU", 1))
    waiting = deque(islice(started, STARTED * cores))
    while waiting:
        word, source, future = waiting.popleft()
        try:
            batches = ray.get(future)
        except ray.exceptions.RayError as error:
            for _, _, other in waiting:
                ray.cancel(other, force=True)
            raise getattr(error, "cause", None) or RuntimeError(f"no store: {error}") from None
        del future  # so that its result need not be kept
        waiting.extend(islice(started, 1))
        for batch in batches:
            yield word, source, batch


def _run_task(
    settings: dict[str, Any], where: dict[str, Any], cache: str | Path | None
) -> list[RaggedDrawings]:
    """The batches of one word and source."""
    return list(batches_of(**where, settings=settings, cache=cache, progress=False))
