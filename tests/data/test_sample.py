import csv
import io
import time
from itertools import pairwise
from urllib.request import urlopen

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from doodlelib.data.sample import GAME_MS, WORDS, Hand, grammar, make_drawings
from doodlelib.strokes import as_drawing, duration, to_box, to_stroke4

# Median number of strokes, seconds with the pen up, seconds in all: Google's statistics over the
# recognised drawings of each word, stats/all_aggregates.csv.
PUBLISHED = {
    "cat": (9, 3.699, 8.963),
    "dog": (7, 3.1535, 10.462),
    "car": (4, 1.659, 7.867),
    "tree": (3, 1.145, 5.493),
    "house": (3, 1.099, 4.758),
    "flower": (3, 1.177, 6.443),
    "fish": (3, 1.055, 4.504),
    "star": (1, 0.0, 3.015),
    "apple": (3, 0.778, 4.744),
    "face": (6, 2.659, 6.812),
}


def pauses(drawing):
    return np.array([b[2][0] - a[2][-1] for a, b in pairwise(drawing)])


def gaps(drawing):
    return np.array(
        [np.hypot(b[0][0] - a[0][-1], b[1][0] - a[1][-1]) for a, b in pairwise(drawing)]
    )


@pytest.fixture(scope="module")
def drawings():
    return {word: [record.drawing for record in make_drawings(word, 300)] for word in WORDS}


@pytest.mark.parametrize("word", WORDS)
def test_medians_are_the_published_ones(drawings, word):
    medians = np.median(
        [[len(d), pauses(d).sum() / 1000, duration(d) / 1000] for d in drawings[word]], axis=0
    )
    np.testing.assert_allclose(medians, PUBLISHED[word], rtol=0.3)


def test_published_medians_are_the_mirrors(mirror):
    with urlopen(f"{mirror}/stats/all_aggregates.csv") as response:  # file:// or http(s)://
        text = response.read().decode()
    rows = {row["word"]: row for row in csv.DictReader(io.StringIO(text))}
    columns = ("scount_md", "d_pause_md", "d_total_md")
    for word, published in PUBLISHED.items():
        assert tuple(float(rows[word][column]) for column in columns) == published


def test_equal_seeds_give_equal_drawings_whatever_their_number():
    few, many, others = (
        make_drawings("cat", 3, 7),
        make_drawings("cat", 6, seed=7),
        make_drawings("cat", 3, seed=8),
    )
    assert [r.to_json() for r in few] == [r.to_json() for r in many[:3]]
    assert not {str(r.to_json()["drawing"]) for r in few} & {
        str(r.to_json()["drawing"]) for r in others
    }


def test_key_ids_are_unique_and_stable():
    keys = [r.key_id for word in WORDS for seed in (0, 1) for r in make_drawings(word, 5, seed)]
    assert len(set(keys)) == len(keys)
    assert make_drawings("cat", 18)[17].key_id == "sample-cat-0-17"


def test_records_follow_the_raw_schema():
    sizes, fractional = [], 0
    for word in WORDS:
        for record in make_drawings(word, 30):
            drawing = as_drawing(record.drawing)
            assert record.word == word and record.recognized is True
            t = np.concatenate([stroke[2] for stroke in drawing])
            assert t[0] == 0 and (np.diff(t) >= 0).all() and (t == np.rint(t)).all()
            assert (pauses(drawing) > 0).all()
            to_stroke4(drawing)
            xy = np.concatenate([np.stack(stroke[:2], axis=1) for stroke in drawing])
            sizes.append(np.ptp(xy, axis=0).max())
            fractional += bool((xy != np.rint(xy)).any())
    assert min(sizes) > 140 and max(sizes) < 1000 and max(sizes) > 3 * min(sizes)
    assert 0.15 < fractional / len(sizes) < 0.35


def test_every_shape_can_be_drawn():
    hand = Hand(np.random.default_rng(0), slop=0.02, turn=1)
    used = {choice for steps in grammar().values() for step in steps for choice in step}
    for name, steps in grammar().items():
        for step in steps:
            assert 0 < sum(step.values()) <= 1 + 1e-9, (name, step)
            for choice in step:
                for stroke in choice.split(";"):
                    for path in hand.strokes(stroke.strip()):
                        assert len(path) > 1 and np.isfinite(path).all() and abs(path).max() < 150
    assert set(WORDS) <= set(grammar())
    for name in set(grammar()) - set(WORDS):
        assert any(f"@{name}" in choice for choice in used), f"nothing uses {name}"


