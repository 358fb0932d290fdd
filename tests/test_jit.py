"""Compiled functions: cached on disk, never stale, safe to compile in several processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from doodlelib.jit import kernel
from doodlelib.paths import ROOT

FACTOR = 3.0
SOURCE = """
import sys, time
import numpy as np
sys.path.insert(0, {root!r})
from doodlelib.jit import kernel

FACTOR = {factor}

@kernel
def scaled(x):
    return FACTOR * x

@kernel
def total(values, x):
    result = values.dtype.type(0)
    for value in values:
        result += scaled(value) + x
    return result

while time.time() < float(sys.argv[2]):  # all at the same moment
    pass
print(total(np.arange(4, dtype=sys.argv[1]), 1))
"""


@kernel
def scaled(x):
    return FACTOR * x


@kernel
def sum_of_scaled(values):
    total = 0.0
    for value in values:
        total += scaled(value)
    return total


def start(script: Path, dtype: str, begin: float = 0.0) -> subprocess.Popen:
    env = os.environ | {"NUMBA_CACHE_DIR": str(script.parent / "cache")}
    command = [sys.executable, str(script), dtype, str(begin)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def printed(process: subprocess.Popen) -> float:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return float(out)


def test_kernels_call_kernels_and_know_their_constants() -> None:
    assert scaled(2.0) == 6.0
    assert sum_of_scaled(np.arange(4.0)) == 18.0
    assert sum_of_scaled(np.arange(4, dtype=np.float32)[::2]) == 6.0
    assert scaled(2) == 6.0


def test_nothing_is_kept_where_there_is_no_source_or_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict = {}
    exec(compile("def double(value):\n    return 2 * value\n", "<nowhere>", "exec"), names)
    assert kernel(names["double"])(4) == 8
    (tmp_path / "file").touch()
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "file"))
    assert kernel(scaled.function)(2.0) == 6.0


def test_importing_it_imports_no_numba() -> None:
    code = "import sys, doodlelib.jit; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_changed_constant_or_callee_is_seen(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    text = SOURCE.format(root=str(ROOT), factor=2.0)
    for changed, wanted in (
        (text, 16.0),
        (text.replace("FACTOR = 2.0", "FACTOR = 3.0"), 22.0),
        (text.replace("FACTOR * x", "FACTOR + x"), 18.0),
    ):
        script.write_text(changed)
        os.utime(script, (1_000_000_000, 1_000_000_000))  # an installer may give all files one time
        assert printed(start(script, "float64")) == wanted


def test_processes_may_compile_at_the_same_moment(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SOURCE.format(root=str(ROOT), factor=2.0))
    types = ["float64", "float32", "int64", "float64"]
    processes = [start(script, dtype, time.time() + 6) for dtype in types]
    assert [printed(process) for process in processes] == [16.0] * 4
    assert [printed(start(script, dtype)) for dtype in types] == [16.0] * 4  # from the cache
