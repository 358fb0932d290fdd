"""Every file of drawings in: Google's formats, sketch-rnn's, stroke-4, SVG, a folder of one's own.

The suffix says what a file holds, and the content must agree. Nothing that a stranger wrote is
executed, and sizes are checked before memory is taken.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from jaxtyping import UInt8

from doodlelib.data import binary, ndjson, sketchrnn_npz
from doodlelib.strokes import Drawing, Record, from_stroke4, geometry_id

MAX_LINE = 2**24  # bytes; a drawing of MAX_POINTS takes a tenth of a MiB
UNREADABLE = "unreadable file, or link out of the folder"

Found = tuple[str, Record | str]  # where in the file, and the record or why there is none


def read(
    source: str | Path | Mapping | Sequence,
    *,
    word: str | None = None,
    recognized: bool = True,
    strict: bool = False,
    dropped: Counter[str] | None = None,
) -> Iterator[Record]:
    """The drawings in whatever holds any.

    Args:
        source: A file of any known format (see `read_file`), a folder (see `read_folder`), or what
            a notebook holds: strokes ``[x, y, t]`` or ``[x, y]``, or a dict in the raw schema.
        word: As there; what a drawing shows that does not say so, in memory "".
        recognized: As there.
        strict: As there.
        dropped: As there.

    Raises:
        ValueError: As there.
    """
    if isinstance(source, str | Path):
        reader = read_folder if Path(source).is_dir() else read_file
        return reader(source, word=word, recognized=recognized, strict=strict, dropped=dropped)
    record = {**source} if isinstance(source, Mapping) else {"drawing": source}
    record |= {"word": word} if word else {}
    try:
        line = orjson.dumps(record, np.ndarray.tolist, orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise ValueError(f"no drawing: {error}") from error
    return ndjson.parse_records(
        [line],
        word="",
        recognized=recognized,
        strict=strict,
        dropped=Counter() if dropped is None else dropped,
        source="drawing in memory",
    )


def read_file(
    path: str | Path,
    *,
    word: str | None = None,
    recognized: bool = True,
    strict: bool = False,
    dropped: Counter[str] | None = None,
) -> Iterator[Record]:
    """The drawings of one file, whichever of the known formats it is in.

    `.ndjson`: Google's drawings, raw (timed) or simplified. `.bin`: Google's binary ones, untimed.
    `.npz`: sketch-rnn's stroke-3, untimed. `.npy`: one drawing as stroke-4 (28x28 images have
    `read_images`). `.svg`: one drawing of paths and basic shapes, untimed.

    Args:
        path: The file.
        word: What the drawings show. Default: what the file says, else its name up to the first
            dot (``cat.svg``, ``face.test.npz``).
        recognized: Leave out what the game did not recognise, where the file says so.
        strict: A bad drawing is an error; by default it is dropped.
        dropped: Counts by reason are added to it.

    Returns:
        Records, read as they are asked for. key_id is ``geom-`` and a digest of the drawing where
        the file has none.

    Raises:
        ValueError: The suffix is unknown, or (while reading) the file as a whole is not what its
            name says; in strict mode also for the first bad drawing. Names the file and the place.
    """
    dropped = Counter() if dropped is None else dropped
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".ndjson":
        records = ndjson.parse_records(
            _lines(path),
            word=path.name.split(".")[0],
            recognized=recognized,
            strict=strict,
            dropped=dropped,
            source=str(path),
        )
        return records if word is None else (replace(record, word=word) for record in records)
    if suffix not in _READERS:
        raise ValueError(f"{path}: no reader for {suffix!r}; known: .ndjson {' '.join(_READERS)}")
    found = _READERS[suffix](path, word or path.name.split(".")[0])
    return _admitted(found, path, recognized=recognized, strict=strict, dropped=dropped)


def read_folder(
    folder: str | Path,
    *,
    word: str | None = None,
    recognized: bool = True,
    strict: bool = False,
    dropped: Counter[str] | None = None,
) -> Iterator[Record]:
    """One's own drawings: files (``cat.ndjson``) or folders of files (``cat/*.svg``) named by word.

    The name decides the word, whatever the file says. Hidden files, other suffixes and deeper
    folders are passed over; links that lead out of `folder` are never followed.

    Args:
        folder: The folder.
        word: Only the drawings of this word.
        recognized: As in `read_file`.
        strict: A bad drawing, an unreadable file or a link that leads out is an error.
        dropped: Counts by reason are added to it; a file counts once.

    Raises:
        ValueError: `folder` is none, holds no drawing files (of that word), or see `strict`.
    """
    dropped = Counter() if dropped is None else dropped
    root = Path(folder).resolve()
    if not root.is_dir():
        raise ValueError(f"{folder} is no folder")
    files = [
        (path, own)
        for path in chain(sorted(root.glob("[!.]*")), sorted(root.glob("[!.]*/[!.]*")))
        if path.suffix.lower() in (".ndjson", *_READERS) and path.is_file()
        if (own := path.name.split(".")[0] if path.parent == root else path.parent.name)
        if word in (None, own)
    ]
    if not files:
        raise ValueError(f"{folder} holds no files named by word{f' for {word!r}' if word else ''}")
    for path, own in files:
        try:
            if not path.resolve().is_relative_to(root):
                raise ValueError(f"{path} leads out of {root}")
            yield from read_file(
                path, word=own, recognized=recognized, strict=strict, dropped=dropped
            )
        except ValueError:
            if strict:
                raise
            dropped[UNREADABLE] += 1


def read_images(path: str | Path) -> UInt8[np.ndarray, "N 28 28"]:
    """Google's 28x28 bitmaps, ink high; memory-mapped, so that only what is used is read.

    Raises:
        ValueError: The file is no `.npy`, is truncated, or holds anything but (N, 784) uint8.
    """
    array = _open_npy(Path(path))
    if array.dtype != np.uint8 or array.shape[1:] not in ((784,), (28, 28)):
        raise ValueError(f"{path} holds {array.dtype} {array.shape}, not uint8 (N, 784)")
    return array.reshape(len(array), 28, 28)


def _admitted(
    found: Iterator[Found], path: Path, *, recognized: bool, strict: bool, dropped: Counter[str]
) -> Iterator[Record]:
    """The good ones of what a reader found; the others are counted, or an error when `strict`."""
    for place, record in found:
        reason = record if isinstance(record, str) else _fault(record.drawing)
        if strict and reason:
            raise ValueError(f"{path}, {place}: {reason}")
        if isinstance(record, str) or reason:
            dropped[str(reason)] += 1
        elif recognized and record.recognized is False:
            dropped[ndjson.UNRECOGNIZED] += 1
        else:
            yield replace(record, key_id=record.key_id or geometry_id(record.drawing))


def _fault(drawing: Drawing) -> str | None:
    """Why `drawing` is to be dropped, by the measures of `ndjson`."""
    points = [np.concatenate(rows) for rows in zip(*drawing, strict=True)]
    if not points or points[0].size < 2 or not all(stroke[0].size for stroke in drawing):
        return ndjson.EMPTY
    if points[0].size > ndjson.MAX_POINTS:
        return ndjson.TOO_LONG
    if not (np.abs(points) <= ndjson.MAX_MAGNITUDE).all():
        return ndjson.TOO_LARGE
    return ndjson.CLOCK if len(points) == 3 and (np.diff(points[2]) < 0).any() else None


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of `path`; one over `MAX_LINE` comes in pieces, which are no JSON."""
    with path.open("rb") as file:
        if (start := file.read(4096).lstrip()) and not start.startswith(b"{"):
            raise ValueError(f"{path} is not ndjson")
        file.seek(0)
        yield from iter(partial(file.readline, MAX_LINE), b"")


