"""The figures on the cards of trained_models/: a VAE or a classifier on drawings it never saw.

    python benchmarks/evaluate.py rnn MODEL.pt STORE [--cnn CNN.pt] [--figures OUT.json]
    python benchmarks/evaluate.py cnn MODEL.pt STORE [--figures OUT.json]

STORE is what notebook 02 prepared and the model was trained on; a VAE is judged on its valid split,
of which training only chose the epoch, a classifier on its test split, once.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from doodlelib import checkpoint, ladder, metrics
from doodlelib.dataset import Split, load_split
from doodlelib.vae import SketchVAE

SAMPLES = 1000
EVENTS = ("pen", "position", "segment_time", "pause_time")


def nats_per_event(
    vae: SketchVAE, drawings: Sequence, words: Sequence[str], given: str
) -> dict[str, float]:
    """Mean negative log-likelihood of each kind of event."""
    parts = [
        pd.DataFrame(
            vae.log_likelihood(
                drawings[i : i + 100],
                given,
                word=words[i : i + 100] if vae.word_size else None,
                seed=i,
            )
        )
        for i in range(0, len(drawings), 100)
    ]
    sums = pd.concat(parts).sum()
    return {event: -sums[event] / sums[f"{event}_count"] for event in EVENTS}


def timed_rows(split: Split) -> list[np.ndarray]:
    """stroke-4 of the timed drawings with a move."""
    return [split[i] for i in np.flatnonzero(split.timed & (split.lengths > 1))]


def evaluate_vae(model: Path, store: Path, cnn: Path | None) -> dict[str, Any]:
    """Likelihood beside simple laws, use of z, the time panel, and what a classifier recognises."""
    vae = checkpoint.load_vae(model)
    train, held_out = load_split(store, "train"), load_split(store, "valid")
    timed = np.flatnonzero(held_out.timed & (held_out.lengths > 1))
    drawings = [held_out.drawing(i) for i in timed]
    words = [held_out.word(i) for i in timed]
    figures: dict[str, Any] = {"held_out_timed_drawings": len(timed)}
    for given in ("shape", "z", "prior"):
        figures[f"nats_per_event_given_{given}"] = nats_per_event(vae, drawings, words, given)
    laws = ladder.time_ladder(timed_rows(train), timed_rows(held_out))
    figures["nats_per_event_simple_laws"] = laws.to_dict(orient="index")

    z = torch.cat([vae.encode(drawings[i : i + 100]) for i in range(0, len(drawings), 100)])
    figures["active_units"] = int((z.var(0) > 0.01).sum())

    asked = words_of(vae, held_out, SAMPLES)
    doodles = vae.generate(SAMPLES, word=asked, temperature=1.0, seed=0)
    points = np.array([sum(len(stroke[0]) for stroke in doodle) for doodle in doodles])
    figures["ended_by_themselves"] = float((points < vae.config.max_seq_len).mean())
    moved = [doodle for doodle, count in zip(doodles, points, strict=True) if count > 1]
    figures["time_panel_at_temperature_1"] = metrics.time_panel(drawings, moved).to_dict("index")
    if cnn:
        figures["recognised_by_the_classifier"] = recognised(vae, checkpoint.load_cnn(cnn))
    return figures


def words_of(vae: SketchVAE, split: Split, count: int) -> list[str] | None:
    """Words as often as `split`'s timed drawings show them; none for a model without words."""
    if not vae.word_size:
        return None
    words = np.array(split.classes)[split.words[split.timed]]
    return np.random.default_rng(0).choice(words, count).tolist()


def recognised(vae: SketchVAE, cnn: checkpoint.DoodleCNN) -> dict[str, float]:
    """Share of 50 doodles of each word the classifier knows that it names rightly."""
    shares = {}
    for index, word in enumerate(cnn.words):
        doodles = vae.generate(50, word=word, temperature=0.4, seed=index)
        shares[word] = float((cnn.predict(doodles).argmax(1) == index).mean())
    return shares | {"all": float(np.mean(list(shares.values())))}


def evaluate_cnn(model: Path, store: Path) -> dict[str, Any]:
    """The classification report on the test split, and the time of one answer."""
    cnn = checkpoint.load_cnn(model)
    test = load_split(store, "test")
    drawings = [test.drawing(i) for i in range(len(test))]
    report, _ = metrics.classification(np.asarray(test.words), cnn.predict(drawings), cnn.words)
    seconds = []
    for drawing in drawings[:50]:
        start = time.perf_counter()
        cnn.predict([drawing])
        seconds.append(time.perf_counter() - start)
    return {
        "test_drawings": len(test),
        "test_accuracy": report.loc["accuracy", "precision"],
        "recall": report["recall"][list(cnn.words)].to_dict(),
        "parameters": sum(p.numel() for p in cnn.parameters()),
        "median_ms_one_drawing": 1000 * float(np.median(seconds)),
    }


def rounded(value: Any) -> Any:
    """Four digits are more than the figures are worth."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(float(value), 4) if isinstance(value, float) else value


def main() -> None:
    """Print the figures, and put them into the card if one is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("rnn", "cnn"))
    parser.add_argument("model", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--cnn", type=Path, help="classifier that judges a VAE's doodles")
    parser.add_argument("--figures", type=Path, help="JSON whose key 'figures' is replaced")
    options = parser.parse_args()
    if options.kind == "rnn":
        figures = evaluate_vae(options.model, options.store, options.cnn)
    else:
        figures = evaluate_cnn(options.model, options.store)
    figures = rounded(figures)
    print(json.dumps(figures, indent=2))
    if options.figures:
        card = json.loads(options.figures.read_text()) if options.figures.exists() else {}
        options.figures.write_text(json.dumps(card | {"figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
