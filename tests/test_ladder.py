"""The simple laws of time on times whose law is known."""

import math

import numpy as np
import pytest

from doodlelib.ladder import time_ladder


def made(count: int, *, slope: float, seed: int) -> list[np.ndarray]:
    """Drawings whose log time has a known mean and a spread of 0.5 about it."""
    rng = np.random.default_rng(seed)
    drawings = []
    for _ in range(count):
        rows = np.zeros((30, 4))
        rows[1:, :2] = rng.normal(0, 30, (29, 2))
        length = np.log(np.maximum(np.hypot(rows[1:, 0], rows[1:, 1]), 0.5))
        rows[:, 3] = rng.random(30) > 0.2
        rows[0, 3] = 1
        mean = np.where(rows[1:, 3] > 0.5, 4.0 + slope * length, 6.0)
        rows[1:, 2] = np.exp(mean + 0.5 * rng.normal(size=29))
        drawings.append(rows)
    return drawings


def test_each_law_reaches_the_entropy_of_what_it_can_express() -> None:
    train, test = made(300, slope=0.6, seed=0), made(100, slope=0.6, seed=1)
    table = time_ladder(train, test)
    moves = np.concatenate([rows[1:] for rows in test])
    log_dt = np.log(np.maximum(moves[:, 2], 1))
    noise = 0.5 * math.log(2 * math.pi * math.e * 0.25)  # of a normal with spread 0.5
    drawn = moves[:, 3] > 0.5
    best = noise + log_dt[drawn].mean()
    regression = table.loc["log-linear regression"]
    assert regression["segment_time"] == pytest.approx(best, abs=0.05)
    assert regression["pause_time"] == pytest.approx(noise + log_dt[~drawn].mean(), abs=0.1)
    assert table.loc["log-normal", "segment_time"] > best + 0.1
    assert (table.loc["Gaussian"] > table.loc["log-normal"]).all()


def test_where_length_says_nothing_regression_gains_nothing() -> None:
    table = time_ladder(made(300, slope=0.0, seed=2), made(100, slope=0.0, seed=3))
    gain = table.loc["log-normal"] - table.loc["log-linear regression"]
    assert gain.abs().max() < 0.02
