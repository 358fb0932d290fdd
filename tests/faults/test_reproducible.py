"""The same seed gives the same weights in another process, with any number of workers."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
import victims

from doodlelib.models import checkpoint
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.vae import SketchVAE
from doodlelib.paths import ROOT
from doodlelib.training.run_state import NAMES

pytestmark = pytest.mark.slow
KINDS = {"rnn": SketchVAE, "cnn": DoodleCNN}


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_weights(
    kind: str, data: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    for workers in (0, 2):
        given = (kind, data, tmp_path / str(workers), workers)
        assert victims.run(victims.train_to_the_end, *given, fault=victims.shorten) == 0
    code = f"""
import random, sys
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(Path(victims.__file__).parent)!r}]
import numpy, torch, victims
torch.set_num_threads(1)
victims.shorten()
for seed in (random.seed, numpy.random.seed, torch.manual_seed):
    seed(99)  # whatever was drawn before
victims.train_to_the_end({kind!r}, Path({str(data)!r}), Path({str(tmp_path / "fresh")!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    one, *others = (
        checkpoint.read(tmp_path / name / f"{NAMES[kind]}_last.pt", KINDS[kind])[0].state_dict()
        for name in ("0", "2", "fresh")
    )
    for other in others:
        assert all(torch.equal(one[name], other[name]) for name in one)
        tally["trainings in another process or with workers, equal to the last bit"] += 1


def test_weights_are_equal_the_first_time_too(tmp_path: Path, tally: Counter[str]) -> None:
    """A process that compiles the kernels, and one that finds them on disk."""
    code = f"""
import hashlib, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import torch
from vaes import make_vae
torch.set_num_threads(1)
vae = make_vae(use_layer_norm=True, recurrent_dropout=0.1)
optimizer = torch.optim.Adam(vae.parameters(), lr=0.01)
for _ in range(5):
    optimizer.zero_grad()
    vae.loss(vae.to_batch(vae.generate(6, seed=0), words=None), step=0)[0].backward()
    optimizer.step()
weights = b"".join(value.numpy().tobytes() for value in vae.state_dict().values())
print(hashlib.sha256(weights).hexdigest())
"""
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    )
    assert first == second
    tally["trainings from freshly compiled kernels, equal to the last bit"] += 1
