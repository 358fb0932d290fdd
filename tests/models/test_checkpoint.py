"""One file holds a model, and nothing that is not one gets in."""

import copy
import pickle
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doodlelib.config import CNNConfig, RetimeConfig, VAEConfig, read_config
from doodlelib.data import quickdraw
from doodlelib.models import checkpoint
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.retimer import Retimer, ShapeFeatures
from doodlelib.models.vae import SketchVAE
from doodlelib.paths import ROOT
from doodlelib.strokes import Scale, duration

SCALE = Scale(xy=31.0, segment_mean=4.4, segment_std=0.8, pause_mean=6.0, pause_std=0.7)
SIMPLIFICATION = {"method": "rdp", "epsilon": 1.5, "epsilon_time": 8.0}


def make_vae() -> SketchVAE:
    config = read_config(VAEConfig, latent_size=4, enc_hidden_size=8, dec_hidden_size=8)
    return SketchVAE(config, words=["cat", "t-shirt"], scale=SCALE, simplification=SIMPLIFICATION)


def test_a_vae_comes_back_whole(tmp_path: Path) -> None:
    vae = make_vae()
    again = checkpoint.load_vae(checkpoint.save(tmp_path / "vae.pt", vae))
    assert again.config == vae.config
    assert again.words == vae.words
    assert again.scale == SCALE
    assert again.simplification == SIMPLIFICATION
    options = {"word": "cat", "timing": "joint", "seed": 3}  # `again` has the shipped retimer
    one, other = vae.generate(2, **options), again.generate(2, **options)
    for a, b in zip(one, other, strict=True):
        for stroke, same in zip(a, b, strict=True):
            np.testing.assert_array_equal(stroke, same)


def test_a_cnn_comes_back_whole(tmp_path: Path) -> None:
    cnn = DoodleCNN(read_config(CNNConfig, width=4), words=["cat", "dog"])
    again = checkpoint.load_cnn(checkpoint.save(tmp_path / "cnn.pt", cnn))
    assert again.words == ["cat", "dog"]
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(cnn.predict(images), again.predict(images))


def test_shipped_classifiers_go_by_name() -> None:
    assert len(checkpoint.load_cnn("trained").words) == 10
    assert checkpoint.load_cnn("trained_345").words == list(quickdraw.words())
    with pytest.raises(FileNotFoundError, match=r"cnn_none\.pt"):
        checkpoint.load_cnn("trained_none")


def make_retimer(*, reads: bool = False, **overrides: Any) -> Retimer:
    config = read_config(RetimeConfig, hidden_size=8, num_modes=2, **overrides)
    known = {"words": ["cat"], "scale": SCALE, "simplification": SIMPLIFICATION}
    return Retimer(
        config, **known, reader=ShapeFeatures.from_vae(make_vae(), scale=SCALE) if reads else None
    )


@pytest.mark.parametrize("reads", [False, True])
def test_a_retimer_comes_back_whole_and_with_the_vae_of_its_run(
    reads: bool, tmp_path: Path
) -> None:
    retimer, drawing = (
        make_retimer(reads=reads).eval(),
        [[[0, 90, 255], [0, 40, 9]], [[9, 9], [9, 80]]],
    )
    path = checkpoint.save(tmp_path / checkpoint.RETIMER, retimer)
    again = checkpoint.load_retimer(path)
    assert again.config == retimer.config
    assert duration(again.retime(drawing, seed=1)) == duration(retimer.retime(drawing, seed=1))
    vae = checkpoint.load_vae(checkpoint.save(tmp_path / "DoodleGenRNN_best.pt", make_vae()))
    assert duration(vae.retime(drawing, seed=1)) == duration(retimer.retime(drawing, seed=1))
    path.unlink()
    vae = checkpoint.load_vae(tmp_path / "DoodleGenRNN_best.pt")
    shipped = checkpoint.load_retimer()
    assert duration(vae.retime(drawing, seed=1)) == duration(shipped.retime(drawing, seed=1))


class Attack:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("attacked"),))


