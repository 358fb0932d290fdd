"""Small files of drawings, and what is in them, for the tests of several readers."""

import json
from pathlib import Path

import numpy as np

from doodlelib.data import formats
from doodlelib.strokes import Record

STEPS = (  # the notebooks
    *("01_explore_data", "02_preprocess", "03_train_vae"),
    *("04_train_cnn", "05_latent_space", "06_train_retimer"),
)
LINE = {
    "word": "cat",
    "countrycode": "DE",
    "timestamp": "2017-03-01 10:00:00.00000 UTC",
    "recognized": True,
    "key_id": "123",
    "drawing": [[[1, 2.5], [3, 4], [0, 20]], [[5], [6], [90]]],
}
MOVES = np.array([np.ones((2, 3), np.int16), np.ones((3, 3), np.int16)], dtype=object)
SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 100 100' fill='none' stroke='black'"
    " stroke-linecap='round'>{}</svg>"
)


def write_svg(path: Path, content: str) -> Path:
    """`path`, where `content` is now within an ``<svg>``."""
    path.write_text(SVG.format(content))
    return path


def read_one(path: Path, **options) -> Record:
    """The only drawing of a file."""
    (record,) = formats.read(path, **options)
    return record


def points(drawing: list) -> list:
    """The points of each stroke, as lists of numbers."""
    return [np.column_stack(stroke).tolist() for stroke in drawing]


def write_notebook(path: Path, *sources: str, tag: str = "parameters") -> Path:
    """A notebook of code cells, the first of which carries `tag`."""
    cells = [
        {
            "cell_type": "code",
            "id": f"cell{index}",
            "metadata": {} if index else {"tags": [tag]},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for index, source in enumerate(sources)
    ]
    metadata = {"kernelspec": {"name": "nowhere", "language": "python", "display_name": "?"}}
    path.write_text(
        json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
    )
    return path
