"""sketch-rnn's npz files, which hold pickles, read without trusting them.

A member of such a file is an object array, so its numbers come as a pickle stream, and a pickle
is a program. Here only the instructions that build lists and tuples of arrays are admitted, and
the four names that numpy's arrays call are bound to stand-ins that merely note the bytes.
"""

import io
import pickle
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from doodlelib.data.ndjson import MAX_POINTS
from doodlelib.strokes import Drawing

MAX_UNPACKED = 2**30  # bytes of all members; the largest official file has a quarter of it
MAX_RATIO = 100  # unpacked to packed; strokes come to 2 or 3, a bomb to 1000

_OPCODES = {
    *("PROTO", "FRAME", "MARK", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "GLOBAL", "STACK_GLOBAL"),
    *("MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "BININT", "BININT1", "BININT2"),
    *("TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("BINBYTES", "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING"),
    *("BINUNICODE", "SHORT_BINUNICODE", "REDUCE", "BUILD"),
}
_PICKLE_ERRORS = (  # what the documentation of pickle says a bad stream may raise
    *(pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError),
    *(TypeError, ValueError, OverflowError, MemoryError),
)

NPY_ERRORS = (ValueError, TypeError, OverflowError, SyntaxError, TokenError)  # of a bad header
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError)


class PickledArray:
    """Stands in for an array: its shape, its type and its bytes (or list), as pickled."""

    def __init__(self, *_: Any) -> None:
        self.shape: Any = None

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, self.is_fortran, self.data = state


class _PickledType:
    """Stands in for a dtype of plain numbers."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[iuf][1248]|O8?", code):
            raise pickle.UnpicklingError(f"arrays of {code!r} are not read")
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


def _latin1(text: str, _: str) -> bytes:
    """Bytes, as protocol 2 writes them."""
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Admits arrays of numbers and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for one of numpy's names."""
        known = {
            "numpy.core.multiarray._reconstruct": PickledArray,
            "numpy._core.multiarray._reconstruct": PickledArray,
            "numpy.ndarray": PickledArray,
            "numpy.dtype": _PickledType,
            "_codecs.encode": _latin1,
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"the pickle calls {module}.{name}, which is no array")
        return known[f"{module}.{name}"]


def read_members(path: str | Path) -> Iterator[tuple[str, list[PickledArray]]]:
    """Name and drawings of each member of a sketch-rnn npz, still packed; see `from_stroke3`.

    Raises:
        ValueError: `path` is no zip, unpacks to too much, or a member is no object array of
            arrays of numbers. Names the file and the member.
    """
    with Path(path).open("rb") as file:
        try:
            yield from _read_members(file)
        except (*_ZIP_ERRORS, *NPY_ERRORS) as error:
            raise ValueError(f"{path} is no readable npz: {error}") from error


def from_stroke3(array: PickledArray) -> Drawing:
    """The untimed drawing that stroke-3 rows describe: dx, dy, and 1 where the pen lifts *after*.

    Row 0 is the move from the origin to the first point, so n rows are n points.

    Raises:
        ValueError: The array is not (n, 3), 0 < n <= MAX_POINTS, or its pen is not 0 or 1.

    Source: Ha & Eck 2017, sec. 3.1; magenta sketch_rnn/utils.py.
    """
    try:
        data = array.data.encode("latin1") if isinstance(array.data, str) else array.data
        dtype = np.dtype(array.dtype.code).newbyteorder(array.dtype.order)
        rows = np.frombuffer(data, dtype)
        rows = rows.reshape(array.shape, order="F" if array.is_fortran else "C")
    except (AttributeError, TypeError, OverflowError) as error:
        raise ValueError(f"not an array of numbers: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 3 or not 0 < len(rows) <= MAX_POINTS:
        raise ValueError(f"stroke-3 has shape (n, 3), 0 < n <= {MAX_POINTS}, not {rows.shape}")
    if not np.isin(rows[:, 2], (0, 1)).all():
        raise ValueError("the pen column of stroke-3 holds 0 and 1 alone")
    points = np.cumsum(rows[:, :2], axis=0, dtype=np.float64)
    lifted = np.flatnonzero(rows[:-1, 2]) + 1
    return [list(stroke.T) for stroke in np.split(points, lifted)]


def _read_members(file: IO[bytes]) -> Iterator[tuple[str, list[PickledArray]]]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        packed = sum(member.compress_size for member in members)
        if unpacked > min(MAX_UNPACKED, MAX_RATIO * packed):
            raise ValueError(f"{packed} bytes would unpack to {unpacked}")
        for member in members:
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{member.filename} is packed in another way than deflate")
            yield member.filename.removesuffix(".npy"), _unpickle(archive.read(member))


def _unpickle(data: bytes) -> list[PickledArray]:
    """What the object array in `data`, a whole .npy, holds."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f".npy of version {version}")
    read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    _, _, dtype = read(file)
    if dtype != np.dtype(object):
        raise ValueError(f"holds {dtype}, not an object array of drawings")
    start = file.tell()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name not in _OPCODES:
            raise ValueError(f"the pickle has a {opcode.name}, which no array needs")
        if opcode.name == "LONG_BINPUT" and not 0 <= int(argument or 0) < len(data):
            raise ValueError(f"the pickle wants room for {argument} objects")
    file.seek(start)
    try:
        array = _ArrayUnpickler(file, encoding="latin1").load()
    except _PICKLE_ERRORS as error:
        raise ValueError(f"bad pickle: {error}") from error
    items = getattr(array, "data", None)
    if not isinstance(items, list) or not all(isinstance(item, PickledArray) for item in items):
        raise ValueError("the pickle holds no array of arrays")
    return items
