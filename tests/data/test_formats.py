"""Every reader: known files read right, hostile files refused, mutated files never worse."""

import io
import json
import pickle
import struct
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from files import LINE, points, read_one, write_svg

from doodlelib.data import formats, ndjson
from doodlelib.strokes import TOO_LONG, geometry_id


def test_ndjson(tmp_path):
    path = tmp_path / "dog.ndjson"
    path.write_bytes(json.dumps(LINE).encode() + b"\n")
    record = read_one(path)
    assert (record.word, record.key_id, record.recognized) == ("cat", "123", True)
    assert points(record.drawing) == [[[1, 3, 0], [2.5, 4, 20]], [[5, 6, 90]]]
    assert read_one(path, word="lion").word == "lion"


def test_ndjson_that_names_no_word_is_named_by_its_file(tmp_path):
    path = tmp_path / "house boat.test.ndjson"
    nameless = {"drawing": LINE["drawing"]}
    lines = [nameless, nameless | {"word": None}, LINE, nameless | {"word": [7]}]
    path.write_text("\n".join(json.dumps(line, separators=(",", ":")) for line in lines))
    dropped = Counter()
    records = list(formats.read(path, dropped=dropped))
    assert [record.word for record in records] == ["house boat", "house boat", "cat"]
    assert dropped == {ndjson.MALFORMED: 1}
    assert [record.word for record in formats.read(path, word="ark")] == ["ark"] * 3


ROWS = LINE["drawing"]
BARE = {"word": "cat", "drawing": ROWS}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [json.dumps(BARE), json.dumps([BARE]), json.dumps(BARE, indent=2)])
def test_encodings_of_windows_are_read(tmp_path, encoding, text):
    path = tmp_path / "dog.ndjson"
    path.write_text(text + "\n", encoding=encoding)
    assert points(read_one(path).drawing) == [[[1, 3, 0], [2.5, 4, 20]], [[5, 6, 90]]]
    path.write_text(f"{json.dumps(BARE)}\n{json.dumps(BARE)[:30]}\n", encoding=encoding)
    dropped = Counter()
    assert len(list(formats.read(path, dropped=dropped))) == 1
    assert dropped == {ndjson.NOT_JSON: 1}


@pytest.mark.parametrize("suffix", formats.NDJSON)
@pytest.mark.parametrize(
    "text",
    [
        json.dumps([BARE, LINE]),
        json.dumps([BARE, LINE], indent=2),
        f"[\n{json.dumps(BARE)},\n{json.dumps(LINE)}\n]",
        f"{json.dumps(BARE, indent=1)}\n\n{json.dumps(LINE, indent=None)[:1]}\n"
        f"{json.dumps(LINE)[1:]}\n",
        f" {json.dumps(BARE)}\n  {json.dumps(LINE)}",
    ],
)
def test_documents_of_records_are_read(tmp_path, suffix, text):
    path = tmp_path / f"dog{suffix}"
    path.write_text(text)
    assert [points(record.drawing) for record in formats.read(path)] == [
        [[[1, 3, 0], [2.5, 4, 20]], [[5, 6, 90]]]
    ] * 2


def test_the_strokes_of_a_signature_pad_are_read(tmp_path):
    path = tmp_path / "my name.json"
    strokes = [
        [{"x": x, "y": y, "time": 1.7e12 + t, "pressure": 0.5} for x, y, t in zip(*s, strict=True)]
        for s in ROWS
    ]
    path.write_text(json.dumps([{"penColor": "black", "points": stroke} for stroke in strokes]))
    record = read_one(path)
    assert record.word == "my name"
    assert points(record.drawing) == [[[1, 3, 0], [2.5, 4, 20]], [[5, 6, 90]]]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("hello", "line 1 column 1"),
        ('{"word": "cat",\n "drawing": [[[1, 2],\n [3 4]]]}', "line 3 column 5"),
        ("[" * 9999, "recursion"),
        ('{"columns":\n ["word"]}', "up to line 2"),
    ],
)
def test_what_is_no_ndjson_is_refused_by_line(tmp_path, text, where):
    path = tmp_path / "cat.ndjson"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"cat\.ndjson is not ndjson: .*{where}.*expected is"):
        list(formats.read(path))


