"""Counts of faults and inputs, and a tiny store."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import victims


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Counts by name, for the summary."""
    counts: Counter[str] = Counter()
    yield counts
    request.node.user_properties.append(("tally", dict(counts)))  # goes along between processes


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny store."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    victims.prepare(folder, 2.0)
    victims.draw(folder)
    return folder
