import hashlib
import json
from collections import Counter
from itertools import chain, islice

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from doodlelib import strokes
from doodlelib.data import ndjson, quickdraw
from doodlelib.data.ragged import RaggedDrawings

TIMED = [[[0, 3, 7.5], [1, -2, 4], [0, 16, 33]], [[5, 5], [6, 9.25], [400, 431]]]
HEAD = {"word": "cat", "countrycode": "DE", "timestamp": "2017-03-01", "recognized": True}


def line(drawing=TIMED, **changes) -> bytes:
    return orjson.dumps({**HEAD, "key_id": "1", **changes, "drawing": drawing}) + b"\n"


def parse(*lines, **options):
    dropped = Counter()
    records = list(ndjson.parse_records(lines, dropped=dropped, **options))
    return records, dropped


def as_lists(drawing):
    return [[values.tolist() for values in stroke] for stroke in drawing]


def from_zero(drawing):
    first = drawing[0][2][0] if len(drawing[0]) == 3 else 0
    return [[*stroke[:2], *([t - first for t in row] for row in stroke[2:])] for stroke in drawing]


def test_a_record_holds_all_that_the_line_says():
    (record,), dropped = parse(line())
    assert as_lists(record.drawing) == TIMED
    assert record.to_json() == json.loads(line())
    assert not dropped


def test_order_is_that_of_the_lines_whichever_way_they_were_parsed():
    odd = [b" " + line(key_id=str(n)).replace(b",", b" , ") for n in range(200)]
    plain = [line([stroke[:2] for stroke in TIMED], key_id=str(n)) for n in range(200)]
    lines = [odd[n] if n % 3 == 0 else plain[n] for n in range(200)]
    records, _ = parse(*lines)
    assert [record.key_id for record in records] == [str(n) for n in range(200)]
    assert all(strokes.is_timed(r.drawing) == (int(r.key_id) % 3 == 0) for r in records)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line()[:-20], ndjson.NOT_JSON),
        (b"hello\n", ndjson.NOT_JSON),
        (b"\xff\xfe\n", ndjson.NOT_JSON),
        (b"[" * 5000 + b"\n", ndjson.NOT_JSON),
        (line().replace(b"7.5", b"NaN"), ndjson.NOT_JSON),
        (line().replace(b"7.5", b"07"), ndjson.NOT_JSON),
        (line().replace(b"7.5", b"7."), ndjson.NOT_JSON),
        (b"[1, 2]\n", ndjson.MALFORMED),
        (b"{}\n", ndjson.MALFORMED),
        (line(recognized="yes"), ndjson.MALFORMED),
        (line(word=None), ndjson.MALFORMED),
        (line(key_id=[1]), ndjson.MALFORMED),
        (line("cat"), ndjson.MALFORMED),
        (line(None), ndjson.MALFORMED),
        (line([[1, 2], [3, 4]]), ndjson.MALFORMED),
        (line([[["1", "2"], ["3", "4"]]]), ndjson.MALFORMED),
        (line([[[True, 2], [3, 4]]]), ndjson.MALFORMED),
        (line([[[1, None], [3, 4]]]), ndjson.MALFORMED),
        (line([[[[1], [2]], [[3], [4]]]]), ndjson.MALFORMED),
        (line([[[1, 2]]]), ndjson.MALFORMED),
        (line([[[1, 2]] * 4]), ndjson.MALFORMED),
        (line([TIMED[0], [[1, 2], [3, 4]]]), ndjson.MALFORMED),
        (line([[[1, 2, 3], [3, 4]]]), ndjson.LENGTHS),
        (line([[[1, 2], [3, 4], [0]]]), ndjson.LENGTHS),
        (line([]), strokes.EMPTY),
        (line([[[], [], []]]), strokes.EMPTY),
        (line([*TIMED, [[], [], []]]), strokes.EMPTY),
        (line([[[1], [2], [0]]]), strokes.EMPTY),
        (line([[list(range(100_000))] * 3]), strokes.TOO_LONG),
        (line([[[1, 1e300], [2, 3]]]), strokes.TOO_LARGE),
        (line([[[1, 2], [2, -2_000_000]]]), strokes.TOO_LARGE),
        (line([[[1, 2], [2, 3], [0, 9e9]]]), strokes.TOO_LARGE),
        (line().replace(b"7.5", b"1e999"), None),
        (line([[[1, 2], [2, 3], [5, 4]]]), strokes.CLOCK),
        (line([*TIMED, [[1], [1], [430]]]), strokes.CLOCK),
        (line(recognized=False), ndjson.UNRECOGNIZED),
        (line([[[0, 40, 80], [0, 5, 0], [0, 0.09, 0.2]], [[80], [60], [1.5]]]), strokes.TOO_FAST),
        (
            line([[list(range(99))] * 2 + [[second / 1.5 for second in range(99)]]]),
            strokes.TOO_FAST,
        ),
        (line("[[[1, 2], [3"), ndjson.MALFORMED),
        (line([{"x": [1, 2], "t": [0, 90]}]), ndjson.MALFORMED),
        (line([[{"x": 1, "y": 2}, {"x": 1}]]), ndjson.MALFORMED),
        (line({"x": [[1, 2], [3]], "y": [[1, 2]]}), ndjson.MALFORMED),
        (line(timestamp=[1]), ndjson.MALFORMED),
    ],
)
def test_bad_lines_are_dropped_and_counted_by_reason(bad, reason):
    records, dropped = parse(line(), bad, line(key_id="2"))
    assert [record.key_id for record in records] == ["1", "2"]
    assert dropped.total() == 1
    assert reason is None or dropped == {reason: 1}


