"""What can be measured on the moves of timed drawings.

n moves, s drawn moves, p lifted moves, d drawing. Rows that are not moves (start, end, padding) are
nowhere counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from doodlelib.strokes import DT, DX, DY, MIN_DT, PEN, to_stroke4

BENDS = 5  # from which a drawing has an exponent of speed and curvature
LEAST_TURN = 0.05  # radians: straighter than that is no bend


@dataclass(frozen=True)
class Measures:
    """What can be measured on the moves of many timed drawings, in px and ms.

    Attributes:
        dx, dy, dt: Of every move.
        log_segment_time, log_speed: Of drawn moves; speed in px per ms.
        log_pause: Of lifted moves.
        log_duration, pen_up_share: Of drawings.
        speed_curvature_exponent: Of drawings with enough bends: the slope of log speed on log
            curvature. About -1/3 in much human drawing (Viviani & Terzuolo 1982).
        length_time_correlation: Of log length and log dt over all drawn moves.
        lag1_autocorrelation: Of log dt of drawn moves that follow one another in a stroke, each
            less its drawing's mean.
    """

    dx: Float[np.ndarray, " n"]
    dy: Float[np.ndarray, " n"]
    dt: Float[np.ndarray, " n"]
    log_segment_time: Float[np.ndarray, " s"]
    log_speed: Float[np.ndarray, " s"]
    log_pause: Float[np.ndarray, " p"]
    log_duration: Float[np.ndarray, " d"]
    pen_up_share: Float[np.ndarray, " d"]
    speed_curvature_exponent: Float[np.ndarray, " c"]
    length_time_correlation: float
    lag1_autocorrelation: float


def measure(drawings: Sequence) -> Measures:
    """Measure timed drawings, taken as they are (simplified or not).

    Raises:
        ValueError: None given, or one is untimed.
    """
    if len(drawings) == 0:
        raise ValueError("no drawings to measure")
    rows = [to_stroke4(drawing) for drawing in drawings]
    moves = np.concatenate([drawing[1:] for drawing in rows])
    if np.isnan(moves[:, DT]).any():
        raise ValueError("untimed drawings have no time to measure")
    owner = np.repeat(np.arange(len(rows)), [len(drawing) - 1 for drawing in rows])
    drawn = moves[:, PEN] > 0.5
    log_dt = np.log(np.maximum(moves[:, DT], MIN_DT))
    log_length = np.log(np.maximum(np.hypot(moves[:, DX], moves[:, DY]), 0.1))
    total = np.bincount(owner, moves[:, DT], minlength=len(rows))
    pen_up = np.bincount(owner, moves[:, DT] * ~drawn, minlength=len(rows))
    mean = np.bincount(owner, log_dt * drawn, minlength=len(rows)) / np.maximum(
        np.bincount(owner, drawn, minlength=len(rows)), 1
    )
    centred = log_dt - mean[owner]
    follows = drawn[1:] & drawn[:-1] & (owner[1:] == owner[:-1])
    return Measures(
        dx=moves[:, DX],
        dy=moves[:, DY],
        dt=moves[:, DT],
        log_segment_time=log_dt[drawn],
        log_speed=(log_length - log_dt)[drawn],
        log_pause=log_dt[~drawn],
        log_duration=np.log(np.maximum(total, MIN_DT)),
        pen_up_share=pen_up / np.maximum(total, MIN_DT),
        speed_curvature_exponent=_exponents(moves, owner, follows),
        length_time_correlation=correlation(log_length[drawn], log_dt[drawn]),
        lag1_autocorrelation=correlation(centred[1:][follows], centred[:-1][follows]),
    )


def _exponents(
    moves: Float[np.ndarray, "n 4"], owner: Int[np.ndarray, " n"], follows: Bool[np.ndarray, " n-1"]
) -> Float[np.ndarray, " c"]:
    """Slope of log speed on log curvature over the bends of each drawing that has enough of them.

    At the point between two drawn moves of a stroke: their joint length by their joint time, and
    the turn by half their joint length.
    """
    before, after = moves[:-1][follows], moves[1:][follows]
    cross = before[:, DX] * after[:, DY] - before[:, DY] * after[:, DX]
    turn = np.abs(np.arctan2(cross, (before[:, :DT] * after[:, :DT]).sum(axis=1)))
    length = np.hypot(before[:, DX], before[:, DY]) + np.hypot(after[:, DX], after[:, DY])
    bend = (turn > LEAST_TURN) & (length > 0)
    who = owner[1:][follows][bend]
    speed = np.log(length[bend] / np.maximum(before[bend, DT] + after[bend, DT], MIN_DT))
    curvature = np.log(2 * turn[bend] / length[bend])
    if not len(who):
        return np.empty(0)
    count = np.bincount(who)

    def centred(values: Float[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
        return values - (np.bincount(who, values) / np.maximum(count, 1))[who]

    product = np.bincount(who, centred(curvature) * centred(speed))
    spread = np.bincount(who, centred(curvature) ** 2)
    enough = (count >= BENDS) & (spread > 0)
    return product[enough] / spread[enough]


def correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Pearson's; NaN where there is no spread."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