def _open_npy(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except sketchrnn_npz.NPY_ERRORS as error:
        raise ValueError(f"{path} is no readable .npy: {error}") from error


def _read_npy(path: Path, word: str) -> Iterator[Found]:
    rows = _open_npy(path)
    if rows.dtype == np.uint8:
        raise ValueError(f"{path} holds uint8 {rows.shape}: images; see read_images")
    if rows.dtype.kind != "f" or rows.ndim != 2 or rows.shape[1] != 4 or len(rows) == 0:
        raise ValueError(f"{path} holds {rows.dtype} {rows.shape}, not stroke-4: float (n, 4)")
    is_long = len(rows) > ndjson.MAX_POINTS
    yield "array", ndjson.TOO_LONG if is_long else _record(word, from_stroke4, rows)


def _read_npz(path: Path, word: str) -> Iterator[Found]:
    """sketch-rnn's splits, one after the other."""
    for member, arrays in sketchrnn_npz.read_members(path):
        for index, array in enumerate(arrays):
            yield f"{member}[{index}]", _record(word, sketchrnn_npz.from_stroke3, array)


def _read_svg(path: Path, word: str) -> Iterator[Found]:
    from doodlelib.data import svg_reader  # imports svgelements, which few need

    yield "svg", Record(word, "", None, svg_reader.read_drawing(path))


def _record(word: str, decode: Callable[[Any], Drawing], rows: Any) -> Record | str:
    """The drawing that `rows` hold, or that they hold none."""
    try:
        return Record(word, "", None, decode(rows))
    except ValueError:
        return ndjson.MALFORMED


_READERS = {".bin": binary.read_records, ".npz": _read_npz, ".npy": _read_npy, ".svg": _read_svg}
