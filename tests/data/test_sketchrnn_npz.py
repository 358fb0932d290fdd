"""sketch-rnn files: the official ones read as numpy reads them, hostile ones not run."""

import io
import pickle
import struct
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from files import points

from doodlelib.data import formats

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
        records = list(formats.read_file(path))
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
    first, second = formats.read_file(path)
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
    assert len(list(formats.read_file(path, dropped=dropped))) == 2
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
        list(formats.read_file(write_npz(tmp_path / "cat.npz", payload)))
    assert "cat.npz" in str(error.value)
    assert not Path("ran").exists()


def test_npz_bombs_and_impostors(tmp_path):
    path = tmp_path / "cat.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.npy", bytes(10_000_000))
    with pytest.raises(ValueError, match="unpack to 10000000"):
        list(formats.read_file(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("train.npy", b"anything")
    with pytest.raises(ValueError, match="another way"):
        list(formats.read_file(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "a zip, but no npz")
    with pytest.raises(ValueError, match="no readable npz"):
        list(formats.read_file(path))
    np.savez(path, numbers=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="float64"):
        list(formats.read_file(path))


def test_npz_member_that_walks_out_is_read_where_it_is(tmp_path):
    path = tmp_path / "inner" / "cat.npz"
    path.parent.mkdir()
    payload = pickle.dumps(objects(STROKE3), protocol=4)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../train.npy", as_npy(payload))
        archive.writestr(f"{tmp_path}/test.npy", as_npy(payload))
    assert len(list(formats.read_file(path))) == 2
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]
