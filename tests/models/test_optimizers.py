"""Optimizers that do what PyTorch's do; and that nothing else loads its compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from doodlelib.models import optimizers

TRAIN_RESUME_LOAD = """
import sys
from pathlib import Path
from doodlelib import checkpoint
from doodlelib.data.dataset import load_split, prepare
from test_loop import make_vae, run
folder = Path(sys.argv[1])
prepare(folder / "tiny", words=["star", "apple"], samples_per_class=40, progress=False)
splits = {part: load_split(folder / "tiny", part) for part in ("train", "valid")}
for epochs, resume in ((1, None), (2, folder / "run" / "DoodleGenRNN_last.pt")):
    list(run(make_vae(splits, num_epochs=epochs), splits, folder / "run", resume=resume))
checkpoint.load_vae().generate(2, seed=1)
checkpoint.load_cnn()
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


@pytest.mark.slow
def test_no_compiler_is_loaded(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TRAIN_RESUME_LOAD, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "False\n"
