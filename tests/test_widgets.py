"""Sliders are moved as a person would, and the picture is looked at."""

import io
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from doodlelib import latent, widgets
from doodlelib.config import VAEConfig, read_config
from doodlelib.strokes import Scale
from doodlelib.vae import SketchVAE

SMALL = {
    "latent_size": 8,
    "enc_hidden_size": 8,
    "dec_hidden_size": 16,
    "num_gmm_modes": 3,
    "max_seq_len": 20,
}
DRAWING = [[[0, 100, 100], [0, 0, 50], [0, 400, 600]], [[20, 30], [10, 10], [1600, 2000]]]


def make_vae(**overrides: Any) -> SketchVAE:
    torch.manual_seed(0)
    values: dict[str, Any] = SMALL | {"class_conditioning": True} | overrides
    config = read_config(VAEConfig, **values)
    scale = Scale(xy=30.0, segment_mean=4.5, segment_std=0.9, pause_mean=6.0, pause_std=0.8)
    return SketchVAE(config, words=["cat", "dog"], scale=scale, simplification={})


def control(box: ipywidgets.VBox, label: str) -> Any:
    return next(c for c in box.children if getattr(c, "description", None) == label)


def image_of(box: ipywidgets.VBox) -> bytes:
    return bytes(next(c for c in box.children if isinstance(c, ipywidgets.Image)).value)


def message_of(box: ipywidgets.VBox) -> str:
    return next(c for c in box.children if type(c) is ipywidgets.HTML).value


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"))


def test_picture_shows_the_drawings_and_leaves_no_figure() -> None:
    one, two = (pixels(widgets.picture([DRAWING] * n)) for n in (1, 2))
    assert one.min() < 128 < one.max()
    assert two.shape[1] > one.shape[1] and two.shape[0] == one.shape[0]
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("Shape temperature", 1.2),
        ("Time temperature", 0.0),
        ("Word", "dog"),
        ("Doodles", 3),
        ("Seed", 5),
    ],
)
def test_each_control_changes_the_picture_and_back(label: str, value: object) -> None:
    box = widgets.temperature_explorer(make_vae(), n=2, temperature=0.8)
    first, before = image_of(box), control(box, label).value
    pixels(first)
    control(box, label).value = value
    assert image_of(box) != first
    control(box, label).value = before
    assert image_of(box) == first  # nothing but the controls decides
    assert message_of(box) == "" and plt.get_fignums() == []


def test_what_is_shown_is_what_the_model_generates() -> None:
    vae = make_vae()
    box = widgets.temperature_explorer(vae, n=2, word="cat", temperature=0.3, seed=4)
    drawings = vae.generate(2, word="cat", temperature=0.3, time_temperature=1.0, seed=4)
    assert image_of(box) == widgets.picture(drawings)


def test_computing_waits_until_the_slider_is_let_go() -> None:
    box = widgets.temperature_explorer(make_vae(), n=1)
    for label in ("Shape temperature", "Time temperature", "Doodles"):
        assert control(box, label).continuous_update is False


def test_a_model_without_words_offers_none() -> None:
    box = widgets.temperature_explorer(make_vae(class_conditioning=False), n=1)
    assert control(box, "Word").disabled and control(box, "Word").options == (("any", ""),)


def test_explorers_keep_apart() -> None:
    vae = make_vae()
    one, other = (widgets.temperature_explorer(vae, n=1, seed=seed) for seed in (1, 2))
    before = image_of(other)
    control(one, "Seed").value = 3
    assert image_of(other) == before


def test_an_error_reaches_the_person_and_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = make_vae()
    box = widgets.temperature_explorer(vae, n=1)
    before = image_of(box)

    def fail(n: int, **_: object) -> list:
        raise RuntimeError("no <ink> left")

    with monkeypatch.context() as patched:
        patched.setattr(vae, "generate", fail)
        with pytest.raises(RuntimeError, match="ink"):
            control(box, "Seed").value = 9
        assert "RuntimeError: no &lt;ink&gt; left" in message_of(box)
        assert image_of(box) == before
    control(box, "Seed").value = 10
    assert message_of(box) == "" and image_of(box) != before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"word": "cow"}, "'cow'.*'cat', 'dog'"),
        ({"n": 0}, "Doodles: 0"),
        ({"temperature": -1.0}, "Shape temperature: -1.0"),
        ({"time_temperature": 9.0}, "Time temperature: 9.0"),
    ],
)
def test_controls_refuse_what_they_cannot_show(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        widgets.temperature_explorer(make_vae(), **wrong)


def test_interpolation_follows_the_hand_without_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, asked = make_vae(), []
    drawings = [[[[0, 100], [0, 25 * step], [0, 400]]] for step in range(5)]

    def decode(z: torch.Tensor, **_: object) -> list:
        asked.append(z)
        return drawings

    monkeypatch.setattr(vae, "decode", decode)
    start, end = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    box = widgets.interpolation_explorer(vae, start, end, steps=5)
    slider = control(box, "From start to end")
    assert slider.continuous_update is True
    shown = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        slider.value = share
        shown.append(image_of(box))
    assert shown == [widgets.picture([drawing], size=3.0) for drawing in drawings]
    assert len(set(shown)) == 5 and plt.get_fignums() == []
    (z,) = asked  # once, beforehand
    torch.testing.assert_close(z, latent.path(start, end, steps=5))


def test_interpolation_between_drawings_of_a_model() -> None:
    vae = make_vae()
    box = widgets.interpolation_explorer(vae, *vae.encode([DRAWING, DRAWING[:1]]), steps=2)
    assert pixels(image_of(box)).min() < 128


def test_interpolation_needs_two_places() -> None:
    with pytest.raises(ValueError, match="not 1"):
        widgets.interpolation_explorer(make_vae(), torch.zeros(8), torch.ones(8), steps=1)
