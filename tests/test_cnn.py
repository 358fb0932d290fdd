import dataclasses

import numpy as np
import pytest
import torch

from doodlelib import raster, sample
from doodlelib.cnn import DoodleCNN, ImageBatch, ImageBatches, augment, images_of
from doodlelib.config import CNNConfig, read_config
from doodlelib.store import Split
from doodlelib.strokes import Scale, to_stroke4

WORDS = ["cat", "car", "fish"]


def make_config(**overrides) -> CNNConfig:
    small = read_config(CNNConfig, width=4, batch_size=8, dropout=0.0, label_smoothing=0.0)
    return dataclasses.replace(small, **overrides)


@pytest.fixture(scope="module")
def drawings():
    return [record.drawing for word in WORDS for record in sample.make_drawings(word, 8)]


@pytest.fixture(scope="module")
def images(drawings):
    return raster.rasterize_many(drawings)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DoodleCNN(make_config(), WORDS)


LABELS = np.repeat(np.arange(3), 8).astype(np.int16)


@pytest.mark.parametrize("size", [28, 255])
def test_logits_of_both_sizes_and_many_words(size):
    words = [f"word {index}" for index in range(345)]
    model = DoodleCNN(make_config(image_size=size), words)
    images = torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8)
    logits = model(images)
    assert logits.shape == (2, 345) and logits.isfinite().all()
    torch.testing.assert_close(model(images.float()), logits)
    other = {28: 255, 255: 28}[size]
    with pytest.raises(ValueError, match=rf"\(1, {other}, {other}\).*\(1, {size}, {size}\)"):
        model(torch.zeros(2, 1, other, other))


def test_shipped_width_is_small():
    model = DoodleCNN(read_config(CNNConfig), WORDS)
    assert sum(parameter.numel() for parameter in model.parameters()) < 14_550_000 / 20


@pytest.mark.parametrize("words", [[], ["cat", "dog", "cat"]])
def test_words_must_be_distinct(words):
    with pytest.raises(ValueError, match="each once"):
        DoodleCNN(make_config(), words)


def test_learns_a_few_drawings(model, images):
    torch.manual_seed(0)
    batch = ImageBatch(torch.from_numpy(images)[:, None], torch.from_numpy(LABELS).long())
    optimizer = model.make_optimizer()
    first = model.loss(batch, step=0)[0].item()
    for step in range(60):
        loss, sums = model.loss(batch, step=step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 < first
    assert sums["accuracy"][0] == sums["accuracy"][1] == 24


def test_loss_is_cross_entropy_and_smooths_in_training_only(images):
    model = DoodleCNN(make_config(label_smoothing=0.3), WORDS)
    batch = next(iter(ImageBatches(images, LABELS, config=model.config).load()))
    loss, sums = model.eval().loss(batch, step=None)
    probabilities = model.predict(images[:8])
    nats = -np.log(probabilities[np.arange(8), LABELS[:8]])
    assert loss.item() == pytest.approx(nats.mean(), rel=1e-5)
    assert float(sums["loss"][0]) == pytest.approx(nats.sum(), rel=1e-5)
    assert float(sums["accuracy"][0]) == (probabilities.argmax(axis=1) == LABELS[:8]).sum()

    model.train()
    logits = model(batch.images).log_softmax(dim=1)
    target = torch.nn.functional.one_hot(batch.labels, 3) * 0.7 + 0.1
    wanted = -(target * logits).sum(dim=1).mean()
    torch.testing.assert_close(model.loss(batch, step=0)[0], wanted)


def test_predict_takes_drawings_or_pictures_and_leaves_the_mode(model, drawings, images):
    probabilities = model.predict(drawings)
    assert probabilities.shape == (24, 3) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.predict(images), probabilities)
    assert model.training
    one_by_one = np.concatenate([model.predict([drawing]) for drawing in drawings[:3]])
    np.testing.assert_allclose(one_by_one, probabilities[:3], atol=1e-5)
    many = model.eval().predict(np.repeat(images, 11, axis=0))
    np.testing.assert_allclose(many[::11], probabilities, atol=1e-5)
    assert not model.training
    assert model.predict([]).shape == (0, 3)
    with pytest.raises(ValueError, match="the model takes"):
        model.train().predict(np.zeros((2, 30, 30), np.uint8))
    assert model.training


def test_learning_rate_falls_along_a_cosine(model):
    config = model.config
    rates = [model.learning_rate(0, progress=share) for share in (0.0, 0.25, 0.5, 1.0)]
    assert rates[0] == config.learning_rate and rates[3] == config.lr_min
    assert rates[2] == pytest.approx((config.learning_rate + config.lr_min) / 2)
    assert rates == sorted(rates, reverse=True)


def make_generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_augment_without_amounts_changes_nothing(images):
    config = make_config(shift=0.0, rotate=0.0, zoom=0.0, flip_prob=0.0)
    batch = torch.from_numpy(images)[:, None]
    same = augment(batch, generator=make_generator(), config=config)
    torch.testing.assert_close(same, batch, atol=1, rtol=0)
    mirrored = augment(
        batch, generator=make_generator(), config=dataclasses.replace(config, flip_prob=1.0)
    )
    torch.testing.assert_close(mirrored, batch.flip(3), atol=1, rtol=0)


@pytest.mark.parametrize(
    ("amounts", "moved", "turned", "grown"),
    [
        ({"shift": 0.1}, 0.1 * 28, 0, 0),
        ({"rotate": 20.0}, 0, 20, 0),
        ({"zoom": 0.2}, 0, 0, 0.2),
    ],
)
def test_augment_stays_within_its_amounts(amounts, moved, turned, grown):
    still = {"shift": 0.0, "rotate": 0.0, "zoom": 0.0, "flip_prob": 0.0}
    bar = raster.rasterize([[[0, 100], [0, 0]]], line_width=4.0)[8:20].astype(np.float64)
    image = np.zeros((28, 28))
    image[8:20, 6:22] = bar[:, 6:22]  # room for every move
    batch = torch.from_numpy(image.round().astype(np.uint8))[None, None].repeat(200, 1, 1, 1)
    result = augment(batch, generator=make_generator(), config=make_config(**still | amounts))

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
    joined = torch.cat([batch.images for batch in batches.load()])[:, 0]
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
    np.testing.assert_allclose(images_of(split, 28).astype(int), images.astype(int), atol=1)


def test_features_are_what_the_last_layer_sees(model, drawings):
    features = model.features(drawings[:5])
    with torch.no_grad():
        logits = model.head(torch.from_numpy(features))
    np.testing.assert_allclose(
        logits.softmax(dim=1).numpy(), model.predict(drawings[:5]), atol=1e-6
    )