@pytest.mark.parametrize("begin", [0, 16, 83_512.5, 1.7e12, -5])
def test_times_count_from_the_first_touch_whenever_the_clock_began(begin):
    later = [[x, y, [begin + value for value in t]] for x, y, t in TIMED]
    for one in (line(later, key_id=None), line(later, key_id=None).replace(b",", b", ")):
        (record,), dropped = parse(one)
        assert as_lists(record.drawing) == TIMED
        assert record.key_id == parse(line(key_id=None))[0][0].key_id
        assert not dropped
    assert as_lists(strokes.as_drawing(later)) == TIMED


def as_points(stroke, names=("x", "y", "t")):
    return [dict(zip(names, point, strict=False)) for point in zip(*stroke, strict=True)]


FORMS = {
    "pandas, of Kaggle's CSV": json.dumps(TIMED),
    "Hugging Face": {name: [stroke[i] for stroke in TIMED] for i, name in enumerate("xyt")},
    "objects of rows": [dict(zip("xyt", stroke, strict=True)) for stroke in TIMED],
    "points": [as_points(stroke) for stroke in TIMED],
    "signature pad": [
        {"penColor": "black", "points": as_points(stroke, ("x", "y", "time"))} for stroke in TIMED
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_other_tools_are_read(form):
    (record,), dropped = parse(line(FORMS[form], timestamp=1_488_362_400_000))
    assert as_lists(record.drawing) == TIMED
    assert record.timestamp == "1488362400000"
    assert not dropped


def test_a_label_without_its_name_is_read_as_text():
    """Hugging Face's `ClassLabel` is a number; the names are elsewhere."""
    for one in (line(word=7), line(word=7).replace(b",", b", ")):
        (record,), dropped = parse(one)
        assert (record.word, dict(dropped)) == ("7", {})
    assert parse(line(word=True))[1] == {ndjson.MALFORMED: 1}


def test_forms_without_time_are_untimed():
    rows = [[[0, 3, 7.5], [1, -2, 4]]]
    for form in (json.dumps(rows), {"x": [rows[0][0]], "y": [rows[0][1]]}, [as_points(rows[0])]):
        (record,), _ = parse(line(form))
        assert as_lists(record.drawing) == rows


def test_unknown_recognition_stays_and_unrecognised_can():
    lines = [line(recognized=value) for value in (True, None, False)]
    assert [r.recognized for r in parse(*lines)[0]] == [True, None]
    assert [r.recognized for r in parse(*lines, recognized=False)[0]] == [True, None, False]


def test_a_missing_id_is_made_from_the_drawing():
    digest = hashlib.sha1(orjson.dumps(TIMED)).hexdigest()[:16]
    loose = line(key_id=None).replace(b",", b", ")
    for one in (line(key_id=None), line(key_id=""), loose, line(key_id=None)[:-1] + b"\r\n"):
        assert parse(one)[0][0].key_id == f"geom-{digest}"
    assert parse(line(key_id=17))[0][0].key_id == "17"


def test_blank_lines_and_line_ends_do_not_matter():
    records, dropped = parse(b"\n", b"", line()[:-1], line()[:-1] + b"\r\n", b"  \n")
    assert len(records) == 2
    assert not dropped
    assert parse() == ([], Counter())


def test_nothing_is_read_beyond_the_batch():
    lines = iter([line()] * 1000)
    next(ndjson.parse_records(lines, dropped=Counter()))
    assert len(list(lines)) >= 900


PIECES = [b"[", b"]", b",", b"}", b"-", b".", b"0", b"1e5", b'"', b"null", b" "]
SIMPLE = {**HEAD, "key_id": "7", "drawing": TIMED}
numbers = st.integers(-(10**7), 10**7) | st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=12,
)


def check_against_json(text: bytes) -> None:
    """Whatever comes through is exactly what a JSON parser reads, and nothing crashes."""
    records, dropped = parse(text, recognized=False)
    assert len(records) + dropped.total() == (not text.isspace() and text != b"")
    for record in records:
        assert as_lists(record.drawing) == from_zero(orjson.loads(text)["drawing"])


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_mutated_lines_never_crash(data):
    text = bytearray(line())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 6))
        piece = st.sampled_from(
            [b"[", b"]", b",", b"}", b"-", b".", b"0", b"1e5", b'"', b"null", b" "]
        )
        text[at : at + cut] = data.draw(piece | st.binary(max_size=3))
    check_against_json(bytes(text).replace(b"\n", b""))


