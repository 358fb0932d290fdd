"""The published Quick, Draw! files, from the public bucket or a mirror of it; only what is needed.

Base URLs are ``https://``, ``http://`` or ``file://``; without one given, the environment variable
``DOODLELIB_QUICKDRAW_URL`` decides, then the public bucket. Files of a ``file://`` mirror are read
in place; the others are cached under ``data/raw/<server>/`` as far as they were needed.
"""

import io
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import numpy as np
from jaxtyping import UInt8

from doodlelib import paths
from doodlelib.data import download
from doodlelib.data.download import RemoteFile
from doodlelib.data.ndjson import parse_records
from doodlelib.paths import similar_names
from doodlelib.strokes import Record

BUCKET = "https://storage.googleapis.com/quickdraw_dataset"
BASE_URL_VARIABLE = "DOODLELIB_QUICKDRAW_URL"
MAX_LINE = 1 << 24  # bytes; real lines have up to some hundred thousand
BUFFER = 1 << 20  # bytes read at a time
PIXELS = 28 * 28
NPY_HEADER = 128  # bytes, at most, of the published bitmap files
Kind = Literal["raw", "simplified"]
_NPY = re.compile(  # numpy's own reader of headers has many ways to fail on a hostile one
    rb"\x93NUMPY\x01\0..\{'descr': '\|u1', 'fortran_order': False, 'shape': \((\d+), 784\), \} *\n",
    re.S,
)
FOLDERS = {"raw": "full/raw", "simplified": "full/simplified"}


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
    nearest = ", ".join(map(repr, similar_names(word, words())))
    raise ValueError(
        f"{str(word)[:60]!r} is not one of the 345 words (see words()); near: {nearest}"
    )


def lines(
    word: str,
    *,
    kind: Kind = "raw",
    base_url: str | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
    span: tuple[int, int] | None = None,
) -> Iterator[bytes]:
    """The lines of the word's ndjson file, one by one; no more is fetched than is taken.

    With a `span`, those that begin from its first byte up to its second, straight from the server.
    The other arguments are those of `read_drawings`.

    Raises:
        ValueError: No such word, kind or kind of URL; while reading: a line of over 16 MB.
        FileNotFoundError: While reading: the mirror has no such file.
        ConnectionError: While reading: see `transfer.RemoteFile`.
    """
    url, path = _locate(_ndjson(word, kind), base_url=base_url, cache=cache)
    return _lines_within(url, path, *span) if span else _lines(url, path, progress=progress)


def size(word: str, *, kind: Kind = "raw", base_url: str | None = None) -> int:
    """Bytes of the word's ndjson file; arguments and errors as `lines`."""
    url, path = _locate(_ndjson(word, kind), base_url=base_url, cache=None)
    if not url.startswith("file:"):
        return download.size(url)
    with _open(url, path, progress=False) as file:
        return file.seek(0, io.SEEK_END)


