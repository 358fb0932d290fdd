"""Where the dots lie, and the way between two that are chosen."""

from typing import Any

import numpy as np
import pytest
import torch
from defusedxml.ElementTree import fromstring
from vaes import make_vae

from doodlelib.analysis import latent
from doodlelib.data.sample import make_drawings
from doodlelib.lab.latent_map import HEIGHT, MARGIN, WIDTH, Dots, LatentMap
from doodlelib.lab.player import Player

RECORDS = [record for word in ("star", "face") for record in make_drawings(word, 12)]
DRAWINGS = [record.drawing for record in RECORDS]


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
    assert len(dots) == 24 and len(set(dots)) == 12
    assert {name.text for name in picture.iter(f"{svg}text")} == set(words)


def test_at_first_two_words_are_chosen() -> None:
    assert make_map().dots.chosen == [0, 12]
    assert make_map(["cat"] * 24).dots.chosen == [0, 1]


def test_choosing_two_draws_the_way_between_them() -> None:
    shown = make_map(steps=5)
    first = shown.player.strokes
    shown.dots.chosen = [3]
    assert shown.dots.way == [] and shown.player.strokes == first  # one is no way
    shown.dots.chosen = [3, 20]
    vae = make_vae()
    path = latent.path(*vae.encode([DRAWINGS[3], DRAWINGS[20]]), steps=5)
    told = ["cat", "cat", "cat", "dog", "dog"]
    drawings = vae.decode(path, word=told, temperature=0.1, time_temperature=0.1, seed=0)
    assert shown.player.strokes == Player(drawings).strokes
    assert shown.player.along == "From cat to dog"


def test_the_way_starts_and_ends_at_its_dots_and_lies_where_its_latents_do() -> None:
    shown = make_map(steps=5)
    places, way = np.array(shown.dots.places), np.array(shown.dots.way)
    np.testing.assert_allclose(way[[0, -1]], places[[0, 12]], atol=0.2)
    z = make_vae().encode(DRAWINGS).numpy()
    directions = np.linalg.svd(z - z.mean(0), full_matrices=False)[2][:2]  # PCA, but for the sign
    dots = (z - z.mean(0)) @ directions.T
    path = (latent.path(*torch.from_numpy(z[[0, 12]]), steps=5).numpy() - z.mean(0)) @ directions.T
    scale = np.ptp(places, axis=0) / np.ptp(dots, axis=0)
    expected = (path - (dots.max(0) + dots.min(0)) / 2) * scale
    middle = (places.max(0) + places.min(0)) / 2
    np.testing.assert_allclose(np.abs(way - middle), np.abs(expected), atol=0.3)


def test_words_that_the_model_does_not_know_are_not_told() -> None:
    shown = make_map(["cow"] * 12 + ["dog"] * 12, steps=2)
    vae = make_vae()
    path = vae.encode([DRAWINGS[0], DRAWINGS[12]])
    drawings = vae.decode(path, temperature=0.1, time_temperature=0.1, seed=0)
    assert shown.player.strokes == Player(drawings).strokes


def test_every_drawing_has_a_label() -> None:
    with pytest.raises(ValueError, match="23 labels for 24 drawings"):
        make_map(["cat"] * 23)
