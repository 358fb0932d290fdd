"""Hyper-parameters of the models and their training, and notebooks' parameters, checked."""

import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from doodlelib.paths import CONFIG

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]
Points = Annotated[int, Field(ge=2, le=10_000)]
_strict = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_strict)
class TrainingConfig:
    """Hyper-parameters of every training; see `VAEConfig`."""

    num_epochs: Count
    batch_size: Count
    dropout: Share
    learning_rate: Positive
    lr_min: NonNegative
    grad_clip: Positive
    flip_prob: Probability
    num_workers: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True, config=_strict)
class VAEConfig(TrainingConfig):
    """Hyper-parameters of the sketch VAE and its training.

    Attributes:
        max_seq_len: Most points of a drawing: longer ones are left out, generation stops there.
        decoder_act: Activation of the layer from z to the decoder's first state.
        use_layer_norm, recurrent_dropout: Of the decoder; the encoder has neither, as in magenta.
        dropout: On the LSTM layers' outputs.
        num_gmm_modes: Mixture components of pen-down moves, and of pen-up moves.
        hide_time_prob, hide_word_prob, hide_z_prob: Share of training drawings whose time is masked
            for the encoder, whose word, or whose z, is masked for the decoder.
        learning_rate, lr_min, lr_decay, lr_cooldown: At step s, after a share p of the epochs:
            lr_min + (learning_rate - lr_min) * lr_decay**s * min(1, (1 - p) / lr_cooldown). A
            training of open length can be stopped, and resumed for few more epochs with a cooldown.
        kl_weight, kl_weight_start, kl_decay_rate: Weight of the KL term at step s:
            kl_weight * (1 - (1 - kl_weight_start) * kl_decay_rate**s).
        kl_tolerance: The mean KL per latent dimension costs nothing below this, nats.
        reg_covar: Least variance of dx, dy and log time in a mixture component, model units.
        grad_clip: Largest norm of the gradient.
        flip_prob, random_scale_factor, rotate, shear, augment_stroke_prob: Augmentation, see
            `training.batches.augment`.
        balance: A word with n drawings is trained on in proportion to n**balance, in an epoch that
            stays about as long: 1 takes each drawing once, 0 all words equally often.
        num_workers: Processes that load batches, beside the training one.
    """

    in_size: Literal[6]
    max_seq_len: Points
    class_conditioning: bool
    latent_size: Count
    enc_hidden_size: Count
    dec_hidden_size: Count
    num_lstm_layers: Annotated[int, Field(ge=1, le=8)]
    use_layer_norm: bool
    recurrent_dropout: Share
    decoder_act: Literal["tanh", "relu", "gelu", "none"]
    num_gmm_modes: Count
    hide_time_prob: Probability
    hide_word_prob: Probability
    hide_z_prob: Probability = 0.0
    lr_decay: Decay
    lr_cooldown: Probability = 0.0
    kl_weight: NonNegative
    kl_weight_start: Probability
    kl_tolerance: NonNegative
    kl_decay_rate: Decay
    reg_covar: NonNegative
    random_scale_factor: Share
    rotate: Degrees = 0.0
    shear: Share = 0.0
    augment_stroke_prob: Share
    balance: Probability = 1.0


@dataclass(frozen=True, kw_only=True, config=_strict)
class CNNConfig(TrainingConfig):
    """Hyper-parameters of the classifier and its training; see `VAEConfig` for those it shares.

    Attributes:
        image_size: Side of the input, px.
        channels: "ink", or "timed": ink, draw time and pause, which needs timed drawings.
        width: Channels of the stem; each of the two pairs of blocks doubles them.
        learning_rate, warmup, lr_min: A line from lr_min up to learning_rate over the share
            `warmup` of training, then a cosine down to lr_min.
        patience: Epochs without a lower validation loss after which training stops.
        label_smoothing: Share of the target spread over all words.
        shift, rotate, zoom, flip_prob, line_width: Augmentation: at most this share of the side,
            degrees, share of size; chance to be mirrored; share of a pixel.
    """

    image_size: Literal[28, 255]
    channels: Literal["ink", "timed"]
    width: Count
    warmup: Share
    weight_decay: NonNegative
    label_smoothing: Share
    patience: Count
    shift: Share
    rotate: Degrees
    zoom: Share
    line_width: Share


