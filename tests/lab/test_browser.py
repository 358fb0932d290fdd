"""Notebook 05 in a real browser: its widgets are clicked, dragged, typed at and drawn on.

Needs Chromium (Debian: ``apt-get install chromium``); skips without it, unless
DOODLELIB_REQUIRE_BROWSER is set. Screenshots lie where the tests print.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import numpy as np
import pytest
import torch
from browser import MARKS, Lab, drag, inks, opened
from defusedxml.ElementTree import fromstring
from PIL import Image, ImageSequence

from doodlelib import strokes
from doodlelib.config import VAEConfig, read_config
from doodlelib.data import dataset, svg_reader
from doodlelib.data.formats import read
from doodlelib.models import checkpoint
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import END

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = MARKS


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
    figure = lab.page.locator(".jp-RenderedImage img").first
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


def time_of(player: "Locator") -> float:
    """How far the clock of a player goes, ms."""
    return float(player.get_by_role("slider", name="Time").get_attribute("max"))


def test_a_player_s_speed_pace_and_loop(lab: Lab) -> None:
    player = lab.output("Player(doodles").get_by_role("group", name="Player")
    figures = player.locator("figure")
    count = figures.count()
    assert count == 8
    pace, length = player.get_by_role("combobox", name="Pace"), time_of(player)
    loop = player.get_by_role("checkbox", name="Loop")
    loop.uncheck()
    lab.wait_for(lambda: time_of(player) > length)  # of the slowest, where there is no loop
    loop.check()
    lab.wait_for(lambda: time_of(player) == length)
    player.focus()
    for key in ("Home", "Shift+ArrowRight", "Shift+ArrowRight"):  # it stands still at 2 s
        lab.page.keyboard.press(key)
    human = inks(player)
    pace.select_option("both side by side")
    assert figures.count() == 2 * count
    captions = figures.locator("figcaption").all_inner_texts()
    assert "human time" in captions[0] and "constant speed" in captions[1]
    both = inks(player)
    assert both[::2] == human and both[1::2] != human  # at one moment, and not equally far
    lab.shoot("player_both")
    pace.select_option("human time")
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
    assert float(shape.input_value()) == pytest.approx(0.3)
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


def test_enter_acts_and_a_bad_value_is_told(lab: Lab) -> None:
    output = lab.output("temperature_explorer(model")
    ghosts = output.locator(".doodle-stage .doodle-ghost")
    before = ghosts.first.get_attribute("d")
    seed = output.get_by_role("spinbutton", name="Seed")
    seed.fill("3000000000")
    seed.press("Enter")
    output.get_by_role("alert").get_by_text("3000000000 is not a whole number from 0 to").wait_for()
    assert seed.input_value() == "3000000000"  # to be mended
    lab.shoot("bad_value")
    seed.fill("77")
    seed.press("Enter")
    lab.wait_for(lambda: ghosts.first.get_attribute("d") != before)
    assert output.locator(".doodle-fault", has_text="whole number").count() == 0


def test_three_temperatures_in_columns(lab: Lab) -> None:
    output = lab.output("temperature_explorer(model")
    output.get_by_role("slider", name="Doodles").fill("2")
    output.get_by_role("combobox", name="Compare temperatures").select_option("shape")
    captions = output.locator("figcaption")
    lab.wait_for(lambda: captions.count() == 6)
    boxes = [captions.nth(i).bounding_box() for i in range(6)]
    assert captions.all_inner_texts()[:3] == captions.all_inner_texts()[3:]
    assert all(abs(a["x"] - b["x"]) < 1 for a, b in zip(boxes[:3], boxes[3:], strict=True))
    assert abs(boxes[0]["y"] - boxes[2]["y"]) < 1 < boxes[3]["y"] - boxes[0]["y"]
    lab.shoot("compared")
    output.get_by_role("combobox", name="Compare temperatures").select_option("nothing")
    lab.wait_for(lambda: captions.count() == 2)


def test_what_is_found_is_kept(lab: Lab, tmp_path: Path) -> None:
    player = lab.output("Player(doodles").get_by_role("group", name="Player")
    figures = player.locator("figure")
    which = player.get_by_role("combobox", name="Which")
    keep = player.get_by_role("button", name="Download")
    sent = len(lab.messages)

    def kept(kind: str) -> Path:
        player.get_by_role("combobox", name="Format").select_option(kind)
        with lab.page.expect_download() as found:
            keep.click()
        path = tmp_path / found.value.suggested_filename
        found.value.save_as(path)
        return path

    figures.nth(1).click()
    assert which.input_value() == "1"
    title = figures.nth(1).locator("figcaption").inner_text()
    lab.shoot("player_keep")
    svg, gif, rows = (kept(kind) for kind in ("SVG", "GIF", "ndjson"))
    assert svg.name == f"doodle_{title}.svg"
    (record,) = read(rows)
    assert record.word == title
    label = figures.nth(1).locator("svg").get_attribute("aria-label")
    seconds = strokes.duration(record.drawing) / 1000
    assert float(re.search(r"takes ([\d.]+) s", label)[1]) == pytest.approx(seconds, abs=0.06)
    moving = fromstring(svg.read_text())
    durations = {one.get("dur") for one in moving.iter("{http://www.w3.org/2000/svg}animate")}
    assert [float(d.removesuffix("ms")) for d in durations] == [pytest.approx(1000 * seconds)]
    assert len(svg_reader.read_drawing(svg)) == len(record.drawing)
    with Image.open(gif) as image:
        frames = [(one.info["duration"], one.convert("L")) for one in ImageSequence.Iterator(image)]
    assert sum(ms for ms, _ in frames) == pytest.approx(1000 * seconds + 1000, abs=30)
    inked = [int((np.asarray(frame) < 128).sum()) for _, frame in frames]
    assert len(frames) > 5 and inked[0] < inked[len(inked) // 2] < inked[-1]
    which.select_option(label=f"all {figures.count()}")
    assert len(list(read(kept("ndjson")))) == figures.count()
    lab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    player.get_by_role("button", name="Copy").click()
    player.get_by_text("on the clipboard").wait_for()
    copied = lab.page.evaluate("navigator.clipboard.readText()")
    assert copied.count("\n") == figures.count() and '"drawing":[[' in copied
    assert len(lab.messages) == sent  # all of it in the page


def test_a_doodle_s_speed_and_the_keys(lab: Lab) -> None:
    player = lab.output("Player(doodles").get_by_role("group", name="Player")
    player.get_by_role("checkbox", name="Speed curve").check()
    curve = player.locator(".doodle-speed")
    assert curve.is_visible() and curve.locator(".doodle-curve").get_attribute("d").startswith("M")
    player.locator("figure").nth(2).click()
    first = curve.locator(".doodle-curve").get_attribute("d")
    player.locator("figure").nth(3).click()
    assert curve.locator(".doodle-curve").get_attribute("d") != first
    player.get_by_text("Keys", exact=True).click()
    player.get_by_text("play, pause").wait_for()
    lab.shoot("player_speed")
    player.get_by_text("Keys", exact=True).click()
    player.get_by_role("checkbox", name="Speed curve").uncheck()


def test_the_picture_follows_the_hand_along_the_way(lab: Lab) -> None:
    player = lab.output("interpolation_explorer(model, one").get_by_role("group", name="Player")
    way = player.get_by_role("slider", name=re.compile("From (star to face|face to star)"))
    stage = player.locator(".doodle-stage")
    way.fill("0")
    lab.wait_until_idle()
    sent, first = len(lab.messages), inks(stage)
    drag(lab.page, way, 40)
    assert inks(stage) != first and len(lab.messages) == sent
    middle = inks(stage)
    lab.page.mouse.move(0, 0)
    lab.page.mouse.up()
    way.press("Home")
    thumbs = player.get_by_role("group", name="Filmstrip").get_by_role("button")
    thumbs.nth(5).click()  # of eleven
    assert float(way.input_value()) == pytest.approx(0.5)
    assert thumbs.nth(5).get_attribute("aria-current") == "true"
    way.press("End")
    assert len(inks(stage)) == 1 and inks(stage) not in (first, middle)
    finished = inks(stage)
    player.get_by_role("button", name="Play").click()
    lab.wait_for(lambda: inks(stage) != finished)
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
    output.get_by_role("button", name="Complete").click()
    endings = output.get_by_role("group", name="Endings").get_by_role("button")
    lab.wait_for(lambda: endings.count() > 5)
    lab.wait_until_idle()
    lab.shoot("pad_complete")
    player = output.get_by_role("group", name="Player")
    for name in ("Reconstruct", "Retime"):
        output.get_by_role("button", name=name).click()
        lab.wait_for(lambda: player.locator("figure").count() == 2)
        lab.wait_until_idle()
        player.scroll_into_view_if_needed()
        lab.shoot(f"pad_{name.lower()}")
    lab.wait_for(lambda: "the model's pace" in player.inner_text())
    output.get_by_role("combobox", name="Word").fill("cow")
    lab.page.keyboard.press("Tab")
    output.get_by_role("button", name="Complete").click()
    said = output.get_by_role("alert").get_by_text("'cow'")  # the error is for the person
    said.wait_for()
    assert "Error" not in said.inner_text()
    with lab.page.expect_download() as found:
        output.get_by_role("button", name="Download GIF").click()
    assert found.value.path().read_bytes().startswith(b"GIF89a")


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
    field = board.bounding_box()
    places = [dots.nth(i).bounding_box() for i in range(dots.count())]
    spots = [(field["x"] + x, field["y"] + 12) for x in range(20, int(field["width"]) - 20, 15)]
    far = [min(np.hypot(x - p["x"], y - p["y"]) for p in places) for x, y in spots]
    lab.page.mouse.move(*spots[int(np.argmax(far))])  # between the dots
    card.get_by_text("drawn here, near").wait_for()
    lab.shoot("map_decoded")
    output.get_by_role("button", name="Show my drawing").click()
    output.get_by_text("Your drawing is the star").wait_for()
    assert board.locator("text", has_text="yours").count() == 1
    output.scroll_into_view_if_needed()
    lab.shoot("map_mine")


@pytest.mark.parametrize("width", [420, 650])
def test_narrow_windows_reflow(lab: Lab, width: int) -> None:
    before = lab.page.viewport_size
    try:
        lab.page.evaluate(
            side := "() => jupyterapp.commands.execute('application:toggle-left-area')"
        )
        lab.page.set_viewport_size({"width": width, "height": 900})  # or twice it at 200 % zoom
        for text in ("Player(doodles", "temperature_explorer(model", "LatentMap(model, mapped"):
            widget = lab.output(text).locator(".doodles").first
            lab.page.wait_for_timeout(300)
            lab.shoot(f"narrow_{width}_{text.split('(')[0]}")
            wide = "e => [...e.querySelectorAll('*')].filter(one => one.getClientRects().length)"
            wide += (
                ".map(one => one.getBoundingClientRect().right - e.getBoundingClientRect().right)"
            )
            assert max(widget.evaluate(wide)) < 2  # nothing sticks out
            sizes = widget.locator("figure svg").evaluate_all("all => all.map(e => e.clientWidth)")
            assert min(sizes) >= 60  # and doodles can be made out
    finally:
        lab.page.set_viewport_size(before)
        lab.page.evaluate(side)


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
        output = lab.output("temperature_explorer(model")
        scheme = "e => getComputedStyle(e).colorScheme"  # of what the browser draws itself
        for name in ("slider", "combobox", "spinbutton"):
            assert output.get_by_role(name).first.evaluate(scheme) == "dark"
        ghost = output.locator(".doodle-ghost").first
        assert float(ghost.evaluate("e => getComputedStyle(e).opacity")) > 0.3
        lab.shoot("dark_temperature")
        lab.output("LatentMap(model, mapped")
        lab.shoot("dark_map")
    finally:
        lab.page.evaluate(change % "Light")
        lab.wait_for(lambda: brightness() < 60)
    assert light < 60
