"""Prepared drawings on disk: a folder with five ``.npy`` files per split, and ``store.json``.

The arrays are read memory-mapped, so that opening takes neither time nor memory. `SplitWriter`
and `replace_store` make a store (see `dataset.prepare`), `load_split` reads one split of it.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from filelock import FileLock
from jaxtyping import Bool, Float32, Int16, Int64, Integer, Shaped

from doodlelib.data.ragged import RaggedDrawings, ranges
from doodlelib.paths import sync_folder
from doodlelib.strokes import Drawing, Scale, from_stroke4

FORMAT_VERSION = 2
SPLITS = ("train", "valid", "test")
ID_WIDTH = 48  # bytes of a key_id; published ids have 16, those made from a drawing 21
SAMPLE_ID = b"sample-"  # how the key_id of every sample drawing begins

_ARRAYS = {  # type, and shape of an entry
    "points": (np.dtype("<f4"), (4,)),
    "offsets": (np.dtype("<i8"), ()),
    "words": (np.dtype("<i2"), ()),
    "timed": (np.dtype("?"), ()),
    "ids": (np.dtype(f"S{ID_WIDTH}"), ()),
}
NPY_ERRORS = (ValueError, TypeError, OverflowError, SyntaxError, TokenError)  # of a bad header
_OWN_FILE = re.compile(rf"({'|'.join(SPLITS)})(\.[a-z]+)+|store\.json")  # also of older versions


@dataclass(frozen=True)
class Split:
    """One split of a store, memory-mapped."""

    points: Float32[np.ndarray, "n 4"]  # stroke-4 rows of all drawings, px in the 255 box and ms
    offsets: Int64[np.ndarray, " bounds"]  # drawing i has rows offsets[i] up to offsets[i + 1]
    words: Int16[np.ndarray, " drawings"]  # index of each drawing's word in `classes`
    timed: Bool[np.ndarray, " drawings"]  # where not, dt is NaN
    ids: Shaped[np.ndarray, " drawings"]  # key_id of each drawing as bytes
    classes: tuple[str, ...]  # the store's words
    scale: Scale  # of the train split, whichever this one is

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

    def select(
        self, indices: Integer[np.ndarray, " m"]
    ) -> tuple[Float32[np.ndarray, "n 4"], Int64[np.ndarray, " m"]]:
        """Copied stroke-4 rows of some drawings, one after the other, and the points of each."""
        starts = self.offsets[indices]
        lengths = self.offsets[indices + 1] - starts
        return self.points[ranges(starts, lengths)], lengths

    def drawing(self, index: int) -> Drawing:
        """Strokes of a drawing, from the origin at t = 0."""
        return from_stroke4(self[index])

    def word(self, index: int) -> str:
        """What a drawing shows."""
        return self.classes[self.words[index]]

    def key_id(self, index: int) -> str:
        """The id of a drawing."""
        return self.ids[index].decode()

    @property
    def origin(self) -> str:
        """Who made the drawings, as titles of figures say it: "by people", "by a program", both."""
        made = np.strings.startswith(self.ids, SAMPLE_ID)
        who = ["by people"] * (not made.all()) + ["by a program"] * bool(made.any())
        return "made " + " and ".join(who)


def load_split(folder: str | Path, name: str = "train") -> Split:
    """One split of the store in `folder`, memory-mapped: nothing is read before it is used.

    ValueError: No such split, no whole store, or a file that is not what the store wrote.
    """
    if name not in SPLITS:
        raise ValueError(f"split {name!r} is not one of {SPLITS}")
    store, arrays = read_store(folder), {}
    try:
        for key, (dtype, inner) in _ARRAYS.items():
            arrays[key] = open_npy(Path(folder) / f"{name}.{key}.npy")
            if arrays[key].dtype != dtype or arrays[key].shape[1:] != inner:
                raise ValueError(f"{key} is {arrays[key].dtype} {arrays[key].shape}")
        split = Split(**arrays, classes=tuple(store["words"]), scale=Scale(**store["scale"]))
        counts = {len(split.words), len(split.timed), len(split.ids), len(split.offsets) - 1}
        if len(counts) > 1 or split.offsets[-1] != len(split.points):
            raise ValueError("its arrays do not belong together")
    except (OSError, KeyError, *NPY_ERRORS) as error:
        raise ValueError(
            f"{folder}: the split {name} is damaged ({error}); prepare the store again"
        ) from error
    return split


def open_npy(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file, memory-mapped; never one of pickled objects."""
    return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def read_store(folder: str | Path) -> dict[str, Any]:
    """What ``store.json`` says: settings, words, scale, counts, versions.

    ValueError: `folder` is no whole store, or one of another format version.
    """
    path = Path(folder) / "store.json"
    try:
        store = json.loads(path.read_text("utf-8"))
        version, _ = store["format_version"], store["settings"]
    except FileNotFoundError:
        raise ValueError(f"{folder} is no whole store (no store.json): prepare it") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged; prepare the store again") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format {version}, not {FORMAT_VERSION}; prepare the store again")
    return store


