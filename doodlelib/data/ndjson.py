"""Lines of ndjson to flat arrays to filters: the one engine behind every reader of drawings.

Python objects cost more than the numbers in them, so some hundred drawings at a time become one
`Chunk` of flat arrays, and everything after that (filters, scaling, simplification, storing) works
on whole chunks. `parse_records` gives single drawings from the same chunks.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, product
from typing import Any

import numpy as np
import orjson
from jaxtyping import Float64, UInt8

from doodlelib.data.ragged import Chunk, concatenate, join, to_offsets
from doodlelib.strokes import Record, geometry_id

MAX_POINTS = 10_000  # the longest real drawing has a fifth of it
MAX_MAGNITUDE = 1e6  # px and ms: far over any screen; 17 minutes, where the game stops after 20 s
BATCH = 64  # lines that are parsed together where drawings are wanted one by one

NOT_JSON = "not JSON"
MALFORMED = "wrong types or keys"
LENGTHS = "x, y, t of unequal length"
EMPTY = "under 1 stroke or 2 points"
TOO_LONG = f"over {MAX_POINTS} points"
TOO_LARGE = f"a number not finite or over {MAX_MAGNITUDE:g}"
CLOCK = "time runs back"
UNRECOGNIZED = "not recognised"

_FAULTS = ("", EMPTY, TOO_LONG, TOO_LARGE, CLOCK)  # the codes of kernels.inspect
_DRAWING = b'"drawing":'
_HEAD = {  # the keys that are read beside it, and what they may hold
    "word": {str},
    "key_id": {str, int, type(None)},
    "recognized": {bool, type(None)},
    "countrycode": {str, type(None)},
    "timestamp": {str, type(None)},
}
_HEAD_TYPES = set(product(*_HEAD.values()))


def parse_records(
    lines: Iterable[bytes],
    *,
    word: str | None = None,
    recognized: bool = True,
    strict: bool = False,
    dropped: Counter[str],
    source: str,
) -> Iterator[Record]:
    """The good drawings among `lines`, one by one; what was dropped is added to `dropped`.

    The other arguments are those of `parse_chunk`.
    """
    lines, first = iter(lines), 1
    while batch := list(islice(lines, BATCH)):
        chunk = parse_chunk(
            batch, word=word, recognized=recognized, strict=strict, source=source, first=first
        )
        dropped.update(chunk.dropped)
        yield from chunk.records()
        first += len(batch)


def parse_chunk(
    lines: Sequence[bytes],
    *,
    word: str | None = None,
    recognized: bool = True,
    strict: bool = False,
    source: str,
    first: int = 1,
) -> Chunk:
    """The good drawings among `lines`, in their order, as one chunk.

    A drawing is dropped, and counted under the first reason that fits, when its line is no JSON
    (a truncated line is none) or has other types than the schema's, x, y and t differ in length, a
    stroke is empty, it has under 2 or over `MAX_POINTS` points, a number is not finite or over
    `MAX_MAGNITUDE`, or its clock runs backwards (6 of 9,165 real ones; nothing is repaired).
    Where there is no key_id, one is made from the drawing (see `strokes.geometry_id`).

    Args:
        lines: ndjson in the official schema, raw or simplified; blank lines are passed over.
        word: What the drawings show whose lines do not say so; none: such lines are bad.
        recognized: Leave out what the game did not recognise. Where that was not published
            (null) the drawing stays.
        strict: A bad line is an error; an unrecognised drawing is still only left out.
        source: What the lines come from, for messages.
        first: Number of the first line, for messages.

    Raises:
        ValueError: `strict`, and a line is bad; with `source` and the line's number.
    """
    faults: dict[int, str] = {}
    chunk, numbers = _parse_lines(lines, word, faults)
    wrong = _faults(chunk)
    faults |= {n: _FAULTS[code] for n, code in zip(numbers, wrong, strict=True) if code}
    if strict and faults:
        number = min(faults)
        raise ValueError(f"{source}, line {first + number}: {faults[number]}")
    dropped, good = Counter(faults.values()), wrong == 0
    if recognized:
        unknown = np.array([head["recognized"] is False for head in chunk.heads], dtype=bool)
        dropped += Counter({UNRECOGNIZED: int((good & unknown).sum())})
        good &= ~unknown
    chunk = chunk if good.all() else chunk.take(np.flatnonzero(good))
    if not all(head["key_id"] for head in chunk.heads):
        for head, record in zip(chunk.heads, chunk.records(), strict=True):
            head["key_id"] = head["key_id"] or geometry_id(record.drawing)
    return replace(chunk, dropped=dropped)


class _Fault(Exception):
    """Why a line holds no drawing."""


def _parse_lines(
    lines: Sequence[bytes], word: str | None, faults: dict[int, str]
) -> tuple[Chunk, list[int]]:
    """The drawings of some lines, and which line each is from; `faults` gets the other lines.

    Lines in the common form are scanned without making Python numbers; orjson judges all others.
    """
    scanned, numbers = _scan(lines, word)
    parsed = {}
    for number in sorted(set(range(len(lines))).difference(numbers)):
        if lines[number].strip():
            try:
                parsed[number] = _parse(lines[number], word)
            except _Fault as fault:
                faults[number] = str(fault)
    if not parsed:
        return scanned, numbers
    points, sizes, heads = zip(*parsed.values(), strict=True)
    numbers += parsed
    chunk = concatenate(scanned, join(points, sizes, list(heads)))
    return chunk.take(np.argsort(numbers)), sorted(numbers)


def _scan(lines: Sequence[bytes], word: str | None) -> tuple[Chunk, list[int]]:
    """The drawings of the lines in the common form, and which lines those are.

    Such a line has the drawing last. What comes before it is JSON if it is so with a 0 in the
    drawing's place.
    """
    from doodlelib.data import kernels

    numbers, heads, starts, begin = [], [], [], 0
    for number, line in enumerate(lines):
        at = line.find(_DRAWING) + len(_DRAWING)
        try:
            head = _head(orjson.loads(line[:at] + b"0}"), word)
        except (orjson.JSONDecodeError, _Fault):
            pass
        else:
            numbers.append(number)
            heads.append(head)
            starts.append(begin + at)
        begin += len(line) + 1
    text = np.frombuffer(b"\n".join([*lines, b""]), dtype=np.uint8)
    points, sizes = np.empty((3, len(text) // 2)), np.empty(len(text) // 2, dtype=np.int64)
    counts = np.zeros(len(starts), dtype=np.int64)
    n_points, n_strokes = kernels.scan(
        text, np.array(starts, dtype=np.int64), points, sizes, counts
    )
    usual = np.flatnonzero(counts).tolist()
    chunk = Chunk(
        points[:, :n_points],
        to_offsets(sizes[:n_strokes]),
        to_offsets(counts[usual]),
        [heads[index] for index in usual],
    )
    return chunk, [numbers[index] for index in usual]


def _parse(
    line: bytes, word: str | None
) -> tuple[Float64[np.ndarray, "3 n"], list[int], dict[str, Any]]:
    """Points, points in each stroke, and head of one line, whatever its form."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise _Fault(NOT_JSON) from None
    head = _head(record, word)
    drawing = record["drawing"]
    if drawing == []:
        raise _Fault(EMPTY)
    if not _all_lists([drawing]) or not _all_lists(drawing) or not _all_lists(chain(*drawing)):
        raise _Fault(MALFORMED)
    widths = set(map(len, drawing))
    if widths not in ({2}, {3}):
        raise _Fault(MALFORMED)
    rows = [[stroke[row] for stroke in drawing] for row in range(widths.pop())]
    sizes = list(map(len, rows[0]))
    if any(list(map(len, row)) != sizes for row in rows):
        raise _Fault(LENGTHS)
    if 0 in sizes:
        raise _Fault(EMPTY)
    numbers = [list(chain(*row)) for row in rows]
    if not set(map(type, chain(*numbers))) <= {int, float}:
        raise _Fault(MALFORMED)
    points = np.full((3, sum(sizes)), np.nan)
    points[: len(numbers)] = numbers
    return points, sizes, head


def _head(record: object, word: str | None) -> dict[str, Any]:
    """What a line says beside the drawing, which must be there."""
    if not isinstance(record, dict) or "drawing" not in record:
        raise _Fault(MALFORMED)
    head = {key: record.get(key) for key in _HEAD}
    if head["word"] is None:
        head["word"] = word
    if tuple(map(type, head.values())) not in _HEAD_TYPES:
        raise _Fault(MALFORMED)
    head["key_id"] = "" if head["key_id"] is None else str(head["key_id"])
    return head


def _all_lists(values: Iterable) -> bool:
    return set(map(type, values)) <= {list}


def _faults(chunk: Chunk) -> UInt8[np.ndarray, " drawings"]:
    """What is wrong with the numbers of each drawing, as an index of `_FAULTS`."""
    from doodlelib.data import kernels

    return kernels.inspect(chunk.points, chunk.offsets, MAX_POINTS, MAX_MAGNITUDE)
