"""Whatever bytes a file holds, the readers read it, drop drawings, or say what is wrong with it."""

import io
import json
import zipfile
from collections import Counter

import numpy as np
import pytest
from files import LINE, MOVES, SVG, as_bin
from hypothesis import given, settings
from hypothesis import strategies as st

from doodlelib.data import formats
from doodlelib.strokes import to_stroke4


def good_bytes(suffix: str) -> bytes:
    """A small file that is well formed; for `.npz` its member."""
    if suffix in (".npy", ".npz"):
        file = io.BytesIO()
        array = to_stroke4(LINE["drawing"]) if suffix == ".npy" else MOVES
        np.save(file, array, allow_pickle=True)
        return file.getvalue()
    return {
        ".ndjson": (json.dumps(LINE).encode() + b"\n") * 2,
        ".bin": as_bin() * 3,
        ".svg": SVG.format("<g transform='scale(2)'><path d='M1 1C2 2 3 3 4 4z'/></g>").encode(),
    }[suffix]


def zipped(member: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.npy", member)
    return file.getvalue()


edits = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 6)), max_size=4)


@pytest.mark.filterwarnings("ignore:Reading")  # numpy's, of headers that look like Python 2's
@pytest.mark.parametrize("inside", [True, False], ids=["member", "whole"])
@pytest.mark.parametrize("suffix", [".ndjson", ".bin", ".npy", ".svg", ".npz"])
@settings(deadline=None, max_examples=60)
@given(edits=edits, cut=st.none() | st.floats(0, 1))
def test_mutated_files_are_read_dropped_or_refused(tmp_path_factory, suffix, inside, edits, cut):
    data = good_bytes(suffix)
    if suffix == ".npz" and not inside:
        data = zipped(data)
    for where, inserted, removed in edits:
        at = int(where * len(data))
        data = data[:at] + inserted + data[at + removed :]
    data = data if cut is None else data[: int(cut * len(data))]
    path = tmp_path_factory.mktemp("fuzz") / f"cat{suffix}"
    path.write_bytes(zipped(data) if suffix == ".npz" and inside else data)
    dropped = Counter()
    try:
        records = list(formats.read_file(path, dropped=dropped))
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert len(records) + dropped.total() < 10
        assert all(np.isfinite(np.concatenate(record.drawing[0])).all() for record in records)
    if suffix == ".npy":
        try:
            formats.read_images(path)
        except ValueError as error:
            assert str(path) in str(error)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
rows = st.lists(st.integers(0, 99), max_size=4)
nested = st.recursive(
    leaves | rows | rows.map(np.array),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["drawing", "word", "key_id"]) | leaves, inner, max_size=3
        )
    ),
)


@settings(deadline=None, max_examples=200)
@given(made=st.lists(nested, max_size=3) | st.fixed_dictionaries({"drawing": nested}))
def test_whatever_is_in_memory_is_read_dropped_or_refused(made):
    dropped = Counter()
    try:
        records = list(formats.read(made, dropped=dropped))
    except ValueError as error:
        assert "no drawing" in str(error)
    else:
        assert len(records) + dropped.total() == 1


@pytest.mark.parametrize("suffix", [".ndjson", ".bin", ".npy", ".svg", ".npz"])
def test_no_file_is_taken_for_another(tmp_path, suffix):
    path = tmp_path / f"cat{suffix}"
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
    others = {s: good_bytes(s) for s in (".ndjson", ".bin", ".npy", ".svg")} | {
        ".npz": zipped(good_bytes(".npz")),
        ".png": png,
    }
    for other in others.keys() - {suffix}:
        path.write_bytes(others[other])
        with pytest.raises(ValueError, match="cat"):
            list(formats.read_file(path))
