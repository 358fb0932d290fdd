"""Drawings of any source to a store: filtered, simplified, split, as stroke-4 rows.

All streams in batches of some hundred drawings, so that memory does not grow with their number.
One thread reads and writes; others parse and simplify.
"""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from jaxtyping import Float32, Int64
from joblib import Parallel, cpu_count, delayed

from doodlelib import paths
from doodlelib.data import formats, ndjson, quickdraw, sample, store
from doodlelib.data.ragged import RaggedDrawings
from doodlelib.data.store import SPLITS, Split, SplitWriter, load_split, open_npy, read_store
from doodlelib.progress import progress_bar
from doodlelib.simplify import checked_limits
from doodlelib.strokes import DT, MIN_DT, PEN, Record, Scale

__all__ = ["Split", "default_words", "load_split", "prepare", "read", "read_store", "sample_store"]

BATCH = 512  # drawings; more no longer fit the processor's cache
MAX_THREADS = 4  # more would wait for the interpreter lock, which a quarter of the work needs
MAX_NAMED = 5  # words that a warning names
PACKAGES = ("doodlelib", "numba", "numpy", "orjson")  # whose versions a store records
ROWS = 1 << 20  # that the scale is taken of at a time

Source = str | Path
Batches = Iterator[tuple[str, str, RaggedDrawings]]  # of a word and a source


def prepare(
    out: str | Path,
    *,
    words: str | Sequence[str],
    source: Source | Sequence[Source] = "sample",
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
    make_batches: Callable[..., Batches] | None = None,
) -> Path:
    """Make the store `out`, unless it is there, whole, and was made with the same settings.

    Equal drawings and settings give equal bytes. Returns `out`; `read_store` says what was kept,
    what dropped and why.

    Args:
        out: The store's folder; an older store there is replaced.
        words: One or several; the store's word indices count in this order.
        source: ``"sample"`` (made by a program, with time), ``"raw"`` (published, with time),
            ``"simplified"`` (published, untimed), or a folder of one's own files named by word,
            from the working directory or the repository (see `formats.read`). Several:
            their drawings together, timed and untimed.
        samples_per_class: Drawings of each word from each source; None: all there are.
        method: ``timed`` or ``rdp``; see `simplify.simplify`.
        epsilon: Px in the 255 box that the geometry may be off.
        epsilon_time: Px in the 255 box that the pen may be off at any instant.
        recognized: Leave out what the game did not recognise, where that was published.
        split: Shares of train, valid and test. A hash of its id puts a drawing into one, for ever.
        seed: Of the sample.
        base_url: Of the published files; see `quickdraw.read_drawings`.
        cache: Folder for what is fetched; None: ``data/raw``.
        progress: Show it on stderr.
        make_batches: Replaces `make_batches_here`, to do the work elsewhere (see `cluster`).

    Raises:
        ValueError: A setting out of range, a word or source that does not exist, a word without
            one good drawing, or `out` holds files that are no store's.
        FileNotFoundError, ConnectionError: The published files cannot be reached.
    """
    sources = _listed(source)
    settings = {
        "words": [words] if isinstance(words, str) else list(words),
        "sources": [_describe(one, base_url=base_url) for one in sources],
        "samples_per_class": samples_per_class,
        "method": method,
        "epsilon": epsilon,
        "epsilon_time": epsilon_time,
        "recognized": recognized,
        "split": list(split),
        "seed": seed,
    }
    _check(settings)
    batches = partial(make_batches or make_batches_here, cache=cache, progress=progress)
    build = partial(_build, settings=settings, sources=sources, batches=batches, progress=progress)
    store.replace_store(Path(out), build, settings=settings)
    return Path(out)


def sample_store(path: str | Path = paths.PROCESSED / "sample") -> Path:
    """The store at `path`; where there is none, it is made: 300 sample drawings of each word."""
    try:
        read_store(path)
    except ValueError:
        prepare(path, words=list(sample.WORDS), samples_per_class=300)
    return Path(path)


