"""Parts of a batch in threads, and in processes that train together: each gives what one would."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from doodlelib.config import RetimeConfig, VAEConfig, read_config
from doodlelib.data.dataset import load_split, prepare
from doodlelib.fast.parallel import (
    MIN_ROWS,
    generator,
    in_one_thread,
    in_parts,
    parallel_loss,
    raise_if_cancelled,
    with_gradients,
)
from doodlelib.models.batch import StrokeBatch
from doodlelib.models.retimer import Retimer
from doodlelib.models.vae import SketchVAE
from doodlelib.training import loop
from doodlelib.training.batches import StrokeBatches
from doodlelib.training.run_state import Row

pytestmark = pytest.mark.usefixtures("two_parts")
WEIGHT = torch.ones(1, requires_grad=True)
WORLD = 2
SEED = 3
SMALL = {
    "num_epochs": 2,
    "latent_size": 4,
    "enc_hidden_size": 8,
    "dec_hidden_size": 12,
    "num_gmm_modes": 2,
    "batch_size": 16,
    "learning_rate": 0.003,
    "use_layer_norm": False,
    "recurrent_dropout": 0.0,
    "hide_time_prob": 0.0,
    "hide_word_prob": 0.0,
    "kl_weight_start": 1.0,
}
SIMPLIFICATION = {"method": "timed", "epsilon": 2.0, "epsilon_time": 8.0}


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
    worker, one = Worker(), (True, 1, False)
    assert worker.alone() == one
    assert worker.parts(1) == (one, one, [one])
    assert worker.parts(2) == (one, one, 2 * [(False, 2, False)])
    assert worker.parts(8) == (one, one, 4 * [(False, 1, False)])
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
        torch.set_num_threads(2)
        for _ in range(20):
            found.append(worker.parts(3)[2])

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(timeout=60)
    assert found == 80 * [2 * [(False, 1, False)]]


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
            time.sleep(0.3)  # the main thread is on its way to wait for the parts
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
    assert not unused.grad.any()


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


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "tiny"
    return prepare(folder, words=["star", "apple"], samples_per_class=40, progress=False)


def batches(store: Path, part: str, epoch: int, *, batch_size: int = 16) -> StrokeBatches:
    config = read_config(VAEConfig, batch_size=batch_size, max_seq_len=200)
    return StrokeBatches(
        load_split(store, part), config, seed=SEED, epoch=epoch if part == "train" else None
    )


def make_vae(store: Path, **overrides: Any) -> SketchVAE:
    """One without noise: the posteriors are as good as points."""
    split = load_split(store, "train")
    torch.manual_seed(SEED)
    config = read_config(VAEConfig, **(SMALL | overrides))
    vae = SketchVAE(config, words=split.classes, scale=split.scale, simplification=SIMPLIFICATION)
    with torch.no_grad():
        vae.to_mean.weight.normal_()
        vae.to_log_std.bias.fill_(-30)
    return vae


def make_retimer(store: Path) -> Retimer:
    split = load_split(store, "train")
    torch.manual_seed(SEED)
    config = read_config(RetimeConfig, hidden_size=8, num_modes=2, dropout=0.0)
    return Retimer(config, words=split.classes, scale=split.scale, simplification=SIMPLIFICATION)


def gradients(model: SketchVAE | Retimer, batch: StrokeBatch) -> dict[str, torch.Tensor]:
    """Of the loss of `batch`, by name; with the loss of this rank's share."""
    loss_of = parallel_loss(model)  # takes part in the backward pass: to be kept till then
    loss, _ = loss_of(batch, step=0)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found | {"loss": loss.detach()}


def seven(store: Path) -> StrokeBatch:
    """Some drawings of unlike lengths, one of them untimed; 4 for one rank and 3 for the other."""
    batch = batches(store, "train", 1, batch_size=7)[0]
    batch.timed[3] = False
    return batch


def tolerances(store: Path) -> list[float]:
    """None; one between the mean KL of two ranks, below that of all; one that nothing reaches."""
    vae, batch = make_vae(store), seven(store)
    with torch.no_grad():
        mean, log_std = vae.posterior(batch, see_time=batch.timed)
        kl = 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std)
    halves = sorted((kl[::2].mean().item(), kl[1::2].mean().item()))
    assert halves[0] + 0.001 < halves[1]
    return [0.0, (halves[0] + kl.mean().item()) / 2, 1000.0]


def all_gradients(store: Path) -> list[dict[str, torch.Tensor]]:
    models = [make_vae(store, kl_tolerance=tolerance) for tolerance in tolerances(store)]
    models.append(make_vae(store, class_conditioning=False))
    return [gradients(model, seven(store)) for model in (*models, make_retimer(store))]


def fit(store: Path, folder: Path, *, resume: Path | None = None, **config: Any) -> list[Row]:
    return list(
        loop.fit(
            make_vae(store, **config),
            train_batches=lambda epoch: batches(store, "train", epoch).load(),
            valid_batches=lambda: batches(store, "valid", 0, batch_size=5).load(),
            folder=folder,
            seed=SEED,
            resume=resume,
        )
    )


def work(rank: int, top: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{top}/meet", rank=rank, world_size=WORLD)
    torch.set_num_threads(1)
    torch.save(function(*arguments), top / f"{rank}.pt")
    dist.destroy_process_group()


def on_ranks(top: Path, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function` returns in each of `WORLD` processes that train together."""
    context = multiprocessing.get_context("spawn")
    top.mkdir()
    started = [
        context.Process(target=work, args=(rank, top, function, arguments), daemon=True)
        for rank in range(WORLD)
    ]
    for process in started:
        process.start()
    left = {process.sentinel: process for process in started}
    while left:
        for ended in wait(list(left)):
            if left.pop(ended).exitcode:  # the other would wait for it
                for process in started:
                    process.kill()
                pytest.fail("a process failed; see what it wrote")
    return [torch.load(top / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


def test_the_gradient_is_that_of_the_whole_batch(store: Path, tmp_path: Path) -> None:
    """Whatever ranks hold, and on either side of the KL term's floor."""
    alone, together = all_gradients(store), on_ranks(tmp_path / "r", all_gradients, store)
    for expected, *found in zip(alone, *together, strict=True):
        loss = expected.pop("loss")
        torch.testing.assert_close(sum(one.pop("loss") for one in found) / WORLD, loss)
        assert expected.keys() >= found[0].keys()
        for name, gradient in found[0].items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-6)
            assert torch.equal(gradient, found[1][name]), name
        norm = torch.cat([g.flatten() for g in expected.values()]).norm()
        assert norm > 0.01


def test_training_together_goes_as_alone_and_on_with_another_number(
    store: Path, tmp_path: Path
) -> None:
    expected = fit(store, tmp_path / "alone", num_epochs=3)
    rows = on_ranks(tmp_path / "r", fit, store, tmp_path / "both")
    assert {path.name for path in (tmp_path / "both").iterdir()} == {
        *("DoodleGenRNN_best.pt", "DoodleGenRNN_last.pt", "DoodleGenRNN_metrics.csv")
    }
    last = fit(
        store, tmp_path / "both", num_epochs=3, resume=tmp_path / "both" / "DoodleGenRNN_last.pt"
    )
    for wanted, *found in zip(expected, rows[0] + last, rows[1] + last, strict=True):
        for row in found:
            for name in wanted.keys() - {"seconds"}:
                assert row[name] == pytest.approx(wanted[name], rel=1e-4), name
    assert expected[2]["valid_loss"] < expected[0]["valid_loss"] - 0.01
