"""Figures of training and of many drawings at once; the contract is `plot`'s."""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from doodlelib.viz.plots import INK, PALETTE, keep_apart, new_axes, new_figure

UNITS = {
    "loss": "loss",
    "accuracy": "share named rightly",
    "pen": "nats/pen event",
    "position": "nats/move, px",
    "segment_time": "nats/segment, ms",
    "pause_time": "nats/pause, ms",
    "kl": "nats/drawing",
}  # of what `train.fit` yields
ANNOTATED = 15  # words: larger confusion matrices have no room for numbers
ACTIVE = 0.01  # nats that a latent dimension says, below which it hardly speaks


@runtime_checkable
class Times(Protocol):
    """What `plot_distributions` asks for: natural logs of ms and of px per ms."""

    @property
    def log_segment_time(self) -> Float[np.ndarray, " s"]: ...  # noqa: D102
    @property
    def log_pause(self) -> Float[np.ndarray, " p"]: ...  # noqa: D102
    @property
    def log_speed(self) -> Float[np.ndarray, " s"]: ...  # noqa: D102
    @property
    def log_duration(self) -> Float[np.ndarray, " d"]: ...  # noqa: D102


def plot_losses(history: pd.DataFrame | Sequence[Mapping[str, float | int]]) -> Figure:
    """A panel for each figure that training followed, training and validation; dots: best epoch.

    Args:
        history: Rows of `train.fit`, or its ``metrics.csv``: epoch, ``train_*``, ``valid_*``.

    Raises:
        ValueError: No rows.
    """
    table = pd.DataFrame(history)
    if table.empty:
        raise ValueError("no epoch to plot")
    names = [key.removeprefix("valid_") for key in table if str(key).startswith("valid_")]
    names.sort(key=lambda name: name != "loss")  # the rest as they come
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = new_figure(figsize=(3.4 * columns, 2.5 * rows))
    panels = [figure.add_subplot(rows, columns, number + 1) for number in range(len(names))]
    best = table["valid_loss"].idxmin()
    for ax, name in zip(panels, names, strict=True):
        for kind, color, line in (("train", PALETTE[0], "-"), ("valid", PALETTE[1], "--")):
            values = table[f"{kind}_{name}"]
            ax.plot(table["epoch"], values, line, color=color, label=kind)
            ax.plot(table["epoch"][best], values[best], "o", color=color)
        ax.set(title=name.replace("_", " "), xlabel="epoch", ylabel=UNITS.get(name, name))
        ax.set_xlim(table["epoch"].min() - 0.5, table["epoch"].max() + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    panels[0].legend()
    return figure


def plot_distributions(real: Times, *, generated: Times | None = None) -> Figure:
    """How long segments, pauses and drawings last and how fast the pen moves, on log axes.

    Args:
        real: `metrics.measure` of real drawings.
        generated: Of a model's, to be laid over them.
    """
    samples = {"real": real} | ({"generated": generated} if generated else {})
    panels = {
        "time per segment (ms)": ("log_segment_time", 1.0),
        "pause (ms)": ("log_pause", 1.0),
        "speed (px/s)": ("log_speed", 1000.0),
        "whole drawing (s)": ("log_duration", 0.001),
    }
    figure = new_figure(figsize=(12.0, 2.8))
    axes = figure.subplots(1, len(panels))
    for ax, (label, (name, unit)) in zip(axes, panels.items(), strict=True):
        values = {kind: np.exp(getattr(times, name)) * unit for kind, times in samples.items()}
        every = np.concatenate(list(values.values()))
        low, high = np.quantile(every, [0.001, 0.999]) if len(every) else (1.0, 1.0)
        edges = np.geomspace(low * 0.95, high * 1.05, 40)
        for number, (kind, sample) in enumerate(values.items()):
            share = 100 * np.histogram(sample, edges)[0] / max(len(sample), 1)
            filled = {"fill": True, "alpha": 0.4} if kind == "real" else {"linewidth": 1.8}
            ax.stairs(share, edges, color=PALETTE[number], label=kind, **filled)
        ax.set(xlabel=label, xscale="log", ylim=0)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.tick_params(axis="x", labelsize="small")
    axes[0].set_ylabel("share (%)")
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def plot_pit(values: Mapping[str, Float[np.ndarray, " n"]], *, ax: Axes | None = None) -> Axes:
    """Where real times lie within what was predicted of them; a true forecast gives the line.

    Args:
        values: By name, numbers from 0 to 1; see `SketchVAE.time_pit`.
        ax: Where; none: a new figure.
    """
    ax = ax or new_axes(figsize=(5.0, 3.0))
    for name, some in values.items():
        ax.stairs(*np.histogram(some, bins=20, range=(0, 1), density=True), label=name, lw=1.5)
    ax.axhline(1, color="black", lw=1, ls=":", label="a true forecast")
    ax.set(xlabel="predicted share of shorter times", ylabel="density", xlim=(0, 1), ylim=0)
    ax.legend(frameon=False)
    return ax


def plot_place(
    place: Float[np.ndarray, "s s"],
    extent: tuple[float, float, float, float],
    *,
    goal: Sequence[float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A density over the page: the regions that hold a half, 90 % and 99 % of it, dark to light.

    Args:
        place: See `forecast.Forecast`.
        extent: See there.
        goal: The place itself, marked.
        ax: Where; none: a new figure.
    """
    ax = ax or new_axes(figsize=(4.0, 4.0))
    sorted_, order = np.unique(place, return_inverse=True)
    held = np.cumsum((sorted_ * np.bincount(order.ravel()))[::-1])[::-1]  # where it is as high
    share = (held / held[0])[order].reshape(place.shape)
    x, y = np.linspace(*extent[:2], len(place)), np.linspace(*extent[:1:-1], len(place))
    ax.contourf(x, y, share, levels=[0, 0.5, 0.9, 0.99], colors=["#2171b5", "#6baed6", "#deebf7"])
    if goal is not None:
        ax.plot(*goal, "o", color=PALETTE[1], markersize=7, markeredgecolor="white")
    return ax


def plot_confusion(matrix: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How often each word was taken for each other, as shares of the true word's drawings.

    Args:
        matrix: Counts, true words in rows, predicted ones in columns.
        ax: Where; none: a new figure.
    """
    import seaborn as sns

    ax = ax or new_axes(figsize=(6.4, 5.2))
    sns.heatmap(
        100 * matrix.div(matrix.sum(axis=1).clip(lower=1), axis=0),
        vmin=0,
        vmax=100,
        cmap="Blues",
        annot=matrix if len(matrix) <= ANNOTATED else None,
        fmt="d",
        square=True,
        cbar_kws={"label": "share of the true word (%)"},
        ax=ax,
    )
    ax.set(xlabel="predicted word", ylabel="true word")
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    return ax


def plot_calibration(tables: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """How often a classifier is right, by how sure it is; honest probabilities give the line.

    Args:
        tables: By name, of `metrics.calibration`; a dot's area grows with its drawings.
        ax: Where; none: a new figure.
    """
    ax = ax or new_axes(figsize=(4.4, 4.0))
    ax.plot([0, 1], [0, 1], color=INK, lw=1, ls=":", label="as sure as right")
    for color, (name, table) in zip(PALETTE, tables.items(), strict=False):
        ax.plot(table["confidence"], table["accuracy"], color=color, lw=1.5, label=name)
        area = 10 + 190 * table["count"] / table["count"].sum()
        ax.scatter(table["confidence"], table["accuracy"], s=area, color=color, linewidths=0)
    ax.set(xlabel="probability given", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.legend(frameon=False)
    return ax


def plot_projection(
    points: Float[np.ndarray, "n 2"], labels: Sequence[str], *, ax: Axes | None = None
) -> Axes:
    """Latents in the plane (see `latent.project`), coloured by word, its name at their median."""
    import seaborn as sns

    ax = ax or new_axes(figsize=(6.0, 6.0))
    names = sorted(set(labels))
    palette = sns.color_palette("colorblind" if len(names) <= 10 else "husl", len(names))
    of_name = [points[np.array(labels) == name] for name in names]
    spots = np.array([np.median(own, axis=0) for own in of_name])
    spots = keep_apart(spots, names, height=np.ptp(points, axis=0).max() / 28)  # of about 6 inches
    for name, own, spot, color in zip(names, of_name, spots, palette, strict=True):
        ax.scatter(*own.T, s=12, color=color, alpha=0.8, linewidths=0, label=name)
        ax.annotate(
            name,
            spot,
            ha="center",
            weight="bold",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    ax.set(xlabel="first axis (no unit)", ylabel="second axis (no unit)")
    ax.set_aspect("equal", adjustable="datalim")
    return ax


def plot_active_units(kl_by_dimension: Float[np.ndarray, " z"], *, ax: Axes | None = None) -> Axes:
    """How much each latent dimension says of a drawing, the most telling first.

    Args:
        kl_by_dimension: KL to the prior, nats, mean over drawings.
        ax: Where; none: a new figure.
    """
    ax = ax or new_axes(figsize=(6.4, 2.8))
    kl = np.sort(kl_by_dimension)[::-1]
    active = int((kl > ACTIVE).sum())
    ax.bar(np.arange(1, len(kl) + 1), kl, width=1, linewidth=0, color=PALETTE[0])
    ax.axhline(ACTIVE, color=INK, linestyle=":", label=f"{ACTIVE} nats")
    ax.set(
        title=f"{active} of {len(kl)} dimensions say over {ACTIVE} nats",
        xlabel="latent dimension, sorted",
        ylabel="KL (nats per drawing)",
        ylim=(ACTIVE / 10, 2 * max(ACTIVE, kl[0])),
        yscale="log",
    )
    ax.legend()
    return ax


def plot_sweep(table: pd.DataFrame, *, swept: Sequence[str], score: str) -> Figure:
    """What each value of each parameter came to: a panel each, a dot a trial; lower is better.

    Args:
        table: A row a trial.
        swept: Its columns of parameters.
        score: Its column of results; trials without one are left out.
    """
    known = table.dropna(subset=score)
    figure = new_figure(figsize=(3.4 * len(swept), 3.0))
    for number, name in enumerate(swept):
        ax = figure.add_subplot(1, len(swept), number + 1)
        texts = known[name].astype(str)
        values = list(dict.fromkeys(known.sort_values(name)[name].astype(str)))
        for place, value in enumerate(values):
            own = known[score][texts == value]
            ax.plot([place] * len(own), own, "o", color=PALETTE[0], alpha=0.6)
            ax.plot(place, own.min(), "o", color=PALETTE[1])
        ax.set(xlabel=name.replace("_", " "), ylabel=score)
        ax.set_xticks(range(len(values)), values)
    return figure
