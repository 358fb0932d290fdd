"""What happens in other processes: trainings and preparations that are killed, stopped, starved.

They are forked from a server that has imported and compiled everything (`preloaded`) and has
started no threads, so that one costs a tenth of a second. Each takes a fault, a function that is
called first.
"""

import functools
import itertools
import multiprocessing
import multiprocessing.forkserver
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from unittest import mock

import numpy as np
import torch

from doodlelib import interrupt, paths
from doodlelib.config import CNNConfig, VAEConfig, read_config
from doodlelib.data import dataset, quickdraw
from doodlelib.models import checkpoint
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.vae import SketchVAE
from doodlelib.training import loop, run_state
from doodlelib.training.batches import ImageBatches, StrokeBatches, images_of

Fault = Callable[[], object] | None
CONTEXT = multiprocessing.get_context("forkserver")
PARTS = ("train", "valid")
EPOCHS = 4
STOPPED = 130  # exit code
VAE = {
    "num_epochs": EPOCHS,
    "batch_size": 16,
    "max_seq_len": 80,
    "latent_size": 4,
    "enc_hidden_size": 8,
    "dec_hidden_size": 8,
    "num_gmm_modes": 2,
    "use_layer_norm": False,
    "recurrent_dropout": 0.0,
    "dropout": 0.1,
    "random_scale_factor": 0.1,
    "augment_stroke_prob": 0.1,
}
CNN = {"num_epochs": EPOCHS, "batch_size": 16, "width": 2, "dropout": 0.2}
TRAINING = tuple(module.__file__ for module in (loop, run_state, checkpoint, paths))
MUTATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"}


@functools.cache
def _start_server() -> None:
    CONTEXT.set_forkserver_preload(["preloaded"])
    places = os.pathsep.join(sys.path)  # which Python 3.11 does not pass on by itself
    with mock.patch.dict(os.environ, PYTHONPATH=places):
        multiprocessing.forkserver.ensure_running()


def start(work: Callable[..., object], *given: object, fault: Fault = None) -> "Process":
    """`work(*given)` in a process of its own, with one thread."""
    _start_server()
    process = CONTEXT.Process(target=_run, args=(work, given, fault))
    process.start()
    return process


def run(work: Callable[..., object], *given: object, fault: Fault = None) -> int:
    """The exit code of `work(*given)` in a process of its own."""
    process = start(work, *given, fault=fault)
    process.join()
    return process.exitcode


def _run(work: Callable[..., object], given: tuple, fault: Fault) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    if fault:
        fault()
    work(*given)


def training(kind: str, data: Path, folder: Path, num_workers: int = 0) -> Iterator[loop.Row]:
    """A tiny training of "rnn" or "cnn", which goes on from its last checkpoint if there is one."""
    splits = {part: dataset.load_split(data, part) for part in PARTS}
    torch.manual_seed(3)
    if kind == "cnn":
        config = read_config(CNNConfig, **CNN | {"num_workers": num_workers})
        model = DoodleCNN(config, words=splits["train"].classes)
        images = {part: np.load(data.with_name(f"{part}.npy")) for part in splits}

        def batches(part: str, epoch: int | None) -> torch.utils.data.DataLoader:
            labels = np.asarray(splits[part].words)
            return ImageBatches(images[part], labels, config=config, seed=5, epoch=epoch).load()

    else:
        config = read_config(VAEConfig, **VAE | {"num_workers": num_workers})
        model = SketchVAE(
            config,
            words=splits["train"].classes,
            scale=splits["train"].scale,
            simplification={"method": "timed", "epsilon": 2.0, "epsilon_time": 8.0},
        )

        def batches(part: str, epoch: int | None) -> torch.utils.data.DataLoader:
            return StrokeBatches(splits[part], config, seed=5, epoch=epoch).load()

    last = folder / f"{run_state.NAMES[kind]}_last.pt"
    return loop.fit(
        model,
        train_batches=lambda epoch: batches("train", epoch),
        valid_batches=lambda: batches("valid", None),
        folder=folder,
        seed=5,
        checkpoint_every=2,
        resume=last if last.exists() else None,
        key_id=splits["train"].key_id,
    )


