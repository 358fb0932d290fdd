"""Numbers about drawings and models: movement statistics, distances, baselines, latent space.

`measure` sums up timed drawings; `time_panel` compares generated with real ones, and so does
`generation_report` during training; `time_baselines` are what a model of time must beat;
`classification` and `calibration` judge a classifier. `analysis.latent` holds interpolation of
latents, `analysis.forecast` the prediction of a single move.
"""

from doodlelib.analysis.baselines import time_baselines
from doodlelib.analysis.metrics import (
    calibration,
    calibration_error,
    classification,
    generate_like,
    generation_report,
    measure,
    speed_and_curvature,
    speed_profile,
    time_panel,
)
