"""Controls are moved as a person would, and what the player got is looked at."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from defusedxml.ElementTree import fromstring
from matplotlib.colors import rgb_to_hsv, to_rgb
from vaes import SCALE, SMALL, make_vae

from doodlelib.analysis import latent
from doodlelib.config import VAEConfig, read_config
from doodlelib.data.sample import make_drawings
from doodlelib.lab import explorers
from doodlelib.lab.controls import Controls, Message
from doodlelib.lab.explorers import MARGIN, MOST, WIDTH, Dots, LatentMap
from doodlelib.lab.player import Player, Stage
from doodlelib.models import checkpoint
from doodlelib.models.vae import SketchVAE
from doodlelib.viz.plots import word_colors

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


@pytest.mark.parametrize("far", [(3.0, 4.0), (90.0, 4.0)])
def test_dots_keep_their_distances_and_fill_the_page(far: tuple[float, float]) -> None:
    points = np.array([[0.0, 0.0], far, [1.0, -2.0]])
    dots = Dots(points, ["a"] * 3, DRAWINGS[:3])
    x, y = np.array(dots.places).T
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', dots.picture)
    width, height = map(int, size.groups())
    assert width == WIDTH and height <= MOST
    fills = np.ptp(np.stack([x, y]), axis=1) == [WIDTH - 2 * MARGIN, MOST - 2 * MARGIN]
    assert fills.any()
    assert MARGIN <= y.min() < y.max() <= height - MARGIN
    assert y[1] < y[0] < y[2]  # y runs up
    drawn = np.hypot(x[1] - x[0], y[1] - y[0]) / np.hypot(x[2] - x[0], y[2] - y[0])
    assert drawn == pytest.approx(np.hypot(*far) / 5**0.5, rel=1e-2)
    np.testing.assert_allclose(dots.from_page(dots.places[1]), far, atol=0.1)


def test_each_word_has_a_sign_a_hue_and_a_name_of_its_own() -> None:
    words = [f"<word {i}>" for i in range(12)]
    labels = [word for word in words for _ in range(2)]
    points = np.random.default_rng(0).normal(0, 0.1, (24, 2))  # all in one heap
    picture = fromstring(Dots(points, labels, DRAWINGS).to_html())
    svg = "{http://www.w3.org/2000/svg}"
    dots = [(dot.get("d"), dot.get("fill")) for dot in picture.iter(f"{svg}path")]
    assert len(dots) == 24 and len(set(dots)) == 12
    hues = sorted(rgb_to_hsv(to_rgb(color))[0] for _, color in set(dots))
    assert np.diff([*hues, hues[0] + 1]).min() > 0.02
    assert {color for _, color in dots} == set(word_colors(words).values())  # as in the figure
    names = list(picture.iter(f"{svg}text"))
    assert {name.text for name in names} == set(words)
    at = np.array([[float(name.get("x")), float(name.get("y"))] for name in names])
    apart = np.abs(at[:, None] - at[None])[np.triu_indices(12, 1)]
    assert ((apart[:, 0] >= 79) | (apart[:, 1] >= 17)).all()  # no name on another
    legend = [span.text or "".join(span.itertext()) for span in picture.iter("span")]
    assert [text.strip() for text in legend] == sorted(words)


def test_a_drawing_of_one_s_own_is_a_star_beside_its_like() -> None:
    class Pad:
        drawing = DRAWINGS[13]

    shown = make_map(steps=3, pad=Pad())
    assert shown.dots.has_own
    shown.dots.asked += 1  # the button
    assert shown.dots.labels[-1] == "yours" and shown.dots.chosen == [24]
    assert shown.dots.places[-1] == shown.dots.places[13]
    assert "dog" in shown.message.value and "yours" in shown.dots.picture
    assert {"cat", "dog", "yours"} == {*re.findall(r">(\w+)</text>", shown.dots.picture)}
    shown.dots.chosen = [24, 0]
    path = latent.path(*make_vae().encode([DRAWINGS[13], DRAWINGS[0]]), steps=3)
    settings = {"temperature": 0.1, "time_temperature": 0.1, "seed": 0}
    doodles = make_vae().decode(path, word=["dog", "dog", "cat"], **settings)
    assert shown.player.strokes == Player(doodles).strokes
    assert shown.player.along == "From yours to cat"


def test_the_button_for_an_empty_pad_says_so() -> None:
    class Pad:
        @property
        def drawing(self) -> list:
            raise ValueError("draw something first")

    shown = make_map(pad=Pad())
    with pytest.raises(ValueError, match="draw something"):
        shown.dots.asked += 1
    assert "draw something first" in shown.message.value and len(shown.dots.labels) == 24


def test_the_model_draws_what_lies_at_the_cursor() -> None:
    shown, vae = make_map(), make_vae()
    before = shown.player.strokes
    z = vae.encode(DRAWINGS)
    for place, is_played in (([300.0, 100.0], False), ([120.0, 150.0], True)):
        shown.dots.cursor = [*place, is_played]
        at = shown._plane.inverse_transform(shown.dots.from_page(place)[None])
        here = torch.from_numpy(at).to(z)
        word = (["cat"] * 12 + ["dog"] * 12)[int((z - here).norm(dim=1).argmin())]
        cool = {"temperature": 0.1, "time_temperature": 0.1, "seed": 0}
        doodle = vae.decode(torch.cat([here, here]), word=word, **cool)[0]
        expected = [*place, explorers.outline(doodle), f"drawn here, near {word}"]
        assert shown.dots.decoded == expected
        assert (shown.player.strokes != before) == is_played
    assert shown.player.strokes == Player([doodle]).strokes and shown.player.along == ""


def test_three_temperatures_stand_side_by_side_with_one_seed() -> None:
    vae = make_vae()
    stage = explorers.temperature_explorer(vae, n=2, word="cat", temperature=0.5, seed=3)
    controls, player = child(stage, Controls), child(stage, Player)
    assert len(stage.doodles) == 2 and player.word == "cat"
    controls.set(compare="temperature")
    assert player.columns == 3 and player.titles == ["0.20", "0.50", "0.80"] * 2
    for i, temperature in enumerate((0.2, 0.5, 0.8)):
        drawings = vae.generate(2, word="cat", temperature=temperature, seed=3)
        assert player.strokes[i::3] == Player(drawings).strokes
    controls.set(temperature=0.0)
    assert player.titles[:3] == ["0.00", "0.30", "0.60"]  # none is below zero
    controls.set(n=24)
    assert len(stage.doodles) == 24  # eight rows
    controls.set(compare="", n=1)
    assert player.columns == 6 and player.titles == [""]


def test_another_checkpoint_brings_its_own_words(tmp_path: Path) -> None:
    config = read_config(VAEConfig, **SMALL, class_conditioning=True)
    other = SketchVAE(config, words=["dog", "owl"], scale=SCALE, simplification={}).eval()
    checkpoint.save(tmp_path / "other.pt", other)
    path = str(tmp_path / "other.pt")
    stage = explorers.temperature_explorer(make_vae(), n=1, word="cat", checkpoints=[path])
    controls = child(stage, Controls)
    assert controls.fields["checkpoint"]["options"] == {"": "as given", path: path}
    controls.set(checkpoint=path)
    assert controls.values["word"] == ""  # it does not know cats
    assert list(controls.fields["word"]["options"]) == ["", "dog", "owl"]
    controls.set(word="owl")
    drawings = checkpoint.load_vae(path).generate(1, word="owl", seed=0)
    assert child(stage, Player).strokes == Player(drawings).strokes
    controls.set(checkpoint="")
    assert list(controls.fields["word"]["options"]) == ["", "cat", "dog"]


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
