"""Some hundred drawings at a time through every step: read, simplified, split, stroke-4."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Int64
from joblib import cpu_count

from doodlelib.data.ragged import RaggedDrawings
from doodlelib.data.sources import AHEAD, read_blocks
from doodlelib.data.spread import Spreads
from doodlelib.data.store import ID_WIDTH, SPLITS

MOST_THREADS = 4  # more would wait for the interpreter lock, which a quarter of the work needs
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """What one split gets of a block.

    Attributes:
        points: stroke-4 rows of its drawings, px in the 255 box and ms.
        lengths: Points of each.
        timed: Whether each has times.
        ids: The id of each, no longer than a store holds.
    """

    points: Float32[np.ndarray, "n 4"]
    lengths: Int64[np.ndarray, " drawings"]
    timed: Bool[np.ndarray, " drawings"]
    ids: list[str]


@dataclass(frozen=True)
class Block:
    """Drawings of one word and source, ready for the store.

    Attributes:
        parts: What each of `store.SPLITS` gets.
        spreads: Of the train split's moves.
        dropped: How many were left out, by reason.
    """

    parts: list[Part]
    spreads: Spreads
    dropped: Counter[str]

    def __len__(self) -> int:
        return sum(len(part.ids) for part in self.parts)


def start_blocks(
    word: str,
    source: str | Path,
    *,
    settings: dict[str, Any],
    submit: Callable[..., Future[Block]],
    dropped: Counter[str],
    **reading: Any,
) -> Iterator[Future[Block]]:
    """The blocks of a word and source, in their order, each being worked on.

    Args:
        word: One of the store's.
        source: See `dataset.prepare`.
        settings: The store's.
        submit: Starts ``function(*arguments)``.
        dropped: See `sources.read_blocks`.
        **reading: `cache`, `progress`, `span` of `sources.read_blocks`.
    """
    work = partial(
        prepare_block,
        shares=settings["split"],
        method=settings["method"],
        epsilon=settings["epsilon"],
        epsilon_time=settings["epsilon_time"],
    )
    return read_blocks(
        word,
        source,
        submit=partial(submit, work),
        dropped=dropped,
        limit=settings["samples_per_class"],
        recognized=settings["recognized"],
        seed=settings["seed"],
        **reading,
    )


def prepared_blocks(
    settings: dict[str, Any],
    sources: Sequence[str | Path],
    *,
    dropped: dict[str, Counter[str]],
    **reading: Any,
) -> Iterator[tuple[str, str, Block]]:
    """Word, source and what a store takes, in its order; worked on by threads.

    Args:
        settings: The store's.
        sources: See `dataset.prepare`.
        dropped: By word; see `sources.read_blocks`.
        **reading: See `start_blocks`.
    """

    def started(pool: Executor) -> Iterator[tuple[str, str, Future[Block]]]:
        for word in settings["words"]:
            for source, described in zip(sources, settings["sources"], strict=True):
                blocks = start_blocks(
                    word,
                    source,
                    settings=settings,
                    submit=pool.submit,
                    dropped=dropped[word],
                    base_url=described.get("base_url"),
                    **reading,
                )
                for block in blocks:
                    yield word, str(source), block

    with ThreadPoolExecutor(min(cpu_count(), MOST_THREADS)) as pool:
        for word, source, block in _ahead(started(pool)):
            yield word, source, block.result()


def prepare_block(
    parse: Callable[[T], RaggedDrawings],
    batch: T,
    *,
    shares: Sequence[float],
    method: str,
    epsilon: float,
    epsilon_time: float,
) -> Block:
    """What a store takes of the drawings that `parse` finds in `batch`.

    Args:
        parse: Makes a chunk of a batch; see `sources.read`.
        batch: Whatever `parse` takes.
        shares: Of each split; together 1.
        method: See `simplify.simplify`.
        epsilon: See there.
        epsilon_time: See there.
    """
    chunk = parse(batch)
    simplified = chunk.simplified(method=method, epsilon=epsilon, epsilon_time=epsilon_time)
    sides = split_of((head["key_id"] for head in chunk.metadata), shares=shares)
    ordered = simplified.select(np.argsort(sides, kind="stable"))  # split by split
    rows, offsets, timed = ordered.stroke4_rows(), ordered.offsets, ordered.timed
    ids = [_stored_id(head["key_id"]) for head in ordered.metadata]
    bounds = np.searchsorted(np.sort(sides), np.arange(len(SPLITS) + 1))
    parts = [
        Part(rows[offsets[a] : offsets[b]], np.diff(offsets[a : b + 1]), timed[a:b], ids[a:b])
        for a, b in pairwise(bounds.tolist())
    ]
    return Block(parts, Spreads.of(parts[0].points, parts[0].lengths), chunk.dropped)


def split_of(key_ids: Iterable[str], *, shares: Sequence[float]) -> Int64[np.ndarray, " n"]:
    """Which of the splits each drawing belongs to, by its id alone.

    Args:
        key_ids: The drawings' ids.
        shares: Of each split; together 1.
    """
    digests = [hashlib.blake2b(key_id.encode(), digest_size=8).digest() for key_id in key_ids]
    places = np.frombuffer(b"".join(digests), dtype=">u8") / 2**64
    return np.searchsorted(np.cumsum(shares[:-1]), places, side="right")


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """`items`, each when `AHEAD` more have been started."""
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


def _stored_id(key_id: str) -> str:
    """The id itself, or where it is too long for the store a digest of it."""
    if len(key_id.encode()) <= ID_WIDTH:
        return key_id
    return f"long-{hashlib.blake2b(key_id.encode(), digest_size=20).hexdigest()}"
