"""Peak memory of a training step at the original's size, and of epochs on small and large stores.

    OMP_WAIT_POLICY=passive python benchmarks/memory.py STORE [--drawings 10000 1000000]

Each figure is the largest resident size of a process of its own. The large stores are the given one
repeated, mapped from files as any store is; there a small model is trained on some of the batches,
since a model's share does not depend on the store.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import describe, precisions
from train_step import epoch_of, gradients_of, make_vae, step

from doodlelib.config import VAEConfig, read_config
from doodlelib.data.dataset import Split, load_split
from doodlelib.training.batches import StrokeBatches

SIZES = {"layers": 2, "encoder": 256, "decoder": 512, "latent": 128}
SMALL = {"layers": 1, "encoder": 32, "decoder": 32, "latent": 8}
STEPS = 3
MANY = 40  # batches as they come, each of another number of points
BATCHES = 500  # of an epoch on a large store that are made
TRAINED = 50  # of them that are trained on, of any store as many: each may need the most memory


def peak_mb() -> float:
    """Largest resident size of this process so far (Linux)."""
    status = Path("/proc/self/status").read_text()  # `getrusage` would count the parent's, too
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def forget_peak() -> None:
    """Reset `peak_mb` (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def training_step(split: Split, precision: str, place: str) -> None:
    """Steps with layer norm: on a few batches in the middle by length, the longest, or on many."""
    vae = make_vae(split, layer_norm=True, **SIZES)
    gradients = gradients_of(vae, half=precision == "bfloat16")
    config = read_config(VAEConfig, batch_size=100, max_seq_len=200)
    epoch = StrokeBatches(split, config)
    order = sorted(range(len(epoch)), key=lambda index: split.lengths[epoch.batches[index]].max())
    chosen = {
        "median": order[len(order) // 2 :][:STEPS],
        "longest": order[-STEPS:],
        "many": range(min(MANY, len(epoch))),
    }
    for index in chosen[place]:
        step(vae, gradients, epoch[index])


def repeat(split: Split, count: int, folder: Path) -> None:
    """Write arrays of `count` drawings into `folder`: those of `split` again and again."""
    times, rest = divmod(count, len(split))
    points = times * len(split.points) + int(split.offsets[rest])
    shapes = {"points": (points, 4), "offsets": (count + 1,), "words": (count,), "timed": (count,)}
    for name, shape in shapes.items():
        source = getattr(split, name)
        path = folder / f"{name}.npy"
        new = np.lib.format.open_memmap(path, mode="w+", dtype=source.dtype, shape=shape)
        size = len(source) - (name == "offsets")
        for turn, start in enumerate(range(0, len(new), size)):
            part = np.asarray(source[: len(new) - start])
            new[start : start + len(part)] = (
                part + turn * len(split.points) if name == "offsets" else part
            )


def mapped(split: Split, folder: Path) -> Split:
    """`split` with the arrays that `repeat` wrote."""
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    return replace(split, **arrays)


def epoch(split: Split) -> None:
    """Batches of one epoch, some of them trained on."""
    vae = make_vae(split, layer_norm=True, **SMALL)
    gradients = gradients_of(vae, half=False)
    batches = epoch_of(split)
    count = min(BATCHES, len(batches))
    trained = np.linspace(0, count - 1, min(TRAINED, count)).astype(int)
    for index in range(count):
        batch = batches[index]
        if index in trained:
            step(vae, gradients, batch)


def main() -> None:
    """Print a line for each process, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--drawings", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    split = load_split(options.store, "train")
    if options.measure:
        what, folder = options.measure
        before = peak_mb()
        if what == "epoch":
            epoch(mapped(split, Path(folder)))
        else:
            training_step(split, *what.split())
        print(f"{peak_mb():.0f} MB at most, {before:.0f} MB of it before")
        return
    print(describe())
    types = precisions()
    kinds = [f"{kind} {place}" for place in ("median", "longest", "many") for kind in types]
    for what in kinds:
        print(f"training steps of the original's size, {what} batches: {child(what)}", flush=True)
    for count in options.drawings:
        with tempfile.TemporaryDirectory() as folder:
            repeat(split, count, Path(folder))
            print(
                f"training on {count:,} drawings, small model: {child('epoch', folder)}", flush=True
            )


def child(what: str, folder: str = ".") -> str:
    """Measure one case, in a process of its own, and print it."""
    command = [sys.executable, *sys.argv, "--measure", what, folder]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
