"""What is drawn: lines, colours, scales, labels and legends, not pixels."""

import os
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from nbclient import NotebookClient

from doodlelib.analysis.metrics import Measures, measure
from doodlelib.data import quickdraw
from doodlelib.paths import ROOT
from doodlelib.strokes import without_time
from doodlelib.viz import plots

CORNER = [[[0, 100, 100], [0, 0, 50], [0, 400, 600]], [[20, 30], [10, 10], [1600, 2000]]]
DOTTED = [*CORNER, [[50], [50], [4000]]]
METRICS = ("pen", "position", "segment_time", "pause_time", "loss", "kl")


@pytest.fixture(autouse=True)
def no_window_and_no_leak() -> Iterator[None]:
    matplotlib.use("Agg")
    yield
    plt.close("all")


def lines_of(ax: Axes) -> Any:
    """The collection of strokes."""
    return next(c for c in ax.collections if isinstance(c, LineCollection))


def dots_of(ax: Axes) -> Any:
    return next(c for c in ax.collections if isinstance(c, PathCollection))


def test_strokes_are_drawn_where_they_are_and_y_runs_down() -> None:
    ax = plots.draw_drawing(CORNER)
    expected = [[[0, 0], [100, 0]], [[100, 0], [100, 50]], [[20, 10], [30, 10]]]
    np.testing.assert_array_equal(lines_of(ax).get_segments(), expected)
    assert ax.yaxis_inverted() and ax.get_aspect() == 1 and not ax.axison
    assert len(dots_of(ax).get_offsets()) == 0
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left <= 0 and right >= 100 and bottom >= 50 and top <= 0
    plots.draw_drawing(CORNER, ax=ax)
    assert ax.yaxis_inverted()  # the second drawing does not turn the first one over


def test_color_is_the_time_in_the_middle_of_each_line() -> None:
    ax = plots.draw_drawing(CORNER)
    expected = plots.TIME_COLORS(np.array([200, 500, 1800]) / 2000)
    np.testing.assert_allclose(lines_of(ax).get_colors(), expected)
    ax = plots.draw_drawing(CORNER, seconds=10.0)
    expected = plots.TIME_COLORS(np.array([200, 500, 1800]) / 10_000)
    np.testing.assert_allclose(lines_of(ax).get_colors(), expected)


def test_time_starts_with_the_first_touch() -> None:
    late = [[x, y, np.array(t) + 700] for x, y, t in CORNER]
    early, later = (lines_of(plots.draw_drawing(d)).get_colors() for d in (CORNER, late))
    np.testing.assert_allclose(early, later)


def test_colors_of_ink_and_of_untimed_drawings() -> None:
    for drawing, color_by in ((CORNER, None), (without_time(CORNER), "time")):
        colors = lines_of(plots.draw_drawing(drawing, color_by=color_by)).get_colors()
        np.testing.assert_allclose(colors, [to_rgba(plots.INK)] * 3)


def test_a_stroke_without_extent_is_a_dot() -> None:
    twice = [*CORNER, [[50, 50], [50, 50], [4000, 4010]]]
    for drawing in (DOTTED, twice):
        dots = dots_of(plots.draw_drawing(drawing))
        np.testing.assert_array_equal(dots.get_offsets(), [[50, 50]])
        np.testing.assert_allclose(dots.get_facecolors()[0], plots.TIME_COLORS(1.0), atol=0.02)
    alone = plots.draw_drawing([[[5], [5], [0]]])
    assert len(dots_of(alone).get_offsets()) == 1


def test_a_rest_within_a_stroke_is_no_dot() -> None:
    resting = [[[0, 50, 50, 90], [0, 0, 0, 0], [0, 100, 600, 700]]]
    assert len(dots_of(plots.draw_drawing(resting)).get_offsets()) == 0


def test_pauses_join_the_strokes() -> None:
    ax = plots.draw_drawing(DOTTED, pauses=True)
    expected = [[[100, 50], [20, 10]], [[30, 10], [50, 50]]]
    np.testing.assert_array_equal([line.get_xydata() for line in ax.lines], expected)
    assert {line.get_linestyle() for line in ax.lines} == {":"}


def test_axes_given_are_used_and_returned() -> None:
    ax = Figure().subplots()
    assert plots.draw_drawing(CORNER, ax=ax) is ax
    assert plots.plot_speed(CORNER, ax=ax) is ax
    assert plt.get_fignums() == []
    assert plots.draw_drawing(CORNER) is not ax
    assert len(plt.get_fignums()) == 1


