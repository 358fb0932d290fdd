"""Curves through points: where they go, what they leave alone, and that the page draws the same."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from doodlelib.data.sample import make_drawings
from doodlelib.lab.player import STATIC
from doodlelib.simplify import simplify
from doodlelib.strokes import to_stroke4, without_time
from doodlelib.viz.curves import curved

NODE = shutil.which("node")
TURN = np.linspace(0, 2 * np.pi, 100)
CIRCLE = [[128 + 127 * np.cos(TURN), 128 + 127 * np.sin(TURN), 9.0 * np.arange(100)]]
SQUARE = [[[0, 90, 90, 0, 0], [0, 0, 90, 90, 0], [0, 100, 150, 400, 500]]]
REST = [[[0, 30, 30, 50, 50], [0, 20, 20, 50, 90], [0, 50, 600, 700, 700]], [[9], [9], [900]]]
CATS = [record.drawing for record in make_drawings("cat", 3)]


def nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each point to the nearest of others."""
    return np.hypot(*(points[:, :, None] - others[:, None])).min(axis=1)


def test_a_simplified_circle_is_round_again() -> None:
    few = simplify(CIRCLE)
    ((x, y, t),) = curved(few)
    assert few[0][0].size < 40 < 60 < x.size
    off = np.abs(np.hypot(x - 127.5, y - 127.5) - 127.5)
    assert off.max() < 0.8  # of its chords 2
    assert (np.diff(t) > 0).all()


@pytest.mark.parametrize("drawing", [SQUARE, REST, *CATS, *map(simplify, CATS)])
@pytest.mark.parametrize("timed", [True, False])
def test_every_point_is_on_its_curve_at_its_time(drawing: list, timed: bool) -> None:
    given = drawing if timed else without_time(drawing)
    for stroke, curve in zip(given, curved(given), strict=True):
        rows, found = np.stack(stroke, axis=1), np.stack(curve, axis=1)
        places = (found[:, None] == rows).all(axis=2)
        assert places.any(axis=0).all()
        if timed:
            assert (np.diff(places.argmax(axis=0)) > 0).all()
            assert (np.diff(curve[2]) >= 0).all()


def test_corners_straight_lines_and_dots_stay_as_they_are() -> None:
    straight = [[[0, 10, 60, 100], [0, 5, 30, 50], [0, 10, 20, 90]], [[7], [7], [100]]]
    for drawing in (SQUARE, straight):
        np.testing.assert_array_equal(to_stroke4(curved(drawing)), to_stroke4(drawing))


def test_a_dense_curve_looks_as_before() -> None:
    dense = np.concatenate([np.stack(stroke[:2]) for stroke in CIRCLE], axis=1)
    smooth = np.concatenate([np.stack(stroke[:2]) for stroke in curved(CIRCLE)], axis=1)
    chords = np.hypot(*np.diff(dense, axis=1)).max() / 2
    assert nearest(smooth, dense).max() < chords + 0.2


def test_no_curve_goes_far_from_its_chord() -> None:
    """A bend between long lines is rounded a little; a long one of them beside a short stays."""
    bend = [[np.array([0, 250, 500.0]), np.array([0, 0, 150.0])]]
    hook = [[np.array([0, 490, 500.0]), np.array([0, 0, 7.0])]]
    for drawing in (bend, hook):
        ((x, y),) = curved(drawing)
        before = x <= drawing[0][0][1]
        assert before.sum() > 3
        assert 0.5 < np.abs(y[before]).max() <= 3 * 500 / 255


def test_times_go_with_the_distance() -> None:
    few = [[row[::8] for row in CIRCLE[0]]]
    ((x, y, t),) = curved(few)
    speed = np.hypot(np.diff(x), np.diff(y)) / np.diff(t)
    for start, stop in zip(few[0][2][:-1], few[0][2][1:], strict=True):
        inside = (t[:-1] >= start) & (t[1:] <= stop)
        assert inside.sum() > 2
        np.testing.assert_allclose(speed[inside], speed[inside][0], rtol=1e-6)


def test_malformed_drawings_are_refused() -> None:
    with pytest.raises(ValueError, match="no strokes"):
        curved([])


@pytest.mark.skipif(
    not NODE and not os.environ.get("DOODLELIB_REQUIRE_BROWSER"), reason="no node on this machine"
)
def test_the_page_draws_the_same_curves() -> None:
    drawings = [SQUARE, REST, CIRCLE, *CATS, *map(simplify, [CIRCLE, *CATS])]
    drawings += [without_time(simplify(CIRCLE)), [[[3], [4]]]]
    plain = [[[np.asarray(v).tolist() for v in stroke] for stroke in d] for d in drawings]
    program = (
        f"import {{ curved }} from {json.dumps((STATIC / 'curve.js').as_uri())};"
        "const text = (await import('fs')).readFileSync(0, 'utf8');"
        "console.log(JSON.stringify(JSON.parse(text).map(curved)));"
    )
    assert NODE
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", program],
        input=json.dumps(plain),
        capture_output=True,
        text=True,
        check=True,
    )
    for drawing, found in zip(drawings, json.loads(done.stdout), strict=True):
        for stroke, curve in zip(curved(drawing), found, strict=True):
            np.testing.assert_allclose(np.stack(curve), np.stack(stroke), rtol=1e-9, atol=1e-9)
