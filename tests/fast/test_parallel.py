"""Parts of a batch side by side: all rows, the share of threads, errors, forks."""

import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from doodlelib.fast.parallel import (
    MIN_ROWS,
    generator,
    in_one_thread,
    in_parts,
    raise_if_cancelled,
    with_gradients,
)

pytestmark = pytest.mark.usefixtures("two_parts")
WEIGHT = torch.ones(1, requires_grad=True)


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
    monkeypatch.setattr("doodlelib.fast.parallel.MIN_ROWS", MIN_ROWS)
    assert in_parts(lambda part: part, 2 * MIN_ROWS - 1) == [slice(0, 2 * MIN_ROWS - 1)]
    assert len(in_parts(lambda part: part, 2 * MIN_ROWS)) == 2
    torch.set_num_threads(1)
    assert in_parts(lambda part: part, 2 * MIN_ROWS) == [slice(0, 2 * MIN_ROWS)]


Where = tuple[bool, int, bool]


class Worker:
    """Tells where it works: in the thread that made it, with how many threads, and gradients."""

    def __init__(self, device: str = "cpu") -> None:
        self.device, self.here = torch.device(device), threading.get_ident()

    def where(self, _: slice | None = None) -> Where:
        here = threading.get_ident() == self.here
        return here, torch.get_num_threads(), torch.is_grad_enabled()

    @in_one_thread
    def alone(self) -> Where:
        return self.where()

    @in_one_thread
    def parts(self, rows: int) -> tuple[Where, Where, list[Where]]:
        return self.where(), self.alone(), in_parts(self.where, rows)

    @in_one_thread
    def fail(self) -> None:
        raise FloatingPointError("here")


def test_a_method_may_have_one_thread_and_its_parts_all() -> None:
    torch.set_num_threads(4)
    worker, one = Worker(), (False, 1, False)
    assert worker.alone() == one
    assert worker.parts(1) == (one, one, [one])
    assert worker.parts(2) == (one, one, 2 * [(False, 2, False)])
    assert worker.parts(8) == (one, one, 4 * [one])
    assert Worker("cuda").alone() == (True, 4, False)
    with pytest.raises(FloatingPointError, match="here"):
        worker.fail()
    assert worker.where() == (True, 4, True)
    assert in_parts(worker.where, 1) == [(True, 4, False)]
    torch.set_num_threads(1)
    assert worker.parts(8) == 2 * ((True, 1, False),) + ([(True, 1, False)],)


def test_many_threads_may_ask_for_one_at_once() -> None:
    worker, found = Worker(), []

    def ask() -> None:
        torch.set_num_threads(2)  # two are at work at once, four ask
        for _ in range(20):
            found.append(worker.parts(3)[2])

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(timeout=60)
    assert found == 80 * [2 * [(False, 1, False)]]


def test_threads_that_come_later_have_the_number_of_the_process() -> None:
    """Even if the last pool was one within a part."""
    torch.set_num_threads(6)
    in_parts(lambda part: in_parts(lambda part: None, 3), 2)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 6


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOODLELIB_FAST", "0")
    assert in_parts(lambda part: part, 7) == [slice(0, 7)]
    assert Worker().alone() == (True, 2, False)


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


@pytest.mark.parametrize("failing", [False, True])
def test_who_is_interrupted_waits_for_no_long_loop(failing: bool) -> None:
    """Parts of what has one thread of its own end, too; another's failure is not theirs."""
    ended, begun = [], threading.Barrier(3, timeout=20)

    class Long:
        device = torch.device("cpu")

        @in_one_thread
        def run(self) -> None:
            in_parts(self.work, 2)

        def work(self, part: slice) -> None:
            begun.wait()
            if failing and not part.start:
                raise FloatingPointError("row 0")
            try:
                for _ in range(2000):
                    raise_if_cancelled()
                    time.sleep(0.01)
            finally:
                ended.append(part.start)

    def interrupt() -> None:
        begun.wait()
        if not failing:
            signal.pthread_kill(main, signal.SIGINT)

    main, begin = threading.get_ident(), time.monotonic()
    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(FloatingPointError if failing else KeyboardInterrupt):
        Long().run()
    other.join()
    assert sorted(ended) == ([1] if failing else [0, 1])
    assert time.monotonic() - begin < 15
    raise_if_cancelled()
    assert in_parts(lambda part: raise_if_cancelled() or part.start, 2) == [0, 1]


