"""Growth of time and memory with drawings, their length, batch size and hidden size.

    OMP_WAIT_POLICY=passive python benchmarks/growth.py STORE [--most 1000000] [--plot PNG]

Every point is a process of its own: processor seconds of the work alone, and the largest resident
size. Preparing and an epoch's batches are measured at 1,000 drawings and ten times as many up to
`--most`, all made by repeating the store's; the rest are training steps of one layer with layer
norm. The exponent printed is the slope between the last two points on logarithmic axes: 1 is
linear.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from machine import describe, now
from memory import forget_peak, mapped, peak_mb, repeat
from train_step import epoch_of, gradients_of, make_vae, step

from doodlelib.data.dataset import Split, load_split, prepare
from doodlelib.models.batch import collate
from doodlelib.strokes import Record
from doodlelib.viz.export import to_ndjson

AXES = {  # the others stay at the second value of each
    "length": (25, 50, 100, 200),
    "batch": (50, 100, 200, 400),
    "hidden": (128, 256, 512, 1024),
}
WORD = "cat"
BLOCK = 5000  # drawings that are repeated
LAST = 200  # batches of an epoch that are read at most; the epoch's time follows from theirs
STEPS = 3


def prepare_point(split: Split, count: int, folder: Path) -> float:
    """Seconds of preparing `count` timed drawings, laid out as the published ones."""
    few = np.flatnonzero(split.timed)[:BLOCK]
    source = folder / "full" / "raw" / f"{WORD}.ndjson"
    source.parent.mkdir(parents=True)
    to_ndjson([Record(WORD, split.key_id(i), True, split.drawing(i)) for i in few], source)
    lines = source.read_bytes().splitlines(keepends=True)
    with source.open("wb") as file:
        file.writelines(islice(cycle(lines), count))
    forget_peak()
    begin = now()
    prepare(
        folder / "store",
        words=WORD,
        source="raw",
        samples_per_class=None,
        base_url=folder.as_uri(),
        progress=False,
    )
    return now() - begin


def epoch_point(split: Split, count: int, folder: Path) -> float:
    """Seconds of reading `count` drawings in batches."""
    repeat(split, count, folder)
    large = mapped(split, folder)
    forget_peak()
    begin = now()
    batches = epoch_of(large)
    order = now() - begin
    begin, read = now(), min(LAST, len(batches))
    for index in range(read):
        batches[index]
    return order + (now() - begin) * len(batches) / read


def step_point(split: Split, *, length: int, batch: int, hidden: int) -> float:
    """Median seconds of a training step."""
    sizes = {"layers": 1, "encoder": hidden // 2, "decoder": hidden, "latent": 64}
    vae = make_vae(split, layer_norm=True, **sizes)
    gradients, rng = gradients_of(vae, half=False), np.random.default_rng(0)
    rows = np.ones((batch * length, 4))
    rows[:, :2] = rng.normal(0, 20, (len(rows), 2))
    rows[:, 2] = rng.lognormal(4.5, 0.8, len(rows))
    words = np.zeros(batch, dtype=int)
    drawings = collate(rows, np.full(batch, length), words=words, scale=split.scale)
    seconds = []
    for _ in range(STEPS + 1):
        begin = now()
        step(vae, gradients, drawings)
        seconds.append(now() - begin)
    return float(np.median(seconds[1:]))


def point(split: Split, axis: str, size: int) -> dict[str, float]:
    """Seconds and MB of one point, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        if axis == "prepare":
            seconds = prepare_point(split, size, Path(folder))
        elif axis == "epoch":
            seconds = epoch_point(split, size, Path(folder))
        else:
            sizes = {name: values[1] for name, values in AXES.items()} | {axis: size}
            seconds = step_point(split, **sizes)
    return {"size": size, "seconds": seconds, "mb": peak_mb()}


def plot(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Seconds above, MB below, an axis each; a dotted line is proportional growth."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, len(curves), figsize=(3 * len(curves), 5), sharex="col", layout="constrained"
    )
    for column, (name, points) in enumerate(curves.items()):
        size, seconds, mb = (np.array([one[key] for one in points]) for key in points[0])
        above, below = axes[:, column]
        above.loglog(size, seconds, "o-")
        above.loglog(size, seconds[-1] * size / size[-1], "k:", linewidth=1)
        below.semilogx(size, mb, "o-")
        below.set_ylim(0, None)
        below.set_xticks(size, [f"{one:g}" for one in size], minor=False)
        below.minorticks_off()
        above.set_title(name)
        below.set_xlabel("drawings" if name in ("prepare", "epoch") else name)
    axes[0, 0].set_ylabel("processor seconds")
    axes[1, 0].set_ylabel("largest resident size, MB")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print a line for each point and draw them, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--point", nargs=2, metavar=("AXIS", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.point:
        axis, size = options.point
        print(json.dumps(point(load_split(options.store, "train"), axis, int(size))))
        return
    print(describe())
    counts = [1000 * 10**k for k in range(round(math.log10(options.most)) - 2)]
    curves = {}
    for axis, sizes in {"prepare": counts, "epoch": counts, **AXES}.items():
        curves[axis] = []
        for size in sizes:
            command = [sys.executable, __file__, str(options.store), "--point", axis, str(size)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            one = json.loads(done.stdout.splitlines()[-1])
            curves[axis].append(one)
            print(f"{axis:8} {size:9,} {one['seconds']:9.3f} s {one['mb']:6.0f} MB", flush=True)
        before, last = curves[axis][-2:]
        steps = math.log(last["size"] / before["size"])
        print(f"{axis:8} exponent {math.log(last['seconds'] / before['seconds']) / steps:.2f}")
    if options.plot:
        plot(curves, options.plot)


if __name__ == "__main__":
    main()
