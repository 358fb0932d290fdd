"""How people draw, including when: sequence VAE, retimer and classifier for strokes with time.

The top level holds the formats of a drawing (`strokes`), the simplification that keeps its time
(`simplify`), images (`raster`), hyper-parameters (`config`) and folders (`paths`). The rooms:

- `data`: files of drawings in, the published data set, the made sample, prepared stores
- `models`: the networks, how they are sampled, saved and loaded
- `fast`: the same numbers, faster; need not be read
- `training`: the training loop and its state on disk
- `analysis`: measures of movement, comparisons of generated and real, the latent space
- `viz`: plots, GIFs in true time, SVG
- `lab`: widgets for notebooks
- `page`: one HTML file to draw with the models in a browser
- `cli`, `cluster`: the command line; the same work on many machines, by Ray

Modules of version 0.1 are found by their old names, too: ``from doodlelib import quickdraw``,
``from doodlelib.player import Player``.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__version__ = "0.2.0"

MOVED = {
    "cnn": "models.cnn",
    "checkpoint": "models.checkpoint",
    "dataset": "data.dataset",
    "export": "viz.export",
    "formats": "data.formats",
    "latent": "analysis.latent",
    "measures": "analysis.metrics",
    "metrics": "analysis.metrics",
    "player": "lab.player",
    "plot": "viz.plots",
    "quickdraw": "data.quickdraw",
    "recipe": "training.setup",
    "sample": "data.sample",
    "vae": "models.vae",
}


def __getattr__(name: str) -> ModuleType:
    if name not in MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{MOVED[name]}")


class _OldNames:
    """``import doodlelib.player`` gives the module that the file became."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        loader: Any = self  # not a subclass of `importlib.abc.Loader`, whose import takes longer
        return ModuleSpec(fullname, loader) if package == __name__ and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return __getattr__(spec.name.rpartition(".")[2])

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it has run under its own name."""


sys.meta_path.append(_OldNames())
