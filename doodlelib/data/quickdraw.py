"""The published Quick, Draw! files, from the public bucket or a mirror of it; only what is needed.

Base URLs are ``https://``, ``http://`` or ``file://``; without one given, the environment variable
``DOODLELIB_QUICKDRAW_URL`` decides, then the public bucket. Files of a ``file://`` mirror are read
in place; the others are cached under ``data/raw/<server>/`` as far as they were needed.
"""

import difflib
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from doodlelib import paths
from doodlelib.data.download import RemoteFile
from doodlelib.data.ndjson import BATCH, parse_lines
from doodlelib.strokes import Record

BUCKET = "https://storage.googleapis.com/quickdraw_dataset"
BASE_URL_VARIABLE = "DOODLELIB_QUICKDRAW_URL"
MAX_LINE = 1 << 24  # bytes; real lines have up to some hundred thousand
BUFFER = 1 << 20  # bytes read at a time
FOLDERS = {"raw": "full/raw", "simplified": "full/simplified"}
_FILES = {kind: f"{folder}/{{}}.ndjson" for kind, folder in FOLDERS.items()} | {
    "bitmap": "full/numpy_bitmap/{}.npy",
    "sketchrnn": "sketchrnn/{}.npz",
}
Kind = Literal["raw", "simplified"]


@lru_cache
def words() -> tuple[str, ...]:
    """The 345 words that players were asked to draw."""
    return tuple(Path(__file__).with_name("words.txt").read_text("utf-8").splitlines())


def checked_word(word: str) -> str:
    """`word` itself, if it is one of the 345.

    Raises:
        ValueError: It is not; with the nearest ones.
    """
    if word in words():
        return word
    by_folded = {known.casefold(): known for known in words()}
    near = difflib.get_close_matches(str(word)[:60].casefold(), by_folded, cutoff=0.5)
    nearest = ", ".join(repr(by_folded[name]) for name in near) or "none"
    raise ValueError(
        f"{str(word)[:60]!r} is not one of the 345 words (see words()); near: {nearest}"
    )


def read_drawings(
    word: str,
    *,
    kind: Kind = "raw",
    limit: int | None = None,
    base_url: str | None = None,
    recognized: bool = True,
    dropped: Counter[str] | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Iterator[Record]:
    """The first `limit` good drawings of a word; a warning says when there are fewer.

    Args:
        word: One of the 345.
        kind: ``"raw"``, with time, or ``"simplified"``, without.
        limit: How many; None: all.
        base_url: Of the published data or a mirror; see the module.
        recognized: Leave out what the game did not recognise. Where that was not published the
            drawing stays.
        dropped: Lines without a good drawing are dropped; their number is added to it, by reason.
        cache: Folder for what is fetched; None: ``data/raw``.
        progress: Show on stderr what is fetched.

    Raises:
        ValueError: No such word, kind or kind of URL, or a limit below 0; while reading: a line
            of over 16 MB.
        FileNotFoundError: While reading: the mirror has no such file.
        ConnectionError: While reading: see `download.RemoteFile`.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is how many are wanted, 0 or more, not {limit}")
    rows = lines(word, kind=kind, base_url=base_url, cache=cache, progress=progress)
    counts: Counter[str] = Counter() if dropped is None else dropped

    def records() -> Iterator[Record]:
        found, missing = 0, limit
        while missing != 0 and (batch := list(islice(rows, min(BATCH, missing or BATCH)))):
            drawings = parse_lines(batch, recognized=recognized)
            counts.update(drawings.dropped)
            yield from drawings.records()
            found += len(drawings)
            missing = None if limit is None else limit - found  # no line more than they take
        if limit is not None and found < limit:
            warnings.warn(
                f"{word} ({kind}) holds {found} good drawings; {limit} were asked for",
                stacklevel=2,
            )

    return records()


def lines(
    word: str,
    *,
    kind: Kind = "raw",
    base_url: str | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Iterator[bytes]:
    """The lines of the word's ndjson file, one by one; no more is fetched than is taken.

    Arguments and errors are those of `read_drawings`.
    """
    if kind not in FOLDERS:
        raise ValueError(f"kind {kind!r} is not one of {', '.join(FOLDERS)}")
    url, path = _locate(word, kind, base_url=base_url, cache=cache)

    def rows() -> Iterator[bytes]:
        with _open(url, path, progress=progress) as file:
            while line := file.readline(MAX_LINE):  # the last one need not have an end
                if len(line) == MAX_LINE:
                    raise ValueError(f"{url}: a line of over {MAX_LINE} bytes; this is no ndjson")
                yield line

    return rows()


def fetch(
    word: str,
    kind: Literal["raw", "simplified", "bitmap", "sketchrnn"],
    *,
    base_url: str | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """The word's whole published file, on disk: in a ``file://`` mirror itself, else in the cache.

    `formats.read` reads it; a bitmap file (28x28 images, uint8), `formats.read_images`. The other
    arguments, and the errors, are those of `read_drawings`.
    """
    if kind not in _FILES:
        raise ValueError(f"kind {kind!r} is not one of {', '.join(_FILES)}")
    url, path = _locate(word, kind, base_url=base_url, cache=cache)
    with _open(url, path, progress=progress) as file:
        while not url.startswith("file:") and file.read(BUFFER):
            pass
    return path


def _locate(
    word: str, kind: str, *, base_url: str | None, cache: str | Path | None
) -> tuple[str, Path]:
    """URL of the word's published file, and where it lies on this machine, now or once fetched."""
    name = _FILES[kind].format(checked_word(word))
    base = (base_url or os.environ.get(BASE_URL_VARIABLE) or BUCKET).rstrip("/")
    parts = urlsplit(base)
    if not re.fullmatch(r"file://(localhost)?/[^?#]+|https?://[^/?#@]+(/[^?#@]*)?", base):
        raise ValueError(
            f"base URL {base!r} is not file:///folder, http://server/… or https://server/… "
            "(no name and password, no ? or #); for a folder, take Path(…).resolve().as_uri()"
        )
    if parts.scheme == "file":
        folder = Path(url2pathname(parts.path))
    else:
        server = re.sub(r"[^A-Za-z0-9.-]+", "_", parts.netloc + parts.path).strip(".")
        folder = Path(cache or paths.RAW) / server
    return f"{base}/{quote(name)}", folder / name


def _open(url: str, path: Path, *, progress: bool) -> io.BufferedReader:
    if not url.startswith("file:"):
        return io.BufferedReader(RemoteFile(url, path, progress=progress), BUFFER)
    try:
        return io.BufferedReader(path.open("rb", buffering=0), BUFFER)
    except FileNotFoundError:
        raise FileNotFoundError(f"{url}: this mirror has no such file") from None
