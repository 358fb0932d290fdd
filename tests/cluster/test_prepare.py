"""A store made in pieces is that of one machine, whatever the pieces are."""

import importlib
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from doodlelib.data import dataset, sample
from doodlelib.paths import ROOT

prepare = importlib.import_module("doodlelib.cluster.prepare")
WORDS = ["cat", "star"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A mirror with some bad lines."""
    folder = tmp_path / "mirror" / "full" / "raw"
    folder.mkdir(parents=True)
    for word in WORDS:
        rows = [orjson.dumps(record.to_json()) for record in sample.make_drawings(word, n=90)]
        rows[7::30] = [b'{"broken'] * 3
        (folder / f"{word}.ndjson").write_bytes(b"\n".join(rows))
    return (tmp_path / "mirror").as_uri()


class Ray:
    """Does at once, in this process, what a cluster would do."""

    def remote(self, **_: Any) -> Any:
        return lambda work: SimpleNamespace(remote=lambda *given: work(*given))

    def get(self, result: Any) -> Any:
        return result

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}


@pytest.mark.parametrize("limit", [None, 50])
def test_tasks_make_the_same_bytes(
    url: str, tmp_path: Path, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "connected", lambda address: nullcontext(Ray()))
    options = {"words": WORDS, "source": "raw", "samples_per_class": limit, "base_url": url}
    stores = [
        {path.name: path.read_bytes() for path in make(tmp_path / name, **options).iterdir()}
        for name, make in (("alone", dataset.prepare), ("spread", prepare.prepare))
    ]
    assert stores[0] == stores[1]


class Starting:
    """Ray on a busy machine: it starts at the `tries`-th attempt."""

    def __init__(self, tries: int, message: str) -> None:
        self.tries, self.message = tries, message

    def init(self, address: str, **_: Any) -> None:
        self.tries -= 1
        if self.tries:
            raise Exception(self.message)

    def is_initialized(self) -> bool:
        return False

    def shutdown(self) -> None:
        self.ended = True


SLOW = "The current node timed out during startup. This could happen because"


@pytest.mark.parametrize(
    ("tries", "message", "error"),
    [
        (1, SLOW, None),
        (prepare.STARTS, SLOW, None),
        (prepare.STARTS + 1, SLOW, ConnectionError),
        (2, "a bug", Exception),
    ],
)
def test_a_slow_start_is_tried_again(
    tries: int, message: str, error: type | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Starting(tries, message)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(error, match=message[:30]) if error else nullcontext():
        with prepare.connected(None) as found:
            assert found is ray
        assert ray.ended


def test_workers_that_prepare_import_no_torch() -> None:
    """Nor the training; both take longer than preparing a word."""
    code = "import sys, doodlelib.cluster.prepare; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