def read(
    words: str | Sequence[str],
    source: Source | Sequence[Source] = "sample",
    *,
    limit: int | None = None,
    recognized: bool = True,
    seed: int = 0,
    dropped: Counter[str] | None = None,
    **reading: Any,
) -> Iterator[Record]:
    """The drawings that `prepare` would take from its sources, as records, word by word.

    `limit` is how many of each word from each source, at most (None: all). What was left out is
    added to `dropped`, by reason. All else and the errors are those of `prepare`.
    """
    if limit is None and "sample" in _listed(source):
        raise ValueError("the sample has no end: limit must be a number")
    settings = {"samples_per_class": limit, "recognized": recognized, "seed": seed}
    for word in [words] if isinstance(words, str) else words:
        counts, found = Counter[str](), 0
        for one in _listed(source):
            for drawings in batches_of(word, one, settings=settings, **reading):
                counts.update(drawings.dropped)
                found += len(drawings)
                yield from drawings.records()
        if dropped is not None:
            dropped.update(counts)
        if not found:
            raise ValueError(f"no good drawing of {word!r}; dropped: {dict(counts)}")


def default_words(source: Source | Sequence[Source]) -> list[str]:
    """The words to take where none are named: those of one's own folders, else the sample's ten."""
    folders = [one for one in _listed(source) if one not in ("sample", *quickdraw.KINDS)]
    dropped: Counter[str] = Counter()
    files = (formats.read(find_folder(one), dropped=dropped) for one in folders)
    own = {record.word for records in files for record in records}
    if folders and not own:
        raise ValueError(f"no good drawing in {folders}; dropped: {dict(dropped)}")
    return sorted(own) or list(sample.WORDS)


def find_folder(source: Source) -> Path:
    """A folder of one's own files, from the working directory or else the repository."""
    for folder in (Path(source), paths.resolve(source)):
        if folder.is_dir():
            return folder
    raise ValueError(f"source {str(source)!r} is neither sample, raw, simplified nor a folder")


def scale_of(points: Float32[np.ndarray, "n 4"], offsets: Int64[np.ndarray, " bounds"]) -> Scale:
    """Standard deviations and means over all moves within drawings."""
    is_move = np.ones(len(points), dtype=bool)
    is_move[offsets[:-1]] = False
    sums = np.zeros((3, 3))  # of xy, log segment, log pause: count, sum, sum of squares
    for start in range(0, len(points), ROWS):
        rows = points[start : start + ROWS][is_move[start : start + ROWS]].astype(np.float64)
        pen_down, timed = rows[:, PEN] > 0.5, ~np.isnan(rows[:, DT])
        log_dt = np.log(np.maximum(rows[:, DT], MIN_DT))
        parts = rows[:, :DT], log_dt[timed & pen_down], log_dt[timed & ~pen_down]
        sums += [(values.size, values.sum(), np.square(values).sum()) for values in parts]
    _, mean, mean_square = sums.T / np.maximum(sums[:, 0], 1)
    variance = mean_square - mean**2
    std = np.sqrt(np.where(variance > 1e-9, variance, 1.0))  # 1 where values do not differ
    return Scale(*map(float, (std[0], mean[1], std[1], mean[2], std[2])))


