import subprocess
import sys
from collections import Counter
from itertools import chain, pairwise

import numba
import numpy as np
import pytest
import rdp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from doodlelib import strokes
from doodlelib.data import ndjson, quickdraw
from doodlelib.simplify import simplify

PAUSE = [[list(range(0, 256, 5)), [0] * 52, [5 * n + (1000 if n > 25 else 0) for n in range(52)]]]
coordinates = st.integers(0, 20) | st.floats(0, 1000).map(lambda value: round(value, 9))


@st.composite
def drawings(draw, *, timed=None):
    """Strokes with dots, closed ones, duplicates and straight lines among them."""
    timed = draw(st.booleans()) if timed is None else timed
    clock, drawing = 0, []
    for size in draw(st.lists(st.integers(1, 25), min_size=1, max_size=4)):
        xy = draw(st.lists(st.tuples(coordinates, coordinates), min_size=size, max_size=size))
        if draw(st.booleans()):
            xy[-1] = xy[0]
        t = clock + np.cumsum(draw(st.lists(st.integers(0, 90), min_size=size, max_size=size)))
        clock = t[-1]
        drawing.append([*map(list, zip(*xy, strict=True)), t.tolist()][: 3 if timed else 2])
    return drawing


def equal(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, b) for a, b in zip(chain(*one), chain(*other), strict=True)
    )


def fraction_of_records(base_url, step):
    for number, word in enumerate(quickdraw.words()):
        records = quickdraw.read_drawings(word, base_url=base_url, recognized=False, progress=False)
        yield from (record for n, record in enumerate(records) if (n + number) % step == 0)


def longest_gaps(before, after):
    """The largest distance of a left-out point from its chord: along the line, and at its time."""
    far = late = 0.0
    for (x, y, t), (_, _, kept_t) in zip(before, after, strict=True):
        kept = np.searchsorted(t, kept_t)
        for a, b in pairwise(kept):
            inner = np.stack([x, y])[:, a : b + 1]
            start, chord = inner[:, :1], inner[:, -1:] - inner[:, :1]
            length = np.hypot(*chord)[0]
            cross = chord[0] * (inner[1] - start[1]) - chord[1] * (inner[0] - start[0])
            line = np.abs(cross) / length if length else np.hypot(*(inner - start))
            far = max(far, line.max())
            if t[b] > t[a]:
                share = (t[a : b + 1] - t[a]) / (t[b] - t[a])
                late = max(late, np.hypot(*(inner - start - share * chord)).max())
    return far, late


def package_mask(stroke, epsilon):
    """Which points of a stroke the package keeps; of two columns it warns."""
    points = np.stack([*stroke[:2], np.zeros(len(stroke[0]))], axis=1)
    return rdp.rdp(points, epsilon=epsilon, return_mask=True)


@settings(deadline=None, max_examples=150)
@given(drawings(), st.sampled_from([0.0, 0.5, 2.0, 7.3, 300.0]))
@example([[[0, 9, 9, 0, 0], [0, 0, 9, 9, 0]]], 2.0)
@example([[[5, 5, 5], [5, 5, 5]]], 2.0)
@example([[[1], [1]], [[3, 3], [4, 4]]], 2.0)
def test_rdp_keeps_the_points_of_the_rdp_package(drawing, epsilon):
    fast = simplify(drawing, method="rdp", epsilon=epsilon)
    for before, after in zip(strokes.to_box(drawing), fast, strict=True):
        assert np.array_equal(np.stack(before, axis=1)[package_mask(before, epsilon)].T, after)


@pytest.mark.slow
def test_rdp_keeps_the_points_of_the_rdp_package_on_real_drawings(mirror):
    records = list(fraction_of_records(mirror, 50))
    assert len(records) > 150
    for record in records:
        fast = simplify(record.drawing, method="rdp")
        for before, after in zip(strokes.to_box(record.drawing), fast, strict=True):
            assert np.array_equal(np.stack(before, axis=1)[package_mask(before, 2.0)].T, after)


@numba.njit
def distance(point, start, end):
    """`rdp.pldist` of (x, y, 0) to the last bit, in a hundredth of its time."""
    chord, gap = end - start, start - point
    if not chord.any():
        return np.sqrt(np.dot(gap, gap))
    return abs(chord[0] * gap[1] - chord[1] * gap[0]) / np.sqrt(np.dot(chord, chord))


