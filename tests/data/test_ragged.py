"""Many drawings in flat arrays: the same numbers as each drawing alone."""

from itertools import chain

import numpy as np
import pytest

from doodlelib import strokes
from doodlelib.data.ragged import RaggedDrawings
from doodlelib.data.sample import make_drawings
from doodlelib.simplify import simplify
from doodlelib.strokes import Record

DOT = [[[3.0], [4.0], [0.0]]]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Timed drawings, untimed ones, and one of a single point."""
    made = make_drawings("cat", 5)
    untimed = [strokes.without_time(record.drawing) for record in made[:2]]
    drawings = [*(record.drawing for record in made), *untimed, strokes.as_drawing(DOT)]
    return [Record("cat", str(n), None, drawing) for n, drawing in enumerate(drawings)]


def equal(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) for a, b in zip(chain(*one), chain(*other), strict=True)
    )


def test_records_come_back_as_they_were(records: list[Record]) -> None:
    drawings = RaggedDrawings.from_records(records)
    assert len(drawings) == len(records)
    for before, after in zip(records, drawings.records(), strict=True):
        assert equal(before.drawing, after.drawing)
        assert before.key_id == after.key_id
    some = drawings.select(np.array([6, 0]))
    assert [one["key_id"] for one in some.metadata] == ["6", "0"]
    assert equal(list(some.records())[-1].drawing, records[0].drawing)


def test_all_are_simplified_as_each_alone(records: list[Record]) -> None:
    options = {"method": "timed", "epsilon": 2.0, "epsilon_time": 8.0}
    simplified = RaggedDrawings.from_records(records).simplified(**options)
    for before, after in zip(records, simplified.records(), strict=True):
        assert equal(simplify(before.drawing, **options), after.drawing)
    offsets, rows = simplified.offsets, simplified.stroke4_rows()
    for n, record in enumerate(simplified.records()):
        expected = strokes.to_stroke4(record.drawing).astype(np.float32)
        assert np.array_equal(rows[offsets[n] : offsets[n + 1]], expected, equal_nan=True)


def test_none_at_all() -> None:
    none = RaggedDrawings.from_records([])
    simplified = none.simplified(method="rdp", epsilon=2.0, epsilon_time=8.0)
    assert len(none) == len(simplified) == len(simplified.stroke4_rows()) == 0
    assert list(none.select(np.empty(0, dtype=int)).records()) == []