def train_to_the_end(kind: str, data: Path, folder: Path, num_workers: int = 0) -> None:
    """All epochs; each that ended is noted in a file beside the folder."""
    with folder.with_suffix(".epochs").open("ab", buffering=0) as noted:
        try:
            for _ in training(kind, data, folder, num_workers=num_workers):
                noted.write(b".")
        except loop.Interrupted:
            sys.exit(STOPPED)


def shorten() -> None:
    """One epoch is enough for what is to come."""
    for settings in (VAE, CNN):
        settings["num_epochs"] = 1


def prepare(folder: Path, epsilon: float) -> None:
    """The store of the tests."""
    words = ["star", "apple"]
    dataset.prepare(folder, words=words, samples_per_class=40, epsilon=epsilon, progress=False)


def draw(data: Path) -> None:
    """The store's drawings as pictures, in files beside it."""
    for part in PARTS:
        np.save(
            data.with_name(f"{part}.npy"),
            images_of(dataset.load_split(data, part), read_config(CNNConfig)),
        )


def fetch(url: str, cache: Path) -> None:
    """A whole file, in small requests."""
    quickdraw.CHUNK = 5_000
    for _ in quickdraw.fetch_blocks(url, cache, progress=False):
        pass


def at_line(number: int, signum: int, files: tuple[str, ...] = TRAINING) -> None:
    """Send `signum` to this process when the `number`-th line of `files` is about to run."""
    _follow_lines(files, lambda seen: seen == number and os.kill(os.getpid(), signum))


def stop_at_line(number: int, signum: int, files: tuple[str, ...]) -> None:
    """Send `signum` once, at the `number`-th line of `files` or the next at which it is held back.

    Between two epochs, while the caller of `fit` is at work, signals act as they used to.
    """
    sent = []

    def stop(seen: int) -> None:
        held = getattr(signal.getsignal(signum), "__module__", "") == interrupt.__name__
        if seen >= number and held and not sent:
            sent.append(seen)
            os.kill(os.getpid(), signum)

    _follow_lines(files, stop)


def count_lines(note: Path, files: tuple[str, ...] = TRAINING) -> None:
    """Have the number of lines of `files` that run written to `note` as this process ends."""
    seen = _follow_lines(files, lambda seen: None)
    multiprocessing.util.Finalize(None, lambda: note.write_text(str(next(seen))), exitpriority=0)


def _follow_lines(files: tuple[str, ...], act: Callable[[int], object]) -> Iterator[int]:
    """Call `act` with the number of each line of `files` that is about to run."""
    numbers = itertools.count(1)

    def follow(frame: FrameType, event: str, _: object) -> object:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            act(next(numbers))
        return follow

    sys.settrace(follow)
    return numbers


def in_write(number: int) -> None:
    """Die at the `number`-th file that is written, half of which reaches the disk."""
    seen, fsync = 0, os.fsync

    def cut(handle: int) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    os.fsync = cut


def at_mutation(number: int, folder: Path, note: Path | None = None) -> None:
    """Die before the `number`-th change to what lies in `folder`; count changes in `note`."""
    numbers = itertools.count(1)

    def watch(event: str, given: tuple) -> None:
        if event not in MUTATIONS or not str(given[0]).startswith(str(folder)):
            return
        if event == "open" and not given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        mine = next(numbers)  # another thread may come here while this one writes its note
        if note:
            note.write_text(str(mine))
        if mine == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def starved(kind: str, data: Path, folder: Path, fault: str) -> None:
    """One epoch, then the fault; exits with 0 if the error names the file and what is wrong."""
    rows = training(kind, data, folder)
    next(rows)
    if fault == "disk full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
        expected = "File too large"
    elif fault == "read-only":
        folder.chmod(0o555)
        if os.getuid() == 0:  # whom no mode stops
            os.setuid(65534)
        expected = "Permission denied"
    else:
        folder.rename(folder.with_name("elsewhere"))
        expected = "is gone"
    try:
        next(rows)
    except OSError as error:
        sys.exit(0 if expected in str(error) and str(folder) in str(error) else str(error))
    sys.exit("no error")


Process = multiprocessing.process.BaseProcess
die_at_line = functools.partial(at_line, signum=signal.SIGKILL)
