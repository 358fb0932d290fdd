"""The command line: its errors, generate and infer with small untrained models, what train runs."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
import torch
from PIL import Image, ImageDraw, ImageSequence

from doodlelib.__main__ import main
from doodlelib.cli import main as cli
from doodlelib.config import CNNConfig, VAEConfig, read_config
from doodlelib.models import checkpoint
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import Scale, duration

WORDS = ["cat", "The Eiffel Tower", "dog"]
Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained model of each kind, named as the shipped ones."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    config = read_config(
        VAEConfig, max_seq_len=12, latent_size=4, enc_hidden_size=8, dec_hidden_size=8
    )
    scale = Scale(xy=30.0, segment_mean=4.0, pause_mean=6.0)
    vae = SketchVAE(config, words=WORDS, scale=scale, simplification={})
    checkpoint.save(folder / "rnn.pt", vae)
    cnn = DoodleCNN(read_config(CNNConfig, image_size=28, width=4), words=WORDS)
    for name in ("cnn.pt", "cnn_345.pt"):
        checkpoint.save(folder / name, cnn)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Black lines on white."""
    path = tmp_path / "drawing.png"
    image = Image.new("L", (120, 90), 255)
    ImageDraw.Draw(image).line([(20, 20), (100, 30), (60, 70), (20, 20)], fill=0, width=4)
    image.save(path)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The lines that a command prints."""

    def lines(*arguments: object) -> list[str]:
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out.splitlines()

    return lines


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    assert exit_info.value.code == 2
    usage, *message = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: python -m doodlelib -m {train,generate,infer,page}")
    assert len(message) == 1
    return message[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "-m/--mode"),
        ("-m draw", "invalid choice: 'draw'"),
        ("-m generate -ng 0", "'0' is not a whole number above 0"),
        ("-m train -nspc -5", "-nspc"),
        ("-m train -nspc many", "'many' is not a whole number above 0"),
        ("-m generate --temperature nan", "temperatures are 0 to 1e6, not nan"),
        (
            "-m generate --time_temperature inf",
            "temperatures are 0 to 1e6, not 0.25 and inf",
        ),
        ("-m generate --temperature hot", "invalid float value: 'hot'"),
        ("-m generate -mt cnn", "-m generate needs -mt rnn, not cnn"),
        ("-m infer -mt rnn -i x.png", "-m infer needs -mt cnn, not rnn"),
        ("-m train -mt rnn -dm reduced", "-dm reduced does not go with -mt rnn"),
        ("-m train -mt cnn -dm full", "-dm full does not go with -mt cnn"),
        ("-m generate -dm simplified", "-dm simplified does not go with -mt rnn"),
        ("-m infer", "-m infer needs -i INPUT"),
        ("-m infer -i no/such.png", "there is no file no/such.png"),
        ("-m generate -mp no/such.pt", "there is no file no/such.pt"),
        ("-m generate -i x.png", "--input goes with -m infer, not with generate"),
        ("-m infer -ng 3 -i x.png", "--num_generations goes with -m generate, not with infer"),
        ("-m train --source nowhere", "'nowhere' is not raw, simplified, sample or a folder"),
        ("-m train -pdp no/such/data", "no prepared data at"),
        ("-m train --num_sample 3", "unrecognized arguments"),
    ],
)
def test_usage_errors(capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    assert message in usage_error(capsys, *shlex.split(arguments))


def test_help_is_complete_and_light() -> None:
    code = (
        "import runpy, sys; sys.argv[1:] = ['--help']\n"
        "try: runpy.run_module('doodlelib', run_name='__main__')\n"
        "except SystemExit: assert not {'torch', 'numpy', 'pydantic', 'papermill'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for flag in (
        *("-m", "-dm", "-nspc", "-mt", "-mp", "-ng", "-pdp", "-o", "-i"),
        *("--mode", "--data_mode", "--num_samples_per_class", "--model_type", "--model_path"),
        *("--num_generations", "--processed_data_path", "--output", "--input", "--words"),
        *("--word", "--temperature", "--time_temperature", "--seed", "example"),
    ):
        assert flag in done.stdout


def test_models_of_another_kind_are_refused(
    models: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = usage_error(capsys, "-m", "generate", "-mp", models / "cnn.pt")
    assert message.endswith("holds a model of kind cnn, not rnn")
    message = usage_error(capsys, "-m", "infer", "-mp", models / "rnn.pt", "-i", picture)
    assert message.endswith("holds a model of kind rnn, not cnn")
    message = usage_error(capsys, "-m", "infer", "-mp", picture, "-i", picture)
    assert "drawing.png cannot be read as a checkpoint" in message
    arguments = ("-m", "infer", "-dm", "simplified", "-mp", models / "cnn.pt", "-i", picture)
    assert "this model reads 28 px" in usage_error(capsys, *arguments)
    arguments = ("-m", "generate", "-mp", models / "rnn.pt", "--word", "cow", "-o", tmp_path / "x")
    assert "'cow'" in usage_error(capsys, *arguments)
    assert not (tmp_path / "x").exists()


def played(path: Path) -> float:
    """How long a GIF lasts, ms."""
    with Image.open(path) as image:
        return sum(frame.info["duration"] for frame in ImageSequence.Iterator(image))


def test_generate_writes_a_gif_and_an_svg_a_doodle(run: Run, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "doodles"
    command = ("-m", "generate", "-mp", models / "rnn.pt", "-ng", 4, "-o", out, "--seed", 3)
    first, *printed = run(*command)
    assert first == f"model: {models / 'rnn.pt'}"
    stems = ("cat_01", "dog_01", "The Eiffel Tower_01", "cat_02")  # the usual words first
    assert printed == [str(out / f"{stem}.{end}") for stem in stems for end in ("gif", "svg")]
    assert {str(path) for path in out.iterdir()} == set(printed)
    words = [stem[:-3] for stem in stems]
    drawings = checkpoint.load_vae(models / "rnn.pt").generate(4, word=words, seed=3)
    for stem, drawing in zip(stems, drawings, strict=True):
        assert played(out / f"{stem}.gif") == pytest.approx(duration(drawing), abs=20)
        assert ElementTree.parse(out / f"{stem}.svg").getroot().tag.endswith("svg")

    before = {path: path.read_bytes() for path in out.iterdir()}
    again = run(*command)[1:]
    assert not {*again} & {*printed}
    assert all(Path(path).parent.parent == out for path in again)
    assert {path: path.read_bytes() for path in before} == before
    assert [Path(path).read_bytes() for path in again] == [before[Path(path)] for path in printed]


def test_doodles_of_a_model_that_saw_no_times(
    run: Run, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "TRAINED", models)  # no retimer there
    vae = checkpoint.load_vae(models / "rnn.pt")
    vae.scale = Scale(xy=30.0)
    path = checkpoint.save(tmp_path / "rnn.pt", vae)
    command = ("-m", "generate", "-mp", path, "-ng", 6, "-o", tmp_path / "doodles", "--seed", 5)
    _, said, *printed = run(*command)
    assert said == "this model was trained on untimed drawings: times are unknown"
    pattern = r"(.*\.(?:gif|svg)) \((untimed; plays at a constant \S+ px/s, (\S+) s in all)\)"
    found = [match.groups() for line in printed if (match := re.fullmatch(pattern, line))]
    assert len(found) == 12
    for (gif, pace, seconds), (svg, *_) in zip(found[::2], found[1::2], strict=True):
        assert (seconds, played(Path(gif))) in (("6.2", 6200), ("0", 20))  # the latter is a dot
        assert f"<desc>{pace}</desc>" in Path(svg).read_text()
    assert "6.2" in {seconds for *_, seconds in found}


def test_a_word_may_be_given_twice(run: Run, models: Path, tmp_path: Path) -> None:
    """As often as one likes: each option adds its words."""
    command = ("-m", "generate", "-mp", models / "rnn.pt", "-ng", 3, "-o", tmp_path / "out")
    run(*command, "--word", "cat", "--words", "dog", "The Eiffel Tower")
    names = {path.stem for path in (tmp_path / "out").iterdir()}
    assert names == {"cat_01", "dog_01", "The Eiffel Tower_01"}


def test_the_shipped_models_are_taken_and_named(
    run: Run, models: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "TRAINED", models)
    monkeypatch.setattr(cli, "RUNS", tmp_path)
    first, *printed = run("-m", "generate", "-ng", "2", "--word", "dog", "--temperature", "0")
    assert first == "model: the shipped one, trained_models/rnn.pt"
    assert [Path(path).name for path in printed] == [
        *("dog_01.gif", "dog_01.svg", "dog_02.gif", "dog_02.svg")
    ]
    assert Path(printed[0]).parent.parent == tmp_path / "generated"
    named = "model: the shipped one, trained_models/cnn_345.pt"  # all words, not ten
    assert run("-m", "infer", "-i", picture)[0] == named


def shares(line: str) -> dict[str, float]:
    """Probability by word of a line that infer prints."""
    pairs = (part.rsplit(" ", 1) for part in line.split(": ")[1].split(", "))
    return {word: float(share) for word, share in pairs}


def test_infer_reads_images_of_either_ground(run: Run, models: Path, picture: Path) -> None:
    inverse, photo = picture.with_name("inverse.png"), picture.with_name("photo.jpg")
    with Image.open(picture) as image:
        image.point(lambda value: 255 - value).save(inverse)
        image.convert("RGB").save(photo, quality=95)
    command = ("-m", "infer", "-mp", models / "cnn.pt", "-i")
    lines = [run(*command, path)[1] for path in (picture, inverse, photo)]
    assert [line.split(":")[0] for line in lines] == ["drawing.png", "inverse.png", "photo.jpg"]
    first, second, third = map(shares, lines)
    assert set(first) == set(WORDS)
    assert sum(first.values()) == pytest.approx(1, abs=0.002)
    assert list(first.values()) == sorted(first.values(), reverse=True)
    assert second == pytest.approx(first, abs=0.002)
    assert third == pytest.approx(first, abs=0.05)


def test_infer_reads_files_of_drawings(run: Run, models: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.ndjson"
    lines = [
        {"word": "cat", "key_id": str(index), "recognized": False, "drawing": drawing}
        for index, drawing in enumerate(
            ([[[0, 90, 40], [0, 10, 80]]], [[[5, 80], [5, 80], [0, 900]], [[3], [70], [1500]]])
        )
    ]
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    printed = run("-m", "infer", "-mp", models / "cnn.pt", "-i", path)[1:]
    assert [line.split(":")[0] for line in printed] == ["cat 0", "cat 1"]
    assert all(sum(shares(line).values()) == pytest.approx(1, abs=0.002) for line in printed)


def test_infer_says_why_it_left_drawings_out(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.ndjson"
    seconds = {"drawing": [[[0, 90, 40], [0, 10, 80], [0, 0.2, 0.9]]]}
    path.write_bytes(orjson.dumps(seconds) + b"\n")
    command = ("-m", "infer", "-mp", models / "cnn.pt", "-i", path)
    reason = "dropped: {'under 50 ms in all or 1 ms a point: t counts ms, not s': 1}"
    assert f"holds no drawing; {reason}" in usage_error(capsys, *command)
    good = {"drawing": [[[0, 90, 40], [0, 10, 80], [0, 200, 900]]]}
    path.write_bytes(orjson.dumps(seconds) + b"\n" + orjson.dumps(good))
    assert main([str(argument) for argument in command]) == 0
    assert reason in capsys.readouterr().err


def test_infer_without_a_drawing(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("-m", "infer", "-mp", models / "cnn.pt", "-i")
    (tmp_path / "empty.ndjson").touch()
    assert "holds no drawing" in usage_error(capsys, *command, tmp_path / "empty.ndjson")
    (tmp_path / "notes.txt").write_text("cat")
    assert "notes.txt" in usage_error(capsys, *command, tmp_path / "notes.txt")
    (tmp_path / "broken.png").write_text("cat")
    assert "broken.png" in usage_error(capsys, *command, tmp_path / "broken.png")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, dict[str, Any]]]:
    """What train would run: notebook and parameters, which have been checked before."""
    ran: list[tuple[str, dict[str, Any]]] = []

    def note(notebook: Path, output: Path, parameters: dict[str, Any], *, live: bool) -> Path:
        ran.append((notebook.stem, parameters))
        return output

    monkeypatch.setattr(cli, "run_notebook", note)
    monkeypatch.setattr(cli, "PROCESSED", tmp_path)
    return ran


def test_train_prepares_and_trains(run: Run, steps: list, models: Path, tmp_path: Path) -> None:
    command = "-m train -dm full -nspc 50 --words cat dog --seed 7 -p epochs 3 -p latent_size 8"
    run(*shlex.split(command))
    (preparing, values), (training, settings) = steps
    assert (preparing, training) == ("02_preprocess", "03_train_vae")
    assert values == {
        "name": "full",
        "words": ["cat", "dog"],
        "source": "raw",
        "samples_per_class": 50,
    }
    assert settings.pop("name").startswith("rnn_")
    assert settings == {
        "data": "full",
        "seed": 7,
        "epochs": 3,
        "latent_size": 8,
    }


def test_the_words_of_an_own_folder_are_those_of_its_files(
    run: Run, steps: list, tmp_path: Path
) -> None:
    run("-m", "train", "--source", tmp_path)
    assert steps[0][1] == {"name": "full", "source": str(tmp_path.resolve())}


@pytest.mark.parametrize(("data_mode", "size"), [("simplified", 255), ("reduced", 28)])
def test_train_of_the_classifier(run: Run, steps: list, data_mode: str, size: int) -> None:
    run("-m", "train", "-mt", "cnn", "-dm", data_mode)
    (_, values), (training, settings) = steps
    assert values["source"] == "simplified"
    assert len(values["words"]) == 10
    assert training == "04_train_cnn"
    assert settings["image_size"] == size


def test_train_takes_prepared_data_and_goes_on_from_a_checkpoint(
    run: Run, steps: list, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store.json").touch()
    command = ("-m", "train", "-pdp", tmp_path, "-mp", models / "rnn.pt")
    run(*command)
    ((training, settings),) = steps
    assert training == "03_train_vae"
    assert settings["data"] == str(tmp_path)
    assert settings["resume"] == str(models / "rnn.pt")
    assert "samples_per_class came too late" in usage_error(capsys, *command, "-nspc", "3")


def test_train_checks_all_parameters_before_it_runs_anything(
    steps: list, capsys: pytest.CaptureFixture[str]
) -> None:
    message = usage_error(capsys, "-m", "train", "-p", "eopchs", "3")
    assert "03_train_vae.ipynb has no parameter 'eopchs'; it has epochs" in message
    assert not steps


def test_infer_reads_a_folder_of_pictures_and_shows_what_it_saw(
    run: Run, models: Path, picture: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    with Image.open(picture) as image:
        image.save(folder / "a.webp")
        image.save(folder / "b.gif")
        Image.new("L", image.size, 255).save(folder / "c.bmp")
    seen = tmp_path / "seen.png"
    command = ("-m", "infer", "-mp", models / "cnn.pt", "-i", folder, "--show", seen)
    named, empty = run(*command)[1:3], run(*command)[3]
    assert [line.split(":")[0] for line in named] == ["a.webp", "b.gif"]
    assert empty.startswith("c.bmp: a picture of 120 x 90 px that shows no drawing")
    assert seen.is_file()
    rows = [orjson.loads(line) for line in run(*command, "--json")]
    assert [row["name"] for row in rows] == ["a.webp", "b.gif", "c.bmp"]
    assert set(rows[0]["words"]) == set(WORDS) and "no drawing" in rows[2]["error"]
