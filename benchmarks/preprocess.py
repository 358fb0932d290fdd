"""Raw ndjson to a store, against the parser alone and against the `rdp` package.

    DOODLELIB_QUICKDRAW_URL=file:///path/to/mirror python benchmarks/preprocess.py

All raw drawings of the mirror are laid out as ten words' files. Every figure is the median of
`REPEATS` in turn; one core means that the process may use only one. `--large N` prepares N
drawings instead, made by repeating the mirror's, and prints the memory that took.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from urllib.request import url2pathname

import numpy as np
import orjson

from doodlelib import strokes
from doodlelib.data import ndjson, quickdraw
from doodlelib.data.dataset import BATCH, load_split, prepare
from doodlelib.simplify import METHODS

REPEATS = 7
WORDS = quickdraw.words()[:10]
PACKAGE_SAMPLE = 200  # drawings


def main() -> None:
    """Print the table, or the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=0, metavar="N")
    large = parser.parse_args().large
    mirror = Path(url2pathname(os.environ[quickdraw.BASE_URL_VARIABLE].removeprefix("file://")))
    lines = [
        line
        for path in sorted((mirror / "full" / "raw").glob("*.ndjson"))
        for line in path.read_bytes().splitlines(keepends=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "full" / "raw").mkdir(parents=True)
        for number, word in enumerate(WORDS):
            path = Path(folder) / "full" / "raw" / f"{word}.ndjson"
            with path.open("wb") as file:
                file.writelines(islice(cycle(lines), number, large or len(lines), len(WORDS)))
        if large:
            report_memory(Path(folder))
        else:
            report_speed(Path(folder), lines)


def store(folder: Path, method: str = "timed") -> Path:
    """Prepare a store of all drawings in `folder` anew."""
    out = folder / "store"
    shutil.rmtree(out, ignore_errors=True)
    return prepare(
        out,
        words=WORDS,
        source="raw",
        samples_per_class=None,
        method=method,
        base_url=folder.as_uri(),
        progress=False,
    )


def report_speed(folder: Path, lines: list[bytes]) -> None:
    """Print time, drawings a second and the ratio to the parser, on one core and on two."""
    jobs: dict[str, Callable[[], object]] = {
        "orjson alone": lambda: [orjson.loads(line) and None for line in lines],
        "parsed and filtered": lambda: parse(lines),
        **{f"stored, {method}": lambda method=method: store(folder, method) for method in METHODS},
    }
    for job in jobs.values():
        job()  # compiles, and warms the files' cache
    size = sum(map(len, lines)) / 1e6
    print(f"{len(lines)} drawings, {size:.0f} MB; median of {REPEATS}")
    cores = sorted(os.sched_getaffinity(0))
    for count in (1, 2)[: len(cores)]:
        os.sched_setaffinity(0, cores[:count])
        seconds = {name: [] for name in jobs}  # by the clock, and of the processors
        for _ in range(REPEATS):
            for name, job in jobs.items():
                begin = time.perf_counter(), time.process_time()
                job()
                end = time.perf_counter(), time.process_time()
                seconds[name].append(np.subtract(end, begin))
        floor = np.median(seconds["orjson alone"], axis=0)
        for name, times in seconds.items():
            median = np.median(times, axis=0)
            wall, cpu = median / floor
            print(
                f"{count} core(s)  {name:22} {median[0]:6.3f} s {len(lines) / median[0]:9,.0f} "
                f"drawings/s {wall:6.2f} x orjson ({cpu:.2f} x by the processors' time)"
            )
    os.sched_setaffinity(0, cores)
    few = lines[:: len(lines) // PACKAGE_SAMPLE]
    begin = time.perf_counter()
    for line in few:
        with_package(line)
    rate = len(few) / (time.perf_counter() - begin)
    print(f"1 core(s)  rdp package, per stroke  {rate:27,.0f} drawings/s")


def parse(lines: list[bytes]) -> int:
    """Drawings that pass the filters."""
    batches = (lines[start : start + BATCH] for start in range(0, len(lines), BATCH))
    return sum(len(ndjson.parse_lines(batch)) for batch in batches)


def with_package(line: bytes) -> np.ndarray:
    """One drawing the straightforward way: orjson, the box, `rdp.rdp` on each stroke, stroke-4."""
    import rdp

    drawing = strokes.to_box(orjson.loads(line)["drawing"])
    kept = []
    for x, y, t in drawing:
        points = np.stack([x, y, np.zeros_like(x)], axis=1)
        mask = rdp.rdp(points, epsilon=2.0, return_mask=True)
        kept.append([x[mask], y[mask], np.maximum.accumulate(t[mask])])
    return np.concatenate([np.stack(stroke, axis=1) for stroke in kept])


def report_memory(folder: Path) -> None:
    """Print the largest resident size before and after preparing, and what opening takes."""
    size = sum(path.stat().st_size for path in folder.rglob("*.ndjson")) / 1e6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin = time.perf_counter()
    out = store(folder)
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin, resident = time.perf_counter(), resident_mb()
    split = load_split(out, "train")
    opening = time.perf_counter() - begin
    print(
        f"{size:.0f} MB of ndjson in {seconds:.1f} s; largest resident size {after:.0f} MB "
        f"({before:.0f} MB before); {len(split)} drawings of train open in {opening * 1e3:.1f} ms "
        f"and {resident_mb() - resident:.1f} MB"
    )


def resident_mb() -> float:
    """Resident memory now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
