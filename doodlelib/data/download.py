"""A file on a web server, of which the beginning lies on disk and the rest is fetched on demand.

The cache holds the first bytes of each file and beside them, in ``<name>.json``, where they come
from, how long the whole file is and the server's marks of its version. The file is whole when it
is that long, so half a file never counts as whole, and what is there is never fetched again: not
even asked after once the file is whole. To fetch it anew, delete it.
"""

import io
import json
import os
import re
import sys
import time
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from doodlelib.paths import atomic_write

BLOCK = 1 << 16  # bytes taken from the connection, and written, at a time
CHUNK = 1 << 18  # bytes that a request asks for where nobody knows how many are wanted
LARGEST_CHUNK = 1 << 22  # bytes that a request asks for at most
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


@dataclass(frozen=True)
class Version:
    """What the server says of a file: bytes in all, and the marks that change when it changes."""

    url: str
    total: int
    etag: str | None
    modified: str | None


def size(url: str) -> int:
    """Bytes of the file at `url`.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: The server cannot be reached, or does not say.
    """
    with _new_session() as session, _ask(session, url, {"Range": "bytes=0-0"}) as response:
        place = re.fullmatch(r"bytes 0-0/([1-9]\d*)", response.headers.get("Content-Range", ""))
    if place is None:
        raise ConnectionError(f"{url}: this server gives no parts of a file")
    return int(place[1])


@contextmanager
def open_part(url: str, begin: int, end: int) -> Generator[io.BufferedReader]:
    """Bytes `begin` to `end` of the file at `url`, straight from the server; errors as `size`."""
    headers = {"Range": f"bytes={begin}-{end - 1}"}
    with _new_session() as session, _ask(session, url, headers) as response:
        if not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
            raise ConnectionError(f"{url}: this server gives no parts of a file")
        try:
            yield io.BufferedReader(response.raw, BLOCK)
        except HTTPError as error:
            raise ConnectionError(f"{url}: broke off ({error}); run again") from error


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


