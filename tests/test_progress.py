"""Bars for people who watch, lines for logs; both tell the time left."""

import re
import sys
from types import SimpleNamespace

import pytest

from doodlelib import progress
from doodlelib.progress import progress_bar


def work(monkeypatch: pytest.MonkeyPatch, *, watched: bool, wait: float) -> None:
    monkeypatch.setattr(progress, "is_watched", lambda: watched)
    for name in ("DELAY", "INTERVAL"):
        monkeypatch.setattr(progress, name, wait)
    with progress_bar(desc="prepared", total=4, unit=" drawings") as bar:
        for _ in range(4):
            bar.update()


def test_who_watches_sees_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work(monkeypatch, watched=True, wait=0)
    *_, last = capsys.readouterr().err.strip().split("\r")
    assert re.fullmatch(r"prepared: 100%\|.*\| 4/4 \[00:00<00:00, .* drawings/s\]", last)


def test_a_log_gets_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work(monkeypatch, watched=False, wait=0)
    shown = capsys.readouterr().err
    assert "\r" not in shown
    lines = shown.splitlines()
    assert re.fullmatch(r"prepared: +50% 2/4 \[00:00<00:00, .* drawings/s\]", lines[2])
    assert all(line.startswith("prepared: ") for line in lines)


@pytest.mark.parametrize("watched", [True, False])
def test_what_is_done_at_once_shows_nothing(
    watched: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work(monkeypatch, watched=watched, wait=5)
    assert not capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("modules", "environment", "terminal", "watched"),
    [
        ([], {}, False, False),
        ([], {}, True, True),
        (["ipykernel"], {"JPY_SESSION_NAME": "a.ipynb"}, False, True),
        (["ipykernel"], {}, False, False),  # papermill's kernel
        ([], {"JPY_SESSION_NAME": "a.ipynb"}, False, False),  # a process that a cell started
    ],
)
def test_who_watches(
    modules: list[str],
    environment: dict[str, str],
    terminal: bool,
    watched: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in {"ipykernel"} & sys.modules.keys():
        monkeypatch.delitem(sys.modules, name)
    for name in modules:
        monkeypatch.setitem(sys.modules, name, object())
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal))
    assert progress.is_watched() == watched
