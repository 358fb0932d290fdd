"""What can be set, what is allowed, and where the defaults stand: config/model_params.json."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from doodlelib.paths import CONFIG

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(gt=0, le=1)]

_strict = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_strict)
class VAEConfig:
    """Hyper-parameters of the sketch VAE and its training. Every key must be given.

    Attributes:
        in_size: Columns of stroke-6.
        max_seq_len: Points a drawing may have; longer ones are left out of training (and counted),
            and generation stops there.
        class_conditioning: Tell the decoder the word.
        decoder_act: What shapes the decoder's first state out of z.
        use_layer_norm, recurrent_dropout: Of the decoder; either one switches from the fused LSTM
            to our own. The encoder is always the fused one, as in magenta's default.
        dropout: On the outputs of the LSTM layers.
        num_gmm_modes: Mixture components, each for pen down and as many for pen up.
        hide_time_prob: Share of training drawings whose time the encoder does not see, so that z
            can be had from the shape alone.
        hide_word_prob: Share of training drawings whose word the decoder is not told, so that it
            can also draw without one.
        lr_decay: Learning rate at step s: (learning_rate - lr_min) * lr_decay**s + lr_min.
        kl_weight, kl_weight_start, kl_decay_rate: Weight of the KL term at step s:
            kl_weight * (1 - (1 - kl_weight_start) * kl_decay_rate**s).
        kl_tolerance: Nats a latent dimension, below which the mean KL costs nothing.
        reg_covar: Least variance of dx, of dy and of log time in a mixture component, in squared
            model units.
        grad_clip: Largest norm of the gradient.
        flip_prob: Augmentation: chance that a drawing is mirrored left to right. Timed drawings are
            few, and their times overfit first.
        random_scale_factor: Augmentation: x and y scaled apart by up to this share.
        augment_stroke_prob: Augmentation: chance that a point is dropped (merged into the next).
    """

    in_size: Literal[6]
    num_epochs: Count
    batch_size: Count
    max_seq_len: Annotated[int, Field(ge=2, le=10_000)]
    class_conditioning: bool
    latent_size: Count
    enc_hidden_size: Count
    dec_hidden_size: Count
    num_lstm_layers: Annotated[int, Field(ge=1, le=8)]
    use_layer_norm: bool
    recurrent_dropout: Share
    dropout: Share
    decoder_act: Literal["tanh", "relu", "gelu", "none"]
    num_gmm_modes: Count
    hide_time_prob: Annotated[float, Field(ge=0, le=1)]
    hide_word_prob: Annotated[float, Field(ge=0, le=1)]
    learning_rate: Positive
    lr_min: NonNegative
    lr_decay: Decay
    kl_weight: NonNegative
    kl_weight_start: Annotated[float, Field(ge=0, le=1)]
    kl_tolerance: NonNegative
    kl_decay_rate: Decay
    reg_covar: NonNegative
    grad_clip: Positive
    flip_prob: Annotated[float, Field(ge=0, le=1)]
    random_scale_factor: Share
    augment_stroke_prob: Share
    num_workers: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True, config=_strict)
class CNNConfig:
    """Hyper-parameters of the classifier and its training. Every key must be given.

    Attributes:
        image_size: Side of the input, px.
        channels: "ink", or "timed": ink, draw time and pause, which needs timed drawings.
        width: Channels of the stem; each of the two pairs of blocks doubles them.
        warmup: Share of training in which the learning rate rises to its height.
        lr_min: Where it begins, and where its cosine ends.
        grad_clip: Largest norm of the gradient.
        patience: Epochs without a better validation loss before training stops.
        label_smoothing: Share of the target spread over all words.
        shift, rotate, zoom: Augmentation: at most this share of the side, degrees, share of size.
        flip_prob: Augmentation: chance that an image is mirrored left to right; people draw nearly
            every word either way round.
        line_width: Augmentation: lines thickened or thinned by up to this share of the way to what
            the neighbouring pixels have.
    """

    image_size: Literal[28, 255]
    channels: Literal["ink", "timed"]
    num_epochs: Count
    batch_size: Count
    width: Count
    dropout: Share
    learning_rate: Positive
    warmup: Share
    lr_min: NonNegative
    weight_decay: NonNegative
    grad_clip: Positive
    label_smoothing: Share
    patience: Count
    shift: Share
    rotate: Annotated[float, Field(ge=0, le=180)]
    zoom: Share
    flip_prob: Annotated[float, Field(ge=0, le=1)]
    line_width: Share
    num_workers: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True, config=_strict)
class RetimeConfig:
    """Hyper-parameters of the retimer and its training, on timed drawings. Every key must be given.

    Attributes:
        max_seq_len: Points a drawing may have; longer ones are left out of training.
        members: Networks that learn apart and predict together; each costs as much as one.
        hidden_size: Of each of a network's three LSTMs.
        read_size: Numbers a row that it makes of what a reader sees, where there is one.
        num_modes: Log-normals for drawn moves, and as many for lifted ones.
        dropout: On the outputs of the LSTMs, and on what a reader sees.
        lr_min: Where the cosine schedule ends.
        grad_clip: Largest norm of the gradient.
        patience: Epochs without a better validation loss before training stops.
        pause_weight: What a pause counts in the loss, against a segment.
        flip_prob, random_scale_factor: Augmentation: see `VAEConfig`.
        rdp_prob: Augmentation: chance that a drawing keeps only the points of its shape, as the
            published simplified drawings do.
    """

    num_epochs: Count
    batch_size: Count
    max_seq_len: Annotated[int, Field(ge=2, le=10_000)]
    members: Count
    hidden_size: Count
    read_size: Count
    num_modes: Count
    dropout: Share
    learning_rate: Positive
    lr_min: NonNegative
    grad_clip: Positive
    patience: Count
    pause_weight: Positive
    flip_prob: Annotated[float, Field(ge=0, le=1)]
    random_scale_factor: Share
    rdp_prob: Annotated[float, Field(ge=0, le=1)]
    num_workers: Annotated[int, Field(ge=0)]


Config = TypeVar("Config", VAEConfig, CNNConfig, RetimeConfig)
PARTS: dict[type, str] = {VAEConfig: "rnn", CNNConfig: "cnn", RetimeConfig: "retime"}


def make_config(kind: type[Config], values: dict[str, Any]) -> Config:
    """The checked configuration that `values` describe.

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
    kind: type[Config], path: str | Path = CONFIG / "model_params.json", **overrides: Any
) -> Config:
    """The configuration that a parameter file holds, changed by every override that is not None.

    Args:
        kind: `VAEConfig` (the file's part "rnn"), `CNNConfig` ("cnn") or `RetimeConfig` ("retime").
        path: JSON, ``{"rnn": {...}, "cnn": {...}, "retime": {...}}``; parts may be absent.
        **overrides: Values by key.

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
