"""The published Quick, Draw! files, from the public bucket or a mirror of it; only what is needed.

Base URLs are ``https://``, ``http://`` or ``file://``; without one given, the environment variable
``DOODLELIB_QUICKDRAW_URL`` decides, then the public bucket. Files of a ``file://`` mirror are read
in place. Of the others the first bytes, as many as were needed, are kept under
``data/raw/<server>/``, beside a ``.json`` that says where they come from, how long the whole file
is and the server's mark of its version. To fetch a file anew, delete both.
"""

import io
import json
import os
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import requests
from filelock import FileLock
from tqdm.auto import tqdm

from doodlelib import paths
from doodlelib.data.ndjson import parse_records
from doodlelib.strokes import Record

BUCKET = "https://storage.googleapis.com/quickdraw_dataset"
BASE_URL_VARIABLE = "DOODLELIB_QUICKDRAW_URL"
KINDS = ("raw", "simplified")
Kind = Literal["raw", "simplified"]
MAX_LINE = 1 << 24  # bytes; real lines have up to some hundred thousand

CHUNK = 1 << 20  # bytes that one request asks for
BLOCK = 1 << 16  # bytes taken from the connection at a time
ATTEMPTS = 5
BACKOFF = 0.5  # s, doubled with each attempt
TIMEOUT = (10.0, 20.0)  # s: to connect; without a byte
BUSY = (429, 500, 502, 503, 504)  # answers after which it may go better later
BAR_DELAY = 1.0  # s: what is fetched sooner needs no bar


@lru_cache
def words() -> tuple[str, ...]:
    """The 345 words that players were asked to draw."""
    return tuple(Path(__file__).with_name("words.txt").read_text("utf-8").splitlines())


def checked_word(word: str) -> str:
    """`word` itself, if it is one of the 345; else a ValueError with the nearest ones."""
    if word in words():
        return word
    near = paths.similar_names(word, words())
    raise ValueError(f"{str(word)[:60]!r} is not one of the 345 words; the nearest are {near}")


def base_url_of(base_url: str | None) -> str:
    """`base_url`, or where it is None that of the environment, or the public bucket's."""
    return (base_url or os.environ.get(BASE_URL_VARIABLE) or BUCKET).rstrip("/")


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
        progress: Show on stderr what is fetched, where a person watches.

    Raises:
        ValueError: No such word, kind or kind of URL, or a limit below 0; while reading: a line
            of over 16 MB.
        FileNotFoundError: The mirror has no such file; of a server, while reading.
        ConnectionError: While reading: see `RemoteFile`.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is how many are wanted, 0 or more, not {limit}")
    rows = lines(word, kind=kind, base_url=base_url, cache=cache, progress=progress)
    counts: Counter[str] = Counter() if dropped is None else dropped

    def records() -> Iterator[Record]:
        found = 0
        for record in parse_records(rows, recognized=recognized, limit=limit, dropped=counts):
            yield record
            found += 1
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
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
    name, base = f"full/{kind}/{checked_word(word)}.ndjson", base_url_of(base_url)
    if not re.fullmatch(r"file://(localhost)?/[^?#]+|https?://[^/?#@]+(/[^?#@]*)?", base):
        raise ValueError(
            f"base URL {base!r} is not file:///folder, http://server/… or https://server/… "
            "(no name and password, no ? or #); for a folder, take Path(…).resolve().as_uri()"
        )
    url, parts = f"{base}/{quote(name)}", urlsplit(base)
    is_local = parts.scheme == "file"
    server = re.sub(r"[^A-Za-z0-9.-]+", "_", parts.netloc + parts.path).strip(".")
    path = Path(url2pathname(parts.path) if is_local else Path(cache or paths.RAW) / server) / name
    if is_local and not path.is_file():
        raise FileNotFoundError(f"{url}: this mirror has no such file")

    def rows() -> Iterator[bytes]:
        raw = path.open("rb", buffering=0) if is_local else RemoteFile(url, path, progress=progress)
        with io.BufferedReader(raw, 1 << 20) as file:
            while line := file.readline(MAX_LINE):  # the last one need not have an end
                if len(line) == MAX_LINE:
                    raise ValueError(f"{url}: a line of over {MAX_LINE} bytes; this is no ndjson")
                yield line

    return rows()


