"""Models: the sketch VAE, which draws, the retimer, which times drawings, and the classifier.

`network.py` holds the VAE's network and loss, on top of `batch`, `lstm`, `mdn` and `likelihood`;
`sampling.py` decodes row by row; `prior.py` keeps what z is sampled from. `SketchVAE` wraps all
that: drawings in, drawings out. `save` and `read` are for checkpoints, `load_*` for models
that are ready to use, the shipped ones by name.
"""

from doodlelib.models.checkpoint import load_cnn, load_retimer, load_vae, read, save
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.likelihood import LogLikelihood
from doodlelib.models.retimer import Retimer
from doodlelib.models.vae import SketchVAE
