"""What simple laws of time are worth: the steps that a sequence model must climb above.

Each law gives p(dt | where the move went, what came before), segments and pauses apart, fitted on
the training drawings and judged on others. Nats an event, density in ms, so that any two models can
be compared; lower is better. Two of them can also time a shape.

n moves, d drawing.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from doodlelib.strokes import DT, DX, DY, MIN_DT, PEN

LEAST_LENGTH = 0.5  # px; the log of a length needs one above zero
MOST_TIME = 60_000.0  # ms: a law of the logarithm now and then gives absurd times
Rows = Float[np.ndarray, "_ 4"]  # stroke-4 of one drawing


def time_ladder(train: Sequence[Rows], test: Sequence[Rows]) -> pd.DataFrame:
    """Mean negative log-likelihood of the time of a segment and of a pause.

    Args:
        train: stroke-4 of timed drawings, to fit on.
        test: stroke-4 of timed drawings, to judge on.

    Returns:
        Rows "Gaussian", "log-normal", "log-linear, past pooled" and "log-linear regression" (see
        `LogLinear`); columns "segment_time" and "pause_time".
    """
    dt, _, lifted = _events(train)
    dt_test, _, lifted_test = _events(test)
    pooled = LogLinear(train, pooled=True).nats(test)
    regression = LogLinear(train).nats(test)
    table: dict[str, dict[str, float]] = {}
    for name, kind in (("segment_time", False), ("pause_time", True)):
        fitted, judged = dt[lifted == kind], dt_test[lifted_test == kind]
        log_dt, log_test = np.log(fitted), np.log(judged)
        rows = {
            "Gaussian": _nats(judged, fitted.mean(), fitted.std()),
            "log-normal": _nats(log_test, log_dt.mean(), log_dt.std()) + log_test,
            "log-linear, past pooled": pooled[lifted_test == kind],
            "log-linear regression": regression[lifted_test == kind],
        }
        for law, nats in rows.items():
            table.setdefault(law, {})[name] = float(nats.mean())
    return pd.DataFrame.from_dict(table, orient="index")


class LogLinear:
    """A log-normal whose mean is linear in what is known of the move and of the times before it.

    The log distance, the turn, the log of the time before and the mean log time so far (both of
    the move's own kind, with an indicator where there is none yet).

    Args:
        train: stroke-4 of timed drawings, to fit on.
        pooled: Times before are those of moves of either kind, which foretells less.
    """

    def __init__(self, train: Sequence[Rows], *, pooled: bool = False) -> None:
        self.pooled = pooled
        dt, x, lifted = _events(train, pooled=pooled)
        self.weights, self.spread = {}, {}
        for kind in (False, True):
            log_dt, known = np.log(dt[lifted == kind]), x[lifted == kind]
            self.weights[kind], *_ = np.linalg.lstsq(known, log_dt, rcond=None)
            self.spread[kind] = float((log_dt - known @ self.weights[kind]).std())

    def nats(self, test: Sequence[Rows]) -> Float[np.ndarray, " n"]:
        """Negative log-likelihood of the time of each move, density in ms."""
        dt, x, lifted = _events(test, pooled=self.pooled)
        log_dt, nats = np.log(dt), np.empty(len(dt))
        for kind in (False, True):
            own = lifted == kind
            nats[own] = _nats(log_dt[own], x[own] @ self.weights[kind], self.spread[kind])
        return nats + log_dt

    def timed(self, rows: Rows, *, rng: np.random.Generator) -> Rows:
        """The drawing with times drawn from the law, one after another; its own do not matter."""
        rows = rows.astype(np.float64)
        rows[1:, DT] = MIN_DT
        geometry, lifted = _geometry(rows), rows[:, PEN] < 0.5
        log_dt: dict[bool, list[float]] = {False: [], True: []}
        for step in range(1, len(rows)):
            kind = bool(lifted[step])
            past = log_dt[kind and not self.pooled]
            known = [0.0, past[-1], np.mean(past)] if past else [1.0, 0.0, 0.0]
            mean = np.concatenate([geometry[step - 1], known]) @ self.weights[kind]
            past.append(float(mean + self.spread[kind] * rng.normal()))
            rows[step, DT] = np.clip(np.exp(past[-1]), MIN_DT, MOST_TIME)
        return rows


class ConstantSpeed:
    """Every move at the mean speed of its kind, drawn or lifted: what players without time do.

    Args:
        train: stroke-4 of timed drawings, whose mean speeds are taken.
    """

    def __init__(self, train: Sequence[Rows]) -> None:
        moves = np.concatenate([rows[1:] for rows in train])
        lifted = moves[:, PEN] < 0.5
        self.speed = {
            kind: _length(moves[lifted == kind]).sum() / moves[lifted == kind, DT].sum()
            for kind in (False, True)
        }

    def timed(self, rows: Rows) -> Rows:
        """The drawing with the times that its lengths take."""
        rows = rows.astype(np.float64)
        speed = np.where(rows[1:, PEN] < 0.5, self.speed[True], self.speed[False])
        rows[1:, DT] = np.maximum(_length(rows[1:]) / speed, MIN_DT)
        return rows


def _events(
    drawings: Sequence[Rows], *, pooled: bool = False
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n 6"], Bool[np.ndarray, " n"]]:
    """Time (ms), features and whether the pen was lifted, of every move of all drawings."""
    times, features, lifted = [], [], []
    for drawing in drawings:
        rows = drawing.astype(np.float64)
        is_lifted = rows[1:, PEN] < 0.5
        dt = np.maximum(rows[1:, DT], MIN_DT)
        past = np.zeros((len(dt), 3))  # none yet, the one before, mean so far
        alike = [np.ones_like(is_lifted)] if pooled else [~is_lifted, is_lifted]
        for own in alike:
            log_dt = np.log(dt[own])
            count = np.arange(len(log_dt))
            before = np.concatenate([[0.0], log_dt])[:-1]
            mean = np.cumsum(before) / np.maximum(count, 1)
            past[own] = np.column_stack([count == 0, before, mean])
        features.append(np.column_stack([_geometry(rows), past]))
        times.append(dt)
        lifted.append(is_lifted)
    return np.concatenate(times), np.concatenate(features), np.concatenate(lifted)


def _geometry(rows: Rows) -> Float[np.ndarray, "n 3"]:
    """1, log length and turn (radians) of each move; the first has no turn."""
    moves = rows[1:]
    angle = np.diff(np.arctan2(moves[:, DY], moves[:, DX]), prepend=np.nan)
    turn = np.nan_to_num(np.abs((angle + np.pi) % (2 * np.pi) - np.pi))
    return np.column_stack([np.ones(len(moves)), np.log(_length(moves)), turn])


def _length(moves: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    return np.maximum(np.hypot(moves[:, DX], moves[:, DY]), LEAST_LENGTH)


def _nats(
    values: Float[np.ndarray, " n"], mean: float | Float[np.ndarray, " n"], std: float
) -> Float[np.ndarray, " n"]:
    return 0.5 * ((values - mean) / std) ** 2 + np.log(std * np.sqrt(2 * np.pi))
