"""The formats lose nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doodlelib.data.quickdraw import read_drawings, words
from doodlelib.strokes import (
    BOX,
    DT,
    DX,
    PEN,
    PEN_COLUMNS,
    Scale,
    as_drawing,
    duration,
    from_stroke4,
    from_stroke6,
    to_box,
    to_stroke4,
    to_stroke6,
    without_time,
)

CROSS = [
    [[0, 30], [0, 40], [0, 100]],
    [[30], [0], [400]],
    [[0, 0, 5], [40, 41, 41], [900, 910, 950]],
]
SCALE = Scale(xy=30.0, segment_mean=4.5, segment_std=0.9, pause_mean=6.0, pause_std=0.8)


@st.composite
def drawings(draw: st.DrawFn, timed: bool | None = None) -> list[list[list[float]]]:
    timed = draw(st.booleans()) if timed is None else timed
    counts = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    number = st.floats(-2000, 2000, allow_nan=False).map(lambda value: round(value, 3))
    clock = np.cumsum(
        draw(st.lists(st.integers(0, 900), min_size=sum(counts), max_size=sum(counts)))
    )
    strokes, start = [], 0
    for count in counts:
        stroke = [draw(st.lists(number, min_size=count, max_size=count)) for _ in "xy"]
        strokes.append([*stroke, clock[start : start + count].tolist()] if timed else stroke)
        start += count
    return strokes


def assert_same_but_for_origin(drawing: list, other: list) -> None:
    assert len(drawing) == len(other)
    for stroke, again in zip(drawing, other, strict=True):
        assert len(stroke) == len(again)
        for first, values, result in zip(drawing[0], stroke, again, strict=True):
            np.testing.assert_allclose(np.subtract(values, first[0]), result, atol=1e-6)


def test_rows_say_what_the_docstring_says() -> None:
    rows = to_stroke4(CROSS)
    assert rows.tolist() == [
        [0, 0, 0, 1],
        [30, 40, 100, 1],
        [0, -40, 300, 0],  # lifted: its dt is the pause
        [-30, 40, 500, 0],  # a stroke of one point lies between two pauses
        [0, 1, 10, 1],
        [5, 0, 40, 1],
    ]
    rows6 = to_stroke6(rows, scale=SCALE)
    assert rows6.shape == (len(rows) + 2, 6)
    assert rows6[0].tolist() == [0, 0, 0, 1, 0, 0]
    assert rows6[1].tolist() == [0, 0, 0, 1, 0, 0]
    assert rows6[-1].tolist() == [0, 0, 0, 0, 0, 1]
    assert rows6[2, DX] == 1.0
    assert rows6[2, DT] == pytest.approx((np.log(100) - 4.5) / 0.9)
    assert rows6[3, DT] == pytest.approx((np.log(300) - 6.0) / 0.8)
    assert rows6[1:-1, PEN_COLUMNS].argmax(1).tolist() == [0, 0, 1, 1, 0, 0]


@settings(deadline=None)
@given(drawings())
def test_stroke4_loses_only_the_origin(drawing: list) -> None:
    rows = to_stroke4(drawing)
    assert rows[0, [DX, PEN]].tolist() == [0, 1]
    assert_same_but_for_origin(drawing, from_stroke4(rows))


@settings(deadline=None)
@given(drawings())
def test_stroke6_gives_stroke4_back(drawing: list) -> None:
    rows = to_stroke4(drawing)
    again = from_stroke6(to_stroke6(rows, scale=SCALE), scale=SCALE)
    rows[1:, DT] = np.maximum(rows[1:, DT], 1)  # the clock's 0 ms count as 1 ms
    np.testing.assert_allclose(again, rows, rtol=1e-6, atol=1e-6)


def test_every_published_drawing_survives(mirror: str) -> None:
    count = 0
    for word in words():
        for record in read_drawings(word, base_url=mirror, recognized=False):
            again = from_stroke4(to_stroke4(record.drawing))
            before, after = (
                np.concatenate([np.stack(stroke) for stroke in drawing], axis=1)
                for drawing in (record.drawing, again)
            )
            assert [len(x) for x, *_ in record.drawing] == [len(x) for x, *_ in again]
            assert np.abs(before - before[:, :1] - after).max() < 1e-6
            count += 1
    assert count > 5000


def test_untimed_stays_untimed() -> None:
    rows = to_stroke4(without_time(CROSS))
    assert np.isnan(rows[:, DT]).all()
    assert np.isnan(to_stroke6(rows, scale=SCALE)[1:-1, DT]).all()
    assert all(len(stroke) == 2 for stroke in from_stroke4(rows))
    assert np.isnan(duration(without_time(CROSS)))
    assert duration(CROSS) == 950


@settings(deadline=None)
@given(drawings())
def test_box_fits_and_keeps_time(drawing: list) -> None:
    boxed = to_box(drawing)
    xy = np.concatenate([np.stack(stroke[:2], axis=1) for stroke in boxed])
    points = np.concatenate([np.stack(stroke[:2], axis=1) for stroke in drawing])
    assert xy.min() == 0
    if np.ptp(points, axis=0).max() > 0:
        assert np.ptp(xy, axis=0).max() == pytest.approx(BOX)
    for stroke, again in zip(as_drawing(drawing), boxed, strict=True):
        for values, result in zip(stroke[2:], again[2:], strict=True):
            np.testing.assert_array_equal(values, result)


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        ([], "no strokes"),
        ([[[], [], []]], "no points"),
        ([[[1, 2], [1], [0, 1]]], "shapes"),
        ([[[1], [1], [float("nan")]]], "not finite"),
        ([[[1, 2]]], "1 rows"),
        ([[[1], [1], [0]], [[1], [1]]], "mixed"),
    ],
)
def test_malformed_drawings_are_refused(drawing: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_drawing(drawing)


def test_a_clock_that_runs_back_is_refused() -> None:
    with pytest.raises(ValueError, match="backwards at point 1"):
        to_stroke4([[[0, 1], [0, 1], [5, 3]]])
