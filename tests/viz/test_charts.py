"""What `charts` draws: data, labels and legends, not pixels."""

from collections.abc import Iterator
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from doodlelib.analysis.metrics import Measures, measure
from doodlelib.viz import charts

FIGURES = ("pen", "position", "segment_time", "pause_time", "loss", "kl")


@pytest.fixture(autouse=True)
def no_window_and_no_leak() -> Iterator[None]:
    matplotlib.use("Agg")
    yield
    plt.close("all")


def make_history(losses: list[float]) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "step": 10 * epoch, "learning_rate": 0.001}
        | {f"train_{name}": loss for name in FIGURES}
        | {f"valid_{name}": loss + 1 for name in FIGURES}
        | {"seconds": 2.0}
        for epoch, loss in enumerate(losses, start=1)
    ]


def legend_of(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def shares(ax: Axes) -> list[Any]:
    """Edges and values of each histogram."""
    patches: list[Any] = list(ax.patches)
    return [patch.get_data() for patch in patches]


def make_measures(pauses: int = 50) -> Measures:
    rng = np.random.default_rng(0)
    drawing = [
        [np.cumsum(rng.uniform(1, 20, 6)), np.zeros(6), 900.0 * stroke + 40.0 * np.arange(6)]
        for stroke in range(pauses + 1)
    ]
    return measure([drawing])


def test_losses_have_a_panel_each_and_a_dot_at_the_best_epoch() -> None:
    figure = charts.plot_losses(make_history([5.0, 2.0, 3.0]))
    titles = ["loss", "pen", "position", "segment time", "pause time", "kl"]
    assert [ax.get_title() for ax in figure.axes] == titles
    for ax in figure.axes:
        train, best_train, valid, best_valid = ax.lines
        np.testing.assert_array_equal(train.get_xydata(), [[1, 5], [2, 2], [3, 3]])
        np.testing.assert_array_equal(valid.get_ydata(), [6, 3, 4])
        np.testing.assert_array_equal(best_train.get_xydata(), [[2, 2]])
        np.testing.assert_array_equal(best_valid.get_xydata(), [[2, 3]])
        assert ax.get_xlabel() == "epoch" and ax.get_ylabel()
        assert train.get_linestyle() != valid.get_linestyle()  # not by colour alone
    assert figure.axes[3].get_ylabel() == "nats/segment, ms"
    assert legend_of(figure.axes[0]) == ["train", "valid"]
    assert plt.get_fignums() == []


def test_losses_of_one_epoch_and_of_a_table_and_of_the_classifier() -> None:
    history = make_history([5.0])
    ax = charts.plot_losses(history).axes[0]
    assert [tick for tick in ax.get_xticks() if 0.5 <= tick <= 1.5] == [1]
    assert len(charts.plot_losses(pd.DataFrame(history)).axes) == len(FIGURES)
    row = {"epoch": 1, "train_loss": 1, "valid_loss": 1, "train_accuracy": 0.5, "valid_accuracy": 1}
    figure = charts.plot_losses([row])
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "share named rightly"]


def test_losses_without_times_are_drawn_all_the_same() -> None:
    history = [row | {"valid_pause_time": float("nan")} for row in make_history([5.0, 2.0])]
    charts.plot_losses(history).draw_without_rendering()


def test_no_epochs_is_an_error() -> None:
    with pytest.raises(ValueError, match="no epoch"):
        charts.plot_losses([])


def test_distributions_lie_over_one_another_in_units() -> None:
    real, slow = make_measures(), make_measures(80)
    figure = charts.plot_distributions(real, generated=slow)
    labels = ["time per segment (ms)", "pause (ms)", "speed (px/s)", "whole drawing (s)"]
    assert [ax.get_xlabel() for ax in figure.axes] == labels
    for ax in figure.axes:
        assert ax.get_xscale() == "log"
        ours, theirs = shares(ax)
        np.testing.assert_array_equal(ours.edges, theirs.edges)
        assert ours.values.sum() == pytest.approx(100, abs=1)
    segment, _, speed, whole = (shares(ax)[0] for ax in figure.axes)
    most = segment.values.argmax()
    assert segment.edges[most] <= 40 <= segment.edges[most + 1]
    assert speed.edges[0] > 1 / 0.04 * 0.9 and speed.edges[-1] < 20 / 0.04 * 1.1
    assert whole.edges[0] <= (50 * 900 + 200) / 1000 <= whole.edges[-1]
    assert legend_of(figure.axes[-1]) == ["real", "generated"]
    figure.draw_without_rendering()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("pauses", [(0, 0), (5, 0), (0, 5)])
