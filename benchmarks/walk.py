"""What one drawing passes on its way from the published file to a GIF: files and functions.

    python benchmarks/walk.py [WORD]

Prepares a store of a few drawings of WORD (default: cat), trains a small network for one epoch on
it, draws a doodle with it and writes a GIF, and counts the functions and files of
doodlelib that ran after their imports. `DOODLELIB_QUICKDRAW_URL` may name a copy of the published
files; `DOODLELIB_FAST=0` shows the way in plain PyTorch. Compiled functions count where Python
calls them.
"""

import argparse
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import doodlelib
from doodlelib import checkpoint, dataset, export, recipe
from doodlelib.config import VAEConfig, read_config

PACKAGE = str(Path(doodlelib.__file__).parent)


def follow(word: str) -> set[CodeType]:
    """The code of each function of doodlelib that ran for one drawing."""
    passed: set[CodeType] = set()

    def see(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name != "<module>":
            passed.add(code)

    config = read_config(
        VAEConfig,
        enc_hidden_size=16,
        dec_hidden_size=32,
        latent_size=8,
        num_lstm_layers=1,
        num_epochs=1,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        threading.setprofile(see)
        sys.setprofile(see)
        try:
            store = dataset.prepare(
                folder / "store", words=[word], source="raw", samples_per_class=20, progress=False
            )
            for _ in recipe.train_on(store, config=config, folder=folder / "run"):
                pass
            vae = checkpoint.load_vae(next((folder / "run").glob("*_best.pt")))
            (doodle,) = vae.generate(1, word=word, seed=0)
            export.to_gif(doodle, folder / "doodle.gif")
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return passed


def main() -> None:
    """Print the counts, and how many functions of each file ran."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("word", nargs="?", default="cat")
    passed = follow(parser.parse_args().word)
    files = Counter(code.co_filename.removeprefix(PACKAGE).lstrip("/") for code in passed)
    for name, functions in sorted(files.items()):
        print(f"{functions:4} {name}")
    print(f"one drawing passes {len(files)} files and {len(passed)} functions")


if __name__ == "__main__":
    main()
