"""Google's binary files of simplified drawings, ``.bin``."""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import IO

import numpy as np

from doodlelib.data.ndjson import MALFORMED
from doodlelib.strokes import Drawing, Record

TRUNCATED = "file ends within a drawing"
_HEAD = struct.Struct("<Q2sbIH")  # key_id, country, recognised, seconds since 1970, strokes


def read_records(path: Path, word: str) -> Iterator[tuple[str, Record | str]]:
    """Of each drawing, where in the file it is, and its record or why there is none.

    Raises:
        ValueError: While reading: the first drawing is none.

    Source: github.com/googlecreativelab/quickdraw-dataset, examples/binary_file_parser.py.
    """
    with path.open("rb") as file:
        for number in count(1):
            if not (head := file.read(_HEAD.size)):
                return
            record = _read_record(head, file, word)
            if number == 1 and isinstance(record, str):
                raise ValueError(f"{path} is no binary file of drawings: {record}")
            yield f"drawing {number}", record
            if isinstance(record, str):
                return  # without its length, nobody knows where the next one begins


def _read_record(head: bytes, file: IO[bytes], word: str) -> Record | str:
    """The drawing whose first bytes are `head`, or why there is none."""
    drawing: Drawing = []
    try:
        key_id, country, recognized, seconds, stroke_count = _HEAD.unpack(head)
        for _ in range(stroke_count):
            (size,) = struct.unpack("<H", file.read(2))
            points = np.frombuffer(file.read(2 * size), dtype=np.uint8).astype(np.float64)
            drawing.append(list(points.reshape(2, size)))
    except (struct.error, ValueError):
        return TRUNCATED
    if recognized not in (0, 1) or not country.isascii():
        return MALFORMED
    timestamp = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return Record(word, str(key_id), bool(recognized), drawing, country.decode(), timestamp)
