"""Controls are moved as a person would, and what the player got is looked at."""

from typing import Any

import numpy as np
import pytest
import torch
from defusedxml.ElementTree import fromstring
from vaes import make_vae

from doodlelib.analysis import latent
from doodlelib.data.sample import make_drawings
from doodlelib.lab import explorers
from doodlelib.lab.controls import Controls, Message
from doodlelib.lab.explorers import HEIGHT, MARGIN, WIDTH, Dots, LatentMap
from doodlelib.lab.player import Player, Stage

DRAWING = [[[0, 100, 100], [0, 0, 50], [0, 400, 600]], [[20, 30], [10, 10], [1600, 2000]]]
RECORDS = [record for word in ("star", "face") for record in make_drawings(word, 12)]
DRAWINGS = [record.drawing for record in RECORDS]


def child(stage: Stage, kind: type) -> Any:
    return next(one for one in stage.children if isinstance(one, kind))


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 1.2), ("time_temperature", 0.0), ("word", "dog"), ("n", 3), ("seed", 5)],
)
def test_each_control_changes_the_doodles_and_back(name: str, value: object) -> None:
    stage = explorers.temperature_explorer(make_vae(), n=2, temperature=0.8)
    controls, player = child(stage, Controls), child(stage, Player)
    first, before = player.strokes, controls.values[name]
    controls.set(**{name: value})
    assert player.strokes != first
    controls.set(**{name: before})
    assert player.strokes == first  # nothing but the controls decides
    assert child(stage, Message).value == ""


def test_what_is_shown_is_what_the_model_generates() -> None:
    vae = make_vae()
    stage = explorers.temperature_explorer(vae, n=2, word="cat", temperature=0.3, seed=4)
    drawings = vae.generate(2, word="cat", temperature=0.3, time_temperature=1.0, seed=4)
    assert child(stage, Player).strokes == Player(drawings).strokes


def test_a_model_without_words_offers_none() -> None:
    stage = explorers.temperature_explorer(make_vae(class_conditioning=False), n=1)
    assert child(stage, Controls).fields["word"]["options"] == {"": "any"}


def test_explorers_keep_apart() -> None:
    vae = make_vae()
    one, other = (explorers.temperature_explorer(vae, n=1, seed=seed) for seed in (1, 2))
    before = child(other, Player).strokes
    child(one, Controls).set(seed=3)
    assert child(other, Player).strokes == before


def test_an_error_reaches_the_person_and_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = make_vae()
    stage = explorers.temperature_explorer(vae, n=1)
    controls, player, message = (child(stage, kind) for kind in (Controls, Player, Message))
    before = player.strokes

    def fail(n: int, **_: object) -> list:
        raise RuntimeError("no ink left")

    with monkeypatch.context() as patched:
        patched.setattr(vae, "generate", fail)
        with pytest.raises(RuntimeError, match="ink"):
            controls.set(seed=9)
        assert "RuntimeError: no ink left" in message.value
        assert player.strokes == before
    controls.set(seed=10)
    assert message.value == "" and player.strokes != before


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
        explorers.temperature_explorer(make_vae(), **wrong)


def test_interpolation_is_drawn_beforehand() -> None:
    vae = make_vae()
    player = explorers.interpolation_explorer(vae, DRAWING, DRAWING[:1], steps=3, seed=2)
    path = latent.path(*vae.encode([DRAWING, DRAWING[:1]]), steps=3)
    drawings = vae.decode(path, temperature=0.1, time_temperature=0.1, seed=2)
    assert player.strokes == Player(drawings).strokes
    assert player.along == "From start to end" and player.share == 0


def test_interpolation_between_drawings_takes_a_word_for_each_end() -> None:
    vae = make_vae()
    player = explorers.interpolation_explorer(
        vae, DRAWING, DRAWING[:1], word=("dog", "cat"), steps=4
    )
    path = latent.path(*vae.encode([DRAWING, DRAWING[:1]]), steps=4)
    settings = {"temperature": 0.1, "time_temperature": 0.1, "seed": 0}
    conditioned = vae.decode(path, word=["dog", "dog", "cat", "cat"], **settings)
    assert player.strokes == Player(conditioned).strokes
    assert player.along == "From dog to cat"


