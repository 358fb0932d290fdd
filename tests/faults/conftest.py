"""Counts of faults and inputs, printed at the end."""

from collections import Counter
from pathlib import Path

import pytest
import victims

COUNTS: Counter[str] = Counter()


@pytest.fixture
def tally() -> Counter[str]:
    """Counts by name, for the summary."""
    return COUNTS


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny store."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    victims.prepare(folder, 2.0)
    victims.draw(folder)
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if COUNTS:
        terminalreporter.section("faults")
        for name, count in COUNTS.items():
            terminalreporter.write_line(f"{count:6} {name}")
