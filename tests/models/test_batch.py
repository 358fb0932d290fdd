"""Batches: padding, buckets, augmentation, and that they depend on seed and epoch alone."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doodlelib.data.dataset import Split, load_split, prepare
from doodlelib.models.batch import StrokeBatch, collate
from doodlelib.strokes import DT, DX, PEN, to_stroke6
from doodlelib.training.batches import StrokeBatches, augment


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder: Path = tmp_path_factory.mktemp("store") / "tiny"
    prepare(folder, words=["star", "face"], samples_per_class=40, progress=False)
    return load_split(folder, "train")


def rows_of(split: Split, count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([split[i] for i in range(count)]), split.lengths[:count]


def test_a_batch_is_stroke6_padded_with_end_rows(split: Split) -> None:
    rows, lengths = rows_of(split, 5)
    batch = collate(rows, lengths, words=split.words[:5], scale=split.scale)
    assert batch.rows.shape == (5, lengths.max() + 2, 6)
    for index, length in enumerate(lengths):
        np.testing.assert_allclose(
            batch.rows[index, : length + 2],
            to_stroke6(split[index], scale=split.scale),
            atol=1e-5,
        )
        padding = batch.rows[index, length + 2 :]
        assert (padding == torch.tensor([0, 0, 0, 0, 0, 1])).all()
    assert batch.timed.all()
    assert batch.words.dtype == torch.int64


def test_untimed_drawings_hold_zero_and_say_so(split: Split) -> None:
    rows, lengths = rows_of(split, 3)
    rows[: lengths[0], DT] = np.nan
    batch = collate(rows, lengths, words=split.words[:3], scale=split.scale)
    assert batch.timed.tolist() == [False, True, True]
    assert (batch.rows[0, :, DT] == 0).all()
    assert torch.isfinite(batch.rows).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.9))
def test_dropped_points_leave_the_rest_where_and_when_it_was(
    split: Split, seed: int, drop_prob: float
) -> None:
    rows, lengths = rows_of(split, 6)
    rng = np.random.default_rng(seed)
    new, new_lengths = augment(
        rows, lengths, scale_factor=0.0, drop_prob=drop_prob, flip_prob=0.0, rng=rng
    )
    assert new_lengths.sum() == len(new)
    ends, new_ends = np.cumsum(lengths), np.cumsum(new_lengths)
    for end, length, new_end, new_length in zip(ends, lengths, new_ends, new_lengths, strict=True):
        before = np.cumsum(rows[end - length : end, :PEN].astype(np.float64), axis=0)
        after = np.cumsum(new[new_end - new_length : new_end, :PEN].astype(np.float64), axis=0)
        np.testing.assert_allclose(after[-1], before[-1], atol=1e-2)
        distance = np.abs(after[:, None] - before[None]).sum(-1).min(1)
        assert distance.max() < 1e-2  # every point kept is where and when a point was
        lifted = rows[end - length : end, PEN] == 0
        assert (new[new_end - new_length : new_end, PEN] == 0).sum() == lifted.sum()


def test_each_inner_point_has_the_chance_and_drawings_lose_alike(split: Split) -> None:
    rows, lengths = rows_of(split, 1)
    copies, owner = np.tile(rows, (4000, 1)), np.tile(lengths, 4000)
    copies[:, :PEN] = np.arange(len(copies))[:, None]  # tells the points apart
    rng = np.random.default_rng(1)
    new, new_lengths = augment(
        copies, owner, scale_factor=0.0, drop_prob=0.15, flip_prob=0.0, rng=rng
    )
    assert np.ptp(new_lengths) == 1
    ends = np.cumsum(new[:, 0].astype(np.float64))
    at = np.searchsorted(np.cumsum(copies[:, 0].astype(np.float64)), ends)
    kept = np.bincount(at % len(rows), minlength=len(rows)) / 4000
    inner = kept < 1
    assert inner.sum() > 10
    np.testing.assert_allclose(kept[inner], 0.85, atol=0.03)  # five standard errors
    outer = (rows[:, PEN] < 0.5) | np.append(rows[1:, PEN] < 0.5, True)
    outer[0] = True
    np.testing.assert_array_equal(inner, ~outer)


def test_stretch_is_one_factor_an_axis_a_drawing(split: Split) -> None:
    rows, lengths = rows_of(split, 4)
    new, _ = augment(
        rows,
        lengths,
        scale_factor=0.2,
        drop_prob=0.0,
        flip_prob=0.0,
        rng=np.random.default_rng(1),
    )
    np.testing.assert_array_equal(new[:, DT:], rows[:, DT:])
    moved = np.abs(rows[:, DX]) > 1
    owner = np.repeat(np.arange(4), lengths)
    for drawing in range(4):
        factors = (new[:, DX] / np.where(moved, rows[:, DX], 1))[moved & (owner == drawing)]
        assert np.ptp(factors) < 1e-5
        assert 0.8 <= factors[0] <= 1.2
        assert abs(factors[0] - 1) > 1e-4


def test_an_epoch_holds_every_short_enough_drawing_once(split: Split) -> None:
    limit = int(np.median(split.lengths))
    batches = StrokeBatches(split, batch_size=7, max_seq_len=limit, seed=3)
    seen = np.concatenate(batches.batches)
    assert sorted(seen) == np.flatnonzero(split.lengths <= limit).tolist()
    assert batches.left_out == (split.lengths > limit).sum() > 0
    assert sum(batch.size for batch in batches.load()) == len(seen)


def equal(one: StrokeBatch, other: StrokeBatch) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


def test_same_seed_same_epoch_same_batches_with_any_workers(split: Split) -> None:
    options = {
        "batch_size": 9,
        "max_seq_len": 200,
        "seed": 1,
        "scale_factor": 0.1,
        "drop_prob": 0.2,
    }
    first = list(StrokeBatches(split, epoch=1, **options).load())
    again = list(StrokeBatches(split, epoch=1, **options).load(num_workers=2))
    assert all(equal(one, other) for one, other in zip(first, again, strict=True))
    later = list(StrokeBatches(split, epoch=2, **options).load())
    assert not all(equal(one, other) for one, other in zip(first, later, strict=False))


def test_drawings_that_are_all_too_long_are_an_error(split: Split) -> None:
    with pytest.raises(ValueError, match="at most 3 points"):
        StrokeBatches(split, batch_size=9, max_seq_len=3, seed=0)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells what is mapped")
def test_a_batch_once_made_holds_nothing_of_the_store(split: Split) -> None:
    """What is read stays mapped, and counts as ours, until it is let go."""

    def mapped() -> int:
        """kB of the store that are in this process's memory."""
        parts = Path("/proc/self/smaps").read_text().split("train.safetensors")[1:]
        return sum(int(re.search(r"Rss: +(\d+)", part)[1]) for part in parts)

    before = np.array(split.points)
    assert mapped() > 0
    split.release()
    assert mapped() == 0
    np.testing.assert_array_equal(split.points, before)
    _ = StrokeBatches(split, batch_size=4, max_seq_len=200, seed=0)[0]
    assert mapped() == 0


def test_taken_rows_are_those_of_each_drawing(split: Split) -> None:
    chosen = np.random.default_rng(0).permutation(len(split))[:40]
    rows, lengths = split.take(chosen)
    np.testing.assert_array_equal(rows, np.concatenate([split[index] for index in chosen]))
    np.testing.assert_array_equal(lengths, split.lengths[chosen])