def test_large_documents_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_DOCUMENT", 50)
    path = tmp_path / "cat.ndjson"
    path.write_text(json.dumps([BARE, BARE]))
    with pytest.raises(ValueError, match=r"over 0 MiB .*a line"):
        list(formats.read(path))


def test_one_function_reads_files_and_folders(tmp_path):
    path = write_svg(tmp_path / "cat.svg", "<path d='M0 0L1 1'/>")
    (tmp_path / "dog.ndjson").write_text(json.dumps(LINE))
    assert [record.word for record in formats.read(path)] == ["cat"]
    assert [record.word for record in formats.read(str(tmp_path))] == ["cat", "dog"]
    assert [record.word for record in formats.read(tmp_path, word="dog")] == ["dog"]


def test_ndjson_bad_lines_are_counted(tmp_path):
    path = tmp_path / "cat.ndjson"
    good = json.dumps(LINE).encode()
    path.write_bytes(good + b"\n" + good[:50] + b"\n" + good.replace(b"20", b"NaN") + b"\n" + good)
    dropped = Counter()
    assert len(list(formats.read(path, dropped=dropped))) == 2
    assert dropped.total() == 2


def test_mirror_raw_and_simplified(mirror_folder):
    (raw, *_) = formats.read(mirror_folder / "full/raw/cat.ndjson")
    (plain, *_) = formats.read(mirror_folder / "full/simplified/cat.ndjson")
    assert (len(raw.drawing[0]), len(plain.drawing[0])) == (3, 2)


def as_npz(path, rows):
    file = io.BytesIO()
    moves = np.empty(1, dtype=object)
    moves[0] = rows
    np.save(file, moves, allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.npy", file.getvalue())


LONG = np.tile([[1.0, 1.0, 0.0, 1.0], [-1.0, 1.0, 0.0, 1.0]], (50_000, 1))  # stroke-4


@pytest.mark.parametrize(
    ("suffix", "write", "reason"),
    [
        (".npz", lambda path: as_npz(path, LONG[:, [0, 1, 2]]), ndjson.MALFORMED),
        (
            ".ndjson",
            lambda path: path.write_text(json.dumps({"drawing": [LONG[:, :2].T.tolist()]})),
            TOO_LONG,
        ),
        (
            ".svg",
            lambda path: write_svg(path, f"<path d='M0 0L{'1 1 2 2 ' * 6_000}'/>"),
            TOO_LONG,
        ),
    ],
)
def test_a_drawing_of_too_many_points_is_dropped_from_any_file(tmp_path, suffix, write, reason):
    path = tmp_path / f"cat{suffix}"
    write(path)
    dropped = Counter()
    assert list(formats.read(path, dropped=dropped)) == []
    assert dropped == {reason: 1}


def test_unknown_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"no reader for '\.gif'; known: \.ndjson"):
        formats.read(tmp_path / "cat.gif")


def test_folder(tmp_path):
    folder = tmp_path / "mine"
    (folder / "house boat").mkdir(parents=True)
    (folder / "dog.ndjson").write_text(json.dumps(LINE))
    write_svg(folder / "cat.svg", "<path d='M0 0L1 1'/>")
    write_svg(folder / "house boat" / "a.svg", "<path d='M0 0L1 2'/>")
    write_svg(folder / "house boat" / "b.svg", "<path d='M0 0L1 3'/>")
    write_svg(folder / "house boat" / ".hidden.svg", "nothing")
    (folder / "README.md").write_text("about these drawings")
    words = [record.word for record in formats.read(folder)]
    assert words == ["cat", "dog", "house boat", "house boat"]
    (only,) = formats.read(folder, word="dog")
    assert only.word == "dog"
    with pytest.raises(ValueError, match="no files named by word for 'pig'"):
        list(formats.read(folder, word="pig"))
    with pytest.raises(ValueError, match="no folder"):
        list(formats.read(folder / "absent"))


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
    words = [record.word for record in formats.read(folder, dropped=dropped)]
    assert words == ["dog", "loop"]
    assert dropped == {formats.LINK: 3}  # cat.svg, loop/cat.svg, pig/secret.svg


