"""On a real Ray cluster of several nodes, what comes out is what one machine makes."""

import csv
import importlib
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from files import write_notebook
from fileserver import serving

from doodlelib import cluster
from doodlelib.cluster.prepare import ENVIRONMENT, STARTS
from doodlelib.config import VAEConfig, read_config
from doodlelib.data import dataset, sample
from doodlelib.training import fit, loaders, make_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]
TRAIN = importlib.import_module("doodlelib.cluster.train")  # in the face, a function's name
WORDS = ["star", "apple", "cat", "dog"]
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


def add_node(running: Any, **options: Any) -> None:
    """Ray gives a node half a minute to start; a busy machine may need to try again."""
    for tries_left in reversed(range(STARTS)):
        try:
            running.add_node(**NODE | options)
        except Exception as error:
            if not tries_left or "timed out during startup" not in str(error):
                raise
        else:
            return


def wait_until_missed(running: Any) -> None:
    """Ray misses a killed node after some 15 s; until then it gives it work, which fails."""
    import ray

    for _ in range(120):
        if sum(node["Alive"] for node in ray.nodes()) == 1 + len(running.worker_nodes):
            return
        threading.Event().wait(1)
    raise TimeoutError("Ray does not miss the node that was killed")


@pytest.fixture(scope="module")
def nodes() -> Generator[Any]:
    """A cluster of three nodes: the head, which does no work, and two that do one task each."""
    os.environ |= ENVIRONMENT
    import ray
    from ray.cluster_utils import Cluster

    running = Cluster()
    add_node(running, num_cpus=0, include_dashboard=False)  # the first one is the head
    for _ in range(2):
        add_node(running)
    ray.init(running.address, log_to_driver=False, logging_level="ERROR")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield running
    ray.shutdown()
    running.shutdown()


def mirror(words: list[str] = WORDS, *, count: int = 120) -> dict[str, bytes]:
    """Files of made drawings, some lines of them bad."""
    files = {}
    for word in words:
        rows = [orjson.dumps(record.to_json()) for record in sample.make_drawings(word, n=count)]
        rows[7::30] = [b'{"broken'] * len(rows[7::30])
        files[f"full/raw/{word}.ndjson"] = b"\n".join(rows)
    return files


def write(top: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    return top.as_uri()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("limit", [None, 50])
def test_the_store_is_the_same_to_the_byte(nodes: Any, tmp_path: Path, limit: int | None) -> None:
    own = {f"{word}/1.ndjson": b'{"drawing": [[[0, 9, 4], [1, 5, 2]]]}' for word in WORDS}
    write(tmp_path / "own", own)
    options: dict[str, Any] = {
        "words": WORDS,
        "source": ["raw", tmp_path / "own"],
        "samples_per_class": limit,
        "base_url": write(tmp_path / "mirror", mirror()),
        "progress": False,
    }
    expected = pytest.warns(match="good drawings") if limit else nullcontext()
    with expected:  # of one's own there are too few
        alone = dataset.prepare(tmp_path / "alone", **options)
        spread = cluster.prepare(tmp_path / "spread", **options)
    assert contents(spread) == contents(alone)
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"own", "mirror", "alone", "spread"}


def test_an_error_of_a_worker_is_that_of_one_machine(nodes: Any, tmp_path: Path) -> None:
    url = write(tmp_path / "mirror", mirror(["cat"], count=10))
    with pytest.raises(FileNotFoundError, match=r"dog.ndjson: this mirror has no such file"):
        cluster.prepare(tmp_path / "s", words=["cat", "dog"], source="raw", base_url=url)
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["mirror"]


