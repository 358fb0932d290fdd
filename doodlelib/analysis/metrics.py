"""How near generated drawings come to real ones, above all in time; and how good a classifier is.

Every distance between two samples stands beside its floor, the same distance between two halves of
the real sample: no figure means anything without it. The halves are smaller samples, and a JSD of
histograms is the larger the fewer there are: a figure below its floor says no more than one at it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from doodlelib.analysis.measures import Measures, measure

BINS = 60
LEAST = 10  # drawings that can be compared: their halves go through five folds
KINDS = ("timing", "shape", "joint")  # of features, by which a classifier tells drawings apart
MARGINALS = (
    "dx",
    "dy",
    "dt",
    "log_segment_time",
    "log_speed",
    "log_pause",
    "log_duration",
    "pen_up_share",
    "speed_curvature_exponent",
)


def jsd(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"], *, bins: int = BINS) -> float:
    """Jensen-Shannon divergence of two samples, bits (0 alike, 1 apart), over one set of bins.

    The bins span both samples but for the outermost 0.1 %, which count in the end bins.
    """
    from scipy.spatial.distance import jensenshannon

    low, high = np.quantile(np.concatenate([a, b]), [0.001, 0.999])
    edges = np.linspace(low, max(high, low + 1e-9), bins + 1)
    counts = [np.histogram(np.clip(x, edges[0], edges[-1]), edges)[0] for x in (a, b)]
    return float(jensenshannon(*counts, base=2) ** 2)


def distances(real: Sequence, generated: Sequence, *, seed: int = 0) -> pd.DataFrame:
    """JSD (bits), Wasserstein-1 and Kolmogorov-Smirnov of each marginal, with floors.

    Args:
        real: Timed drawings.
        generated: Timed drawings.
        seed: Of the halving of `real`.

    Returns:
        A row for each of `MARGINALS`; ``*_floor``: between two halves of `real`.

    Raises:
        ValueError: Fewer than `LEAST` drawings of either, or an untimed one.
    """
    from scipy.stats import ks_2samp, wasserstein_distance

    if min(len(real), len(generated)) < LEAST:
        raise ValueError(
            f"{len(real)} real and {len(generated)} generated drawings are too few to compare; "
            f"{LEAST} of each needed"
        )
    a, b = measure(real), measure(generated)
    half, other = _halves(real, seed)
    table = {}
    for name in MARGINALS:
        pairs = {
            "": (getattr(a, name), getattr(b, name)),
            "_floor": (getattr(half, name), getattr(other, name)),
        }
        table[name] = {}
        for suffix, (x, y) in pairs.items():
            if not len(x) or not len(y):
                table[name] |= {f"{key}{suffix}": np.nan for key in ("jsd", "w1", "ks")}
                continue
            table[name] |= {
                f"jsd{suffix}": jsd(x, y),
                f"w1{suffix}": float(wasserstein_distance(x, y)),
                f"ks{suffix}": float(ks_2samp(x, y).statistic),
            }
    return pd.DataFrame.from_dict(table, orient="index")


def time_panel(real: Sequence, generated: Sequence, *, seed: int = 0) -> pd.DataFrame:
    """The panel by which timing is judged: no one figure can be fooled without another showing it.

    Constant speed passes the marginals of duration, shuffled times pass those of dt; correlations
    and the two-sample tests catch both.

    Args:
        real: Timed drawings, held out.
        generated: Timed drawings.
        seed: Of the halving of `real` and of the two-sample tests.

    Returns:
        Rows ``statistic`` with ``real``, ``generated``, ``floor``: JSDs in bits have real 0 and
        the floor between two halves of `real`; correlations the value of each, and the difference
        of the halves; AUCs of a classifier that tells generated from real (0.5 is best), and what
        it reaches on two halves of `real`.

    Raises:
        ValueError: See `distances`.

    Source: Lopez-Paz & Oquab 2017 (arXiv 1610.06545), classifier two-sample tests.
    """
    table = distances(real, generated, seed=seed)
    a, b = measure(real), measure(generated)
    half, other = _halves(real, seed)
    rows = {
        f"{name} JSD": (0.0, table.loc[name, "jsd"], table.loc[name, "jsd_floor"])
        for name in MARGINALS
    }
    for name in ("length_time_correlation", "lag1_autocorrelation"):
        spread = abs(getattr(half, name) - getattr(other, name))
        rows[name] = (getattr(a, name), getattr(b, name), spread)
    middle = np.random.default_rng(seed).permutation(len(real))
    halves = [[real[i] for i in part] for part in np.array_split(middle, 2)]
    for kind in KINDS:
        auc = two_sample_auc(real, generated, kind=kind, seed=seed)
        rows[f"{kind} AUC"] = (0.5, auc, two_sample_auc(*halves, kind=kind, seed=seed))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["real", "generated", "floor"])


def two_sample_auc(a: Sequence, b: Sequence, *, kind: str, seed: int = 0) -> float:
    """Cross-validated AUC of a classifier that tells drawings of `a` from those of `b`.

    Args:
        a: Timed drawings.
        b: Timed drawings.
        kind: Which features: "timing", "shape" or "joint".
        seed: Of classifier and folds.

    Raises:
        ValueError: Another `kind`; none given, or one is untimed.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    x = np.array([_features(drawing, kind) for drawing in (*a, *b)])
    y = np.repeat([0, 1], [len(a), len(b)])
    classifier = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=8, early_stopping=False, random_state=seed
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return float(
        roc_auc_score(
            y, cross_val_predict(classifier, x, y, cv=folds, method="predict_proba")[:, 1]
        )
    )


