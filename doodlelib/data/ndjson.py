"""Lines of ndjson to ragged arrays of the good drawings: the parser behind every reader.

Lines in the published form are read by a compiled loop, which makes all of preparing twice as fast;
`_parse` reads the others, whichever tool wrote them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

import numpy as np
import orjson
from pydantic import TypeAdapter

from doodlelib.data.ragged import RaggedDrawings, to_offsets
from doodlelib.jit import kernel
from doodlelib.strokes import EMPTY, Record, find_faults, geometry_id

BATCH = 64  # lines that are parsed together where drawings are wanted one by one

NOT_JSON = "not JSON"
MALFORMED = "wrong types or keys"
LENGTHS = "x, y, t of unequal length"
UNRECOGNIZED = "not recognised"

_DRAWING = b'"drawing":'
_METADATA = {  # the keys that are read beside it, and what they may hold
    "word": {str, int},  # a label, of which only its data set knows the name
    "key_id": {str, int, type(None)},
    "recognized": {bool, type(None)},
    "countrycode": {str, type(None)},
    "timestamp": {str, int, type(None)},
}
_STROKES = TypeAdapter(list[list[list[float]]])
_METADATA_TYPES = set(product(*_METADATA.values()))

# Of `_scan`
_EXACT = 2**53  # whole numbers up to it are floats, and one division rounds right
_POWERS_OF_TEN = 10.0 ** np.arange(20)
_MAX_DIGITS = 18  # of a number that an int64 holds
_ZERO, _MINUS, _POINT, _COMMA, _OPEN, _CLOSE = map(ord, "0-.,[]")
_BRACE, _NEWLINE, _RETURN = map(ord, "}\n\r")


def parse_records(
    lines: Iterable[bytes],
    *,
    word: str | None = None,
    recognized: bool = True,
    limit: int | None = None,
    dropped: Counter[str],
) -> Iterator[Record]:
    """The first `limit` good drawings among `lines`, of which no more are taken than these need."""
    lines = iter(lines)
    while limit != 0 and (batch := list(islice(lines, min(BATCH, limit or BATCH)))):
        drawings = parse_lines(batch, word=word, recognized=recognized)
        dropped.update(drawings.dropped)
        yield from drawings.records()
        limit = limit and limit - len(drawings)


def parse_lines(
    lines: Sequence[bytes], *, word: str | None = None, recognized: bool = True
) -> RaggedDrawings:
    """The good drawings among `lines`, in their order; `dropped` counts the others by reason.

    A drawing is dropped when its line is no JSON (a truncated line is none) or has other types than
    the schema's, x, y and t differ in length, a stroke is empty, or `strokes.find_faults` finds
    one, such as a clock that runs backwards (6 of 9,165 real ones; nothing is repaired). Where
    there is no key_id, one is made from the drawing (see `strokes.geometry_id`).

    Args:
        lines: ndjson in the official schema, raw or simplified, with the drawing in any of the
            forms of `_as_strokes`; blank lines are passed over.
        word: What the drawings show whose lines do not say so; none: such lines are bad.
        recognized: Leave out what the game did not recognise. Where that was not published
            (null) the drawing stays.
    """
    dropped: Counter[str] = Counter()
    drawings, numbers = _scan_lines(lines, word)
    parsed: dict[int, Record] = {}
    for number in sorted(set(range(len(lines))).difference(numbers)):
        if lines[number].strip():
            try:
                parsed[number] = _parse(lines[number], word)
            except _Fault as fault:
                dropped[str(fault)] += 1
    if parsed:
        parsed |= zip(numbers, drawings.records(), strict=True)
        drawings = RaggedDrawings.from_records([parsed[number] for number in sorted(parsed)])
    drawings = select_good(drawings, recognized=recognized)
    return replace(drawings, dropped=drawings.dropped + dropped)


def select_good(drawings: RaggedDrawings, *, recognized: bool) -> RaggedDrawings:
    """Those that are as `parse_lines` wants them, with a key_id, and times that count from 0."""
    starts, points = drawings.offsets[:-1], drawings.points.copy()
    with np.errstate(over="ignore"):  # infinite is too large
        points[2] -= np.repeat(points[2, starts], np.diff(drawings.offsets))
    drawings, faults = replace(drawings, points=points), find_faults(points, starts)
    faults[UNRECOGNIZED] = np.array(
        [recognized and one["recognized"] is False for one in drawings.metadata], dtype=bool
    )
    is_good, dropped = np.ones(len(drawings), dtype=bool), Counter[str]()
    for reason, is_bad in faults.items():
        dropped[reason] = int((is_good & is_bad).sum())
        is_good &= ~is_bad
    drawings = drawings if is_good.all() else drawings.select(np.flatnonzero(is_good))
    if not all(one["key_id"] for one in drawings.metadata):
        for one, record in zip(drawings.metadata, drawings.records(), strict=True):
            one["key_id"] = one["key_id"] or geometry_id(record.drawing)
    return replace(drawings, dropped=+dropped)


class _Fault(Exception):
    """Why a line holds no drawing."""


def _scan_lines(lines: Sequence[bytes], word: str | None) -> tuple[RaggedDrawings, list[int]]:
    """The drawings of the lines in the usual form, and which lines those are.

    Such a line has the drawing last. What comes before it is JSON if it is so with a 0 in the
    drawing's place.
    """
    numbers, metadata, starts, begin = [], [], [], 0
    for number, line in enumerate(lines):
        at = line.find(_DRAWING) + len(_DRAWING)
        try:
            metadata.append(_read_metadata(orjson.loads(line[:at] + b"0}"), word))
        except (orjson.JSONDecodeError, _Fault):
            pass
        else:
            numbers.append(number)
            starts.append(begin + at)
        begin += len(line) + 1
    text = np.frombuffer(b"\n".join([*lines, b""]), dtype=np.uint8)
    points, sizes = np.empty((3, len(text) // 2)), np.empty(len(text) // 2, dtype=np.int64)
    counts = np.zeros(len(starts), dtype=np.int64)
    starts = np.array(starts, dtype=np.int64)
    n_points, n_strokes = _scan(text, starts, points, sizes, counts)
    usual = np.flatnonzero(counts).tolist()
    drawings = RaggedDrawings(
        points[:, :n_points],
        to_offsets(sizes[:n_strokes]),
        to_offsets(counts[usual]),
        [metadata[index] for index in usual],
    )
    return drawings, [numbers[index] for index in usual]


def _parse(line: bytes, word: str | None) -> Record:
    """The drawing of one line, whatever its form."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise _Fault(NOT_JSON) from None
    metadata = _read_metadata(record, word)
    try:
        drawing = _STROKES.validate_python(_as_strokes(record["drawing"]), strict=True)
    except (KeyError, TypeError, ValueError):
        raise _Fault(MALFORMED) from None
    if not drawing:
        raise _Fault(EMPTY)
    if set(map(len, drawing)) not in ({2}, {3}):
        raise _Fault(MALFORMED)
    if any(len(set(map(len, stroke))) > 1 for stroke in drawing):
        raise _Fault(LENGTHS)
    if not all(stroke[0] for stroke in drawing):
        raise _Fault(EMPTY)
    return Record(drawing=[list(map(np.array, stroke)) for stroke in drawing], **metadata)


