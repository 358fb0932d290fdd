"""The pad alone, in a plain page with a kernel that is played; needs Chromium as `test_browser`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import MARKS, Plain, plain
from PIL import Image, ImageSequence

from doodlelib.data import svg_reader
from doodlelib.data.formats import read
from doodlelib.lab.player import STATIC, module
from doodlelib.strokes import to_box

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = MARKS


@pytest.fixture(scope="module")
def plain_page() -> Iterator[Plain]:
    with plain(STATIC / "doodles.css") as page:
        yield page


@pytest.fixture
def pad(plain_page: Plain) -> Plain:
    """An empty pad that can draw three words and name two of them."""
    plain_page.page.evaluate("sessionStorage.clear()")
    show_pad(plain_page)
    plain_page.asked.clear()
    plain_page.told.clear()
    plain_page.answer = lambda _: {}
    return plain_page


def show_pad(page: Plain, strokes: list | None = None) -> None:
    lists = {"strokes": strokes or [], "guesses": [], "words": ["cat", "dog", "owl"]}
    page.show(module("pad.js"), {**lists, "named": ["cat", "dog"], "size": 320, "name": "pad"})


def draw(pad: Plain, *points: tuple[float, float], lift: bool = True) -> None:
    box = pad.page.get_by_role("application").bounding_box()
    first, *others = ((box["x"] + x, box["y"] + y) for x, y in points)
    pad.page.mouse.move(*first)
    pad.page.mouse.down()
    for point in others:
        pad.page.mouse.move(*point)
    if lift:
        pad.page.mouse.up()


def button(pad: Plain, name: str) -> "Locator":
    return pad.page.get_by_role("button", name=name, exact=True)


def on_paper(pad: Plain) -> str:
    return pad.page.locator(".doodle-paper .doodle-ink").get_attribute("d")


def test_what_was_done_can_be_undone_and_done_again(pad: Plain) -> None:
    assert all(button(pad, name).is_disabled() for name in ("Undo", "Redo", "Clear", "Complete"))
    assert button(pad, "Save SVG").is_disabled() and button(pad, "Download PNG").is_disabled()
    draw(pad, (50, 50), (150, 50))
    one = on_paper(pad)
    draw(pad, (50, 150), (150, 150))
    two = on_paper(pad)
    assert two.count("M") == 2 and button(pad, "Complete").is_enabled()
    button(pad, "Clear").click()
    assert on_paper(pad) == ""
    for shown in (two, one, ""):
        button(pad, "Undo").click()
        assert on_paper(pad) == shown
    assert button(pad, "Undo").is_disabled()
    assert pad.page.evaluate("document.activeElement.getAttribute('role')") == "application"
    for keys, shown in (("y", one), ("Shift+Z", two), ("z", one)):  # the paper has the keys now
        pad.page.keyboard.press(f"Control+{keys}")
        assert on_paper(pad) == shown
    draw(pad, (200, 50), (200, 150))
    assert button(pad, "Redo").is_disabled()
    t = [time for stroke in pad.told["strokes"] for time in stroke[2]]
    assert t[0] == 0 and t == sorted(t)  # the clock went on


def test_an_eraser_takes_whole_strokes(pad: Plain) -> None:
    draw(pad, (50, 50), (150, 50))
    first = on_paper(pad)
    draw(pad, (50, 150), (150, 150))
    draw(pad, (50, 200), (150, 200))
    three = on_paper(pad)
    button(pad, "Eraser").click()
    draw(pad, (100, 100), (101, 120))
    assert on_paper(pad) == three  # nothing is there
    draw(pad, (100, 130), (100, 152), (100, 198))
    assert on_paper(pad) == first
    pad.wait_for(lambda: len(pad.told["strokes"]) == 1)
    button(pad, "Undo").click()  # one sweep is one step
    assert on_paper(pad) == three
    paper = pad.page.get_by_role("application")
    paper.focus()
    for key in (*7 * ["ArrowLeft"], *22 * ["ArrowUp"], "Space"):  # from the middle to (125, 50)
        pad.page.keyboard.press(key)
    assert on_paper(pad).count("M") == 2 and not on_paper(pad).startswith(first)


def test_a_question_takes_the_drawing_with_it(pad: Plain) -> None:
    """However far behind the kernel is with what the page reports."""
    pad.page.evaluate("model.save_changes = () => {}")
    draw(pad, (50, 50), (150, 50), (150, 90))
    button(pad, "Reconstruct").click()
    pad.wait_for(lambda: pad.asked)
    (asked,) = pad.asked
    assert [len(x) for x, _, _ in asked["strokes"]] == [3] and "strokes" not in pad.told


def test_the_word_is_the_guess_until_the_person_chooses(pad: Plain) -> None:
    word = pad.page.get_by_role("combobox", name="Word")
    draw(pad, (50, 50), (150, 50))
    pad.put("guesses", [["face", 0.5], ["dog", 0.3], ["cat", 0.2]])
    assert word.input_value() == "dog"  # the likeliest that the model can draw
    assert pad.page.get_by_text("Looks like: face").is_visible()
    pad.put("guesses", [["cat", 0.9]])
    assert word.input_value() == "cat" and pad.page.get_by_text("guessed").is_visible()
    word.fill("owl")
    pad.put("guesses", [["dog", 0.9]])
    assert word.input_value() == "owl" and not pad.page.get_by_text("guessed").is_visible()
    word.fill("")
    word.blur()
    assert word.input_value() == "dog"
    assert pad.page.get_by_text("It can name 2 words, and draw 3 words").is_visible()
    assert pad.page.get_by_text("Named: cat, dog. Drawn: cat, dog, owl.").is_visible()


def ending_of(asked: dict, *, more: list | None = None) -> dict:
    """An answer to "complete": the drawing from 0 to 255 px, and `more` strokes."""
    boxed = [[list(row) for row in stroke] for stroke in to_box(asked["strokes"])]
    return {"endings": asked["n"] * [boxed + (more or [])]}


def test_endings_come_one_by_one_and_start_where_the_drawing_ends(pad: Plain) -> None:
    batches = []

    def answer(asked: dict) -> dict:
        batches.append(asked["n"])
        end = asked["strokes"][-1][2][-1]
        line = [[0.0, 255.0], [255.0, 255.0], [end + 500, end + 1500]]
        return ending_of(asked, more=[line])

    pad.answer = answer
    draw(pad, (50, 50), (150, 50), (150, 150))
    button(pad, "Complete").click()
    endings = pad.page.get_by_role("group", name="Endings").get_by_role("button")
    pad.wait_for(lambda: endings.count() == 10)
    assert batches == [1, 3, 6]
    assert endings.first.get_attribute("aria-label") == "Ending 1, takes 1.5 seconds: take it"
    fresh = endings.first.locator(".doodle-fresh")
    seen = set()
    pad.wait_for(lambda: seen.add(fresh.get_attribute("d")) or len(seen) > 4)  # it moves
    endings.first.click()
    drawn = [[row[0], row[-1]] for row in pad.told["strokes"][-1]]
    assert drawn[0] == pytest.approx([50, 150], abs=1)  # in the paper's own px, below the drawing
    assert drawn[1] == pytest.approx([150, 150], abs=1)
    assert drawn[2][1] - drawn[2][0] == pytest.approx(1000, abs=1)
    button(pad, "Undo").click()
    assert on_paper(pad).count("M") == 1


def test_a_finished_drawing_is_said_to_be_finished(pad: Plain) -> None:
    pad.answer = ending_of
    draw(pad, (50, 50), (150, 50), (150, 150))
    button(pad, "Complete").click()
    pad.page.get_by_text("your drawing is finished").wait_for()
    assert pad.page.get_by_role("group", name="Endings").get_by_role("button").count() == 0


def test_the_model_draws_on_until_the_paper_is_touched(pad: Plain) -> None:
    def answer(asked: dict) -> dict:
        end = asked["strokes"][-1][2][-1]
        return ending_of(asked, more=[[[0, 200], [200, 200], [end + 50, end + 60_000]]])

    pad.answer = answer
    pad.page.get_by_role("checkbox", name="Draw on when I stop").check()
    draw(pad, (50, 50), (150, 50), (150, 150))
    ink = pad.page.locator(".doodle-paper .doodle-fresh")
    pad.wait_for(lambda: ink.get_attribute("d"))
    seen = set()
    pad.wait_for(lambda: seen.add(ink.get_attribute("d")) or len(seen) > 4)
    draw(pad, (200, 50), (210, 60), lift=False)
    assert ink.get_attribute("d") == "" and on_paper(pad).count("M") == 2
    pad.page.mouse.up()
    pad.wait_for(lambda: ink.get_attribute("d"))
    button(pad, "Keep it").click()
    assert ink.get_attribute("d") == "" and on_paper(pad).count("M") == 3
    pad.page.get_by_role("checkbox", name="Draw on when I stop").uncheck()


def test_a_drawing_outlives_its_cell_and_its_kernel(pad: Plain) -> None:
    draw(pad, (50, 50), (150, 50), (150, 150))
    drawn = on_paper(pad)
    pad.page.evaluate(
        """() => {
            document.body.className = "jupyter-widgets-disconnected";
            model.tell("comm_live_update");
        }"""
    )
    pad.page.get_by_role("alert").filter(has_text="The kernel is gone").wait_for()
    pad.page.evaluate("document.body.className = ''")
    assert button(pad, "Complete").is_disabled() and button(pad, "Download SVG").is_enabled()
    draw(pad, (200, 50), (210, 60))  # one can go on all the same
    drawn, told = on_paper(pad), pad.told.pop("strokes")
    assert len(told) == 1
    show_pad(pad)  # the cell is run again
    assert on_paper(pad) == drawn
    pad.wait_for(lambda: len(pad.told.get("strokes", [])) == 2)  # the new kernel knows it, too
    pad.page.reload()
    show_pad(pad)
    assert on_paper(pad) == drawn
    button(pad, "Clear").click()
    show_pad(pad)
    assert on_paper(pad) == ""
    show_pad(pad, [[[1, 2], [3, 4], [0, 100]]])
    assert on_paper(pad) == "M1 3L2 4"  # what the kernel has comes first


def test_files_are_made_in_the_browser(pad: Plain, tmp_path: Path) -> None:
    draw(pad, (50, 50), (150, 50), (150, 150))
    draw(pad, (60, 100))
    pad.put("guesses", [["cat", 0.9]])
    for kind in ("SVG", "PNG", "ndjson", "GIF"):
        with pad.page.expect_download() as found:
            button(pad, f"Download {kind}").click()
        assert found.value.suggested_filename == f"cat.{kind.lower()}"
        found.value.save_as(tmp_path / f"cat.{kind.lower()}")
    (record,) = read(tmp_path / "cat.ndjson")
    strokes = pad.told["strokes"]
    assert record.word == "cat"
    assert [[list(row) for row in stroke] for stroke in record.drawing] == strokes
    drawn = svg_reader.read_drawing(tmp_path / "cat.svg")
    for stroke, (x, y, _) in zip(drawn, strokes, strict=True):
        np.testing.assert_allclose(stroke, [x, y], atol=0.01)
    svg = (tmp_path / "cat.svg").read_text()
    assert "<title>cat</title>" in svg and f'dur="{strokes[-1][2][-1]:.12g}ms"' in svg
    with Image.open(tmp_path / "cat.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape == (512, 512) and 0.005 < (pixels < 128).mean() < 0.05
    with Image.open(tmp_path / "cat.gif") as image:
        assert image.size == (255, 255)
        delays = [frame.info["duration"] for frame in ImageSequence.all_frames(image)]
    assert sum(delays) == pytest.approx(strokes[-1][2][-1] + 1000, abs=60)  # and then it stays


def test_the_game_s_clock_and_the_time_to_the_first_point(pad: Plain) -> None:
    pad.page.evaluate(
        """() => {
            window.ahead = 0;
            const now = performance.now.bind(performance);
            performance.now = () => now() + window.ahead;
        }"""
    )
    pad.answer = lambda _: {"saved": "mine/owl/1.ndjson"}
    button(pad, "Draw to a prompt").click()
    word = pad.page.get_by_role("combobox", name="Word").input_value()
    assert pad.page.get_by_text(f"Draw: {word}").is_visible()
    timer = pad.page.get_by_role("timer")
    assert timer.inner_text() == "20 s"
    button(pad, "Got it!").click()
    pad.page.wait_for_timeout(200)
    draw(pad, (50, 50), (150, 50), (150, 150))
    pad.page.evaluate("window.ahead = 10_000")
    pad.wait_for(lambda: timer.inner_text() in [f"{left} s" for left in range(1, 11)])
    assert not pad.asked
    pad.page.evaluate("window.ahead = 20_000")
    pad.page.get_by_text("Saved mine/owl/1.ndjson").wait_for()
    (asked,) = pad.asked
    assert (asked["act"], asked["suffix"], asked["word"]) == ("save", ".ndjson", word)
    assert 200 <= asked["wait"] < 20_000 and len(asked["strokes"]) == 1
    draw(pad, (200, 50), (210, 60))
    assert on_paper(pad).count("M") == 1  # time is up
    button(pad, "Next word").click()
    assert on_paper(pad) == "" and timer.inner_text() == "20 s"
    button(pad, "Stop").click()
    assert not timer.is_visible()
    pad.page.evaluate("() => delete performance.now")


def test_a_picture_can_be_traced(pad: Plain, tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), "orange").save(tmp_path / "cat.png")
    with pad.page.expect_file_chooser() as chooser:
        button(pad, "Trace a picture…").click()
    chooser.value.set_files(tmp_path / "cat.png")
    picture = pad.page.locator(".doodle-trace")
    pad.wait_for(lambda: (picture.get_attribute("href") or "").startswith("data:image/png"))
    draw(pad, (50, 50), (150, 50))
    assert len(pad.told["strokes"]) == 1
    button(pad, "Remove the picture").click()
    assert picture.get_attribute("href") is None


def test_a_narrow_page_has_all_of_the_pad(pad: Plain) -> None:
    pad.page.set_viewport_size({"width": 340, "height": 900})
    try:
        draw(pad, (50, 50), (150, 50))
        pad.answer = lambda asked: ending_of(asked, more=[[[0, 99], [9, 99], [2000, 3000]]])
        button(pad, "Complete").click()
        endings = pad.page.get_by_role("group", name="Endings").get_by_role("button")
        pad.wait_for(lambda: endings.count() == 10)
        assert pad.page.evaluate("document.documentElement.scrollWidth") <= 340
    finally:
        pad.page.set_viewport_size({"width": 1000, "height": 900})
