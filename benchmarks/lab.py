"""Latency of the lab: from a slider's new value to the message with new doodles to the page.

    python benchmarks/lab.py [--word cat] [--n 9] [--rounds 20]

The kernel's part, with the shipped model: sampling, and making the strokes for the player. The way
to the page and the page's own part come on top; see reports/LOG.md for these.
"""

import argparse
import os
import statistics
import time

import orjson

from doodlelib.lab.controls import Controls
from doodlelib.lab.explorers import temperature_explorer
from doodlelib.lab.player import Player
from doodlelib.models.checkpoint import load_vae


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--word", default="cat")
    parser.add_argument("--n", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    stage = temperature_explorer(load_vae(), n=arguments.n, word=arguments.word)
    controls = next(child for child in stage.children if isinstance(child, Controls))
    player = next(child for child in stage.children if isinstance(child, Player))
    waits, sizes = [], []
    for seed in range(1, arguments.rounds + 1):
        start = time.perf_counter()
        controls.set(seed=seed)
        sizes.append(len(orjson.dumps(player.strokes)))
        waits.append(1000 * (time.perf_counter() - start))
    print(
        f"{arguments.n} doodles of {arguments.word} on {os.cpu_count()} cores: "
        f"{statistics.median(waits):.0f} ms (median of {len(waits)}), {max(waits):.0f} ms at most; "
        f"{statistics.median(sizes) / 1000:.0f} kB to the page"
    )


if __name__ == "__main__":
    main()