def test_what_is_no_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("bad.pt")
    path.write_bytes(pickle.dumps(Attack(), protocol=2))
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.load_vae(path)
    torch.save({"weights": Attack()}, path)
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.load_vae(path)
    assert not Path("attacked").exists()

    whole = checkpoint.save("whole.pt", make_vae()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.load_vae(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.load_vae(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load_vae(path)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoint.load_vae("nowhere.pt")


def test_kind_version_and_contents_are_checked(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "vae.pt", make_vae())
    with pytest.raises(ValueError, match="kind rnn, not cnn"):
        checkpoint.load_cnn(path)
    contents = torch.load(path, weights_only=True)
    for change, message in (
        ({"format_version": 99}, "format 99"),
        ({"config": contents["config"] | {"latent_size": 5}}, "do not fit"),
        ({"config": contents["config"] | {"latent": 5}}, "latent: Unexpected"),
        ({"scale": {"xy": -1.0}}, "xy must be above 0"),
    ):
        torch.save(contents | change, path)
        with pytest.raises(ValueError, match=message):
            checkpoint.load_vae(path)
    del contents["scale"]
    torch.save(contents, path)
    with pytest.raises(ValueError, match="do not fit"):
        checkpoint.load_vae(path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint.save(tmp_path / "vae.pt", make_vae())
    before = path.read_bytes()

    def full(contents: object, file: object) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, make_vae())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["vae.pt"]


def test_an_average_lies_between_and_keeps_the_last_ones_buffers(tmp_path: Path) -> None:
    models = [make_vae() for _ in range(3)]
    for number, vae in enumerate(models):
        vae.exemplars.count.fill_(number)
    paths = [checkpoint.save(tmp_path / f"{i}.pt", vae) for i, vae in enumerate(models)]
    mean = checkpoint.average(paths, SketchVAE)
    for found, *own in zip(mean.parameters(), *(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(found, torch.stack(list(own)).mean(0))
    assert mean.exemplars.count.tolist() == [2, 2]


def test_half_precision_is_half_the_size_and_loads_as_float32(tmp_path: Path) -> None:
    vae = make_vae()
    words = torch.arange(2).repeat(100)
    vae.exemplars.update(words, torch.randn(200, 4), torch.randn(200, 4))
    whole = checkpoint.save(tmp_path / "whole.pt", vae)
    half = checkpoint.save(tmp_path / "half.pt", copy.deepcopy(vae).half())
    sizes = [
        sum(v.nbytes for v in torch.load(p, weights_only=True)["weights"].values())
        for p in (whole, half)
    ]
    assert sizes[1] < 0.6 * sizes[0]
    again = checkpoint.load_vae(half)
    for name, value in vae.state_dict().items():
        assert again.state_dict()[name].dtype == value.dtype
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        vae.head.bias[0] = 1e6
    with pytest.raises(FloatingPointError, match=r"head\.bias is not finite"):
        checkpoint.save(half, vae.half())


def test_fewer_exemplars_are_read(tmp_path: Path) -> None:
    vae, words = make_vae(), torch.arange(2).repeat(100)
    vae.exemplars.update(words, torch.randn(200, 4), torch.randn(200, 4))
    runpy.run_path(str(ROOT / "experiments/ship.py"))["keep_latest"](vae.exemplars, 10)
    path = checkpoint.save(tmp_path / "vae.pt", vae)
    again = checkpoint.load_vae(path)
    assert again.exemplars.mean.shape == again.exemplars.std.shape == (2, 10, 4)
    one, other = (v.generate(1, word="cat", seed=1, timing="joint")[0] for v in (vae, again))
    np.testing.assert_array_equal(one[0][0], other[0][0])
    fresh = make_vae()
    fresh.load_state_dict(again.state_dict())  # to train on
    fresh.exemplars.update(words, torch.randn(200, 4), torch.randn(200, 4))
    assert fresh.exemplars.count.tolist() == [110, 110]
    contents = torch.load(path, weights_only=True)
    for wrong in (torch.zeros(2, 10, 5), torch.zeros(2, 9, 4), torch.zeros(2)):
        changed = contents["weights"] | {"exemplars.std": wrong.half()}
        torch.save(contents | {"weights": changed}, path)
        with pytest.raises(ValueError, match=r"vae\.pt"):
            checkpoint.load_vae(path)


def test_a_mean_leaves_readers_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(1)
    retimer = make_retimer(reads=True)
    paths = [checkpoint.save(tmp_path / f"{number}.pt", retimer) for number in range(3)]
    mean = checkpoint.average(paths, Retimer)
    for name, value in retimer.reader.state_dict().items():
        assert torch.equal(mean.reader.state_dict()[name], value)
