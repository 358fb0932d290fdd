"""A checkpoint as it is shipped in `trained_models/`: small, without the state of its training.

    python experiments/ship.py RUN/DoodleGenRNN_best.pt trained_models/rnn.pt [--exemplars 64]

Weights are stored in half precision, and of a sketch VAE's exemplars each word's latest few. What
the model is, the first part of OUT's name says: rnn, cnn or retime.
"""

import argparse
from pathlib import Path

import torch

from doodlelib.models import checkpoint
from doodlelib.models.prior import KEPT, ExemplarPrior
from doodlelib.models.vae import SketchVAE


def main() -> None:
    """Read, make small, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--exemplars", type=int, default=KEPT, metavar="N", help="of a word")
    options = parser.parse_args()
    kinds = {name: kind for kind, name in checkpoint.KINDS.items()}
    model, _ = checkpoint.read(options.model, kinds[options.out.stem.split("_")[0]])
    if isinstance(model, SketchVAE):
        keep_latest(model.exemplars, options.exemplars)
    path = checkpoint.save(options.out, model.half())
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def keep_latest(exemplars: ExemplarPrior, n: int) -> None:
    """Drop all but each word's latest `n` exemplars."""
    left = exemplars.count.clamp(max=n)
    slots = ((exemplars.count - left)[:, None] + torch.arange(n)) % exemplars.mean.shape[1]
    rows = torch.arange(len(left))[:, None]  # in each the oldest comes first
    for name in ("mean", "std"):
        setattr(exemplars, name, getattr(exemplars, name)[rows, slots])
    exemplars.count = left


if __name__ == "__main__":
    main()
