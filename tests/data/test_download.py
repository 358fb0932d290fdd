"""Fetching from a server that misbehaves: nothing is lost, fetched twice, or taken for whole."""

import io
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fileserver import FileServer, serving

from doodlelib.data import download
from doodlelib.data.download import RemoteFile

NAME = "full/raw/cat.ndjson"
BODY = random.Random(7).randbytes(160_000)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small requests, no waiting, no proxy."""
    monkeypatch.setattr(download, "CHUNK", 20_000)
    monkeypatch.setattr(download, "BLOCK", 4_096)
    monkeypatch.setattr(download, "BACKOFF", 0.001)
    monkeypatch.setattr(download, "TIMEOUT", (10.0, 0.5))  # a stall takes 1 s
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def server(request: pytest.FixtureRequest):
    with serving({NAME: BODY}, ranges=request.param) as server:
        yield server


def fetch(server: FileServer, cache: Path, size: int = -1, **options) -> bytes:
    """The first `size` bytes, or all."""
    url = f"{server.url}/{NAME}"
    with io.BufferedReader(RemoteFile(url, cache / "cat", progress=False, **options)) as file:
        return file.read(size)


def cached(cache: Path) -> bytes:
    return (cache / "cat").read_bytes()


def test_only_what_is_wanted_is_fetched_and_nothing_twice(tmp_path: Path):
    with serving({NAME: BODY}) as server:
        assert fetch(server, tmp_path, 100) == BODY[:100]
        assert server.asked == [(NAME, "bytes=0-19999")]
        assert fetch(server, tmp_path, 20_000) == BODY[:20_000]
        assert len(server.asked) == 1
        assert fetch(server, tmp_path, 21_000) == BODY[:21_000]
        assert server.asked[1:] == [(NAME, "bytes=20000-39999")]
        assert fetch(server, tmp_path) == BODY
        assert server.sent == len(BODY)
        calls = len(server.asked)
        assert fetch(server, tmp_path) == BODY
        assert len(server.asked) == calls
    assert cached(tmp_path) == BODY


def test_without_ranges_the_work_stays_bounded(tmp_path: Path):
    with serving({NAME: BODY}, ranges=False) as server:
        for size in range(10_000, len(BODY), 10_000):
            assert fetch(server, tmp_path, size) == BODY[:size]
        assert fetch(server, tmp_path) == BODY
        assert len(server.asked) <= 6


def test_without_ranges_what_is_not_wanted_is_not_awaited(tmp_path: Path):
    with serving({NAME: bytes(40_000_000)}, ranges=False) as server:
        fetch(server, tmp_path, 100)
        assert server.sent < 20_000_000  # most of it lies in the system's buffers


@pytest.mark.parametrize("fault", ["cut", "stall", 429, 500, 502, 503, 504])
def test_a_passing_fault_is_overcome(server: FileServer, tmp_path: Path, fault: int | str):
    server.faults = [fault, fault]
    assert fetch(server, tmp_path) == BODY
    assert cached(tmp_path) == BODY


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ("cut", ConnectionError, "broke off in each of 5 attempts"),
        ("stall", ConnectionError, "broke off in each of 5 attempts.*timed out"),
        ("long", ConnectionError, "broke off in each of 5 attempts"),
        ("empty", ConnectionError, "broke off in each of 5 attempts|says no length, or 0"),
        (429, ConnectionError, "answered 429 .* in each of 5 attempts"),
        (500, ConnectionError, "answered 500 .* in each of 5 attempts"),
        (403, ConnectionError, "answered 403 Forbidden$"),
        (404, FileNotFoundError, "no such file"),
        ("loop", ConnectionError, "redirects in circles"),
        ("html", ConnectionError, "web page"),
        ("gzip", ConnectionError, "compressed"),
    ],
)
def test_a_lasting_fault_is_told_and_later_calls_go_on(
    server: FileServer, tmp_path: Path, fault: int | str, error: type[OSError], text: str
):
    if fault == "long" and not server.ranges:
        pytest.skip("a whole file of another length is another version")
    assert fetch(server, tmp_path, 1_000) == BODY[:1_000]
    before = len(cached(tmp_path))
    server.always, calls = fault, len(server.asked)
    with pytest.raises(error, match=text) as caught:
        fetch(server, tmp_path)
    assert f"{server.url}/{NAME}" in str(caught.value)
    if fault not in ("cut", "stall", "long"):  # these let something through
        tries = 6 if fault == "loop" else 5 if "attempts" in str(caught.value) else 1
        assert len(server.asked) - calls == tries
    kept = cached(tmp_path)
    assert before <= len(kept) < len(BODY)
    assert kept == BODY[: len(kept)]
    server.always, sent = None, server.sent
    assert fetch(server, tmp_path) == BODY
    if server.ranges:
        assert server.sent - sent == len(BODY) - len(kept)


def test_a_length_that_nobody_knows_is_refused(tmp_path: Path):
    with serving({NAME: BODY}, ranges=False) as server:
        server.always = "endless"
        with pytest.raises(ConnectionError, match="says no length"):
            fetch(server, tmp_path)


def test_no_server_and_no_certificate(tmp_path: Path):
    with serving({NAME: BODY}) as server:
        url = f"{server.url}/{NAME}"
        secure = RemoteFile(url.replace("http:", "https:"), tmp_path / "cat")
        with secure, pytest.raises(ConnectionError, match="certificate"):
            secure.read(1)
    with (
        RemoteFile(url, tmp_path / "cat") as gone,
        pytest.raises(ConnectionError, match="base URL"),
    ):
        gone.read(1)


@pytest.mark.parametrize("marks", [True, False])
def test_a_changed_file_is_fetched_anew(server: FileServer, tmp_path: Path, marks: bool):
    server.marks = marks
    fetch(server, tmp_path, 50_000)
    for new in (BODY[::-1] + BODY, BODY[5:], BODY[:20_000]):
        server.files[NAME] = new
        (tmp_path / "cat").write_bytes(cached(tmp_path)[:25_000])
        calls = len(server.asked)
        with pytest.raises(ConnectionError, match="changed while it was being read"):
            fetch(server, tmp_path, 60_000)
        assert len(server.asked) - calls <= (1 if marks else 3)
        assert cached(tmp_path) == new[: len(cached(tmp_path))]
        assert fetch(server, tmp_path) == new


def test_a_file_that_changes_while_it_is_read(server: FileServer, tmp_path: Path):
    fetch(server, tmp_path, 20_000)
    server.files[NAME] = BODY[::-1]
    with pytest.raises(ConnectionError, match="changed while it was being read"):
        fetch(server, tmp_path)
    assert fetch(server, tmp_path) == BODY[::-1]


def test_two_files_in_one_place_do_not_mix(server: FileServer, tmp_path: Path):
    fetch(server, tmp_path)
    server.files["other"] = BODY[::-1]
    with RemoteFile(f"{server.url}/other", tmp_path / "cat", progress=False) as file:
        assert file.readall() == BODY[::-1]


@pytest.mark.parametrize("sidecar", [b"", b"[]", b"{}", b'{"url": 1}', b"\xff", None])
def test_a_spoilt_cache_is_fetched_anew(server: FileServer, tmp_path: Path, sidecar: bytes | None):
    fetch(server, tmp_path, 50_000)
    (tmp_path / "cat").write_bytes(b"spoilt" * 100_000)
    if sidecar is not None:
        (tmp_path / "cat.json").write_bytes(sidecar)
    assert fetch(server, tmp_path) == BODY


READER = """
import sys, pathlib, hashlib
from doodlelib.data import download
download.CHUNK = 5_000
with download.RemoteFile(sys.argv[1], pathlib.Path(sys.argv[2]), progress=False) as file:
    print(hashlib.sha1(file.readall()).hexdigest())