def frechet_distance(a: Float[np.ndarray, "n f"], b: Float[np.ndarray, "m f"]) -> float:
    """Frechet distance of the normal distributions fitted to two samples of features.

    Source: Heusel et al. 2017 (arXiv 1706.08500), eq. 6; there in an Inception network's features.
    """
    from scipy.linalg import sqrtm

    mean = [x.mean(axis=0) for x in (a, b)]
    covariance = [np.cov(x, rowvar=False) for x in (a, b)]
    root = sqrtm(covariance[0] @ covariance[1])
    return float(((mean[0] - mean[1]) ** 2).sum() + np.trace(sum(covariance) - 2 * root.real))


def classification(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n w"], words: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Precision, recall, F1 and support of each word with their averages, and the confusion matrix.

    Args:
        labels: Index of each drawing's word.
        probabilities: Of each word.
        words: Their names.

    Returns:
        The report, whose row "accuracy" holds the share named rightly and whose row "top 3" that
        whose word is among the three likeliest; and counts, true words in rows, predicted in
        columns.
    """
    from sklearn.metrics import classification_report, confusion_matrix

    predicted = probabilities.argmax(axis=1)
    numbers = list(range(len(words)))
    report = classification_report(
        labels, predicted, labels=numbers, target_names=words, output_dict=True, zero_division=0
    )
    likeliest = np.argsort(probabilities, axis=1)[:, -3:]
    for row, right in {
        "accuracy": predicted == labels,
        "top 3": (likeliest == labels[:, None]).any(axis=1),
    }.items():
        shares = dict.fromkeys(("precision", "recall", "f1-score"), float(right.mean()))
        report[row] = shares | {"support": len(labels)}
    matrix = confusion_matrix(labels, predicted, labels=numbers)
    return pd.DataFrame(report).T, pd.DataFrame(matrix, index=list(words), columns=list(words))


def calibration(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n w"], *, bins: int = 15
) -> pd.DataFrame:
    """How often the likeliest word is right, by how likely it was said to be.

    Args:
        labels: Index of each drawing's word.
        probabilities: Of each word.
        bins: Of equal width from 0 to 1; those without a drawing are left out.

    Returns:
        Rows with ``confidence`` (mean probability), ``accuracy`` and ``count``, by the lower edge.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    table = pd.DataFrame(
        {
            "confidence": confidence,
            "accuracy": (probabilities.argmax(axis=1) == labels).astype(np.float64),
            "count": 1,
        }
    )
    lower = np.minimum((confidence * bins).astype(int), bins - 1) / bins
    how = {"confidence": "mean", "accuracy": "mean", "count": "sum"}
    return table.groupby(pd.Index(lower, name="from")).agg(how)


def calibration_error(table: pd.DataFrame) -> float:
    """Mean distance of confidence and accuracy over the drawings of `calibration`'s table; 0 best.

    Source: Guo et al. 2017 (arXiv 1706.04599), eq. 3 (ECE).
    """
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float((gaps * table["count"]).sum() / table["count"].sum())


def _features(drawing: Sequence, kind: str) -> list[float]:
    """Numbers that sum up one drawing, for the two-sample tests."""
    measures = measure([drawing])
    timing = [measures.log_duration[0], measures.pen_up_share[0], measures.lag1_autocorrelation]
    for name in ("log_segment_time", "log_pause"):
        timing += _quantiles(getattr(measures, name))
    length = np.hypot(measures.dx, measures.dy)
    shape = [float(len(drawing)), float(len(length)), *_quantiles(length)]
    shape += [*_quantiles(measures.dx), *_quantiles(measures.dy)]
    joint = [measures.length_time_correlation, *_quantiles(measures.log_speed)]
    return {"timing": timing, "shape": shape, "joint": timing + shape + joint}[kind]


def _quantiles(values: Float[np.ndarray, " n"]) -> list[float]:
    return list(np.quantile(values, [0.1, 0.5, 0.9])) if len(values) else [np.nan] * 3


def _halves(drawings: Sequence, seed: int) -> tuple[Measures, Measures]:
    order = np.random.default_rng(seed).permutation(len(drawings))
    first, second = (
        measure([drawings[index] for index in part]) for part in np.array_split(order, 2)
    )
    return first, second
