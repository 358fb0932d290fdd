"""Epochs of batches: a function of seed and epoch alone; augmentation and balance as promised."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doodlelib import raster
from doodlelib.config import CNNConfig, RetimeConfig, VAEConfig, read_config
from doodlelib.data import sample
from doodlelib.data.dataset import Split, load_split, prepare
from doodlelib.models.batch import StrokeBatch, collate
from doodlelib.strokes import DT, DX, PEN, Scale, to_stroke4
from doodlelib.training.batches import (
    ImageBatches,
    StrokeBatches,
    augment,
    augment_images,
    images_of,
)

WORDS = ["cat", "car", "fish"]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder: Path = tmp_path_factory.mktemp("store") / "tiny"
    prepare(folder, words=["star", "face"], samples_per_class=40, progress=False)
    return load_split(folder, "train")


def split_of(rows: list[np.ndarray], labels: np.ndarray) -> Split:
    return Split(
        points=np.concatenate(rows),
        offsets=np.cumsum([0, *map(len, rows)]),
        words=labels,
        timed=np.ones(len(rows), dtype=bool),
        ids=np.zeros(len(rows), dtype="S8"),
        classes=tuple(WORDS),
        scale=Scale(),
    )


def strokes_of(split: Split, *, seed: int = 1, epoch: int | None = None, **values) -> StrokeBatches:
    return StrokeBatches(split, read_config(VAEConfig, **values), seed=seed, epoch=epoch)


def rows_of(split: Split, count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([split[i] for i in range(count)]), split.lengths[:count]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.9))
def test_dropped_points_leave_the_rest_where_and_when_it_was(
    split: Split, seed: int, drop_prob: float
) -> None:
    rows, lengths = rows_of(split, 6)
    rng = np.random.default_rng(seed)
    new, new_lengths = augment(rows, lengths, augment_stroke_prob=drop_prob, rng=rng)
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
    new, new_lengths = augment(copies, owner, augment_stroke_prob=0.15, rng=rng)
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
        random_scale_factor=0.2,
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


def matrices(count: int, **options: float) -> np.ndarray:
    """What `augment` multiplies (dx, dy) of each of `count` drawings by, (count, 2, 2)."""
    corner = np.array([[0, 0, 0, 1], [10, 0, 20, 1], [0, 10, 20, 1], [3, -4, 50, 0]], np.float32)
    rows, lengths = np.tile(corner, (count, 1)), np.full(count, len(corner))
    new, new_lengths = augment(rows, lengths, rng=np.random.default_rng(2), **options)
    np.testing.assert_array_equal(new_lengths, lengths)
    np.testing.assert_array_equal(new[:, DT:], rows[:, DT:])
    moves = new.reshape(count, len(corner), 4)[:, :, :DT]
    found = moves[:, 1:3] / 10.0
    np.testing.assert_allclose(moves[:, 3], np.array([3, -4]) @ found, atol=1e-4)
    return found


def assert_fills(values: np.ndarray, most: float) -> None:
    """All of -most to most is used, and nothing beyond."""
    assert np.abs(values).max() <= most * (1 + 1e-4)
    assert np.abs(np.histogram(values, 4, (-most, most))[0] / len(values) - 0.25).max() < 0.08


def test_drawings_are_turned_by_up_to_the_angle() -> None:
    turned = matrices(400, rotate=30.0)
    angle = np.arctan2(turned[:, 0, 1], turned[:, 0, 0])
    assert_fills(np.rad2deg(angle), 30.0)
    expected = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(turned, expected.transpose(2, 0, 1), atol=1e-5)


def test_drawings_are_sheared_along_x() -> None:
    sheared = matrices(400, shear=0.2)
    assert_fills(sheared[:, 1, 0], 0.2)
    sheared[:, 1, 0] = 0
    np.testing.assert_allclose(sheared, np.tile(np.eye(2), (400, 1, 1)), atol=1e-5)


def test_drawings_are_scaled_then_sheared_then_turned() -> None:
    found = matrices(400, random_scale_factor=0.1, flip_prob=0.5, shear=0.2, rotate=20.0)
    angle = np.arctan(found[:, 0, 1] / found[:, 0, 0])  # mirrored or not
    assert_fills(np.rad2deg(angle), 20.0)
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = found @ back.transpose(2, 0, 1)
    np.testing.assert_allclose(upright[:, 0, 1], 0, atol=1e-5)
    assert 0.4 < (upright[:, 0, 0] < 0).mean() < 0.6
    assert_fills(np.abs(upright[:, 0, 0]) - 1, 0.1)
    assert_fills(upright[:, 1, 1] - 1, 0.1)
    assert_fills(upright[:, 1, 0] / upright[:, 1, 1], 0.2)


def test_an_epoch_holds_every_short_enough_drawing_once(split: Split) -> None:
    limit = int(np.median(split.lengths))
    batches = strokes_of(split, batch_size=7, max_seq_len=limit)
    seen = np.concatenate(batches.batches)
    assert sorted(seen) == np.flatnonzero(split.lengths <= limit).tolist()
    assert batches.left_out == (split.lengths > limit).sum() > 0
    assert sum(batch.size for batch in batches.load()) == len(seen)


def equal(one: StrokeBatch, other: StrokeBatch) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


def test_same_seed_same_epoch_same_batches_with_any_workers(split: Split) -> None:
    first = list(strokes_of(split, epoch=1, batch_size=9).load())
    again = list(strokes_of(split, epoch=1, batch_size=9, num_workers=2).load())
    assert all(equal(one, other) for one, other in zip(first, again, strict=True))
    later = list(strokes_of(split, epoch=2, batch_size=9).load())
    assert not all(equal(one, other) for one, other in zip(first, later, strict=False))


def test_drawings_for_validation_are_as_they_are(split: Split) -> None:
    batches = strokes_of(split, batch_size=9)
    for chosen, batch in zip(batches.batches, batches.load(), strict=True):
        rows, lengths = split.select(chosen)
        expected = collate(rows, lengths, words=split.words[chosen], scale=split.scale)
        assert equal(batch, expected)


def test_a_retimer_is_trained_on_timed_drawings(split: Split) -> None:
    timed = np.arange(len(split)) % 3 == 0
    some = dataclasses.replace(split, timed=timed)
    batches = StrokeBatches(some, read_config(RetimeConfig), epoch=1)
    assert timed[np.concatenate(batches.batches)].all()


def test_drawings_that_are_all_too_long_are_an_error(split: Split) -> None:
    with pytest.raises(ValueError, match="at most 3 points"):
        strokes_of(split, max_seq_len=3)


@pytest.mark.parametrize(
    ("balance", "shares"),
    [(1.0, [640, 40, 10]), (0.5, [640**0.5, 40**0.5, 10**0.5]), (0.0, [1, 1, 1])],
)
def test_balance_of_words(balance: float, shares: list[float]) -> None:
    """An epoch stays as long; rare words are repeated, each of their drawings about as often."""
    counts = np.array([640, 40, 10])
    labels = np.repeat(np.arange(3), counts).astype(np.int16)
    rows = np.array([[0, 0, 0, 1], [5, 1, 20, 1]], np.float32)
    balanced = split_of([rows] * len(labels), labels)

    def epoch(number: int) -> np.ndarray:
        return np.concatenate(strokes_of(balanced, epoch=number, balance=balance).batches)

    seen = epoch(1)
    expected = len(labels) * np.array(shares) / sum(shares)
    met = np.bincount(labels[seen], minlength=3)
    np.testing.assert_allclose(met, expected, atol=0 if balance == 1 else 5 * 640**0.5 / 2)
    times = np.bincount(seen, minlength=len(labels))
    each = (expected / counts)[labels]
    assert (np.abs(times - each) < 1).all()
    assert np.array_equal(seen, epoch(1)) and not np.array_equal(seen, epoch(2))


def test_words_without_drawings_are_left_out_of_the_balance() -> None:
    rows = np.array([[0, 0, 0, 1], [5, 1, 20, 1]], np.float32)
    some = split_of([rows] * 30, np.repeat([0, 2], 15).astype(np.int16))  # none of word 1
    batches = strokes_of(some, epoch=1, balance=0.0)
    assert sorted(np.concatenate(batches.batches)) == list(range(30))


LABELS = np.repeat(np.arange(3), 8).astype(np.int16)
STILL = {"shift": 0.0, "rotate": 0.0, "zoom": 0.0, "flip_prob": 0.0, "line_width": 0.0}


def make_config(**overrides) -> CNNConfig:
    return dataclasses.replace(read_config(CNNConfig, batch_size=8), **overrides)


@pytest.fixture(scope="module")
def drawings():
    return [record.drawing for word in WORDS for record in sample.make_drawings(word, 8)]


@pytest.fixture(scope="module")
def images(drawings):
    return raster.rasterize_many(drawings)[:, None]


def make_generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_images_without_amounts_changes_nothing(images):
    config = make_config(**STILL)
    batch = torch.from_numpy(images)
    same = augment_images(batch, generator=make_generator(), config=config)
    torch.testing.assert_close(same, batch, atol=1, rtol=0)
    mirrored = augment_images(
        batch, generator=make_generator(), config=dataclasses.replace(config, flip_prob=1.0)
    )
    torch.testing.assert_close(mirrored, batch.flip(3), atol=1, rtol=0)


def test_images_changes_the_lines_width(images):
    """By the same amount for the whole picture, never beyond what the neighbours have."""
    batch = torch.from_numpy(images)
    widened = augment_images(
        batch, generator=make_generator(), config=make_config(**STILL | {"line_width": 0.6})
    )
    ink = widened.double().sum(dim=(1, 2, 3)) / batch.double().sum(dim=(1, 2, 3))
    assert ink.min() < 0.8 and ink.max() > 1.3
    darkest = torch.nn.functional.max_pool2d(batch.float(), 3, 1, 1)
    assert (widened <= darkest + 1).all()


@pytest.mark.parametrize(
    ("amounts", "moved", "turned", "grown"),
    [
        ({"shift": 0.1}, 0.1 * 28, 0, 0),
        ({"rotate": 20.0}, 0, 20, 0),
        ({"zoom": 0.2}, 0, 0, 0.2),
    ],
)
def test_images_stays_within_its_amounts(amounts, moved, turned, grown):
    bar = raster.rasterize([[[0, 100], [0, 0]]], line_width=4.0)[8:20].astype(np.float64)
    image = np.zeros((28, 28))
    image[8:20, 6:22] = bar[:, 6:22]  # room for every move
    batch = torch.from_numpy(image.round().astype(np.uint8))[None, None].repeat(200, 1, 1, 1)
    result = augment_images(
        batch, generator=make_generator(), config=make_config(**STILL | amounts)
    )

    weight = result[:, 0].double() / result[:, 0].double().sum(dim=(1, 2), keepdim=True)
    at = torch.arange(28).double() + 0.5
    x, y = weight.sum(dim=1) @ at, weight.sum(dim=2) @ at
    dx, dy = at - x[:, None], at - y[:, None]
    var_x, var_y = (weight.sum(1) * dx**2).sum(1), (weight.sum(2) * dy**2).sum(1)
    cov = torch.einsum("bij,bi,bj->b", weight, dy, dx)
    angle = torch.rad2deg(0.5 * torch.atan2(2 * cov, var_x - var_y))
    area = result.double().sum(dim=(1, 2, 3)) / batch[0].double().sum()
    for figure, most, least in (
        (x - 14, moved, 0.1),
        (y - 14, moved, 0.1),
        (angle, turned, 0.5),
        (area.sqrt() - 1, grown, 0.02),
    ):
        assert figure.abs().max() <= most + least
        assert figure.min() <= least - 0.9 * most and figure.max() >= 0.9 * most - least


def test_image_batches_are_a_function_of_seed_and_epoch(images):
    def epoch(number, seed=0, workers=0):
        config = make_config(num_workers=workers)
        batches = list(ImageBatches(images, LABELS, config=config, seed=seed, epoch=number).load())
        return torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches])

    first, labels = epoch(1)
    assert first.dtype == torch.uint8 and labels.dtype == torch.int64
    assert first.shape == (24, 1, 28, 28) and sorted(labels) == sorted(LABELS)
    for again in (epoch(1), epoch(1, workers=2)):
        assert torch.equal(again[0], first) and torch.equal(again[1], labels)
    for other in (epoch(2), epoch(1, seed=1)):
        assert not torch.equal(other[0], first) and not torch.equal(other[1], labels)


def test_validation_batches_are_as_stored(images):
    batches = ImageBatches(images, LABELS, config=make_config(batch_size=10))
    assert len(batches) == 3 and [batch.size for batch in batches.load()] == [10, 10, 4]
    joined = torch.cat([batch.images for batch in batches.load()])
    np.testing.assert_array_equal(joined, images)
    with pytest.raises(ValueError, match="no images"):
        ImageBatches(images[:0], LABELS[:0], config=make_config())


def test_images_of_a_split(drawings, images):
    rows = [to_stroke4(drawing).astype(np.float32) for drawing in drawings]
    split = split_of(rows, LABELS)
    config = make_config()
    np.testing.assert_allclose(images_of(split, config).astype(int), images.astype(int), atol=1)
    timed = images_of(split, make_config(channels="timed"))
    assert timed.shape == (24, 3, 28, 28)
    np.testing.assert_array_equal(timed[:, :1], images_of(split, config))
