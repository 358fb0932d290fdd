"""Sliders over a model, for a notebook. Each call returns one widget that keeps all its state.

What a slider shows is an ordinary picture, made by `picture`, set by one observer; where making it
fails, the message stands under the sliders and the error is raised all the same.
"""

import html
import io
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor

from doodlelib import latent, plot
from doodlelib.strokes import duration
from doodlelib.vae import SketchVAE

LABEL = {"description_width": "10em"}
WIDE = ipywidgets.Layout(width="32em")
MOST = 24  # doodles at once


def picture(drawings: Sequence, *, size: float = 1.6, seconds: float | None = None) -> bytes:
    """PNG of the drawings side by side, coloured by time. Leaves no figure behind.

    Args:
        drawings: At least one.
        size: Inches of each.
        seconds: Where the scale of colours ends; none: with the longest drawing.
    """
    figure = plot.draw_grid(drawings, columns=6, size=size, seconds=seconds)
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return png.getvalue()


def temperature_explorer(
    vae: SketchVAE,
    *,
    n: int = 6,
    word: str | None = None,
    temperature: float = 0.4,
    time_temperature: float = 1.0,
    seed: int = 0,
) -> ipywidgets.VBox:
    """Sliders over the temperatures of shape and time, the word, the number and the seed.

    The same seed at each setting, so that what changes is what was moved. Arguments say where the
    controls stand at first.

    Args:
        vae: The model.
        n: Doodles at once, 1 to 24.
        word: One that the model knows; none: the model is not told.
        temperature: Of shape and pen, 0 to 1.5.
        time_temperature: Of the time, 0 to 1.5.
        seed: 0 or more.

    Raises:
        ValueError: A control cannot stand where it is told to.
    """
    known = vae.words if vae.word_size else []
    if word is not None and word not in known:
        raise ValueError(f"the model cannot be asked for {word!r}, but for {known or 'no word'}")
    controls = {
        "temperature": _slider("Shape temperature", temperature, top=1.5, step=0.05),
        "time_temperature": _slider("Time temperature", time_temperature, top=1.5, step=0.05),
        "word": ipywidgets.Dropdown(
            options=[("any", ""), *((name, name) for name in known)],  # None would show as blank
            value=word or "",
            description="Word",
            disabled=not known,
            style=LABEL,
            layout=WIDE,
        ),
        "n": _slider("Doodles", n, low=1, top=MOST, step=1, kind=ipywidgets.IntSlider),
        "seed": ipywidgets.BoundedIntText(
            seed, min=0, max=2**31 - 1, description="Seed", style=LABEL, layout=WIDE
        ),
    }

    def draw(*, word: str, **chosen: Any) -> bytes:
        return picture(vae.generate(word=word or None, **chosen))

    return _explorer(controls, draw)


def interpolation_explorer(
    vae: SketchVAE,
    start: Float[Tensor, " Z"],
    end: Float[Tensor, " Z"],
    *,
    steps: int = 21,
    word: str | None = None,
    temperature: float = 0.1,
    time_temperature: float = 0.1,
    seed: int = 0,
) -> ipywidgets.VBox:
    """A slider along the arc between two latents. All is drawn beforehand, so it follows the hand.

    Args:
        vae: The model.
        start: Latent of the left end, such as ``vae.encode([drawing])[0]``.
        end: Latent of the right end.
        steps: Places of the slider.
        word: See `SketchVAE.decode`, as are the other arguments.
        temperature: Low, so that what changes is z.
        time_temperature: Low for the same reason.
        seed: One for all.

    Raises:
        ValueError: See `latent.path` and `SketchVAE.decode`.
    """
    drawings = vae.decode(
        latent.path(start, end, steps=steps),
        word=word,
        temperature=temperature,
        time_temperature=time_temperature,
        seed=seed,
    )
    seconds = max(duration(drawing) for drawing in drawings) / 1000
    pictures = [picture([drawing], size=3.0, seconds=seconds) for drawing in drawings]
    share = _slider("From start to end", 0.0, top=1.0, step=1 / (steps - 1), live=True)
    return _explorer({"share": share}, lambda share: pictures[round(share * (steps - 1))])


def _slider(
    label: str,
    value: float | int,
    *,
    top: float | int,
    step: float | int,
    low: float | int = 0,
    live: bool = False,
    kind: type = ipywidgets.FloatSlider,
) -> ipywidgets.ValueWidget:
    """A slider that reports where it is let go or, `live`, on its way."""
    if not low <= value <= top:
        raise ValueError(f"{label}: {value} is not between {low} and {top}")
    return kind(
        value,
        min=low,
        max=top,
        step=step,
        description=label,
        continuous_update=live,
        style=LABEL,
        layout=WIDE,
    )


def _explorer(
    controls: Mapping[str, ipywidgets.ValueWidget], draw: Callable[..., bytes]
) -> ipywidgets.VBox:
    """The controls, the picture that `draw` makes of their values, and room for an error."""
    # at its own size: a box would stretch it to the page's width
    image = ipywidgets.Image(
        format="png", layout=ipywidgets.Layout(max_width="100%", align_self="flex-start")
    )
    message = ipywidgets.HTML()

    def redraw(_change: object = None) -> None:
        with _errors_shown(message):
            image.value = draw(**{name: control.value for name, control in controls.items()})

    redraw()
    for control in controls.values():
        control.observe(redraw, "value")
    return ipywidgets.VBox([*controls.values(), message, image])


@contextmanager
def _errors_shown(message: ipywidgets.HTML) -> Generator[None]:
    """Show an error of the block to the person, and let it pass on."""
    message.value = ""
    try:
        yield
    except BaseException as error:
        text = html.escape(f"{type(error).__name__}: {error}")
        message.value = f'<p role="alert" style="color: #d55e00">{text}</p>'
        raise
