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
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from doodlelib.strokes import as_drawing, duration, is_timed
from doodlelib.viz.curves import curved

INK = "#22223b"
# seaborn's "colorblind", less its yellow, which is lost on white
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494")
# perceptually uniform, for the same reason without plasma's yellow end
TIME_COLORS = LinearSegmentedColormap.from_list(
    "drawing time", plt.get_cmap("plasma")(np.linspace(0, 0.85, 256))
)
UNITS = {
    "pen": "nats/pen event",
    "position": "nats/move, px",
    "segment_time": "nats/segment, ms",
    "pause_time": "nats/pause, ms",
    "kl": "nats/drawing",
}  # of those metrics of training that have one
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


def draw_drawing(
    drawing: Sequence,
    *,
    ax: Axes | None = None,
    color_by: Literal["time"] | None = "time",
    seconds: float | None = None,
    pauses: bool = False,
    line_width: float = 2.0,
    smooth: bool = True,
) -> Axes:
    """One drawing as lines: y runs down, no frame, one scale for x and y.

    Colours are the time since the first touch, up to `seconds` or else the drawing's end; an
    untimed drawing, and one with `color_by` None, has one. `pauses` shows pen-up moves, dotted.
    `line_width` is in points. `smooth` draws curves through the points (see `viz.curves`), not
    straight lines. Errors are those of `strokes.as_drawing`.
    """
    drawing = curved(drawing) if smooth else as_drawing(drawing)
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
    seconds: float | None = None,
) -> Figure:
    """Drawings side by side; colours are shares of each one's own time, so all show their order.

    Or they are the time, up to `seconds`, where it is the pace that is to be compared. There are at
    most `columns` in a row, each `size` inches wide, with one of `titles` above it. No drawings, or
    another number of titles, is a ValueError.
    """
    figure, cells = _panels(len(drawings), titles=titles, columns=columns, size=(size, size))
    for ax, drawing in zip(cells, drawings, strict=True):
        draw_drawing(drawing, ax=ax, seconds=seconds)
    if any(map(is_timed, drawings)):
        scale = ScalarMappable(Normalize(0, seconds or 100), TIME_COLORS)
        label = "time (s)" if seconds else "share of each one's time (%)"
        bar = figure.colorbar(scale, ax=figure.axes, label=label, aspect=25, pad=0.02)
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
        look = {"loc": "lower right", "bbox_to_anchor": (1, 1), "frameon": False}
        ax.legend(handles=ax.patches[:1], **look)
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


