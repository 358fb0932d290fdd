"""A training that is killed, stopped or starved keeps what it has, and ends as if nothing was."""

import functools
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
import victims

from doodlelib.models import checkpoint
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.vae import SketchVAE
from doodlelib.training import loop
from doodlelib.training.run_state import NAMES

pytestmark = pytest.mark.slow
KINDS = {"rnn": SketchVAE, "cnn": DoodleCNN}
KILLED = "trainings killed with SIGKILL"


def read(kind: str, folder: Path, stem: str = "last") -> tuple[dict, dict]:
    """Weights, and state of the training without what the clock says."""
    model, training = checkpoint.read(folder / f"{NAMES[kind]}_{stem}.pt", KINDS[kind])
    for row in training["history"]:
        del row["seconds"]
    return model.state_dict(), training


def assert_same(one: object, other: object) -> None:
    """Equal to the last bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


class Unbroken:
    """What a run leaves that nobody disturbs, its lines and its seconds."""

    def __init__(self, kind: str, data: Path, folder: Path) -> None:
        self.kind, self.data, self.folder = kind, data, folder / "whole"
        began = time.perf_counter()
        self.lines = self.count_lines(self.folder, victims.TRAINING)
        self.seconds = time.perf_counter() - began
        self.loop_lines = self.count_lines(folder / "again", (loop.__file__,))

    def count_lines(self, folder: Path, modules: tuple) -> int:
        """Lines of `modules` that a run takes."""
        note = folder.with_suffix(".lines")
        count = functools.partial(victims.count_lines, note, modules)
        assert victims.run(victims.train_to_the_end, self.kind, self.data, folder, fault=count) == 0
        return int(note.read_text())

    def assert_goes_on(self, folder: Path, tally: Counter[str]) -> None:
        """Every checkpoint can be read, at most one epoch is lost, the end is the same."""
        for path in folder.glob("*.pt"):
            checkpoint.read(path, KINDS[self.kind])
        noted = folder.with_suffix(".epochs")
        ended = noted.stat().st_size if noted.exists() else 0
        if ended:
            assert len(read(self.kind, folder)[1]["history"]) >= ended
        assert victims.run(victims.train_to_the_end, self.kind, self.data, folder) == 0
        for stem in ("last", "best"):
            assert_same(read(self.kind, folder, stem), read(self.kind, self.folder, stem))
        assert not list(folder.glob(".*")), "what a killed run left half written is removed"
        tally["trainings broken off, that ended as unbroken ones to the last bit"] += 1


@pytest.fixture(scope="module", params=KINDS)
def unbroken(request: pytest.FixtureRequest, data: Path, tmp_path_factory) -> Unbroken:
    return Unbroken(request.param, data, tmp_path_factory.mktemp(request.param))


def test_killed_at_random_lines(unbroken: Unbroken, tmp_path: Path, tally: Counter[str]) -> None:
    kills = {"rnn": 10, "cnn": 6}[unbroken.kind]
    for number in random.Random(8).sample(range(1, unbroken.lines), kills):
        folder = tmp_path / str(number)
        fault = functools.partial(victims.die_at_line, number)
        given = (unbroken.kind, unbroken.data, folder)
        assert victims.run(victims.train_to_the_end, *given, fault=fault) == -signal.SIGKILL
        tally[KILLED] += 1
        unbroken.assert_goes_on(folder, tally)


def test_killed_at_random_times(unbroken: Unbroken, tmp_path: Path, tally: Counter[str]) -> None:
    for number in range(2):
        folder = tmp_path / str(number)
        victim = victims.start(victims.train_to_the_end, unbroken.kind, unbroken.data, folder)
        time.sleep(random.Random(number).random() * unbroken.seconds)
        victim.kill()
        victim.join()
        tally[KILLED] += victim.exitcode == -signal.SIGKILL
        unbroken.assert_goes_on(folder, tally)


def test_killed_while_a_file_is_written(
    unbroken: Unbroken, tmp_path: Path, tally: Counter[str]
) -> None:
    for number in (1, 5, 7):
        folder = tmp_path / str(number)
        fault = functools.partial(victims.in_write, number)
        given = (unbroken.kind, unbroken.data, folder)
        assert victims.run(victims.train_to_the_end, *given, fault=fault) == -signal.SIGKILL
        tally[KILLED] += 1
        unbroken.assert_goes_on(folder, tally)


def test_killed_again_and_again(unbroken: Unbroken, tmp_path: Path, tally: Counter[str]) -> None:
    """Each process gets an epoch further than the one before, and is killed within the next."""
    folder, chance, kills, reached = tmp_path / "run", random.Random(2), 0, 0
    given = (unbroken.kind, unbroken.data, folder)
    ended = shutil.copytree(unbroken.folder, tmp_path / "ended")
    reading = unbroken.count_lines(ended, victims.TRAINING)  # with no epoch left, it only reads
    while True:
        lines = int(unbroken.lines / victims.EPOCHS * chance.uniform(1.3, 1.7))
        fault = functools.partial(victims.die_at_line, lines + reading * (reached > 0))
        if victims.run(victims.train_to_the_end, *given, fault=fault) != -signal.SIGKILL:
            break
        before, reached = reached, len(read(unbroken.kind, folder)[1]["history"])
        assert reached > before, "it went on from where the last one was"
        kills += 1
    tally[KILLED] += kills
    assert kills >= 2
    unbroken.assert_goes_on(folder, tally)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop(unbroken: Unbroken, signum: int, tmp_path: Path, tally: Counter[str]) -> None:
    within = 0
    for number in random.Random(signum).sample(range(40, unbroken.loop_lines - 20), 3):
        folder = tmp_path / str(number)
        fault = functools.partial(victims.stop_at_line, number, signum, (loop.__file__,))
        given = (unbroken.kind, unbroken.data, folder)
        assert victims.run(victims.train_to_the_end, *given, fault=fault) == victims.STOPPED
        within += "epoch" in read(unbroken.kind, folder)[1]
        unbroken.assert_goes_on(folder, tally)
    assert within >= 1, "some of them stop within an epoch"


@pytest.mark.parametrize("fault", ["disk full", "read-only", "removed"])
def test_a_folder_that_cannot_be_written(
    unbroken: Unbroken, fault: str, tally: Counter[str]
) -> None:
    with tempfile.TemporaryDirectory() as top:  # pytest's own folders are closed to other users
        Path(top).chmod(0o755)
        folder = Path(top) / "run"
        given = (unbroken.kind, unbroken.data, folder, fault)
        assert victims.run(victims.starved, *given) == 0
        if fault == "removed":
            shutil.move(folder.with_name("elsewhere"), folder)
        folder.chmod(0o755)
        assert len(read(unbroken.kind, folder)[1]["history"]) == 1
        unbroken.assert_goes_on(folder, tally)
