"""Ablations of the VAE: short trainings that differ in one setting, evaluated on the same drawings.

    python experiments/ablations.py STORE [--untimed 6000] [--epochs 3] [--only NAME ...]
        [--seed 0] [--device cpu] [--out TABLE.csv]
    python experiments/ablations.py --mean TABLE.csv TABLE.csv ...

STORE is prepared from raw and simplified files, as by config/shipped/rnn_02.yaml; --rdp-store names
one that differs in ``method: rdp`` alone. Every variant sees all timed drawings and as many untimed
ones. Reported is the negative log-likelihood of the timed held-out ones, z from the geometry alone,
in nats an event. Models are small and trainings short: only the differences count.
--mean takes tables of several seeds: the mean of each figure, and how far each variant is from
"as shipped" with the standard error over seeds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from doodlelib.analysis import baselines
from doodlelib.config import VAEConfig, read_config
from doodlelib.data.dataset import Split, load_split, scale_of
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import DT, MIN_DT
from doodlelib.training import loop
from doodlelib.training.batches import StrokeBatches
from doodlelib.training.setup import loaders

SIZES = {
    "max_seq_len": 120,
    "latent_size": 64,
    "enc_hidden_size": 96,
    "dec_hidden_size": 256,
    "learning_rate": 0.002,
    "lr_decay": 0.9985,
    "kl_weight": 0.25,
    "kl_decay_rate": 0.998,
    "random_scale_factor": 0.1,
    "augment_stroke_prob": 0.05,
}
EVENTS = ("pen", "position", "segment_time", "pause_time")
GAUSSIAN_UNIT = 1000.0  # ms
Change = Callable[[Split], Split]


def chosen(split: Split, indices: np.ndarray) -> Split:
    """The drawings at `indices`, in memory."""
    rows = [split[index] for index in indices]
    return replace(
        split,
        points=np.concatenate(rows),
        offsets=np.concatenate([[0], np.cumsum([len(one) for one in rows])]),
        words=split.words[indices],
        timed=split.timed[indices],
        ids=split.ids[indices],
    )


def without_time(split: Split) -> Split:
    """The same geometry, untimed."""
    points = split.points.copy()
    points[:, DT] = np.nan
    return replace(split, points=points, timed=np.zeros_like(split.timed))


def gaussian_time(split: Split) -> Split:
    """Times t replaced by exp(t / unit), whose logarithm, which the model sees, is linear in t."""
    points = split.points.copy()
    points[:, DT] = np.exp(points[:, DT] / GAUSSIAN_UNIT)
    return replace(split, points=points)


def scaled(split: Split, other: Split) -> tuple[Split, Split]:
    """Both with the scale of the first."""
    scale = scale_of(split.points, split.offsets)
    return replace(split, scale=scale), replace(other, scale=scale)


def trained(
    fitted: Split, valid: Split, *, epochs: int, seed: int, device: str, **overrides: object
) -> SketchVAE:
    """A model after some epochs."""
    torch.manual_seed(seed)
    config = read_config(VAEConfig, num_epochs=epochs, **(SIZES | overrides))
    vae = SketchVAE(
        config, words=fitted.classes, scale=fitted.scale, simplification={"method": "timed"}
    ).to(device)

    with tempfile.TemporaryDirectory() as folder:
        rows = loop.fit(
            vae,
            **loaders({"train": fitted, "valid": valid}, config, seed=seed),
            folder=Path(folder),
            seed=seed,
            precision="auto",
        )
        for row in rows:
            print("   ", loop.log_line(row, epochs=epochs), flush=True)
    return vae


@torch.no_grad()
def nats(vae: SketchVAE, held_out: Split) -> dict[str, float]:
    """Mean negative log-likelihood of each kind of event, z from the geometry alone."""
    vae.eval()
    sums = dict.fromkeys([*EVENTS, *(f"{event} count" for event in EVENTS)], 0.0)
    for batch in StrokeBatches(held_out, vae.config).load():
        batch = batch.to(vae.device)
        z, _ = vae.posterior(batch, see_time=torch.zeros_like(batch.timed))
        for event, (total, count) in vae.step_log_likelihood(batch, z).events().items():
            sums[event] -= float(total.sum())
            sums[f"{event} count"] += float(count.sum())
    return {event: sums[event] / max(sums[f"{event} count"], 1) for event in EVENTS}


def main() -> None:
    """Train and evaluate one variant after another, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--mean", type=Path, nargs="+", metavar="TABLE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rdp-store", type=Path)
    parser.add_argument("--untimed", type=int, default=6_000, metavar="N")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    options = parser.parse_args()
    if options.mean:
        print_mean(options.mean)
        return
    if not options.store:
        parser.error("STORE or --mean is needed")

    def read(store: Path) -> tuple[Split, Split]:
        fitted, held_out = load_split(store, "train"), load_split(store, "valid")
        timed, untimed = np.flatnonzero(fitted.timed), np.flatnonzero(~fitted.timed)
        some = np.random.default_rng(0).permutation(untimed)[: options.untimed]
        short = held_out.lengths <= SIZES["max_seq_len"]
        return (
            chosen(fitted, np.concatenate([timed, some])),
            chosen(held_out, np.flatnonzero(held_out.timed & (held_out.lengths > 1) & short)),
        )

    both = fitted, held_out = read(options.store)
    only_timed = chosen(fitted, np.flatnonzero(fitted.timed))
    more = options.epochs * len(fitted) // len(only_timed)  # as many drawings in all
    plain = {"use_layer_norm": False, "recurrent_dropout": 0.0}
    variants: dict[str, tuple[tuple[Split, Split], dict[str, object]]] = {
        "as shipped": (both, {}),
        "without time": ((without_time(fitted), without_time(held_out)), {}),
        "Gaussian time": (scaled(gaussian_time(fitted), gaussian_time(held_out)), {}),
        "without untimed drawings": ((only_timed, held_out), {"epochs": more}),
        "without layer norm and recurrent dropout": (both, plain),
        "without mirrored drawings": (both, {"flip_prob": 0.0}),
        "without telling the word": (both, {"class_conditioning": False}),
    }
    if options.rdp_store:
        variants["rdp instead of timed"] = (scaled(*read(options.rdp_store)), {})
    print(f"precision {loop.chosen_precision('auto', options.device)}")
    table = {}
    for name, ((one, other), overrides) in variants.items():
        if options.only and name not in options.only:
            continue
        print(name, flush=True)
        begin = time.perf_counter()
        how = {"epochs": options.epochs, "seed": options.seed, "device": options.device}
        vae = trained(one, other, **(how | overrides))
        table[name] = nats(vae, other) | {"minutes": (time.perf_counter() - begin) / 60}
        if name == "Gaussian time":  # back from exp(t / unit) to t
            table[name] |= gaussian_nats(table[name], other)
        rows = [other[i] for i in range(len(other)) if other.timed[i]]
        if rows and name in ("as shipped", "rdp instead of timed"):
            fit = [one[i] for i in np.flatnonzero(one.timed & (one.lengths > 1))]
            table[f"({name}: log-linear regression)"] = baselines.time_baselines(fit, rows).loc[
                "log-linear regression"
            ]
        print(pd.DataFrame(table).T.round(3).to_string(), flush=True)
        if options.out:
            pd.DataFrame(table).T.to_csv(options.out)