def test_folder_goes_on_after_an_unreadable_file_and_says_why(tmp_path):
    (tmp_path / "pig").mkdir()
    (tmp_path / "pig" / "1.svg").write_text("not XML")
    (tmp_path / "ant.npz").write_text("not zip")
    write_svg(tmp_path / "dog.svg", "<path d='M0 0L1 1'/>")
    dropped = Counter()
    assert [r.word for r in formats.read(tmp_path, dropped=dropped)] == ["dog"]
    assert sorted(dropped.values()) == [1, 1]
    npz, svg = sorted(dropped)
    assert npz.startswith("ant.npz is no readable npz: it: File is not a zip file")
    assert svg.startswith("pig/1.svg is no safe XML: syntax error")  # the folder may move
    for number in range(8):
        (tmp_path / f"cow{number}.svg").write_text("not XML")
    dropped = Counter()
    assert len(list(formats.read(tmp_path, dropped=dropped))) == 1
    assert dropped[formats.UNREADABLE] == 5
    assert len(dropped) == 1 + formats.MAX_NAMED


def test_geometry_id_is_that_of_the_line():
    line = json.dumps(LINE | {"key_id": None}).encode()
    (record,) = ndjson.parse_records([line], dropped=Counter())
    assert geometry_id(record.drawing) == record.key_id


# sketch-rnn files: the official ones read as numpy reads them, hostile ones not run.

STROKE3 = np.array([[1, 1, 0], [2, 0, 1], [5, 5, 1], [-1, 0, 0], [0, 2, 0]], dtype=np.int16)


class Python2Pickler(pickle._Pickler):
    """Writes as Python 2 did, in which the official sketch-rnn files were made."""

    def save_string(self, text: str | bytes) -> None:
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(text)

    dispatch = {**pickle._Pickler.dispatch, str: save_string, bytes: save_string}  # noqa: RUF012


def as_npy(payload: bytes, *, count: int = 1) -> bytes:
    """A .npy with an object array, which is a pickle."""
    file = io.BytesIO()
    head = {"descr": "|O", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, head)
    return file.getvalue() + payload


def objects(*arrays: np.ndarray) -> np.ndarray:
    array = np.empty(len(arrays), dtype=object)
    array[:] = arrays
    return array


