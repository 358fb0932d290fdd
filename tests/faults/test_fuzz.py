"""Whatever bytes a file holds, the readers read it, drop drawings, or say what is wrong with it.

For more than a few inputs: ``DOODLELIB_FUZZ=100000 pytest tests/faults/test_fuzz.py -k svg``. The
file that failed lies in the folder that the message names.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fuzz
import pytest

from doodlelib.data import formats

INPUTS = int(os.environ.get("DOODLELIB_FUZZ", "100"))
DRAWINGS = ("ndjson", "svg", "npz")  # formats of files of drawings
READERS = (
    *DRAWINGS,
    *("npz, inside", "picture", "checkpoint", "checkpoint, inside"),
    *("parameters", "notebook", "hyper-parameters", "store", "store, arrays"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def readers(folder: Path) -> Iterator[dict[str, fuzz.Reader]]:
    readers = fuzz.make_readers(folder)
    with fuzz.bounded_memory():
        yield readers


@pytest.mark.parametrize("name", READERS)
def test_spoilt_files_are_read_or_refused(
    readers: dict[str, fuzz.Reader], folder: Path, name: str, tally: Counter[str]
) -> None:
    assert readers.keys() == set(READERS)
    reader, rng = readers[name], random.Random(f"{name} {INPUTS}")
    assert "read" in {fuzz.try_one(reader, folder, seed)[0] for seed in reader.seeds}
    for _ in range(INPUTS):
        outcome, why = fuzz.try_one(reader, folder, fuzz.spoil(reader.seeds, rng))
        assert outcome != "failed", f"{folder}: {why}"
        tally[f"spoilt files {outcome}: {name}"] += 1


def test_what_is_wrong_with_a_reader_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(path: Path) -> None:
        raise IndexError("oops")

    assert fuzz.try_one(fuzz.Reader([b"x"], "x.txt", stumble), tmp_path, b"y")[0] == "failed"

    def hang(path: Path) -> None:
        while True:
            pass

    monkeypatch.setattr(fuzz, "PATIENCE", 0.2)
    outcome, why = fuzz.try_one(fuzz.Reader([b"x"], "x.txt", hang), tmp_path, b"y")
    assert outcome == "failed" and "over 0.2 s" in why
    silent = fuzz.Reader([b"x"], "x.txt", lambda path: int("x"))
    assert fuzz.try_one(silent, tmp_path, b"y")[0] == "failed", "it does not name the file"


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_file_is_taken_for_another(
    readers: dict[str, fuzz.Reader], name: str, tmp_path: Path
) -> None:
    path = tmp_path / readers[name].name
    for other in {*DRAWINGS, "picture"} - {name}:
        path.write_bytes(readers[other].seeds[0])
        with pytest.raises(ValueError, match="cat"):
            list(formats.read(path))
