"""The figures on the cards of trained_models/: a VAE, retimer or classifier on held-out drawings.

    python experiments/evaluate.py rnn MODEL.pt STORE [--cnn CNN.pt] [--figures OUT.json]
    python experiments/evaluate.py retime MODEL.pt STORE [--seconds SECONDS.csv]
        [--others OTHERS.ndjson] [--figures OUT.json]
    python experiments/evaluate.py cnn MODEL.pt STORE [--figures OUT.json]

STORE is what notebook 02 prepared and the model was trained on; a VAE and a retimer are judged on
its valid split, of which training only chose the epoch, a classifier on its test split, once.
SECONDS names the true seconds with the pen down, rounded down, of drawings that carry no times
(word, key_id, pen_down_seconds_floor); OTHERS holds timed drawings of another kind.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import linalg, stats
from tqdm import tqdm

from doodlelib.analysis import baselines, metrics
from doodlelib.data import formats
from doodlelib.data.dataset import Split, load_split
from doodlelib.models import checkpoint
from doodlelib.models.batch import collate_drawings
from doodlelib.models.cnn import to_images
from doodlelib.models.retimer import Retimer
from doodlelib.models.vae import SketchVAE, Timing
from doodlelib.simplify import simplify
from doodlelib.strokes import DT, DX, DY, MIN_DT, PEN, duration, from_stroke4, to_stroke4

SAMPLES = 2000
SHOWN = 10  # words of a classifier
OF_A_WORD = 3000  # doodles that the classifier judges; they come from few exemplars
TIMED = 500  # doodles in a panel of times at the default temperatures
AT_ONCE = 128  # drawings that the retimer times together
UNTIMED = 2560  # drawings without times that it times
MAX_TIME = 60_000.0  # ms: a log-normal now and then gives absurd times
HELD_OUT = 200  # real drawings of a word, and doodles in the distance between the two
EVENTS = ("pen", "position", "segment_time", "pause_time")


class ConstantSpeed:
    """Every segment at one speed and every pause at another: how players without time play.

    `train` is stroke-4 of timed drawings, whose mean speeds are taken.
    """

    def __init__(self, train: Sequence[np.ndarray]) -> None:
        """Take the mean speeds."""
        moves = np.concatenate([rows[1:] for rows in train])
        is_pause = moves[:, PEN] < 0.5
        self.speed = {
            pause: _length(moves[is_pause == pause]).sum() / moves[is_pause == pause, DT].sum()
            for pause in (False, True)
        }

    def retime(self, rows: np.ndarray) -> np.ndarray:
        """The drawing with the time that each move takes at that speed."""
        rows = rows.astype(np.float64)
        speed = np.where(rows[1:, PEN] < 0.5, self.speed[True], self.speed[False])
        rows[1:, DT] = np.maximum(_length(rows[1:]) / speed, MIN_DT)
        return rows


def _length(moves: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(moves[:, DX], moves[:, DY]), baselines.MIN_LENGTH)


def sampled_times(regression: dict, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The drawing with times from the regression, each given those before it."""
    rows = rows.astype(np.float64)
    rows[1:, DT] = MIN_DT
    for step in range(1, len(rows)):  # the features of a move depend on earlier times alone
        _, features, is_pause = baselines.move_features([rows[: step + 1]])
        weights, std = regression[is_pause[-1]]
        log_dt = features[-1] @ weights + std * rng.normal()
        rows[step, DT] = np.clip(np.exp(log_dt), MIN_DT, MAX_TIME)
    return rows


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of the normal distributions fitted to two samples of features, (n, F).

    Source: Heusel et al. 2017 (arXiv 1706.08500), eq. 6; there in an Inception network's features.
    """
    mean = [x.mean(axis=0) for x in (a, b)]
    covariance = [np.cov(x, rowvar=False) for x in (a, b)]
    root = linalg.sqrtm(covariance[0] @ covariance[1])
    return float(((mean[0] - mean[1]) ** 2).sum() + np.trace(sum(covariance) - 2 * root.real))


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
    """Log-likelihood beside the baselines, use of z, time panel, recognition by a classifier."""
    vae = checkpoint.load_vae(model)
    train, held_out = load_split(store, "train"), load_split(store, "valid")
    timed = np.flatnonzero(held_out.timed & (held_out.lengths > 1))
    drawings = [held_out.drawing(i) for i in timed]
    words = [held_out.word(i) for i in timed]
    figures: dict[str, Any] = {"held_out_timed_drawings": len(timed)}
    for given in ("shape", "z", "prior"):
        figures[f"nats_per_event_given_{given}"] = nats_per_event(vae, drawings, words, given)
    laws = baselines.time_baselines(timed_rows(train), timed_rows(held_out))
    figures["nats_per_event_simple_laws"] = laws.to_dict(orient="index")

    z = torch.cat([vae.encode(drawings[i : i + 100]) for i in range(0, len(drawings), 100)])
    figures["active_units"] = int((z.var(0) > 0.01).sum())

    asked = words_of(vae, held_out, SAMPLES)
    doodles = vae.generate(SAMPLES, word=asked, timing="joint", temperature=1.0, seed=0)
    points = np.array([sum(len(stroke[0]) for stroke in doodle) for doodle in doodles])
    figures["ended_by_themselves"] = float((points < vae.config.max_seq_len).mean())
    moved = [doodle for doodle, count in zip(doodles, points, strict=True) if count > 1]
    figures["time_panel_at_temperature_1"] = metrics.time_panel(drawings, moved).to_dict("index")
    timings: list[Timing] = ["joint", "retimer"]
    for timing in timings:
        some = vae.generate(TIMED, word=asked and asked[:TIMED], timing=timing, seed=0)
        some = [doodle for doodle in some if duration(doodle) > 0]
        panel = metrics.time_panel(drawings, some)["generated"].to_dict()
        panel["median_seconds"] = float(np.median([duration(doodle) for doodle in some])) / 1000
        figures.setdefault("time_panel_of_doodles", {})[timing] = panel
    figures["median_seconds_of_real"] = float(np.median(list(map(duration, drawings)))) / 1000
    figures["time_pit_from_uniform"] = pit(vae, drawings, words)
    if cnn:
        figures |= judged(vae, checkpoint.load_cnn(cnn), held_out)
    return figures


def words_of(vae: SketchVAE, split: Split, count: int) -> list[str] | None:
    """Words as often as `split`'s timed drawings show them; none for a model without words."""
    if not vae.word_size:
        return None
    words = np.array(split.classes)[split.words[split.timed]]
    return np.random.default_rng(0).choice(words, count).tolist()


