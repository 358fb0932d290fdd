"""Drawings of any source to a store: filtered, in the 255 box, simplified, stroke-4, split.

Everything streams in blocks of some hundred drawings: one thread reads and writes, one a core does
the work between (its loops release the interpreter lock), and memory does not grow with the number
of drawings.
"""

import json
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from doodlelib import paths
from doodlelib.data import formats, quickdraw, sample
from doodlelib.data.pipeline import Block, prepared_blocks
from doodlelib.data.sources import describe, find_folder, read_chunks
from doodlelib.data.spread import Spreads
from doodlelib.data.store import (
    FORMAT_VERSION,
    SPLITS,
    Split,
    SplitWriter,
    check_replaceable,
    is_current,
    load_split,
    publish,
    read_store,
)
from doodlelib.strokes import Record

__all__ = ["Split", "default_words", "load_split", "prepare", "read", "read_store", "sample_store"]

NAMED = 5  # words that a warning names
PACKAGES = ("doodlelib", "numba", "numpy", "orjson")  # whose versions a store records


def prepare(
    out: str | Path,
    *,
    words: str | Sequence[str],
    source: str | Path | Sequence[str | Path] = "sample",
    samples_per_class: int | None = 1000,
    method: str = "timed",
    epsilon: float = 2.0,
    epsilon_time: float = 8.0,
    recognized: bool = True,
    split: tuple[float, float, float] = (0.80, 0.19, 0.01),
    seed: int = 0,
    base_url: str | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
    blocks: Callable[..., Iterator[tuple[str, str, Block]]] | None = None,
) -> Path:
    """Make the store `out`, unless it is there, whole, and was made with the same settings.

    Equal drawings and settings give equal bytes. Warns with the number where a word has fewer
    drawings than asked for.

    Args:
        out: The store's folder; an older store there is replaced.
        words: One or several; the store's word indices count in this order.
        source: ``"sample"`` (made, with time), ``"raw"`` (published, with time), ``"simplified"``
            (published, untimed), or a folder of one's own files named by word, from the working
            directory or the repository (see `formats.read_folder`). Several: their drawings
            together, timed and untimed.
        samples_per_class: Drawings of each word from each source; None: all there are.
        method: See `simplify.simplify`.
        epsilon: See `simplify.simplify`.
        epsilon_time: See `simplify.simplify`.
        recognized: Leave out what the game did not recognise, where that was published.
        split: Shares of train, valid and test. A hash of its id puts a drawing into one, for ever.
        seed: Of the sample.
        base_url: Of the published files; see `quickdraw.read_drawings`.
        cache: Folder for what is fetched; see there.
        progress: Show it on stderr, where that is a terminal.
        blocks: Does the work in the place of `prepared_blocks`, elsewhere (see `cluster`).

    Returns:
        `out`. What was kept, what was dropped and why: `read_store`.

    Raises:
        ValueError: A setting out of range, a word or source that does not exist, a word without
            one good drawing, or `out` holds files that are no store's.
        FileNotFoundError, ConnectionError: The published files cannot be reached.
    """
    out = Path(out)
    sources = _listed(source)
    settings = {
        "words": [words] if isinstance(words, str) else list(words),
        "sources": [describe(one, base_url=base_url) for one in sources],
        "samples_per_class": samples_per_class,
        "method": method,
        "epsilon": epsilon,
        "epsilon_time": epsilon_time,
        "recognized": recognized,
        "split": list(split),
        "seed": seed,
    }
    _check(settings)
    check_replaceable(out)
    if is_current(out, settings):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    temporary.chmod(0o755)  # mkdtemp makes it private
    try:
        _build(
            temporary,
            settings,
            sources,
            partial(blocks or prepared_blocks, cache=cache, progress=progress),
            progress=progress,
        )
        publish(temporary, out, settings=settings)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def sample_store(path: str | Path = paths.PROCESSED / "sample") -> Path:
    """The store at `path`; where there is none, it is made: 300 sample drawings of each word.

    Raises:
        ValueError: `path` holds files that are no store's.
    """
    try:
        read_store(path)
    except ValueError:
        prepare(path, words=list(sample.WORDS), samples_per_class=300)
    return Path(path)


def default_words(source: str | Path | Sequence[str | Path]) -> list[str]:
    """The words to take where none are named: those of one's own folders, else the sample's ten.

    Raises:
        ValueError: No such source.
    """
    folders = [one for one in _listed(source) if one not in ("sample", *quickdraw.FOLDERS)]
    own = {record.word for one in folders for record in formats.read_folder(find_folder(one))}
    return sorted(own) or list(sample.WORDS)