def _as_strokes(drawing: Any) -> Any:
    """Strokes ``[x, y]`` or ``[x, y, t]``, from whichever form a tool gave them.

    Text (Kaggle's CSV by pandas); an object of rows for all or each stroke (Hugging Face); points
    ``{x, y, t}``, also in strokes that have them as ``points`` (signature pads).
    """
    if isinstance(drawing, str):
        drawing = orjson.loads(drawing)
    if isinstance(drawing, dict):
        drawing = [list(stroke) for stroke in zip(*_rows(drawing), strict=True)]
    return [_rows(stroke) for stroke in drawing]


def _rows(stroke: Any) -> Any:
    """x, y and, if there are times, t of what has them by name; anything else as it is."""
    stroke = stroke.get("points", stroke) if isinstance(stroke, dict) else stroke
    if isinstance(stroke, list) and stroke and isinstance(stroke[0], dict):
        keys = [key for key in ("x", "y", "t", "time") if key in stroke[0]]
        stroke = {key: [point[key] for point in stroke] for key in keys}
    if not isinstance(stroke, dict):
        return stroke
    times = [stroke[key] for key in ("t", "time") if stroke.get(key) is not None]
    return [stroke["x"], stroke["y"], *times[:1]]


def _read_metadata(record: object, word: str | None) -> dict[str, Any]:
    """What a line says beside the drawing, which must be there."""
    if not isinstance(record, dict) or "drawing" not in record:
        raise _Fault(MALFORMED)
    metadata = {key: record.get(key) for key in _METADATA}
    if metadata["word"] is None:
        metadata["word"] = word
    if tuple(map(type, metadata.values())) not in _METADATA_TYPES:
        raise _Fault(MALFORMED)
    metadata["key_id"] = metadata["key_id"] or ""
    texts = ("word", "key_id", "timestamp")
    return metadata | {k: str(metadata[k]) for k in texts if metadata[k] is not None}