@settings(deadline=None, max_examples=200)
@given(anything, st.sampled_from(sorted(SIMPLE)))
def test_any_value_in_any_place_never_crashes(value, key):
    check_against_json(orjson.dumps({**SIMPLE, key: value}))


@settings(deadline=None, max_examples=500)
@given(st.integers(0, 10**18 - 1), st.integers(0, 17))
@example(335079994201660157, 16)
@example(9007199254740993, 0)
@example(9007199254740993, 5)
def test_decimals_are_rounded_as_python_rounds_them(digits, places):
    text = f"{digits:0{places + 1}d}"
    number = text[: len(text) - places] + ("." + text[len(text) - places :] if places else "")
    scanned, numbers = ndjson._scan_lines(
        [line([[["?"], [0]]]).replace(b'"?"', number.encode())], None
    )
    assert numbers == ([0] if len(number) < 20 else [])
    assert scanned.points[0].tolist() == [float(number)][: len(numbers)]


@pytest.mark.parametrize("kind", ["raw", "simplified"])
def test_the_mirror_is_read_as_orjson_reads_it(mirror, kind):
    lines = []
    for word in quickdraw.words():
        rows = quickdraw.lines(word, kind=kind, base_url=mirror, progress=False)
        lines += islice(rows, 20 if kind == "simplified" else None)
    records, dropped = parse(*lines, recognized=False)
    expected = {(r := orjson.loads(text))["key_id"]: r["drawing"] for text in lines}
    assert len(records) + dropped.total() == len(lines)
    assert set(dropped) <= {strokes.CLOCK}
    assert dropped.total() <= 6
    for record in records:
        for ours, theirs in zip(
            chain(*record.drawing), chain(*from_zero(expected[record.key_id])), strict=True
        ):
            assert np.array_equal(ours, theirs)


def test_ragged_arrays_and_records_say_the_same():
    records, _ = parse(line(), line([stroke[:2] for stroke in TIMED], key_id="2"), line(key_id="3"))
    drawings = RaggedDrawings.from_records(records)
    assert drawings.timed.tolist() == [True, False, True]
    back = list(drawings.select(np.array([2, 0])).records())
    assert [record.key_id for record in back] == ["3", "1"]
    assert as_lists(back[0].drawing) == TIMED
