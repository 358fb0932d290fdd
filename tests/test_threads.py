"""Parts of a batch side by side: all rows, the share of threads, errors, forks."""

import multiprocessing
import subprocess
import sys
import threading
import time

import pytest
import torch

from doodlelib.threads import LEAST, in_parts

pytestmark = pytest.mark.usefixtures("two_parts")


def test_every_row_is_worked_on_once_in_a_thread_with_its_share() -> None:
    rows, met = torch.zeros(7), threading.Barrier(2, timeout=20)

    def work(part: slice) -> tuple[int, int, bool]:
        met.wait()  # side by side, not one after the other
        rows[part] += 1
        return part.start, torch.get_num_threads(), torch.is_grad_enabled()

    assert in_parts(work, len(rows)) == [(0, 1, False), (3, 1, False)]
    assert (rows == 1).all()
    assert torch.get_num_threads() == 2
    assert torch.is_grad_enabled()
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [2]  # threads that come later are not held to a part's share


def test_few_rows_or_a_single_thread_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    here = threading.get_ident()
    assert in_parts(lambda part: threading.get_ident() == here, 1) == [True]
    monkeypatch.setattr("doodlelib.threads.LEAST", LEAST)
    assert in_parts(lambda part: part, 2 * LEAST - 1) == [slice(0, 2 * LEAST - 1)]
    assert len(in_parts(lambda part: part, 2 * LEAST)) == 2
    torch.set_num_threads(1)
    assert in_parts(lambda part: part, 2 * LEAST) == [slice(0, 2 * LEAST)]


def test_what_goes_wrong_in_a_part_is_raised_once_all_have_ended() -> None:
    ended = []

    def work(part: slice) -> None:
        if not part.start:
            raise FloatingPointError("row 0")
        time.sleep(0.1)
        ended.append(part.start)

    with pytest.raises(FloatingPointError, match="row 0"):
        in_parts(work, 2)
    assert ended == [1]
    assert torch.get_num_threads() == 2


def test_inference_mode_holds_in_the_parts() -> None:
    with torch.inference_mode():
        total = torch.zeros(6)
        in_parts(lambda part: total[part].add_(1), 6)
    assert (total == 1).all()


def test_parts_may_have_parts() -> None:
    torch.set_num_threads(4)
    inner = in_parts(lambda part: in_parts(lambda part: torch.get_num_threads(), 2), 2)
    assert inner == [[1, 1], [1, 1]]


def test_a_thread_that_outlives_the_script_goes_on() -> None:
    script = """
import threading, time, torch
from doodlelib import threads

threads.LEAST = 1
torch.set_num_threads(2)

def late():
    time.sleep(0.5)
    print(threads.in_parts(lambda part: part.stop, 2))

threading.Thread(target=late).start()
threads.in_parts(lambda part: part, 2)
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[2]"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    assert in_parts(lambda part: part.start, 2) == [0, 1]
    child = multiprocessing.get_context("fork").Process(target=in_parts, args=(abs_start, 2))
    child.start()
    child.join(timeout=20)
    assert child.exitcode == 0
    assert in_parts(lambda part: part.start, 2) == [0, 1]


def abs_start(part: slice) -> int:
    return abs(part.start)
