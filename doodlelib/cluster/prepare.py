"""Drawings prepared by the tasks of a Ray cluster; the store is the same to the byte."""

import logging
import os
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from doodlelib.data import dataset
from doodlelib.data.dataset import PreparedBatch, batches_of, find_folder, prepare_batch

RETRIES = 3  # of a task whose worker was lost, or whose server broke off
INSTALL = "Ray is not installed: pip install -e '.[cluster]'"
STARTED = 2  # tasks a core that are under way or wait to be written: of all drawings, 100 MB each


def prepare(out: str | Path, *, address: str | None = None, **options: Any) -> Path:
    """`dataset.prepare`, with the work done by a Ray cluster; the store is the same to the byte.

    Args:
        out: The store's folder, written by this process.
        address: Of the cluster; see `connected`.
        **options: Those of `dataset.prepare`. A folder of drawings must be seen by all nodes.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: As `dataset.prepare`.
        RuntimeError: Workers were lost too often.
    """
    with connected(address) as ray:
        return dataset.prepare(out, **options, make_batches=partial(_batches, ray))


@contextmanager
def connected(address: str | None) -> Generator[Any]:
    """The `ray` module, connected to a cluster.

    Args:
        address: ``HOST:PORT`` of the cluster; None: that in the environment as ``RAY_ADDRESS``,
            else a new one on this machine, which ends with the block.

    Raises:
        ModuleNotFoundError: Ray is not installed; says how to install it.
        ConnectionError: There is no cluster at `address`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report home
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{INSTALL} ({error})", name="ray") from None
    is_new = not ray.is_initialized()
    if is_new:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        address = address or os.environ.get("RAY_ADDRESS", "local")
        ray.init(address, include_dashboard=False, **quiet)
    try:
        yield ray
    finally:
        if is_new:
            ray.shutdown()


def make_tasks(
    settings: dict[str, Any], sources: Sequence[str | Path]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Word, source and arguments of `batches_of` for each task of a store, in its order."""
    for word in settings["words"]:
        for source, described in zip(sources, settings["sources"], strict=True):
            place = find_folder(source).resolve() if described["kind"] == "folder" else source
            where = {"word": word, "source": place, "base_url": described.get("base_url")}
            yield word, str(source), where


def run_task(
    settings: dict[str, Any], where: dict[str, Any], *, cache: str | Path | None
) -> tuple[list[PreparedBatch], Counter[str]]:
    """The batches of one word and source, and how many drawings were dropped before them."""
    dropped = Counter[str]()
    options: dict[str, Any] = {"settings": settings, "dropped": dropped, "cache": cache}
    return list(batches_of(**where, work=prepare_batch, progress=False, **options)), dropped


def _batches(
    ray: Any,
    settings: dict[str, Any],
    sources: Sequence[str | Path],
    *,
    dropped: dict[str, Counter[str]],
    cache: str | Path | None = None,
    **unused: Any,
) -> Iterator[tuple[str, str, PreparedBatch]]:
    """What `dataset.prepared_batches` gives, made by tasks of the cluster.

    Results wait in Ray's object store; those of a node that dies are made again.
    """
    options = {"max_retries": RETRIES, "retry_exceptions": [ConnectionError]}
    run = ray.remote(**options)(run_task)
    started = (
        (word, source, run.remote(settings, where, cache=cache))
        for word, source, where in make_tasks(settings, sources)
    )
    cores = int(ray.cluster_resources().get("CPU", 1))
    waiting = deque(islice(started, STARTED * cores))
    while waiting:
        word, source, future = waiting.popleft()
        try:
            batches, left_out = ray.get(future)
        except ray.exceptions.RayError as error:
            for _, _, other in waiting:
                ray.cancel(other, force=True)
            raise getattr(error, "cause", None) or RuntimeError(f"no store: {error}") from None
        del future  # so that its result need not be kept
        waiting.extend(islice(started, 1))
        dropped[word].update(left_out)
        for batch in batches:
            yield word, source, batch
