"""Drawings rasterised a second of one core: ``python benchmarks/raster.py [drawings]``."""

import statistics
import sys
import time

from doodlelib import raster, simplify
from doodlelib.data import sample

REPEATS = 7


def main(n: int) -> None:
    """Print the median of several runs for both sizes the classifier has, and for time channels."""
    words = sample.WORDS
    raw = [r.drawing for word in words for r in sample.make_drawings(word, n // len(words))]
    stored = [simplify.simplify(drawing) for drawing in raw]
    works = {
        "stored, 28 x 28": lambda: raster.rasterize_many(stored, 28),
        "raw, 28 x 28": lambda: raster.rasterize_many(raw, 28),
        "stored, 255 x 255": lambda: raster.rasterize_many(stored, 255),
    }
    for name, drawings in {"raw": raw, "stored": stored}.items():
        points = statistics.median(sum(len(stroke[0]) for stroke in d) for d in drawings)
        print(f"{len(drawings)} {name} drawings, median {points:.0f} points")
    for name, work in works.items():
        work()  # compiles
        seconds = []
        for _ in range(REPEATS):
            began = time.process_time()
            work()
            seconds.append(time.process_time() - began)
        rate = len(raw) / statistics.median(seconds)
        print(f"{name:>18}: {rate:9,.0f} drawings/s a core, median of {REPEATS} runs")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
