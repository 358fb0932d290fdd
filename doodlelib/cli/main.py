"""Train, generate and infer from the command line."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MODELS = {"full": "rnn", "simplified": "cnn", "reduced": "cnn"}  # by data mode
READ_BY = {  # options that not every mode reads
    "num_samples_per_class": {"train"},
    "processed_data_path": {"train"},
    "source": {"train"},
    "parameter": {"train"},
    "words": {"train", "generate"},
    "seed": {"train", "generate"},
    "num_generations": {"generate"},
    "temperature": {"generate"},
    "time_temperature": {"generate"},
    "output": {"generate"},
    "input": {"infer"},
}
EXAMPLES = """\
examples:
  python -m doodlelib -m train -mt rnn -dm full -nspc 1000 --words cat dog -p epochs 20
  python -m doodlelib -m generate -ng 5 --word cat -o doodles
  python -m doodlelib -m infer -i drawing.png
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check(options, parser.error)
    from doodlelib.cli import commands  # torch: not for --help or a misspelt option
    from doodlelib.cli.notebooks import INTERRUPTED, NotebookError

    try:
        getattr(commands, options.mode)(options)
    except (OSError, ValueError) as error:
        parser.error(" ".join(str(error).split()))
    except NotebookError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m doodlelib",
        usage="%(prog)s -m {train,generate,infer} [options]",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-m", "--mode", required=True, choices=("train", "generate", "infer"))
    add(
        *("-dm", "--data_mode"),
        choices=tuple(MODELS),
        help="full: strokes with time; simplified: 255x255 images; reduced: 28x28 images",
    )
    add(
        *("-mt", "--model_type"),
        choices=("rnn", "cnn"),
        help="rnn draws and goes with full, cnn classifies and goes with simplified and reduced",
    )
    add(
        *("-mp", "--model_path"),
        type=Path,
        metavar="MODEL.pt",
        help="the model (default: the shipped one); train: the checkpoint to go on from",
    )
    add(
        *("--words", "--word"),
        nargs="+",
        metavar="WORD",
        help="train: what to learn (default: as in config/subset_classes.json); "
        "generate: what to draw, in turn (default: all that the model knows, those first)",
    )
    add("--seed", type=int, metavar="N", help="train, generate: of everything random")

    add = parser.add_argument_group("train").add_argument
    add(
        *("-nspc", "--num_samples_per_class"),
        type=_positive,
        metavar="N",
        help="drawings of each word (default: as in notebook 02)",
    )
    add(
        *("-pdp", "--processed_data_path"),
        type=Path,
        metavar="DIR",
        help="prepared data, taken as they are if they exist (default: new ones in "
        "data/processed/)",
    )
    add(
        "--source",
        type=_source,
        help="raw, simplified, sample (made on the spot, no download) or a folder of drawings "
        "(default: raw for full, else simplified)",
    )
    add(
        *("-p", "--parameter"),
        nargs=2,
        action="append",
        metavar=("NAME", "VALUE"),
        help="a parameter of the training notebook; may be repeated",
    )

    add = parser.add_argument_group("generate").add_argument
    add("-ng", "--num_generations", type=_positive, metavar="N", help="doodles (default: 10)")
    add(
        *("-o", "--output"),
        type=Path,
        metavar="OUT",
        help="their folder; if it holds anything, a new one in it (default: a new one in "
        "reports/runs/generated/)",
    )
    add("--temperature", type=_temperature, metavar="T", help="of the shape (default: 0.4)")
    add("--time_temperature", type=_temperature, metavar="T", help="of the time (default: 1.0)")

    add = parser.add_argument_group("infer").add_argument
    add("-i", "--input", type=Path, help="an image (PNG, JPG) or a file of drawings (ndjson, …)")
    return parser


def _check(options: argparse.Namespace, error: Callable[[str], Any]) -> None:
    """Refuse options that do not go together; fill in model type and data mode."""
    for name, modes in READ_BY.items():
        if getattr(options, name) is not None and options.mode not in modes:
            error(f"--{name} goes with -m {' or '.join(sorted(modes))}, not with {options.mode}")
    only = {"generate": "rnn", "infer": "cnn"}.get(options.mode)
    options.model_type = options.model_type or only or MODELS.get(options.data_mode, "rnn")
    if only and options.model_type != only:
        error(f"-m {options.mode} needs -mt {only}, not {options.model_type}")
    if MODELS.get(options.data_mode, options.model_type) != options.model_type:
        error(f"-dm {options.data_mode} does not go with -mt {options.model_type}")
    if options.mode == "infer" and options.input is None:
        error("-m infer needs -i INPUT")
    for path in (options.model_path, options.input):
        if path and not path.is_file():
            error(f"there is no file {path}")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _source(text: str) -> str:
    if text in ("raw", "simplified", "sample"):
        return text
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not raw, simplified, sample or a folder")
    return str(Path(text).resolve())


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value
