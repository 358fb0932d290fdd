"""What several test files share."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
import torch

from doodlelib import jit
from doodlelib.fast import parallel
from doodlelib.paths import ROOT

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported
# Without bytecode on disk each process that a test starts compiles its libraries anew; Ray's agents
# then take longer to start than Ray waits for them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
TALLY: Counter[str] = Counter()  # of faults and inputs, by name
COPIED = ("doodlelib", "config", "notebooks", "trained_models", "data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes first, so that no worker is left alone with it at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        for name, value in report.user_properties:
            if name == "tally":  # of `faults/conftest.py`, which is not read where workers report
                TALLY.update(value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TALLY:
        terminalreporter.section("faults")
        for name, count in TALLY.items():
            terminalreporter.write_line(f"{count:6} {name}")


@pytest.fixture(scope="session")
def mirror() -> str:
    """Base URL of a mirror of the published data; tests of real data skip where it is unset."""
    url = os.environ.get("DOODLELIB_QUICKDRAW_URL")
    if not url:
        pytest.skip("DOODLELIB_QUICKDRAW_URL names no mirror of the Quick, Draw! data")
    return url


@pytest.fixture(scope="session")
def mirror_folder(mirror: str) -> Path:
    """The folder of that mirror, if it is one."""
    if not mirror.startswith("file:"):
        pytest.skip("the mirror is no folder")
    return Path(url2pathname(urlsplit(mirror).path))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the notebooks need, somewhere else: all that they write stays there.

    Processes that are to use it need ``PYTHONPATH`` set to it.
    """
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", ".*", "raw", "processed")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


@pytest.fixture(params=["fast", "plain PyTorch"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with what `doodlelib.fast` holds, and without."""
    monkeypatch.setenv(jit.SWITCH, "1" if request.param == "fast" else "0")
    return request.param


@pytest.fixture
def two_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Any two rows of a batch are worked on side by side, however many processors there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(parallel, "MIN_ROWS", 1)
    yield
    torch.set_num_threads(before)
