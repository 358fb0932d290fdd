"""Widgets for JupyterLab: doodles that play in true time, and controls to explore the models.

Each call returns one widget that keeps its own state; in a notebook's HTML export, where no widget
can run, a static picture stands in for it.
"""

from doodlelib.lab.explorers import LatentMap, interpolation_explorer, temperature_explorer
from doodlelib.lab.pad import DrawingPad
from doodlelib.lab.player import Player
