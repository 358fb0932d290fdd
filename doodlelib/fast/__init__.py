"""The same numbers, faster: need not be read to understand the models.

Kernels of the layer-norm LSTM for CPUs and GPUs, a compiled decoder, parts of a batch in threads or
processes, and training steps as CUDA graphs. Chosen in one line per place, held to plain PyTorch by
tests, and turned off by the environment variable DOODLELIB_FAST=0.
"""

from doodlelib.fast.cuda_graphs import Gradients
from doodlelib.fast.parallel import in_one_thread, in_parts, with_gradients
from doodlelib.jit import is_fast