"""


def start(server: FileServer, cache: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", READER, f"{server.url}/{NAME}", str(cache / "cat")]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_processes_at_once_share_one_whole_file(tmp_path: Path):
    with serving({NAME: BODY}) as server:
        server.delay = 0.002
        readers = [start(server, tmp_path) for _ in range(3)]
        results = {reader.communicate(timeout=300)[0] for reader in readers}
        assert len(results) == 1
        assert all(reader.returncode == 0 for reader in readers)
        assert server.sent == len(BODY)
    assert cached(tmp_path) == BODY


def test_a_killed_process_leaves_a_part_that_is_gone_on_from(tmp_path: Path):
    with serving({NAME: BODY}) as server:
        server.delay = 0.02
        reader = start(server, tmp_path)
        while len(server.asked) < 10 and reader.poll() is None:
            time.sleep(0.005)
        reader.kill()
        reader.communicate()
        kept = cached(tmp_path)
        assert 0 < len(kept) < len(BODY)
        server.delay = 0
        calls = len(server.asked)
        assert fetch(server, tmp_path) == BODY
        first = re.findall(r"\d+", server.asked[calls][1] or "")[0]
        assert int(first) == len(kept)


def test_progress_is_one_line_where_nobody_watches(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # another test may load it
    with serving({NAME: BODY}) as server:
        for expected in (f"fetched 0.2 MB of {server.url}/{NAME}\n", ""):
            with RemoteFile(f"{server.url}/{NAME}", tmp_path / "cat") as file:
                file.readall()
            assert capsys.readouterr() == ("", expected)


def test_progress_is_a_bar_where_somebody_watches(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with serving({NAME: BODY}) as server:
        RemoteFile(f"{server.url}/{NAME}", tmp_path / "cat").readall()
    shown = capsys.readouterr().err
    assert "cat: 160kB" in shown
    assert "fetched" not in shown
