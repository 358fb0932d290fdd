"""Prepare drawings, train a model or sweep a notebook's parameters on a Ray cluster."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doodlelib.cli.notebooks import add_parameters, all_parameters, exit_status, literal
from doodlelib.cluster.prepare import prepare
from doodlelib.cluster.train import sweep, train
from doodlelib.data import quickdraw


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m doodlelib.cluster``; its exit status."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    command = options.pop("command")
    return exit_status(parser, lambda: print(command(**options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m doodlelib.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="{prepare,train,sweep}")

    def new(name: str, command: Any) -> Any:
        own = commands.add_parser(name, help=command.__doc__.splitlines()[0])
        own.set_defaults(command=command)
        text = "of the cluster (default: RAY_ADDRESS, or a new one here)"
        own.add_argument("--address", metavar="HOST:PORT", help=text)
        return own.add_argument

    add = new("prepare", _prepare)
    add("out", type=Path, help="the store")
    text = "default: all 345"
    add("--words", "--word", nargs="+", action="extend", metavar="WORD", help=text)
    add("--source", default="raw", help="raw, simplified, sample or a folder (%(default)s)")
    add("--samples_per_class", type=_count, default=1000, metavar="N", help="or all (%(default)s)")

    add = new("train", _train)
    add("store", type=Path, help="prepared drawings")
    add("folder", type=Path, help="of the run")
    add("--workers", type=int, default=1, metavar="N", help="that train together (%(default)s)")
    add("--gpu", action="store_true", help="one for each worker")
    add("--seed", type=int, default=0, metavar="N")
    add("--precision", default="float32", help="or bfloat16, or auto (%(default)s)")
    add("--resume", type=Path, metavar="CHECKPOINT", help="to go on from")
    add("--overwrite", action="store_true", help="delete another run in the folder")
    add("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))

    add = new("sweep", _sweep)
    add("notebook", type=Path, help="the notebook to execute")
    add("-g", "--grid", action="append", default=[], metavar="NAME=VALUE,VALUE", required=True)
    add_parameters(add)
    add("--folder", type=Path, help="of executed notebooks and results")
    add("--draws", type=int, metavar="N", help="combinations taken at random (default: all)")
    add("--gpus", type=float, default=0, metavar="N", help="GPUs a trial takes (%(default)s)")
    return parser


def _prepare(out: Path, *, words: list[str] | None, **options: Any) -> Path:
    """Prepare drawings; the store is the same as on one machine."""
    return prepare(out, words=words or list(quickdraw.words()), **options)


def _train(store: Path, folder: Path, *, parameter: list[list[str]], **options: Any) -> Path:
    """Train the sketch VAE, each worker with its share of every batch."""
    parameters = {name: literal(text) for name, text in parameter}
    return train(store, folder, parameters=parameters, **options)


def _sweep(
    notebook: Path, *, grid: list[str], parameter: list[list[str]], file: list[str], **options: Any
) -> Path:
    """Run a notebook with many combinations of parameters."""
    values = {}
    for text in grid:
        name, found, listed = text.partition("=")
        if not found or name in values:
            raise ValueError(f"-g {text}: once for each name, as NAME=VALUE,VALUE")
        parsed = literal(f"[{listed}]")  # text that is no literal stays text
        values[name] = parsed if isinstance(parsed, list) else listed.split(",")
    fixed = all_parameters(notebook, file, parameter)
    return sweep(notebook, grid=values, fixed=fixed, **options)


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0, or all")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
