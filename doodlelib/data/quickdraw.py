"""The published Quick, Draw! files, from the public bucket or a mirror of it; only what is needed.

Base URLs are ``https://``, ``http://`` or ``file://``, whose files are read in place. Of the others
the first bytes, as many as were needed, are kept under ``data/raw/<server>/``, with ``.part`` at
the end of their names until they are whole. What is there is not fetched again.
"""

import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import requests
from filelock import FileLock

from doodlelib import paths
from doodlelib.data.ndjson import parse_records
from doodlelib.progress import Bar, progress_bar
from doodlelib.strokes import Record

BUCKET = "https://storage.googleapis.com/quickdraw_dataset"
BASE_URL_VARIABLE = "DOODLELIB_QUICKDRAW_URL"
KINDS = ("raw", "simplified")
Kind = Literal["raw", "simplified"]
MAX_LINE = 1 << 24  # bytes; real lines have up to some hundred thousand

CHUNK = 1 << 20  # bytes that one request asks for, or that are read at a time
BLOCK = 1 << 16  # bytes taken from the connection at a time
ATTEMPTS = 5
BACKOFF = 0.5  # s, doubled with each attempt
TIMEOUT = (10.0, 20.0)  # s: to connect; without a byte
BUSY = (429, 500, 502, 503, 504)  # answers after which it may go better later


@lru_cache
def words() -> tuple[str, ...]:
    """The 345 words that players were asked to draw."""
    return tuple(Path(__file__).with_name("words.txt").read_text("utf-8").splitlines())


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
        recognized: Leave out what the game did not recognise, where that was published.
        dropped: Lines without a good drawing are dropped; their number is added to it, by reason.
        cache: Folder for what is fetched; None: ``data/raw``.
        progress: Show on stderr what is fetched, see `progress.progress_bar`.

    Raises:
        ValueError: No such word, kind or kind of URL, or a limit below 0; or a line over 16 MB.
        FileNotFoundError: There is no such file.
        ConnectionError: The server cannot be reached or used. What was fetched is kept.
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
    if word not in words():
        near = paths.similar_names(word, words())
        raise ValueError(f"{str(word)[:60]!r} is not one of the 345 words; the nearest are {near}")
    name, base = f"full/{kind}/{word}.ndjson", base_url_of(base_url)
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

    blocks = _read_blocks(path) if is_local else fetch_blocks(url, path, progress=progress)

    def rows() -> Iterator[bytes]:
        rest = b""
        for block in blocks:
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
            if len(rest) > MAX_LINE:
                raise ValueError(f"{url}: a line of over {MAX_LINE} bytes; this is no ndjson")
        if rest:  # the last line need not have an end
            yield rest

    return rows()


def _read_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")


def fetch_blocks(url: str, path: Path, *, progress: bool = True) -> Iterator[bytes]:
    """The bytes of the file at `url`, as far as they are there from `path`; more are kept there.

    Processes that fetch the same file at once take turns, one request each, through a lock on
    ``.<name>.lock``. A server that knows no ranges sends the whole file at the first request.
    """
    part, position = path.with_name(f"{path.name}.part"), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = {"desc": f"{path.name}, up to", "unit": "B", "unit_scale": True}
    with requests.Session() as session, progress_bar(disable=not progress, **shown) as bar:
        while True:
            with FileLock(path.with_name(f".{path.name}.lock")):
                if not path.exists() and (not part.exists() or part.stat().st_size <= position):
                    _fetch(session, url, path, part, bar)
                with (path if path.exists() else part).open("rb") as file:
                    file.seek(position)
                    block = file.read(CHUNK)
            if not block:
                return
            position += len(block)
            yield block


def _fetch(session: requests.Session, url: str, path: Path, part: Path, bar: Bar) -> None:
    """Extend `part` by one request that succeeds; try again where that may help."""
    reason: requests.RequestException | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF * 2 ** (attempt - 1))
        try:
            return _extend(session, url, path, part, bar)
        except requests.exceptions.SSLError as error:
            raise ConnectionError(
                f"{url}: its certificate cannot be trusted; behind a proxy that inspects traffic, "
                f"set REQUESTS_CA_BUNDLE to that proxy's certificate ({error})"
            ) from error
        except requests.RequestException as error:
            status = error.response.status_code if error.response is not None else None
            if status == 404:
                raise FileNotFoundError(f"{url}: this server has no such file") from error
            if status is not None and status not in BUSY:
                raise ConnectionError(f"{url}: check the base URL ({error})") from error
            reason = error
    raise ConnectionError(
        f"{url}: failed in each of {ATTEMPTS} attempts ({reason}); what was fetched is kept: "
        "check the base URL and the connection, and run again"
    ) from reason


def _extend(session: requests.Session, url: str, path: Path, part: Path, bar: Bar) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={have}-{have + CHUNK - 1}"}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        is_beyond = response.status_code == 416  # nothing is missing, or the file became shorter
        if not is_beyond:
            response.raise_for_status()
        start, total = _span(response)
        if start > have or have > total:
            raise ConnectionError(f"{url} has changed on the server; delete {part} and run again")
        if not bar.total:
            bar.initial, bar.n, bar.total = have, have, total
        with part.open("ab") as file:
            for block in response.iter_content(BLOCK) if not is_beyond else ():
                fresh = block[max(have - start, 0) :]
                file.write(fresh)
                bar.update(len(fresh))
                start += len(block)
    if start < min(have + CHUNK, total):
        raise requests.RequestException(f"the answer ended at byte {start} of {total}")
    if part.stat().st_size == total:
        part.rename(path)


def _span(response: requests.Response) -> tuple[int, int]:
    """Where in the file the body of an answer begins, and how long the file is."""
    headers, url = response.headers, response.url
    if "html" in headers.get("Content-Type", ""):
        raise ConnectionError(f"{url}: answered with a web page, not with data")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise ConnectionError(f"{url}: came compressed, which was not asked for")
    part = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", headers.get("Content-Range", ""))
    if part:  # or, beyond the end of a file, its length alone
        return int(part[1] or part[2]), int(part[2])
    length = headers.get("Content-Length", "")
    if response.status_code == 200 and length.isdigit() and int(length):
        return 0, int(length)
    raise ConnectionError(f"{url}: the server says no length, or 0")
