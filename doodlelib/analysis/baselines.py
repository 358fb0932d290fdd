"""Simple models of time, which a sequence model must beat: Gaussian, log-normal, regression.

Each gives p(dt | geometry of the move, what came before), segments and pauses apart. It is fitted
on training drawings and judged on others by the negative log-likelihood in nats an event, with the
density in ms, so that any two models can be compared; lower is better.

Dimensions in annotations: n moves. Rows are stroke-4.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from doodlelib.strokes import DT, DX, DY, MIN_DT, PEN

MIN_LENGTH = 0.5  # px: the log of a length needs one above zero
MAX_TIME = 60_000.0  # ms: a log-normal now and then gives absurd times
Rows = Float[np.ndarray, "_ 4"]  # of one drawing


def time_baselines(train: Sequence[Rows], test: Sequence[Rows]) -> pd.DataFrame:
    """Mean negative log-likelihood of the time of a segment and of a pause, under each baseline.

    Args:
        train: stroke-4 of timed drawings, to fit on.
        test: stroke-4 of timed drawings, to judge on.

    Returns:
        Rows "Gaussian", "log-normal", "log-linear, past pooled" and "log-linear regression" (see
        `LogLinear`); columns "segment_time" and "pause_time", nats an event, density in ms.
    """
    dt, _, is_pause = _moves(train)
    dt_test, _, is_pause_test = _moves(test)
    pooled = LogLinear(train, pooled=True).negative_log_likelihood(test)
    regression = LogLinear(train).negative_log_likelihood(test)
    table: dict[str, dict[str, float]] = {}
    for column, pause in (("segment_time", False), ("pause_time", True)):
        fitted, judged = dt[is_pause == pause], dt_test[is_pause_test == pause]
        log_dt, log_test = np.log(fitted), np.log(judged)
        rows = {
            "Gaussian": _normal_nll(judged, fitted.mean(), fitted.std()),
            "log-normal": _normal_nll(log_test, log_dt.mean(), log_dt.std()) + log_test,
            "log-linear, past pooled": pooled[is_pause_test == pause],
            "log-linear regression": regression[is_pause_test == pause],
        }
        for name, nll in rows.items():
            table.setdefault(name, {})[column] = float(nll.mean())
    return pd.DataFrame.from_dict(table, orient="index")


time_ladder = time_baselines  # its name in version 0.1


class LogLinear:
    """Log-normal times whose mean is linear in the geometry of the move and in the times before it.

    Regressors are the log distance, the turn, the log of the previous time and the mean log time
    so far (both of moves of the same kind, with an indicator where there is none yet).

    Args:
        train: stroke-4 of timed drawings, to fit on.
        pooled: Take previous times from segments and pauses alike, which predicts worse.
    """

    def __init__(self, train: Sequence[Rows], *, pooled: bool = False) -> None:
        self.pooled = pooled
        dt, regressors, is_pause = _moves(train, pooled=pooled)
        self.weights, self.std = {}, {}
        for pause in (False, True):
            log_dt, x = np.log(dt[is_pause == pause]), regressors[is_pause == pause]
            self.weights[pause], *_ = np.linalg.lstsq(x, log_dt, rcond=None)
            self.std[pause] = float((log_dt - x @ self.weights[pause]).std())

    def negative_log_likelihood(self, test: Sequence[Rows]) -> Float[np.ndarray, " n"]:
        """Of the time of each move of all drawings, nats, density in ms."""
        dt, regressors, is_pause = _moves(test, pooled=self.pooled)
        log_dt, nll = np.log(dt), np.empty(len(dt))
        for pause in (False, True):
            own = is_pause == pause
            mean = regressors[own] @ self.weights[pause]
            nll[own] = _normal_nll(log_dt[own], mean, self.std[pause])
        return nll + log_dt

    def retime(self, rows: Rows, *, rng: np.random.Generator) -> Rows:
        """The drawing with sampled times, each given those before it; its own do not matter."""
        rows = rows.astype(np.float64)
        rows[1:, DT] = MIN_DT
        geometry, is_pause = _geometry(rows), rows[:, PEN] < 0.5
        log_dt: dict[bool, list[float]] = {False: [], True: []}
        for step in range(1, len(rows)):
            pause = bool(is_pause[step])
            past = log_dt[pause and not self.pooled]
            history = [0.0, past[-1], np.mean(past)] if past else [1.0, 0.0, 0.0]
            mean = np.concatenate([geometry[step - 1], history]) @ self.weights[pause]
            past.append(float(mean + self.std[pause] * rng.normal()))
            rows[step, DT] = np.clip(np.exp(past[-1]), MIN_DT, MAX_TIME)
        return rows


def _moves(
    drawings: Sequence[Rows], *, pooled: bool = False
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n 6"], Bool[np.ndarray, " n"]]:
    """Time (ms), regressors and whether it is a pause, of every move of all drawings."""
    times, regressors, pauses = [], [], []
    for drawing in drawings:
        rows = drawing.astype(np.float64)
        is_pause = rows[1:, PEN] < 0.5
        dt = np.maximum(rows[1:, DT], MIN_DT)
        history = np.zeros((len(dt), 3))  # none yet, the time before, the mean so far; logs
        for own in [np.ones_like(is_pause)] if pooled else [~is_pause, is_pause]:
            log_dt = np.log(dt[own])
            count = np.arange(len(log_dt))
            before = np.concatenate([[0.0], log_dt])[:-1]
            mean = np.cumsum(before) / np.maximum(count, 1)
            history[own] = np.column_stack([count == 0, before, mean])
        regressors.append(np.column_stack([_geometry(rows), history]))
        times.append(dt)
        pauses.append(is_pause)
    return np.concatenate(times), np.concatenate(regressors), np.concatenate(pauses)


def _geometry(rows: Rows) -> Float[np.ndarray, "n 3"]:
    """1, log length and turn (radians) of each move; the first has no turn."""
    moves = rows[1:]
    angle = np.diff(np.arctan2(moves[:, DY], moves[:, DX]), prepend=np.nan)
    turn = np.nan_to_num(np.abs((angle + np.pi) % (2 * np.pi) - np.pi))
    return np.column_stack([np.ones(len(moves)), np.log(_length(moves)), turn])


def _length(moves: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    return np.maximum(np.hypot(moves[:, DX], moves[:, DY]), MIN_LENGTH)


def _normal_nll(
    values: Float[np.ndarray, " n"], mean: float | Float[np.ndarray, " n"], std: float
) -> Float[np.ndarray, " n"]:
    """Negative log-likelihood of `values` under a normal distribution, nats."""
    return 0.5 * ((values - mean) / std) ** 2 + np.log(std * np.sqrt(2 * np.pi))
