"""One file holds a model: configuration, weights, words, scale, and the state of its training."""

import dataclasses
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from doodlelib.cnn import DoodleCNN
from doodlelib.config import CNNConfig, VAEConfig, make_config
from doodlelib.paths import TRAINED, atomic_write
from doodlelib.strokes import Scale
from doodlelib.vae import SketchVAE

FORMAT_VERSION = 1
Model = TypeVar("Model", SketchVAE, DoodleCNN)
KINDS: dict[type, str] = {SketchVAE: "rnn", DoodleCNN: "cnn"}  # as the command line calls them


def save(
    path: str | Path, model: SketchVAE | DoodleCNN, *, training: Mapping[str, Any] | None = None
) -> Path:
    """Write `model` to one file, whole or not at all.

    Args:
        path: The file.
        model: Either model; its kind is told by its class.
        training: Step, epoch, optimiser state and the like; only plain values and tensors.
    """
    contents: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": KINDS[type(model)],
        "config": dataclasses.asdict(model.config),
        "words": model.words,
        "weights": model.state_dict(),
        "training": dict(training or {}),
    }
    if isinstance(model, SketchVAE):
        contents["scale"] = dataclasses.asdict(model.scale)
        contents["simplification"] = model.simplification
    with atomic_write(path) as file:
        torch.save(contents, file)
    return Path(path)


def read(
    path: str | Path, kind: type[Model], *, device: str | torch.device = "cpu"
) -> tuple[Model, dict[str, Any]]:
    """The model in a checkpoint, in evaluation mode, and the state of its training.

    Args:
        path: The file.
        kind: What it must hold.
        device: Where the weights go.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a checkpoint of ours, of another version or kind, or incomplete.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        contents = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, LookupError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as a checkpoint: {reason}") from None
    if not isinstance(contents, dict) or "format_version" not in contents:
        raise ValueError(f"{path} is not a checkpoint of this project")
    if contents["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format {contents['format_version']}, this version reads {FORMAT_VERSION}"
        )
    if contents.get("kind") != KINDS[kind]:
        raise ValueError(f"{path} holds a model of kind {contents.get('kind')}, not {KINDS[kind]}")
    try:
        model = _build(kind, contents)
        model.load_state_dict(contents["weights"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: weights and configuration do not fit: {error}") from None
    return model.to(device).eval(), contents.get("training", {})


def load_vae(path: str | Path = "trained", *, device: str = "cpu") -> SketchVAE:
    """The sketch VAE in a checkpoint, ready to draw.

    Args:
        path: A checkpoint; ``"trained"`` is the chosen one of ``trained_models/``.
        device: Where the weights go.

    Raises:
        FileNotFoundError, ValueError: See `read`.
    """
    return read(_chosen(path, SketchVAE), SketchVAE, device=device)[0]


def load_cnn(path: str | Path = "trained", *, device: str = "cpu") -> DoodleCNN:
    """The classifier in a checkpoint; arguments and errors as `load_vae`."""
    return read(_chosen(path, DoodleCNN), DoodleCNN, device=device)[0]


def _build(kind: type[Model], contents: Mapping[str, Any]) -> Model:
    words = contents["words"]
    if kind is DoodleCNN:
        return kind(make_config(CNNConfig, contents["config"]), words=words)
    return kind(
        make_config(VAEConfig, contents["config"]),
        words=words,
        scale=Scale(**contents["scale"]),
        simplification=contents["simplification"],
    )


def _chosen(path: str | Path, kind: type) -> Path:
    return TRAINED / f"{KINDS[kind]}.pt" if str(path) == "trained" else Path(path)
