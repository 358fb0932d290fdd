"""Fetching and preparing drawings: whatever breaks off, a store is whole or absent."""

import functools
import itertools
import random
import shutil
import signal
from collections import Counter
from pathlib import Path

import orjson
import pytest
import victims
from fileserver import FileServer, serving

from doodlelib import paths
from doodlelib.data import dataset, quickdraw, sample, store

WORDS = ("cat", "apple")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[float, dict[str, bytes]]:
    """What a store holds, by its epsilon."""
    top = tmp_path_factory.mktemp("whole")
    for epsilon in (2.0, 3.0):
        victims.prepare(top / str(epsilon), epsilon)
    return {float(folder.name): contents(folder) for folder in top.glob("[!.]*")}


@pytest.mark.slow
def test_killed_before_any_change_on_disk(whole: dict, tmp_path: Path, tally: Counter[str]) -> None:
    victims.prepare(tmp_path / "old", 2.0)
    note = tmp_path / "note"
    for number in itertools.count(1):
        top = tmp_path / str(number)
        shutil.copytree(tmp_path / "old", top / "s")
        fault = functools.partial(victims.at_mutation, number, top, note)
        if victims.run(victims.prepare, top / "s", 3.0, fault=fault) == 0:
            break
        assert not (top / "s").exists() or contents(top / "s") in (whole[2.0], whole[3.0])
        if number % 5 == 0:
            victims.prepare(top / "s", 3.0)
            assert contents(top / "s") == whole[3.0]
        tally["preparations killed between two writes, with a whole store or none"] += 1
    assert number == int(note.read_text()) + 1 > 15, "it went on until there was nothing to kill"


FILES = {
    f"full/raw/{word}.ndjson": b"".join(
        orjson.dumps(record.to_json()) + b"\n"
        for record in sample.make_drawings(word, n=60, seed=1)
    )
    for word in WORDS
}


def fetched(url: str, top: Path, name: str = "s", *, samples: int = 60) -> Path:
    return dataset.prepare(
        top / name,
        words=WORDS,
        source="raw",
        base_url=url,
        cache=top / "cache",
        samples_per_class=samples,
        progress=False,
    )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quickdraw, "CHUNK", 20_000)
    monkeypatch.setattr(quickdraw, "BACKOFF", 0.001)
    monkeypatch.setattr(quickdraw, "TIMEOUT", (10.0, 0.5))  # a stall takes 1 s
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(dict(FILES)) as server:
        yield server


@pytest.mark.slow
def test_faults_of_the_server_leave_no_trace(
    server: FileServer, tmp_path: Path, tally: Counter[str]
) -> None:
    expected = contents(fetched(server.url, tmp_path / "calm"))
    chance = random.Random(4)
    for number in range(6):
        faults = chance.choices(["cut", "stall", "long", 429, 500, 502, 503, 504], k=3)
        server.faults = list(faults)
        assert contents(fetched(server.url, tmp_path / str(number))) == expected
        tally["faults of a server while preparing, overcome"] += len(faults) - len(server.faults)


@pytest.mark.parametrize("fault", ["cut", "stall", "empty", "loop", "html", "gzip", 403, 404, 500])
def test_a_lasting_fault_keeps_the_old_store(
    server: FileServer, tmp_path: Path, fault: str | int, tally: Counter[str]
) -> None:
    old = contents(fetched(server.url, tmp_path, samples=5))
    server.always = fault
    with pytest.raises((ConnectionError, FileNotFoundError), match=server.url):
        fetched(server.url, tmp_path)
    assert contents(tmp_path / "s") == old
    server.always = None
    assert len(dataset.load_split(fetched(server.url, tmp_path), "train")) > 60
    tally["lasting faults of a server while preparing, told with the old store kept"] += 1


def test_a_line_that_is_garbage_is_dropped_and_counted(server: FileServer, tmp_path: Path) -> None:
    name = "full/raw/cat.ndjson"
    lines = FILES[name].splitlines(keepends=True)
    server.files[name] = b"".join([*lines[:5], b"\xff\x00garbage\n", b'{"word": 1}\n', *lines[5:]])
    made = dataset.read_store(fetched(server.url, tmp_path))
    assert sum(made["dropped"]["cat"].values()) == 2
    assert sum(made["kept"]["cat"].values()) == 60


@pytest.mark.slow
def test_two_at_once_from_a_bad_server_make_one_whole_store(
    server: FileServer, tmp_path: Path, tally: Counter[str]
) -> None:
    expected = contents(fetched(server.url, tmp_path / "calm"))
    server.faults, server.delay = ["cut", 500, "cut", 503], 0.005
    given = (fetched, server.url, tmp_path / "both")
    both = [victims.start(*given, fault=hurry) for _ in range(2)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert contents(tmp_path / "both" / "s") == expected
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"s", "cache", ".s.lock"}
    tally["pairs of processes that prepared one store at once, whole"] += 1


def hurry() -> None:
    """Wait less between attempts."""
    quickdraw.BACKOFF = 0.001


@pytest.mark.slow
def test_a_fetch_killed_at_random_lines_goes_on(
    server: FileServer, tmp_path: Path, tally: Counter[str]
) -> None:
    server.files["cat"] = body = random.Random(1).randbytes(60_000)
    files = (quickdraw.__file__, paths.__file__)
    note = tmp_path / "lines"
    count = functools.partial(victims.count_lines, note, files)
    assert victims.run(victims.fetch, f"{server.url}/cat", tmp_path / "calm", fault=count) == 0
    for number in random.Random(6).sample(range(1, int(note.read_text())), 12):
        cache = tmp_path / str(number) / "cat"
        fault = functools.partial(victims.at_line, number, signal.SIGKILL, files)
        code = victims.run(victims.fetch, f"{server.url}/cat", cache, fault=fault)
        assert code == -signal.SIGKILL
        for path in cache.parent.glob("cat*"):
            assert body.startswith(path.read_bytes())
        blocks = quickdraw.fetch_blocks(f"{server.url}/cat", cache, progress=False)
        assert b"".join(blocks) == body
        tally["fetches killed, gone on with and whole"] += 1


@pytest.mark.parametrize("word", ["../../x", "/etc/passwd", "cat/../dog", "", "a\0b"])
@pytest.mark.parametrize("source", ["raw", "simplified", "sample", "folder"])
def test_a_path_is_no_word(word: str, source: str, tmp_path: Path) -> None:
    if source == "folder":
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "cat.ndjson").write_bytes(FILES["full/raw/cat.ndjson"])
        source = str(tmp_path / "mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"word|no sample of"):
        dataset.prepare(
            tmp_path / "s",
            words=[word],
            source=source,
            base_url=tmp_path.as_uri(),
            samples_per_class=3,
            progress=False,
        )
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != ".s.lock"] == before


def test_another_version_of_a_store_says_what_to_do(tmp_path: Path, whole: dict) -> None:
    victims.prepare(tmp_path / "s", 2.0)
    described = (tmp_path / "s" / "store.json").read_text()
    version = f'"format_version": {store.FORMAT_VERSION}'
    assert version in described
    (tmp_path / "s" / "store.json").write_text(described.replace(version, '"format_version": 0'))
    with pytest.raises(ValueError, match=r"format 0.*prepare the store again"):
        dataset.load_split(tmp_path / "s", "train")
    victims.prepare(tmp_path / "s", 2.0)
    assert contents(tmp_path / "s") == whole[2.0]