def write_npz(path: Path, payload: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.npy", as_npy(payload))
    return path


def test_mirror_agrees_with_numpy(mirror_folder):
    for word in ("face", "pig"):
        path = mirror_folder / f"sketchrnn/{word}.test.npz"
        with np.load(path, allow_pickle=True) as file:  # a copy that is known
            expected = file["test"]
        records = list(formats.read(path))
        assert len(records) == len(expected) == 2500
        assert {record.word for record in records} == {word}
        for record, rows in zip(records, expected, strict=True):
            together = np.concatenate([np.column_stack(stroke) for stroke in record.drawing])
            assert (together == np.cumsum(rows[:, :2].astype(int), axis=0)).all()
            assert len(record.drawing) == 1 + int(rows[:-1, 2].sum())


@pytest.mark.parametrize("array", [STROKE3, STROKE3.astype(">f4"), np.asfortranarray(STROKE3)])
@pytest.mark.parametrize("protocol", [2, 3, 4, "python 2"])
def test_npz_pen_lifts_after_the_point(tmp_path, protocol, array):
    data = io.BytesIO()
    if protocol == "python 2":
        Python2Pickler(data, protocol=2).dump(objects(array, array))
    else:
        pickle.dump(objects(array, array), data, protocol=protocol)
    path = write_npz(tmp_path / "cat.train.npz", data.getvalue())
    first, second = formats.read(path)
    assert points(first.drawing) == [[[1, 1], [3, 1]], [[8, 6]], [[7, 6], [7, 8]]]
    assert first.word == "cat"
    assert first.key_id == second.key_id
    assert first.key_id.startswith("geom-")


@pytest.mark.parametrize(
    "rows", [STROKE3[:, :2], STROKE3[:0], STROKE3[:1], STROKE3 + 1, STROKE3 * np.nan]
)
def test_npz_bad_drawing_is_dropped_alone(tmp_path, rows):
    payload = pickle.dumps(objects(STROKE3, rows, STROKE3), protocol=4)
    path = write_npz(tmp_path / "cat.npz", payload)
    dropped = Counter()
    assert len(list(formats.read(path, dropped=dropped))) == 2
    assert dropped.total() == 1


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


class Getter:
    def __reduce__(self):
        return (getattr, (1, "real"))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (pickle.dumps(Evil()), "no array|no array needs"),
        (pickle.dumps(objects(STROKE3, Getter()), protocol=2), "getattr"),
        (pickle.dumps(np.load, protocol=4), "numpy.load"),
        (b"cos\nsystem\n(S'touch ran'\ntR.", "STRING"),
        (b"\x80\x04})" + b"2\x86" * 60 + b"Ns.", "EMPTY_DICT"),  # a key of 2**60 steps to hash
        (b"\x80\x02]r\xff\xff\xff\x7f.", "room"),  # a memo of 32 GB
        (b"\x80\x04]\x94.", "array of arrays"),
        (pickle.dumps(objects(STROKE3), protocol=4)[:-20], "only 19 remain"),
        (b"", "exhausted"),
    ],
)
def test_npz_hostile_pickle(tmp_path, monkeypatch, payload, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        list(formats.read(write_npz(tmp_path / "cat.npz", payload)))
    assert "cat.npz" in str(error.value)
    assert not Path("ran").exists()


def test_npz_bombs_and_impostors(tmp_path):
    path = tmp_path / "cat.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.npy", bytes(10_000_000))
    with pytest.raises(ValueError, match="unpack to 10000000"):
        list(formats.read(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("train.npy", b"anything")
    with pytest.raises(ValueError, match="another way"):
        list(formats.read(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "a zip, but no npz")
    with pytest.raises(ValueError, match="no readable npz"):
        list(formats.read(path))
    np.savez(path, numbers=np.zeros((3, 3)), more=np.zeros(2, np.int16))
    with pytest.raises(
        ValueError, match=r"numbers.npy holds float64 .*more.npy holds int16 .*no dr"
    ):
        list(formats.read(path))
    np.savez(path, train=objects(STROKE3), about=np.array({"of": "cats"}, dtype=object))
    with pytest.raises(ValueError, match=r"about\.npy: the pickle has a EMPTY_DICT"):
        list(formats.read(path))


def test_npz_drawings_beside_other_members_are_read(tmp_path):
    path = tmp_path / "cat.npz"
    np.savez(path, count=np.zeros(2), labels=np.array(["a"]), sketches=objects(STROKE3, STROKE3))
    assert len(list(formats.read(path))) == 2


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64, object])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_drawings_of_equal_length_are_read(tmp_path, dtype, order):
    path = tmp_path / "cat.npz"
    np.savez(path, train=np.asarray([STROKE3, STROKE3], dtype, order=order), test=objects())
    first, second = formats.read(path)
    assert points(first.drawing) == [[[1, 1], [3, 1]], [[8, 6]], [[7, 6], [7, 8]]]
    assert first.key_id == second.key_id


def test_npz_member_that_walks_out_is_read_where_it_is(tmp_path):
    path = tmp_path / "inner" / "cat.npz"
    path.parent.mkdir()
    payload = pickle.dumps(objects(STROKE3), protocol=4)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../train.npy", as_npy(payload))
        archive.writestr(f"{tmp_path}/test.npy", as_npy(payload))
    assert len(list(formats.read(path))) == 2
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]
