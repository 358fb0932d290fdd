"""How people draw, including when: sequence VAE, retimer and classifier for strokes with time.

Rooms: `data` (files in, the published drawings, prepared stores), `models`, `fast` (the same
numbers, faster), `training`, `analysis`, `viz`, `lab` (widgets), `cli`, `cluster`. Formats,
simplification and images lie on top. Files that lay on top in version 0.1 are found by their
old names too: ``from doodlelib import quickdraw``, ``from doodlelib.player import Player``.
"""

import importlib
import importlib.abc
import importlib.util
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


class _OldNames(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """``import doodlelib.player`` gives the module that the file became."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        found = package == __name__ and name in MOVED
        return importlib.util.spec_from_loader(fullname, self) if found else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return __getattr__(spec.name.rpartition(".")[2])

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it has run under its own name."""


sys.meta_path.append(_OldNames())
