"""Drawings, images and results as matplotlib figures.

Functions that draw one thing take `ax` and return it; without `ax` they make a new pyplot figure,
which a notebook shows at the end of the cell. Functions that return a `Figure` own it: pyplot does
not know it, so it shows once, where it is the cell's value or given to `display`.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Real
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from doodlelib.strokes import as_drawing, duration, is_timed

INK = "#22223b"
# seaborn's "colorblind", less its yellow, which is lost on white
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494")
# perceptually uniform, for the same reason without plasma's yellow end
TIME_COLORS = LinearSegmentedColormap.from_list(
    "drawing time", plt.get_cmap("plasma")(np.linspace(0, 0.85, 256))
)
UNITS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "pen": "nats/pen event",
    "position": "nats/move, px",
    "segment_time": "nats/segment, ms",
    "pause_time": "nats/pause, ms",
    "kl": "nats/drawing",
}  # of the metrics of training
MAX_ANNOTATED = 15  # words: larger confusion matrices have no room for numbers
ACTIVE_KL = 0.01  # nats, above which a latent dimension counts as active


def use_style() -> None:
    """Set fonts, palette (colour-blind safe) and frames of all figures; once a notebook."""
    import seaborn as sns

    sns.set_theme(
        style="ticks",
        palette="colorblind",
        rc={"axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 100},
    )


def new_axes(*, figsize: tuple[float, float]) -> Axes:
    """The axes of a new pyplot figure, `figsize` in inches."""
    return plt.subplots(figsize=figsize, layout="constrained")[1]


def new_figure(*, figsize: tuple[float, float]) -> Figure:
    """A figure that pyplot does not keep, `figsize` in inches."""
    plt.draw_if_interactive()  # loads the backend: only then a notebook knows how to show figures
    return Figure(figsize=figsize, layout="constrained")


def draw_drawing(
    drawing: Sequence,
    *,
    ax: Axes | None = None,
    color_by: Literal["time"] | None = "time",
    seconds: float | None = None,
    pauses: bool = False,
    line_width: float = 2.0,
) -> Axes:
    """One drawing as lines: y runs down, no frame, one scale for x and y.

    Colours are the time since the first touch, up to `seconds` or else the drawing's end; an
    untimed drawing, and one with `color_by` None, has one. `pauses` shows pen-up moves, dotted.
    `line_width` is in points. Errors are those of `strokes.as_drawing`.
    """
    drawing = as_drawing(drawing)
    strokes = [np.stack(stroke, axis=1) for stroke in drawing]
    counts = [max(len(stroke) - 1, 1) for stroke in strokes]  # of lines; a dot is one
    starts = np.concatenate([s[:n] for s, n in zip(strokes, counts, strict=True)])
    ends = np.concatenate([s[-n:] for s, n in zip(strokes, counts, strict=True)])
    is_dot = np.repeat([not np.ptp(stroke[:, :2], axis=0).any() for stroke in strokes], counts)
    if color_by == "time" and is_timed(drawing):
        times = (starts[:, 2] + ends[:, 2]) / 2 - starts[0, 2]
        colors = TIME_COLORS(times / (1000 * seconds if seconds else duration(drawing) or 1))
    else:
        colors = to_rgba_array(INK).repeat(len(starts), axis=0)
    ax = ax or new_axes(figsize=(4.0, 4.0))
    lines = list(np.stack([starts, ends], axis=1)[..., :2])
    ax.add_collection(LineCollection(lines, colors=colors, linewidths=line_width, capstyle="round"))
    size = (1.5 * line_width) ** 2
    ax.scatter(*starts[is_dot, :2].T, c=colors[is_dot], s=size, linewidths=0)
    for before, after in pairwise(strokes) if pauses else ():
        gap = np.stack([before[-1], after[0]], axis=1)[:2]
        ax.plot(*gap, ":", color="0.6", linewidth=line_width / 2, zorder=1)
    ax.set_aspect("equal", adjustable="datalim")
    ax.yaxis.set_inverted(True)
    ax.autoscale_view()
    ax.set_axis_off()
    return ax


def draw_grid(
    drawings: Sequence,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 8,
    size: float = 1.4,
) -> Figure:
    """Drawings side by side, with one colour scale of time, up to the end of the longest.

    There are at most `columns` in a row, each `size` inches wide, with one of `titles` above it. No
    drawings, or another number of titles, is a ValueError.
    """
    figure, cells = _panels(len(drawings), titles=titles, columns=columns, size=(size, size))
    seconds = max((duration(d) / 1000 for d in drawings if is_timed(d)), default=0.0)
    for ax, drawing in zip(cells, drawings, strict=True):
        draw_drawing(drawing, ax=ax, seconds=seconds)
    if seconds:
        scale = ScalarMappable(Normalize(0, seconds), TIME_COLORS)
        bar = figure.colorbar(scale, ax=figure.axes, label="time (s)", aspect=25, pad=0.02)
        bar.outline.set_visible(False)
    return figure


def draw_images(
    images: Real[np.ndarray, "n h w"] | Sequence[Real[np.ndarray, "h w"]],
    *,
    titles: Sequence[str] | None = None,
    columns: int = 8,
    size: float = 1.2,
) -> Figure:
    """Images side by side, ink (255) black on white. Arguments and errors as `draw_grid`."""
    figure, cells = _panels(len(images), titles=titles, columns=columns, size=(size, size))
    for ax, image in zip(cells, images, strict=True):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color="0.85")
    return figure


def plot_speed(drawing: Sequence, *, ax: Axes | None = None) -> Axes:
    """Speed of the pen over time in a timed drawing, a line for each stroke, pauses shaded."""
    drawing = as_drawing(drawing)
    if not is_timed(drawing):
        raise ValueError("an untimed drawing has no speed")
    ax = ax or new_axes(figsize=(8.0, 2.6))
    seconds = [(stroke[2] - drawing[0][2][0]) / 1000 for stroke in drawing]
    for before, after in pairwise(seconds):
        ax.axvspan(before[-1], after[0], color="0.92", linewidth=0, label="pen up")
    for stroke, time in zip(drawing, seconds, strict=True):
        moved = np.flatnonzero(np.diff(time) > 0)  # two points of one instant have no speed
        speed = np.hypot(*np.diff(stroke[:2], axis=1))[moved] / np.diff(time)[moved]
        ax.plot((time[moved] + time[moved + 1]) / 2, speed, color=PALETTE[0], marker=".")
    ax.set(xlabel="time (s)", ylabel="speed (px/s)", xlim=0, ylim=0)
    if len(seconds) > 1:
        ax.legend(handles=ax.patches[:1], loc="upper right")
    return ax


def plot_losses(history: pd.DataFrame | Sequence[Mapping[str, float | int]]) -> Figure:
    """Training and validation curves, a panel for each metric; dots mark the best epoch.

    `history` holds the rows of `training.fit` or of its CSV, one at least (else ValueError).
    """
    table = pd.DataFrame(history)
    if table.empty:
        raise ValueError("no epoch to plot")
    names = [key.removeprefix("valid_") for key in table if str(key).startswith("valid_")]
    names.sort(key=lambda name: name != "loss")  # the loss first, the rest as they come
    figure, panels = _panels(len(names), columns=3, size=(3.4, 2.5))
    best = table["valid_loss"].idxmin()
    for ax, name in zip(panels, names, strict=True):
        for part, color, line in (("train", PALETTE[0], "-"), ("valid", PALETTE[1], "--")):
            values = table[f"{part}_{name}"]
            ax.plot(table["epoch"], values, line, color=color, label=part)
            ax.plot(table["epoch"][best], values[best], "o", color=color)
        ax.set(title=name.replace("_", " "), xlabel="epoch", ylabel=UNITS.get(name, name))
        ax.set_xlim(table["epoch"].min() - 0.5, table["epoch"].max() + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    panels[0].legend()
    return figure


def plot_distributions(measures: Any) -> Figure:
    """Histograms of segment times, pauses, speeds and durations of `analysis.measure`, log axes."""
    panels = {
        "time per segment (ms)": ("log_segment_time", 1.0),
        "pause (ms)": ("log_pause", 1.0),
        "speed (px/s)": ("log_speed", 1000.0),
        "whole drawing (s)": ("log_duration", 0.001),
    }
    figure = new_figure(figsize=(12.0, 2.8))
    axes = figure.subplots(1, len(panels))
    for ax, (label, (name, unit)) in zip(axes, panels.items(), strict=True):
        values = np.exp(getattr(measures, name)) * unit
        low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (1.0, 1.0)
        edges = np.geomspace(low * 0.95, high * 1.05, 40)
        share = 100 * np.histogram(values, edges)[0] / max(len(values), 1)
        ax.stairs(share, edges, color=PALETTE[0], fill=True, alpha=0.6)
        ax.set(xlabel=label, xscale="log", ylim=0)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.tick_params(axis="x", labelsize="small")
    axes[0].set_ylabel("share (%)")
    return figure


def plot_pit(values: Mapping[str, Float[np.ndarray, " n"]], *, ax: Axes | None = None) -> Axes:
    """Histograms of `SketchVAE.time_pit`, by name; those of a calibrated model are flat."""
    ax = ax or new_axes(figsize=(5.0, 3.0))
    for name, some in values.items():
        ax.stairs(*np.histogram(some, bins=20, range=(0, 1), density=True), label=name, lw=1.5)
    ax.axhline(1, color="black", lw=1, ls=":", label="calibrated")
    ax.set(xlabel="predicted share of shorter times", ylabel="density", xlim=(0, 1), ylim=0)
    ax.legend(frameon=False)
    return ax


def plot_position_density(
    density: Float[np.ndarray, "s s"],
    extent: tuple[float, float, float, float],
    *,
    target: Sequence[float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The smallest regions that hold 50 %, 90 % and 99 % of a density, dark to light.

    `density` and its `extent` are those of `analysis.forecast.NextMove`; a dot marks the `target`.
    """
    ax = ax or new_axes(figsize=(4.0, 4.0))
    levels, order = np.unique(density, return_inverse=True)
    mass = (levels * np.bincount(order.ravel()))[::-1].cumsum()[::-1]  # where it is as dense
    share = (mass / mass[0])[order].reshape(density.shape)
    x, y = np.linspace(*extent[:2], len(density)), np.linspace(*extent[:1:-1], len(density))
    ax.contourf(x, y, share, levels=[0, 0.5, 0.9, 0.99], colors=["#2171b5", "#6baed6", "#deebf7"])
    if target is not None:
        ax.plot(*target, "o", color=PALETTE[1], markersize=7, markeredgecolor="white")
    return ax


