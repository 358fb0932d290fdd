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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process holds")
def test_what_is_freed_stays_until_the_end_and_no_longer() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    kept, after, most = map(float, run.stdout.split())
    assert 100 < kept < 150
    assert after < 20
    assert most < 150  # what was kept was used again