def test_faults_are_named() -> None:
    with pytest.raises(ValueError, match="no strokes"):
        plots.draw_drawing([])
    with pytest.raises(ValueError, match="untimed"):
        plots.plot_speed(without_time(CORNER))
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.draw_grid([])
    with pytest.raises(ValueError, match="1 titles for 2"):
        plots.draw_grid([CORNER, CORNER], titles=["cat"])
    assert plt.get_fignums() == []


def test_grid_colors_by_share_of_each_drawing_s_time() -> None:
    figure = plots.draw_grid([CORNER, DOTTED, CORNER], titles=["a", "b", "c"], columns=2)
    cells: list[Any] = figure.axes[:-1]
    bar = figure.axes[-1]
    assert [ax.get_title() for ax in cells] == ["a", "b", "c"]
    assert bar.get_ylabel() == "share of each one's time (%)" and bar.get_ylim() == (0, 100)
    expected = plots.TIME_COLORS(np.array([200, 500, 1800]) / 2000)
    np.testing.assert_allclose(lines_of(cells[0]).get_colors(), expected)
    places = [ax.get_subplotspec().get_topmost_subplotspec() for ax in cells]
    assert [(p.rowspan.start, p.colspan.start) for p in places] == [(0, 0), (0, 1), (1, 0)]
    assert plt.get_fignums() == []


def test_grid_has_one_scale_of_seconds_where_paces_are_compared() -> None:
    *cells, bar = plots.draw_grid([CORNER, DOTTED], seconds=4).axes
    assert bar.get_ylabel() == "time (s)" and bar.get_ylim() == (0, 4)
    expected = plots.TIME_COLORS(np.array([200, 500, 1800]) / 4000)
    np.testing.assert_allclose(lines_of(cells[0]).get_colors(), expected)


def test_grid_without_times_has_no_scale() -> None:
    shapes = [without_time(CORNER)] * 2
    assert len(plots.draw_grid(shapes).axes) == 2
    mixed = plots.draw_grid([CORNER, shapes[0]])
    assert len(mixed.axes) == 3


def test_images_are_ink_on_paper() -> None:
    images = np.zeros((3, 28, 28), dtype=np.uint8)
    images[1, 3, 4] = 255
    figure = plots.draw_images(images, titles=["a", "b", "c"])
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c"]
    shown = figure.axes[1].images[0]
    np.testing.assert_array_equal(shown.get_array(), images[1])
    assert shown.to_rgba(np.array([[255, 0]]))[0].tolist() == [[0, 0, 0, 1], [1, 1, 1, 1]]
    assert plt.get_fignums() == []


def test_speed_is_px_per_second_with_pauses_shaded() -> None:
    ax: Any = plots.plot_speed(CORNER)
    first, second = ax.lines
    np.testing.assert_allclose(first.get_xydata(), [[0.2, 250], [0.5, 250]])
    np.testing.assert_allclose(second.get_xydata(), [[1.8, 25]])
    (pause,) = ax.patches
    assert (pause.get_x(), pause.get_width()) == pytest.approx((0.6, 1.0))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "speed (px/s)")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["pen up"]


def test_two_points_of_one_instant_have_no_speed() -> None:
    ax: Any = plots.plot_speed([[[0, 5, 10], [0, 0, 0], [0, 0, 100]]])
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0.05, 50]])
    assert ax.get_legend() is None


def test_time_colors_can_be_told_apart_and_seen_on_white() -> None:
    red, green, blue, _ = plots.TIME_COLORS(np.linspace(0, 1, 9)).T
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    assert (np.diff(luminance) > 0).all()  # so that no colour vision is needed
    assert luminance[-1] < 0.6


def test_style_keeps_to_the_palette() -> None:
    with matplotlib.rc_context():
        plots.use_style()
        cycle = [to_hex(color) for color in plt.rcParams["axes.prop_cycle"].by_key()["color"]]
    assert cycle[:8] == list(plots.PALETTE)


def test_real_drawings(mirror: str) -> None:
    records = islice(quickdraw.read_drawings("cat", base_url=mirror, progress=False), 12)
    drawings = [record.drawing for record in records]
    figure = plots.draw_grid(drawings)
    figure.draw_without_rendering()
    assert figure.axes[-1].get_ylim() == (0, 100)
    for drawing in drawings:
        ax = plots.draw_drawing(drawing, smooth=False)
        points = sum(len(stroke[0]) for stroke in drawing)
        singles = sum(len(stroke[0]) == 1 for stroke in drawing)
        assert len(lines_of(ax).get_segments()) == points - len(drawing) + singles


