"""Reading the published files, from folders and servers, also from a server that misbehaves."""

import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from fileserver import FileServer, serving

from doodlelib import paths, progress
from doodlelib.data import quickdraw
from doodlelib.data.quickdraw import fetch_blocks

CAT = "full/raw/cat.ndjson"
BYTES = random.Random(7).randbytes(160_000)  # of a file of no format


def line(number: int, **changes) -> bytes:
    """One drawing of some 1,000 bytes in the official schema."""
    xs = [number + 3 * i for i in range(80)]
    drawing = [[xs, xs[::-1], [17 * i for i in range(80)]], [[1], [2], [2_000]]]
    record = {"word": "cat", "key_id": str(number), "recognized": True, "drawing": drawing}
    return orjson.dumps(record | changes) + b"\n"


BODY = b"".join(
    line(number, recognized=[True, True, None, False][number % 4]) for number in range(200)
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small requests, no waiting, no proxy."""
    monkeypatch.setattr(quickdraw, "CHUNK", 10_000)
    monkeypatch.setattr(quickdraw, "BLOCK", 4_096)
    monkeypatch.setattr(quickdraw, "BACKOFF", 0.001)
    monkeypatch.setattr(quickdraw, "TIMEOUT", (10.0, 0.5))  # a stall takes 1 s
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """Published files, by name and in a folder."""
    files = {CAT: BODY, "full/raw/The Eiffel Tower.ndjson": line(1, word="The Eiffel Tower")}
    for name, body in files.items():
        (tmp_path / "mirror" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / name).write_bytes(body)
    return files


def read(word: str, url: str, cache: Path | None = None, **options) -> list[dict]:
    options |= {"progress": False, "cache": cache}
    return [record.to_json() for record in quickdraw.read_drawings(word, base_url=url, **options)]


def test_the_words():
    assert len(quickdraw.words()) == len(set(quickdraw.words())) == 345
    subsets = json.loads((paths.CONFIG / "subset_classes.json").read_text())
    assert set(subsets) == {"full", "simplified", "reduced"}
    for chosen in subsets.values():
        assert len(chosen) == len({*chosen} & {*quickdraw.words()}) == 10


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("eiffel tower", "'The Eiffel Tower'"), ("CAT", "'cat'"), ("tshirt", "'t-shirt'")],
)
def test_an_unknown_word_is_refused_with_the_nearest(word: str, nearest: str):
    for reader in (quickdraw.lines, quickdraw.read_drawings):
        with pytest.raises(ValueError, match=nearest):
            reader(word)


@pytest.mark.parametrize("word", ["../../x", "/etc/passwd", "cat/../dog", "", "cat\0", "x" * 10**6])
def test_a_path_is_no_word(word: str):
    with pytest.raises(ValueError, match="is not one of the 345 words"):
        quickdraw.read_drawings(word)


@pytest.mark.parametrize(
    "url",
    ["ftp://a/b", "/data", "C:\\data", "file://a/b", "http://", "http://me:it@a/b", "http://a?b=1"],
)
def test_other_base_urls_are_refused(url: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="base URL"):
        quickdraw.lines("cat", base_url=url)
    monkeypatch.setenv(quickdraw.BASE_URL_VARIABLE, url)
    with pytest.raises(ValueError, match="base URL"):
        quickdraw.lines("cat")


def test_other_kinds_and_limits_are_refused():
    with pytest.raises(ValueError, match="raw, simplified"):
        quickdraw.lines("cat", kind="../raw")
    with pytest.raises(ValueError, match="-1"):
        quickdraw.read_drawings("cat", limit=-1)


@pytest.mark.parametrize("ranges", [True, False])
def test_folder_and_server_give_the_same(files: dict, tmp_path: Path, ranges: bool):
    folder = (tmp_path / "mirror").as_uri()
    with serving(files, ranges=ranges) as server:
        for limit in (0, 1, 17, None):
            options: dict[str, Any] = {"limit": limit, "cache": tmp_path / "cache"}
            for word in ("cat", "The Eiffel Tower") if limit != 17 else ("cat",):
                assert read(word, folder, **options) == read(word, server.url, **options)
    (cached,) = (tmp_path / "cache").iterdir()
    assert cached.name == f"127.0.0.1_{server.server_port}"


def test_the_environment_names_the_mirror(
    files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(quickdraw.BASE_URL_VARIABLE, (tmp_path / "mirror").as_uri() + "/")
    assert len(list(quickdraw.lines("cat"))) == 200
    with pytest.raises(FileNotFoundError, match=r"raw/dog\.ndjson: this mirror has no such file"):
        next(quickdraw.lines("dog"))


def test_more_drawings_fetch_only_the_rest(files: dict, tmp_path: Path):
    with serving(files) as server:
        few = read("cat", server.url, tmp_path, limit=5)
        assert server.sent == 10_000
        assert few == read("cat", server.url, tmp_path, limit=5)
        assert server.sent == 10_000
        more = read("cat", server.url, tmp_path, limit=30)
        needed = len(b"".join(BODY.splitlines(keepends=True)[:39]))
        assert needed <= server.sent < needed + 10_000
        assert more[:5] == few
        everything = read("cat", server.url, tmp_path)
        assert server.sent == len(BODY)
    assert everything[:30] == more
    assert read("cat", server.url, tmp_path) == everything  # the server is gone


def test_an_abandoned_reader_stops_fetching(files: dict, tmp_path: Path):
    with serving(files) as server:
        rows = quickdraw.lines("cat", base_url=server.url, cache=tmp_path, progress=False)
        assert next(rows) == line(0).rstrip()
        del rows
        assert server.sent == 10_000


def test_fewer_than_asked_for_is_a_warning_with_the_number(files: dict, tmp_path: Path):
    url = (tmp_path / "mirror").as_uri()
    with pytest.warns(UserWarning, match="holds 150 good drawings; 151 were asked for"):
        assert len(read("cat", url, limit=151)) == 150


def test_filters_and_counts(files: dict, tmp_path: Path):
    url, dropped = (tmp_path / "mirror").as_uri(), Counter()
    records = read("cat", url, limit=9, dropped=dropped)
    assert [record["key_id"] for record in records] == [
        "0",
        "1",
        "2",
        "4",
        "5",
        "6",
        "8",
        "9",
        "10",
    ]
    assert dropped.total() == 2
    assert len(read("cat", url, limit=9, recognized=False)) == 9

    broken = BODY[:500] + b"\n" + BODY[: len(BODY) - 10]  # the last line has no end
    (tmp_path / "mirror" / CAT).write_bytes(broken)
    dropped.clear()
    assert len(read("cat", url, recognized=False, dropped=dropped)) == 199
    assert dropped.total() == 2


def test_a_last_line_needs_no_end_but_an_endless_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with serving({CAT: BODY[:-1]}) as server:
        rows = list(quickdraw.lines("cat", base_url=server.url, cache=tmp_path, progress=False))
        assert b"\n".join(rows) == BODY[:-1]
        monkeypatch.setattr(quickdraw, "MAX_LINE", 500)
        with pytest.raises(ValueError, match="a line of over 500 bytes"):
            list(quickdraw.lines("cat", base_url=server.url, cache=tmp_path))


# A server that misbehaves: nothing is lost, fetched twice, or taken for whole.

FILE = "file"


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def server(request: pytest.FixtureRequest):
    with serving({FILE: BYTES}, ranges=request.param) as server:
        yield server


def fetch(server: FileServer, cache: Path, size: int = -1) -> bytes:
    """The first `size` bytes, or all."""
    found, blocks = b"", fetch_blocks(f"{server.url}/{FILE}", cache / "cat", progress=False)
    while (size < 0 or len(found) < size) and (block := next(blocks, b"")):
        found += block
    blocks.close()
    return found[:size] if size > 0 else found


def cached(cache: Path) -> bytes:
    paths = [path for path in (cache / "cat", cache / "cat.part") if path.exists()]
    return paths[0].read_bytes() if paths else b""


def test_only_what_is_wanted_is_fetched_and_nothing_twice(tmp_path: Path):
    with serving({FILE: BYTES}) as server:
        assert fetch(server, tmp_path, 100) == BYTES[:100]
        assert server.asked == [(FILE, "bytes=0-9999")]
        assert fetch(server, tmp_path, 10_000) == BYTES[:10_000]
        assert len(server.asked) == 1
        assert fetch(server, tmp_path, 11_000) == BYTES[:11_000]
        assert server.asked[1:] == [(FILE, "bytes=10000-19999")]
        assert fetch(server, tmp_path) == BYTES
        assert server.sent == len(BYTES)
        calls = len(server.asked)
        assert fetch(server, tmp_path) == BYTES
        assert len(server.asked) == calls
    assert cached(tmp_path) == BYTES


def test_a_server_without_ranges_sends_the_whole_file_once(tmp_path: Path):
    with serving({FILE: BYTES}, ranges=False) as server:
        for size in (100, 50_000, -1):
            assert fetch(server, tmp_path, size) == (BYTES[:size] if size > 0 else BYTES)
        assert len(server.asked) == 1


@pytest.mark.parametrize("fault", ["cut", "stall", 429, 500, 502, 503, 504])
def test_a_passing_fault_is_overcome(server: FileServer, tmp_path: Path, fault: int | str):
    server.faults = [fault, fault]
    assert fetch(server, tmp_path) == BYTES
    assert cached(tmp_path) == BYTES


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ("cut", ConnectionError, "failed in each of 5 attempts"),
        ("stall", ConnectionError, "failed in each of 5 attempts.*timed out"),
        ("long", ConnectionError, "failed in each of 5 attempts"),
        ("empty", ConnectionError, "failed in each of 5 attempts|says no length, or 0"),
        (429, ConnectionError, "failed in each of 5 attempts.*429"),
        (500, ConnectionError, "failed in each of 5 attempts.*500"),
        (403, ConnectionError, "check the base URL .*403"),
        (404, FileNotFoundError, "no such file"),
        ("loop", ConnectionError, "check the base URL .*redirects"),
        ("html", ConnectionError, "web page"),
        ("gzip", ConnectionError, "compressed"),
    ],
)
def test_a_lasting_fault_is_told_and_later_calls_go_on(
    server: FileServer, tmp_path: Path, fault: int | str, error: type[OSError], text: str
):
    if fault == "long" and not server.ranges:
        pytest.skip("a whole file of another length is another version")
    if server.ranges:
        assert fetch(server, tmp_path, 1_000) == BYTES[:1_000]
    before = len(cached(tmp_path))
    server.always, calls = fault, len(server.asked)
    with pytest.raises(error, match=text) as caught:
        fetch(server, tmp_path)
    assert f"{server.url}/{FILE}" in str(caught.value)
    if fault not in ("cut", "stall", "long"):  # these let something through
        tries = 31 if fault == "loop" else 5 if "attempts" in str(caught.value) else 1
        assert len(server.asked) - calls == tries
    kept = cached(tmp_path)
    assert before <= len(kept) < len(BYTES)
    assert kept == BYTES[: len(kept)]
    server.always, sent = None, server.sent
    assert fetch(server, tmp_path) == BYTES
    if server.ranges:
        assert server.sent - sent == len(BYTES) - len(kept)


def test_a_length_that_nobody_knows_is_refused(tmp_path: Path):
    with serving({FILE: BYTES}, ranges=False) as server:
        server.always = "endless"
        with pytest.raises(ConnectionError, match="says no length"):
            fetch(server, tmp_path)


def test_no_server_and_no_certificate(tmp_path: Path):
    with serving({FILE: BYTES}) as server:
        url = f"{server.url}/{FILE}"
        with pytest.raises(ConnectionError, match="certificate"):
            next(fetch_blocks(url.replace("http:", "https:"), tmp_path / "cat"))
    with pytest.raises(ConnectionError, match="base URL"):
        next(fetch_blocks(url, tmp_path / "cat"))


def test_a_file_that_became_shorter_is_told(tmp_path: Path):
    with serving({FILE: BYTES}) as server:
        fetch(server, tmp_path, 50_000)
        server.files[FILE] = BYTES[:30_000]
        with pytest.raises(ConnectionError, match=r"has changed on the server; delete .*cat\.part"):
            fetch(server, tmp_path)
        (tmp_path / "cat.part").unlink()
        assert fetch(server, tmp_path) == BYTES[:30_000]


def test_a_file_killed_before_it_got_its_name_is_whole(server: FileServer, tmp_path: Path):
    tmp_path.joinpath("cat.part").write_bytes(BYTES)
    assert fetch(server, tmp_path) == BYTES
    assert (tmp_path / "cat").exists() and not (tmp_path / "cat.part").exists()


READER = """
import sys, pathlib, hashlib
from doodlelib.data import quickdraw
quickdraw.CHUNK = 5_000
blocks = quickdraw.fetch_blocks(sys.argv[1], pathlib.Path(sys.argv[2]), progress=False)
print(hashlib.sha1(b"".join(blocks)).hexdigest())
"""


def start(server: FileServer, cache: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", READER, f"{server.url}/{FILE}", str(cache / "cat")]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_processes_at_once_share_one_whole_file(tmp_path: Path):
    with serving({FILE: BYTES}) as server:
        server.delay = 0.002
        readers = [start(server, tmp_path) for _ in range(3)]
        results = {reader.communicate(timeout=300)[0] for reader in readers}
        assert len(results) == 1
        assert all(reader.returncode == 0 for reader in readers)
        assert server.sent == len(BYTES)
    assert cached(tmp_path) == BYTES


def test_a_killed_process_leaves_a_part_that_is_gone_on_from(tmp_path: Path):
    with serving({FILE: BYTES}) as server:
        server.delay = 0.02
        reader = start(server, tmp_path)
        while len(server.asked) < 10 and reader.poll() is None:
            time.sleep(0.005)
        reader.kill()
        reader.communicate()
        kept = cached(tmp_path)
        assert 0 < len(kept) < len(BYTES)
        server.delay = 0
        calls = len(server.asked)
        assert fetch(server, tmp_path) == BYTES
        first = re.findall(r"\d+", server.asked[calls][1] or "")[0]
        assert int(first) == len(kept)


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_bar_shows_what_is_fetched_where_somebody_watches(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, is_watched: bool
):
    monkeypatch.setattr(progress, "DELAY", 0)
    monkeypatch.setattr(progress, "is_watched", lambda: is_watched)
    with serving({FILE: BYTES}) as server:
        b"".join(fetch_blocks(f"{server.url}/{FILE}", tmp_path / "cat"))
    shown = capsys.readouterr().err
    if is_watched:
        assert re.search(r"cat, up to: 100%\|.*160k/160k \[00:0\d<00:00,", shown)
    else:
        assert shown == "", "it was a moment"
