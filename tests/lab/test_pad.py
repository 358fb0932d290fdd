"""A drawing is put on the paper, the page asks, and what comes of it is looked at."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image, ImageSequence
from vaes import make_vae

from doodlelib.config import CNNConfig, read_config
from doodlelib.data import dataset, svg_reader
from doodlelib.data.quickdraw import words as all_words
from doodlelib.lab.pad import DrawingPad, Paper
from doodlelib.lab.player import IMPORT, STATIC, Player, module
from doodlelib.models.cnn import DoodleCNN
from doodlelib.strokes import to_box, without_time

STROKES = [[[10, 110.5, 110.5], [5, 5, 55], [0, 400.3, 600]], [[30, 40], [15, 15], [1600, 2000]]]
WORDS = ["cat", "dog", "sun", "eye", "car", "bus"]


class Page:
    """What the kernel's pad and its page say to each other."""

    def __init__(self, pad: DrawingPad, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pad, self.heard = pad, list[dict]()
        monkeypatch.setattr(pad.paper, "send", self.heard.append)

    def ask(self, act: str, strokes: Sequence = STROKES, **more: Any) -> dict[str, Any]:
        """The answer to one question."""
        asked = {"id": len(self.heard), "act": act, "strokes": strokes, "word": "", "wait": None}
        content = {"method": "custom", "content": asked | more}
        self.pad.paper._handle_msg({"content": {"data": content}, "buffers": []})
        assert self.heard[-1]["id"] == asked["id"]
        return self.heard[-1]


@pytest.fixture
def pad(tmp_path: Path) -> DrawingPad:
    cnn = DoodleCNN(read_config(CNNConfig, width=4), WORDS)
    return DrawingPad(make_vae(), cnn, own=tmp_path / "own", pictures=tmp_path / "pictures")


@pytest.fixture
def page(pad: DrawingPad, monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page(pad, monkeypatch)


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


def test_it_can_name_every_word_unless_told_otherwise(pad: DrawingPad) -> None:
    assert DrawingPad(make_vae()).paper.named == list(all_words())
    assert pad.paper.named == WORDS and pad.paper.words == ["cat", "dog"]


def test_endings_of_what_was_begun(page: Page) -> None:
    endings = page.ask("complete", n=10, word="dog")["endings"]
    expected = make_vae().complete(to_box(STROKES), n=10, word="dog", seed=0)
    for ending, one in zip(endings, expected, strict=True):
        for stroke, rows in zip(ending, one, strict=True):
            np.testing.assert_allclose(stroke, rows, atol=0.006)
    assert page.ask("complete", n=10, word="dog")["endings"] != endings  # others each time
    assert len(page.ask("complete", n=1)["endings"]) == 1


def test_the_drawing_of_the_question_counts_and_not_an_older_one(page: Page) -> None:
    page.pad.paper.strokes = STROKES[:1]  # what the kernel heard last
    page.ask("reconstruct")
    yours, _ = page.pad.player.strokes
    assert len(yours) == 2
    assert (
        page.pad.paper.strokes == STROKES[:1]
    )  # nor does the answer overwrite what is drawn since


def test_a_drawing_through_the_latent_beside_itself(page: Page) -> None:
    page.ask("reconstruct")
    (back,) = make_vae().reconstruct([STROKES], seed=0)
    assert page.pad.player.strokes == Player([STROKES, back]).strokes
    assert page.pad.player.titles == ["yours", "through the latent"]
    page.ask("reconstruct")
    assert sum(isinstance(one, Player) for one in page.pad.children) == 1


def test_a_drawing_at_the_model_s_pace(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def retime(drawing: list, *, seed: int) -> list:
        return [[x, y, np.asarray(t) * (2 + seed)] for x, y, t in drawing]

    monkeypatch.setattr(page.pad._vae, "retime", retime)
    page.ask("retime")
    yours, model = page.pad.player.strokes
    assert model[-1][2][-1] == 2 * yours[-1][2][-1] == 4000
    assert [stroke[:2] for stroke in yours] == [stroke[:2] for stroke in model]


def test_saved_drawings_are_a_source_of_training_data(page: Page, tmp_path: Path) -> None:
    for strokes, wait in ((STROKES, 1840.5), (STROKES[:1], None), (STROKES, None)):
        path = page.ask("save", strokes, suffix=".ndjson", word="sun", wait=wait)["saved"]
        assert orjson.loads(Path(path).read_bytes()).get("first_point_ms") == wait
    drawings = [record.drawing for record in dataset.read("sun", tmp_path / "own")]
    assert sorted(map(len, drawings)) == [1, 2]  # the third was there already
    both = next(drawing for drawing in drawings if len(drawing) == 2)
    assert [[list(row) for row in stroke] for stroke in both] == STROKES


def test_saved_pictures_hold_the_drawing_and_its_time(page: Page, tmp_path: Path) -> None:
    saved = [page.ask("save", suffix=suffix)["saved"] for suffix in (".gif", ".png", ".svg")]
    gif, still, picture = sorted((tmp_path / "pictures").iterdir())
    assert saved == [str(gif), str(still), str(picture)]
    with Image.open(gif) as image:
        delays = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert sum(delays) == 2000 + 1000  # with the time that it stays
    with Image.open(still) as image:
        assert image.getextrema()[0] < 100
    for read, drawn in zip(svg_reader.read_drawing(picture), without_time(STROKES), strict=True):
        np.testing.assert_allclose(read, drawn)


@pytest.mark.parametrize(
    ("word", "asked", "message"),
    [
        ("", {"act": "save", "suffix": ".ndjson"}, "say in Word what it shows"),
        ("../cat", {"act": "save", "suffix": ".ndjson"}, "no name for a folder"),
        ("cow", {"act": "complete", "n": 1}, "the model does not know"),
        ("cat", {"act": "retime", "strokes": []}, "drawing has no strokes"),
    ],
)
def test_what_cannot_be_done_is_said(
    page: Page, tmp_path: Path, word: str, asked: dict, message: str
) -> None:
    answer = page.ask(**asked, word=word)
    assert re.search(message, answer["error"]) and "Error" not in answer["error"]
    assert not list(tmp_path.iterdir()) and page.pad.player is None
    assert "error" not in page.ask("complete", n=1, word="cat")


def test_what_nobody_foresaw_is_answered_too(
    page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(page.pad._vae, "reconstruct", fail)
    assert "went wrong" in page.ask("reconstruct")["error"]
    assert "out of luck" in caplog.text


def test_where_no_widget_runs_the_drawing_is_shown() -> None:
    paper = Paper()
    assert paper.to_html() == ""
    paper.strokes = STROKES
    assert paper.to_html().count("<path") == 2


def test_a_widget_s_modules_reach_the_page_as_one_text_each_once() -> None:
    text = module("pad.js")
    assert not IMPORT.search(text)
    for name in ("dom.js", "drawing.js", "endings.js", "save.js"):
        first, *_ = (STATIC / name).read_text(encoding="utf-8").splitlines()
        assert text.count(first) == 1
