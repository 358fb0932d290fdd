"""Notebook 05 in a real browser: its widgets are clicked, dragged, typed at and drawn on.

Needs Chromium (Debian: ``apt-get install chromium``); skips without it, unless
DOODLELIB_REQUIRE_BROWSER is set. Screenshots lie where the tests print.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from browser import CHROMIUM, Lab, drag, inks, opened

from doodlelib.config import VAEConfig, read_config
from doodlelib.data import dataset
from doodlelib.data.formats import read
from doodlelib.models import checkpoint
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import END

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not CHROMIUM and not os.environ.get("DOODLELIB_REQUIRE_BROWSER"),
        reason="no Chromium on this machine",
    ),
]


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    """A copy of the repository whose notebook 05 takes a tiny model and a tiny store."""
    store = repository / "data" / "processed" / "tiny"
    dataset.prepare(store, words=["star", "face"], samples_per_class=60, progress=False)
    split = dataset.load_split(store, "train")
    torch.manual_seed(0)
    config = read_config(
        VAEConfig, latent_size=8, enc_hidden_size=16, dec_hidden_size=32, max_seq_len=30
    )
    vae = SketchVAE(
        config,
        words=split.classes,
        scale=split.scale,
        simplification={"method": "timed", "epsilon": 2.0, "epsilon_time": 8.0},
    )
    with torch.no_grad():
        vae.head.bias[END] = -4.0  # untrained doodles that are long enough to differ
    checkpoint.save(repository / "tiny.pt", vae)
    path = repository / "notebooks" / "05_latent_space.ipynb"
    notebook = nbformat.read(path, as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    cell.source += "\nname, vae, data, count = 'tiny', 'tiny.pt', 'tiny', 4"
    nbformat.write(notebook, path)
    return repository


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[Lab]:
    with opened(folder, "05_latent_space.ipynb") as lab:
        yield lab


def test_the_first_screen_shows_doodles(lab: Lab) -> None:
    figure = lab.page.locator(".jp-RenderedImage img").first  # its code is folded away
    lab.page.locator(".jp-NotebookPanel .jp-WindowedPanel-outer").evaluate("e => e.scrollTo(0, 0)")
    lab.shoot("first_screen")
    box = figure.bounding_box()
    assert box["y"] + box["height"] / 2 < lab.page.viewport_size["height"]  # a row of two


def test_doodles_play_scrub_and_stop_without_the_kernel(lab: Lab) -> None:
    output = lab.output("Player(doodles")
    player = output.get_by_role("group", name="Player")
    time = player.get_by_role("slider", name="Time")
    lab.wait_until_idle()
    sent = len(lab.messages)
    lab.wait_for(lambda: inks(player)[0] != "")  # it started by itself
    first = time.input_value()
    lab.wait_for(lambda: time.input_value() != first)
    lab.shoot("player_playing")
    player.focus()
    active = lab.active_cell()
    lab.page.keyboard.press(" ")
    assert player.get_by_role("button", name="Play").is_visible()
    stopped = inks(player)
    lab.page.wait_for_timeout(200)
    assert inks(player) == stopped
    lab.page.keyboard.press("Home")
    assert float(time.input_value()) == 0
    for _ in range(3):
        lab.page.keyboard.press("ArrowRight")
    assert float(time.input_value()) == pytest.approx(300)
    lab.page.keyboard.press("ArrowLeft")
    assert float(time.input_value()) == pytest.approx(200)
    assert lab.active_cell() == active  # the arrow keys are the player's
    lab.page.keyboard.press("End")
    ghosts = player.locator(".doodle-ghost")
    assert inks(player) == ghosts.evaluate_all("all => all.map(e => e.getAttribute('d'))")
    drag(lab.page, time, 0)  # a click in its middle
    lab.page.mouse.up()
    assert 0.4 < float(time.input_value()) / float(time.get_attribute("max")) < 0.6
    lab.shoot("player_scrubbed")
    assert len(lab.messages) == sent


def test_a_player_s_speed_pace_and_loop(lab: Lab) -> None:
    player = lab.output("Player(doodles").get_by_role("group", name="Player")
    figures = player.locator("figure")
    count = figures.count()
    assert count == 8
    player.focus()
    for key in ("Home", "Shift+ArrowRight", "Shift+ArrowRight"):  # it stands still at 2 s
        lab.page.keyboard.press(key)
    human = inks(player)
    player.get_by_role("combobox", name="Pace").select_option("both side by side")
    assert figures.count() == 2 * count
    captions = figures.locator("figcaption").all_inner_texts()
    assert "human time" in captions[0] and "constant speed" in captions[1]
    both = inks(player)
    assert both[::2] == human and both[1::2] != human  # at one moment, and not equally far
    lab.shoot("player_both")
    player.get_by_role("combobox", name="Pace").select_option("human time")
    player.get_by_role("combobox", name="Speed").select_option("4×")
    player.get_by_role("checkbox", name="Loop").uncheck()
    player.focus()
    lab.page.keyboard.press("End")
    lab.page.keyboard.press("Shift+ArrowLeft")
    player.get_by_role("button", name="Play").click()
    player.get_by_role("button", name="Play").wait_for()  # again: it came to its end
    time = player.get_by_role("slider", name="Time")
    lab.wait_for(lambda: time.input_value() == time.get_attribute("max"))


def test_sliders_give_new_doodles_when_they_are_let_go(lab: Lab) -> None:
    output = lab.output("temperature_explorer(model")
    player = output.get_by_role("group", name="Player")
    ghosts = player.locator(".doodle-ghost")

    def doodles() -> list[str]:
        return ghosts.evaluate_all("all => all.map(e => e.getAttribute('d'))")

    before = doodles()
    assert len(before) == 9
    shape = output.get_by_role("slider", name="Shape temperature")
    shape.focus()
    lab.page.keyboard.press("ArrowRight")
    lab.wait_for(lambda: doodles() != before)
    assert float(shape.input_value()) == pytest.approx(0.45)
    lab.wait_until_idle()
    before, sent = doodles(), len(lab.messages)
    drag(lab.page, output.get_by_role("slider", name="Time temperature"), -60)
    assert len(lab.messages) == sent and doodles() == before  # not before it is let go
    lab.page.mouse.up()
    lab.wait_for(lambda: len(lab.messages) > sent)
    output.get_by_role("slider", name="Doodles").fill("4")
    lab.wait_for(lambda: len(doodles()) == 4)
    before = doodles()
    output.get_by_role("spinbutton", name="Seed").fill("7")
    lab.page.keyboard.press("Tab")
    lab.wait_for(lambda: doodles() != before)
    lab.shoot("temperature")


def test_the_picture_follows_the_hand_along_the_way(lab: Lab) -> None:
    player = lab.output("interpolation_explorer(model, one").get_by_role("group", name="Player")
    way = player.get_by_role("slider", name="From star to face")
    way.fill("0")
    lab.wait_until_idle()
    sent, first = len(lab.messages), inks(player)
    drag(lab.page, way, 40)
    assert inks(player) != first and len(lab.messages) == sent
    middle = inks(player)
    lab.page.mouse.move(0, 0)
    lab.page.mouse.up()
    way.press("End")
    assert len(inks(player)) == 1 and inks(player) not in (first, middle)
    finished = inks(player)
    player.get_by_role("button", name="Play").click()
    lab.wait_for(lambda: inks(player) != finished)
    lab.shoot("interpolation")


def test_pen_finger_and_mouse_draw_with_their_own_time(lab: Lab, folder: Path) -> None:
    output = lab.output("DrawingPad(model, classifier)")
    paper = output.get_by_role("application", name="Drawing pad")
    box = paper.bounding_box()
    devtools = lab.page.context.new_cdp_session(lab.page)

    def at(x: float, y: float) -> dict[str, float]:
        return {"x": box["x"] + x, "y": box["y"] + y}

    lab.page.mouse.move(**at(100, 100))
    lab.page.mouse.down()
    for x in range(110, 160, 10):
        lab.page.mouse.move(**at(x, 100))
    lab.page.mouse.up()
    lab.page.wait_for_timeout(300)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [at(*point) for point in points]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", (100, 150))
    for y in range(160, 200, 10):
        touch("touchMove", (100, y))
    touch("touchEnd")

    def pen(kind: str, x: float, y: float) -> None:
        event = {"type": kind, **at(x, y), "button": "left", "buttons": 1, "pointerType": "pen"}
        devtools.send("Input.dispatchMouseEvent", event | {"clickCount": 1})

    pen("mousePressed", 200, 100)
    for x in range(210, 250, 10):
        pen("mouseMoved", x, x - 100)
    pen("mouseReleased", 240, 140)
    guesses = output.get_by_role("list", name="What it looks like").get_by_role("listitem")
    lab.wait_for(lambda: guesses.count() == 5)
    lab.wait_until_idle()
    lab.shoot("pad_drawn")
    output.get_by_role("combobox", name="Word").fill("star")
    lab.page.keyboard.press("Tab")
    output.get_by_role("button", name="Save ndjson").click()
    mine = folder / "data" / "raw" / "mine" / "star"
    lab.wait_for(lambda: bool(list(mine.glob("*.ndjson"))))
    (record,) = read(mine.parent)
    mouse, finger, pencil = record.drawing
    assert record.word == "star"
    for stroke, first, last in (
        (mouse, (100, 100), (150, 100)),
        (finger, (100, 150), (100, 190)),
        (pencil, (200, 100), (240, 140)),
    ):
        ends = np.array(stroke)[:2].T[[0, -1]]
        np.testing.assert_allclose(ends, [first, last], atol=2)
        assert (np.diff(stroke[2]) >= 0).all()
    assert mouse[2][0] == 0 and finger[2][0] - mouse[2][-1] >= 300  # ms, of the clock


def test_joined_movements_are_points_each(lab: Lab) -> None:
    output = lab.output("DrawingPad(model, classifier)")
    paper = output.get_by_role("application", name="Drawing pad")
    output.get_by_role("button", name="Clear").click()
    box = paper.bounding_box()
    lab.page.mouse.move(box["x"] + 50, box["y"] + 50)
    lab.page.mouse.down()
    paper.evaluate(
        """(paper, box) => {
            const event = (x, more) => new PointerEvent("pointermove", {
                pointerId: 1, clientX: box.x + x, clientY: box.y + 50, ...more });
            paper.dispatchEvent(event(80, { coalescedEvents: [60, 70, 80].map((x) => event(x)) }));
        }""",
        box,
    )
    lab.page.mouse.up()
    data = paper.locator(".doodle-ink").get_attribute("d")
    xs = [float(pair.split()[0]) for pair in data.removeprefix("M").split("L")]
    assert xs == pytest.approx([50, 60, 70, 80], abs=1)


def test_what_the_models_make_of_a_drawing(lab: Lab) -> None:
    output = lab.output("DrawingPad(model, classifier)")
    paper = output.get_by_role("application", name="Drawing pad")
    ink = paper.locator(".doodle-ink")
    output.get_by_role("button", name="Clear").click()
    lab.wait_for(lambda: ink.get_attribute("d") == "")
    paper.focus()
    for keys in ("ArrowRight ArrowRight ArrowDown", "ArrowLeft ArrowDown"):  # drawn by keyboard
        for key in ("Space", *keys.split(), "Space"):
            lab.page.keyboard.press(key)
    both = ink.get_attribute("d")
    lab.page.keyboard.press("Control+z")
    assert both.startswith(ink.get_attribute("d")) and both.count("M") == 2
    lab.page.keyboard.press("Space")
    lab.page.keyboard.press("ArrowUp")
    lab.page.keyboard.press("Space")
    player = output.get_by_role("group", name="Player")
    for name, figures in (("Complete", 10), ("Reconstruct", 2), ("Retime", 2)):
        output.get_by_role("button", name=name).click()
        lab.wait_for(lambda figures=figures: player.locator("figure").count() == figures)
        lab.wait_until_idle()
        player.scroll_into_view_if_needed()
        lab.shoot(f"pad_{name.lower()}")
    assert "the model's pace" in player.inner_text()
    output.get_by_role("combobox", name="Word").fill("cow")
    lab.page.keyboard.press("Tab")
    output.get_by_role("button", name="Complete").click()
    output.get_by_role("alert").get_by_text("'cow'").wait_for()  # the error is for the person


def test_dots_show_their_drawing_and_two_show_the_way(lab: Lab) -> None:
    output = lab.output("LatentMap(model, mapped")
    board = output.get_by_role("application", name="Map of drawings")
    board.scroll_into_view_if_needed()
    dots, card = board.locator("[transform]"), output.locator(".doodle-card")
    player = output.get_by_role("group", name="Player")
    lab.page.mouse.move(0, 0)
    assert not card.is_visible()

    def point(index: int) -> tuple[float, float]:
        box = dots.nth(index).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    lab.page.mouse.move(*point(0))
    assert card.is_visible() and card.inner_text() in ("star", "face")
    assert card.locator(".doodle-ink").get_attribute("d").startswith("M")
    lab.shoot("map_pointed")
    before, way = inks(player), board.locator("polyline").get_attribute("points")
    lab.page.mouse.click(*point(0))
    lab.wait_for(lambda: board.locator("polyline").get_attribute("points") == "")
    board.focus()  # the second by keyboard
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        lab.page.keyboard.press(key)
    lab.wait_for(lambda: board.locator("polyline").get_attribute("points") not in ("", way))
    lab.wait_for(lambda: inks(player) != before)
    lab.shoot("map_way")


def test_all_is_readable_in_the_dark(lab: Lab) -> None:
    change = "window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab %s'})"
    ink = lab.output("Player(doodles").locator(".doodle-ink").first

    def brightness() -> float:
        color = ink.evaluate("e => getComputedStyle(e).stroke")
        return float(np.mean([float(part) for part in re.findall(r"[0-9.]+", color)[:3]]))

    light = brightness()
    try:
        lab.page.evaluate(change % "Dark")
        lab.wait_for(lambda: brightness() > 200)
        lab.shoot("dark")
    finally:
        lab.page.evaluate(change % "Light")
        lab.wait_for(lambda: brightness() < 60)
    assert light < 60
