"""What can be set and what cannot, and what is said when something fails."""

import re
from typing import Any

import pytest

from doodlelib.lab.controls import Controls, Message, choice, number, slider


def make_controls() -> Controls:
    return Controls(
        heat=slider("Heat", 0.4, top=1.5, step=0.05),
        seed=number("Seed", 7, low=0, top=9),
        word=choice("Word", "", options={"": "any", "cat": "cat"}),
    )


def test_values_start_where_they_are_told_and_move_together() -> None:
    controls = make_controls()
    seen: list[dict[str, Any]] = []
    controls.observe(lambda change: seen.append(change["new"]), "values")
    assert controls.values == {"heat": 0.4, "seed": 7, "word": ""}
    controls.set(heat=1.5, word="cat")
    assert seen == [{"heat": 1.5, "seed": 7, "word": "cat"}]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"heat": -0.1}, "Heat: -0.1 is not 0 to 1.5"),
        ({"heat": float("nan")}, "Heat: nan"),
        ({"seed": 10}, "Seed: 10 is not 0 to 9"),
        ({"word": "cow"}, "'cow' is not one of ['any', 'cat']"),
        ({"cold": 1}, "no field 'cold', but heat, seed, word"),
    ],
)
def test_what_cannot_be_set_is_refused_and_changes_nothing(
    wrong: dict[str, Any], message: str
) -> None:
    controls = make_controls()
    before = controls.values
    with pytest.raises(ValueError, match=re.escape(message)):
        controls.set(**wrong)
    assert controls.values == before


def test_a_field_cannot_start_out_of_range() -> None:
    with pytest.raises(ValueError, match="Seed: -1"):
        Controls(seed=number("Seed", -1, low=0, top=9))


def test_an_error_is_shown_as_text_and_passes_on() -> None:
    message = Message()
    with pytest.raises(RuntimeError), message.errors_shown():
        raise RuntimeError("no <ink> left")
    assert 'role="alert"' in message.value and "no &lt;ink&gt; left" in message.value
    with message.errors_shown():
        message.say("a < b")
    assert message.value == '<p role="status">a &lt; b</p>'
    with message.errors_shown():
        assert message.value == ""
