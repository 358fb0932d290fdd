"""What the command line does: train through the notebooks, generate doodles, infer words."""

import argparse
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from doodlelib.cli.notebooks import run_notebook
from doodlelib.cli.parameters import check_parameters, parse_values
from doodlelib.data.formats import read_file
from doodlelib.data.photos import read_image, to_frame
from doodlelib.models.checkpoint import load_cnn, load_vae
from doodlelib.paths import CONFIG, NOTEBOOKS, PROCESSED, RUNS, checked_name
from doodlelib.viz.export import to_gif, to_svg

IMAGE_SIZES = {"simplified": 255, "reduced": 28}  # px, by data mode
SOURCES = {"full": "raw", "simplified": "simplified", "reduced": "simplified"}
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg"}
UNSAFE = r"[^\w -]"  # characters in a file's name
TOP = 5  # words that infer prints


def train(options: argparse.Namespace) -> None:
    """Notebook 02 where data are to be prepared, then 03 or 04."""
    data_mode = options.data_mode or {"rnn": "full", "cnn": "reduced"}[options.model_type]
    store = (options.processed_data_path or PROCESSED / data_mode).resolve()
    preparing = {
        "words": options.words,
        "source": options.source,
        "samples_per_class": options.num_samples_per_class,
    }
    steps = []
    if options.processed_data_path is None or not (store / "store.json").is_file():
        if store.parent != PROCESSED:
            raise FileNotFoundError(f"no prepared data at {store}; new ones go into {PROCESSED}")
        preparing["name"] = store.name
        preparing["words"] = options.words or _usual_words()[data_mode]
        preparing["source"] = preparing["source"] or SOURCES[data_mode]
        steps.append(("02_preprocess", _given(preparing)))
    elif _given(preparing):
        raise ValueError(
            f"{store} is prepared already; {', '.join(_given(preparing))} came too late"
        )

    step = {"rnn": "03_train_vae", "cnn": "04_train_cnn"}[options.model_type]
    name = f"{options.model_type}_{_now()}"
    training = {
        "data": store.name if store.parent == PROCESSED else str(store),
        "name": name,
        "seed": options.seed,
        "image_size": IMAGE_SIZES.get(data_mode),
        "resume": options.model_path and str(options.model_path.resolve()),
    }
    training |= parse_values(NOTEBOOKS / f"{step}.ipynb", options.parameter or [])
    steps.append((step, _given(training)))
    for step, parameters in steps:
        check_parameters(NOTEBOOKS / f"{step}.ipynb", parameters)
    name = checked_name(str(training["name"]))
    for step, parameters in steps:
        notebook = NOTEBOOKS / f"{step}.ipynb"
        print(run_notebook(notebook, RUNS / name / notebook.name, parameters, live=True))


def generate(options: argparse.Namespace) -> None:
    """One GIF in true time and one SVG a doodle."""
    vae = load_vae(options.model_path or "trained")
    print(f"model: {options.model_path or 'the shipped one, trained_models/rnn.pt'}")
    n = options.num_generations or 10
    words = options.words or (_usual_first(vae.words) if vae.config.class_conditioning else [])
    labels = [words[index % len(words)] if words else "doodle" for index in range(n)]
    heat = {"temperature": options.temperature, "time_temperature": options.time_temperature}
    drawings = vae.generate(n, word=labels if words else None, seed=options.seed, **_given(heat))

    folder = options.output or RUNS / "generated" / _now()
    if options.output and folder.exists() and any(folder.iterdir()):
        folder = folder / _now()
    folder.mkdir(parents=True, exist_ok=folder == options.output)
    for index, (label, drawing) in enumerate(zip(labels, drawings, strict=True)):
        number = labels[: index + 1].count(label)
        stem = folder / f"{re.sub(UNSAFE, '_', label)}_{number:02d}"
        for write, suffix in ((to_gif, ".gif"), (to_svg, ".svg")):
            write(drawing, stem.with_suffix(suffix))
            print(stem.with_suffix(suffix), flush=True)


def infer(options: argparse.Namespace) -> None:
    """The likeliest words of an image, or of each drawing of a file, a line each."""
    cnn = load_cnn(options.model_path or "trained")
    size = IMAGE_SIZES.get(options.data_mode, cnn.config.image_size)
    if size != cnn.config.image_size:
        raise ValueError(f"-dm {options.data_mode}: this model reads {cnn.config.image_size} px")
    print(f"model: {options.model_path or 'the shipped one, trained_models/cnn.pt'}")
    if options.input.suffix.lower() in IMAGE_SUFFIXES:
        names, doodles = [options.input.name], to_frame(read_image(options.input), size)[None]
    else:
        records = list(read_file(options.input, recognized=False))
        if not records:
            raise ValueError(f"{options.input} holds no drawing")
        names = [f"{record.word} {record.key_id}" for record in records]
        doodles = [record.drawing for record in records]
    for name, row in zip(names, cnn.predict(doodles), strict=True):
        ranked = sorted(zip(row.tolist(), cnn.words, strict=True), reverse=True)[:TOP]
        print(f"{name}: " + ", ".join(f"{word} {share:.3f}" for share, word in ranked))


def _usual_words() -> dict[str, list[str]]:
    """The words that are learned where none are named, by data mode."""
    return json.loads((CONFIG / "subset_classes.json").read_text(encoding="utf-8"))


def _usual_first(words: Sequence[str]) -> list[str]:
    """All of `words`; first those that a model of strokes learns where none are named."""
    usual = _usual_words()["full"]
    return sorted(words, key=lambda word: usual.index(word) if word in usual else len(usual))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