def judged(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """Some function of six rows with random numbers in it, and its gradients."""
    given = torch.arange(6.0).double()[:, None]

    def work(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.rand(len(given[part]), 2, dtype=torch.double, generator=generator())
        return (weights[0] * given[part] + noise).sin() * weights[1], (6 * noise).long()

    torch.manual_seed(4)
    values, counts = with_gradients(work, 6, weights=weights)
    assert not counts.requires_grad
    assert generator() is None
    found = [values.detach(), counts]
    return found + list(torch.autograd.grad(values.square().sum(), weights))


def test_gradients_are_those_of_the_whole() -> None:
    weights = [torch.randn(2).double().requires_grad_() for _ in range(2)]
    torch.set_num_threads(3)
    values, counts, *gradients = judged(weights)
    torch.manual_seed(4)
    seed = int(torch.randint(2**62, ()))
    generators = [torch.Generator().manual_seed(seed + number) for number in range(3)]
    noise = torch.cat([torch.rand(2, 2, dtype=torch.double, generator=one) for one in generators])
    whole = (weights[0] * torch.arange(6.0).double()[:, None] + noise).sin() * weights[1]
    whole.square().sum().backward()
    torch.testing.assert_close(values, whole.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(counts, (6 * noise).long())
    for number, gradient in enumerate(gradients):
        torch.testing.assert_close(gradient, weights[number % 2].grad, rtol=0, atol=1e-12)


def test_weights_may_be_added_frozen_or_unused() -> None:
    """PyTorch gives terms of a sum one gradient in the same memory, or one number expanded."""
    added = [torch.randn(2, requires_grad=True) for _ in range(2)]
    frozen, unused = torch.randn(2), torch.randn(2, requires_grad=True)
    (values,) = with_gradients(
        lambda part: ((added[0] + added[1] + frozen).sum().expand(part.stop - part.start),),
        6,
        weights=[*added, frozen, unused],
    )
    values.sum().backward()
    for weight in added:
        torch.testing.assert_close(weight.grad, torch.full((2,), 6.0))
    assert added[0].grad.data_ptr() != added[1].grad.data_ptr()
    assert frozen.grad is None
    assert unused.grad is None


def test_what_is_drawn_after_it_is_the_same_for_any_parts() -> None:
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        with_gradients(lambda part: (torch.zeros(part.stop - part.start),), 6, weights=[WEIGHT])
        found.append(torch.rand(3))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=0)


def test_without_gradients_nothing_is_kept_for_them() -> None:
    weight = torch.ones(1, requires_grad=True)
    with torch.no_grad():
        whole, modes = with_gradients(
            lambda part: (
                weight * torch.ones(part.stop - part.start, 1),
                torch.full((1,), torch.is_grad_enabled()),
            ),
            5,
            weights=[weight],
        )
    assert whole.shape == (5, 1)
    assert not whole.requires_grad
    assert modes.tolist() == [False, False]


def test_autocast_holds_in_the_parts() -> None:
    weight, types = torch.randn(3, 3, requires_grad=True), []

    def work(part: slice) -> tuple[torch.Tensor]:
        product = torch.ones(part.stop - part.start, 3) @ weight
        types.append(product.dtype)
        return (product,)

    with torch.autocast("cpu", torch.bfloat16):
        (values,) = with_gradients(work, 4, weights=[weight])
    values.float().sum().backward()
    assert types == 2 * [torch.bfloat16]
    assert weight.grad.dtype == torch.float32
    torch.testing.assert_close(weight.grad, torch.full((3, 3), 4.0))


def test_inference_mode_holds_in_the_parts() -> None:
    with torch.inference_mode():
        total = torch.zeros(6)
        in_parts(lambda part: total[part].add_(1), 6)
    assert (total == 1).all()


def test_parts_may_have_parts() -> None:
    torch.set_num_threads(4)
    inner = in_parts(lambda part: in_parts(lambda part: torch.get_num_threads(), 2), 2)
    assert inner == [[1, 1], [1, 1]]


@pytest.mark.parametrize("before", [True, False])
def test_a_thread_that_outlives_the_script_goes_on(before: bool) -> None:
    script = """
import threading, time, torch
from doodlelib.fast import parallel

parallel.MIN_ROWS = 1
torch.set_num_threads(2)

def late():
    time.sleep(0.5)
    print(parallel.in_parts(lambda part: part.stop, 2))

threading.Thread(target=late).start()
"""
    script += "parallel.in_parts(lambda part: part, 2)" * before
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[1, 2]"


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
