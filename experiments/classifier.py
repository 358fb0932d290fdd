"""The classifier beside the original's network: accuracy on held-out drawings, and speed.

    python experiments/classifier.py train STORE FOLDER [--seed 0] [--per-word 20] [-p width 32 ...]
        [--device cpu]
    python experiments/classifier.py original STORE FOLDER [--seed 0] [--epochs 10] [--device cpu]
    python experiments/classifier.py speed STORE
    python experiments/classifier.py compare FOLDER,FOLDER,... FOLDER,FOLDER,...
    python experiments/classifier.py curve OUT.png FOLDER FOLDER ...

"train" and "original" put into FOLDER the weights of the epoch with the least validation loss, the
probabilities of the test drawings and figures.json. "compare" sets two groups of such runs (seeds)
side by side, with an interval from resampling the test drawings. "curve" plots what such runs reach
against how many drawings of a word they learned from. "original" is the network of
QuickDraw-Doodler, written anew from its description, with its optimiser and batches.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from original import BATCH, Original, original_step
from torch import Tensor

from doodlelib.analysis import metrics
from doodlelib.config import CNNConfig, read_config
from doodlelib.data.dataset import load_split
from doodlelib.models import checkpoint
from doodlelib.models.cnn import DoodleCNN
from doodlelib.training import loop
from doodlelib.training.batches import ImageBatches, images_of

PARTS = ("train", "valid", "test")
ORIGINAL_PATIENCE = 2  # epochs
RESAMPLED = 10_000  # times
Pictures = dict[str, tuple[np.ndarray, np.ndarray]]


def pictures(store: Path, config: CNNConfig, *, per_word: int | None = None) -> Pictures:
    """Images and labels of each split; of the train split only the first `per_word` of a word."""
    found = {}
    for part in PARTS:
        split = load_split(store, part)
        images, labels = images_of(split, config), np.asarray(split.words)
        if part == "train" and per_word:
            chosen = [np.flatnonzero(labels == word)[:per_word] for word in np.unique(labels)]
            images, labels = (x[np.concatenate(chosen)] for x in (images, labels))
        found[part] = images, labels
    return found


def train_ours(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Test labels, predicted probabilities, and further figures."""
    config = read_config(CNNConfig, **{name: json.loads(value) for name, value in options.p})
    data = pictures(options.store, config, per_word=options.per_word)
    words = load_split(options.store, "train").classes
    precision = loop.chosen_precision("auto", options.device)
    torch.manual_seed(options.seed)
    cnn = DoodleCNN(config, words).to(options.device)

    def batches(part: str, epoch: int | None) -> torch.utils.data.DataLoader:
        return ImageBatches(*data[part], config=config, seed=options.seed, epoch=epoch).load()

    rows = loop.fit(
        cnn,
        train_batches=lambda epoch: batches("train", epoch),
        valid_batches=lambda: batches("valid", None),
        folder=options.folder,
        seed=options.seed,
        checkpoint_every=1000,
        precision=precision,
    )
    for row in rows:
        print(loop.log_line(row, epochs=config.num_epochs), flush=True)
    cnn = checkpoint.load_cnn(options.folder / "DoodleCNN_best.pt").to(options.device)
    images, labels = data["test"]
    raw = cnn.predict(images)
    temperature = cnn.calibrate(*data["valid"])
    checkpoint.save(options.folder / "cnn.pt", cnn)
    return (
        labels,
        cnn.predict(images),
        {
            "precision": precision,
            "parameters": sum(p.numel() for p in cnn.parameters()),
            "train_drawings": len(data["train"][1]),
            "train_drawings_of_a_word": len(data["train"][1]) / len(words),
            "temperature": temperature,
            "ece_uncalibrated": metrics.calibration_error(metrics.calibration(labels, raw)),
        },
    )


