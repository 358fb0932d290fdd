"""Our 28x28 images beside the published bitmaps, as training and as test data of a classifier.

    python experiments/bitmaps.py MIRROR [--model CNN.pt] [--epochs 5] [--figure OUT.png]

MIRROR is a folder in the published layout. Drawings of which it has both strokes and bitmap are
found by comparing pixels. A model trained on our images is tested on the bitmaps of these drawings,
and one trained on other bitmaps on our images: each must be as accurate as on its own kind.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from doodlelib.config import CNNConfig, read_config
from doodlelib.data.quickdraw import read_drawings
from doodlelib.models import checkpoint
from doodlelib.models.cnn import DoodleCNN
from doodlelib.raster import rasterize_many
from doodlelib.training import loop
from doodlelib.training.batches import ImageBatches
from doodlelib.viz import plots

WORDS = ("apple", "bicycle", "bowtie", "cat", "diamond", "eye", "fish", "lollipop", "rainbow")
ALIKE = 15.0  # grey levels (root mean square): below, two pictures are of one drawing
SHOWN = 10
TRAINED_ON = 1200  # bitmaps of each word


def pairs(mirror: Path, word: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Our images of drawings, their published bitmaps, and all other bitmaps; (n, 28, 28)."""
    records = read_drawings(word, kind="simplified", base_url=mirror.resolve().as_uri())
    ours = rasterize_many([record.drawing for record in records])
    theirs = np.load(mirror / f"full/numpy_bitmap/{word}.npy").reshape(-1, 28, 28)
    a, b = (images.reshape(-1, 784).astype(np.float32) for images in (ours, theirs))
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    nearest = squared.argmin(axis=1)
    same = np.flatnonzero(squared.min(axis=1) < 784 * ALIKE**2)
    used = nearest[same]
    return ours[same], theirs[used], np.delete(theirs, used, axis=0)


def trained_on(images: np.ndarray, labels: np.ndarray, words: tuple[str, ...], epochs: int):
    """A classifier trained on nine tenths of `images`; the rest chooses the epoch."""
    config = read_config(CNNConfig, num_epochs=epochs)
    held = np.arange(len(labels)) % 10 == 0
    torch.manual_seed(0)
    cnn = DoodleCNN(config, words)
    print(f"precision {loop.chosen_precision('auto', 'cpu')}")
    with tempfile.TemporaryDirectory() as folder:
        for row in loop.fit(
            cnn,
            train_batches=lambda epoch: ImageBatches(
                images[~held], labels[~held], config=config, epoch=epoch
            ).load(),
            valid_batches=lambda: ImageBatches(images[held], labels[held], config=config).load(),
            folder=Path(folder),
            precision="auto",
        ):
            print(loop.log_line(row, epochs=epochs), flush=True)
        return checkpoint.load_cnn(Path(folder) / "DoodleCNN_best.pt")


def share(cnn: DoodleCNN, images: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Accuracy on images."""
    return np.array(cnn.words)[cnn.predict(images).argmax(1)] == names


def report(title: str, cnn: DoodleCNN, ours: np.ndarray, theirs: np.ndarray, names: np.ndarray):
    """Print one line of the table."""
    known = np.isin(names, cnn.words)
    right = [share(cnn, images[known], names[known]).mean() for images in (ours, theirs)]
    print(
        f"{title}: {right[0]:.2%} of our pictures, {right[1]:.2%} of the bitmaps of the same "
        f"{known.sum()} drawings ({', '.join(sorted(set(names[known])))})"
    )


def main() -> None:
    """Train and test both ways; save the images side by side if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mirror", type=Path)
    parser.add_argument("--model", default="trained")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    found = {word: pairs(options.mirror, word) for word in WORDS}
    ours, theirs = (np.concatenate([found[word][i] for word in WORDS]) for i in (0, 1))
    names = np.repeat(WORDS, [len(found[word][0]) for word in WORDS])
    ink = [images.mean() for images in (ours, theirs)]
    white = [(images == 255).mean() for images in (ours, theirs)]
    print(
        f"{len(names)} drawings in both forms; mean ink {ink[0]:.1f} and {ink[1]:.1f} of 255, "
        f"full ink in {white[0]:.1%} and {white[1]:.1%} of the pixels"
    )
    if options.figure:
        some = np.linspace(0, len(names) - 1, SHOWN).astype(int)
        rows = np.concatenate([ours[some], theirs[some]])
        titles = [f"{word}, {whose}" for whose in ("ours", "Google's") for word in names[some]]
        plots.draw_images(rows, titles=titles, columns=SHOWN).savefig(options.figure, dpi=100)
    report("trained on ours", checkpoint.load_cnn(options.model), ours, theirs, names)
    images = np.concatenate([found[word][2][:TRAINED_ON] for word in WORDS])[:, None]
    labels = np.repeat(np.arange(len(WORDS)), TRAINED_ON)
    cnn = trained_on(images, labels, WORDS, options.epochs)
    report("trained on bitmaps", cnn, ours, theirs, names)


if __name__ == "__main__":
    main()
