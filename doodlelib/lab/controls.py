"""What a person sets, and what is said back.

The sliders of ipywidgets have no name that a screen reader could read out; these are the browser's.
"""

import html
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import anywidget
import ipywidgets
import traitlets

from doodlelib.lab.player import STATIC

Field = dict[str, Any]


class Controls(anywidget.AnyWidget):
    """Labelled inputs, one below the other. `values`, by name, change when an input is let go.

    Args:
        fields: By name, as `slider`, `number`, `choice` and `text` make them.

    Raises:
        ValueError: A field cannot stand at its value.
    """

    _esm = STATIC / "controls.js"
    _css = STATIC / "doodles.css"

    fields = traitlets.Dict().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)

    def __init__(self, **fields: Field) -> None:
        for field in fields.values():
            _check(field, field["value"])
        super().__init__(fields=fields, values={name: f["value"] for name, f in fields.items()})

    def set(self, **values: Any) -> None:
        """Set some of the values, as a person would.

        Raises:
            ValueError: There is no such field, or it cannot stand at its value.
        """
        for name, value in values.items():
            if name not in self.fields:
                raise ValueError(f"no field {name!r}, but {', '.join(self.fields)}")
            _check(self.fields[name], value)
        self.values = {**self.values, **values}


def slider(label: str, value: float, *, low: float = 0, top: float, step: float) -> Field:
    """A number from `low` to `top`, in steps."""
    return {"kind": "range", "label": label, "value": value, "min": low, "max": top, "step": step}


def number(label: str, value: int, *, low: int, top: int) -> Field:
    """A whole number to be typed."""
    return {"kind": "number", "label": label, "value": value, "min": low, "max": top, "step": 1}


def choice(label: str, value: str, *, options: Mapping[str, str]) -> Field:
    """One of some values; `options` gives the text of each."""
    return {"kind": "choice", "label": label, "value": value, "options": dict(options)}


def text(label: str, value: str, *, suggestions: Sequence[str] = ()) -> Field:
    """Words to be typed; some are suggested."""
    return {"kind": "text", "label": label, "value": value, "suggestions": list(suggestions)}


def _check(field: Field, value: Any) -> None:
    if field["kind"] == "choice":
        if value not in field["options"]:
            raise ValueError(
                f"{field['label']}: {value!r} is not one of {list(field['options'].values())}"
            )
    elif field["kind"] != "text" and not field["min"] <= value <= field["max"]:
        raise ValueError(
            f"{field['label']}: {value} is not between {field['min']} and {field['max']}"
        )


class Message(ipywidgets.HTML):
    """A line for what there is to say; read out when it changes."""

    def say(self, text: str) -> None:
        """Show a text instead of the last one."""
        self.value = f'<p role="status">{html.escape(text)}</p>' if text else ""

    @contextmanager
    def errors_shown(self) -> Generator[None]:
        """Show an error of the block to the person, and let it pass on."""
        self.say("")
        try:
            yield
        except BaseException as error:
            text = html.escape(f"{type(error).__name__}: {error}")
            self.value = f'<p role="alert" style="color: #d55e00">{text}</p>'
            raise
