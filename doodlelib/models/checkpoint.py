"""Checkpoints: save and load models, safely; shipped ones by name; weight averaging.

One file holds a model: configuration, weights, words, scale, and the state of its training.
"""

import dataclasses
import io
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from doodlelib.config import CNNConfig, RetimeConfig, VAEConfig, make_config
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.retimer import Retimer, ShapeFeatures
from doodlelib.models.vae import SketchVAE
from doodlelib.paths import TRAINED, write_whole
from doodlelib.simplify import simplify
from doodlelib.strokes import Scale

Model = TypeVar("Model", SketchVAE, DoodleCNN, Retimer)
KINDS: dict[type, str] = {SketchVAE: "rnn", DoodleCNN: "cnn", Retimer: "retime"}
FORMATS: dict[type, int] = {SketchVAE: 3, DoodleCNN: 3, Retimer: 5}  # version of each one's files
CONFIGS: dict[type, Any] = {SketchVAE: VAEConfig, DoodleCNN: CNNConfig, Retimer: RetimeConfig}
RETIMER = "DoodleRetime_best.pt"  # in the folder of a run
MAX_VALUES = 300_000  # in a file
STORAGES = ("BFloat16", "Bool", "Byte", "Double", "Float", "Half", "Long")
GLOBALS = {  # all that a checkpoint of ours names
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {name}Storage" for name in STORAGES),
}


