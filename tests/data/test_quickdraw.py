"""Reading the published files, from folders and servers, invented ones and a real mirror."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fileserver import serving

from doodlelib import paths
from doodlelib.data import download, formats, quickdraw

CAT = "full/raw/cat.ndjson"
BITMAPS = "full/numpy_bitmap/cat.npy"


def line(number: int, **changes) -> bytes:
    """One drawing of some 1,000 bytes in the official schema."""
    xs = [number + 3 * i for i in range(80)]
    drawing = [[xs, xs[::-1], [17 * i for i in range(80)]], [[1], [2], [2_000]]]
    record = {"word": "cat", "key_id": str(number), "recognized": True, "drawing": drawing}
    return orjson.dumps(record | changes) + b"\n"


def npy(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


BODY = b"".join(
    line(number, recognized=[True, True, None, False][number % 4]) for number in range(200)
)
IMAGES = np.random.default_rng(1).integers(0, 256, (50, 784), dtype=np.uint8)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small requests, no proxy."""
    monkeypatch.setattr(download, "CHUNK", 10_000)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """Published files, by name and in a folder."""
    files = {CAT: BODY, "full/raw/The Eiffel Tower.ndjson": line(1, word="The Eiffel Tower")}
    files |= {BITMAPS: npy(IMAGES), "sketchrnn/cat.npz": b"PK" * 5_000}
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
        assert len(chosen) == len({quickdraw.checked_word(word) for word in chosen}) == 10


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("eiffel tower", "'The Eiffel Tower'"), ("CAT", "'cat'"), ("tshirt", "'t-shirt'")],
)
def test_an_unknown_word_is_refused_with_the_nearest(word: str, nearest: str):
    lines, drawings = quickdraw.lines, quickdraw.read_drawings
    for reader in (lines, drawings, lambda word: quickdraw.fetch(word, "bitmap")):
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


def test_other_kinds_limits_and_suffixes_are_refused():
    with pytest.raises(ValueError, match="raw, simplified"):
        quickdraw.lines("cat", kind="../raw")
    with pytest.raises(ValueError, match="-1"):
        quickdraw.read_drawings("cat", limit=-1)
    with pytest.raises(ValueError, match=r"kind '\.\./\.\./x'"):
        quickdraw.fetch("cat", "../../x")


@pytest.mark.parametrize("ranges", [True, False])
def test_folder_and_server_give_the_same(files: dict, tmp_path: Path, ranges: bool):
    folder = (tmp_path / "mirror").as_uri()
    with serving(files, ranges=ranges) as server:
        for limit in (0, 1, 17, None):
            options: dict[str, Any] = {"limit": limit, "cache": tmp_path / "cache"}
            for word in ("cat", "The Eiffel Tower") if limit != 17 else ("cat",):
                assert read(word, folder, **options) == read(word, server.url, **options)
            for url in (folder, server.url):
                path = quickdraw.fetch("cat", "bitmap", base_url=url, cache=tmp_path / "cache")
                np.testing.assert_array_equal(formats.read_images(path).reshape(-1, 784), IMAGES)
    (cached,) = (tmp_path / "cache").iterdir()
    assert cached.name == f"127.0.0.1_{server.server_port}"


def test_the_environment_names_the_mirror(
    files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(quickdraw.BASE_URL_VARIABLE, (tmp_path / "mirror").as_uri() + "/")
    assert len(list(quickdraw.lines("cat"))) == 200
    assert quickdraw.fetch("cat", "sketchrnn").is_relative_to(tmp_path / "mirror")
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
        assert next(rows) == line(0)
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
        assert b"".join(rows) == BODY[:-1]
        monkeypatch.setattr(quickdraw, "MAX_LINE", 500)
        with pytest.raises(ValueError, match="a line of over 500 bytes"):
            list(quickdraw.lines("cat", base_url=server.url, cache=tmp_path))


def test_a_sketchrnn_file_is_fetched_whole_once(files: dict, tmp_path: Path):
    with serving(files) as server:
        server.faults = ["cut"]
        for _ in range(2):
            path = quickdraw.fetch(
                "cat", "sketchrnn", base_url=server.url, cache=tmp_path, progress=False
            )
            assert path.read_bytes() == files["sketchrnn/cat.npz"]
        assert len(server.asked) == 2
