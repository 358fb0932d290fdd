"""Memory that is kept while one trains, and handed back after it."""

import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np
from doodlelib.memory import memory_kept

def mb(field="VmRSS:"):
    status = open("/proc/self/status").read()
    return int(status.split(field)[1].split()[0]) / 1024

before = mb()
with memory_kept():
    for _ in range(5):
        arrays = [np.ones(4_000_000) for _ in range(4)]  # 122 MB
        del arrays
    kept = mb() - before
print(kept, mb() - before, mb("VmHWM:") - before)
"""
FAULTS = """
import resource
import numpy as np
from doodlelib.memory import memory_kept

with memory_kept():
    pass
np.ones(2_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(2_000_000)  # 16 MB, which glibc keeps
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells what a process holds"
)


def run(script: str) -> list[float]:
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    return [float(number) for number in told.stdout.split()]


def test_what_is_freed_stays_until_the_end_and_no_longer() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    kept, after, most = map(float, run.stdout.split())
    assert 100 < kept < 150
    assert after < 20
    assert most < 150  # what was kept was used again


def test_afterwards_arrays_cost_what_they_did() -> None:
    (faults,) = run(FAULTS)
    assert faults < 100  # of 19,500 pages
