"""Train, generate, infer and make a page from the command line."""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from doodlelib.cli.notebooks import check_parameters, exit_status, parse_values, run_notebook
from doodlelib.paths import CONFIG, NOTEBOOKS, PROCESSED, RUNS, checked_name
from doodlelib.progress import progress_bar

MODELS = {"full": "rnn", "simplified": "cnn", "reduced": "cnn"}  # by data mode
NOTEBOOK_OF = {"rnn": "03_train_vae.ipynb", "cnn": "04_train_cnn.ipynb"}
KINDS = ("raw", "simplified", "sample")  # of sources; any other is a folder
SOURCES = {"full": "raw", "simplified": "simplified", "reduced": "simplified"}
IMAGE_SIZES = {"simplified": 255, "reduced": 28}  # px, by data mode
READ_BY = {  # options that not every mode reads
    **dict.fromkeys(("num_samples_per_class", "source"), ("train",)),
    **{"processed_data_path": ("train", "page"), "output": ("generate", "page")},
    **dict.fromkeys(("num_generations", "temperature", "time_temperature"), ("generate",)),
    **dict.fromkeys(("words", "seed"), ("generate", "train")),
    **{"parameter": ("train",), "input": ("infer",)},
    **{"show": ("infer",), "json": ("infer",)},
}
UNSAFE = r"[^\w -]"  # characters in a file's name
TOP = 5  # words that infer prints
EXAMPLES = """\
examples:
  python -m doodlelib -m train -mt rnn -dm full -nspc 1000 --words cat dog -p epochs 20
  python -m doodlelib -m generate -ng 5 --word cat -o doodles
  python -m doodlelib -m infer -i drawing.png
  python -m doodlelib -m page -o doodles.html
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m doodlelib``; its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check(options, parser.error)
    return exit_status(parser, lambda: MODES[options.mode](options))


def train(options: argparse.Namespace) -> None:
    """Run notebook 02 if there are no prepared data yet, then 03 (strokes) or 04 (images)."""
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
        preparing["source"] = options.source or SOURCES[data_mode]
        if preparing["source"] in KINDS and not options.words:  # else the words are the folder's
            preparing["words"] = _default_words()[data_mode]
        steps.append((NOTEBOOKS / "02_preprocess.ipynb", _given(preparing)))
    elif late := ", ".join(_given(preparing)):
        raise ValueError(f"{store} is prepared already; {late} came too late")

    notebook = NOTEBOOKS / NOTEBOOK_OF[options.model_type]
    training = {
        "data": store.name if store.parent == PROCESSED else str(store),
        "name": f"{options.model_type}_{_now()}",
        "seed": options.seed,
        "image_size": IMAGE_SIZES.get(data_mode),
        "resume": options.model_path and str(options.model_path.resolve()),
    }
    training |= parse_values(notebook, options.parameter or [])
    steps.append((notebook, _given(training)))
    for notebook, parameters in steps:  # all before anything is run
        check_parameters(notebook, parameters)
    folder = RUNS / checked_name(str(training["name"]))
    for notebook, parameters in steps:
        print(run_notebook(notebook, folder / notebook.name, parameters, live=True))


def generate(options: argparse.Namespace) -> None:
    """Write doodles, each as a GIF in true time (if the model knows one) and as an SVG."""
    from doodlelib.models.checkpoint import load_vae
    from doodlelib.viz.animation import pace_of
    from doodlelib.viz.export import to_gif, to_svg

    vae = load_vae(options.model_path or "trained")
    print(f"model: {options.model_path or 'the shipped one, trained_models/rnn.pt'}")
    if not vae.scale.knows_time:
        times = "are the retimer's" if vae.retimer else "are unknown"
        print(f"this model was trained on untimed drawings: times {times}")
    words = options.words or []
    if not words and vae.config.class_conditioning:  # all of them, the default ones first
        first = _default_words()["full"]
        words = sorted(vae.words, key=lambda w: first.index(w) if w in first else len(first))
    n = options.num_generations or 10
    labels = [words[index % len(words)] if words else "doodle" for index in range(n)]
    heat = {"temperature": options.temperature, "time_temperature": options.time_temperature}
    drawings = vae.generate(n, word=labels if words else None, seed=options.seed, **_given(heat))

    folder = options.output or RUNS / "generated" / _now()
    if options.output and folder.exists() and any(folder.iterdir()):
        folder = folder / _now()
    folder.mkdir(parents=True, exist_ok=folder == options.output)
    with progress_bar(desc="written", total=n, unit=" doodles") as bar:
        for index, (label, drawing) in enumerate(zip(labels, drawings, strict=True)):
            number = labels[: index + 1].count(label)
            stem = folder / f"{re.sub(UNSAFE, '_', label)}_{number:02d}"
            pace = pace_of(drawing)
            to_gif(drawing, stem.with_suffix(".gif"), constant=bool(pace))
            to_svg(drawing, stem.with_suffix(".svg"))
            with bar.external_write_mode():
                for suffix in (".gif", ".svg"):
                    print(f"{stem.with_suffix(suffix)}{pace and f' ({pace})'}", flush=True)
            bar.update()


def infer(options: argparse.Namespace) -> None:
    """Print the most probable words of each picture, or of each drawing of a file or folder."""
    import numpy as np

    from doodlelib.data.formats import read
    from doodlelib.data.photos import pictures_in, read_image, save_seen, to_frame
    from doodlelib.models.checkpoint import load_cnn

    cnn = load_cnn(options.model_path or "trained_345")
    size = IMAGE_SIZES.get(options.data_mode, cnn.config.image_size)
    if size != cnn.config.image_size:
        raise ValueError(f"-dm {options.data_mode}: this model reads {cnn.config.image_size} px")
    if not options.json:
        print(f"model: {options.model_path or 'the shipped one, trained_models/cnn_345.pt'}")
    found, refused = {}, {}
    for path in pictures_in(options.input):
        try:
            image = read_image(path)
            found[path.name] = image, to_frame(image, size)
        except ValueError as error:
            refused[path.name] = str(error)
    if refused and options.input.is_file():
        raise ValueError(f"{options.input.name}: {refused[options.input.name]}")
    if found or refused:
        names, doodles = list(found), np.array([frame for _, frame in found.values()])
        if options.show and found:
            save_seen(options.show, list(found.values()))
    else:
        dropped = Counter[str]()
        records = list(read(options.input, recognized=False, dropped=dropped))
        if not records:
            raise ValueError(f"{options.input} holds no drawing; dropped: {dict(dropped)}")
        if dropped:
            print(f"{options.input}: dropped: {dict(dropped)}", file=sys.stderr)
        names = [f"{record.word} {record.key_id}" for record in records]
        doodles = [record.drawing for record in records]
    for name, row in zip(names, cnn.predict(doodles) if names else [], strict=True):
        ranked = sorted(zip(row.tolist(), cnn.words, strict=True), reverse=True)[:TOP]
        said = ", ".join(f"{word} {share:.3f}" for share, word in ranked)
        shares = {word: round(share, 4) for share, word in ranked}
        print(json.dumps({"name": name, "words": shares}) if options.json else f"{name}: {said}")
    for name, why in refused.items():
        print(json.dumps({"name": name, "error": why}) if options.json else f"{name}: {why}")


def page(options: argparse.Namespace) -> None:
    """Write one HTML file to draw with the model in a browser, and what its 8 bits cost."""
    from doodlelib.data import load_split, sample_store
    from doodlelib.models.checkpoint import load_cnn, load_vae
    from doodlelib.page import build, nats_lost

    vae, cnn = load_vae(options.model_path or "trained"), load_cnn("trained_345")
    path = options.output or RUNS / "page" / "doodles.html"
    size = build(path, vae, cnn)
    print(f"{path}: {size / 1e6:.1f} MB; open it in any browser", flush=True)
    held_out = load_split(options.processed_data_path or sample_store(), "valid")
    float_nats, page_nats, points = nats_lost(vae, held_out)
    print(
        f"nats a point of {points} held-out points, {held_out.origin}: {float_nats:.4f}; with the "
        f"page's weights of 8 bits {page_nats:.4f}"
    )


MODES = {"train": train, "generate": generate, "infer": infer, "page": page}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m doodlelib",
        usage="%(prog)s -m {train,generate,infer,page} [options]",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    text = "full: strokes with time; simplified: 255x255 images; reduced: 28x28 images"
    add("-m", "--mode", required=True, choices=tuple(MODES))
    add("-dm", "--data_mode", choices=tuple(MODELS), help=text)
    text = "rnn draws and goes with full, cnn classifies and goes with simplified and reduced"
    add("-mt", "--model_type", choices=("rnn", "cnn"), help=text)
    text = "the model (default: the shipped one); train: the checkpoint to resume from"
    add("-mp", "--model_path", type=Path, metavar="MODEL.pt", help=text)
    text = (
        "train: what to learn (default: as in config/subset_classes.json); "
        "generate: what to draw, in turn (default: all that the model knows, those first)"
    )
    add("--words", "--word", nargs="+", action="extend", metavar="WORD", help=text)
    add("--seed", type=int, metavar="N", help="train, generate: of everything random")

    add = parser.add_argument_group("train").add_argument
    text = "drawings of each word (default: as in notebook 02)"
    add("-nspc", "--num_samples_per_class", type=_positive, metavar="N", help=text)
    text = (
        "prepared data, taken as they are if they exist (default: new in data/processed/); "
        "page: of which held-out drawings are judged (default: the sample)"
    )
    add("-pdp", "--processed_data_path", type=Path, metavar="DIR", help=text)
    text = (
        "raw, simplified, sample (made by a program, no download) or a folder of drawings "
        "(default: raw for full, else simplified)"
    )
    add("--source", type=_source, help=text)
    text = "a parameter of the training notebook; may be repeated"
    add("-p", "--parameter", nargs=2, action="append", metavar=("NAME", "VALUE"), help=text)

    add = parser.add_argument_group("generate").add_argument
    add("-ng", "--num_generations", type=_positive, metavar="N", help="doodles (default: 10)")
    text = (
        "their folder; if it holds anything, a new one in it (default: a new one in "
        "reports/runs/generated/); page: the HTML file (default: reports/runs/page/doodles.html)"
    )
    add("-o", "--output", type=Path, metavar="OUT", help=text)
    add("--temperature", type=float, metavar="T", help="of the shape (default: 0.25)")
    add("--time_temperature", type=float, metavar="T", help="of the time (default: 1.0)")

    add = parser.add_argument_group("infer").add_argument
    text = (
        "a picture (PNG, JPEG, GIF, WebP, BMP, TIFF), a file of drawings (ndjson, …), or a folder"
    )
    add("-i", "--input", type=Path, help=text)
    add("--show", type=Path, metavar="OUT.png", help="write what was seen in each picture")
    add("--json", action="store_true", default=None, help="print a line of JSON a drawing")
    return parser


def _check(options: argparse.Namespace, error: Callable[[str], Any]) -> None:
    """Refuse options that do not go together; fill in the model type."""
    for name, modes in READ_BY.items():
        if getattr(options, name) is not None and options.mode not in modes:
            error(f"--{name} goes with -m {' or '.join(modes)}, not with {options.mode}")
    only = {"generate": "rnn", "infer": "cnn", "page": "rnn"}.get(options.mode)
    options.model_type = options.model_type or only or MODELS.get(options.data_mode, "rnn")
    if only and options.model_type != only:
        error(f"-m {options.mode} needs -mt {only}, not {options.model_type}")
    if MODELS.get(options.data_mode, options.model_type) != options.model_type:
        error(f"-dm {options.data_mode} does not go with -mt {options.model_type}")
    if options.mode == "infer" and options.input is None:
        error("-m infer needs -i INPUT")
    for path in (options.model_path, options.input):
        if path and not path.is_file() and not (path == options.input and path.is_dir()):
            error(f"there is no file {path}")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _source(text: str) -> str:
    if text in KINDS:
        return text
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not raw, simplified, sample or a folder")
    return str(Path(text).resolve())


def _default_words() -> dict[str, list[str]]:
    """The words that are learned where none are named, by data mode."""
    return json.loads((CONFIG / "subset_classes.json").read_text(encoding="utf-8"))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
