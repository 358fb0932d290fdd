"""Quality of a VAE's doodles: recognisability, novelty, diversity, and distance from real drawings.

    python experiments/doodles.py MODEL.pt STORE [--judge trained_models/cnn_345.pt]
        [--retimer trained_models/retime.pt] [--peers FOLDER] [--each 200] [--temperature 0.4]
        [--latent exemplars] [--timing joint] [--figures OUT.json] [--pictures FOLDER]

The protocol, for others to repeat:

- STORE is what notebook 02 prepared and MODEL was trained on. Real drawings are those held out:
  its valid and its test split, whose ids' hashes the training never saw. Drawings of more points
  than the model may draw, or of a single point, take no part.
- The judge is a classifier trained on real drawings alone. A drawing is named rightly when its
  word is the judge's likeliest of all (top-1), or one of its three likeliest (top-3). Standard
  errors are those of a binomial share.
- PEERS holds ``<word>.ndjson`` with doodles of another model, judged beside ours.
- Endings: held-out drawings of the ten words are cut after half of their points and completed, told
  the word; named as above, beside their originals and the halves as they are.
- Copies: the distance from a doodle to the nearest training drawing of its word, beside that from
  a held-out real drawing to its nearest: medians, in the judge's last features and in pixels
  (28x28, blurred by a Gaussian of one pixel). 1 is as far as real drawings are.
- Sameness: the median distance between two doodles of a word, beside that between two held-out
  drawings of it; mean over the ten words with most drawings.
- Frechet distance, precision and recall (Kynkaanniemi et al. 2019, k nearest neighbours, k = 5) in
  the judge's features, against held-out real drawings of the same words.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from evaluate import frechet_distance
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from tqdm import tqdm

from doodlelib.data import formats
from doodlelib.data.dataset import Split, load_split
from doodlelib.models import checkpoint
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.vae import Latent, SketchVAE
from doodlelib.raster import rasterize_many
from doodlelib.viz import plots

FAMOUS = 10  # words with most drawings
NEIGHBOURS = 5  # of precision and recall
AT_ONCE = 256  # drawings judged at a time
SHOWN = 14  # words of a picture
Drawings = list[Any]


def held_out_by_word(store: Path, longest: int) -> dict[str, Drawings]:
    """Real drawings that no training saw, of each word."""
    real: dict[str, Drawings] = {}
    for part in ("valid", "test"):
        split = load_split(store, part)
        for i in np.flatnonzero((split.lengths > 1) & (split.lengths <= longest)):
            real.setdefault(split.word(i), []).append(split.drawing(i))
    return real


def training_of(split: Split, word: str, most: int = 2000) -> Drawings:
    """The first training drawings of a word."""
    own = np.flatnonzero((split.words == split.classes.index(word)) & (split.lengths > 1))
    return [split.drawing(i) for i in own[:most]]


def probabilities(judge: DoodleCNN, drawings: Sequence) -> np.ndarray:
    """(N, words)."""
    parts = range(0, len(drawings), AT_ONCE)
    return np.concatenate([judge.predict(drawings[i : i + AT_ONCE]) for i in parts])


def features(judge: DoodleCNN, drawings: Sequence) -> np.ndarray:
    """The judge's last features, (N, F)."""
    parts = range(0, len(drawings), AT_ONCE)
    return np.concatenate([judge.features(drawings[i : i + AT_ONCE]) for i in parts])


def pixels(drawings: Sequence) -> np.ndarray:
    """28x28 images blurred by one pixel, (N, 784), ink from 0 to 1."""
    images = rasterize_many(drawings, 28) / 255.0
    return gaussian_filter(images, sigma=(0, 1, 1)).reshape(len(images), -1)


def named(judge: DoodleCNN, drawings: Sequence, words: Sequence[str]) -> dict[str, float]:
    """Shares of drawings named rightly at once, or among three, in %, and standard errors."""
    truth = np.array([judge.words.index(word) for word in words])
    order = (-probabilities(judge, drawings)).argsort(axis=1)
    row: dict[str, float] = {"drawings": len(truth)}
    for name, right in (
        ("top_1", order[:, 0] == truth),
        ("top_3", (order[:, :3] == truth[:, None]).any(axis=1)),
    ):
        share = right.mean()
        row |= {name: 100 * share, f"{name}_se": 100 * np.sqrt(share * (1 - share) / len(right))}
    return row


def of_words(
    by_word: dict[str, Drawings], words: Iterable[str], each: int
) -> tuple[Drawings, list]:
    """At most `each` drawings of each word, and the word of each."""
    pairs = [(one, word) for word in words for one in by_word.get(word, [])[:each]]
    return [one for one, _ in pairs], [word for _, word in pairs]


