"""What simple laws of time are worth: the steps that a sequence model must climb above.

Each law gives p(dt | where the move went, what came before), segments and pauses apart, fitted on
the training drawings and judged on others. Nats an event, density in ms, so that any two models can
be compared; lower is better.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from doodlelib.strokes import DT, DX, DY, MIN_DT, PEN


def time_ladder(
    train: Sequence[Float[np.ndarray, "_ 4"]], test: Sequence[Float[np.ndarray, "_ 4"]]
) -> pd.DataFrame:
    """Mean negative log-likelihood of the time of a segment and of a pause.

    Args:
        train: stroke-4 of timed drawings, to fit on.
        test: stroke-4 of timed drawings, to judge on.

    Returns:
        Rows "Gaussian", "log-normal" and "log-linear regression" (a log-normal whose mean is
        linear in the log distance, the turn, the log of the time before and the mean log time so
        far); columns "segment_time" and "pause_time".
    """
    fitted, judged = (_events(drawings) for drawings in (train, test))
    table: dict[str, dict[str, float]] = {}
    for name, lifted in (("segment_time", False), ("pause_time", True)):
        dt, x = (part[fitted[2] == lifted] for part in fitted[:2])
        dt_test, x_test = (part[judged[2] == lifted] for part in judged[:2])
        log_dt, log_test = np.log(dt), np.log(dt_test)
        weights, *_ = np.linalg.lstsq(x, log_dt, rcond=None)
        residual = (log_dt - x @ weights).std()
        rows = {
            "Gaussian": _nats(dt_test, dt.mean(), dt.std()),
            "log-normal": _nats(log_test, log_dt.mean(), log_dt.std()) + log_test,
            "log-linear regression": _nats(log_test, x_test @ weights, residual) + log_test,
        }
        for law, nats in rows.items():
            table.setdefault(law, {})[name] = float(nats.mean())
    return pd.DataFrame.from_dict(table, orient="index")


def _events(
    drawings: Sequence[Float[np.ndarray, "_ 4"]],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n 6"], Bool[np.ndarray, " n"]]:
    """Time (ms), features and whether the pen was lifted, of every move of all drawings.

    The times before a move are those of its own kind; where there is none yet, an indicator says
    so. Closing a stroke's turn and starting one count as no turn.
    """
    times, features, lifted = [], [], []
    for drawing in drawings:
        rows = drawing[1:].astype(np.float64)
        is_lifted = rows[:, PEN] < 0.5
        dt = np.maximum(rows[:, DT], MIN_DT)
        length = np.log(np.maximum(np.hypot(rows[:, DX], rows[:, DY]), 0.5))
        angle = np.diff(np.arctan2(rows[:, DY], rows[:, DX]), prepend=np.nan)
        turn = np.nan_to_num(np.abs((angle + np.pi) % (2 * np.pi) - np.pi))
        past = np.zeros((len(rows), 3))  # none yet, the one before, mean so far
        for kind in (False, True):
            log_dt = np.log(dt[is_lifted == kind])
            count = np.arange(len(log_dt))
            before = np.concatenate([[0.0], log_dt])[:-1]
            mean = np.cumsum(before) / np.maximum(count, 1)
            past[is_lifted == kind] = np.column_stack([count == 0, before, mean])
        features.append(np.column_stack([np.ones(len(rows)), length, turn, past]))
        times.append(dt)
        lifted.append(is_lifted)
    return np.concatenate(times), np.concatenate(features), np.concatenate(lifted)


def _nats(
    values: Float[np.ndarray, " n"], mean: float | Float[np.ndarray, " n"], std: float
) -> Float[np.ndarray, " n"]:
    return 0.5 * ((values - mean) / std) ** 2 + np.log(std * np.sqrt(2 * np.pi))
