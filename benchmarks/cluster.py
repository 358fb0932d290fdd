"""Preparing on a Ray cluster: drawings a second with 1, 2, … workers, beside `dataset.prepare`.

    DOODLELIB_QUICKDRAW_URL=file:///path/to/mirror python benchmarks/cluster.py [--workers 1 2]
        [--copies 8] [--repeats 3]

All raw drawings of the mirror, so many times over, are laid out as forty words' files,
each a task. Plain means one process with its threads. The two
are measured in turn, since the load of a machine changes, by the clock and by the processors' time;
medians. Ends with what the rates mean for the full data set.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from urllib.request import url2pathname

import psutil

from doodlelib import cluster
from doodlelib.cluster import connected
from doodlelib.data import quickdraw
from doodlelib.data.dataset import prepare

WORDS = quickdraw.words()[:40]
FULL = 50e6  # drawings of the full data set


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    mirror = Path(url2pathname(os.environ[quickdraw.BASE_URL_VARIABLE].removeprefix("file://")))
    lines = [
        line
        for path in sorted((mirror / "full" / "raw").glob("*.ndjson"))
        for line in path.read_bytes().splitlines(keepends=True)
    ]
    count = options.copies * len(lines)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "full" / "raw").mkdir(parents=True)
        for number, word in enumerate(WORDS):
            with (folder / "full" / "raw" / f"{word}.ndjson").open("wb") as file:
                file.writelines(islice(cycle(lines), number, count, len(WORDS)))
        size = sum(path.stat().st_size for path in folder.rglob("*.ndjson"))
        print(f"{count} drawings, {size / 1e6:.0f} MB, {os.cpu_count()} cores", flush=True)
        for workers in options.workers:
            report(folder, workers, count=count, repeats=options.repeats)
        stored = sum(path.stat().st_size for path in (folder / "store").iterdir())
        print(
            f"a drawing: {size / count:.0f} bytes of ndjson, {stored / count:.0f} in the store; "
            f"{FULL / 1e6:.0f} million: {FULL * size / count / 1e9:.0f} GB read, "
            f"{FULL * stored / count / 1e9:.0f} GB kept, twice that under way"
        )


def report(folder: Path, workers: int, *, count: int, repeats: int) -> None:
    """Print one row: so many workers against plain, in turn."""
    import ray

    ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    plain, spread = [], []
    with connected(None):  # which is the one just made
        for repeat in range(repeats + 1):  # the first to warm up
            measured = taken(folder, prepare), taken(folder, cluster.prepare)
            if repeat:
                plain.append(measured[0])
                spread.append(measured[1])
    ray.shutdown()
    plain_wall, plain_cpu = map(statistics.median, zip(*plain, strict=True))
    wall, cpu = map(statistics.median, zip(*spread, strict=True))
    print(
        f"{workers} worker(s): {count / wall:9,.0f} drawings/s, plain {count / plain_wall:9,.0f}; "
        f"per processor second {count / cpu:9,.0f}, plain {count / plain_cpu:9,.0f}; "
        f"{FULL / 1e6:.0f} million: {FULL * cpu / count / 3600:.2f} core hours "
        f"(median of {repeats}, load {os.getloadavg()[0]:.1f})",
        flush=True,
    )


def taken(folder: Path, function: Callable[..., Path]) -> tuple[float, float]:
    """Seconds to make the store anew, and those of processors, here and in all workers."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    begin, before = time.perf_counter(), processor_seconds()
    function(
        folder / "store",
        words=WORDS,
        source="raw",
        samples_per_class=None,
        base_url=folder.as_uri(),
        progress=False,
    )
    seconds, after = time.perf_counter() - begin, processor_seconds()
    return seconds, sum(after[key] - before.get(key, 0.0) for key in after)


def processor_seconds() -> dict[int, float]:
    """Of this process and of those below it that live, by id."""
    found = {}
    for process in (own := psutil.Process(), *own.children(recursive=True)):
        with suppress(psutil.Error):
            found[process.pid] = sum(process.cpu_times()[:2])
    return found


if __name__ == "__main__":
    main()
