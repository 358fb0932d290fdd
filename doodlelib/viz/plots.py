"""Drawings and pictures in, matplotlib out. Nothing here shows a figure, saves one or sees a model.

Functions that draw one thing take `ax` and return it; without `ax` they make a new pyplot figure,
which a notebook shows at the end of the cell. Those that return a `Figure` own it: it is not
registered with pyplot, so it shows once, where it is the cell's value or given to `display`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Real
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba_array
from matplotlib.figure import Figure

from doodlelib.strokes import as_drawing, duration, is_timed

ColorBy = Literal["time", "stroke"]

INK = "#22223b"
# seaborn's "colorblind", less its yellow, which is lost on white
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494")
# perceptually uniform, for the same reason without plasma's yellow end
TIME_COLORS = LinearSegmentedColormap.from_list(
    "drawing time", plt.get_cmap("plasma")(np.linspace(0, 0.85, 256))
)


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


def keep_apart(
    spots: Real[np.ndarray, "n 2"], names: Sequence[str], *, height: float
) -> Real[np.ndarray, "n 2"]:
    """`spots`, moved along y where the names written about them would cover one another.

    Args:
        spots: Middles of the names.
        names: At each.
        height: Of a line of text, in the unit of `spots`; a letter is taken to be 0.6 of it wide.
    """
    moved, placed = np.array(spots, dtype=float), []
    for index in np.argsort(moved[:, 1], kind="stable"):
        for other in sorted(placed, key=lambda one: moved[one, 1]):
            width = 0.3 * height * (len(names[index]) + len(names[other]))
            across, along = np.abs(moved[index] - moved[other])
            if across < width and along < height:
                moved[index, 1] = moved[other, 1] + height
        placed.append(index)
    return moved


def draw_drawing(
    drawing: Sequence,
    *,
    ax: Axes | None = None,
    color_by: ColorBy | None = "time",
    seconds: float | None = None,
    pauses: bool = False,
    line_width: float = 2.0,
) -> Axes:
    """The strokes as they lie on the page: y runs down, no frame, one scale for x and y.

    Args:
        drawing: Strokes, px and ms.
        ax: Where; none: a new figure.
        color_by: "time": since the first touch (ink where the drawing is untimed); "stroke": a
            colour each; none: ink.
        seconds: Where the scale of colours ends; none: with the drawing.
        pauses: Show the way of the lifted pen, dotted.
        line_width: Points.

    Raises:
        ValueError: The drawing is malformed (see `strokes.as_drawing`), or `color_by` unknown.
    """
    if color_by not in ("time", "stroke", None):
        raise ValueError(f"color_by must be 'time', 'stroke' or None, not {color_by!r}")
    drawing = as_drawing(drawing)
    strokes = [np.stack(stroke, axis=1) for stroke in drawing]
    counts = [max(len(stroke) - 1, 1) for stroke in strokes]
    starts = np.concatenate([s[:n] for s, n in zip(strokes, counts, strict=True)])
    ends = np.concatenate([s[-n:] for s, n in zip(strokes, counts, strict=True)])
    is_dot = np.repeat([not np.ptp(stroke[:, :2], axis=0).any() for stroke in strokes], counts)
    number = np.repeat(np.arange(len(strokes)), counts)
    if color_by == "time" and is_timed(drawing):
        times = (starts[:, 2] + ends[:, 2]) / 2 - starts[0, 2]
        colors = TIME_COLORS(times / (1000 * seconds if seconds else duration(drawing) or 1))
    elif color_by == "stroke":
        colors = to_rgba_array(PALETTE)[number % len(PALETTE)]
    else:
        colors = to_rgba_array(INK).repeat(len(starts), axis=0)

    ax = ax or new_axes(figsize=(4.0, 4.0))
    lines = list(np.stack([starts, ends], axis=1)[..., :2])
    ax.add_collection(LineCollection(lines, colors=colors, linewidths=line_width, capstyle="round"))
    size = (1.5 * line_width) ** 2
    ax.scatter(*starts[is_dot, :2].T, c=colors[is_dot], s=size, linewidths=0)
    if pauses:
        gaps = [np.stack([a[-1, :2], b[0, :2]]) for a, b in pairwise(strokes)]
        ax.add_collection(
            LineCollection(gaps, colors="0.6", linewidths=line_width / 2, linestyles=":", zorder=1)
        )
    ax.set_aspect("equal", adjustable="datalim")
    ax.yaxis.set_inverted(True)
    ax.autoscale_view()
    ax.set_axis_off()
    return ax


def add_time_bar(axes: Axes | Sequence[Axes], *, seconds: float) -> Colorbar:
    """The scale of `draw_drawing`'s colours, 0 to `seconds`, beside `axes`."""
    axes = [axes] if isinstance(axes, Axes) else list(axes)
    bar = axes[0].figure.colorbar(
        ScalarMappable(Normalize(0, seconds), TIME_COLORS),
        ax=axes,
        label="time (s)",
        aspect=25,
        pad=0.02,
    )
    bar.outline.set_visible(False)
    return bar


def draw_grid(
    drawings: Sequence,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 8,
    color_by: ColorBy | None = "time",
    seconds: float | None = None,
    pauses: bool = False,
    size: float = 1.4,
) -> Figure:
    """Drawings side by side, under one scale of time.

    Args:
        drawings: At least one.
        titles: Of each.
        columns: At most so many in a row.
        color_by: See `draw_drawing`.
        seconds: Where the scale of colours ends; none: with the longest drawing.
        pauses: See `draw_drawing`.
        size: Inches of a cell.

    Raises:
        ValueError: No drawings, or another number of titles.
    """
    figure, cells = _cells(len(drawings), titles=titles, columns=columns, size=size)
    longest = max((duration(d) / 1000 for d in drawings if is_timed(d)), default=0.0)
    seconds = seconds or longest
    for ax, drawing in zip(cells, drawings, strict=True):
        draw_drawing(drawing, ax=ax, color_by=color_by, seconds=seconds, pauses=pauses)
    if color_by == "time" and longest:
        add_time_bar(figure.axes, seconds=seconds)
    return figure


def draw_images(
    images: Real[np.ndarray, "n h w"] | Sequence[Real[np.ndarray, "h w"]],
    *,
    titles: Sequence[str] | None = None,
    columns: int = 8,
    size: float = 1.2,
) -> Figure:
    """Rasters side by side, ink (255) black on white. Arguments and errors as `draw_grid`."""
    figure, cells = _cells(len(images), titles=titles, columns=columns, size=size)
    for ax, image in zip(cells, images, strict=True):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color="0.85")
    return figure


def plot_speed(drawing: Sequence, *, ax: Axes | None = None) -> Axes:
    """The pen's speed over time, a line for each stroke, pauses shaded.

    Raises:
        ValueError: The drawing is malformed or untimed.
    """
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


def _cells(
    n: int, *, titles: Sequence[str] | None, columns: int, size: float
) -> tuple[Figure, list[Axes]]:
    """A figure of n cells in rows, with titles."""
    if n == 0:
        raise ValueError("nothing to draw")
    if titles is not None and len(titles) != n:
        raise ValueError(f"{len(titles)} titles for {n} pictures")
    columns = min(n, columns)
    rows = math.ceil(n / columns)
    height = size + (0.25 if titles else 0)
    figure = new_figure(figsize=(columns * size, rows * height))
    cells = [figure.add_subplot(rows, columns, number + 1) for number in range(n)]
    for ax, title in zip(cells, titles or [], strict=False):
        ax.set_title(title, fontsize="small")
    return figure, cells