def save(
    path: str | Path,
    model: SketchVAE | DoodleCNN | Retimer,
    *,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write `model` to one file, whole or not at all.

    `training` is step, epoch, optimiser state and the like: plain values and tensors. Of a model in
    half precision, for shipping, `read` gives weights in float32.

    Raises:
        FloatingPointError: A weight is not finite.
        OSError: The file cannot be written. In both cases an older one stays as it was.
    """
    weights = model.state_dict()
    for name, value in weights.items():
        if not value.isfinite().all():
            raise FloatingPointError(f"{name} is not finite, so that {path} is not written")
    contents: dict[str, Any] = {
        "format_version": FORMATS[type(model)],
        "kind": KINDS[type(model)],
        "config": dataclasses.asdict(model.config),
        "words": model.words,
        "weights": weights,
        "training": dict(training or {}),
    }
    if not isinstance(model, DoodleCNN):
        contents["scale"] = dataclasses.asdict(model.scale)
        contents["simplification"] = model.simplification
    if isinstance(model, Retimer) and model.reader:
        contents["reader"] = dataclasses.asdict(model.reader.net.config)
    buffer = io.BytesIO()  # torch would hide what goes wrong with a file
    torch.save(contents, buffer)
    return write_whole(path, buffer.getbuffer())


def read(
    path: str | Path, kind: type[Model], *, device: str | torch.device = "cpu"
) -> tuple[Model, dict[str, Any]]:
    """The model in a checkpoint, in evaluation mode, and the state of its training.

    Nothing in the file is run, and no more memory is taken than its size allows.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a checkpoint of ours, of another version or kind, or incomplete.
    """
    path = Path(path)
    contents = _load(path)
    if not isinstance(contents, dict) or "format_version" not in contents:
        raise ValueError(f"{path} is not a checkpoint of this project")
    if contents.get("kind") != KINDS[kind]:
        raise ValueError(f"{path} holds a model of kind {contents.get('kind')}, not {KINDS[kind]}")
    if contents["format_version"] != FORMATS[kind]:
        raise ValueError(
            f"{path} has format {contents['format_version']}, this version reads {FORMATS[kind]}: "
            "train it anew, or use the version of this project that wrote it"
        )
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes the file asks for
            model = _build(kind, contents)
        weights = dict(contents["weights"])
        for name, own in model.state_dict().items():
            if own.dtype == torch.float32 and weights[name].dtype == torch.float16:
                weights[name] = weights[name].float()
            if weights[name].dtype != own.dtype or not weights[name].isfinite().all():
                raise ValueError(f"{name} is not {own.dtype}, or not finite")
        model.load_state_dict(weights, assign=True)
    except Exception as error:
        problem = str(error)[:1000]
        raise ValueError(f"{path}: weights and configuration do not fit: {problem}") from None
    return model.to(device).eval(), contents.get("training", {})


def load_vae(path: str | Path = "trained", *, device: str = "cpu") -> SketchVAE:
    """The sketch VAE in a checkpoint, ready to draw; ``"trained"`` is the shipped one.

    The retimer of the same run comes with it, or else the shipped one. Errors as `read`.
    """
    chosen = _chosen(path, SketchVAE)
    vae, _ = read(chosen, SketchVAE, device=device)
    for retimer in (chosen.with_name(RETIMER), _chosen("trained", Retimer)):
        if retimer.is_file():
            vae.attach(load_retimer(retimer, device=device))
            break
    return vae


def load_retimer(path: str | Path = "trained", *, device: str = "cpu") -> Retimer:
    """The retimer in a checkpoint; ``"trained"`` is the shipped one. Errors as `read`."""
    return read(_chosen(path, Retimer), Retimer, device=device)[0]


def load_cnn(path: str | Path = "trained", *, device: str = "cpu") -> DoodleCNN:
    """The classifier in a checkpoint; ``"trained"`` knows ten words, ``"trained_345"`` all."""
    return read(_chosen(path, DoodleCNN), DoodleCNN, device=device)[0]


@torch.no_grad()
def average(paths: Sequence[str | Path], kind: type[Model]) -> Model:
    """The last checkpoint's model with the mean of the trained weights of all, of one training.

    Source: Izmailov et al. 2018 (arXiv 1803.05407).
    """
    models = [read(path, kind)[0] for path in paths]
    for same in zip(*(model.parameters() for model in models), strict=True):
        if same[-1].requires_grad:
            same[-1].copy_(torch.stack(list(same)).mean(0))
    return models[-1]


def _load(path: Path) -> Any:
    """The contents of a checkpoint that may come from anybody.

    `torch.load(weights_only=True)` runs nothing, but believes what a file says of its sizes (a
    packed part, a view that spreads one number over a terabyte, a ``bytearray(10**12)``).
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            for part in archive.infolist():
                if part.compress_type != zipfile.ZIP_STORED:
                    raise ValueError("it is packed")
                if part.filename.endswith(".pkl"):
                    operations = pickletools.genops(archive.read(part))
                    named = {str(given) for code, given, _ in operations if code.name == "GLOBAL"}
                    if others := sorted(named - GLOBALS):
                        raise ValueError(f"it names {', '.join(others)[:200]}")
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        values = list(islice(_flat(contents), MAX_VALUES + 1))
        if len(values) > MAX_VALUES:
            raise ValueError(f"it holds over {MAX_VALUES} values")
        tensors = (value for value in values if isinstance(value, Tensor))
        if sum(each.numel() * each.element_size() for each in tensors) > path.stat().st_size:
            raise ValueError("its tensors are larger than the file")
    except Exception as error:  # whatever a file that is not what it should be leads to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as a checkpoint: {reason}") from None
    return contents


def _flat(value: Any) -> Iterator[Any]:
    """All that nested values hold; without end where they hold each other."""
    yield value
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _flat(inner)


def _build(kind: type[Model], contents: Mapping[str, Any]) -> Model:
    words = contents["words"]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"words are {str(words)[:60]}")
    config = make_config(CONFIGS[kind], contents["config"])
    if kind is DoodleCNN:
        return kind(config, words=words)
    simplify([[[0, 1], [0, 1]]], **contents["simplification"])  # fails now rather than later
    scale, more = Scale(**contents["scale"]), {}
    if "reader" in contents:
        more["reader"] = ShapeFeatures(make_config(VAEConfig, contents["reader"]), scale=scale)
    more |= {"words": words, "scale": scale, "simplification": contents["simplification"]}
    return kind(config, **more)


def _chosen(path: str | Path, kind: type) -> Path:
    """``"trained"`` and ``"trained_NAME"`` stand for the files of ``trained_models/``."""
    shipped = re.fullmatch(r"trained(_\w+)?", str(path))
    return TRAINED / f"{KINDS[kind]}{shipped[1] or ''}.pt" if shipped else Path(path)
