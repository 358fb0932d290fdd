"""Preparing on a Ray cluster: drawings a second with 1, 2, … workers, beside `dataset.prepare`.

    DOODLELIB_QUICKDRAW_URL=file:///path/to/mirror python benchmarks/cluster.py [--workers 1 2]
        [--copies 8] [--repeats 3]

All raw drawings of the mirror, so many times over, are laid out as ten words' files, and cut into
spans as the files of the full data set would be. Plain means one process on one core. It is
measured in turn with the cluster, since the load of a machine changes; medians, and the ratio of
the two. Ends with what the rates mean for the full data set.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from urllib.request import url2pathname

from doodlelib import cluster, quickdraw, shards
from doodlelib.dataset import prepare
from doodlelib.nodes import connected

WORDS = quickdraw.words()[:10]
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
        shards.SPAN = size // 40
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
            times = seconds(folder, one_core(prepare)), seconds(folder, cluster.prepare)
            if repeat:
                plain.append(times[0])
                spread.append(times[1])
    ray.shutdown()
    plain_rate, rate = (count / statistics.median(times) for times in (plain, spread))
    print(
        f"{workers} worker(s): {rate:9,.0f} drawings/s, plain {plain_rate:9,.0f}, "
        f"{rate / plain_rate:.2f} of it; {FULL / rate / 3600:.2f} h for {FULL / 1e6:.0f} million "
        f"(median of {repeats}, load {os.getloadavg()[0]:.1f})",
        flush=True,
    )


def one_core(function: Callable[..., Path]) -> Callable[..., Path]:
    """`function`, with this process kept to one core meanwhile."""

    def kept(*arguments: object, **options: object) -> Path:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        try:
            return function(*arguments, **options)
        finally:
            os.sched_setaffinity(0, cores)

    return kept


def seconds(folder: Path, function: Callable[..., Path]) -> float:
    """How long it takes to make the store anew."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    begin = time.perf_counter()
    function(
        folder / "store",
        words=WORDS,
        source="raw",
        samples_per_class=None,
        base_url=folder.as_uri(),
        progress=False,
    )
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