def test_distributions_of_drawings_without_pauses(pauses: tuple[int, int]) -> None:
    real, generated = (make_measures(count) for count in pauses)
    charts.plot_distributions(real, generated=generated).draw_without_rendering()
    assert len(charts.plot_distributions(real).axes[0].patches) == 1


def test_confusion_is_colored_by_share_and_says_counts() -> None:
    matrix = pd.DataFrame([[3, 1], [0, 0]], index=["cat", "dog"], columns=["cat", "dog"])
    ax: Any = charts.plot_confusion(matrix)
    np.testing.assert_allclose(ax.collections[0].get_array().ravel(), [75, 25, 0, 0])
    assert [text.get_text() for text in ax.texts] == ["3", "1", "0", "0"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted word", "true word")
    words = [str(number) for number in range(charts.ANNOTATED + 1)]
    large = pd.DataFrame(np.eye(len(words), dtype=int), index=words, columns=words)
    assert not charts.plot_confusion(large).texts


def test_calibration_lies_beside_the_honest_line() -> None:
    table = pd.DataFrame({"confidence": [0.3, 0.9], "accuracy": [0.2, 0.8], "count": [10, 30]})
    ax = charts.plot_calibration({"before": table, "after": table})
    honest, *lines = ax.lines
    assert list(honest.get_xdata()) == list(honest.get_ydata()) == [0, 1]
    assert [line.get_label() for line in lines] == ["before", "after"]
    np.testing.assert_array_equal(lines[0].get_xydata(), table[["confidence", "accuracy"]])
    small, large = ax.collections[0].get_sizes()
    assert large > small


def test_projection_names_each_word_amid_its_dots() -> None:
    points = np.array([[0.0, 0], [2, 0], [9, 9], [1, 3]])
    ax: Any = charts.plot_projection(points, ["cat", "cat", "dog", "cat"])
    cats, dogs = ax.collections
    np.testing.assert_array_equal(cats.get_offsets(), points[[0, 1, 3]])
    np.testing.assert_array_equal(dogs.get_offsets(), points[[2]])
    assert [(t.get_text(), *t.xy) for t in ax.texts] == [("cat", 1, 0), ("dog", 9, 9)]
    assert cats.get_facecolors()[0].tolist() != dogs.get_facecolors()[0].tolist()
    many: Any = charts.plot_projection(np.eye(12)[:, :2], [f"word {n}" for n in range(12)])
    assert len({tuple(dots.get_facecolors()[0]) for dots in many.collections}) == 12


def test_active_units_are_sorted_and_counted() -> None:
    ax: Any = charts.plot_active_units(np.array([0.001, 2.0, 0.5, 0.0]))
    assert [bar.get_height() for bar in ax.patches] == [2.0, 0.5, 0.001, 0.0]
    assert ax.get_title() == "2 of 4 dimensions say over 0.01 nats"
    assert "nats" in ax.get_ylabel()
    assert charts.plot_active_units(np.zeros(4)).get_title().startswith("0 of 4")


def test_axes_given_are_used() -> None:
    one, two, three = Figure().subplots(1, 3)
    assert charts.plot_active_units(np.ones(3), ax=one) is one
    assert charts.plot_projection(np.eye(2), ["cat", "dog"], ax=two) is two
    assert charts.plot_confusion(pd.DataFrame([[1]]), ax=three) is three
    assert plt.get_fignums() == []


def test_pit_is_drawn_as_densities_with_the_true_line() -> None:
    values = {"segments": np.linspace(0, 1, 1000), "pauses": np.full(50, 0.98)}
    ax = charts.plot_pit(values)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["segments", "pauses", "a true forecast"]
    flat, heap = (patch.get_data().values for patch in ax.patches)
    np.testing.assert_allclose(flat, 1, atol=0.03)
    np.testing.assert_allclose(heap, [0] * 19 + [20])
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_place_regions_hold_their_share_of_the_density() -> None:
    axis = np.linspace(-50, 50, 201)
    place = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 10**2)
    ax: Any = charts.plot_place(place, (-50, 50, 50, -50), goal=(3, 4))
    regions = ax.collections[0].get_paths()
    for share, region in zip((0.5, 0.9, 0.99), regions, strict=True):
        expected = 10 * np.sqrt(-2 * np.log(1 - share))  # radius that holds the share of a normal
        assert np.abs(region.vertices).max() == pytest.approx(expected, rel=0.03)
    assert ax.lines[0].get_xydata().tolist() == [[3, 4]]
    one = ax.figure.add_subplot()
    assert charts.plot_place(place, (-50, 50, 50, -50), ax=one) is one