def plain_log_ticks(axis: Axis) -> None:
    """Ticks at 1, 3, 10, 30 and so on of a log axis, in plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def plot_distributions(measures: Any) -> Figure:
    """Histograms of segment times, pauses, speeds and durations of `analysis.measure`, log axes."""
    panels = {
        "time per segment (ms)": ("log_segment_time", 1.0),
        "pause (ms)": ("log_pause", 1.0),
        "speed (px/s)": ("log_speed", 1000.0),
        "whole drawing (s)": ("log_duration", 0.001),
    }
    figure, axes = _panels(len(panels), columns=4, size=(3.0, 2.8))
    for ax, (label, (name, unit)) in zip(axes, panels.items(), strict=True):
        values = np.exp(getattr(measures, name)) * unit
        low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (1.0, 1.0)
        edges = np.geomspace(low * 0.95, high * 1.05, 40)
        share = 100 * np.histogram(values, edges)[0] / max(len(values), 1)
        ax.stairs(share, edges, color=PALETTE[0], fill=True, alpha=0.6)
        ax.set(xlabel=label, xscale="log", ylim=0)
        plain_log_ticks(ax.xaxis)
        ax.tick_params(axis="x", labelsize="small")
    axes[0].set_ylabel("share (%)")
    return figure


def plot_pit(values: Mapping[str, Float[np.ndarray, " n"]], *, ax: Axes | None = None) -> Axes:
    """Histograms of `SketchVAE.time_pit`, by name; those of a calibrated model are flat."""
    ax = ax or new_axes(figsize=(6.4, 3.0))
    for color, (name, some) in zip(PALETTE, values.items(), strict=False):
        bins = int(np.clip(len(some) // 50, 5, 20))  # with few values more would be noise
        heights, edges = np.histogram(some, bins=bins, range=(0, 1), density=True)
        label = f"{len(some)} {name}"
        ax.stairs(heights, edges, baseline=None, label=label, color=color, lw=2)
    ax.axhline(1, color=INK, lw=1, ls=":", label="calibrated")
    ax.set(xlabel="predicted share of shorter times", ylabel="density", xlim=(0, 1), ylim=0)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def plot_position_density(move: Any, *, ax: Axes | None = None) -> Axes:
    """Where an `analysis.forecast.NextMove` may end, and a dot where it did.

    The smallest regions that hold 50 %, 90 % and 99 % of the predicted density, dark to light.
    """
    ax = ax or new_axes(figsize=(4.0, 4.0))
    density, extent = move.position, move.extent
    levels, order = np.unique(density, return_inverse=True)
    mass = (levels * np.bincount(order.ravel()))[::-1].cumsum()[::-1]  # where it is as dense
    share = (mass / mass[0])[order].reshape(density.shape)
    x, y = np.linspace(*extent[:2], len(density)), np.linspace(*extent[:1:-1], len(density))
    rows, columns = ((share < 1 - 1e-3).any(axis=axis).nonzero()[0] for axis in (1, 0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)  # the page ends there
    regions = {0.5: "#2171b5", 0.9: "#6baed6", 0.99: "#deebf7"}
    levels, colors = [0, *regions], [*regions.values()]
    ax.contourf(x[part[1]], y[part[0]], share[part], levels=levels, colors=colors)
    for level, color in regions.items():
        ax.fill([], [], color=color, label=f"{level:.0%} of the prediction")
    ax.plot(*move.target, "o", color=PALETTE[1], ms=7, mec="white", label="where the pen went")
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
    """Reliability diagram of tables of `analysis.calibration`, by name, with standard errors."""
    ax = ax or new_axes(figsize=(8.0, 4.0))
    ax.plot([0, 1], [0, 1], color=INK, lw=1, ls=":", label="calibrated")
    for color, (name, table) in zip(PALETTE, tables.items(), strict=False):
        share, count = table["accuracy"], table["count"]
        error = np.sqrt(share * (1 - share) / count)
        counts = " to ".join(map(str, np.unique([count.min(), count.max()])))
        look: dict[str, Any] = {"fmt": "o-", "color": color, "ms": 4, "elinewidth": 1}
        ax.errorbar(table["confidence"], share, error, label=f"{name}, {counts} a dot", **look)
    ax.set(xlabel="predicted probability", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.set_aspect("equal")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def word_colors(words: Sequence[str]) -> dict[str, str]:
    """A colour for each word, sorted: no two of one hue, and neighbours light and dark by turns."""
    import seaborn as sns

    names = sorted(set(words))
    hues = [sns.husl_palette(len(names), s=0.95, l=light).as_hex() for light in (0.55, 0.7)]
    return {name: hues[i % 2][i] for i, name in enumerate(names)}


def plot_projection(
    points: Float[np.ndarray, "n 2"], labels: Sequence[str], *, ax: Axes | None = None
) -> Axes:
    """Latents in the plane, as by t-SNE, coloured by word, with names in their midst."""
    ax = ax or new_axes(figsize=(8.0, 5.6))
    halo = [withStroke(linewidth=3, foreground="white")]
    look: dict[str, Any] = {"ha": "center", "va": "center", "weight": "bold", "path_effects": halo}
    colors, taken = word_colors(labels), []
    wide, high = np.ptp(points, axis=0) * (0.15, 0.05) + 1e-9  # of a name
    for name, color in colors.items():
        own = points[np.array(labels) == name]
        ax.scatter(*own.T, s=16, color=color, alpha=0.7, linewidths=0, label=name)
        x, y = np.median(own, axis=0)
        while any(abs(x - a) < wide and abs(y - b) < 0.99 * high for a, b in taken):
            y += high
        taken.append((x, y))
        ax.text(x, y, name, color=color, **look)
    ax.set(xticks=[], yticks=[], xlabel="first axis (no unit)", ylabel="second axis (no unit)")
    ax.set_aspect("equal", adjustable="datalim")
    columns = math.ceil(len(colors) / 20)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, ncols=columns)
    return ax


def plot_active_units(kl_by_dimension: Float[np.ndarray, " z"], *, ax: Axes | None = None) -> Axes:
    """KL of each latent dimension to the prior (nats, mean over drawings), largest first."""
    ax = ax or new_axes(figsize=(6.4, 2.8))
    kl = np.sort(kl_by_dimension)[::-1]
    active = int((kl > ACTIVE_KL).sum())
    colors = [PALETTE[0]] * active + ["0.8"] * (len(kl) - active)
    ax.bar(np.arange(1, len(kl) + 1), kl, width=0.8, linewidth=0, color=colors)
    ax.axhline(ACTIVE_KL, color=INK, linestyle=":")
    ax.set_title(f"{active} of {len(kl)} dimensions have a KL above {ACTIVE_KL} nats")
    ax.set(xlabel="latent dimension, sorted", ylabel="KL (nats per drawing)")
    ax.set(ylim=(ACTIVE_KL / 10, 2 * max(ACTIVE_KL, kl[0])), yscale="log")  # zeros have no scale
    ax.set_xlim(0.4, len(kl) + 0.6)
    plain_log_ticks(ax.yaxis)
    return ax


def _panels(
    n: int, *, columns: int, size: tuple[float, float], titles: Sequence[str] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure that pyplot does not keep: `n` axes in rows of `columns`, each `size` inches."""
    if n == 0:
        raise ValueError("nothing to draw")
    if titles is not None and len(titles) != n:
        raise ValueError(f"{len(titles)} titles for {n} pictures")
    columns = min(n, columns)
    rows = math.ceil(n / columns)
    height = size[1] + (0.25 if titles else 0)
    plt.draw_if_interactive()  # loads the backend: only then a notebook knows how to show figures
    figure = Figure(figsize=(columns * size[0], rows * height), layout="constrained")
    panels = [figure.add_subplot(rows, columns, number + 1) for number in range(n)]
    for ax, title in zip(panels, titles or [], strict=False):
        ax.set_title(title, fontsize="small")
    return figure, panels