@dataclass(frozen=True, kw_only=True, config=_strict)
class RetimeConfig(TrainingConfig):
    """Hyper-parameters of the retimer and its training; see `VAEConfig` for those it shares.

    Attributes:
        hidden_size: Of each of a network's three LSTMs.
        read_size: Numbers per row that a network makes of a VAE's features, where it has them.
        num_modes: Log-normals for pen-down moves, and as many for pen-up ones.
        dropout: On the outputs of the LSTMs, and on the VAE's features.
        lr_min, patience: Where the cosine schedule ends; as the classifier's.
        pause_weight: Weight of a pause in the loss, against a segment's 1.
        rdp_prob: Chance of keeping only the points that the geometry needs, in training.
    """

    max_seq_len: Points
    hidden_size: Count
    read_size: Count
    num_modes: Count
    patience: Count
    pause_weight: Positive
    random_scale_factor: Share
    rdp_prob: Probability


Config = TypeVar("Config", VAEConfig, CNNConfig, RetimeConfig)
PARTS: dict[type, str] = {VAEConfig: "rnn", CNNConfig: "cnn", RetimeConfig: "retime"}


def make_config(kind: type[Config], values: dict[str, Any]) -> Config:
    """A configuration of the class `kind` from `values`, checked.

    Raises:
        ValueError: A key is unknown, missing, of a wrong type or out of range; it is named.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']} (given: {item['input']!r})"
            if item["type"] != "missing"
            else f"{'.'.join(map(str, item['loc']))}: missing"
            for item in error.errors()
        )
        raise ValueError(f"{PARTS[kind]} parameters: {wrong}") from None


def read_config(
    kind: type[Config], path: str | Path = CONFIG / "model_params.json", /, **overrides: Any
) -> Config:
    """A configuration from a parameter file, changed by every override that is not None.

    `path` is JSON, ``{"rnn": {...}, "cnn": {...}, "retime": {...}}``; parts may be absent, but for
    that of `kind`.

    Raises:
        ValueError: The file is not JSON, has other parts or lacks this one; and see `make_config`.
    """
    try:
        params = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(params, dict) or set(params) - set(PARTS.values()):
        raise ValueError(f"{path} must be an object of the parts {', '.join(PARTS.values())}")
    if PARTS[kind] not in params:
        raise ValueError(f"{path} has no part {PARTS[kind]!r}")
    given = {key: value for key, value in overrides.items() if value is not None}
    return make_config(kind, params[PARTS[kind]] | given)


def as_declared(namespace: dict[str, Any]) -> dict[str, Any]:
    """A notebook's parameters from its ``globals()``, by name, as the types it declares.

    papermill makes ``-p recognized false`` a text and ``-p name 2026`` a number: they become a bool
    and a text. None passes; it stands for a default.

    Raises:
        ValueError: A value cannot be of the type declared.
    """
    values, module = {}, ModuleType("notebook")
    vars(module).update(namespace)  # from 3.14 on, what a module declares is computed when asked
    for name, declared in inspect.get_annotations(module).items():
        value, config = namespace[name], ConfigDict(coerce_numbers_to_str=True)
        try:
            values[name] = TypeAdapter(declared | None, config=config).validate_python(value)
        except ValidationError:
            advice = f": papermill takes -y '{name}: [cat, dog]'" if declared is list else ""
            text = f"{name} must be {declared.__name__}, not {value!r}{advice}"
            raise ValueError(text) from None
    return values