def beginning(drawing: Sequence) -> list:
    """The first half of a drawing's points."""
    left, begun = max(2, sum(len(stroke[0]) for stroke in drawing) // 2), []
    for stroke in drawing:
        if left > 0:
            begun.append([values[:left] for values in stroke])
            left -= len(stroke[0])
    return begun


def endings(
    vae: SketchVAE, judge: DoodleCNN, real: Sequence, words: Sequence[str], **options: Any
) -> dict[str, dict[str, float]]:
    """Shares named rightly of halves, and of their completions with z from exemplars and z = 0."""
    halves = [beginning(drawing) for drawing in real]
    rows = {"halves": named(judge, halves, words)}
    latents: list[Latent] = ["exemplars", "none"]
    for latent in latents:
        ended = [
            vae.complete(half, n=1, word=word, latent=latent, seed=i, **options)[0]
            for i, (half, word) in enumerate(zip(halves, words, strict=True))
        ]
        rows[f"completed, z from {latent}"] = named(judge, ended, words)
    return rows


def nearest(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance from each of `some` to the nearest of `others`."""
    return cdist(some, others).min(axis=1)


def precision_recall(real: np.ndarray, made: np.ndarray) -> tuple[float, float]:
    """Share of `made` within the manifold of `real`, and of `real` within that of `made`.

    Source: Kynkaanniemi et al. 2019 (arXiv 1904.06991), eq. 1-3.
    """

    def covered(by: np.ndarray, points: np.ndarray) -> float:
        radius = np.sort(cdist(by, by), axis=1)[:, NEIGHBOURS]
        return float((cdist(points, by) <= radius).any(axis=1).mean())

    return covered(real, made), covered(made, real)


def image_metrics(judge: DoodleCNN, real: Sequence, made: Sequence) -> dict[str, float]:
    """Frechet distance, precision and recall in the judge's features."""
    a, b = features(judge, real), features(judge, made)
    precision, recall = precision_recall(a, b)
    return {
        "frechet": frechet_distance(a, b),
        "precision": precision,
        "recall": recall,
        "real": len(a),
        "made": len(b),
    }


def copies_and_sameness(
    judge: DoodleCNN,
    train: Split,
    real: dict[str, Drawings],
    doodles: dict[str, Drawings],
    each: int,
) -> dict[str, float]:
    """Distances of doodles over those of held-out drawings, in features and in pixels."""
    ratios: dict[str, list[float]] = {}
    for word, made in doodles.items():
        known = training_of(train, word)
        for name, see in (("features", lambda some: features(judge, some)), ("pixels", pixels)):
            t, d, r = see(known), see(made[:each]), see(real[word][:each])
            ratios.setdefault(f"to_nearest_training_{name}", []).append(
                float(np.median(nearest(d, t)) / np.median(nearest(r, t)))
            )
            apart = [np.median(cdist(x, x)[np.triu_indices(len(x), 1)]) for x in (d, r)]
            ratios.setdefault(f"between_two_{name}", []).append(float(apart[0] / apart[1]))
    return {name: float(np.mean(values)) for name, values in ratios.items()}


def show_neighbours(
    judge: DoodleCNN, train: Split, doodles: dict[str, Drawings], folder: Path
) -> None:
    """Save an image of doodles above their nearest training drawings in the judge's features."""
    above, below = [], []
    for word, made in doodles.items():
        known = training_of(train, word)
        at = cdist(features(judge, made[:1]), features(judge, known)).argmin()
        above.append(made[0])
        below.append(known[at])
    titles = [*doodles, *["nearest"] * len(below)]
    figure = plots.draw_grid([*above, *below], titles=titles, columns=len(above))
    figure.savefig(folder / "nearest_neighbours.png", dpi=80)


def seconds_of_nine(vae: SketchVAE, word: str, **options: Any) -> float:
    """Seconds to generate nine doodles: the median of five, after one to warm up."""
    taken = []
    for seed in range(6):
        began = time.perf_counter()
        vae.generate(9, word=word, seed=seed, **options)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken[1:]))


