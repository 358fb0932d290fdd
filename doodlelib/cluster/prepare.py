"""A store in the making, in pieces: what one worker makes of one piece, where all can see it.

A shard is a folder with a file for each split, as a store has them, of one word and source. Where
it lies is any URL that fsspec knows; a worker that is lost leaves at most a shard that nobody asks
for.
"""

import tempfile
import uuid
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from doodlelib.data.dataset import PreparedBatch, batches_of, find_folder, prepare_batch
from doodlelib.data.store import SPLITS, SplitRows, SplitWriter, map_arrays


@dataclass(frozen=True)
class Task:
    """What one worker does at a time.

    Attributes:
        word: One of the store's.
        source: As `dataset.prepare` was given it.
        place: The source, with a folder's whole path.
        base_url: Of the published files.
    """

    word: str
    source: str
    place: str
    base_url: str | None


@dataclass(frozen=True)
class Shard:
    """What came of a task: where the drawings are, and what is to be added up."""

    task: Task
    url: str
    dropped: Counter[str]


def make_tasks(settings: dict[str, Any], sources: Sequence[str | Path]) -> Iterator[Task]:
    """All that a store with these settings needs, in its order: a task for each word and source."""
    for word in settings["words"]:
        for source, described in zip(sources, settings["sources"], strict=True):
            is_folder = described["kind"] == "folder"
            place = str(find_folder(source).resolve()) if is_folder else str(source)
            yield Task(word, str(source), place, described.get("base_url"))


def make_shard(
    task: Task, *, settings: dict[str, Any], folder: str, cache: str | Path | None
) -> Shard:
    """Do `task`, and leave a new shard in `folder`."""
    dropped, url = Counter[str](), f"{folder}/{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as scratch:
        writers = [SplitWriter(Path(scratch), name) for name in SPLITS]
        for batch in batches_of(
            task.word,
            task.place,
            prepare_batch,
            settings=settings,
            dropped=dropped,
            base_url=task.base_url,
            cache=cache,
            progress=False,
        ):
            for writer, part in zip(writers, batch.parts, strict=True):
                writer.append(part, word=0)
            dropped.update(batch.dropped)
        for writer in writers:
            writer.finish()
        files, path = url_to_fs(url)
        files.makedirs(path, exist_ok=True)
        for file in Path(scratch).iterdir():
            files.put_file(str(file), f"{path}/{file.name}")
    return Shard(task, url, dropped)


@contextmanager
def opened(shard: Shard) -> Generator[PreparedBatch]:
    """All of a shard as one batch; afterwards the shard is removed.

    Raises:
        FileNotFoundError: It is not to be seen from here.
    """
    files, path = url_to_fs(shard.url)
    if not files.exists(path):
        raise FileNotFoundError(
            f"{shard.url}, which a worker wrote, is not here: choose a folder that all nodes see"
        )
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(path) if isinstance(files, LocalFileSystem) else Path(scratch)
        if here != Path(path):
            for file in files.ls(path, detail=False):
                files.get_file(file, str(here / Path(file).name))
        parts = [_read(here, name) for name in SPLITS]
        yield PreparedBatch(parts, shard.dropped)
    files.rm(path, recursive=True)


def remove(folder: str) -> None:
    """Remove a folder of shards, if it is there."""
    files, path = url_to_fs(folder)
    if files.exists(path):
        files.rm(path, recursive=True)


def _read(folder: Path, split: str) -> SplitRows:
    arrays = map_arrays(folder, split)
    lengths = arrays["offsets"][1:] - arrays["offsets"][:-1]
    return SplitRows(arrays["points"], lengths, arrays["timed"], arrays["ids"].tolist())