def test_interpolation_needs_two_places() -> None:
    with pytest.raises(ValueError, match="not 1"):
        explorers.interpolation_explorer(make_vae(), DRAWING, DRAWING[:1], steps=1)


def make_map(labels: list[str] | None = None, **settings: Any) -> LatentMap:
    return LatentMap(make_vae(), DRAWINGS, labels or ["cat"] * 12 + ["dog"] * 12, **settings)


def test_dots_keep_their_distances_and_stay_on_the_page() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, -2.0]])
    x, y = np.array(Dots(points, ["a"] * 3, DRAWINGS[:3]).places).T
    assert MARGIN <= x.min() < x.max() <= WIDTH - MARGIN
    assert y.min() == MARGIN and y.max() == HEIGHT - MARGIN
    assert y[1] < y[0] < y[2]  # y runs up
    assert np.hypot(x[1] - x[0], y[1] - y[0]) / np.hypot(x[2] - x[0], y[2] - y[0]) == pytest.approx(
        5 / 5**0.5, rel=1e-3
    )


def test_the_picture_has_a_dot_a_drawing_and_a_sign_a_word() -> None:
    words = [f"<word {i}>" for i in range(12)]
    labels = [word for word in words for _ in range(2)]
    points = np.arange(48.0).reshape(24, 2)
    picture = fromstring(Dots(points, labels, DRAWINGS).to_html())
    svg = "{http://www.w3.org/2000/svg}"
    dots = [(dot.get("d"), dot.get("fill")) for dot in picture.iter(f"{svg}path")]
    assert len(dots) == 24 + 12 and len(set(dots)) == 12  # with the legend's
    assert {name.text for name in picture.iter(f"{svg}text")} == set(words)


def test_at_first_two_words_are_chosen() -> None:
    assert make_map().dots.chosen == [0, 12]
    assert make_map(["cat"] * 24).dots.chosen == [0, 1]


def test_choosing_two_draws_the_path_between_them() -> None:
    shown = make_map(steps=5)
    first = shown.player.strokes
    shown.dots.chosen = [3]
    assert shown.dots.path == [] and shown.player.strokes == first  # one is no line
    shown.dots.chosen = [3, 20]
    vae = make_vae()
    path = latent.path(*vae.encode([DRAWINGS[3], DRAWINGS[20]]), steps=5)
    words = ["cat", "cat", "cat", "dog", "dog"]
    drawings = vae.decode(path, word=words, temperature=0.1, time_temperature=0.1, seed=0)
    assert shown.player.strokes == Player(drawings).strokes
    assert shown.player.along == "From cat to dog"


def test_the_path_starts_and_ends_at_its_dots_and_lies_where_its_latents_do() -> None:
    shown = make_map(steps=5)
    places, line = np.array(shown.dots.places), np.array(shown.dots.path)
    np.testing.assert_allclose(line[[0, -1]], places[[0, 12]], atol=0.2)
    z = make_vae().encode(DRAWINGS).numpy()
    directions = np.linalg.svd(z - z.mean(0), full_matrices=False)[2][:2]  # PCA, but for the sign
    dots = (z - z.mean(0)) @ directions.T
    path = (latent.path(*torch.from_numpy(z[[0, 12]]), steps=5).numpy() - z.mean(0)) @ directions.T
    scale = np.ptp(places, axis=0) / np.ptp(dots, axis=0)
    expected = (path - (dots.max(0) + dots.min(0)) / 2) * scale
    middle = (places.max(0) + places.min(0)) / 2
    np.testing.assert_allclose(np.abs(line - middle), np.abs(expected), atol=0.3)


def test_unknown_words_condition_nothing() -> None:
    shown = make_map(["cow"] * 12 + ["dog"] * 12, steps=2)
    vae = make_vae()
    path = vae.encode([DRAWINGS[0], DRAWINGS[12]])
    drawings = vae.decode(path, temperature=0.1, time_temperature=0.1, seed=0)
    assert shown.player.strokes == Player(drawings).strokes


def test_every_drawing_has_a_label() -> None:
    with pytest.raises(ValueError, match="23 labels for 24 drawings"):
        make_map(["cat"] * 23)
