"""Padded batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

from doodlelib.data.dataset import Split, load_split, prepare
from doodlelib.models.batch import collate
from doodlelib.strokes import DT, to_stroke6


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


def test_taken_rows_are_those_of_each_drawing(split: Split) -> None:
    chosen = np.random.default_rng(0).permutation(len(split))[:40]
    rows, lengths = split.select(chosen)
    np.testing.assert_array_equal(rows, np.concatenate([split[index] for index in chosen]))
    np.testing.assert_array_equal(lengths, split.lengths[chosen])
