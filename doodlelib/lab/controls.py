"""Labelled inputs for widgets (sliders, numbers, choices), and messages to the person.

They are the browser's own: the sliders of ipywidgets have no name for a screen reader.
"""

import html
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import traitlets

from doodlelib.lab.player import Pictured, module

Field = dict[str, Any]


class Controls(Pictured):
    """A column of labelled inputs, whose `values` by name change when an input is let go.

    `fields`, by name, are made by `slider`, `number` and `choice`.

    Raises:
        ValueError: A field's value is not among those that it allows.
    """

    _esm = module("controls.js")

    fields = traitlets.Dict().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)

    def __init__(self, **fields: Field) -> None:
        super().__init__(fields=fields)
        self.set(**{name: field["value"] for name, field in fields.items()})

    def set(self, **values: Any) -> None:
        """Set some of the values, as a person would.

        Raises:
            ValueError: There is no such field, or it does not allow its value.
        """
        for name, value in values.items():
            if name not in self.fields:
                raise ValueError(f"no field {name!r}, but {', '.join(self.fields)}")
            field = self.fields[name]
            label, options = field["label"], field.get("options")
            if options and value not in options:
                raise ValueError(f"{label}: {value!r} is not one of {list(options.values())}")
            if "min" in field and not field["min"] <= value <= field["max"]:
                raise ValueError(f"{label}: {value} is not {field['min']} to {field['max']}")
        self.values = {**self.values, **values}


def slider(label: str, value: float, *, low: float = 0, top: float, step: float) -> Field:
    """A slider from `low` to `top`, in steps."""
    return {"kind": "range", "label": label, "value": value, "min": low, "max": top, "step": step}


def number(label: str, value: int, *, low: int, top: int) -> Field:
    """A field for an integer from `low` to `top`."""
    return slider(label, value, low=low, top=top, step=1) | {"kind": "number"}


def choice(label: str, value: str, *, options: Mapping[str, str]) -> Field:
    """A drop-down list; `options` gives the text of each value."""
    return {"kind": "choice", "label": label, "value": value, "options": dict(options)}


class Message(Pictured):
    """A line of text, which screen readers read out when it changes."""

    _esm = module("message.js")

    value = traitlets.Unicode().tag(sync=True)  # HTML

    def say(self, text: str) -> None:
        """Replace the text."""
        self.value = f'<p role="status">{html.escape(text)}</p>' if text else ""

    @contextmanager
    def errors_shown(self) -> Generator[None]:
        """Show an error of the block to the person, and raise it all the same."""
        self.say("")
        try:
            yield
        except BaseException as error:
            text = html.escape(f"{type(error).__name__}: {error}")
            self.value = f'<p role="alert" style="color: #d55e00">{text}</p>'
            raise