def read(
    words: str | Sequence[str],
    source: str | Path | Sequence[str | Path] = "sample",
    *,
    limit: int | None = None,
    recognized: bool = True,
    seed: int = 0,
    dropped: Counter[str] | None = None,
    base_url: str | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Iterator[Record]:
    """The drawings that `prepare` would take from its sources, as records, word by word.

    Args:
        words: One or several.
        source: One or several; see `prepare`.
        limit: Drawings of each word from each source, at most; None: all there are.
        recognized: Leave out what the game did not recognise, where that was published.
        seed: Of the sample.
        dropped: What was left out is added to it, by reason.
        base_url: Of the published files; see `quickdraw.read_drawings`.
        cache: Folder for what is fetched; none: ``data/raw``.
        progress: Show on stderr what is fetched.

    Raises:
        ValueError: While reading: a word or source that does not exist.
        FileNotFoundError, ConnectionError: While reading: the published files cannot be reached.
    """
    if limit is None and "sample" in _listed(source):
        raise ValueError("the sample has no end: limit must be a number")
    for word in [words] if isinstance(words, str) else words:
        for one in _listed(source):
            for drawings in read_chunks(
                word,
                one,
                limit=limit,
                recognized=recognized,
                seed=seed,
                dropped=Counter() if dropped is None else dropped,
                base_url=base_url,
                cache=cache,
                progress=progress,
            ):
                yield from drawings.records()


def _listed(source: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [source] if isinstance(source, str | Path) else list(source)


def _build(
    folder: Path,
    settings: dict[str, Any],
    sources: Sequence[str | Path],
    blocks: Callable[..., Iterator[tuple[str, str, Block]]],
    *,
    progress: bool,
) -> None:
    """Write the files of a store into `folder`; ``store.json`` last."""
    words, limit = settings["words"], settings["samples_per_class"]
    spreads, dropped = Spreads(), {word: Counter() for word in words}
    kept: Counter[tuple[str, str]] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    total = limit and limit * len(words) * len(sources)
    with ExitStack() as stack:
        files = [folder / f"{name}.safetensors" for name in SPLITS]
        writers = [stack.enter_context(SplitWriter(file)) for file in files]
        bar = stack.enter_context(
            tqdm(total=total, unit=" drawings", disable=None if progress else True)
        )
        for word, source, block in blocks(settings, sources, dropped=dropped):
            for name, writer, part in zip(SPLITS, writers, block.parts, strict=True):
                writer.append(
                    part.points,
                    part.lengths,
                    word=words.index(word),
                    timed=part.timed,
                    ids=part.ids,
                )
                kept[word, name] += len(part.ids)
            spreads += block.spreads
            dropped[word].update(block.dropped)
            found[word, source] += len(block)
            bar.update(len(block))
        pool = stack.enter_context(ThreadPoolExecutor(len(SPLITS)))
        sizes = dict(zip(SPLITS, pool.map(SplitWriter.finish, writers), strict=True))

    for word in words:
        if not any(kept[word, name] for name in SPLITS):
            raise ValueError(f"no good drawing of {word!r}; dropped: {dict(dropped[word])}")
    for source in map(str, sources):
        short = {word: found[word, source] for word in words if found[word, source] < (limit or 0)}
        if short:
            least = sorted(short, key=lambda word: short[word])[:NAMED]
            named = ", ".join(f"{word!r} {short[word]}" for word in least)
            more = f" and {len(short) - NAMED} more words" if len(short) > NAMED else ""
            warnings.warn(
                f"{limit} good drawings a word were asked for; {source} holds of {named}{more}",
                stacklevel=3,
            )
    store = {
        "format_version": FORMAT_VERSION,
        "settings": settings,
        "words": words,
        "scale": asdict(spreads.to_scale()),
        "kept": {word: {name: kept[word, name] for name in SPLITS} for word in words},
        "dropped": {word: dict(sorted(dropped[word].items())) for word in words},
        "bytes": sizes,
        "versions": {package: version(package) for package in PACKAGES},
    }
    text = json.dumps(store, indent=2, ensure_ascii=False)
    with paths.atomic_write(folder / "store.json") as file:
        file.write(text.encode())


def _check(settings: dict[str, Any]) -> None:
    """Raise ValueError at settings that no store can have."""
    words, shares, limit = settings["words"], settings["split"], settings["samples_per_class"]
    if not words or len(set(words)) != len(words):
        raise ValueError(f"words are {words}: a list of one or more, each once")
    if not settings["sources"]:
        raise ValueError("source is an empty list")
    if limit is None and any(one["kind"] == "sample" for one in settings["sources"]):
        raise ValueError("the sample has no end: samples_per_class must be a number")
    if limit is not None and limit < 1:
        raise ValueError(f"samples_per_class is {limit}; 1 or more, or None for all")
    if len(shares) != 3 or min(shares) < 0 or shares[0] == 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"split is {shares}: shares of train (not 0), valid and test, together 1")
