"""A store made in pieces is that of one machine, whatever the pieces are."""

import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from doodlelib.data import dataset, sample

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


@pytest.mark.parametrize("limit", [None, 50])
def test_tasks_make_the_same_bytes(url: str, tmp_path: Path, limit: int | None) -> None:
    def batches(
        settings: dict[str, Any], sources: list, *, dropped: dict[str, Counter[str]], **_: Any
    ) -> Iterator[tuple]:
        for word, source, where in prepare.make_tasks(settings, sources):
            found, left_out = prepare.run_task(settings, where, cache=None)
            dropped[word].update(left_out)
            for batch in found:
                yield word, source, batch

    stores = []
    for make in (None, batches):
        out = tmp_path / f"store_{make is None}"
        dataset.prepare(
            out,
            words=WORDS,
            source="raw",
            samples_per_class=limit,
            base_url=url,
            progress=False,
            make_batches=make,
        )
        stores.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert stores[0] == stores[1]