class RemoteFile(io.RawIOBase):
    """The file at `url`, read from its beginning; what was fetched stays in the cache at `path`.

    Processes that read the same file at once take turns, one request each, through a lock on
    ``.<name>.lock``. A server that knows no ranges sends the whole file at the first request. Wrap
    it in `io.BufferedReader`.

    Raises:
        FileNotFoundError: When reading: there is no such file.
        ConnectionError: When reading: the server cannot be reached or used, after some attempts
            (what was fetched is kept), or has another version of the file than the cache.
    """

    def __init__(self, url: str, path: Path, *, progress: bool = True) -> None:
        self.url, self.path = url, path
        self._position = 0
        self._session = requests.Session()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._sidecar = path.with_name(f"{path.name}.json")
        is_watched = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
        self._bar = tqdm(
            desc=path.name, unit="B", unit_scale=True, delay=BAR_DELAY, disable=not is_watched
        )

    def readable(self) -> bool:
        """True: what `io.BufferedReader` wants to know."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with what is at hand, and fetch only if that is nothing; 0 at the end."""
        with self._lock:
            about, have = self._cached()
            while not about or self._position >= have < about["total"]:
                self._fetch()
                about, have = self._cached()
            with self.path.open("rb") as file:
                file.seek(self._position)
                count = file.readinto(buffer)
        self._position += count
        return count

    def close(self) -> None:
        """End the connection and the bar."""
        if not self.closed:
            self._session.close()
            self._bar.close()
        super().close()

    def _cached(self) -> tuple[dict[str, Any], int]:
        """What the cache holds: of which version of the file, if of any, and how many bytes."""
        try:
            about = json.loads(self._sidecar.read_bytes())
            have = self.path.stat().st_size
            if about["url"] == self.url and have <= about["total"] and "mark" in about:
                return about, have
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            pass
        return {}, 0

    def _fetch(self) -> None:
        """Extend the cache by one request that succeeds; try again where that may help."""
        reason: requests.RequestException | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(BACKOFF * 2 ** (attempt - 1))
            try:
                return self._extend()
            except requests.exceptions.SSLError as error:
                raise ConnectionError(
                    f"{self.url}: its certificate cannot be trusted; behind a proxy that inspects "
                    f"traffic, set REQUESTS_CA_BUNDLE to that proxy's certificate ({error})"
                ) from error
            except requests.RequestException as error:
                status = error.response.status_code if error.response is not None else None
                if status == 404:
                    raise FileNotFoundError(f"{self.url}: this server has no such file") from error
                if status is not None and status not in BUSY:
                    raise ConnectionError(f"{self.url}: check the base URL ({error})") from error
                reason = error
        raise ConnectionError(
            f"{self.url}: failed in each of {ATTEMPTS} attempts ({reason}); what was fetched is "
            "kept: check the base URL and the connection, and run again"
        ) from reason

    def _extend(self) -> None:
        about, have = self._cached()
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={have}-{have + CHUNK - 1}"}
        headers |= {"If-Range": about["mark"]} if about.get("mark") else {}
        with self._session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code != 416:  # beyond the end of a file that became shorter
                response.raise_for_status()
            start, total = self._span(response)
            mark = response.headers.get("ETag") or response.headers.get("Last-Modified")
            version = {"url": self.url, "total": total, "mark": mark}
            if about and about != version:
                self._sidecar.unlink()
                raise ConnectionError(f"{self.url} has changed on the server; read it again")
            if not about:
                self.path.unlink(missing_ok=True)  # first: a new mark never stands by old bytes
                self.path.touch()
                with paths.atomic_write(self._sidecar) as file:
                    file.write(json.dumps(version).encode())
            if start > have:
                raise requests.RequestException(f"byte {start} came, {have} was asked for")
            with self.path.open("ab") as file:
                for block in response.iter_content(BLOCK):
                    fresh = block[max(have - start, 0) :]
                    file.write(fresh)
                    self._bar.update(len(fresh))
                    start += len(block)
        if start < min(have + CHUNK, total):
            raise requests.RequestException(f"the answer ended at byte {start} of {total}")

    def _span(self, response: requests.Response) -> tuple[int, int]:
        """Where in the file the body of an answer begins, and how long the file is."""
        headers = response.headers
        if "html" in headers.get("Content-Type", ""):
            raise ConnectionError(f"{self.url}: answered with a web page, not with data")
        if headers.get("Content-Encoding", "identity") != "identity":
            raise ConnectionError(f"{self.url}: came compressed, which was not asked for")
        part = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", headers.get("Content-Range", ""))
        if part:  # or, beyond the end of a file, its length alone
            return int(part[1] or part[2]), int(part[2])
        length = headers.get("Content-Length", "")
        if response.status_code == 200 and length.isdigit() and int(length):
            return 0, int(length)
        raise ConnectionError(f"{self.url}: the server says no length, or 0")
