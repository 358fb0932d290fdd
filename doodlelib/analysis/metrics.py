"""Statistics of timed drawings, distances of generated drawings from real ones, classifier reports.

Every distance between two sets of drawings comes with its *floor*: the same distance between two
random halves of the real set. A figure below its floor says no more than one at it, since the
halves are smaller samples.

n moves, s pen-down moves (segments), p pen-up moves (pauses), d drawings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from doodlelib.strokes import DT, DX, DY, MIN_DT, PEN, Drawing, to_stroke4

if TYPE_CHECKING:
    from doodlelib.models.vae import SketchVAE

BINS = 60  # of a histogram that enters a JSD
MIN_DRAWINGS = 10  # of each set in a comparison: each half goes through five folds
MIN_BENDS = 5  # of a drawing whose speed-curvature exponent is estimated
MIN_TURN = 0.05  # radians: a smaller turn is no bend
MIN_LENGTH = 0.1  # px: the log of a length needs one above zero


@dataclass(frozen=True)
class Measures:
    """Movement statistics of a set of timed drawings, in px and ms; logs are natural."""

    dx: Float[np.ndarray, " n"]
    dy: Float[np.ndarray, " n"]
    dt: Float[np.ndarray, " n"]
    log_segment_time: Float[np.ndarray, " s"]
    log_speed: Float[np.ndarray, " s"]
    log_pause: Float[np.ndarray, " p"]
    log_duration: Float[np.ndarray, " d"]
    pen_up_share: Float[np.ndarray, " d"]
    # slope of log speed on log curvature: -1/3 in much human drawing (Viviani & Terzuolo 1982)
    speed_curvature_exponent: Float[np.ndarray, " c"]
    length_time_correlation: float  # of the logs, over pen-down moves
    lag1_autocorrelation: float  # of log dt, less its drawing's mean, within strokes


MARGINALS = tuple(field.name for field in fields(Measures) if field.type is not float)


def measure(drawings: Sequence) -> Measures:
    """Movement statistics of timed drawings (else ValueError), simplified or not."""
    if len(drawings) == 0:
        raise ValueError("no drawings to measure")
    rows = [to_stroke4(drawing) for drawing in drawings]
    moves = np.concatenate([drawing[1:] for drawing in rows])
    if np.isnan(moves[:, DT]).any():
        raise ValueError("untimed drawings have no time to measure")
    owner = np.repeat(np.arange(len(rows)), [len(drawing) - 1 for drawing in rows])
    pen_down = moves[:, PEN] > 0.5
    log_dt = np.log(np.maximum(moves[:, DT], MIN_DT))
    log_length = np.log(np.maximum(np.hypot(moves[:, DX], moves[:, DY]), MIN_LENGTH))
    total, pen_up_time, log_times, segments = (
        np.bincount(owner, values, minlength=len(rows))
        for values in (moves[:, DT], moves[:, DT] * ~pen_down, log_dt * pen_down, pen_down)
    )
    centred = log_dt - (log_times / np.maximum(segments, 1))[owner]
    follows = pen_down[1:] & pen_down[:-1] & (owner[1:] == owner[:-1])
    return Measures(
        dx=moves[:, DX],
        dy=moves[:, DY],
        dt=moves[:, DT],
        log_segment_time=log_dt[pen_down],
        log_speed=(log_length - log_dt)[pen_down],
        log_pause=log_dt[~pen_down],
        log_duration=np.log(np.maximum(total, MIN_DT)),
        pen_up_share=pen_up_time / np.maximum(total, MIN_DT),
        speed_curvature_exponent=_exponents(moves, owner, follows),
        length_time_correlation=_correlation(log_length[pen_down], log_dt[pen_down]),
        lag1_autocorrelation=_correlation(centred[1:][follows], centred[:-1][follows]),
    )


def _exponents(
    moves: Float[np.ndarray, "n 4"], owner: Int[np.ndarray, " n"], follows: Bool[np.ndarray, " n-1"]
) -> Float[np.ndarray, " c"]:
    """Least-squares slope of log speed on log curvature of each drawing with enough bends."""
    before, after = moves[:-1][follows], moves[1:][follows]
    cross = before[:, DX] * after[:, DY] - before[:, DY] * after[:, DX]
    turn = np.abs(np.arctan2(cross, (before[:, :DT] * after[:, :DT]).sum(axis=1)))
    length = np.hypot(before[:, DX], before[:, DY]) + np.hypot(after[:, DX], after[:, DY])
    bend = (turn > MIN_TURN) & (length > 0)
    drawing = owner[1:][follows][bend]
    speed = np.log(length[bend] / np.maximum(before[bend, DT] + after[bend, DT], MIN_DT))
    curvature = np.log(2 * turn[bend] / length[bend])
    count = np.bincount(drawing)

    def mean(values: Float[np.ndarray, " b"]) -> Float[np.ndarray, " d"]:
        return np.bincount(drawing, values) / np.maximum(count, 1)

    covariance = mean(curvature * speed) - mean(curvature) * mean(speed)
    variance = mean(curvature**2) - mean(curvature) ** 2
    enough = (count >= MIN_BENDS) & (variance > 1e-9)
    return covariance[enough] / variance[enough]


def _correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Pearson's; NaN where one of them does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def shape_error(before: Sequence, after: Sequence) -> float:
    """How far, at most, a point of the stroke `before` is from its simplified self, `after`."""
    points, corners = (np.stack(stroke[:2], axis=1, dtype=float) for stroke in (before, after))
    chords = np.diff(corners, axis=0, append=corners[-1:])  # the last one is a point
    starts = points[:, None] - corners
    lengths2 = np.maximum((chords**2).sum(axis=1), np.finfo(float).tiny)
    share = np.clip((starts * chords).sum(axis=2) / lengths2, 0, 1)
    gaps = starts - share[..., None] * chords
    return float(np.hypot(gaps[..., 0], gaps[..., 1]).min(axis=1).max())


def speed_profile(
    stroke: Sequence, *, step_ms: float = 20.0
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """End (s) of each step of `step_ms`, and the pen's mean speed in it (px/s), over a stroke.

    A stroke ``[x, y, t]`` and its simplified self have the same steps. ValueError: it is untimed.
    """
    x, y, t = _timed(stroke)
    clock = np.arange(t[0], t[-1] + step_ms, step_ms)
    moved = [np.diff(np.interp(clock, t, axis)) for axis in (x, y)]
    return clock[1:] / 1000, 1000 * np.hypot(*moved) / step_ms


def speed_and_curvature(
    stroke: Sequence, *, step_ms: float = 10.0, smoothing_ms: float = 25.0
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Speed (px/s) and curvature (1/px) along a stroke ``[x, y, t]`` (px, ms), every `step_ms`.

    The path is smoothed by a Gaussian, for derivatives of whole pixels are noise. The outer three
    steps, which lack neighbours, are left out; a stroke of fewer than eight gives empty arrays.
    """
    from scipy.ndimage import gaussian_filter1d

    x, y, t = _timed(stroke)
    clock = np.arange(t[0], t[-1], step_ms)
    if len(clock) < 8:
        return np.empty(0), np.empty(0)
    xy = [gaussian_filter1d(np.interp(clock, t, axis), smoothing_ms / step_ms) for axis in (x, y)]
    (dx, dy), (ddx, ddy) = np.gradient(xy, axis=1), np.gradient(np.gradient(xy, axis=1), axis=1)
    speed = np.maximum(np.hypot(dx, dy), 1e-6)  # px a step
    curvature = np.abs(dx * ddy - dy * ddx) / speed**3
    return (1000 / step_ms * speed)[3:-3], curvature[3:-3]