def pit(vae: SketchVAE, drawings: Sequence, words: Sequence[str]) -> dict[str, float]:
    """Kolmogorov-Smirnov distance of the probability integral transform from uniform; 0 is best."""
    parts = [
        vae.time_pit(drawings[i : i + 100], word=words[i : i + 100] if vae.word_size else None)
        for i in range(0, len(drawings), 100)
    ]
    kinds = zip(("segment_time", "pause_time"), zip(*parts, strict=True), strict=True)
    return {
        kind: float(stats.kstest(np.concatenate(values), "uniform").statistic)
        for kind, values in kinds
    }


def judged(vae: SketchVAE, cnn: checkpoint.DoodleCNN, held_out: Split) -> dict[str, Any]:
    """Accuracy of a classifier of real drawings on doodles of the default options.

    The share of each of its words that it names rightly, of doodles and of real drawings held out,
    and the Frechet distance of doodles from real ones in its last features, with the distance
    between two halves of the real ones as floor.
    """
    own = np.array(held_out.classes)[held_out.words]
    doodles, real, shares = [], [], {}
    for index, word in enumerate(cnn.words):
        drawn = vae.generate(OF_A_WORD, word=word, seed=index)
        held = [held_out.drawing(i) for i in np.flatnonzero(own == word)[:HELD_OUT]]
        shares[word] = {
            name: float((cnn.predict(some).argmax(1) == index).mean())
            for name, some in (("doodles", drawn), ("real", held))
        }
        doodles += drawn[: HELD_OUT // 2]
        real += held
    features = [cnn.features(some) for some in (doodles, real[::2], real[1::2])]
    return {
        "recognised_by_the_classifier": shares
        | {
            "all": {k: float(np.mean([s[k] for s in shares.values()])) for k in ("doodles", "real")}
        },
        "frechet_distance": {
            "doodles": frechet_distance(features[0], features[1]),
            "floor": frechet_distance(features[1], features[2]),
        },
    }


def evaluate_retimer(
    model: Path, store: Path, seconds: Path | None, others: Path | None
) -> dict[str, Any]:
    """Log-likelihood beside the baselines, and distance of its times from people's.

    For the likelihood the points are those of the store. To be retimed, a drawing keeps only the
    points that its geometry needs: the others would say where the pen slowed down.
    """
    retimer = checkpoint.load_retimer(model)
    train, held_out = load_split(store, "train"), load_split(store, "valid")
    rows, judged_rows = timed_rows(train), timed_rows(held_out)
    laws = baselines.time_baselines(rows, judged_rows).to_dict("index")
    figures: dict[str, Any] = {"held_out_timed_drawings": len(judged_rows)}
    figures["nats_per_event"] = laws | {"retimer": retimer_nats(retimer, judged_rows)}

    rdp = retimer.simplification | {"method": "rdp"}
    shapes = {
        name: [to_stroke4(simplify(from_stroke4(drawing), **rdp)) for drawing in some]
        for name, some in (("train", rows), ("held out", judged_rows))
    }
    real, rng = [from_stroke4(drawing) for drawing in shapes["held out"]], np.random.default_rng(0)
    constant, regression = ConstantSpeed(shapes["train"]), baselines.log_linear(shapes["train"])
    timed = {
        "constant speed": [from_stroke4(constant.retime(one)) for one in shapes["held out"]],
        "log-linear regression": [
            from_stroke4(sampled_times(regression, one, rng)) for one in shapes["held out"]
        ],
        "retimer": [retimer.retime(drawing, seed=i) for i, drawing in enumerate(real)],
        "retimer, likeliest": [retimer.retime(drawing, temperature=0) for drawing in real],
    }
    figures["retimed"] = {name: timing(real, some) for name, some in timed.items()}
    if seconds:
        figures["pen_down_seconds"] = pen_down_seconds(retimer, store, seconds)
    if others:
        figures[others.stem] = elsewhere(retimer, rows, others)
    return figures


def pen_down_seconds(retimer: Retimer, store: Path, table: Path) -> dict[str, float]:
    """How well the retimer foretells the time with the pen down of drawings that carry none.

    Of the drawings of `store` that the table names, some of those that no split has with times: the
    retimer has seen none of them.
    """
    known = pd.read_csv(table, dtype={"key_id": str}).set_index("key_id")["pen_down_seconds_floor"]
    splits = [load_split(store, part) for part in ("train", "valid", "test")]
    seen = {str(split.key_id(i)) for split in splits for i in np.flatnonzero(split.timed)}
    drawings, true = [], []
    for split in splits:
        for i in np.flatnonzero(~split.timed & (split.lengths > 1)):
            key = str(split.key_id(i))
            if key in known.index and key not in seen:
                drawings.append(split.drawing(i))
                true.append(known[key] + 0.5)  # rounded down
    chosen = np.random.default_rng(0).permutation(len(drawings))[:UNTIMED]
    drawings, true = [drawings[i] for i in chosen], [true[i] for i in chosen]
    timed = retime_in_parts(retimer, drawings)
    drawn = np.array([sum(t[-1] - t[0] for *_, t in one) for one in timed]) / 1000
    long = np.array([sum(_length(to_stroke4([s])[1:]).sum() for s in one) for one in drawings])
    return {
        "drawings": len(drawings),
        "rank_correlation": float(stats.spearmanr(drawn, true).statistic),
        "rank_correlation_of_drawn_length": float(stats.spearmanr(long, true).statistic),
        "median_ratio": float(np.median(drawn / np.array(true))),
    }


def elsewhere(
    retimer: Retimer, train: Sequence[np.ndarray], path: Path
) -> dict[str, float | dict[str, Any]]:
    """Likelihood and distance of times for timed drawings of another kind, never trained on."""
    drawings = [simplify(one.drawing, **retimer.simplification) for one in formats.read(path)]
    rows = [to_stroke4(one) for one in drawings if sum(len(stroke[0]) for stroke in one) > 1]
    rows = [one for one in rows if len(one) <= retimer.config.max_seq_len]
    laws = baselines.time_baselines(train, rows).to_dict("index")
    real = [simplify(one, **retimer.simplification | {"method": "rdp"}) for one in drawings]
    real = [one for one in real if duration(one) > 0]
    return {
        "drawings": len(rows),
        "nats_per_event": laws | {"retimer": retimer_nats(retimer, rows)},
        "retimed": timing(real, retime_in_parts(retimer, real)),
    }


def retime_in_parts(retimer: Retimer, drawings: Sequence) -> list:
    """`Retimer.retime_all` of many drawings, with a bar."""
    parts = tqdm(range(0, len(drawings), AT_ONCE), desc="retimed")
    return [one for i in parts for one in retimer.retime_all(drawings[i : i + AT_ONCE], seed=i)]


def retimer_nats(retimer: Retimer, rows: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean negative log-likelihood of a segment's and of a pause's time."""
    sums: Counter[str] = Counter()
    for i in range(0, len(rows), 100):
        some = rows[i : i + 100]
        batch = collate_drawings(some, words=np.zeros(len(some), dtype=int), scale=retimer.scale)
        with torch.no_grad():
            nats, *kinds = retimer.step_log_likelihood(batch)
        for kind, own in zip(("segment_time", "pause_time"), kinds, strict=True):
            sums[kind] -= float(nats[own].sum())
            sums[f"{kind}_count"] += int(own.sum())
    return {kind: sums[kind] / sums[f"{kind}_count"] for kind in ("segment_time", "pause_time")}


def timing(real: Sequence, timed: Sequence) -> dict[str, float]:
    """Distances of times of drawings from their true ones."""
    table = metrics.distances(real, timed)
    errors = [
        abs(duration(a) - duration(b)) / duration(b) for a, b in zip(timed, real, strict=True)
    ]
    return {
        "median_relative_error_of_duration": float(np.median(errors)),
        "log_speed_jsd": table.loc["log_speed", "jsd"],
        "log_pause_jsd": table.loc["log_pause", "jsd"],
    }


def evaluate_cnn(model: Path, store: Path) -> dict[str, Any]:
    """Accuracy and calibration on the test split, and speed."""
    cnn = checkpoint.load_cnn(model)
    test = load_split(store, "test")
    drawings = [test.drawing(i) for i in range(len(test))]
    probabilities = cnn.predict(drawings)
    report, _ = metrics.classification(np.asarray(test.words), probabilities, cnn.words)
    recall = report["recall"][list(cnn.words)]
    pictures = to_images(drawings[:256], cnn.config)
    return {
        "test_drawings": len(test),
        "test_accuracy": report.loc["accuracy", "recall"],
        "test_top_3": report.loc["top 3", "recall"],
        "recall_mean_of_words": recall.mean(),
        "recall"
        if len(recall) <= SHOWN
        else f"recall_of_the_weakest_{SHOWN}": recall.sort_values()[:SHOWN].to_dict(),
        "expected_calibration_error": metrics.calibration_error(
            metrics.calibration(np.asarray(test.words), probabilities)
        ),
        "temperature": cnn.temperature.item(),
        "parameters": sum(p.numel() for p in cnn.parameters()),
        "ms_of_a_core_one_drawing": 1000 * core_seconds(lambda: cnn.predict(drawings[:1])),
        "images_a_second_of_a_core": len(pictures) / core_seconds(lambda: cnn.predict(pictures)),
    }


def core_seconds(work: Callable[[], object], *, times: int = 9) -> float:
    """Processor time of one call of `work`, which a busy machine hardly changes; the median."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return float(np.median(seconds))


def rounded(value: Any) -> Any:
    """The figures, rounded to four decimals."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(float(value), 4) if isinstance(value, float) else value


def main() -> None:
    """Print the figures, and put them into the card if one is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("rnn", "retime", "cnn"))
    parser.add_argument("model", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--cnn", type=Path, help="classifier that judges a VAE's doodles")
    parser.add_argument("--seconds", type=Path, help="true seconds of drawings without times")
    parser.add_argument("--others", type=Path, help="timed drawings of another kind")
    parser.add_argument("--figures", type=Path, help="JSON whose key 'figures' is replaced")
    options = parser.parse_args()
    if options.kind == "rnn":
        figures = evaluate_vae(options.model, options.store, options.cnn)
    elif options.kind == "retime":
        figures = evaluate_retimer(options.model, options.store, options.seconds, options.others)
    else:
        figures = evaluate_cnn(options.model, options.store)
    figures = rounded(figures)
    print(json.dumps(figures, indent=2))
    if options.figures:
        card = json.loads(options.figures.read_text()) if options.figures.exists() else {}
        options.figures.write_text(json.dumps(card | {"figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