def test_nobody_draws_longer_than_the_game_lasts(drawings):
    longest = max(duration(drawing) for word in WORDS for drawing in drawings[word])
    assert 15_000 < longest <= GAME_MS


def test_drawings_of_a_word_differ(drawings):
    for word, several in drawings.items():
        counts = {len(drawing) for drawing in several}
        assert len(counts) > 2, (word, counts)


def test_longer_gaps_take_longer_pauses(drawings):
    timed = [to_box(d) for word in WORDS for d in drawings[word][:100] if len(d) > 1]
    log_gap = np.log(np.maximum(np.concatenate([gaps(d) for d in timed]), 1))
    log_pause = np.log(np.concatenate([pauses(d) for d in timed]))
    assert 0.15 < np.polyfit(log_gap, log_pause, 1)[0] < 0.4  # real: 0.26
    assert 0.15 < np.corrcoef(log_gap, log_pause)[0, 1] < 0.45  # real: 0.31 to 0.38


def test_pen_is_up_and_clock_ticks_as_in_real_drawings(drawings):
    several = [d for word in WORDS for d in drawings[word][:100]]
    up = sum(pauses(d).sum() for d in several) / sum(duration(d) for d in several)
    assert 0.24 < up < 0.36  # real: 0.29 to 0.31
    intervals = np.concatenate([np.diff(stroke[2]) for d in several for stroke in d])
    quartiles = np.percentile(intervals, [25, 50, 75])
    np.testing.assert_allclose(quartiles, (11, 17, 28), rtol=0.25)


def exponent_of_speed(drawing):
    """Slope of log speed on log curvature; 10 ms grid, 25 ms Gaussian smoothing, 255 box."""
    logs = []
    for x, y, t in to_box(drawing):
        if t[-1] - t[0] < 200 or len(t) < 5 or (np.diff(t) <= 0).any():
            continue
        grid = np.arange(t[0], t[-1], 10.0)
        xy = [gaussian_filter1d(np.interp(grid, t, axis), 2.5) for axis in (x, y)]
        (vx, vy), (ax, ay) = (
            np.gradient(xy, 10.0, axis=1),
            np.gradient(np.gradient(xy, 10.0, axis=1), 10.0, axis=1),
        )
        speed = np.hypot(vx, vy)
        curvature = np.abs(vx * ay - vy * ax) / np.maximum(speed, 1e-9) ** 3
        usable = (curvature > 1e-3) & (curvature < 10) & (speed > 1e-3)
        usable[:3] = usable[-3:] = False
        logs.append(np.log([curvature[usable], speed[usable]]))
    curvature, speed = np.concatenate(logs, axis=1) if logs else np.empty((2, 0))
    return np.polyfit(curvature, speed, 1)[0] if curvature.size > 30 else np.nan


def test_pen_slows_in_curves_as_peoples_does(drawings):
    exponents = [exponent_of_speed(d) for word in WORDS for d in drawings[word][:40]]
    low, middle, high = np.nanpercentile(exponents, [25, 50, 75])
    assert abs(middle - -0.39) < 0.05  # real: -0.49, -0.39, -0.29
    assert abs(low - -0.49) < 0.1 and abs(high - -0.29) < 0.1


def test_speed_comes_in_pulses():
    """A constant speed would make equal steps take equal times."""
    speeds = []
    for record in make_drawings("star", 50):
        x, y, t = record.drawing[0]
        speeds.append(np.hypot(np.diff(x), np.diff(y)) / np.maximum(np.diff(t), 1))
    assert np.median([speed.std() / speed.mean() for speed in speeds]) > 0.4


@pytest.mark.parametrize(("word", "n"), [("unicorn", 1), ("Cat", 1), ("cat", -1)])
def test_what_is_not_there_is_an_error(word, n):
    with pytest.raises(ValueError, match="apple, face" if n > 0 else "-1"):
        make_drawings(word, n)


def test_makes_hundreds_a_second():
    make_drawings("face", 1)  # reads the shapes
    start = time.process_time()
    for word in WORDS:
        make_drawings(word, 20)
    assert 200 / (time.process_time() - start) > 100  # a third of what it takes on an idle core