@kernel
def _scan(text, starts, points, stroke_sizes, stroke_counts):
    """Read the arrays of numbers that begin at `starts` in `text`, as raw JSON has them.

    Accepts less than JSON: ``[[[x,…],[y,…],[t,…]],…]}`` in decimals of up to 18 digits without
    blanks or exponents, rows of a stroke equally long and not empty, then the line's end, a
    newline. Anything else is not judged here: the line gets no strokes.

    Fills `points` (3, room), `stroke_sizes` and, for each line, `stroke_counts`; returns how many
    points and strokes were written.

    Source: of decimals with over 53 bits, Dekker 1971 (the product of two floats as a sum of two).
    """
    n_points, n_strokes = 0, 0
    for line in range(len(starts)):
        at = starts[line]
        point, stroke, width = n_points, n_strokes, 0
        usual = text[at] == _OPEN
        depth = 1  # brackets that are open
        row, begin = 0, point
        while usual and depth:
            at += 1
            if depth < 3:  # before a stroke or a row
                usual = text[at] == _OPEN
                depth += 1
                if depth == 2:
                    row, begin = -1, point
                else:
                    row += 1
                    usual &= row < 3
                    point = begin
                continue
            negative = text[at] == _MINUS
            at += negative
            first, digits, places = at, 0, 0
            while _ZERO <= text[at] < _ZERO + 10:
                digits = digits * 10 + (text[at] - _ZERO)
                at += 1
            length = at - first
            usual = length > 0 and (length == 1 or text[first] != _ZERO)
            if text[at] == _POINT:
                at += 1
                while _ZERO <= text[at] < _ZERO + 10:
                    digits = digits * 10 + (text[at] - _ZERO)
                    at += 1
                    places += 1
                length += places
                usual &= places > 0
            if not usual or length > _MAX_DIGITS:
                usual = False
                break
            value = float(digits) / _POWERS_OF_TEN[places]
            if digits > _EXACT:  # the quotient's remainder, which is exact, corrects it
                high, power = float(digits), _POWERS_OF_TEN[places]
                a = value * 134217729.0  # 2**27 + 1 splits a float into halves
                a = a - (a - value)
                b = power * 134217729.0
                b = b - (b - power)
                a_low, b_low = value - a, power - b
                product = value * power
                error = a_low * b_low - (((product - a * b) - a_low * b) - a * b_low)
                value += (((high - product) - error) + float(digits - np.int64(high))) / power
            points[row, point] = -value if negative else value
            point += 1
            if text[at] == _COMMA:
                continue
            usual = text[at] == _CLOSE
            if row == 0:
                size = point - begin
            usual &= point - begin == size
            depth = 2
            at += 1
            if text[at] == _COMMA:
                continue
            usual &= text[at] == _CLOSE and row > 0 and (width == 0 or width == row + 1)
            width = row + 1
            if row == 1:
                points[2, begin:point] = np.nan
            stroke_sizes[stroke] = size
            stroke += 1
            depth = 1
            at += 1
            if text[at] == _COMMA:
                continue
            usual &= text[at] == _CLOSE
            depth = 0
        at += 1
        if usual and text[at] == _BRACE:
            at += 1
            at += text[at] == _RETURN
            if text[at] == _NEWLINE:
                stroke_counts[line] = stroke - n_strokes
                n_points, n_strokes = point, stroke
    return n_points, n_strokes
