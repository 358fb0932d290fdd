"""Checkpoints from whoever means harm: refused, with a reason, and nothing is run."""

import os
import pickle
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import victims

from doodlelib.models import checkpoint
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.vae import SketchVAE
from doodlelib.paths import NOTEBOOKS

Contents = dict


@pytest.fixture(scope="module")
def good(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a tiny training."""
    folder = tmp_path_factory.mktemp("good")
    list(victims.training("rnn", data, folder))
    return folder / "DoodleGenRNN_last.pt"


def config(**values: object) -> Callable[[Contents], Contents]:
    return lambda contents: contents | {"config": contents["config"] | values}


def weights(change: Callable[[torch.Tensor], object]) -> Callable[[Contents], Contents]:
    def changed(contents: Contents) -> Contents:
        value = change(contents["weights"]["head.bias"])
        return contents | {"weights": contents["weights"] | {"head.bias": value}}

    return changed


def as_wide_as_told(contents: Contents) -> Contents:
    """A word of 10**12 letters' worth of numbers, of which the file holds one."""
    wide = torch.zeros(1).expand(10**12)
    return contents | {"weights": contents["weights"] | {"head.bias": wide}}


def endless(contents: Contents) -> Contents:
    """Lists within lists, each twice: 2**60 values in 60 lists."""
    nested: list = []
    for _ in range(60):
        nested = [nested, nested]
    return contents | {"words": nested}


class Payload:
    def __reduce__(self) -> tuple:
        return os.system, ("touch attacked",)


class Bomb:
    def __reduce__(self) -> tuple:
        return bytearray, (10**12,)


CHANGES: dict[str, Callable[[Contents], object]] = {
    "a payload": lambda contents: contents | {"words": Payload()},
    "a bytearray of a terabyte": lambda contents: contents | {"words": Bomb()},
    "a tensor of a terabyte": lambda contents: contents | {"words": Meta()},
    "one number spread over a terabyte": as_wide_as_told,
    "lists without end": endless,
    "a latent of a billion": config(latent_size=10**9),
    "a decoder of a billion": config(dec_hidden_size=10**9),
    "an encoder of ten to the 18": config(enc_hidden_size=10**18),
    "a billion mixture components": config(num_gmm_modes=10**9),
    "more layers": config(num_lstm_layers=8),
    "too many layers": config(num_lstm_layers=10**9),
    "an unknown setting": config(colour="red"),
    "a setting of another type": config(batch_size="12"),
    "a setting out of range": config(dropout=1.5),
    "a list for the settings": lambda contents: contents | {"config": [1]},
    "a weight too short": weights(lambda value: value[:-1].clone()),
    "a weight of another type": weights(lambda value: value.long()),
    "a weight that is text": weights(lambda value: "1.0"),
    "a weight of complex numbers": weights(lambda value: value.to(torch.complex64)),
    "no weights": lambda contents: contents | {"weights": {}},
    "one weight more": lambda contents: contents | {"weights": contents["weights"] | {"x": 1}},
    "text for the weights": lambda contents: contents | {"weights": "all"},
    "words that are numbers": lambda contents: contents | {"words": [1, 2]},
    "a text for the words": lambda contents: contents | {"words": "ab"},
    "a word more": lambda contents: contents | {"words": [*contents["words"], "x"]},
    "a scale of text": lambda contents: contents | {"scale": {"xy": "1"}},
    "a scale without end": lambda contents: contents | {"scale": {"segment_mean": float("inf")}},
    "an unknown simplification": lambda contents: contents | {"simplification": {"method": "x"}},
    "a simplification of None": lambda contents: contents | {"simplification": None},
    "the format of long ago": lambda contents: contents | {"format_version": 0},
    "a format that is a list": lambda contents: contents | {"format_version": [1]},
    "another kind": lambda contents: contents | {"kind": "cnn"},
    "a kind that is a list": lambda contents: contents | {"kind": ["rnn"]},
    "no more than a list": lambda contents: [1, 2],
}


class Meta:
    def __reduce__(self) -> tuple:
        return torch.Tensor, (10**6, 10**6)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_checkpoint_that_means_harm(
    good: Path, change, tmp_path: Path, monkeypatch, tally: Counter[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(change(torch.load(good, weights_only=True)), "bad.pt")
    with pytest.raises(ValueError, match=r"bad\.pt") as error:
        checkpoint.read("bad.pt", SketchVAE)
    assert "alloc" not in str(error.value), "refused before memory was asked for"
    assert len(str(error.value)) < 3_000
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"], "nothing was run"
    tally["hostile checkpoints refused"] += 1


def archive_with(
    good: Path, path: Path, change: Callable[[str, bytes], bytes], packed: bool = False
):
    """Write the archive `good` to `path` with each part changed."""
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w", method) as new:
        for part in old.infolist():
            new.writestr(part.filename, change(part.filename, old.read(part)))


def test_an_archive_that_means_harm(good: Path, tmp_path: Path, tally: Counter[str]) -> None:
    def as_it_is(name: str, content: bytes) -> bytes:
        return content

    def swollen(name: str, content: bytes) -> bytes:
        return bytes(300_000_000) if name.endswith("/data/0") else content

    def beyond(name: str, content: bytes) -> bytes:
        """A storage said to have a million numbers, which would reach beyond its bytes."""
        number = b"K" + bytes([4])  # 4 numbers, as latent_size is
        return content.replace(number, b"J" + struct.pack("<i", 10**6))

    def deep(name: str, content: bytes) -> bytes:
        lists = b"\x80\2" + b"]" * 50_000 + b"a" * 49_999 + b"."
        return lists if name.endswith("data.pkl") else content

    def legacy() -> None:
        torch.save({"x": Payload()}, path, _use_new_zipfile_serialization=False)

    path = tmp_path / "bad.pt"
    whole = good.read_bytes()
    cases: dict[str, Callable[[], object]] = {
        "packed": lambda: archive_with(good, path, as_it_is, packed=True),
        "swollen": lambda: archive_with(good, path, swollen, packed=True),
        "beyond": lambda: archive_with(good, path, beyond),
        "deep": lambda: archive_with(good, path, deep),
        "legacy": legacy,
        "appended to a pickle": lambda: path.write_bytes(pickle.dumps(1) + whole),
        "empty": lambda: path.write_bytes(b""),
        "a folder's listing": lambda: path.write_bytes(b"PK\3\4" + bytes(100)),
    }
    cases |= {
        f"cut at {share}": lambda share=share: path.write_bytes(whole[: int(len(whole) * share)])
        for share in (0.01, 0.3, 0.9, 0.999)
    }
    for case, make in cases.items():
        make()
        with pytest.raises(ValueError, match=r"bad\.pt"):
            checkpoint.read(path, SketchVAE)
            pytest.fail(case)
        tally["hostile checkpoints refused"] += 1


def test_a_model_of_another_kind_and_none(good: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds a model of kind rnn, not cnn"):
        checkpoint.read(good, DoodleCNN)
    with pytest.raises(ValueError, match="train it anew, or use the version"):
        torch.save(torch.load(good, weights_only=True) | {"format_version": 0}, tmp_path / "a.pt")
        checkpoint.read(tmp_path / "a.pt", SketchVAE)
    for path in (tmp_path, tmp_path / "b.pt"):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            checkpoint.read(path, SketchVAE)


@pytest.mark.parametrize(
    "change",
    [
        lambda training: training | {"optimizer": {}},
        lambda training: training | {"optimizer": []},
        lambda training: training | {"history": 5},
        lambda training: training | {"history": [5]},
        lambda training: training | {"epoch": {"batches": 2}},
        lambda training: training | {"epoch": 3},
        lambda training: {},
        lambda training: (
            training["optimizer"]["state"][0].update(exp_avg=torch.zeros(3)) or training
        ),
    ],
)
def test_a_state_of_training_that_is_damaged(
    good: Path, data: Path, tmp_path: Path, change
) -> None:
    contents = torch.load(good, weights_only=True)
    last = tmp_path / good.name
    torch.save(contents | {"training": change(contents["training"])}, last)
    before = last.read_bytes()
    with pytest.raises(ValueError, match=r"_last\.pt"):
        list(victims.training("rnn", data, tmp_path))
    assert last.read_bytes() == before


def test_nothing_is_unpickled_at_will_in_any_file() -> None:
    """`tests/test_layout.py` reads the library; this, the notebooks and what is beside it."""
    loads = [
        line
        for path in [*NOTEBOOKS.glob("*.ipynb"), *(NOTEBOOKS.parent / "benchmarks").glob("*.py")]
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"torch\.load\(|pickle\.loads?\(|np\.load\(.*allow_pickle=True", line)
    ]
    assert not loads
