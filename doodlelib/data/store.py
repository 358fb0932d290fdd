"""Prepared drawings on disk: a folder with one safetensors file per split, and ``store.json``.

A file is read memory-mapped, so that opening takes neither time nor memory. A folder appears under
its name only when it is whole. `SplitWriter` and `publish` make one (see `dataset.prepare`),
`load_split` reads one.
"""

import glob
import json
import mmap
import os
import shutil
import struct
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int16, Int64, Integer, UInt8

from doodlelib.paths import sync_folder
from doodlelib.strokes import Drawing, Scale, from_stroke4

FORMAT_VERSION = 1
SPLITS = ("train", "valid", "test")
ID_WIDTH = 48  # bytes, zeros at the end; published ids have 16, those made from a drawing 21

_TENSORS = {  # in the file's order, widest first, so that all lie aligned
    "offsets": ("I64", np.dtype("<i8"), ()),
    "points": ("F32", np.dtype("<f4"), (4,)),
    "words": ("I16", np.dtype("<i2"), ()),
    "timed": ("BOOL", np.dtype("?"), ()),
    "ids": ("U8", np.dtype("u1"), (ID_WIDTH,)),
}
AT_ONCE = 16  # drawings read before they are let go; each may map some MB of the file
ASIDE = "old"  # name of a store that makes room for a new one, in a folder of its own
_FILES = {f"{name}.safetensors" for name in SPLITS} | {"store.json"}

SAMPLE_ID = b"sample-"  # how the key_id of every sample drawing begins


@dataclass(frozen=True)
class Split:
    """One split of a store, memory-mapped.

    Attributes:
        points: stroke-4 rows of all drawings, px in the 255 box and ms.
        offsets: Drawing i has rows ``offsets[i]`` up to ``offsets[i + 1]``.
        words: Index of each drawing's word in `classes`.
        timed: Whether each drawing has times; where not, its dt is NaN.
        ids: key_id of each drawing as bytes; see `key_id`.
        classes: The store's words.
        scale: Of the train split, whichever this one is.
    """

    points: Float32[np.ndarray, "n 4"]
    offsets: Int64[np.ndarray, " bounds"]
    words: Int16[np.ndarray, " drawings"]
    timed: Bool[np.ndarray, " drawings"]
    ids: UInt8[np.ndarray, "drawings _"]
    classes: tuple[str, ...]
    scale: Scale

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> Float32[np.ndarray, "m 4"]:
        """stroke-4 rows of a drawing; negative indices count from the end."""
        index = range(len(self))[index]
        return self.points[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> Int64[np.ndarray, " drawings"]:
        """Points of each drawing."""
        return np.diff(self.offsets)

    def take(
        self, chosen: Integer[np.ndarray, " chosen"]
    ) -> tuple[Float32[np.ndarray, "m 4"], Int64[np.ndarray, " chosen"]]:
        """stroke-4 rows of some drawings, one behind the other, and the points of each.

        The rows are copies, and no more of the file is held in memory than before.
        """
        parts, lengths = [], self.offsets[chosen + 1] - self.offsets[chosen]
        for start in range(0, len(chosen), AT_ONCE):
            own = slice(start, start + AT_ONCE)
            first = np.repeat(
                self.offsets[chosen[own]] - np.cumsum(lengths[own]) + lengths[own], lengths[own]
            )
            parts.append(self.points[first + np.arange(len(first))])
            self.release()
        return np.concatenate(parts), lengths

    def release(self) -> None:
        """Let go of what was read: while it is mapped it counts as this process's memory.

        The system keeps it at hand as long as it has room; what is not, is read again when used.
        """
        base: Any = self.points
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            base.madvise(mmap.MADV_DONTNEED)

    def drawing(self, index: int) -> Drawing:
        """Strokes of a drawing, from the origin at t = 0."""
        return from_stroke4(self[index])

    def word(self, index: int) -> str:
        """What a drawing shows."""
        return self.classes[self.words[index]]

    def key_id(self, index: int) -> str:
        """The id of a drawing."""
        return self.ids[index].tobytes().rstrip(b"\0").decode()

    @property
    def origin(self) -> str:
        """Who made the drawings, as titles of figures say it: "by people", "by a program", both."""
        made = (self.ids[:, : len(SAMPLE_ID)] == list(SAMPLE_ID)).all(axis=1)
        who = ["by people"] * (not made.all()) + ["by a program"] * bool(made.any())
        return "made " + " and ".join(who)


def load_split(folder: str | Path, name: str = "train") -> Split:
    """One split of the store in `folder`, memory-mapped: nothing is read before it is used.

    Raises:
        ValueError: No such split, no whole store, or a file that is not what the store wrote.
    """
    if name not in SPLITS:
        raise ValueError(f"split {name!r} is not one of {SPLITS}")
    store = read_store(folder)
    path = Path(folder) / f"{name}.safetensors"
    try:
        tensors = map_safetensors(path)
        whole = path.stat().st_size == store["bytes"][name]
        classes, scale = tuple(store["words"]), Scale(**store["scale"])
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ValueError(f"{path} is damaged ({error}); prepare the store again") from error
    if not whole:
        raise ValueError(f"{path} is damaged (its size changed); prepare the store again")
    return Split(**tensors, classes=classes, scale=scale)


def read_store(folder: str | Path) -> dict[str, Any]:
    """What ``store.json`` says: settings, words, scale, counts, versions.

    Raises:
        ValueError: `folder` is no whole store, or one of another format version.
    """
    _recover(Path(folder))
    path = Path(folder) / "store.json"
    try:
        store = json.loads(path.read_text("utf-8"))
        version, _ = store["format_version"], store["settings"]
    except FileNotFoundError:
        raise ValueError(f"{folder} is no whole store (no store.json): prepare it") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged; prepare the store again") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format {version}, not {FORMAT_VERSION}; prepare it again")
    return store


