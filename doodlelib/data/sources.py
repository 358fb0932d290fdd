"""Where drawings come from: the sample, the published files, a folder of one's own; as chunks."""

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import orjson

from doodlelib import paths
from doodlelib.data import formats, ndjson, quickdraw, sample
from doodlelib.data.ragged import RaggedDrawings

BATCH = 512  # drawings in a block; more no longer fit the cache
AHEAD = 8  # blocks that are read before the first is done with
T = TypeVar("T", bound=Sized)
Parse = Callable[[list], RaggedDrawings]


def read_chunks(
    word: str, source: str | Path, *, limit: int | None, dropped: Counter[str], **options: Any
) -> Iterator[RaggedDrawings]:
    """The first `limit` good drawings of a word; the arguments are those of `read_blocks`."""
    with ThreadPoolExecutor(1) as pool:
        options |= {"limit": limit, "dropped": dropped, "submit": pool.submit}
        for future in read_blocks(word, source, **options):
            chunk = future.result()
            dropped.update(chunk.dropped)
            if len(chunk):
                yield chunk


def read_blocks(
    word: str,
    source: str | Path,
    *,
    limit: int | None,
    submit: Callable[[Parse, list], Future[T]],
    dropped: Counter[str],
    recognized: bool = True,
    seed: int = 0,
    base_url: str | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
    span: tuple[int, int] | None = None,
) -> Iterator[Future[T]]:
    """The first `limit` good drawings of a word, from no more of the source than they take.

    The blocks are the same however many of them are worked on at once.

    Args:
        word: What they show.
        source: See `dataset.prepare`.
        limit: How many; None: all.
        submit: Starts the work on a block: ``parse(batch)`` and whatever is to follow. The length
            of what comes of it counts towards the limit.
        dropped: What was dropped before there was a chunk is added to it, by reason.
        recognized: Leave out what the game did not recognise, where that was published.
        seed: Of the sample.
        base_url: See `quickdraw.read_drawings`.
        cache: See there.
        progress: Show on stderr what is fetched.
        span: Of a published file, only this part; see `quickdraw.lines`.

    Raises:
        ValueError: No such word or source.
        FileNotFoundError, ConnectionError: The published files cannot be reached.
    """
    items: Iterator
    parse: Parse = RaggedDrawings.from_records
    if source == "raw" or source == "simplified":
        items = quickdraw.lines(
            word, kind=source, base_url=base_url, cache=cache, progress=progress, span=span
        )
        parse = partial(ndjson.parse_lines, recognized=recognized, source=f"{word} ({source})")
    elif source == "sample":
        items = iter(sample.make_drawings(word, n=limit or 0, seed=seed))
    else:
        folder = find_folder(source)
        items = formats.read_folder(folder, word=word, recognized=recognized, dropped=dropped)
    left, asked = limit, deque()
    while batch := list(islice(items, BATCH if left is None else min(BATCH, left))):
        future = submit(parse, batch)
        yield future
        if left is not None:
            left -= len(batch)
            asked.append((len(batch), future))
            while asked and (left == 0 or len(asked) > AHEAD):
                size, future = asked.popleft()
                left += size - len(future.result())


def describe(source: str | Path, *, base_url: str | None) -> dict[str, str]:
    """What of a source decides a store: where files lie, what is made, what a folder holds."""
    if source in quickdraw.FOLDERS:
        url = base_url or os.environ.get(quickdraw.BASE_URL_VARIABLE) or quickdraw.BUCKET
        return {"kind": str(source), "base_url": url.rstrip("/")}
    digest = hashlib.blake2b(digest_size=16)
    if source == "sample":  # tells when a later version would make others
        for word in sample.WORDS:
            for record in sample.make_drawings(word, n=1):
                digest.update(orjson.dumps(record.to_json()))
        return {"kind": "sample", "digest": digest.hexdigest()}
    folder = find_folder(source)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return {"kind": "folder", "name": folder.name, "digest": digest.hexdigest()}


def find_folder(source: str | Path) -> Path:
    """A folder of one's own files, from the working directory or else the repository.

    Raises:
        ValueError: There is none.
    """
    for folder in (Path(source), paths.resolve(source)):
        if folder.is_dir():
            return folder
    raise ValueError(f"source {str(source)!r} is neither sample, raw, simplified nor a folder")
