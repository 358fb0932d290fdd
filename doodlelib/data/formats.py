"""Records of any file of drawings: Google's ndjson, sketch-rnn's npz, SVG, folders of one's own.

The suffix says what a file holds, and the content must agree. Nothing that a stranger wrote is
executed, and sizes are checked before memory is taken.
"""

import codecs
import io
import json
import pickle
import pickletools
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from doodlelib.data import ndjson
from doodlelib.data.ragged import RaggedDrawings
from doodlelib.data.store import NPY_ERRORS
from doodlelib.strokes import MAX_POINTS, Drawing, Record

NDJSON = (".ndjson", ".jsonl", ".json")
MAX_LINE = 2**24  # bytes; a drawing of MAX_POINTS takes a tenth of a MiB
MAX_DOCUMENT = 2**26  # bytes that are read at once where a file is not made of lines in UTF-8
EXPECTED = 'expected is a line {"drawing": [[[x, ...], [y, ...], [t, ...]], ...]} for each drawing'
LINK = "link out of the folder"
UNREADABLE = "other files that cannot be read"
MAX_NAMED = 5  # of a folder's files that cannot be read: so many are named, with the reason

MAX_UNPACKED = 2**30  # bytes of all members; the largest official file has a quarter of it
MAX_RATIO = 100  # unpacked to packed; strokes come to 2 or 3, a bomb to 1000