def _ask(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """The server's answer, if it is one that holds data or says that there is none there."""
    headers = {"Accept-Encoding": "identity"} | headers
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.RequestException as error:
        advice = next(text for kind, text in _ADVICE.items() if isinstance(error, kind))
        raise ConnectionError(f"{url}: {advice} ({error})") from error
    status = response.status_code
    if status in (200, 206, 416):
        return response
    response.close()
    if status == 404:
        raise FileNotFoundError(f"{url}: this server has no such file (404)")
    tries = f" in each of {ATTEMPTS} attempts; try later" if status in BUSY else ""
    raise ConnectionError(f"{url}: answered {status} {response.reason}{tries}")


class RemoteFile(io.RawIOBase):
    """The file at `url`, read from its beginning, from the cache at `path` as far as that goes.

    Processes that read the same file at once take turns, one request each, through a lock on
    ``.<name>.lock``. Wrap it in `io.BufferedReader`.

    Args:
        wanted: Bytes that the caller knows it will read, fetched before the first is given out.
            Beyond them a request asks for `CHUNK`, or an eighth of what was read before.
        progress: Show a bar where a person watches, else one line at the end, on stderr. Nothing
            is shown where nothing is fetched.

    Raises:
        FileNotFoundError: When reading: there is no such file.
        ConnectionError: When reading: the server cannot be reached, or not used, after some
            attempts; what was fetched is kept.
    """

    def __init__(self, url: str, path: Path, *, wanted: int = 0, progress: bool = True) -> None:
        self.url = url
        self.path = path
        self._wanted = wanted
        self._progress = progress
        self._position = 0
        self._checksum = 0  # of all up to the position
        self._version: Version | None = None  # that this reader has seen
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
        needed = max(self._position + 1, self._wanted)
        known = self._position < self._wanted
        goal = self._wanted if known else self._position + max(CHUNK, self._position // 8)
        with self._lock:
            version, have = self._state()
            while version is None or have < min(needed, version.total):
                self._fetch(min(goal, have + LARGEST_CHUNK))
                version, have = self._state()
            with self.path.open("rb") as file:
                if self._version not in (None, version):
                    self._check_same(file.read(self._position))
                file.seek(self._position)
                count = file.readinto(buffer)
        self._version = version
        self._checksum = zlib.crc32(memoryview(buffer)[:count], self._checksum)
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

    def _state(self) -> tuple[Version | None, int]:
        """What the cache holds: of which version, and how many bytes of it."""
        try:
            version = Version(**json.loads(self._sidecar.read_bytes()))
            have = self.path.stat().st_size
            usable = version.url == self.url and have <= version.total
        except (FileNotFoundError, ValueError, TypeError):
            return None, 0
        return (version, have) if usable else (None, 0)

    def _check_same(self, again: bytes) -> None:
        """Refuse to go on in a file that changed in the part that was read already."""
        if len(again) < self._position or zlib.crc32(again) != self._checksum:
            raise ConnectionError(f"{self.url} changed while it was being read; read it again")

    def _fetch(self, stop: int) -> None:
        """Extend the cache up to byte `stop`, or the end of the file."""
        reason: requests.RequestException | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(BACKOFF * 2 ** (attempt - 1))
            try:
                self._request(stop)
            except requests.RequestException as error:
                reason = error
            else:
                return
        raise ConnectionError(
            f"{self.url}: broke off in each of {ATTEMPTS} attempts ({reason}); "
            "what was fetched is kept: run again"
        ) from reason

    def _request(self, stop: int) -> None:
        """One request: append what comes of the bytes up to `stop`."""
        version, have = self._state()
        with self._answer(version, have, stop) as response:
            start, end, found = self._described(response)
            if found != version:
                self.path.unlink(missing_ok=True)  # first: new marks never stand by old bytes
                with atomic_write(self._sidecar) as file:
                    file.write(json.dumps(asdict(found)).encode())
                have = 0
            if not start <= have < end:
                raise requests.RequestException("the file changed, or another part of it came")
            if start < have:  # no ranges here: as much again as is skipped, or this never ends
                stop = max(stop, 2 * have)
            self._append(response, start=start, have=have, stop=min(stop, end), end=end)

    def _append(
        self, response: requests.Response, *, start: int, have: int, stop: int, end: int
    ) -> None:
        """Write bytes `have` to `stop` of the file out of a body that holds `start` to `end`."""
        with self.path.open("ab") as file:
            for block in response.iter_content(BLOCK):
                fresh = block[max(have - start, 0) : max(stop - start, 0)]
                file.write(fresh)
                self._count(len(fresh))
                start += len(block)
                if stop <= start < end:
                    break
            file.flush()
            os.fsync(file.fileno())
        if start < stop:
            raise requests.RequestException(f"the answer ended at byte {start} of {end}")

    def _answer(self, version: Version | None, have: int, stop: int) -> requests.Response:
        """The server's answer, if it is one that holds data."""
        headers = {"Range": f"bytes={have}-{stop - 1}"}
        if version is not None:
            weak = version.etag is None or version.etag.startswith("W/")
            if mark := version.modified if weak else version.etag:
                headers["If-Range"] = mark
        response = _ask(self._session, self.url, headers)
        if response.status_code != 416:
            return response
        response.close()
        if have:
            self.path.unlink(missing_ok=True)
            raise requests.RequestException("the file became shorter on the server")
        raise ConnectionError(f"{self.url}: answered 416 {response.reason}")

    def _described(self, response: requests.Response) -> tuple[int, int, Version]:
        """Where the body begins and ends in the file, and which version of the file it is of."""
        headers = response.headers
        if "html" in headers.get("Content-Type", ""):
            raise ConnectionError(f"{self.url}: answered with a web page, not with data")
        if headers.get("Content-Encoding", "identity") != "identity":
            raise ConnectionError(f"{self.url}: came compressed, which was not asked for")
        if response.status_code == 206:
            place = re.fullmatch(r"bytes (\d+)-(\d+)/([1-9]\d*)", headers.get("Content-Range", ""))
        else:
            place = re.fullmatch(r"([1-9]\d*)", headers.get("Content-Length", ""))
        if place is None:
            raise ConnectionError(f"{self.url}: the server says no length, or 0")
        *span, total = map(int, place.groups())
        start, end = (span[0], min(span[1] + 1, total)) if span else (0, total)
        version = Version(self.url, total, headers.get("ETag"), headers.get("Last-Modified"))
        return start, end, version

    def _count(self, fetched: int) -> None:
        """Count what was fetched, on a bar where somebody watches."""
        if self._bar is None:
            is_watched = sys.stderr.isatty() or "ipykernel" in sys.modules
            silent = {} if self._progress and is_watched else {"disable": True}
            self._bar = tqdm(desc=self.path.name, unit="B", unit_scale=True, **silent)
        self._bar.update(fetched)
        self._fetched += fetched
