"""Lines of ndjson to flat arrays to filters: the one engine behind every reader of drawings.

Python objects cost more than the numbers in them, so a few thousand drawings at a time become one
`Chunk` of flat arrays, and everything after that (filters, scaling, simplification, storing) works
on whole chunks. `parse_records` gives single drawings from the same chunks.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import orjson
from jaxtyping import Float64, UInt8

from doodlelib.chunks import Chunk, concatenate, join, to_offsets
from doodlelib.strokes import Record

MAX_POINTS = 10_000  # the longest real drawing has a fifth of it
MAX_MAGNITUDE = 1e6  # px and ms: far over any screen; 17 minutes, where the game stops after 20 s

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


def parse_records(
    lines: Iterable[bytes],
    *,
    recognized: bool = True,
    strict: bool = False,
    dropped: Counter[str],
    source: str,
) -> Iterator[Record]:
    """The good drawings among `lines`, one by one; see `parse_chunks`."""
    for chunk in parse_chunks(
        lines, size=64, recognized=recognized, strict=strict, dropped=dropped, source=source
    ):
        yield from chunk.records()


def parse_chunks(
    lines: Iterable[bytes],
    *,
    size: int = 512,
    recognized: bool = True,
    strict: bool = False,
    dropped: Counter[str],
    source: str,
) -> Iterator[Chunk]:
    """The good drawings among `lines`, as chunks of flat arrays.

    A drawing is dropped, and counted under the first reason that fits, when its line is no JSON
    (a truncated line is none) or has other types than the schema's, x, y and t differ in length, a
    stroke is empty, it has under 2 or over `MAX_POINTS` points, a number is not finite or over
    `MAX_MAGNITUDE`, or its clock runs backwards (6 of 9,165 real ones; nothing is repaired).

    Args:
        lines: ndjson in the official schema, raw or simplified; blank lines are passed over.
        size: Lines that are read and held at a time.
        recognized: Leave out what the game did not recognise. Where that was not published
            (null) the drawing stays.
        strict: A bad line is an error; an unrecognised drawing is still only left out.
        dropped: Counts by reason are added to it.
        source: What the lines come from, for messages.

    Returns:
        Chunks of at most `size` drawings, in the order of the lines. A missing key_id becomes
        ``geom-`` and the first 16 hexadecimal digits of the drawing's SHA-1.

    Raises:
        ValueError: `strict`, and a line is bad; with `source` and the line's number.
    """
    numbered = ((n, line) for n, line in enumerate(lines, 1) if line and not line.isspace())
    while batch := list(islice(numbered, size)):
        faults: dict[int, str] = {}
        chunk, numbers = _parse_batch(batch, faults)
        wrong = _faults(chunk)
        faults.update((n, _FAULTS[code]) for n, code in zip(numbers, wrong, strict=True) if code)
        if strict and faults:
            number = min(faults)
            raise ValueError(f"{source}, line {number}: {faults[number]}")
        dropped.update(faults.values())
        good = wrong == 0
        if recognized:
            unknown = np.array([head["recognized"] is False for head in chunk.heads], dtype=bool)
            dropped.update([UNRECOGNIZED] * int((good & unknown).sum()))
            good &= ~unknown
        if good.any():
            yield chunk if good.all() else chunk.take(np.flatnonzero(good))


class _Fault(Exception):
    """Why a line holds no drawing."""


def _parse_batch(batch: list[tuple[int, bytes]], faults: dict[int, str]) -> tuple[Chunk, list[int]]:
    """The drawings of a batch of numbered lines, and the number of each; `faults` gets the rest.

    Lines in the common form are scanned without making Python numbers; orjson judges all others.
    """
    scanned, numbers = _scan(batch)
    parsed = {}
    for number, line in batch:
        if number not in numbers:
            try:
                parsed[number] = _parse(line)
            except _Fault as fault:
                faults[number] = str(fault)
    if not parsed:
        return scanned, list(numbers)
    points, sizes, heads = zip(*parsed.values(), strict=True)
    order = np.argsort([*numbers, *parsed])
    return concatenate(scanned, join(points, sizes, list(heads))).take(order), sorted(
        [*numbers, *parsed]
    )


def _scan(batch: list[tuple[int, bytes]]) -> tuple[Chunk, dict[int, None]]:
    """The drawings of the lines in the common form, and the numbers of those lines, in order.

    Such a line has the drawing last. What comes before it is JSON if it is so with a 0 in the
    drawing's place.
    """
    from doodlelib import kernels

    numbers, heads, starts, texts, begin = [], [], [], [], 0
    for number, line in batch:
        at = line.rfind(_DRAWING) + len(_DRAWING)
        try:
            head = _head(orjson.loads(line[:at] + b"0}"))
        except (orjson.JSONDecodeError, _Fault):
            continue
        if not head["key_id"]:
            head["key_id"] = _geometry_id(line[at:].rstrip()[:-1])
        numbers.append(number)
        heads.append(head)
        starts.append(begin + at)
        texts.append(line)
        begin += len(line) + 1
    text = np.frombuffer(b"\n".join([*texts, b""]), dtype=np.uint8)
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
    return chunk, dict.fromkeys(numbers[index] for index in usual)


def _parse(line: bytes) -> tuple[Float64[np.ndarray, "3 n"], list[int], dict[str, Any]]:
    """Points, points in each stroke, and head of one line, whatever its form."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise _Fault(NOT_JSON) from None
    head = _head(record)
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
    if not head["key_id"]:
        head["key_id"] = _geometry_id(orjson.dumps(drawing))
    return points, sizes, head


def _head(record: object) -> dict[str, Any]:
    """What a line says beside the drawing, which must be there."""
    if not isinstance(record, dict) or "drawing" not in record:
        raise _Fault(MALFORMED)
    head = {key: record.get(key) for key in _HEAD}
    if any(type(head[key]) not in allowed for key, allowed in _HEAD.items()):
        raise _Fault(MALFORMED)
    if isinstance(head["key_id"], int):
        head["key_id"] = str(head["key_id"])
    return head


def _geometry_id(drawing: bytes) -> str:
    """An id for a drawing that was published without one, from its compact JSON."""
    return f"geom-{hashlib.sha1(drawing).hexdigest()[:16]}"


def _all_lists(values: Iterable) -> bool:
    return set(map(type, values)) <= {list}


def _faults(chunk: Chunk) -> UInt8[np.ndarray, " drawings"]:
    """What is wrong with the numbers of each drawing, as an index of `_FAULTS`."""
    from doodlelib import kernels

    return kernels.inspect(chunk.points, chunk.offsets, MAX_POINTS, MAX_MAGNITUDE)