def train_original(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """As `train_ours`, of the original's network; in bfloat16, since float32 takes hours."""
    data = pictures(options.store, read_config(CNNConfig))
    device = options.device
    precision = loop.chosen_precision("auto", device)
    half = precision == "bfloat16"
    images = {part: torch.from_numpy(x).float().to(device) / 255 for part, (x, _) in data.items()}
    labels = {
        part: torch.from_numpy(y.astype(np.int64)).to(device) for part, (_, y) in data.items()
    }
    torch.manual_seed(options.seed)
    network = Original(len(load_split(options.store, "train").classes))
    network = network.to(options.device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    @torch.no_grad()
    def logits(part: str) -> Tensor:
        network.eval()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            return torch.cat([network(some) for some in images[part].split(256)]).float()

    best, weights, waited = float("inf"), {}, 0
    for epoch in range(options.epochs):
        network.train()
        for chosen in torch.randperm(len(labels["train"])).split(BATCH):
            some = images["train"][chosen], labels["train"][chosen]
            original_step(network, optimizer, *some, half=half)
        loss = F.cross_entropy(found := logits("valid"), labels["valid"]).item()
        right = (found.argmax(1) == labels["valid"]).float().mean().item()
        print(f"epoch {epoch + 1} valid_loss {loss:.4f} valid_accuracy {right:.4f}", flush=True)
        waited += 1
        if loss < best:
            best, weights, waited = loss, copy.deepcopy(network.state_dict()), 0
        if waited == ORIGINAL_PATIENCE:
            break
    network.load_state_dict(weights)
    size = sum(parameter.numel() for parameter in network.parameters())
    figures = {"precision": precision, "parameters": size}
    return data["test"][1], logits("test").softmax(1).cpu().numpy(), figures


def run(options: argparse.Namespace) -> None:
    """Train, evaluate once on the test split, save weights and figures."""
    options.folder.mkdir(parents=True, exist_ok=True)
    work = {"train": train_ours, "original": train_original}[options.work]
    labels, probabilities, figures = work(options)
    words = load_split(options.store, "train").classes
    report, _ = metrics.classification(labels, probabilities, words)
    figures |= {
        "seed": options.seed,
        "test_drawings": len(labels),
        "top_1": report.loc["accuracy", "recall"],
        "top_3": report.loc["top 3", "recall"],
        "recall_mean_of_words": report.loc["macro avg", "recall"],
        "ece": metrics.calibration_error(metrics.calibration(labels, probabilities)),
    }
    np.savez(options.folder / "test.npz", labels=labels, probabilities=probabilities)
    text = json.dumps(figures, indent=2)
    (options.folder / "figures.json").write_text(text + "\n")
    print(text)


def compare(options: argparse.Namespace) -> None:
    """Error rates of two groups of runs, and a confidence interval of their difference."""
    wrong = []
    for group in (options.first, options.second):
        runs = [np.load(Path(folder) / "test.npz") for folder in group.split(",")]
        errors = np.stack([one["probabilities"].argmax(1) != one["labels"] for one in runs])
        top_3 = [
            (np.argsort(one["probabilities"])[:, -3:] == one["labels"][:, None]).any(1).mean()
            for one in runs
        ]
        each = ", ".join(f"{share:.2%}" for share in 1 - errors.mean(1))
        print(f"{group}: top-1 {1 - errors.mean():.2%} ({each}), top-3 {np.mean(top_3):.2%}")
        wrong.append(errors.mean(0))
    rng, count = np.random.default_rng(0), len(wrong[0])
    samples = [rng.integers(count, size=count) for _ in range(RESAMPLED)]
    points = np.array([(wrong[1][one] - wrong[0][one]).mean() for one in samples])
    fewer = np.array([1 - wrong[0][one].mean() / wrong[1][one].mean() for one in samples])
    for name, value, values in (
        ("points of accuracy gained by the first", np.mean(wrong[1] - wrong[0]), points),
        ("fewer errors of the first", 1 - wrong[0].mean() / wrong[1].mean(), fewer),
    ):
        low, high = np.quantile(values, [0.025, 0.975])
        print(f"{name}: {value:.1%} (95 %: {low:.1%} to {high:.1%}; {count} test drawings)")


def curve(options: argparse.Namespace) -> None:
    """Plot accuracy against drawings of a word to learn from, and print the table."""
    import matplotlib.pyplot as plt
    import pandas as pd

    from doodlelib.viz import plots

    texts = [(folder / "figures.json").read_text() for folder in options.folders]
    table = pd.DataFrame(map(json.loads, texts)).set_index("train_drawings_of_a_word").sort_index()
    print(table[["train_drawings", "test_drawings", "top_1", "top_3"]].to_string())
    plots.use_style()
    figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    for name, label, color in zip(
        ("top_3", "top_1"), ("top-3", "top-1"), plots.PALETTE, strict=False
    ):
        ax.plot(table.index, 100 * table[name], "o-", color=color, label=label)
        for x, y in table[name].items():
            ax.annotate(
                f"{100 * y:.0f}", (x, 100 * y), (0, 6), textcoords="offset points", ha="center"
            )
    ax.set(xscale="log", ylim=(0, 100), xlabel="drawings of a word to learn from, mean")
    ax.set(ylabel="test drawings named rightly (%)", xticks=table.index)
    ax.set_xticklabels([f"{x:.0f}" for x in table.index])
    ax.minorticks_off()
    ax.legend(loc="upper left", frameon=False)
    figure.savefig(options.out)


def speed(options: argparse.Namespace) -> None:
    """Print images a second of both networks, in training (with augmentation) and in prediction."""
    torch.set_num_threads(options.threads)
    split, config = load_split(options.store, "train"), read_config(CNNConfig)
    images, labels = images_of(split, config), np.asarray(split.words)
    precision = loop.chosen_precision("auto", "cpu")
    half = precision == "bfloat16"
    cnn = DoodleCNN(config, split.classes)
    optimizer = cnn.make_optimizer()
    epoch = ImageBatches(images, labels, config=config, epoch=1)
    scaled = torch.from_numpy(images[:BATCH]).float() / 255
    truth = torch.from_numpy(labels[:BATCH].astype(np.int64))

    def ours() -> Iterator[int]:
        cnn.train()
        for index in range(4):
            batch = epoch[index]
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss, _ = cnn.loss(batch, step=0)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(cnn.parameters(), config.grad_clip)
            optimizer.step()
            yield batch.size

    def original(tuned: bool) -> Iterator[int]:
        original_step(networks[tuned], adams[tuned], scaled, truth, half=tuned and half)
        yield len(truth)

    networks = [Original(len(split.classes)) for _ in range(2)]
    networks[1] = networks[1].to(memory_format=torch.channels_last)
    adams = [
        torch.optim.Adam(one.parameters(), lr=1e-3, fused=tuned)
        for tuned, one in enumerate(networks)
    ]
    works = {
        f"ours, {precision}, augmented": ours,
        "the original, float32, as published": lambda: original(False),
        f"the original, {precision}, fused, channels last": lambda: original(True),
        "answers, batches of 256": lambda: iter([len(cnn.predict(images[:256]))]),
        "answers, one at a time": lambda: iter([len(cnn.predict(images[:1]))]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(options.repeats + 1):  # the first to warm up
        for name, work in works.items():
            begin = time.process_time()
            done = sum(work())
            if repeat:
                seconds[name].append((time.process_time() - begin) / done)
    base = statistics.median(seconds["the original, float32, as published"])
    print(f"torch {torch.__version__}, {options.threads} threads, median of {options.repeats}")
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f"{name:45} {1 / median:8.0f} images/s, {base / median:5.1f} x the original")


def main() -> None:
    """Run one subcommand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    works = parser.add_subparsers(dest="work", required=True)
    for name in ("train", "original"):
        one = works.add_parser(name)
        one.add_argument("store", type=Path)
        one.add_argument("folder", type=Path)
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
        one.set_defaults(do=run)
        if name == "train":
            one.add_argument("--per-word", type=int)
            one.add_argument("-p", nargs=2, action="append", default=[])
        else:
            one.add_argument("--epochs", type=int, default=10)
    one = works.add_parser("speed")
    one.add_argument("store", type=Path)
    one.add_argument("--threads", type=int, default=1)
    one.add_argument("--repeats", type=int, default=7)
    one.set_defaults(do=speed)
    one = works.add_parser("compare")
    one.add_argument("first")
    one.add_argument("second")
    one.set_defaults(do=compare)
    one = works.add_parser("curve")
    one.add_argument("out", type=Path)
    one.add_argument("folders", type=Path, nargs="+")
    one.set_defaults(do=curve)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
