"""A file on a web server, read from its beginning; what was fetched stays in a cache on disk.

The cache holds the first bytes of each file, and beside them, in ``<name>.json``, where they come
from, how long the whole file is and the server's mark of its version. What is there is not fetched
again, and not asked after once the file is whole. To fetch it anew, delete it.
"""

import io
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm
from urllib3.util import Retry

from doodlelib.paths import atomic_write

BLOCK = 1 << 16  # bytes taken from the connection, and written, at a time
CHUNK = 1 << 20  # bytes that one request asks for
ATTEMPTS = 5
BACKOFF = 0.5  # s, doubled with each attempt
TIMEOUT = (10.0, 20.0)  # s: to connect; without a byte
BUSY = (429, 500, 502, 503, 504)  # answers after which it may go better later

_ADVICE = {
    requests.exceptions.SSLError: "its certificate cannot be trusted; behind a proxy that inspects "
    "traffic, set REQUESTS_CA_BUNDLE to that proxy's certificate",
    requests.TooManyRedirects: "it redirects in circles; check the base URL",
    requests.RequestException: "it cannot be fetched; check the base URL and the connection, and "
    "run again",
}


class RemoteFile(io.RawIOBase):
    """The file at `url`, read from its beginning, from the cache at `path` as far as that goes.

    Processes that read the same file at once take turns, one request each, through a lock on
    ``.<name>.lock``. Wrap it in `io.BufferedReader`.

    Args:
        url: ``http://`` or ``https://``.
        path: Of the file in the cache.
        progress: Show a bar where a person watches, else one line at the end, on stderr. Nothing
            is shown where nothing is fetched.

    Raises:
        FileNotFoundError: When reading: there is no such file.
        ConnectionError: When reading: the server cannot be reached or used, after some attempts
            (what was fetched is kept), or the file changed while it was being read.
    """

    def __init__(self, url: str, path: Path, *, progress: bool = True) -> None:
        self.url = url
        self.path = path
        self._progress = progress
        self._position = 0
        self._about: dict[str, Any] | None = None  # the version that this reader has seen
        self._bar: tqdm | None = None
        self._fetched = 0
        self._session = _new_session()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._sidecar = path.with_name(f"{path.name}.json")

    def readable(self) -> bool:
        """True: what `io.BufferedReader` wants to know."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with what is at hand, and fetch only if that is nothing; 0 at the end."""
        with self._lock:
            about, have = self._cached()
            while about is None or self._position >= have < about["total"]:
                self._fetch()
                about, have = self._cached()
            if self._about not in (None, about):
                raise ConnectionError(f"{self.url} changed while it was being read; read it again")
            with self.path.open("rb") as file:
                file.seek(self._position)
                count = file.readinto(buffer)
        self._about = about
        self._position += count
        return count

    def close(self) -> None:
        """End the connection and the bar."""
        if not self.closed:
            self._session.close()
            if self._bar is not None:
                if self._progress and self._bar.disable:  # which closing it would set, too
                    print(f"fetched {self._fetched / 1e6:.1f} MB of {self.url}", file=sys.stderr)
                self._bar.close()
        super().close()

    def _cached(self) -> tuple[dict[str, Any] | None, int]:
        """What the cache holds: of which version of the file, and how many bytes of it."""
        try:
            about = json.loads(self._sidecar.read_bytes())
            have = self.path.stat().st_size
            usable = about["url"] == self.url and have <= about["total"] and "mark" in about
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            usable = False
        return (about, have) if usable else (None, 0)

    def _fetch(self) -> None:
        """Extend the cache by one request that succeeds."""
        reason: requests.RequestException | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(BACKOFF * 2 ** (attempt - 1))
            try:
                return self._extend()
            except requests.RequestException as error:
                reason = error
        raise ConnectionError(
            f"{self.url}: broke off in each of {ATTEMPTS} attempts ({reason}); "
            "what was fetched is kept: run again"
        ) from reason

    def _extend(self) -> None:
        about, have = self._cached()
        stop, mark = have + CHUNK, about["mark"] if about else None
        with _ask(self._session, self.url, have, stop, mark=mark) as response:
            start, total = _place(response)
            etag, modified = map(response.headers.get, ("ETag", "Last-Modified"))
            mark = etag if etag and not etag.startswith("W/") else modified
            if about != (about := {"url": self.url, "total": total, "mark": mark}):
                self.path.unlink(missing_ok=True)  # first: a new mark never stands by old bytes
                with atomic_write(self._sidecar) as file:
                    file.write(json.dumps(about).encode())
                have = 0
            if start > have or have >= total:
                raise requests.RequestException("the file changed, or another part of it came")
            if start < have:  # no parts: as much again as is skipped, or this never ends
                stop = max(stop, 2 * have)
            with self.path.open("ab") as file:
                for block in response.iter_content(BLOCK):
                    fresh = block[max(have - start, 0) : max(stop - start, 0)]
                    file.write(fresh)
                    self._count(len(fresh))
                    start += len(block)
                    if stop <= start < total:
                        break
                file.flush()
                os.fsync(file.fileno())
        if start < min(stop, total):
            raise requests.RequestException(f"the answer ended at byte {start} of {total}")

    def _count(self, fetched: int) -> None:
        """Count what was fetched, on a bar where somebody watches."""
        if self._bar is None:
            is_watched = sys.stderr.isatty() or "ipykernel" in sys.modules
            silent = {} if self._progress and is_watched else {"disable": True}
            self._bar = tqdm(desc=self.path.name, unit="B", unit_scale=True, **silent)
        self._bar.update(fetched)
        self._fetched += fetched


def _new_session() -> requests.Session:
    """Connections that are tried again where that may help."""
    session = requests.Session()
    session.max_redirects = 5
    retry = Retry(
        total=ATTEMPTS - 1,
        other=0,  # a bad certificate stays bad
        backoff_factor=BACKOFF,
        status_forcelist=BUSY,
        raise_on_status=False,
        respect_retry_after_header=False,  # it may say hours
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _ask(
    session: requests.Session, url: str, begin: int, end: int, *, mark: str | None = None
) -> requests.Response:
    """The server's answer to a request for some bytes, of that version, if it holds data."""
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={begin}-{end - 1}"}
    headers |= {"If-Range": mark} if mark else {}
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.RequestException as error:
        advice = next(text for kind, text in _ADVICE.items() if isinstance(error, kind))
        raise ConnectionError(f"{url}: {advice} ({error})") from error
    status, kind = response.status_code, response.headers.get("Content-Type", "")
    if status in (200, 206, 416) and "html" not in kind:
        return response
    response.close()
    if status == 404:
        raise FileNotFoundError(f"{url}: this server has no such file (404)")
    if status in (200, 206, 416):
        raise ConnectionError(f"{url}: answered with a web page, not with data")
    tries = f" in each of {ATTEMPTS} attempts; try later" if status in BUSY else ""
    raise ConnectionError(f"{url}: answered {status} {response.reason}{tries}")


def _place(response: requests.Response) -> tuple[int, int]:
    """Where in the file the body of an answer begins, and how long the file is."""
    headers, url = response.headers, response.url
    if headers.get("Content-Encoding", "identity") != "identity":
        raise ConnectionError(f"{url}: came compressed, which was not asked for")
    part = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", headers.get("Content-Range", ""))
    if part:  # or, beyond the end of a file that became shorter, its length alone
        return int(part[1] or part[2]), int(part[2])
    length = headers.get("Content-Length", "")
    if response.status_code == 200 and length.isdigit() and int(length):
        return 0, int(length)
    raise ConnectionError(f"{url}: the server says no length, or 0")