def evaluate(
    model: Path,
    store: Path,
    *,
    judge: Path,
    each: int,
    retimer: Path | None = None,
    peers: Path | None = None,
    pictures: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """All figures of the protocol; `options` are those of `generate`."""
    vae, cnn, train = checkpoint.load_vae(model), checkpoint.load_cnn(judge), load_split(store)
    if retimer:
        vae.attach(checkpoint.load_retimer(retimer))
    real = held_out_by_word(store, vae.config.max_seq_len)
    counts = Counter({word: int(n) for word, n in enumerate(np.bincount(train.words))})
    famous = [train.classes[i] for i, _ in counts.most_common(FAMOUS)]
    others = sorted(path.stem for path in peers.glob("*.ndjson")) if peers else []
    few = max(1, each // 10)

    def made(words: Sequence[str], n: int, seed: int) -> dict[str, Drawings]:
        return {
            word: vae.generate(n, word=word, seed=seed + i, **options)
            for i, word in enumerate(tqdm(words, desc="words", leave=False))
        }

    ten, everything = made(famous, each, 0), made(train.classes, few, 1000)
    figures: dict[str, Any] = {"judge": str(judge), **options, "words": famous}
    shares = {
        "ten words": named(cnn, *of_words(ten, famous, each)),
        "ten words, real": named(cnn, *of_words(real, famous, each)),
        "all words": named(cnn, *of_words(everything, train.classes, few)),
        "all words, real": named(cnn, *of_words(real, train.classes, few)),
    }
    originals, words = of_words(real, famous, each)
    timing = {"timing": options["timing"]} if "timing" in options else {}
    back = vae.reconstruct(originals, word=words, temperature=0.1, seed=0, **timing)
    shares["ten words, reconstructions"] = named(cnn, back, words)
    cut, words = of_words(real, famous, few)
    for name, row in endings(vae, cnn, cut, words, **timing).items():
        shares[f"ten words, {name}"] = row
    if peers:
        theirs = {w: [r.drawing for r in formats.read(peers / f"{w}.ndjson")] for w in others}
        ours = made(others, each, 2000)
        shares["the peers' words"] = named(cnn, *of_words(ours, others, each))
        shares["the peers' words, theirs"] = named(cnn, *of_words(theirs, others, 200))
        shares["the peers' words, real"] = named(cnn, *of_words(real, others, each))
        for word in ("dog", "bicycle", "bird"):
            if word in others:
                shares[f"{word}"] = named(cnn, ours[word], [word] * len(ours[word]))
                shares[f"{word}, theirs"] = named(cnn, theirs[word], [word] * len(theirs[word]))
    figures["named"] = shares
    figures["each_of_ten"] = {
        word: {
            "doodles": named(cnn, ten[word], [word] * len(ten[word]))["top_1"],
            "real": named(cnn, real[word][:each], [word] * len(real[word][:each]))["top_1"],
        }
        for word in famous
    }
    figures["over_real"] = copies_and_sameness(cnn, train, real, ten, each)
    figures["images"] = {
        "ten words": image_metrics(
            cnn, of_words(real, famous, each)[0], of_words(ten, famous, each)[0]
        )
    }
    if peers:
        pairs = (("peers' words", ours), ("peers' words, theirs", theirs))
        against = of_words(real, others, each)[0]
        for name, some in pairs:
            figures["images"][name] = image_metrics(cnn, against, of_words(some, others, each)[0])
    figures["seconds_of_nine_doodles"] = seconds_of_nine(vae, famous[0], **options)
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        show_neighbours(cnn, train, ten, pictures)
        shown = [*famous, *others[: SHOWN - len(famous)]]
        grid = {**ten, **(ours if peers else {})}
        for word in shown:
            plots.draw_grid(grid[word][:20], columns=10).savefig(pictures / f"{word}.png", dpi=60)
    return figures


def main() -> None:
    """Print the table, and write it if a file is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--judge", type=Path, default=Path("trained_models/cnn_345.pt"))
    parser.add_argument("--retimer", type=Path, help="times doodles that are drawn without time")
    parser.add_argument("--peers", type=Path, help="folder of another model's <word>.ndjson")
    parser.add_argument(
        "--each", type=int, default=200, help="doodles of a word; of all words a tenth"
    )
    parser.add_argument("--temperature", type=float, help="default: that of generate")
    parser.add_argument("--latent", choices=["exemplars", "none"], help="default: as above")
    parser.add_argument("--timing", choices=["joint", "retimer", "none"], help="default: as above")
    parser.add_argument("--figures", type=Path, help="JSON to write")
    parser.add_argument("--pictures", type=Path, help="folder for grids of doodles")
    options = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    out = options.pop("figures", None)
    figures = evaluate(options.pop("model"), options.pop("store"), **options)
    for name, row in figures["named"].items():
        print(
            f"{name:32} top-1 {row['top_1']:5.1f} ± {row['top_1_se']:.1f} %   "
            f"top-3 {row['top_3']:5.1f} ± {row['top_3_se']:.1f} %   of {row['drawings']:.0f}"
        )
    print(json.dumps({k: v for k, v in figures.items() if k != "named"}, indent=2))
    if out:
        out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
