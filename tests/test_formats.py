"""Every reader: known files read right, hostile files refused, mutated files never worse."""

import json
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from doodlelib import formats, ndjson
from doodlelib.strokes import to_stroke4

LINE = {
    "word": "cat",
    "countrycode": "DE",
    "timestamp": "2017-03-01 10:00:00.00000 UTC",
    "recognized": True,
    "key_id": "123",
    "drawing": [[[1, 2.5], [3, 4], [0, 20]], [[5], [6], [90]]],
}
MOVES = np.array([np.ones((2, 3), np.int16), np.ones((3, 3), np.int16)], dtype=object)
SVG = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 100 100'>{}</svg>"


def as_bin(*, recognized: int = 1, strokes: tuple = (((1, 2), (3, 4)), ((9,), (8,)))) -> bytes:
    head = struct.pack("<Q2sbIH", 2**63, b"DE", recognized, 1_490_000_000, len(strokes))
    return head + b"".join(struct.pack("<H", len(x)) + bytes(x) + bytes(y) for x, y in strokes)


def write_svg(path: Path, content: str) -> Path:
    path.write_text(SVG.format(content))
    return path


def read_one(path: Path, **options) -> formats.Record:
    (record,) = formats.read_file(path, strict=True, **options)
    return record


def points(drawing: list) -> list:
    return [np.column_stack(stroke).tolist() for stroke in drawing]


def mirrored(mirror: str, name: str) -> Path:
    if not mirror.startswith("file://"):
        pytest.skip("the mirror is no folder")
    return Path(mirror.removeprefix("file://")) / name


def test_ndjson(tmp_path):
    path = tmp_path / "dog.ndjson"
    path.write_bytes(json.dumps(LINE).encode() + b"\n")
    record = read_one(path)
    assert (record.word, record.key_id, record.recognized) == ("cat", "123", True)
    assert points(record.drawing) == [[[1, 3, 0], [2.5, 4, 20]], [[5, 6, 90]]]
    assert read_one(path, word="lion").word == "lion"


def test_ndjson_bad_lines_are_counted_or_named(tmp_path):
    path = tmp_path / "cat.ndjson"
    good = json.dumps(LINE).encode()
    path.write_bytes(good + b"\n" + good[:50] + b"\n" + good.replace(b"20", b"NaN") + b"\n" + good)
    dropped = Counter()
    assert len(list(formats.read_file(path, dropped=dropped))) == 2
    assert dropped.total() == 2
    with pytest.raises(ValueError, match=r"cat\.ndjson, line 2"):
        list(formats.read_file(path, strict=True))


def test_mirror_raw_and_simplified(mirror):
    (raw, *_) = formats.read_file(mirrored(mirror, "full/raw/cat.ndjson"))
    (plain, *_) = formats.read_file(mirrored(mirror, "full/simplified/cat.ndjson"))
    assert (len(raw.drawing[0]), len(plain.drawing[0])) == (3, 2)
    images = formats.read_images(mirrored(mirror, "full/numpy_bitmap/cat.npy"))
    assert images.shape == (3000, 28, 28)
    assert 20 < images[:100].mean() < 90


def test_bin(tmp_path):
    path = tmp_path / "cat.bin"
    path.write_bytes(as_bin() + as_bin(recognized=0) + as_bin(strokes=()) + as_bin())
    dropped = Counter()
    first, last = formats.read_file(path, dropped=dropped)
    assert points(first.drawing) == [[[1, 3], [2, 4]], [[9, 8]]]
    assert (first.word, first.key_id, first.countrycode) == ("cat", str(2**63), "DE")
    assert first.timestamp == "2017-03-20 08:53:20 UTC"
    assert points(last.drawing) == points(first.drawing)
    assert dropped == {ndjson.UNRECOGNIZED: 1, ndjson.EMPTY: 1}
    assert len(list(formats.read_file(path, recognized=False))) == 3


def test_bin_truncated(tmp_path):
    path = tmp_path / "cat.bin"
    for cut in range(1, len(as_bin())):
        path.write_bytes(as_bin() + as_bin()[:cut])
        dropped = Counter()
        assert len(list(formats.read_file(path, dropped=dropped))) == 1
        assert dropped == {formats.TRUNCATED: 1}
        with pytest.raises(ValueError, match="drawing 2: file ends"):
            list(formats.read_file(path, strict=True))


