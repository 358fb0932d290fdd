"""Controls are moved as a person would, and what the player got is looked at."""

from typing import Any

import pytest
import torch
from vaes import make_vae

from doodlelib.analysis import latent
from doodlelib.lab import explorers
from doodlelib.lab.controls import Controls, Message
from doodlelib.lab.player import Player, Stage

DRAWING = [[[0, 100, 100], [0, 0, 50], [0, 400, 600]], [[20, 30], [10, 10], [1600, 2000]]]


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


def test_interpolation_is_drawn_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, asked = make_vae(), []
    drawings = [[[[0, 100], [0, 25 * step], [0, 400]]] for step in range(5)]

    def decode(z: torch.Tensor, **settings: object) -> list:
        asked.append((z, settings["word"]))
        return drawings

    monkeypatch.setattr(vae, "decode", decode)
    start, end = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    player = explorers.interpolation_explorer(vae, start, end, steps=5)
    assert player.strokes == Player(drawings).strokes
    assert player.along == "From start to end" and player.share == 0
    ((z, word),) = asked  # once
    torch.testing.assert_close(z, latent.path(start, end, steps=5))
    assert word is None


def test_interpolation_between_drawings_or_words_has_their_latents_at_its_ends() -> None:
    vae = make_vae()
    player = explorers.interpolation_explorer(vae, DRAWING, DRAWING[:1], steps=3, seed=2)
    ends = vae.encode([DRAWING, DRAWING[:1]])
    settings = {"temperature": 0.1, "time_temperature": 0.1, "seed": 2}
    path = latent.path(*ends, steps=3)
    assert player.strokes == Player(vae.decode(path, **settings)).strokes

    player = explorers.interpolation_explorer(vae, "cat", "dog", steps=3, seed=2)
    ends = [vae.encode(vae.generate(1, word=word, seed=2))[0] for word in ("cat", "dog")]
    told = vae.decode(latent.path(*ends, steps=3), word=["cat", "cat", "dog"], **settings)
    assert player.strokes == Player(told).strokes
    assert player.along == "From cat to dog"


def test_interpolation_between_drawings_may_be_told_the_word_of_each() -> None:
    vae = make_vae()
    player = explorers.interpolation_explorer(
        vae, DRAWING, DRAWING[:1], word=("dog", "cat"), steps=4
    )
    path = latent.path(*vae.encode([DRAWING, DRAWING[:1]]), steps=4)
    settings = {"temperature": 0.1, "time_temperature": 0.1, "seed": 0}
    told = vae.decode(path, word=["dog", "dog", "cat", "cat"], **settings)
    assert player.strokes == Player(told).strokes
    assert player.along == "From dog to cat"


def test_interpolation_needs_two_places() -> None:
    with pytest.raises(ValueError, match="not 1"):
        explorers.interpolation_explorer(make_vae(), torch.zeros(8), torch.ones(8), steps=1)
