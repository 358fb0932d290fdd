"""Files with random changes, through the readers of `benchmarks/fuzz.py`, for a bounded time.

The files of drawings have a test of their own, `tests/test_fuzz.py`.
"""

import random
import runpy
from collections import Counter
from pathlib import Path

import pytest

from doodlelib.paths import ROOT

INPUTS = 100
READERS = (
    *("picture", "checkpoint", "checkpoint, inside", "parameters", "notebook"),
    *("hyper-parameters", "store.json", "train.safetensors"),
)


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> dict:
    names = runpy.run_path(str(ROOT / "benchmarks" / "fuzz.py"), run_name="fuzz")
    folder = tmp_path_factory.mktemp("fuzz")
    return names | {"folder": folder, "readers": names["make_readers"](folder)}


@pytest.mark.parametrize("name", READERS)
def test_spoilt_files_are_read_or_refused(fuzz: dict, name: str, tally: Counter[str]) -> None:
    reader, rng = fuzz["readers"][name], random.Random(name)
    sound = [fuzz["try_one"](reader, fuzz["folder"], seed)[0] for seed in reader.seeds]
    assert "read" in sound
    for _ in range(INPUTS):
        outcome, why = fuzz["try_one"](reader, fuzz["folder"], fuzz["spoil"](reader.seeds, rng))
        assert outcome != "failed", why
        tally[f"spoilt files {outcome}: {name}"] += 1


def test_what_is_wrong_with_a_reader_is_seen(
    fuzz: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(path: Path) -> None:
        raise IndexError("oops")

    reader = fuzz["Reader"]([b"x"], "x.txt", stumble)
    assert fuzz["try_one"](reader, tmp_path, b"y")[0] == "failed"

    def hang(path: Path) -> None:
        while True:
            pass

    monkeypatch.setitem(fuzz["try_one"].__globals__, "PATIENCE", 0.2)
    slow = fuzz["Reader"]([b"x"], "x.txt", hang)
    outcome, why = fuzz["try_one"](slow, tmp_path, b"y")
    assert outcome == "failed" and "over 0.2 s" in why
    silent = fuzz["Reader"]([b"x"], "x.txt", lambda path: int("x"))
    assert fuzz["try_one"](silent, tmp_path, b"y")[0] == "failed", "it does not name the file"