def plot_confusion(matrix: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Heat map of the confusion matrix of `analysis.classification`, as shares of each row."""
    import seaborn as sns

    ax = ax or new_axes(figsize=(6.4, 5.2))
    shares = 100 * matrix.div(matrix.sum(axis=1).clip(lower=1), axis=0)
    annotation = matrix if len(matrix) <= MAX_ANNOTATED else None
    bar = {"label": "share of the true word (%)"}
    look = {"vmin": 0, "vmax": 100, "cmap": "Blues", "fmt": "d", "square": True, "cbar_kws": bar}
    sns.heatmap(shares, annot=annotation, ax=ax, **look)
    ax.set(xlabel="predicted word", ylabel="true word")
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    return ax


def plot_calibration(tables: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """Reliability diagram of tables of `analysis.calibration`, by name; larger dots count more."""
    ax = ax or new_axes(figsize=(4.4, 4.0))
    ax.plot([0, 1], [0, 1], color=INK, lw=1, ls=":", label="calibrated")
    for color, (name, table) in zip(PALETTE, tables.items(), strict=False):
        ax.plot(table["confidence"], table["accuracy"], color=color, lw=1.5, label=name)
        area = 10 + 190 * table["count"] / table["count"].sum()
        ax.scatter(table["confidence"], table["accuracy"], s=area, color=color, linewidths=0)
    ax.set(xlabel="predicted probability", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.legend(frameon=False)
    return ax


def plot_projection(
    points: Float[np.ndarray, "n 2"], labels: Sequence[str], *, ax: Axes | None = None
) -> Axes:
    """Latents in the plane (see `latent.project`), coloured by word."""
    import seaborn as sns

    ax = ax or new_axes(figsize=(7.0, 6.0))
    names = sorted(set(labels))
    palette = sns.color_palette("colorblind" if len(names) <= 10 else "husl", len(names))
    for name, color in zip(names, palette, strict=True):
        own = points[np.array(labels) == name]
        ax.scatter(*own.T, s=12, color=color, alpha=0.8, linewidths=0, label=name)
    ax.set(xlabel="first axis (no unit)", ylabel="second axis (no unit)")
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, markerscale=2)
    return ax


def plot_active_units(kl_by_dimension: Float[np.ndarray, " z"], *, ax: Axes | None = None) -> Axes:
    """KL of each latent dimension to the prior (nats, mean over drawings), largest first."""
    ax = ax or new_axes(figsize=(6.4, 2.8))
    kl = np.sort(kl_by_dimension)[::-1]
    active = int((kl > ACTIVE_KL).sum())
    ax.bar(np.arange(1, len(kl) + 1), kl, width=1, linewidth=0, color=PALETTE[0])
    ax.axhline(ACTIVE_KL, color=INK, linestyle=":")
    ax.set_title(f"{active} of {len(kl)} dimensions have a KL above {ACTIVE_KL} nats")
    ax.set(xlabel="latent dimension, sorted", ylabel="KL (nats per drawing)")
    ax.set(ylim=(ACTIVE_KL / 10, 2 * max(ACTIVE_KL, kl[0])), yscale="log")  # zeros have no scale
    return ax


def _panels(
    n: int, *, columns: int, size: tuple[float, float], titles: Sequence[str] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of `n` axes in rows of at most `columns`, each `size` inches, with titles."""
    if n == 0:
        raise ValueError("nothing to draw")
    if titles is not None and len(titles) != n:
        raise ValueError(f"{len(titles)} titles for {n} pictures")
    columns = min(n, columns)
    rows = math.ceil(n / columns)
    height = size[1] + (0.25 if titles else 0)
    figure = new_figure(figsize=(columns * size[0], rows * height))
    panels = [figure.add_subplot(rows, columns, number + 1) for number in range(n)]
    for ax, title in zip(panels, titles or [], strict=False):
        ax.set_title(title, fontsize="small")
    return figure, panels