def test_npy_stroke4(tmp_path):
    rows = to_stroke4(LINE["drawing"])
    np.save(tmp_path / "cat.npy", rows)
    record = read_one(tmp_path / "cat.npy")
    assert np.array_equal(to_stroke4(record.drawing), rows)
    rows[:, 2] = np.nan
    np.save(tmp_path / "cat.npy", rows)
    assert len(read_one(tmp_path / "cat.npy").drawing[0]) == 2


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 784), np.uint8), np.zeros((3, 4), int), np.zeros((0, 4)), MOVES],
)
def test_npy_of_something_else(tmp_path, array):
    np.save(tmp_path / "cat.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=r"cat\.npy"):
        list(formats.read_file(tmp_path / "cat.npy"))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_npy_numbers_out_of_range(tmp_path, value):
    rows = to_stroke4(LINE["drawing"])
    rows[1, 0] = value
    np.save(tmp_path / "cat.npy", rows)
    dropped = Counter()
    assert list(formats.read_file(tmp_path / "cat.npy", dropped=dropped)) == []
    assert dropped == {ndjson.TOO_LARGE: 1}


def test_images(tmp_path):
    images = np.arange(2 * 784, dtype=np.uint8).reshape(2, 784)
    np.save(tmp_path / "cat.npy", images)
    assert np.array_equal(formats.read_images(tmp_path / "cat.npy"), images.reshape(2, 28, 28))
    for wrong in (images[:, 1:], images.astype(float), images[0]):
        np.save(tmp_path / "cat.npy", wrong)
        with pytest.raises(ValueError, match=r"cat\.npy"):
            formats.read_images(tmp_path / "cat.npy")


def test_unknown_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"no reader for '\.gif'; known: \.ndjson"):
        formats.read_file(tmp_path / "cat.gif")


def test_folder(tmp_path):
    folder = tmp_path / "mine"
    (folder / "house boat").mkdir(parents=True)
    (folder / "dog.ndjson").write_text(json.dumps(LINE))
    write_svg(folder / "cat.svg", "<path d='M0 0L1 1'/>")
    write_svg(folder / "house boat" / "a.svg", "<path d='M0 0L1 2'/>")
    write_svg(folder / "house boat" / "b.svg", "<path d='M0 0L1 3'/>")
    write_svg(folder / "house boat" / ".hidden.svg", "nothing")
    (folder / "README.md").write_text("about these drawings")
    words = [record.word for record in formats.read_folder(folder, strict=True)]
    assert words == ["cat", "dog", "house boat", "house boat"]
    (only,) = formats.read_folder(folder, word="dog")
    assert only.word == "dog"
    with pytest.raises(ValueError, match="no files named by word for 'pig'"):
        list(formats.read_folder(folder, word="pig"))
    with pytest.raises(ValueError, match="no folder"):
        list(formats.read_folder(folder / "absent"))


def test_folder_is_never_left(tmp_path):
    folder, outside = tmp_path / "mine", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    write_svg(outside / "secret.svg", "<path d='M0 0L1 1'/>")
    write_svg(folder / "dog.svg", "<path d='M0 0L1 1'/>")
    (folder / "cat.svg").symlink_to(outside / "secret.svg")
    (folder / "pig").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    dropped = Counter()
    words = [record.word for record in formats.read_folder(folder, dropped=dropped)]
    assert words == ["dog", "loop"]
    assert dropped == {formats.UNREADABLE: 3}  # cat.svg, loop/cat.svg, pig/secret.svg
    with pytest.raises(ValueError, match="leads out of"):
        list(formats.read_folder(folder, strict=True))


def test_folder_goes_on_after_an_unreadable_file(tmp_path):
    (tmp_path / "cat.svg").write_text("not XML")
    (tmp_path / "ant.npz").write_text("not zip")
    write_svg(tmp_path / "dog.svg", "<path d='M0 0L1 1'/>")
    dropped = Counter()
    assert [r.word for r in formats.read_folder(tmp_path, dropped=dropped)] == ["dog"]
    assert dropped == {formats.UNREADABLE: 2}


def test_geometry_id_is_that_of_the_line():
    line = json.dumps(LINE | {"key_id": None}).encode()
    (record,) = ndjson.parse_records([line], dropped=Counter(), source="test")
    assert formats.geometry_id(record.drawing) == record.key_id
