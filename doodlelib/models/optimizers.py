"""PyTorch's optimizers without `torch.compile`, which theirs load only to be left alone by it.

It would be some 150 MB of a training, and two seconds of its start. A step is not differentiable.
"""

from inspect import unwrap
from typing import TypeVar

import torch

Kind = TypeVar("Kind", bound=type[torch.optim.Optimizer])


def _without_compiler(kind: Kind) -> Kind:
    """The methods as they were written, before PyTorch wrapped them for its compiler."""
    for name in ("add_param_group", "zero_grad", "step", "state_dict", "load_state_dict"):
        setattr(kind, name, unwrap(getattr(kind, name)))
    kind.step = torch.no_grad()(kind.step)  # this much of the wrapper was of use
    return kind


@_without_compiler
class Adam(torch.optim.Adam):
    """`torch.optim.Adam`."""


@_without_compiler
class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`."""
