"""A file server on loopback that can be told to misbehave, and writes down what it was asked."""

import re
import threading
import time
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import unquote

PIECE = 1 << 20  # bytes written at a time


class FileServer(ThreadingHTTPServer):
    """Serves `files`, by path; each request first takes one of `faults` (or `always`).

    Faults: a status (404, 429, …), or the name of one: "cut" (half of the body, then the end of
    the connection), "stall" (half of it, then nothing for a second), "long" (says one byte too
    many), "empty" (no body), "html", "gzip", "endless" (no length), "loop" (redirects to itself).
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], *, ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.ranges = ranges
        self.marks = True  # answers with an ETag, and heeds If-Range
        self.faults: list[int | str] = []
        self.always: int | str | None = None
        self.asked: list[tuple[str, str | None]] = []  # path, range
        self.sent = 0  # bytes of files
        self.delay = 0.0  # s before each answer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error here."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        server, wanted = self.owner, self.headers.get("Range")
        path = unquote(self.path).lstrip("/")
        server.asked.append((path, wanted))
        time.sleep(server.delay)
        fault = server.faults.pop(0) if server.faults else server.always
        body = server.files.get(path)
        if fault == "loop":
            self.answer(302, b"", {"Location": self.path})
        elif isinstance(fault, int) or body is None:
            self.answer(fault if isinstance(fault, int) else 404, b"sorry", {})
        else:
            self.deliver(body, wanted if server.ranges else None, fault)

    def deliver(self, body: bytes, wanted: str | None, fault: str | None) -> None:
        mark = f'"{zlib.crc32(body):x}"'
        headers = {"ETag": mark} if self.owner.marks else {}
        status, total = 200, len(body)
        if wanted and self.headers.get("If-Range", mark) == mark:
            start, last = map(int, re.findall(r"\d+", wanted))
            if start >= total:
                return self.answer(416, b"", {"Content-Range": f"bytes */{total}"})
            body = body[start : last + 1]
            status = 206
            headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{total}"
        if fault == "empty":
            body = b""
        if fault == "html":
            headers["Content-Type"] = "text/html"
        if fault == "gzip":
            headers["Content-Encoding"] = "gzip"
        self.answer(status, body, headers, fault)

    def answer(
        self, status: int, body: bytes, headers: dict[str, str], fault: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if fault != "endless":
            self.send_header("Content-Length", str(len(body) + (fault == "long")))
        part = body[: len(body) // 2] if fault in ("cut", "stall") else body
        try:
            for at in range(0, max(len(part), 1), PIECE):
                piece = part[at : at + PIECE]
                if status in (200, 206):
                    self.owner.sent += len(piece)  # before it is: the client may be quick
                if at == 0:
                    self.end_headers()
                self.wfile.write(piece)
        except ConnectionError:  # the client wants no more
            self.close_connection = True
        if fault == "stall":
            time.sleep(1)
        if fault in ("cut", "stall", "long", "endless"):
            self.close_connection = True

    @property
    def owner(self) -> FileServer:
        return cast(FileServer, self.server)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(files: dict[str, bytes], *, ranges: bool = True) -> Generator[FileServer]:
    """A running server; `.url` is its base URL."""
    server = FileServer(files, ranges=ranges)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