class SplitWriter:
    """Appends drawings to the ``.npy`` files of one split; `finish` completes them."""

    def __init__(self, folder: Path, split: str) -> None:
        """Begin the files of `split` in `folder`."""
        self._paths = {name: folder / f"{split}.{name}.npy" for name in _ARRAYS}
        self._counts = dict.fromkeys(_ARRAYS, 0)
        self._write_headers("wb")
        self._append(offsets=[0])

    def append(self, drawings: RaggedDrawings, *, word: int) -> None:
        """Add drawings of one word."""
        self._append(
            offsets=self._counts["points"] + drawings.offsets[1:],
            points=drawings.stroke4_rows(),
            words=np.full(len(drawings), word),
            timed=drawings.timed,
            ids=[_stored_id(one["key_id"]) for one in drawings.metadata],
        )

    def finish(self) -> None:
        """Write into the headers how many entries there are, and all of it to the disk."""
        self._write_headers("r+b")

    def _append(self, **arrays: Any) -> None:
        for name, values in arrays.items():
            with self._paths[name].open("ab") as file:
                file.write(np.ascontiguousarray(values, dtype=_ARRAYS[name][0]).data)
            self._counts[name] += len(values)

    def _write_headers(self, mode: str) -> None:
        """NumPy leaves room for the length to grow, so that all headers are equally long."""
        for name, (dtype, inner) in _ARRAYS.items():
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
            with self._paths[name].open(mode) as file:
                shape = (self._counts[name], *inner)
                np.lib.format.write_array_header_1_0(file, header | {"shape": shape})
                if mode == "r+b":
                    file.flush()
                    os.fsync(file.fileno())


def _stored_id(key_id: str) -> bytes:
    """The id itself, or where it is too long for the store a digest of it."""
    if len(name := key_id.encode()) <= ID_WIDTH:
        return name
    return b"long-" + hashlib.blake2b(name, digest_size=20).hexdigest().encode()


def replace_store(folder: Path, build: Callable[[Path], None], *, settings: dict[str, Any]) -> None:
    """Have `build` fill a new folder, which then takes the place of the store at `folder`.

    A whole store that was made with the same settings stays. Processes that want the same place
    take turns. Whatever breaks off, `folder` is a whole store or absent.
    ValueError: `folder` is a file, or holds files that are no store's.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a store is a folder")
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if others := [name for name in names if not _OWN_FILE.fullmatch(name)]:
        raise ValueError(f"{folder} holds {min(others)!r}, which is no store's; choose another")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        with suppress(ValueError):  # of what is no whole store
            for name in SPLITS:
                load_split(folder, name)
            if read_store(folder)["settings"] == settings:
                return
        work = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
        (work / "new").mkdir(parents=True)
        try:
            build(work / "new")
            if folder.exists():
                folder.rename(work / "old")
            (work / "new").rename(folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(work, ignore_errors=True)