_RECORD_IN_A_LINE = re.compile(rb"^\{.*\}\r?$", re.MULTILINE)
_ENCODINGS = {  # by how a file begins that is not in UTF-8
    **{codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"},
    **{b"{\0": "utf-16-le", b"[\0": "utf-16-le", b"\0{": "utf-16-be", b"\0[": "utf-16-be"},
}
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError)
_PICKLE_ERRORS = (  # what the documentation of pickle says a bad stream may raise
    *(pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError),
    *(TypeError, ValueError, OverflowError, MemoryError),
)
_OPCODES = {  # that build lists and tuples of arrays
    *("PROTO", "FRAME", "MARK", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "GLOBAL", "STACK_GLOBAL"),
    *("MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "BINUNICODE", "BINFLOAT"),
    *("TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("BINBYTES", "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING"),
    *("SHORT_BINUNICODE", "REDUCE", "BUILD", "BININT", "BININT1", "BININT2"),
}
_ARRAY_NAMES = {
    *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
    *("numpy.ndarray", "numpy.dtype"),
}


def read(
    path: str | Path,
    *,
    word: str | None = None,
    recognized: bool = True,
    dropped: Counter[str] | None = None,
) -> Iterator[Record]:
    """The drawings of a file, whichever of the known formats it is in, or of a folder of files.

    A folder holds one's own drawings: files (``cat.ndjson``) or folders of files (``cat/*.svg``)
    named by word. There the name decides the word, whatever the file says. Hidden files, other
    suffixes and deeper folders are passed over; links that lead out of it are never followed.

    Args:
        path: The file or folder.
        word: Of a file, what the drawings show (default: what it says, else its name up to the
            first dot: ``cat.svg``, ``face.test.npz``). Of a folder, the only word to read.
        recognized: Leave out what the game did not recognise, where the file says so.
        dropped: Numbers of bad drawings, and of a folder's bad files, are added to it, by reason.

    Raises:
        ValueError: The suffix is unknown, the file as a whole is not what its name says, or the
            folder holds no drawing files (of that word). Names the file.
    """
    path, dropped = Path(path), Counter() if dropped is None else dropped
    options: dict[str, Any] = {"recognized": recognized, "dropped": dropped}
    if path.is_dir():
        return _read_folder(path, word, **options)
    suffix, name = path.suffix.lower(), path.name.split(".")[0]
    if suffix in NDJSON:
        records = ndjson.parse_records(_lines(path), word=name, **options)
        return records if word is None else (replace(record, word=word) for record in records)
    if suffix not in _READERS:
        known = ", ".join((*NDJSON, *_READERS))
        raise ValueError(f"{path}: no folder, and no reader for {suffix!r}; known: {known}")
    return _good(_READERS[suffix](path, word or name), **options)


def _read_folder(
    folder: Path, word: str | None, *, dropped: Counter[str], **options: Any
) -> Iterator[Record]:
    root = folder.resolve()
    files = [
        (path, own)
        for path in chain(sorted(root.glob("[!.]*")), sorted(root.glob("[!.]*/[!.]*")))
        if path.suffix.lower() in (*NDJSON, *_READERS) and path.is_file()
        if (own := path.name.split(".")[0] if path.parent == root else path.parent.name)
        if word in (None, own)
    ]
    if not files:
        raise ValueError(f"{folder} holds no files named by word{f' for {word!r}' if word else ''}")
    refused = 0
    for path, own in files:
        if not path.resolve().is_relative_to(root):
            dropped[LINK] += 1
            continue
        try:
            yield from read(path, word=own, dropped=dropped, **options)
        except ValueError as error:
            refused += 1
            why = str(error).replace(str(path), path.relative_to(root).as_posix())
            dropped[why if refused <= MAX_NAMED else UNREADABLE] += 1


def _good(
    found: Iterator[Record | str], *, recognized: bool, dropped: Counter[str]
) -> Iterator[Record]:
    """The good ones of the drawings that a reader found; the others are counted by reason."""
    for record in found:
        if isinstance(record, str):
            dropped[record] += 1
            continue
        drawings = ndjson.select_good(RaggedDrawings.from_records([record]), recognized=recognized)
        dropped.update(drawings.dropped)
        yield from drawings.records()


def from_stroke3(rows: Shaped[np.ndarray, "..."]) -> Drawing:
    """The untimed drawing of (n, 3) rows dx, dy, and 1 where the pen lifts after; else ValueError.

    Inverse of `viz.export.to_npz`.
    """
    if rows.ndim != 2 or rows.shape[1] != 3 or not 0 < len(rows) <= MAX_POINTS:
        raise ValueError(f"stroke-3 is 1 to {MAX_POINTS} rows of 3, not {rows.shape}")
    if not np.isin(rows[:, 2], (0, 1)).all():
        raise ValueError("the pen column of stroke-3 holds 0 and 1 alone")
    points = np.cumsum(rows[:, :2], axis=0, dtype=np.float64)
    starts = np.flatnonzero(rows[:-1, 2]) + 1
    return [list(stroke.T) for stroke in np.split(points, starts)]


def _lines(path: Path) -> Iterator[bytes]:
    """A line of UTF-8 for each record of `path`; one over `MAX_LINE` is in pieces, no JSON."""
    with path.open("rb") as file:
        data = file.read(MAX_LINE)
        head = data.removeprefix(codecs.BOM_UTF8)
        encoding = next((name for mark, name in _ENCODINGS.items() if head.startswith(mark)), None)
        if encoding is None and _has_lines(head):
            file.seek(len(data) - len(head))
            yield from iter(partial(file.readline, MAX_LINE), b"")
            return
        data = head + file.read(MAX_DOCUMENT)
    try:
        if len(data) > MAX_DOCUMENT:
            raise ValueError(f"over {MAX_DOCUMENT >> 20} MiB of another form")
        text = data.decode(encoding or "utf-8")
        data = text.encode()
        yield from data.splitlines() if _has_lines(data) else _records(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not ndjson: {error}; {EXPECTED}") from error


def _has_lines(data: bytes) -> bool:
    """Whether any line is a record; a document's own lines are none, or stand in an array."""
    return not data.lstrip().startswith(b"[") and bool(_RECORD_IN_A_LINE.search(data))


def _records(text: str) -> Iterator[bytes]:
    """The records in JSON documents, one after the other, each an object or an array of these."""
    decoder, at = json.JSONDecoder(), len(text) - len(text.lstrip())
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        records = value if isinstance(value, list) else [value]
        if any(isinstance(one, dict) and "points" in one for one in records):
            records = [{"drawing": records}]  # the strokes of a signature pad
        if not any(isinstance(one, dict) and "drawing" in one for one in records):
            line = text.count("\n", 0, at) + 1
            raise ValueError(f"no record with a drawing up to line {line}")
        yield from (json.dumps(one).encode() for one in records)
        while text[at : at + 1].isspace():
            at += 1


def _read_npz(path: Path, word: str) -> Iterator[Record | str]:
    """sketch-rnn's splits, one after the other: object arrays of stroke-3, that is, pickles.

    A pickle may call any function it names. Here it gets stand-ins for those that arrays need and
    no other, and no instruction that arrays do without.
    """
    name, others = "it", []  # the member that is read; those without drawings
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            packed = sum(member.compress_size for member in members)
            if unpacked > min(MAX_UNPACKED, MAX_RATIO * packed):
                raise ValueError(f"{packed} bytes would unpack to {unpacked}")
            for member in members:
                name = member.filename
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{name} is packed in another way than deflate")
                arrays = _arrays_in(archive.read(member))
                if isinstance(arrays, str):
                    others.append(f"{name} holds {arrays}")
                    continue
                for array in arrays:
                    try:
                        rows = array if isinstance(array, np.ndarray) else array.to_array()
                        found = Record(word, "", None, from_stroke3(rows))
                    except ValueError:
                        found = ndjson.MALFORMED
                    yield found
            if others and len(others) == len(members):
                name = ", ".join(others)
                raise ValueError("no drawings")
    except FileNotFoundError:
        raise
    except (*_ZIP_ERRORS, *NPY_ERRORS) as error:
        raise ValueError(f"{path} is no readable npz: {name}: {error}") from error


class _StandIn:
    """Stands in for an array or its type, whose own way out of a pickle crashes on bad bytes."""

    def __init__(self, *given: Any) -> None:
        self.given, self.state = given, ()

    def __setstate__(self, state: tuple) -> None:
        self.state = tuple(state)

    def to_array(self) -> np.ndarray:
        """The array of numbers; ValueError where it is none."""
        try:
            _, shape, dtype, is_fortran, data = self.state
            code = dtype.state[1] + dtype.given[0]
            if not re.fullmatch(r"[<>|=][iuf][1248]", code):
                raise ValueError(f"arrays of {code!r} are not read")
            data = data.encode("latin1") if isinstance(data, str) else data
            order = "F" if is_fortran else "C"
            return np.frombuffer(data, np.dtype(code)).reshape(shape, order=order)
        except (AttributeError, LookupError, TypeError, OverflowError) as error:
            raise ValueError(f"not an array of numbers: {error}") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Loads arrays, and refuses whatever else a pickle may name."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands in for one of the names that arrays need."""
        if (module, name) == ("_codecs", "encode"):  # bytes, as protocol 2 writes them
            return lambda text, _: text.encode("latin1")
        if f"{module}.{name}" not in _ARRAY_NAMES:
            raise pickle.UnpicklingError(f"the pickle calls {module}.{name}, which is no array")
        return _StandIn


def _arrays_in(data: bytes) -> Sequence[_StandIn] | np.ndarray | str:
    """The drawings in `data`, a whole .npy; where it is no array of drawings, what it holds."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f".npy of version {version}")
    shape, is_fortran, dtype = getattr(np.lib.format, f"read_array_header_{version[0]}_0")(file)
    start, is_equal = file.tell(), len(shape) == 3 and shape[2] == 3
    if dtype != np.dtype(object):
        if dtype.kind not in "iuf" or not is_equal:
            return f"{dtype} {shape}"
        numbers = np.frombuffer(data, dtype, offset=start)
        return numbers.reshape(shape, order="F" if is_fortran else "C")
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name not in _OPCODES:
            raise ValueError(f"the pickle has a {opcode.name}, which no array needs")
        if opcode.name == "LONG_BINPUT" and not 0 <= int(argument or 0) < len(data):
            raise ValueError(f"the pickle wants room for {argument} objects")
    file.seek(start)
    try:
        items = _ArrayUnpickler(file, encoding="latin1").load().state[-1]
    except _PICKLE_ERRORS as error:
        raise ValueError(f"the pickle holds no array of arrays: {error}") from error
    if is_equal and isinstance(items, list) and {*map(type, items)} <= {int, float}:
        return np.array(items).reshape(shape)
    if not isinstance(items, list) or not all(isinstance(item, _StandIn) for item in items):
        raise ValueError("the pickle holds no array of arrays")
    return items


def _read_svg(path: Path, word: str) -> Iterator[Record | str]:
    from doodlelib.data import svg_reader  # imports much that few need

    yield Record(word, "", None, svg_reader.read_drawing(path))


_READERS = {".npz": _read_npz, ".svg": _read_svg}