def test_few_points_make_a_smooth_line() -> None:
    turn = np.linspace(0, 2 * np.pi, 17)
    ring = [[np.cos(turn), np.sin(turn), 100.0 * np.arange(17)]]
    for smooth, off in ((True, 0.005), (False, 0.02)):
        segments = np.array(lines_of(plots.draw_drawing(ring, smooth=smooth)).get_segments())
        middle = np.hypot(*segments.mean(axis=1).T)
        assert np.abs(middle - 1).max() == pytest.approx(off, abs=0.005)


def make_history(losses: list[float]) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "step": 10 * epoch, "learning_rate": 0.001}
        | {f"train_{name}": loss for name in METRICS}
        | {f"valid_{name}": loss + 1 for name in METRICS}
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
    figure = plots.plot_losses(make_history([5.0, 2.0, 3.0]))
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
    ax = plots.plot_losses(history).axes[0]
    assert [tick for tick in ax.get_xticks() if 0.5 <= tick <= 1.5] == [1]
    assert len(plots.plot_losses(pd.DataFrame(history)).axes) == len(METRICS)
    row = {"epoch": 1, "train_loss": 1, "valid_loss": 1, "train_accuracy": 0.5, "valid_accuracy": 1}
    figure = plots.plot_losses([row])
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "accuracy"]


def test_losses_without_times_are_drawn_all_the_same() -> None:
    history = [row | {"valid_pause_time": float("nan")} for row in make_history([5.0, 2.0])]
    plots.plot_losses(history).draw_without_rendering()


def test_no_epochs_is_an_error() -> None:
    with pytest.raises(ValueError, match="no epoch"):
        plots.plot_losses([])


def test_distributions_are_in_units() -> None:
    figure = plots.plot_distributions(make_measures())
    labels = ["time per segment (ms)", "pause (ms)", "speed (px/s)", "whole drawing (s)"]
    assert [ax.get_xlabel() for ax in figure.axes] == labels
    (segment,), _, (speed,), (whole,) = (shares(ax) for ax in figure.axes)
    for ax in figure.axes:
        assert ax.get_xscale() == "log"
        assert shares(ax)[0].values.sum() == pytest.approx(100, abs=1)
    most = segment.values.argmax()
    assert segment.edges[most] <= 40 <= segment.edges[most + 1]
    assert speed.edges[0] > 1 / 0.04 * 0.9 and speed.edges[-1] < 20 / 0.04 * 1.1
    assert whole.edges[0] <= (50 * 900 + 200) / 1000 <= whole.edges[-1]
    figure.draw_without_rendering()
    assert plt.get_fignums() == []


def test_distributions_of_drawings_without_pauses() -> None:
    plots.plot_distributions(make_measures(0)).draw_without_rendering()


