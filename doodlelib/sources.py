"""Where drawings come from: the sample, the published files, a folder of one's own; as chunks."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from doodlelib import formats, ndjson, paths, quickdraw, sample
from doodlelib.chunks import Chunk, from_records
from doodlelib.strokes import Record

BATCH = 512  # drawings in memory at a time; more no longer fit the cache


def read_chunks(
    word: str,
    source: str | Path,
    *,
    limit: int | None,
    dropped: Counter[str],
    recognized: bool = True,
    seed: int = 0,
    base_url: str | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Iterator[Chunk]:
    """The first `limit` good drawings of a word, from no more of the source than they take.

    Args:
        word: What they show.
        source: See `dataset.prepare`.
        limit: How many; None: all.
        dropped: Counts by reason are added to it.
        recognized: Leave out what the game did not recognise, where that was published.
        seed: Of the sample.
        base_url: See `quickdraw.read_drawings`.
        cache: See there.
        progress: Show on stderr what is fetched.

    Raises:
        ValueError: No such word or source.
        FileNotFoundError, ConnectionError: The published files cannot be reached.
    """
    if source == "raw" or source == "simplified":
        lines = quickdraw.lines(
            word, kind=source, base_url=base_url, cache=cache, progress=progress
        )
        left = limit
        while batch := list(islice(lines, BATCH if left is None else min(BATCH, left))):
            for chunk in ndjson.parse_chunks(
                batch, recognized=recognized, dropped=dropped, source=f"{word} ({source})"
            ):
                left = None if left is None else left - len(chunk)
                yield chunk
        return
    records: Iterator[Record]
    if source == "sample":
        records = iter(sample.make_drawings(word, n=limit or 0, seed=seed))
    else:
        folder = find_folder(source)
        records = formats.read_folder(folder, word=word, recognized=recognized, dropped=dropped)
    records = islice(records, limit)
    while batch := list(islice(records, BATCH)):
        yield from_records(batch)


def describe(source: str | Path, *, base_url: str | None) -> dict[str, str]:
    """What of a source decides a store: where the files lie, or what one's own folder holds."""
    if source == "sample":
        return {"kind": "sample"}
    if source in quickdraw.FOLDERS:
        url = base_url or os.environ.get(quickdraw.BASE_URL_VARIABLE) or quickdraw.BUCKET
        return {"kind": str(source), "base_url": url.rstrip("/")}
    folder, digest = find_folder(source), hashlib.blake2b(digest_size=16)
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
