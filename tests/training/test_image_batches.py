import dataclasses

import numpy as np
import pytest
import torch

from doodlelib import raster
from doodlelib.config import CNNConfig, read_config
from doodlelib.data import sample
from doodlelib.data.store import Split
from doodlelib.strokes import Scale, to_stroke4
from doodlelib.training.image_batches import ImageBatches, augment, images_of

WORDS = ["cat", "car", "fish"]
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


def test_augment_without_amounts_changes_nothing(images):
    config = make_config(**STILL)
    batch = torch.from_numpy(images)
    same = augment(batch, generator=make_generator(), config=config)
    torch.testing.assert_close(same, batch, atol=1, rtol=0)
    mirrored = augment(
        batch, generator=make_generator(), config=dataclasses.replace(config, flip_prob=1.0)
    )
    torch.testing.assert_close(mirrored, batch.flip(3), atol=1, rtol=0)


def test_augment_changes_the_lines_width(images):
    """By the same amount for the whole picture, never beyond what the neighbours have."""
    batch = torch.from_numpy(images)
    widened = augment(
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
def test_augment_stays_within_its_amounts(amounts, moved, turned, grown):
    bar = raster.rasterize([[[0, 100], [0, 0]]], line_width=4.0)[8:20].astype(np.float64)
    image = np.zeros((28, 28))
    image[8:20, 6:22] = bar[:, 6:22]  # room for every move
    batch = torch.from_numpy(image.round().astype(np.uint8))[None, None].repeat(200, 1, 1, 1)
    result = augment(batch, generator=make_generator(), config=make_config(**STILL | amounts))

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


def test_batches_are_a_function_of_seed_and_epoch(images):
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
    with pytest.raises(ValueError, match="no pictures"):
        ImageBatches(images[:0], LABELS[:0], config=make_config())


def test_images_of_a_split(drawings, images):
    rows = [to_stroke4(drawing).astype(np.float32) for drawing in drawings]
    split = Split(
        points=np.concatenate(rows),
        offsets=np.cumsum([0, *map(len, rows)]),
        words=LABELS,
        timed=np.ones(len(rows), dtype=bool),
        ids=np.zeros((len(rows), 8), dtype=np.uint8),
        classes=tuple(WORDS),
        scale=Scale(),
    )
    config = make_config()
    np.testing.assert_allclose(images_of(split, config).astype(int), images.astype(int), atol=1)
    timed = images_of(split, make_config(channels="timed"))
    assert timed.shape == (24, 3, 28, 28)
    np.testing.assert_array_equal(timed[:, :1], images_of(split, config))
