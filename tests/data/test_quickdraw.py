"""Reading the published files, from folders and servers, invented ones and a real mirror."""

import io
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fileserver import serving

from doodlelib import paths
from doodlelib.data import download, quickdraw

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
    files |= {BITMAPS: npy(IMAGES), "sketchrnn/cat.test.npz": b"PK" * 5_000}
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
    for reader in (lines, drawings, quickdraw.read_bitmaps, quickdraw.fetch_sketchrnn):
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
        quickdraw._ndjson("cat", "../raw")
    with pytest.raises(ValueError, match="-1"):
        quickdraw.read_drawings("cat", limit=-1)
    with pytest.raises(ValueError, match="suffix"):
        quickdraw.fetch_sketchrnn("cat", suffix="/../../x.npz")


@pytest.mark.parametrize("ranges", [True, False])
def test_folder_and_server_give_the_same(files: dict, tmp_path: Path, ranges: bool):
    folder = (tmp_path / "mirror").as_uri()
    with serving(files, ranges=ranges) as server:
        for limit in (0, 1, 17, None):
            options: dict[str, Any] = {"limit": limit, "cache": tmp_path / "cache"}
            for word in ("cat", "The Eiffel Tower") if limit != 17 else ("cat",):
                assert read(word, folder, **options) == read(word, server.url, **options)
            for url in (folder, server.url):
                images = quickdraw.read_bitmaps("cat", base_url=url, **options)
                np.testing.assert_array_equal(images, IMAGES[:limit])
    (cached,) = (tmp_path / "cache").iterdir()
    assert cached.name == f"127.0.0.1_{server.server_port}"


def test_the_environment_names_the_mirror(
    files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(quickdraw.BASE_URL_VARIABLE, (tmp_path / "mirror").as_uri() + "/")
    assert len(list(quickdraw.lines("cat"))) == 200
    assert quickdraw.fetch_sketchrnn("cat", suffix=".test.npz").is_relative_to(tmp_path / "mirror")
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


def test_bitmaps_fetch_what_they_need_and_only_the_rest(files: dict, tmp_path: Path):
    with serving(files) as server:
        for limit in (10, 10, 25):
            images = quickdraw.read_bitmaps("cat", limit=limit, base_url=server.url, cache=tmp_path)
            np.testing.assert_array_equal(images, IMAGES[:limit])
            assert server.sent == 128 + limit * 784


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
    with pytest.warns(UserWarning, match="holds 50 bitmaps; 51 were asked for"):
        assert len(quickdraw.read_bitmaps("cat", limit=51, base_url=url)) == 50


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
    with pytest.raises(ValueError, match=r"cat\.ndjson, line 1:"):
        read("cat", url, strict=True)
    (tmp_path / "mirror" / CAT).write_bytes(line(1, recognized=False) * 3 + BODY[:500])
    with pytest.raises(ValueError, match=r"cat\.ndjson, after line 3, line 1:"):
        read("cat", url, strict=True, limit=3)


def test_a_last_line_needs_no_end_but_an_endless_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with serving({CAT: BODY[:-1]}) as server:
        rows = list(quickdraw.lines("cat", base_url=server.url, cache=tmp_path, progress=False))
        assert b"".join(rows) == BODY[:-1]
        monkeypatch.setattr(quickdraw, "MAX_LINE", 500)
        with pytest.raises(ValueError, match="a line of over 500 bytes"):
            list(quickdraw.lines("cat", base_url=server.url, cache=tmp_path))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not an npy file"),
        (b"garbage" * 1_000, "not an npy file"),
        (npy(IMAGES)[:100], "not an npy file"),
        (npy(IMAGES, version=(2, 0)), "not an npy file"),
        (npy(IMAGES)[:-1], "ends within bitmap 49 of 50"),
        (
            npy(IMAGES).replace(b"(50, 784), }" + b" " * 12, b"(10000000000000, 784), }"),
            "ends within",
        ),
        (npy(IMAGES).replace(b"(50, 784), }", b"(-5, 784), }"), "not an npy file"),
        (npy(IMAGES).replace(b"(50, 784), }", b"(((((((((((("), "not an npy file"),
        (npy(IMAGES).replace(b"v\x00", b"w\x00"), "not an npy file"),
        (npy(IMAGES.astype(np.int16)), "<i2"),
        (npy(IMAGES[:, :700]), "not an npy file"),
        (npy(np.asfortranarray(IMAGES)), "fortran_order': True"),
        (npy(np.array([{"a": 1}]), allow_pickle=True), "O"),
    ],
)
def test_other_bitmap_files_are_refused(tmp_path: Path, body: bytes, text: str):
    (tmp_path / BITMAPS).parent.mkdir(parents=True)
    (tmp_path / BITMAPS).write_bytes(body)
    with pytest.raises(ValueError, match=text):
        quickdraw.read_bitmaps("cat", base_url=tmp_path.as_uri())


def test_a_sketchrnn_file_is_fetched_whole_once(files: dict, tmp_path: Path):
    with serving(files) as server:
        server.faults = ["cut"]
        for _ in range(2):
            path = quickdraw.fetch_sketchrnn(
                "cat", suffix=".test.npz", base_url=server.url, cache=tmp_path, progress=False
            )
            assert path.read_bytes() == files["sketchrnn/cat.test.npz"]
        assert len(server.asked) == 2


@pytest.mark.parametrize("remote", [False, True])
def test_spans_give_every_line_once(tmp_path, remote):
    lines = [b"%d" % n * (n % 40) + b"\n" for n in range(300)] + [b"no end of line"]
    (tmp_path / "full" / "raw").mkdir(parents=True)
    (tmp_path / "full" / "raw" / "cat.ndjson").write_bytes(b"".join(lines))
    with serving({"full/raw/cat.ndjson": b"".join(lines)}) as server:
        url = server.url if remote else tmp_path.as_uri()
        total = quickdraw.size("cat", base_url=url)
        assert total == len(b"".join(lines))
        first = len(lines[0] + lines[1])
        for cuts in ([0, total], [0, 1, first, first + 1, first + 9, 4000, 4001, total]):
            parts = [list(quickdraw.lines("cat", base_url=url, span=s)) for s in pairwise(cuts)]
            assert [line for part in parts for line in part] == lines
            assert len(parts) == 1 or parts[2][0] == lines[2]


def test_a_span_that_breaks_off_is_an_error(tmp_path):
    rows = b"".join(b"%d\n" % n for n in range(50_000))
    with serving({"full/raw/cat.ndjson": rows}) as server:
        server.faults = ["cut"]
        with pytest.raises(ConnectionError, match="broke off"):
            list(quickdraw.lines("cat", base_url=server.url, span=(100_000, len(rows))))
        server.ranges = False
        with pytest.raises(ConnectionError, match="no parts"):
            quickdraw.size("cat", base_url=server.url)
        with pytest.raises(FileNotFoundError, match="404"):
            quickdraw.size("dog", base_url=server.url)
