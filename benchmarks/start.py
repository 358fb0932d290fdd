"""How long it takes to start: ``python benchmarks/start.py [--repeats 9]``.

Python itself is the floor. Whoever draws with a model waits for PyTorch, which is shown beside.
"""

import argparse
import statistics
import subprocess
import sys
import time

STARTS = {
    "python": ["-c", "pass"],
    "import doodlelib": ["-c", "import doodlelib"],
    "python -m doodlelib --help": ["-m", "doodlelib", "--help"],
    "import torch": ["-c", "import torch"],
    "import doodlelib.models.checkpoint": ["-c", "import doodlelib.models.checkpoint"],
}


def main() -> None:
    """Print the median of several starts of each, in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    seconds = {name: [] for name in STARTS}
    for _ in range(repeats):
        for name, arguments in STARTS.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - begin)
    for name, times in seconds.items():
        print(f"{name:28} {statistics.median(times):6.3f} s, median of {repeats}")


if __name__ == "__main__":
    main()
