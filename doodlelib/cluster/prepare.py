"""A store in the making, in pieces: what one worker makes of one piece, where all can see it.

A shard is a folder with a file for each split, as a store has them, of one word and source. Where
it lies is any URL that fsspec knows; a worker that is lost leaves at most a shard that nobody asks
for.
"""

import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from doodlelib.data import quickdraw
from doodlelib.data.pipeline import Block, Part, start_blocks
from doodlelib.data.sources import find_folder
from doodlelib.data.spread import Spreads
from doodlelib.data.store import ID_WIDTH, SPLITS, SplitWriter, map_safetensors

SPAN = 64 << 20  # bytes of a published file in a task: some seconds of work


@dataclass(frozen=True)
class Task:
    """What one worker does at a time.

    Attributes:
        word: One of the store's.
        source: As `dataset.prepare` was given it.
        place: The source, with a folder's whole path.
        base_url: Of the published files.
        span: Bytes of the published file; None: all that the store's settings want.
    """

    word: str
    source: str
    place: str
    base_url: str | None
    span: tuple[int, int] | None


@dataclass(frozen=True)
class Shard:
    """What came of a task: where the drawings are, and what is to be added up."""

    task: Task
    url: str
    spreads: Spreads
    dropped: Counter[str]


def make_tasks(settings: dict[str, Any], sources: Sequence[str | Path]) -> Iterator[Task]:
    """All that a store with these settings needs, in its order.

    Where all drawings are wanted, a published file is cut into spans. Where so many of each word
    are, nobody can tell where in the file they end before they have been read.
    """
    for word in settings["words"]:
        for source, described in zip(sources, settings["sources"], strict=True):
            base_url, name = described.get("base_url"), str(source)
            if described["kind"] == "folder":
                yield Task(word, name, str(find_folder(source).resolve()), None, None)
            elif settings["samples_per_class"] is not None:
                yield Task(word, name, name, base_url, None)
            else:
                size = quickdraw.size(word, kind=described["kind"], base_url=base_url)
                for begin in range(0, size, SPAN):
                    yield Task(word, name, name, base_url, (begin, min(begin + SPAN, size)))


def make_shard(
    task: Task, *, settings: dict[str, Any], folder: str, cache: str | Path | None
) -> Shard:
    """Do `task`, and leave a new shard in `folder`."""
    spreads, dropped, url = Spreads(), Counter[str](), f"{folder}/{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        writers = [
            stack.enter_context(SplitWriter(Path(scratch) / f"{name}.safetensors"))
            for name in SPLITS
        ]
        for block in start_blocks(
            task.word,
            task.place,
            settings=settings,
            submit=_at_once,
            dropped=dropped,
            base_url=task.base_url,
            cache=cache,
            progress=False,
            span=task.span,
        ):
            for writer, part in zip(writers, block.result().parts, strict=True):
                writer.append(part.points, part.lengths, word=0, timed=part.timed, ids=part.ids)
            spreads += block.result().spreads
            dropped.update(block.result().dropped)
        for writer in writers:
            writer.finish()
        files, path = url_to_fs(url)
        files.makedirs(path, exist_ok=True)
        for writer in writers:
            files.put_file(str(writer.path), f"{path}/{writer.path.name}")
    return Shard(task, url, spreads, dropped)


@contextmanager
def opened(shard: Shard) -> Generator[Block]:
    """All of a shard as one block; afterwards the shard is removed.

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
            for name in SPLITS:
                files.get_file(f"{path}/{name}.safetensors", str(here / f"{name}.safetensors"))
        parts = [_read(here / f"{name}.safetensors") for name in SPLITS]
        yield Block(parts, shard.spreads, shard.dropped)
    files.rm(path, recursive=True)


def remove(folder: str) -> None:
    """Remove a folder of shards, if it is there."""
    files, path = url_to_fs(folder)
    if files.exists(path):
        files.rm(path, recursive=True)


def _read(path: Path) -> Part:
    arrays = map_safetensors(path)
    lengths = arrays["offsets"][1:] - arrays["offsets"][:-1]
    ids = [name.decode() for name in arrays["ids"].view(f"S{ID_WIDTH}").ravel().tolist()]
    return Part(arrays["points"], lengths, arrays["timed"], ids)


def _at_once(function: Callable[..., Block], *arguments: Any) -> Future[Block]:
    future: Future[Block] = Future()
    future.set_result(function(*arguments))
    return future
