"""Stores made in pieces, whatever the pieces are and wherever they lie meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import orjson
import pytest

from doodlelib.cluster import prepare
from doodlelib.data import dataset, sample
from doodlelib.data.dataset import PreparedBatch

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


@pytest.mark.parametrize("place", ["memory://parts", "{}/parts"])
def test_the_bytes_do_not_depend_on_the_pieces(url: str, tmp_path: Path, place: str) -> None:
    place = place.format(tmp_path)

    def blocks(settings: dict[str, Any], sources: list, **_: Any) -> Iterator[tuple]:
        for task in prepare.make_tasks(settings, sources):
            shard = prepare.make_shard(task, settings=settings, folder=place, cache=None)
            with prepare.opened(shard) as block:
                assert isinstance(block, PreparedBatch)
                yield task.word, task.source, block

    stores = []
    for engine in (None, blocks):
        out = tmp_path / f"store_{engine is None}"
        dataset.prepare(
            out,
            words=WORDS,
            source="raw",
            samples_per_class=None,
            base_url=url,
            progress=False,
            make_batches=engine,
        )
        stores.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert stores[0] == stores[1]
    files, path = fsspec.core.url_to_fs(place)
    assert not files.ls(path), "every piece was removed when it was done with"


def test_pieces_that_cannot_be_seen_are_told(url: str, tmp_path: Path) -> None:
    task = prepare.Task("cat", "sample", "sample", None)
    shard = prepare.Shard(task, str(tmp_path / "elsewhere"), prepare.Counter())
    with pytest.raises(FileNotFoundError, match=r"elsewhere.*all nodes see"), prepare.opened(shard):
        pass
