"""Training of the three models: batches of a prepared store, the loop, and its checkpoints.

`fit` trains a model epoch by epoch, yields a row of figures after each, and can be interrupted and
resumed at any step. `make_model` and `loaders` give the model and the batches for a store of
strokes; `images_of` and `ImageBatches` those for the classifier.
"""

from doodlelib.training.batches import ImageBatches, StrokeBatches, images_of
from doodlelib.training.loop import Interrupted, chosen_precision, fit, log_line, validate
from doodlelib.training.setup import calibrate, fill_prior, loaders, make_model
