"""The metrics tell real time from made-up time, which is what they are for."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evaluate import frechet_distance
from vaes import make_vae

from doodlelib.analysis import metrics
from doodlelib.analysis.metrics import measure, shape_error
from doodlelib.data.sample import make_drawings
from doodlelib.simplify import simplify
from doodlelib.strokes import Drawing, without_time


def at_constant_speed(drawing: Drawing) -> Drawing:
    """The same shape and total time, the pen at one speed on paper and in the air."""
    points = np.concatenate([np.stack(stroke[:2], 1) for stroke in drawing])
    way = np.concatenate([[0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    times = way / way[-1] * drawing[-1][2][-1]
    ends = np.cumsum([len(stroke[0]) for stroke in drawing])[:-1]
    return [[x, y, t] for (x, y, *_), t in zip(drawing, np.split(times, ends), strict=True)]


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    words = ("cat", "car", "house", "face", "tree")
    return [simplify(r.drawing) for word in words for r in make_drawings(word, 60)]


def test_jsd_of_known_distributions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50_000), rng.normal(size=50_000)
    assert metrics.jsd(a, b) < 0.003
    assert metrics.jsd(a, b + 100) == pytest.approx(1.0, abs=1e-6)
    halves = metrics.jsd(np.repeat([0.0, 1.0], 500), np.zeros(1000))
    assert halves == pytest.approx(0.3113, abs=1e-3)  # of (1/2, 1/2) and (1, 0), in bits


def test_measures_of_a_drawing_by_hand() -> None:
    drawing = [[[0, 30, 30], [0, 40, 50], [0, 100, 120]], [[0], [50], [620]]]
    measures = measure([drawing])
    assert measures.dx.tolist() == [30, 0, -30]
    np.testing.assert_allclose(np.exp(measures.log_speed), [0.5, 0.5])
    np.testing.assert_allclose(np.exp(measures.log_pause), [500])
    np.testing.assert_allclose(np.exp(measures.log_duration), [620])
    np.testing.assert_allclose(measures.pen_up_share, [500 / 620])


def test_the_panel_sees_constant_speed_and_shuffled_time(drawings: list[Drawing]) -> None:
    half, other = drawings[::2], drawings[1::2]
    panel = metrics.time_panel(half, other)
    constant = metrics.time_panel(half, [at_constant_speed(drawing) for drawing in other])
    assert panel.loc["log_speed JSD", "generated"] < 0.03
    assert constant.loc["log_speed JSD", "generated"] > 0.1
    assert abs(panel.loc["length_time_correlation", "generated"]) < 0.6
    assert constant.loc["length_time_correlation", "generated"] > 0.8
    assert panel.loc["timing AUC", "generated"] < 0.65 < constant.loc["timing AUC", "generated"]
    assert panel.loc["shape AUC"].equals(constant.loc["shape AUC"])
    assert list(panel.columns) == ["real", "generated", "floor"]
    assert not panel.isna().any().any()


def test_distances_have_floors(drawings: list[Drawing]) -> None:
    table = metrics.distances(drawings, drawings)
    assert (table["jsd"] < 1e-9).all()
    assert (table["jsd_floor"] > 0).all()
    assert set(table.index) == set(metrics.MARGINALS)


def test_untimed_drawings_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="untimed"):
        measure([without_time(make_drawings("star", 1)[0].drawing)])
    with pytest.raises(ValueError, match="no drawings"):
        measure([])


def test_too_few_drawings_cannot_be_compared(drawings: list[Drawing]) -> None:
    with pytest.raises(ValueError, match="9 real and 20 generated drawings are too few"):
        metrics.time_panel(drawings[:9], drawings[:20])
    assert not metrics.time_panel(drawings[:10], drawings[:10]).isna().all().any()


def test_drawings_without_pauses_have_no_pause_figures() -> None:
    single = [simplify(r.drawing)[:1] for r in make_drawings("star", 30)]
    table = metrics.distances(single, single)
    assert np.isnan(table.loc["log_pause", "jsd"])
    assert table.loc["log_speed", "jsd"] == 0


def test_classification_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    report, confusion = metrics.classification(np.array([0, 1, 1, 1]), probabilities, ["a", "b"])
    assert report.loc["accuracy", "precision"] == 0.75
    assert report.loc["a", "precision"] == 0.5
    assert report.loc["b", "recall"] == pytest.approx(2 / 3)
    assert confusion.loc["b", "a"] == 1


def test_the_three_likeliest_by_hand() -> None:
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.1, 0.2]])
    report, _ = metrics.classification(np.array([2, 2]), probabilities, list("abcd"))
    assert report.loc["top 3", "recall"] == 0.5 and report.loc["accuracy", "recall"] == 0


def test_calibration_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.05, 0.95], [0.6, 0.4], [1.0, 0.0]])
    table = metrics.calibration(np.array([0, 0, 0, 0]), probabilities, bins=5)
    assert table.index.tolist() == [0.6, 0.8]
    assert table["count"].tolist() == [1, 3]
    assert table["accuracy"].tolist() == [1, pytest.approx(2 / 3)]
    error = (0.4 * 1 + abs(2.85 / 3 - 2 / 3) * 3) / 4
    assert metrics.calibration_error(table) == pytest.approx(error)


def test_calibration_in_bins_of_equal_counts() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3) / 2, 103)
    table = metrics.calibration(rng.integers(0, 3, 103), probabilities, bins=10, equal="count")
    assert set(table["count"]) == {10, 11} and table["count"].sum() == 103
    assert table.index.is_monotonic_increasing and table["confidence"].is_monotonic_increasing
    assert (table["confidence"] >= table.index).all()


def test_honest_probabilities_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 20_000)
    labels = (probabilities.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    honest = metrics.calibration_error(metrics.calibration(labels, probabilities))
    sharper = probabilities**2 / (probabilities**2).sum(axis=1, keepdims=True)
    assert honest < 0.02
    assert metrics.calibration_error(metrics.calibration(labels, sharper)) > 0.1


def test_the_exponent_of_speed_and_curvature_is_found() -> None:
    """A spiral passed at speed ~ curvature ** -0.4."""
    angle = np.linspace(0.5, 12, 200)
    x, y = 8 * angle * np.cos(angle), 8 * angle * np.sin(angle)
    radius = 8 * (1 + angle**2) ** 1.5 / (2 + angle**2)  # of curvature
    length = np.hypot(np.diff(x), np.diff(y))
    speed = 0.1 * (radius[1:] + radius[:-1]) ** 0.4
    t = np.concatenate([[0], np.cumsum(length / speed)])
    (exponent,) = measure([[[x, y, t]]]).speed_curvature_exponent
    assert exponent == pytest.approx(-0.4, abs=0.02)
    assert len(measure([[[[0, 9], [0, 0], [0, 9]]]]).speed_curvature_exponent) == 0


def test_frechet_distance_of_normals_whose_distance_is_known() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (40_000, 3)), rng.normal(2, 3, (40_000, 3))
    assert frechet_distance(a, b) == pytest.approx(3 * (2**2 + (3 - 1) ** 2), rel=0.03)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_speed_profile_by_hand() -> None:
    """30 px in 100 ms, then a rest of 50 ms."""
    seconds, speed = metrics.speed_profile([[0, 30, 30], [0, 40, 40], [200, 300, 350]], step_ms=50)
    np.testing.assert_allclose(seconds, [0.25, 0.3, 0.35])
    np.testing.assert_allclose(speed, [500, 500, 0], atol=1e-9)


def test_a_stroke_and_its_simplified_self_have_the_same_steps(drawings: list[Drawing]) -> None:
    for method in ("rdp", "timed"):
        for raw in (record.drawing for record in make_drawings("cat", 5)):
            for stroke, simple in zip(raw, simplify(raw, method=method), strict=True):
                pair = metrics.speed_profile(stroke)[0], metrics.speed_profile(simple)[0]
                np.testing.assert_array_equal(*pair)


def test_speed_and_curvature_of_a_circle() -> None:
    """A radius of 50 px at a quarter of a turn a second."""
    t = np.arange(0, 3000, 20.0)
    angle = t / 1000 * np.pi / 2
    speed, curvature = metrics.speed_and_curvature([50 * np.cos(angle), 50 * np.sin(angle), t])
    inner = slice(10, -10)  # smoothing pulls the ends in
    np.testing.assert_allclose(speed[inner], 50 * np.pi / 2, rtol=0.01)
    np.testing.assert_allclose(curvature[inner], 1 / 50, rtol=0.01)
    assert [len(values) for values in metrics.speed_and_curvature([[0, 9], [0, 0], [0, 70]])] == [
        *(0, 0)
    ]


@pytest.mark.parametrize("function", [metrics.speed_profile, metrics.speed_and_curvature])
def test_an_untimed_stroke_has_no_speed(function: Any) -> None:
    with pytest.raises(ValueError, match="timed stroke is"):
        function([[0, 9], [0, 0]])


def test_a_generation_report_compares_as_many_drawings_of_each_word(
    drawings: list[Drawing], tmp_path: Path
) -> None:
    real = [simplify(record.drawing) for record in make_drawings("cat", 20)]
    path, vae = tmp_path / "distributions.csv", make_vae(max_seq_len=60)
    words = ["cat"] * 15 + ["dog"] * 5
    for epoch in (1, 2, 3, 2):  # the last one as after a resumption
        table = metrics.generation_report(vae, real, words, n=12, epoch=epoch, path=path)
    written = pd.read_csv(path, index_col=0)
    assert written.epoch.unique().tolist() == [1, 2]
    pd.testing.assert_frame_equal(written[written.epoch == 2], table, check_names=False)
    chosen = np.random.default_rng(2).choice(words, 12).tolist()
    generated = vae.generate(12, word=chosen, temperature=1.0, seed=2)
    expected = metrics.distances(real, generated)
    pd.testing.assert_frame_equal(table.drop(columns="epoch"), expected)


def test_a_model_without_words_generates_without_them() -> None:
    vae = make_vae(class_conditioning=False)
    drawings = metrics.generate_like(vae, ["cow"], n=2, seed=1)
    expected = vae.generate(2, temperature=1.0, seed=1)
    for drawing, other in zip(drawings, expected, strict=True):
        for stroke, same in zip(drawing, other, strict=True):
            np.testing.assert_array_equal(stroke, same)


def test_shape_error_by_hand():
    before = [[0, 10, 10, 13], [0, 2, 0, -4], [0, 1, 2, 3]]
    assert shape_error(before, [[0, 10], [0, 0], [0, 2]]) == 5.0  # beyond the chord's end
    assert shape_error([part[:3] for part in before], [[0, 10], [0, 0]]) == 2.0  # beside it
    assert shape_error(before, before) == 0
    assert shape_error([[3, 0], [4, 0]], [[0], [0]]) == shape_error([[3], [4]], [[0, 0], [0, 0]])