def read_drawings(
    word: str,
    *,
    kind: Kind = "raw",
    limit: int | None = None,
    base_url: str | None = None,
    recognized: bool = True,
    strict: bool = False,
    dropped: Counter[str] | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Iterator[Record]:
    """The first `limit` good drawings of a word; a warning says when there are fewer.

    Args:
        word: One of the 345.
        kind: ``"raw"``, with time, or ``"simplified"``, without.
        limit: How many; none: all.
        base_url: Of the published data or a mirror; see the module.
        recognized: Leave out what the game did not recognise. Where that was not published the
            drawing stays.
        strict: A line that holds no good drawing is an error; else it is dropped and counted.
        dropped: Counts by reason are added to it.
        cache: Folder for what is fetched; none: ``data/raw``.
        progress: Show on stderr what is fetched.

    Raises:
        ValueError: A limit below 0; as `lines`; while reading, with `strict`: a bad line.
        FileNotFoundError, ConnectionError: As `lines`.
    """
    _check_limit(limit)
    url, path = _locate(_ndjson(word, kind), base_url=base_url, cache=cache)
    counts: Counter[str] = Counter() if dropped is None else dropped
    parse = partial(parse_records, recognized=recognized, strict=strict, dropped=counts)
    return _records(_lines(url, path, progress=progress), parse, limit=limit, url=url)


def read_bitmaps(
    word: str,
    *,
    limit: int | None = None,
    base_url: str | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> UInt8[np.ndarray, "n 784"]:
    """The first `limit` of Google's 28x28 images of a word, row by row, ink high.

    Raises:
        ValueError: No such word or kind of URL, a limit below 0, or not a file of uint8 (n, 784).
        FileNotFoundError, ConnectionError: As `lines`.
    """
    _check_limit(limit)
    name = f"full/numpy_bitmap/{checked_word(word)}.npy"
    url, path = _locate(name, base_url=base_url, cache=cache)
    wanted = sys.maxsize if limit is None else NPY_HEADER + limit * PIXELS
    with _open(url, path, wanted=wanted, progress=progress) as file:
        header = file.readline(NPY_HEADER)
        match = _NPY.fullmatch(header)
        if match is None or len(header) != 10 + int.from_bytes(header[8:10], "little"):
            raise ValueError(f"{url}: not an npy file of uint8 (n, {PIXELS}): begins {header!r}")
        total = int(match[1])
        count = total if limit is None else min(limit, total)
        data = bytearray()
        while block := file.read(min(BUFFER, count * PIXELS - len(data))):  # a header may lie
            data += block
    if len(data) < count * PIXELS:
        raise ValueError(f"{url}: ends within bitmap {len(data) // PIXELS} of {total}")
    _warn_if_fewer(url, count, limit, "bitmaps")
    return np.frombuffer(data, dtype=np.uint8).reshape(count, PIXELS)


def fetch_sketchrnn(
    word: str,
    *,
    suffix: str = ".npz",
    base_url: str | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """The word's sketch-rnn file, whole, on disk: in a ``file://`` mirror itself, else the cache.

    `suffix` says which of its files: ``.npz``, ``.full.npz``, or what a mirror has (``.test.npz``).

    Raises:
        ValueError: No such word, suffix or kind of URL.
        FileNotFoundError, ConnectionError: As `lines`.
    """
    if not re.fullmatch(r"(\.[a-z]+)?\.npz", suffix):
        raise ValueError(f"suffix {suffix!r} is not .npz or such as .test.npz")
    name = f"sketchrnn/{checked_word(word)}{suffix}"
    url, path = _locate(name, base_url=base_url, cache=cache)
    with _open(url, path, wanted=sys.maxsize, progress=progress) as file:
        file.read(1)
    return path


def _ndjson(word: str, kind: str) -> str:
    if kind not in FOLDERS:
        raise ValueError(f"kind {kind!r} is not one of {', '.join(FOLDERS)}")
    return f"{FOLDERS[kind]}/{checked_word(word)}.ndjson"


def _locate(name: str, *, base_url: str | None, cache: str | Path | None) -> tuple[str, Path]:
    """URL of the published file `name`, and where it lies on this machine, now or once fetched."""
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


def _open(url: str, path: Path, *, wanted: int = 0, progress: bool) -> io.BufferedReader:
    if not url.startswith("file:"):
        return io.BufferedReader(RemoteFile(url, path, wanted=wanted, progress=progress), BUFFER)
    try:
        return io.BufferedReader(path.open("rb", buffering=0), BUFFER)
    except FileNotFoundError:
        raise FileNotFoundError(f"{url}: this mirror has no such file") from None


def _lines(url: str, path: Path, *, progress: bool) -> Iterator[bytes]:
    """The lines of the file; the last one need not have an end."""
    with _open(url, path, progress=progress) as file:
        while line := _line(file, url):
            yield line


def _lines_within(url: str, path: Path, begin: int, end: int) -> Iterator[bytes]:
    """The lines that begin from byte `begin` up to byte `end`."""
    at = max(begin - 1, 0)  # the byte before tells whether a line begins at `begin`
    if url.startswith("file:"):
        opened = _open(url, path, progress=False)
        opened.seek(at)
    else:
        opened = download.open_part(url, at, end + MAX_LINE)
    with opened as file:
        if begin:
            at += len(_line(file, url))
        while at < end and (line := _line(file, url)):
            at += len(line)
            yield line


def _line(file: io.BufferedReader, url: str) -> bytes:
    line = file.readline(MAX_LINE)
    if len(line) == MAX_LINE:
        raise ValueError(f"{url}: a line of over {MAX_LINE} bytes; this is no ndjson")
    return line


def _records(
    rows: Iterator[bytes], parse: Callable[..., Iterator[Record]], *, limit: int | None, url: str
) -> Iterator[Record]:
    """As many records as were asked for, from as few lines as they take."""
    found = taken = 0
    while limit is None or found < limit:
        size = None if limit is None else limit - found
        batch = islice(rows, size)
        if (first := next(batch, None)) is None:
            break
        source = f"{url}, after line {taken}" if taken else url
        for record in parse(chain([first], batch), source=source):
            yield record
            found += 1
        taken += size or 0
    _warn_if_fewer(url, found, limit, "good drawings")


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 0:
        raise ValueError(f"limit is how many are wanted, 0 or more, not {limit}")


def _warn_if_fewer(url: str, count: int, limit: int | None, what: str) -> None:
    if limit is not None and count < limit:
        warnings.warn(f"{url} holds {count} {what}; {limit} were asked for", stacklevel=3)
