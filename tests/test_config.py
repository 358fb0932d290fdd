"""Parameter files are checked to the last key."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from doodlelib.config import (
    PARTS,
    CNNConfig,
    VAEConfig,
    as_declared,
    make_config,
    read_config,
)
from doodlelib.paths import CONFIG, NOTEBOOKS, ROOT
from doodlelib.training.batches import AUGMENTATION

DEFAULTS = json.loads((CONFIG / "model_params.json").read_text())


@pytest.mark.parametrize(("kind", "part"), PARTS.items())
def test_the_file_holds_every_key_and_no_other(kind: type, part: str) -> None:
    assert list(DEFAULTS[part]) == [field.name for field in dataclasses.fields(kind)]
    assert dataclasses.asdict(read_config(kind)) == DEFAULTS[part]


@pytest.mark.parametrize("kind", PARTS)
def test_every_key_is_read_by_something(kind: type) -> None:
    texts = [
        p.read_text() for p in (*(ROOT / "doodlelib").rglob("*.py"), *NOTEBOOKS.glob("*.ipynb"))
    ]
    read = {name for text in texts for name in re.findall(r"config(?:\.|, \")(\w+)", text)}
    read |= AUGMENTATION  # of one that is read by name
    read.add("in_size")  # has one value; a file that was made for stroke-5 is refused by it
    assert {field.name for field in dataclasses.fields(kind)} <= read


@pytest.mark.parametrize("field", dataclasses.fields(VAEConfig), ids=lambda field: field.name)
def test_a_missing_key_is_named_unless_it_came_later(field: dataclasses.Field) -> None:
    """Files and checkpoints of before a key was there go on as they did."""
    values = {name: value for name, value in DEFAULTS["rnn"].items() if name != field.name}
    later = {"hide_z_prob": 0.0, "lr_cooldown": 0.0, "rotate": 0.0, "shear": 0.0, "balance": 1.0}
    if field.name in later:
        assert getattr(make_config(VAEConfig, values), field.name) == later[field.name]
    else:
        with pytest.raises(ValueError, match=f"{field.name}: missing"):
            make_config(VAEConfig, values)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("in_size", 5),
        ("num_epochs", 0),
        ("learning_rate", "1e-3"),
        ("learning_rate", -1.0),
        ("use_layer_norm", 1),
        ("recurrent_dropout", 1.0),
        ("latent_size", 12.5),
        ("decoder_act", "swish"),
        ("kl_decay_rate", 1.1),
        ("num_workers", -1),
        ("balance", 1.5),
        ("rotate", -1.0),
    ],
)
def test_a_wrong_value_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"rnn parameters: {key}: .*given: {value!r}"):
        read_config(VAEConfig, **{key: value})


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ValueError, match="hidden_size"):
        read_config(CNNConfig, hidden_size=3)


def test_overrides_change_only_what_is_given() -> None:
    assert read_config(VAEConfig, latent_size=7, num_epochs=None).latent_size == 7
    assert read_config(VAEConfig, num_epochs=None) == read_config(VAEConfig)


@pytest.mark.parametrize("text", ["{", "[]", '{"rnn": {}, "vae": {}}', '{"cnn": {}}'])
def test_a_malformed_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"params\.json"):
        read_config(VAEConfig, path)


PARAMETERS = """
name: str = "run"
recognized: bool = True
words: list = []
source: object = "sample"
epochs: int = None
rate: float = 0.1
"""


def given(**values: object) -> dict:
    """What a notebook's `globals()` hold after papermill has set some parameters."""
    namespace: dict = {}
    exec(PARAMETERS, namespace)
    return namespace | values


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("name", 2026, "2026"),
        ("recognized", "false", False),
        ("recognized", "true", True),
        ("words", ["cat"], ["cat"]),
        ("source", ["raw", "simplified"], ["raw", "simplified"]),
        ("epochs", None, None),
        ("epochs", 3, 3),
        ("rate", 1, 1.0),
    ],
)
def test_parameters_become_what_papermill_was_told(name: str, value: object, meant: object) -> None:
    defaults = as_declared(given())
    assert defaults["words"] == [] and defaults["recognized"] is True
    assert as_declared(given(**{name: value})) == defaults | {name: meant}
    assert type(as_declared(given(**{name: value}))[name]) is type(meant)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("words", "cat", "words must be list, not 'cat': papermill takes -y 'words: [cat, dog]'"),
        ("recognized", "perhaps", "recognized must be bool, not 'perhaps'"),
        ("name", ["a"], "name must be str, not ['a']"),
        ("name", True, "name must be str, not True"),
        ("epochs", "many", "epochs must be int, not 'many'"),
        ("epochs", 2.5, "epochs must be int, not 2.5"),
        ("rate", "fast", "rate must be float, not 'fast'"),
    ],
)
def test_a_parameter_of_another_type_is_named(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        as_declared(given(**{name: value}))