@pytest.mark.slow
def test_rdp_keeps_the_points_of_the_rdp_package_on_every_real_stroke(mirror):
    """The package's loop over every stroke of the mirror, with its distance compiled."""
    strokes_seen = 0
    for number, record in enumerate(fraction_of_records(mirror, 1)):
        fast = simplify(record.drawing, method="rdp")
        for before, after in zip(strokes.to_box(record.drawing), fast, strict=True):
            points = np.column_stack([*before[:2], np.zeros(len(before[0]))])
            if number % 100 == 0:
                ends = points[0], points[-1]
                assert all(distance(p, *ends) == rdp.pldist(p, *ends) for p in points)
            kept = rdp.rdp(points, epsilon=2.0, dist=distance, return_mask=True)
            assert np.array_equal(points[kept, :2].T, after[:2]), record.key_id
            strokes_seen += 1
    assert strokes_seen > 10_000


@settings(deadline=None)
@given(drawings())
def test_what_is_kept_is_the_boxed_drawing_with_its_times(drawing):
    boxed = strokes.to_box(drawing)
    for method in ("rdp", "timed"):
        for before, after in zip(boxed, simplify(drawing, method=method), strict=True):
            rows, kept = np.stack(before, axis=1), np.stack(after, axis=1)
            place = iter(range(len(rows)))
            assert all(any(np.array_equal(rows[at], point) for at in place) for point in kept)
            assert np.array_equal(kept[[0, -1]], rows[[0, -1]])


@settings(deadline=None)
@given(drawings(timed=True), st.floats(0.5, 20), st.floats(0.5, 40))
def test_no_point_is_beyond_the_limits(drawing, epsilon, epsilon_time):
    for stroke in drawing:  # an instant must name one point, for this test to find it
        stroke[2] = (np.array(stroke[2]) + np.arange(len(stroke[2]))).tolist()
    after = simplify(drawing, epsilon=epsilon, epsilon_time=epsilon_time)
    far, late = longest_gaps(strokes.to_box(drawing), after)
    assert far <= epsilon * (1 + 1e-9)
    assert late <= epsilon_time * (1 + 1e-9)


def test_without_tolerance_all_corners_and_all_changes_of_pace_stay():
    on_a_line = [[[0, 100, 200, 255], [0, 0, 0, 0], [0, 1, 2, 1000]]]
    assert [len(stroke[0]) for stroke in simplify(on_a_line, epsilon=0.0)] == [3]
    assert [len(stroke[0]) for stroke in simplify(on_a_line, method="rdp", epsilon=0.0)] == [2]


def test_a_pause_on_a_straight_line_is_kept_only_with_time():
    assert [len(stroke[0]) for stroke in simplify(PAUSE, method="rdp")] == [2]
    (x, _, t) = simplify(PAUSE)[0]
    assert len(x) == 4
    assert np.diff(t).max() == 1005
    shape_alone = strokes.without_time(PAUSE)
    assert equal(simplify(shape_alone), simplify(shape_alone, method="rdp"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "vw"}, "method 'vw'"),
        ({"epsilon": -1.0}, "epsilon is -1"),
        ({"epsilon": float("nan")}, "epsilon is nan"),
        ({"epsilon_time": 0.0}, "epsilon_time is 0"),
    ],
)
def test_settings_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        simplify(PAUSE, **options)
    with pytest.raises(ValueError, match="no strokes"):
        simplify([])


def test_points_shape_and_time_on_real_drawings(mirror):
    records = [r for r in fraction_of_records(mirror, 10) if r.recognized]
    points = [sum(len(stroke[0]) for stroke in simplify(r.drawing)) for r in records]
    assert np.median(points) <= 45
    correlations: dict[str, list[float]] = {"rdp": [], "timed": []}
    for record in records[::4]:
        before = strokes.to_box(record.drawing)
        for method, found in correlations.items():
            speeds = [[], []]
            for a, b in zip(before, simplify(record.drawing, method=method), strict=True):
                clock = np.arange(a[2][0], a[2][-1] + 10, 10.0)
                for speed, (x, y, t) in zip(speeds, (a, b), strict=True):
                    steps = np.interp(clock, t, x), np.interp(clock, t, y)
                    speed.extend(np.hypot(*np.diff(steps)))
            found.append(np.corrcoef(speeds)[0, 1])
    assert np.median(correlations["timed"]) >= 0.90
    assert np.median(correlations["rdp"]) < 0.85


def test_importing_does_not_import_numba():
    code = (
        "import sys, doodlelib.simplify; sys.exit('numba' in sys.modules or 'rdp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_drawing_of_hardly_any_extent_stays_finite():
    (x, y, t) = simplify([[[0, 5e-324], [0, 0], [0, 10]]])[0]
    assert np.isfinite([x, y, t]).all()


def test_simplified_files_stay_untimed(mirror):
    rows = quickdraw.lines("cat", kind="simplified", base_url=mirror, progress=False)
    records = ndjson.parse_records([next(rows)], dropped=Counter())
    assert not strokes.is_timed(simplify(next(records).drawing))
