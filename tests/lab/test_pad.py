"""A drawing is put on the paper, buttons are pressed, and what comes of it is looked at."""

import re
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
from PIL import Image, ImageSequence
from vaes import make_vae

from doodlelib.config import CNNConfig, read_config
from doodlelib.data import dataset, svg_reader
from doodlelib.lab.pad import DrawingPad, Paper
from doodlelib.lab.player import Player
from doodlelib.models.cnn import DoodleCNN
from doodlelib.strokes import without_time

STROKES = [[[10, 110.5, 110.5], [5, 5, 55], [0, 400.3, 600]], [[30, 40], [15, 15], [1600, 2000]]]
WORDS = ["cat", "dog", "sun", "eye", "car", "bus"]


@pytest.fixture
def pad(tmp_path: Path) -> DrawingPad:
    cnn = DoodleCNN(read_config(CNNConfig, width=4), WORDS)
    return DrawingPad(make_vae(), cnn, own=tmp_path / "own", pictures=tmp_path / "pictures")


def press(pad: DrawingPad, name: str) -> None:
    rows = [row for row in pad.children if isinstance(row, ipywidgets.HBox)]
    next(b for row in rows for b in row.children if b.description == name).click()


def test_what_is_on_the_paper_is_a_drawing(pad: DrawingPad) -> None:
    with pytest.raises(ValueError, match="no strokes"):
        _ = pad.drawing
    pad.paper.strokes = STROKES
    assert [[list(row) for row in stroke] for stroke in pad.drawing] == STROKES


def test_the_five_likeliest_words_follow_the_pen(pad: DrawingPad) -> None:
    pad.paper.strokes = [[[10], [5], [0]]]  # as soon as it touches
    first = pad.paper.guesses
    pad.paper.strokes = STROKES
    words, shares = zip(*pad.paper.guesses, strict=True)
    assert len(set(words)) == 5 and set(words) <= set(WORDS)
    assert list(shares) == sorted(shares, reverse=True) and pad.paper.guesses != first
    expected = pad._cnn.predict([STROKES])[0]
    assert shares[0] == pytest.approx(expected.max()) and words[0] == WORDS[expected.argmax()]
    pad.paper.strokes = []
    assert pad.paper.guesses == []


def test_ten_endings_of_what_was_begun(pad: DrawingPad) -> None:
    pad.paper.strokes = STROKES
    pad.controls.set(word="dog")
    press(pad, "Complete")
    endings = make_vae().complete(STROKES, n=10, word="dog", seed=0)
    assert pad.player.strokes == Player(endings).strokes
    press(pad, "Complete")
    assert pad.player.strokes != Player(endings).strokes  # others each time
    assert sum(isinstance(one, Player) for one in pad.children) == 1


def test_a_drawing_through_the_latent_beside_itself(pad: DrawingPad) -> None:
    pad.paper.strokes = STROKES
    press(pad, "Reconstruct")
    (back,) = make_vae().reconstruct([STROKES], seed=0)
    assert pad.player.strokes == Player([STROKES, back]).strokes
    assert pad.player.titles == ["yours", "through the latent"]


def test_a_drawing_at_the_model_s_pace(pad: DrawingPad, monkeypatch: pytest.MonkeyPatch) -> None:
    def retime(drawing: list, *, seed: int) -> list:
        return [[x, y, np.asarray(t) * (2 + seed)] for x, y, t in drawing]

    monkeypatch.setattr(pad._vae, "retime", retime)
    pad.paper.strokes = STROKES
    press(pad, "Retime")
    yours, model = pad.player.strokes
    assert model[-1][2][-1] == 2 * yours[-1][2][-1] == 4000
    assert [stroke[:2] for stroke in yours] == [stroke[:2] for stroke in model]


def test_saved_drawings_are_a_source_of_training_data(pad: DrawingPad, tmp_path: Path) -> None:
    pad.controls.set(word="sun")
    for strokes in (STROKES, STROKES[:1], STROKES):
        pad.paper.strokes = strokes
        press(pad, "Save ndjson")
    assert "Saved" in pad.message.value
    drawings = [record.drawing for record in dataset.read("sun", tmp_path / "own")]
    assert sorted(map(len, drawings)) == [1, 2]  # the third was there already
    both = next(drawing for drawing in drawings if len(drawing) == 2)
    assert [[list(row) for row in stroke] for stroke in both] == STROKES


def test_saved_pictures_hold_the_drawing_and_its_time(pad: DrawingPad, tmp_path: Path) -> None:
    pad.paper.strokes = STROKES
    for name in ("Save SVG", "Save GIF"):
        press(pad, name)
    gif, picture = sorted((tmp_path / "pictures").iterdir())
    assert gif.suffix == ".gif" and gif.name in pad.message.value
    with Image.open(gif) as image:
        delays = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert sum(delays) == 2000 + 1000  # with the time that it stays
    for read, drawn in zip(svg_reader.read_drawing(picture), without_time(STROKES), strict=True):
        np.testing.assert_allclose(read, drawn)


@pytest.mark.parametrize(
    ("word", "button", "message"),
    [
        ("", "Save ndjson", "say in Word what it shows"),
        ("../cat", "Save ndjson", "no name for a folder"),
        ("cow", "Complete", "the model does not know"),
    ],
)
def test_what_cannot_be_done_is_said(
    pad: DrawingPad, tmp_path: Path, word: str, button: str, message: str
) -> None:
    pad.paper.strokes = STROKES
    pad.controls.set(word=word)
    press(pad, button)
    assert re.search(f'role="alert".*{message}', pad.message.value)
    assert not list(tmp_path.iterdir()) and pad.player is None
    pad.controls.set(word="cat")
    press(pad, button)
    assert "alert" not in pad.message.value


@pytest.mark.parametrize("button", ["Complete", "Reconstruct", "Retime", "Save SVG", "Save GIF"])
def test_an_empty_paper_is_an_error_that_is_said(
    pad: DrawingPad, button: str, caplog: pytest.LogCaptureFixture
) -> None:
    press(pad, button)
    assert "drawing has no strokes" in pad.message.value
    assert "drawing has no strokes" in caplog.text  # ipywidgets logs it, with its traceback


def test_where_no_widget_runs_the_drawing_is_shown() -> None:
    paper = Paper()
    assert paper.to_html() == ""
    paper.strokes = STROKES
    assert paper.to_html().count("<path") == 2