def test_confusion_is_colored_by_share_and_says_counts() -> None:
    matrix = pd.DataFrame([[3, 1], [0, 0]], index=["cat", "dog"], columns=["cat", "dog"])
    ax: Any = plots.plot_confusion(matrix)
    np.testing.assert_allclose(ax.collections[0].get_array().ravel(), [75, 25, 0, 0])
    assert [text.get_text() for text in ax.texts] == ["3", "1", "0", "0"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted word", "true word")
    words = [str(number) for number in range(plots.MAX_ANNOTATED + 1)]
    large = pd.DataFrame(np.eye(len(words), dtype=int), index=words, columns=words)
    assert not plots.plot_confusion(large).texts


def test_calibration_lies_beside_the_honest_line_and_says_counts() -> None:
    table = pd.DataFrame({"confidence": [0.3, 0.9], "accuracy": [0.2, 0.8], "count": [10, 30]})
    ax = plots.plot_calibration({"before": table, "after": table})
    honest, *lines = ax.lines
    assert list(honest.get_xdata()) == list(honest.get_ydata()) == [0, 1]
    assert [name.split(",")[0] for name in legend_of(ax)] == ["calibrated", "before", "after"]
    assert legend_of(ax)[1] == "before, 10 to 30 a dot"
    np.testing.assert_array_equal(lines[0].get_xydata(), table[["confidence", "accuracy"]])
    few, many = (np.ptp(bar[:, 1]) for bar in lines_of(ax).get_segments())
    assert few == pytest.approx(2 * np.sqrt(0.2 * 0.8 / 10)) and few > many > 0


def test_projection_has_a_colour_for_each_word() -> None:
    points = np.array([[0.0, 0], [2, 0], [9, 9], [1, 3]])
    ax: Any = plots.plot_projection(points, ["cat", "cat", "dog", "cat"])
    cats, dogs = ax.collections
    np.testing.assert_array_equal(cats.get_offsets(), points[[0, 1, 3]])
    np.testing.assert_array_equal(dogs.get_offsets(), points[[2]])
    assert legend_of(ax) == ["cat", "dog"]
    assert cats.get_facecolors()[0].tolist() != dogs.get_facecolors()[0].tolist()
    names = [np.array(text.get_position()) for text in ax.texts]
    assert [text.get_text() for text in ax.texts] == ["cat", "dog"]
    assert names[0].tolist() == [1, 0] and names[1].tolist() == [9, 9]
    over: Any = plots.plot_projection(np.array([[0.0, 0], [10, 10], [5, 5]]), ["a", "a", "b"])
    a, b = (text.get_position()[1] for text in over.texts)
    assert b >= a + 0.5  # names that would cover each other stay apart
    many: Any = plots.plot_projection(np.eye(12)[:, :2], [f"word {n}" for n in range(12)])
    assert len({tuple(dots.get_facecolors()[0]) for dots in many.collections}) == 12


def test_active_units_are_sorted_and_counted() -> None:
    ax: Any = plots.plot_active_units(np.array([0.001, 2.0, 0.5, 0.0]))
    assert [bar.get_height() for bar in ax.patches] == [2.0, 0.5, 0.001, 0.0]
    assert ax.get_title() == "2 of 4 dimensions have a KL above 0.01 nats"
    assert "nats" in ax.get_ylabel()
    assert plots.plot_active_units(np.zeros(4)).get_title().startswith("0 of 4")


def test_axes_given_are_used_by_plots_of_results() -> None:
    one, two, three = Figure().subplots(1, 3)
    assert plots.plot_active_units(np.ones(3), ax=one) is one
    assert plots.plot_projection(np.eye(2), ["cat", "dog"], ax=two) is two
    assert plots.plot_confusion(pd.DataFrame([[1]]), ax=three) is three
    assert plt.get_fignums() == []


def test_pit_is_drawn_as_densities_with_the_true_line() -> None:
    values = {"segments": np.linspace(0, 1, 1000), "pauses": np.full(50, 0.98)}
    ax = plots.plot_pit(values)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["1000 segments", "50 pauses", "calibrated"]
    flat, heap = (patch.get_data().values for patch in ax.patches)
    np.testing.assert_allclose(flat, [1] * 20, atol=0.03)
    np.testing.assert_allclose(heap, [0] * 4 + [5])  # few values, few bins
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_place_regions_hold_their_share_of_the_density() -> None:
    axis = np.linspace(-50, 50, 201)
    place = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 10**2)
    move = SimpleNamespace(position=place, extent=(-50, 50, 50, -50), target=(3, 4))
    ax: Any = plots.plot_position_density(move)
    regions = ax.collections[0].get_paths()
    for share, region in zip((0.5, 0.9, 0.99), regions, strict=True):
        expected = 10 * np.sqrt(-2 * np.log(1 - share))  # radius that holds the share of a normal
        assert np.abs(region.vertices).max() == pytest.approx(expected, rel=0.03)
    assert ax.lines[0].get_xydata().tolist() == [[3, 4]]
    (left, right), (top, bottom) = ax.get_xlim(), ax.get_ylim()
    assert right - left < 80 and abs(bottom - top) < 80  # it ends where the regions do
    labels = ax.get_legend_handles_labels()[1]
    assert labels == [
        *(f"{s} of the prediction" for s in ("50%", "90%", "99%")),
        "where the pen went",
    ]
    one = ax.figure.add_subplot()
    assert plots.plot_position_density(move, ax=one) is one


@pytest.mark.slow
def test_a_notebook_shows_each_figure_once() -> None:
    cells = [
        f"from doodlelib import plot; corner = {CORNER}",
        "plot.draw_grid([corner])",
        "ax = plot.draw_drawing(corner)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    client = NotebookClient(notebook, kernel_name="python3", timeout=120)
    client.execute(env=environment)
    shown = [["image/png" in output.data for output in cell.outputs] for cell in notebook.cells]
    assert shown == [[], [True], [True]]
