"""What the victims of faults import and compile, once, in the server that they are forked from."""

import pytest  # noqa: F401 - their main module
import torch._dynamo  # noqa: F401 - which PyTorch's optimisers import
import victims  # noqa: F401

from doodlelib.simplify import simplify

simplify([[[0, 9, 20], [0, 5, 0], [0, 10, 30]]])
