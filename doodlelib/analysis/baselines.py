"""Simple models of time, which a sequence model must beat: Gaussian, log-normal, regression.

Each gives p(dt | geometry of the move, what came before), segments and pauses apart. It is fitted
on training drawings and judged on others by the negative log-likelihood in nats an event, with the
density in ms; lower is better. Drawings are stroke-4; n moves.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from doodlelib.strokes import DT, DX, DY, MIN_DT, PEN

MIN_LENGTH = 0.5  # px: the log of a length needs one above zero
Rows = Float[np.ndarray, "_ 4"]  # of one drawing


def time_baselines(train: Sequence[Rows], test: Sequence[Rows]) -> pd.DataFrame:
    """Mean negative log-likelihood of the time of a segment and of a pause, under each baseline."""
    from scipy.stats import norm

    dt, _, is_pause = move_features(train)
    dt_test, regressors, is_pause_test = move_features(test)
    laws, table = log_linear(train), {}
    for column, pause in (("segment_time", False), ("pause_time", True)):
        fitted, judged = dt[is_pause == pause], dt_test[is_pause_test == pause]
        log_dt, log_test = np.log(fitted), np.log(judged)
        weights, std = laws[pause]
        mean = regressors[is_pause_test == pause] @ weights
        nats = {
            "Gaussian": -norm.logpdf(judged, fitted.mean(), fitted.std()),
            "log-normal": log_test - norm.logpdf(log_test, log_dt.mean(), log_dt.std()),
            "log-linear regression": log_test - norm.logpdf(log_test, mean, std),
        }
        table[column] = {name: float(each.mean()) for name, each in nats.items()}
    return pd.DataFrame(table)


def log_linear(train: Sequence[Rows]) -> dict[bool, tuple[Float[np.ndarray, "6"], float]]:
    """Log-normal times whose mean is linear in the geometry of the move and in the times before it.

    For segments (False) and pauses the weights of the regressors, and the std about the mean.
    """
    dt, regressors, is_pause = move_features(train)
    laws = {}
    for pause in (False, True):
        log_dt, x = np.log(dt[is_pause == pause]), regressors[is_pause == pause]
        weights, *_ = np.linalg.lstsq(x, log_dt, rcond=None)
        laws[pause] = weights, float((log_dt - x @ weights).std())
    return laws


def move_features(
    drawings: Sequence[Rows],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n 6"], Bool[np.ndarray, " n"]]:
    """Time (ms), regressors and whether it is a pause, of every move of all drawings.

    Regressors are 1, the log length, the turn (radians; 0 for the first move), and of the moves of
    the same kind before it: whether there are none, the log of the last time, the mean log time.
    """
    times, regressors, pauses = [], [], []
    for drawing in drawings:
        moves = drawing[1:].astype(np.float64)
        is_pause = moves[:, PEN] < 0.5
        dt = np.maximum(moves[:, DT], MIN_DT)
        length = np.maximum(np.hypot(moves[:, DX], moves[:, DY]), MIN_LENGTH)
        angle = np.diff(np.arctan2(moves[:, DY], moves[:, DX]), prepend=np.nan)
        turn = np.nan_to_num(np.abs((angle + np.pi) % (2 * np.pi) - np.pi))
        history = np.zeros((len(dt), 3))
        for own in (~is_pause, is_pause):
            before = np.concatenate([[0.0], np.log(dt[own])])[:-1]
            count = np.arange(len(before))
            mean = np.cumsum(before) / np.maximum(count, 1)
            history[own] = np.column_stack([count == 0, before, mean])
        regressors.append(np.column_stack([np.ones(len(dt)), np.log(length), turn, history]))
        times.append(dt)
        pauses.append(is_pause)
    return np.concatenate(times), np.concatenate(regressors), np.concatenate(pauses)