class Gated(dict):
    """Files that nobody gets before `opened` is set."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self.opened = threading.Event()

    def get(self, name: str) -> bytes | None:
        self.opened.wait()
        return super().get(name)


def test_a_node_that_dies_under_way_changes_nothing(nodes: Any, tmp_path: Path) -> None:
    files = Gated(mirror(count=40))
    options: dict[str, Any] = {
        "words": WORDS,
        "source": "raw",
        "samples_per_class": 30,
        "progress": False,
    }
    with serving(files) as server:

        def kill() -> None:
            while len(server.asked) < 2:  # both nodes are at work on a word, and wait
                threading.Event().wait(0.01)
            nodes.remove_node(max(nodes.worker_nodes, key=id), allow_graceful=False)
            files.opened.set()

        killer = threading.Thread(target=kill)
        killer.start()
        options["base_url"] = server.url
        spread = cluster.prepare(tmp_path / "spread", cache=tmp_path / "cache", **options)
        killer.join()
        assert len(nodes.worker_nodes) == 1, "a node was lost while its word was fetched"
        assert len({name for name, _ in server.asked}) == len(WORDS)
        alone = dataset.prepare(tmp_path / "alone", cache=tmp_path / "cache", **options)
    wait_until_missed(nodes)
    add_node(nodes)
    assert contents(spread) == contents(alone)


SMALL: dict[str, Any] = {
    "latent_size": 4,
    "enc_hidden_size": 8,
    "dec_hidden_size": 12,
    "num_gmm_modes": 2,
    "batch_size": 16,
    "num_workers": 0,
    "use_layer_norm": False,
    "recurrent_dropout": 0.0,
    "hide_time_prob": 0.0,
    "hide_word_prob": 0.0,
    "learning_rate": 0.003,
}


def train_alone(store: Path, folder: Path, **options: Any) -> Path:
    """A training by one process, of a model without noise: its posteriors are as good as points."""
    config = read_config(VAEConfig, **SMALL, num_epochs=options.pop("num_epochs"))
    splits = {part: dataset.load_split(store, part) for part in ("train", "valid")}
    vae = make_model(config, store, seed=0)
    with torch.no_grad():
        vae.to_log_std.bias.fill_(-30)
    list(fit(vae, **loaders(splits, config, seed=0), folder=folder, **options))
    return folder / "DoodleGenRNN_last.pt"


def falls_over(job: dict[str, Any]) -> Exception | None:
    """What a worker does, but that the second one is killed after its first epoch, once."""
    import ray.train

    marker, report = job["store"].parent / "killed", ray.train.report

    def report_and_die(*arguments: Any, **options: Any) -> None:
        report(*arguments, **options)
        if ray.train.get_context().get_world_rank() == 1 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    ray.train.report = report_and_die
    return TRAIN._work(job)


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "DoodleGenRNN_metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_two_workers_one_of_them_killed_train_as_one_process(
    nodes: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = dataset.prepare(
        tmp_path / "store", words=["star", "apple"], samples_per_class=40, progress=False
    )
    last = train_alone(store, tmp_path / "begun", num_epochs=1)
    train_alone(store, tmp_path / "alone", num_epochs=4, resume=last)

    monkeypatch.setattr(TRAIN, "_work", falls_over)

    def go_on(name: str, last: Path, workers: int, **changed: object) -> Path:
        options = {"workers": workers, "resume": last, "parameters": SMALL | changed}
        return cluster.train(store, tmp_path / name, **options) / "DoodleGenRNN_last.pt"

    interrupt = signal.getsignal(signal.SIGINT)
    last = go_on("both", last, 2, num_epochs=3)
    assert signal.getsignal(signal.SIGINT) is interrupt, "Ctrl-C is Ray's no longer"
    assert (tmp_path / "killed").exists()
    go_on("on", last, 1, num_epochs=4)
    assert "epoch 4/4 loss" in capsys.readouterr().out
    for row, expected in zip(rows(tmp_path / "on"), rows(tmp_path / "alone"), strict=True):
        for name in row.keys() - {"seconds"}:
            assert row[name] == pytest.approx(expected[name], rel=1e-4), name
    assert {path.name for path in (tmp_path / "on").iterdir()} == {
        *("DoodleGenRNN_best.pt", "DoodleGenRNN_last.pt", "DoodleGenRNN_metrics.csv")
    }
    with pytest.raises(ValueError, match="latent_size 4 -> 5"):
        go_on("x", last, 1, latent_size=5)


NOTEBOOK = """\
import pathlib
top = pathlib.Path(folder)
with (top / "runs.txt").open("a") as log:
    log.write(f"{rate} {size}\\n")
if rate == 0.3 and not (top / "mended").exists():
    raise ArithmeticError("this one fails")
(top / name).mkdir()
(top / name / "Toy_metrics.csv").write_text(f"epoch,valid_loss\\n1,9\\n2,{rate + size}\\n3,8\\n")
"""


def test_a_sweep_goes_on_where_it_was(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = ['folder: str = ""\nname: str = "one"\nrate: float = 0.1\nsize: int = 1', NOTEBOOK]
    notebook = write_notebook(tmp_path / "toy.ipynb", *cells)
    out = tmp_path / "sweep"
    monkeypatch.setattr(TRAIN, "RUNS", tmp_path)

    def rows(**more: Any) -> list[dict[str, str]]:
        grid = {"rate": [0.1, 0.3], "size": [1, 2]}
        options = {"grid": grid, "fixed": {"folder": str(tmp_path)}, "folder": out, **more}
        with cluster.sweep(notebook, **options).open() as file:
            return list(csv.DictReader(file))

    found = rows()
    assert [(row["rate"], row["size"], row["valid_loss"]) for row in found[:2]] == [
        *(("0.1", "1", "1.1"), ("0.1", "2", "2.1"))
    ]
    assert ["this one fails" in row["error"] for row in found] == [False, False, True, True]
    assert (out / f"{found[0]['trial']}.ipynb").exists()
    assert (out / f"{found[2]['trial']}.failed.ipynb").exists()
    (tmp_path / "mended").touch()
    found = rows()
    assert len(found) == 4 and not any(row.get("error") for row in found)
    runs = (tmp_path / "runs.txt").read_text().splitlines()
    assert sorted(runs) == [*("0.1 1", "0.1 2"), *("0.3 1", "0.3 1", "0.3 2", "0.3 2")]
    assert rows(draws=2) == sorted(rows(draws=2), key=lambda row: float(row["valid_loss"]))
    assert len((tmp_path / "runs.txt").read_text().splitlines()) == len(runs), "they are done"
