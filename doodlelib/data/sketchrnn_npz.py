"""sketch-rnn's npz files, which hold pickles, read without running what a pickle may call.

A member of such a file is an object array, so its numbers come as a pickle stream, and a pickle
may call any function it names. Here it gets the four that numpy's arrays need and no other, and
the file's sizes are checked before memory is taken.
"""

import io
import pickle
import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from jaxtyping import Shaped

from doodlelib.data.ndjson import MAX_POINTS
from doodlelib.strokes import Drawing

MAX_UNPACKED = 2**30  # bytes of all members; the largest official file has a quarter of it
MAX_RATIO = 100  # unpacked to packed; strokes come to 2 or 3, a bomb to 1000

NPY_ERRORS = (ValueError, TypeError, OverflowError, SyntaxError, TokenError)  # of a bad header
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError)
_PICKLE_ERRORS = (  # what the documentation of pickle says a bad stream may raise
    *(pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError),
    *(TypeError, ValueError, OverflowError, MemoryError),
)
_OPCODES = {  # that build lists and tuples of arrays
    *("PROTO", "FRAME", "MARK", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "GLOBAL", "STACK_GLOBAL"),
    *("MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "BININT", "BININT1", "BININT2"),
    *("TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("BINBYTES", "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING"),
    *("BINUNICODE", "SHORT_BINUNICODE", "REDUCE", "BUILD"),
}
_RECONSTRUCT = np.empty(0).__reduce__()[0]  # with which numpy's arrays begin in a pickle
_CALLABLE = {
    "numpy.core.multiarray._reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray._reconstruct": _RECONSTRUCT,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "_codecs.encode": lambda text, _: text.encode("latin1"),  # bytes, as protocol 2 writes them
}


def read_arrays(path: str | Path) -> Iterator[Any]:
    """What the members of a sketch-rnn npz hold, one after the other; see `from_stroke3`.

    Raises:
        ValueError: `path` is no zip, unpacks to too much, or a member is no object array of
            arrays. Names the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            packed = sum(member.compress_size for member in members)
            if unpacked > min(MAX_UNPACKED, MAX_RATIO * packed):
                raise ValueError(f"{packed} bytes would unpack to {unpacked}")
            for member in members:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{member.filename} is packed in another way than deflate")
                yield from _unpickled(archive.read(member))
    except FileNotFoundError:
        raise
    except (*_ZIP_ERRORS, *NPY_ERRORS) as error:
        raise ValueError(f"{path} is no readable npz: {error}") from error


def from_stroke3(rows: Shaped[np.ndarray, "..."]) -> Drawing:
    """The untimed drawing that stroke-3 rows describe: dx, dy, and 1 where the pen lifts *after*.

    Row 0 is the move from the origin to the first point, so n rows are n points.

    Raises:
        ValueError: The array is not (n, 3) numbers, 0 < n <= MAX_POINTS, or its pen is not 0 or 1.

    Source: Ha & Eck 2017, sec. 3.1; magenta sketch_rnn/utils.py.
    """
    is_sound = rows.dtype.kind in "iuf" and rows.ndim == 2 and rows.shape[1] == 3
    if not is_sound or not 0 < len(rows) <= MAX_POINTS:
        raise ValueError(
            f"stroke-3 is (n, 3) numbers, 0 < n <= {MAX_POINTS}, not {rows.dtype} {rows.shape}"
        )
    if not np.isin(rows[:, 2], (0, 1)).all():
        raise ValueError("the pen column of stroke-3 holds 0 and 1 alone")
    points = np.cumsum(rows[:, :2], axis=0, dtype=np.float64)
    starts = np.flatnonzero(rows[:-1, 2]) + 1
    return [list(stroke.T) for stroke in np.split(points, starts)]


class _ArrayUnpickler(pickle.Unpickler):
    """Loads arrays, and refuses whatever else a pickle may name."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the functions that arrays need."""
        if f"{module}.{name}" not in _CALLABLE:
            raise pickle.UnpicklingError(f"the pickle calls {module}.{name}, which is no array")
        return _CALLABLE[f"{module}.{name}"]


def _unpickled(data: bytes) -> list[np.ndarray]:
    """The arrays in the object array that `data`, a whole .npy, holds."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f".npy of version {version}")
    _, _, dtype = getattr(np.lib.format, f"read_array_header_{version[0]}_0")(file)
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
    items = array.ravel().tolist() if isinstance(array, np.ndarray) else []
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    if not isinstance(array, np.ndarray) or len(arrays) < len(items):
        raise ValueError("the pickle holds no array of arrays")
    return arrays