def is_current(folder: str | Path, settings: dict[str, Any]) -> bool:
    """Whether `folder` is a whole store that was made with these settings."""
    try:
        store = read_store(folder)
        for name in SPLITS:
            load_split(folder, name)
    except ValueError:
        return False
    return store["settings"] == settings


class SplitWriter:
    """Appends drawings to a split; `finish` puts them into one safetensors file."""

    def __init__(self, path: Path) -> None:
        """Collect for `path`, in unnamed files beside it."""
        self.path = path
        self.rows = self.drawings = 0
        self._parts = {name: tempfile.TemporaryFile(dir=path.parent) for name in _TENSORS}  # noqa: SIM115
        self._write("offsets", np.zeros(1))

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._parts.values():
            part.close()

    def append(
        self,
        points: Float32[np.ndarray, "n 4"],
        lengths: Int64[np.ndarray, " drawings"],
        *,
        word: int,
        timed: Bool[np.ndarray, " drawings"],
        ids: list[str],
    ) -> None:
        """Add drawings of one word; `points` are those of all, one drawing after the other."""
        self._write("points", points)
        self._write("offsets", self.rows + np.cumsum(lengths))
        self._write("words", np.full(len(lengths), word))
        self._write("timed", timed)
        padded = np.array([key_id.encode() for key_id in ids], dtype=f"S{ID_WIDTH}")
        self._write("ids", padded.view(np.uint8))
        self.rows += len(points)
        self.drawings += len(lengths)

    def finish(self) -> int:
        """Write the file; its size in bytes."""
        header, end = {}, 0
        for name, (code, dtype, inner) in _TENSORS.items():
            count = {"points": self.rows, "offsets": self.drawings + 1}.get(name, self.drawings)
            begin, end = end, end + count * prod(inner) * dtype.itemsize
            shape = [count, *inner]
            header[name] = {"dtype": code, "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with self.path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for part in self._parts.values():
                part.seek(0)
                shutil.copyfileobj(part, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def _write(self, name: str, values: np.ndarray) -> None:
        self._parts[name].write(np.ascontiguousarray(values, dtype=_TENSORS[name][1]).data)


def publish(temporary: Path, folder: Path, *, settings: dict[str, Any]) -> None:
    """Move a finished store to its name, in the place of an older or a half one.

    If another process has put an equal store there meanwhile, that one stays. Between the moment
    when the older one is moved aside and that when the new one takes its place, `read_store` moves
    it back.

    Raises:
        ValueError: `folder` holds files that are no store's.
    """
    asides = []
    try:
        while True:
            check_replaceable(folder)
            try:
                temporary.rename(folder)
                sync_folder(folder.parent)
                return
            except OSError:
                if not folder.is_dir():
                    raise
            if is_current(folder, settings):
                return
            asides.append(Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")))
            with suppress(FileNotFoundError):  # another process was first
                folder.rename(asides[-1] / ASIDE)
    finally:
        _recover(folder)
        for aside in asides:
            shutil.rmtree(aside, ignore_errors=True)


def _recover(folder: Path) -> None:
    """Where there is no store, put back one that was moved aside by a process that broke off."""
    if not folder.exists():
        for aside in folder.parent.glob(f".{glob.escape(folder.name)}.*/{ASIDE}"):
            with suppress(OSError):  # it has been put back by another process, or must not be
                aside.rename(folder)
                aside.parent.rmdir()


def check_replaceable(folder: Path) -> None:
    """Raise ValueError if `folder` is a file, or holds anything but a store, whole or half."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a store is a folder")
    if folder.is_dir() and (others := {path.name for path in folder.iterdir()} - _FILES):
        raise ValueError(f"{folder} holds {min(others)!r}, which is no store's; choose another")


def map_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file, mapped; the safetensors library maps for torch only."""
    data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    (size,) = struct.unpack("<Q", data[:8].tobytes())
    header = json.loads(data[8 : 8 + size].tobytes())
    tensors = {}
    for name, (code, dtype, inner) in _TENSORS.items():
        entry = header[name]
        begin, end = entry["data_offsets"]
        if entry["dtype"] != code or tuple(entry["shape"][1:]) != inner:
            raise ValueError(f"{name} is {entry['dtype']} {entry['shape']}")
        tensors[name] = data[8 + size :][begin:end].view(dtype).reshape(entry["shape"])
    counts = {len(tensors[name]) for name in ("words", "timed", "ids")}
    if counts != {len(tensors["offsets"]) - 1} or tensors["offsets"][-1] != len(tensors["points"]):
        raise ValueError("its arrays do not belong together")
    return tensors
