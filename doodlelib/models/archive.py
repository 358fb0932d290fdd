"""Torch archives from whomever: plain values and tensors, which take no more than the file has.

`torch.load(weights_only=True)` runs nothing, but it believes what a file says of its sizes: a
packed part, a view that spreads one number over a terabyte, a `bytearray(10**12)`.
"""

import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch

GLOBALS = {  # all that a checkpoint of ours names
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch BFloat16Storage",
    "torch BoolStorage",
    "torch ByteStorage",
    "torch DoubleStorage",
    "torch FloatStorage",
    "torch HalfStorage",
    "torch LongStorage",
}
MOST_VALUES = 300_000


def load(path: Path) -> Any:
    """What the archive holds, with copies of its tensors on the CPU; nothing is run.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such archive, is damaged, or would take more than it has.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        _check(path)
        # mapped, so that the copy is the only one in memory
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return _Copy(path.stat().st_size).of(contents)
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as a checkpoint: {reason}") from None


def _check(path: Path) -> None:
    """Refuse packed archives, and those that name what no checkpoint of ours does."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            raise ValueError("it is no archive")
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("it is packed")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("its parts are larger than the file")
        if damaged := archive.testzip():  # which torch itself does not look at
            raise ValueError(f"its part {damaged} is damaged")
        for part in parts:
            if part.filename.endswith(".pkl"):
                operations = pickletools.genops(archive.read(part))
                named = {str(given) for code, given, _ in operations if code.name == "GLOBAL"}
                if others := sorted(named - GLOBALS):
                    raise ValueError(f"it names {', '.join(others)[:200]}")


class _Copy:
    """Copies nested values, as long as they stay within the file's own size."""

    def __init__(self, size: int) -> None:
        """`size` is the most bytes that tensors may take."""
        self.bytes_left, self.values_left = size, MOST_VALUES

    def of(self, value: Any) -> Any:
        """A copy of `value`, dictionaries as plain ones."""
        self.values_left -= 1
        if self.values_left < 0:
            raise ValueError(f"it holds over {MOST_VALUES} values")
        match value:
            case torch.Tensor():
                self.bytes_left -= value.numel() * value.element_size()
                if self.bytes_left < 0:
                    raise ValueError("its tensors are larger than the file")
                return value.clone()
            case dict():
                return {key: self.of(inner) for key, inner in value.items()}
            case list() | tuple():
                return type(value)(map(self.of, value))
            case None | bool() | int() | float() | str():
                return value
        raise ValueError(f"it holds a {type(value).__name__}")
