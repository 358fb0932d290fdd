"""Drawings and results to look at: figures, animations in true time, and files.

`draw_*` puts drawings or images on matplotlib figures, `plot_*` (more of them in `viz.plots`) puts
measured values there; `to_gif`, `to_svg`, `to_png` and `to_ndjson` write drawings to files.
"""

from doodlelib.viz.export import compare_gif, to_gif, to_ndjson, to_png, to_svg
from doodlelib.viz.plots import (
    draw_drawing,
    draw_grid,
    draw_images,
    plot_distributions,
    plot_losses,
    plot_speed,
    use_style,
)
