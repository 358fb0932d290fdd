"""Paths, means and projections in the latent space."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vaes import make_vae

from doodlelib.analysis import latent
from doodlelib.strokes import to_stroke4

VALUES = st.floats(-10, 10, width=32)
VECTORS = st.lists(VALUES, min_size=3, max_size=3).map(torch.tensor)


def test_slerp_on_the_circle() -> None:
    a, b = torch.tensor([1.0, 0]), torch.tensor([0.0, 1])
    for t in (0.0, 0.25, 0.5, 1.0):
        angle = t * math.pi / 2
        expected = torch.tensor([math.cos(angle), math.sin(angle)])
        torch.testing.assert_close(latent.slerp(a, b, t), expected)


def test_slerp_of_gaussian_latents_keeps_their_length() -> None:
    a, b = torch.randn(2, 50, 128, generator=torch.Generator().manual_seed(0))
    arc, chord = latent.slerp(a, b, 0.5), torch.lerp(a, b, 0.5)
    assert arc.norm(dim=1).mean() == pytest.approx(math.sqrt(128), rel=0.02)
    assert chord.norm(dim=1).mean() < 0.75 * math.sqrt(128)
    torch.testing.assert_close(arc[7], latent.slerp(a[7], b[7], 0.5))


@settings(deadline=None)
@given(a=VECTORS, b=VECTORS, t=st.floats(0, 1))
def test_slerp_is_finite_and_ends_where_it_should(
    a: torch.Tensor, b: torch.Tensor, t: float
) -> None:
    assert latent.slerp(a, b, t).isfinite().all()
    torch.testing.assert_close(latent.slerp(a, b, 0.0), a, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(latent.slerp(a, b, 1.0), b, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(
        latent.slerp(a, b, t), latent.slerp(b, a, 1 - t), atol=1e-2, rtol=1e-3
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1.0, 2], [1.0, 2]),
        ([1.0, 2], [2.0, 4]),
        ([1.0, 2], [-1.0, -2]),
        ([0.0, 0], [0.0, 0]),
    ],
)
def test_without_an_arc_slerp_is_straight(a: list[float], b: list[float]) -> None:
    ends = torch.tensor(a), torch.tensor(b)
    torch.testing.assert_close(latent.slerp(*ends, 0.3), torch.lerp(*ends, 0.3))


def test_slerp_is_smooth_where_the_arc_grows_straight() -> None:
    a = torch.tensor([1.0, 0])
    for angle in np.geomspace(1e-5, 1e-2, 30):
        b = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float32)
        expected = torch.tensor([math.cos(angle * 0.4), math.sin(angle * 0.4)])
        torch.testing.assert_close(latent.slerp(a, b, 0.4), expected.float(), atol=1e-6, rtol=0)


def test_path_has_both_ends_and_even_steps() -> None:
    a, b = torch.tensor([3.0, 0, 0]), torch.tensor([0.0, 3, 0])
    way = latent.path(a, b, steps=7)
    assert way.shape == (7, 3)
    torch.testing.assert_close(way[0], a)
    torch.testing.assert_close(way[-1], b)
    strides = way.diff(dim=0).norm(dim=1)
    torch.testing.assert_close(strides, strides[:1].expand(6))


def test_a_path_has_two_ends() -> None:
    with pytest.raises(ValueError, match="not 1"):
        latent.path(torch.zeros(3), torch.zeros(3), steps=1)


def test_a_path_is_decoded_with_the_nearer_word() -> None:
    vae = make_vae()
    start, end = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    z, settings = latent.path(start, end, steps=3), {"temperature": 0.1, "time_temperature": 0.1}
    for words, nearer in (
        (("cat", "dog"), ["cat", "cat", "dog"]),
        (("cat", None), None),
        ((None, None), None),
    ):
        decoded = latent.decode_path(vae, start, end, steps=3, words=words, seed=4)
        expected = vae.decode(z, word=nearer, seed=4, **settings)
        for drawing, other in zip(decoded, expected, strict=True):
            np.testing.assert_array_equal(to_stroke4(drawing), to_stroke4(other))
