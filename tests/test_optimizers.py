"""Optimizers that do what PyTorch's do, without its compiler."""

import subprocess
import sys

import pytest
import torch

from doodlelib import optimizers

WITHOUT_COMPILER = """
import sys, torch
from doodlelib import optimizers
assert "torch._dynamo" not in sys.modules
for kind in (optimizers.Adam, optimizers.AdamW):
    layer = torch.nn.Linear(3, 3)
    optimizer = kind(layer.parameters(), lr=0.1, fused=True)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_they_step_as_pytorchs(name: str) -> None:
    layers, used = [], []
    for kind in (getattr(optimizers, name), getattr(torch.optim, name)):
        torch.manual_seed(0)
        layer = torch.nn.Linear(5, 4)
        optimizer = kind(layer.parameters(), lr=0.1, fused=True)
        for step in range(6):
            if step == 3:  # broken off and gone on with
                state = optimizer.state_dict()
                optimizer = kind(layer.parameters(), lr=0.1, fused=True)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            layer(torch.randn(7, 5)).square().sum().backward()
            optimizer.step()
        layers.append(layer)
        used.append(optimizer)
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert torch.equal(layers[0].bias, layers[1].bias)
    assert isinstance(used[0], type(used[1]))
    torch.testing.assert_close(used[0].state_dict(), used[1].state_dict(), rtol=0, atol=0)


def test_no_compiler_is_loaded() -> None:
    command = [sys.executable, "-c", WITHOUT_COMPILER]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
