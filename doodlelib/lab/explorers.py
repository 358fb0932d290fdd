"""What a person does with a model in a notebook. Each call returns one widget that keeps its state.

What is asked for is made by the model when a control is let go, and shown by a player. Where that
fails, the message stands under the controls and the error is raised all the same.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from doodlelib.lab.controls import Controls, Message, choice, number, slider
from doodlelib.lab.latent_map import draw_way
from doodlelib.lab.player import Player, Stage
from doodlelib.models.vae import SketchVAE

MOST = 24  # doodles at once
End = Float[Tensor, " Z"] | str | Sequence


def temperature_explorer(
    vae: SketchVAE,
    *,
    n: int = 9,
    word: str | None = None,
    temperature: float = 0.4,
    time_temperature: float = 1.0,
    seed: int = 0,
) -> Stage:
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
    controls = Controls(
        temperature=slider("Shape temperature", temperature, top=1.5, step=0.05),
        time_temperature=slider("Time temperature", time_temperature, top=1.5, step=0.05),
        word=choice("Word", word or "", options={"": "any", **{name: name for name in known}}),
        n=slider("Doodles", n, low=1, top=MOST, step=1),
        seed=number("Seed", seed, low=0, top=2**31 - 1),
    )

    def doodles(*, word: str, **chosen: Any) -> list:
        return vae.generate(word=word or None, **chosen)

    player, message = Player(doodles(**controls.values)), Message()

    def redraw(_change: object) -> None:
        with message.errors_shown():
            player.show(doodles(**controls.values))

    controls.observe(redraw, "values")
    return Stage([controls, message, player])


def interpolation_explorer(
    vae: SketchVAE,
    start: End,
    end: End,
    *,
    steps: int = 21,
    word: str | Sequence[str] | None = None,
    temperature: float = 0.1,
    time_temperature: float = 0.1,
    seed: int = 0,
) -> Player:
    """A slider along the arc between two latents. All is drawn beforehand, so it follows the hand.

    Args:
        vae: The model.
        start: The left end: a latent, such as ``vae.encode([drawing])[0]``; a drawing; or a word,
            of which the model draws one.
        end: The right end.
        steps: Places of the slider.
        word: What the decoder is told on the way, or one word for each end, of which it is told
            the nearer. None: nothing, but where both ends are words.
        temperature: Low, so that what changes is z.
        time_temperature: Low for the same reason.
        seed: One for all.

    Raises:
        ValueError: See `latent.path` and `SketchVAE.decode`.
    """
    told = [word, word] if word is None or isinstance(word, str) else list(word)
    ends = (start, end)
    left, right = (
        one or (place if isinstance(place, str) else None)
        for one, place in zip(told, ends, strict=True)
    )
    drawings = draw_way(
        vae,
        *(_latent(vae, place, seed=seed) for place in ends),
        steps=steps,
        words=(left, right),
        temperature=temperature,
        time_temperature=time_temperature,
        seed=seed,
    )
    along = f"From {left or 'start'} to {right or 'end'}"
    return Player(drawings, along=along, size=280, autoplay=False)


def _latent(vae: SketchVAE, place: End, *, seed: int) -> Float[Tensor, " Z"]:
    if isinstance(place, Tensor):
        return place
    drawings = vae.generate(1, word=place, seed=seed) if isinstance(place, str) else [place]
    return vae.encode(drawings)[0]
