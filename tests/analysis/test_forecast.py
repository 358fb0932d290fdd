"""What the model expects of the next move: densities that hold all of what they should."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

from doodlelib.analysis.forecast import forecast
from doodlelib.data.sample import make_drawings
from doodlelib.models.checkpoint import load_vae
from doodlelib.models.vae import SketchVAE
from doodlelib.simplify import simplify
from doodlelib.strokes import PEN, to_stroke4, without_time

CAT = make_drawings("cat", 1)[0].drawing


@pytest.fixture(scope="module")
def vae() -> SketchVAE:
    return load_vae()


def test_what_is_expected_adds_up_to_one(vae: SketchVAE) -> None:
    rows = to_stroke4(simplify(CAT, **vae.simplification))
    for point in (1, len(rows) // 2, len(rows) - 1):
        seen = forecast(vae, CAT, point, word="cat", size=300)
        assert seen.pen.sum() == pytest.approx(1)
        left, right, bottom, top = seen.extent
        pixel = (right - left) * (bottom - top) / 299**2
        assert 0.8 < seen.position.sum() * pixel < 1.1, "the rest lies beyond the page"
        assert trapezoid(seen.time, np.log(seen.times)) == pytest.approx(1, abs=0.03)
        assert seen.true_time == pytest.approx(rows[point, 2])
        np.testing.assert_allclose(to_stroke4(seen.before), rows[:point])
        np.testing.assert_allclose(seen.target, rows[: point + 1, :2].sum(0))


def test_the_density_at_the_goal_is_the_likelihood(vae: SketchVAE) -> None:
    rows = to_stroke4(simplify(CAT, **vae.simplification))
    point = int(np.flatnonzero(rows[:, PEN] > 0.5)[5])
    seen = forecast(vae, CAT, point, word="cat", size=800)
    left, right, bottom, top = seen.extent
    column = round(799 * (seen.target[0] - left) / (right - left))
    row = round(799 * (seen.target[1] - top) / (bottom - top))
    batch = vae.to_batch([CAT], words=vae.word_indices("cat", 1))
    nats = vae.step_log_likelihood(batch, vae.encode([CAT], see_time=False)).position[0, point - 1]
    assert np.log(seen.position[row, column]) == pytest.approx(float(nats.detach()), abs=0.3)


def test_an_untimed_drawing_has_no_true_time(vae: SketchVAE) -> None:
    assert np.isnan(forecast(vae, without_time(CAT), 3).true_time)


@pytest.mark.parametrize("point", [0, -1, 10_000])
def test_a_point_that_is_not_there_is_refused(vae: SketchVAE, point: int) -> None:
    with pytest.raises(ValueError, match=f"point must be from 1 to .*not {point}"):
        forecast(vae, CAT, point)