def make_tasks(
    settings: dict[str, Any], sources: Sequence[Source]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Word, source, and arguments of `batches_of` for each part of a store, in its order."""
    for word in settings["words"]:
        for source, described in zip(sources, settings["sources"], strict=True):
            place = find_folder(source).resolve() if described["kind"] == "folder" else source
            where = {"word": word, "source": place, "base_url": described.get("base_url")}
            yield word, str(source), where


def make_batches_here(
    settings: dict[str, Any], sources: Sequence[Source], **reading: Any
) -> Batches:
    """Word, source and a batch of drawings, until a store has all; made by threads."""
    threads = min(cpu_count(), MAX_THREADS)
    for word, source, where in make_tasks(settings, sources):
        for batch in batches_of(**where, settings=settings, threads=threads, **reading):
            yield word, source, batch


def batches_of(
    word: str, source: Source, *, settings: dict[str, Any], threads: int = 1, **reading: Any
) -> Iterator[RaggedDrawings]:
    """A word's first good drawings, batch by batch, in order; simplified if `settings` say how.

    No more is read than these take: as many items as drawings are missing, until none is.
    `settings` are a store's; `reading` are `base_url`, `cache` and `progress` of `quickdraw.lines`.
    """
    recognized, missing = settings["recognized"], settings["samples_per_class"]
    unread: Counter[str] = Counter()
    items: Iterator
    parse: Callable[[list], RaggedDrawings] = RaggedDrawings.from_records
    if source == "raw" or source == "simplified":
        items = quickdraw.lines(word, kind=source, **reading)
        parse = partial(ndjson.parse_lines, recognized=recognized)
    elif source == "sample":
        items = iter(sample.make_drawings(word, n=missing or 0, seed=settings["seed"]))
    else:
        folder = find_folder(source)
        items = formats.read(folder, word=word, recognized=recognized, dropped=unread)
    names = ("method", "epsilon", "epsilon_time")
    how = {name: settings[name] for name in names if name in settings}

    def work(batch: list) -> RaggedDrawings:
        drawings = parse(batch)
        return drawings.simplified(**how) if how else drawings

    with Parallel(threads, backend="threading", return_as="generator") as pool:
        while missing != 0:
            wanted = islice(items, missing)
            batches = iter(lambda wanted=wanted: list(islice(wanted, BATCH)), [])
            is_read, found = False, 0
            for drawings in pool(delayed(work)(batch) for batch in batches):
                is_read, found = True, found + len(drawings)
                yield drawings
            if missing is None or not is_read:
                break
            missing -= found
    yield replace(RaggedDrawings.from_records([]), dropped=unread)


def split_of(key_ids: Iterable[str], *, shares: Sequence[float]) -> Int64[np.ndarray, " n"]:
    """Which of the splits each drawing belongs to, by its id alone; `shares` of each make 1."""
    digests = [hashlib.blake2b(key_id.encode(), digest_size=8).digest() for key_id in key_ids]
    places = np.frombuffer(b"".join(digests), dtype=">u8") / 2**64
    return np.searchsorted(np.cumsum(shares[:-1]), places, side="right")


def _build(
    folder: Path,
    *,
    settings: dict[str, Any],
    sources: Sequence[Source],
    batches: Callable[..., Batches],
    progress: bool,
) -> None:
    """Write the files of a store into `folder`; ``store.json`` last."""
    words, limit = settings["words"], settings["samples_per_class"]
    dropped: dict[str, Counter[str]] = {word: Counter() for word in words}
    kept: Counter[tuple[str, str]] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    total = limit and limit * len(words) * len(sources)
    writers = [SplitWriter(folder, name) for name in SPLITS]
    shown = {"desc": "prepared", "unit": " drawings", "disable": not progress}
    with progress_bar(total=total, **shown) as bar:
        for word, source, drawings in batches(settings, sources):
            key_ids = (one["key_id"] for one in drawings.metadata)
            sides = split_of(key_ids, shares=settings["split"])
            for side, (name, writer) in enumerate(zip(SPLITS, writers, strict=True)):
                chosen = np.flatnonzero(sides == side)
                writer.append(drawings.select(chosen), word=words.index(word))
                kept[word, name] += len(chosen)
            dropped[word].update(drawings.dropped)
            found[word, source] += len(drawings)
            bar.update(len(drawings))
    for writer in writers:
        writer.finish()

    for word in words:
        if not any(kept[word, name] for name in SPLITS):
            raise ValueError(f"no good drawing of {word!r}; dropped: {dict(dropped[word])}")
    for source in map(str, sources):
        short = sorted((n, word) for word in words if (n := found[word, source]) < (limit or 0))
        if short:
            named = ", ".join(f"{word!r} {n}" for n, word in short[:MAX_NAMED])
            warnings.warn(
                f"{limit} good drawings a word were asked for; {source} holds fewer of "
                f"{len(short)} words: {named}{', …' if len(short) > MAX_NAMED else ''}",
                stacklevel=4,
            )
    train = [open_npy(folder / f"{SPLITS[0]}.{name}.npy") for name in ("points", "offsets")]
    about = {
        "format_version": store.FORMAT_VERSION,
        "settings": settings,
        "words": words,
        "scale": asdict(scale_of(*train)),
        "kept": {word: {name: kept[word, name] for name in SPLITS} for word in words},
        "dropped": {word: dict(sorted(dropped[word].items())) for word in words},
        "versions": {package: version(package) for package in PACKAGES},
    }
    text = json.dumps(about, indent=2, ensure_ascii=False)
    paths.write_whole(folder / "store.json", text.encode())


def _describe(source: Source, *, base_url: str | None) -> dict[str, str]:
    """What of a source decides a store: where files lie, what is made, what a folder holds."""
    if source in quickdraw.KINDS:
        return {"kind": str(source), "base_url": quickdraw.base_url_of(base_url)}
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


def _check(settings: dict[str, Any]) -> None:
    """Raise ValueError at settings that no store can have."""
    words, shares, limit = settings["words"], settings["split"], settings["samples_per_class"]
    checked_limits(settings["method"], settings["epsilon"], settings["epsilon_time"])
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


def _listed(source: Source | Sequence[Source]) -> list[Source]:
    return [source] if isinstance(source, str | Path) else list(source)
