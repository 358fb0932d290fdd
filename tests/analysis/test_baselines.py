"""The time baselines on times whose law is known."""

import math

import numpy as np
import pytest
from evaluate import ConstantSpeed, sampled_times

from doodlelib.analysis.baselines import log_linear, time_baselines


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


def test_each_baseline_reaches_the_entropy_of_what_it_can_express() -> None:
    train, test = made(300, slope=0.6, seed=0), made(100, slope=0.6, seed=1)
    table = time_baselines(train, test)
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
    table = time_baselines(made(300, slope=0.0, seed=2), made(100, slope=0.0, seed=3))
    gain = table.loc["log-normal"] - table.loc["log-linear regression"]
    assert gain.abs().max() < 0.02


def test_the_regression_times_a_shape_as_it_judges_it() -> None:
    """Times drawn from the law have the law's own entropy, and the true law's spread."""
    train = made(300, slope=0.6, seed=4)
    law, rng = log_linear(train), np.random.default_rng(5)
    timed = [sampled_times(law, rows, rng) for rows in made(200, slope=0.6, seed=6)]
    given, own = (time_baselines(train, some).iloc[-1] for some in (timed, train))
    assert given.to_list() == pytest.approx(own.to_list(), abs=0.05)
    moves = np.concatenate([rows[1:] for rows in timed])
    drawn = moves[:, 3] > 0.5
    length = np.log(np.maximum(np.hypot(moves[:, 0], moves[:, 1]), 0.5))
    residual = np.log(moves[:, 2]) - np.where(drawn, 4.0 + 0.6 * length, 6.0)
    assert residual.std() == pytest.approx(0.5, abs=0.02)
    assert residual.mean() == pytest.approx(0, abs=0.02)


def test_constant_speed_is_constant() -> None:
    train = made(50, slope=0.6, seed=7)
    timed = ConstantSpeed(train).retime(train[0])
    for kind in (True, False):
        moves = timed[1:][(timed[1:, 3] > 0.5) == kind]
        speed = np.hypot(moves[:, 0], moves[:, 1]) / moves[:, 2]
        assert np.ptp(speed) < 1e-6 * speed.mean()
    together = [ConstantSpeed(train).retime(rows) for rows in train]
    total, expected = (sum(rows[1:, 2].sum() for rows in some) for some in (together, train))
    assert total == pytest.approx(expected, rel=0.01)
