import dataclasses

import numpy as np
import pytest
import torch

from doodlelib import raster
from doodlelib.analysis import metrics
from doodlelib.config import CNNConfig, read_config
from doodlelib.data import sample
from doodlelib.models import checkpoint
from doodlelib.models.cnn import DoodleCNN, ImageBatch
from doodlelib.strokes import without_time
from doodlelib.training.batches import ImageBatches

WORDS = ["cat", "car", "fish"]


def make_config(**overrides) -> CNNConfig:
    small = read_config(CNNConfig, width=4, batch_size=8, dropout=0.0, label_smoothing=0.0)
    return dataclasses.replace(small, **overrides)


@pytest.fixture(scope="module")
def drawings():
    return [record.drawing for word in WORDS for record in sample.make_drawings(word, 8)]


@pytest.fixture(scope="module")
def images(drawings):
    return raster.rasterize_many(drawings)[:, None]


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
    batch = ImageBatch(torch.from_numpy(images), torch.from_numpy(LABELS).long())
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
    np.testing.assert_array_equal(model.predict(images[:, 0]), probabilities)
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


def test_learning_rate_rises_and_falls_along_a_cosine(model):
    config = dataclasses.replace(model.config, warmup=0.2)
    model.config = config
    rates = [model.learning_rate(0, progress=share) for share in (0.0, 0.1, 0.2, 0.4, 0.6, 1.0)]
    middle = pytest.approx((config.learning_rate + config.lr_min) / 2)
    assert rates[0] == config.lr_min and rates[1] == middle and rates[2] == config.learning_rate
    assert rates[2] > rates[3] > rates[4] == middle and rates[5] == config.lr_min


def test_timed_channels_want_times(drawings):
    model = DoodleCNN(make_config(channels="timed"), WORDS)
    probabilities = model.predict(drawings[:3])
    pictures = raster.rasterize_timed(drawings[:3])
    np.testing.assert_array_equal(model.predict(pictures), probabilities)
    hurried = [[[x, y, np.asarray(t) / 3] for x, y, t in drawing] for drawing in drawings[:3]]
    assert not np.allclose(model.predict(hurried), probabilities, atol=1e-6)
    with pytest.raises(ValueError, match="drawing 1 is untimed"):
        model.predict([drawings[0], without_time(drawings[1])])
    with pytest.raises(ValueError, match=r"\(1, 28, 28\), the model takes \(3, 28, 28\)"):
        model.predict(pictures[:, 0])


def test_calibration_finds_a_temperature_that_is_known(model):
    """Labels drawn from the model's own probabilities at temperature 2."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3000, 28, 28), dtype=np.uint8)
    model.head.weight.data *= 200  # sure of itself, and too sure
    model.temperature.fill_(2.0)
    probabilities = model.predict(images).astype(np.float64)
    true = np.array([rng.choice(3, p=row / row.sum()) for row in probabilities])
    model.temperature.fill_(1.0)
    before = metrics.calibration_error(metrics.calibration(true, model.predict(images)))
    assert model.calibrate(images, true) == pytest.approx(2, rel=0.15)
    after = metrics.calibration_error(metrics.calibration(true, model.predict(images)))
    assert after < 0.03 < before


def test_the_temperature_is_kept(model, tmp_path, images):
    model.temperature.fill_(3.0)
    again = checkpoint.load_cnn(checkpoint.save(tmp_path / "cnn.pt", model))
    assert again.temperature.item() == 3
    np.testing.assert_array_equal(again.predict(images), model.predict(images))


def test_features_are_what_the_last_layer_sees(model, drawings):
    features = model.features(drawings[:5])
    with torch.no_grad():
        logits = model.head(torch.from_numpy(features))
    np.testing.assert_allclose(
        logits.softmax(dim=1).numpy(), model.predict(drawings[:5]), atol=1e-6
    )