def print_mean(tables: list[Path]) -> None:
    """Means over seeds, and each variant's distance from the first with its standard error."""
    found = pd.concat({str(path): pd.read_csv(path, index_col=0) for path in tables})
    found = found[list(EVENTS)]
    by_variant = found.groupby(level=1, sort=False)
    print(f"mean of {len(tables)} seeds\n{by_variant.mean().round(3).to_string()}")
    first = found.index.get_level_values(1)[0]
    apart = (found - found.xs(first, level=1)).groupby(level=1, sort=False)
    print(f"\ndistance from {first!r}\n{apart.mean().round(3).to_string()}")
    print(f"\nstandard error of it\n{apart.sem().round(3).to_string()}")


def gaussian_nats(found: dict[str, float], held_out: Split) -> dict[str, float]:
    """Negative log-likelihoods of t from those of u = exp(t / unit): p(t) = p(u) u / unit."""
    moves = np.delete(held_out.points, held_out.offsets[:-1], axis=0)
    log_u = np.log(np.maximum(moves[:, DT], MIN_DT))
    drawn = moves[:, 3] > 0.5
    unit = np.log(GAUSSIAN_UNIT)
    return {
        "segment_time": found["segment_time"] - float(log_u[drawn].mean()) + unit,
        "pause_time": found["pause_time"] - float(log_u[~drawn].mean()) + unit,
    }


if __name__ == "__main__":
    main()
