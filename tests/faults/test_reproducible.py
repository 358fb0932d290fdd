"""The same seed gives the same weights in another process, with any number of workers."""

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