def _timed(stroke: Sequence) -> list[Float[np.ndarray, " n"]]:
    if len(stroke) != 3:
        raise ValueError(f"a timed stroke is [x, y, t], this one has {len(stroke)} rows")
    return [np.asarray(values, dtype=np.float64) for values in stroke]


def jsd(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"]) -> float:
    """Jensen-Shannon divergence of two samples, bits (0 equal, 1 disjoint), over common bins."""
    from scipy.spatial.distance import jensenshannon

    low, high = np.quantile(np.concatenate([a, b]), [0.001, 0.999])
    edges = np.linspace(low, max(high, low + 1e-9), BINS + 1)
    counts = [np.histogram(np.clip(x, edges[0], edges[-1]), edges)[0] for x in (a, b)]
    return float(jensenshannon(*counts, base=2) ** 2)


def distances(real: Sequence, generated: Sequence, *, seed: int = 0) -> pd.DataFrame:
    """JSD, Wasserstein-1 and Kolmogorov-Smirnov distance of each marginal, with floors.

    Returns:
        One row for each of `MARGINALS`; columns ``jsd`` (bits), ``w1`` (the marginal's unit),
        ``ks``, and the floor of each as ``*_floor``. NaN where a set has no such moves.

    Raises:
        ValueError: A set has fewer than `MIN_DRAWINGS` drawings, or an untimed one.
    """
    if min(len(real), len(generated)) < MIN_DRAWINGS:
        raise ValueError(
            f"{len(real)} real and {len(generated)} generated drawings are too few to compare; "
            f"{MIN_DRAWINGS} of each needed"
        )
    table = _distances(measure(real), measure(generated))
    floors = _distances(*map(measure, _halves(real, seed)))
    return table.join(floors.add_suffix("_floor"))


def _distances(a: Measures, b: Measures) -> pd.DataFrame:
    from scipy.stats import ks_2samp, wasserstein_distance

    how = {"jsd": jsd, "w1": wasserstein_distance, "ks": lambda *pair: ks_2samp(*pair).statistic}
    table = pd.DataFrame(np.nan, MARGINALS, [*how])
    for name in MARGINALS:
        pair = getattr(a, name), getattr(b, name)
        if all(map(len, pair)):
            table.loc[name] = [distance(*pair) for distance in how.values()]
    return table


def time_panel(real: Sequence, generated: Sequence, *, seed: int = 0) -> pd.DataFrame:
    """The panel by which timing is judged: JSD of marginals, correlations, two-sample tests.

    Constant speed passes the marginals of duration, shuffled times pass those of dt; the rest
    catches both. `real` is held out. ValueError: as `distances`.

    Returns:
        One row for each statistic, columns ``real``, ``generated`` and ``floor``: for a JSD (bits)
        0, the distance, and that between halves of `real`; for a correlation both values, and the
        difference between halves; for an AUC 0.5, its value, and its value on the halves.
    """
    table = distances(real, generated, seed=seed)
    halves = _halves(real, seed)
    a, b, half, other = (measure(some) for some in (real, generated, *halves))
    rows = {
        f"{name} JSD": (0.0, table.loc[name, "jsd"], table.loc[name, "jsd_floor"])
        for name in MARGINALS
    }
    for name in ("length_time_correlation", "lag1_autocorrelation"):
        difference = abs(getattr(half, name) - getattr(other, name))
        rows[name] = (getattr(a, name), getattr(b, name), difference)
    floors = two_sample_auc(*halves, seed=seed)
    for features, auc in two_sample_auc(real, generated, seed=seed).items():
        rows[f"{features} AUC"] = (0.5, auc, floors[features])
    return pd.DataFrame.from_dict(rows, orient="index", columns=["real", "generated", "floor"])


def two_sample_auc(a: Sequence, b: Sequence, *, seed: int = 0) -> dict[str, float]:
    """Cross-validated AUC of classifiers that tell timed drawings of `a` from those of `b`.

    One sees a drawing's "timing", one its "shape", one both and their relation ("joint").

    Source: Lopez-Paz & Oquab 2017 (arXiv 1610.06545), classifier two-sample tests.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    drawings = [_features(drawing) for drawing in (*a, *b)]
    y = np.repeat([0, 1], [len(a), len(b)])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    aucs = {}
    for name in drawings[0]:
        x = np.array([features[name] for features in drawings])
        classifier = HistGradientBoostingClassifier(
            max_iter=60, max_leaf_nodes=8, early_stopping=False, random_state=seed
        )
        scores = cross_val_predict(classifier, x, y, cv=folds, method="predict_proba")[:, 1]
        aucs[name] = float(roc_auc_score(y, scores))
    return aucs


def _features(drawing: Sequence) -> dict[str, list[float]]:
    """Summary statistics of one drawing, for the two-sample tests."""
    measures = measure([drawing])
    timing = [measures.log_duration[0], measures.pen_up_share[0], measures.lag1_autocorrelation]
    timing += [*_quantiles(measures.log_segment_time), *_quantiles(measures.log_pause)]
    length = np.hypot(measures.dx, measures.dy)
    shape = [float(len(drawing)), float(len(length)), *_quantiles(length)]
    shape += [*_quantiles(measures.dx), *_quantiles(measures.dy)]
    joint = [measures.length_time_correlation, *_quantiles(measures.log_speed)]
    return {"timing": timing, "shape": shape, "joint": timing + shape + joint}


def _quantiles(values: Float[np.ndarray, " n"]) -> list[float]:
    return list(np.quantile(values, [0.1, 0.5, 0.9])) if len(values) else [np.nan] * 3


def _halves(drawings: Sequence, seed: int) -> list[list]:
    """The drawings in two random halves."""
    order = np.random.default_rng(seed).permutation(len(drawings))
    return [[drawings[index] for index in part] for part in np.array_split(order, 2)]


def generate_like(
    vae: "SketchVAE", words: Sequence[str], *, n: int, seed: int = 0
) -> list[Drawing]:
    """`n` generated drawings to compare with real ones, whose `words` they share in proportion.

    They have temperature 1, the model's own distribution, which alone may be compared.
    """
    chosen = np.random.default_rng(seed).choice(words, n).tolist()
    return vae.generate(
        n, word=vae.word_or_none(chosen), timing="joint", temperature=1.0, seed=seed
    )


def generation_report(
    vae: "SketchVAE", real: Sequence, words: Sequence[str], *, n: int, epoch: int, path: Path
) -> pd.DataFrame:
    """`distances` of `n` generated drawings from `real` ones, held out, after an `epoch`.

    `words` are those of `real`; the epoch is the seed. The CSV at `path` holds all reports of a
    run; rows of this and later epochs, which a resumed run trains again, are replaced.
    """
    table = distances(real, generate_like(vae, words, n=n, seed=epoch)).assign(epoch=epoch)
    earlier = [pd.read_csv(path, index_col=0)] if path.exists() else []
    pd.concat([*(old[old.epoch < epoch] for old in earlier), table]).to_csv(path)
    return table


def classification(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n w"], words: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Precision, recall, F1 and support of each word with their averages, and the confusion matrix.

    `labels` are indices of the true words. The report has the rows "accuracy" and "top 3" (share of
    drawings whose word is the likeliest, and among the three likeliest); the matrix has true words
    in rows, predicted ones in columns.
    """
    from sklearn.metrics import classification_report, confusion_matrix

    order = np.argsort(-probabilities, axis=1, kind="stable")
    predicted, indices = order[:, 0], list(range(len(words)))
    report = classification_report(
        labels, predicted, labels=indices, target_names=words, output_dict=True, zero_division=0
    )
    for row, count in (("accuracy", 1), ("top 3", 3)):
        right = (order[:, :count] == labels[:, None]).any(axis=1).mean()
        shares = dict.fromkeys(("precision", "recall", "f1-score"), float(right))
        report[row] = shares | {"support": len(labels)}
    matrix = confusion_matrix(labels, predicted, labels=indices)
    return pd.DataFrame(report).T, pd.DataFrame(matrix, index=list(words), columns=list(words))


def calibration(
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n w"],
    *,
    bins: int = 15,
    equal: Literal["width", "count"] = "width",
) -> pd.DataFrame:
    """Accuracy of the likeliest word in bins of its predicted probability (reliability diagram).

    `labels` are indices of the true words; the `bins` have equal width from 0 to 1, or `equal`
    counts of drawings, so that none says much from little. A row for each bin with drawings, by its
    lower edge; columns ``confidence`` (mean probability), ``accuracy``, ``count``.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    table = pd.DataFrame({"confidence": confidence, "accuracy": right, "count": 1})
    lower = np.minimum((confidence * bins).astype(int), bins - 1) / bins
    if equal == "count":
        rank = confidence.argsort(kind="stable").argsort()
        lower = table["confidence"].groupby(rank * bins // len(rank)).transform("min")
    how = {"confidence": "mean", "accuracy": "mean", "count": "sum"}
    return table.groupby(pd.Index(lower, name="from")).agg(how)


def calibration_error(table: pd.DataFrame) -> float:
    """Expected calibration error of such a table (Guo et al. 2017, arXiv 1706.04599, eq. 3)."""
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float((gaps * table["count"]).sum() / table["count"].sum())
