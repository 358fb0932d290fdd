"""The page in Chromium: it computes what the Python of the models does, and can be drawn on."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from browser import CHROMIUM, FLAGS, MARKS
from PIL import Image, ImageSequence
from vaes import make_vae

from doodlelib.config import CNNConfig, read_config
from doodlelib.data import load_split, sample_store
from doodlelib.models.checkpoint import load_cnn, load_vae
from doodlelib.models.cnn import DoodleCNN
from doodlelib.page import build, nats_lost, quantised
from doodlelib.simplify import simplify
from doodlelib.strokes import to_stroke4, to_stroke6

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = MARKS


@pytest.fixture(scope="module")
def models() -> tuple:
    return load_vae(), load_cnn("trained_345")


@pytest.fixture(scope="module")
def path(models, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "doodles.html"
    size = build(path, *models, words=["cat", "face", "sun"])
    print(f"{path}: {size / 1e6:.1f} MB")
    assert size == path.stat().st_size < 12_000_000
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture
def page(browser: "Browser", path: Path, request) -> Iterator["Page"]:
    """The page from disk, without a network; fails at the end if it had errors or asked for any."""
    asked, errors = [], []
    context = browser.new_context(offline=True, **getattr(request, "param", {}))
    page = context.new_page()
    page.set_default_timeout(300_000)
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"file://{path}")
    yield page
    context.close()
    assert not errors
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked)


@pytest.fixture
def engine(page: "Page", path: Path) -> "Page":
    """With the models of the page as `tested`, out of their thread."""
    text = path.read_text(encoding="utf-8")
    weights = text.split('id="weights">')[1].split("<")[0]
    page.evaluate(
        """async (weights) => {
            const worker = await import(doodleModules["worker.js"]);
            const bytes = Uint8Array.from(atob(weights), (one) => one.charCodeAt(0)).buffer;
            const specs = JSON.parse(document.getElementById("specs").textContent);
            globalThis.tested = { ...worker, ...worker.open(specs, bytes) };
            Object.assign(tested, await import(doodleModules["simplify.js"]));
        }""",
        weights,
    )
    return page


def test_the_decoder_gives_the_outputs_of_python(models, engine: "Page") -> None:
    vae = quantised(models[0])
    word = vae.words.index("cat")
    (drawing,) = vae.generate(1, word="cat", seed=1)
    rows = torch.tensor(to_stroke6(to_stroke4(drawing), scale=vae.scale)[1:-1]).float()
    z = torch.linspace(-1, 1, vae.config.latent_size)[None]
    with torch.no_grad():
        condition = vae.condition(z, torch.tensor([word]))
        hidden, *_ = vae.hidden_states(rows[None], timed=torch.tensor([True]), condition=condition)
        expected = vae.head(hidden)[0].numpy()
    found = engine.evaluate(
        """([z, word, rows]) => {
            const { sketcher } = tested;
            const course = sketcher.begin(Float32Array.from(z), word);
            return rows.map((row) => (sketcher.read([course], [row]), [...course.output]));
        }""",
        [z[0].tolist(), word, rows.tolist()],
    )
    np.testing.assert_allclose(np.array(found), expected, atol=1e-3)


def test_strokes_become_the_rows_of_python(models, engine: "Page") -> None:
    vae, _ = models
    t = np.linspace(0, 3000, 150)
    spiral = [[150 + t / 20 * np.cos(t / 300), 90 + t / 20 * np.sin(t / 300), t]]
    spiral.append(
        [np.array([10.0, 40, 41]), np.array([300.0, 310, 390]), np.array([4e3, 4.1e3, 5e3])]
    )
    expected = to_stroke6(to_stroke4(simplify(spiral, **vae.simplification)), scale=vae.scale)
    found = engine.evaluate(
        """drawing => {
            const { sketcher } = tested;
            return sketcher.rows(tested.simplify(drawing, sketcher.spec.simplification));
        }""",
        [[row.tolist() for row in stroke] for stroke in spiral],
    )
    np.testing.assert_allclose(np.array(found), expected[1:-1], atol=1e-6)


def test_the_classifier_gives_the_guesses_of_python(models, engine: "Page") -> None:
    cnn = quantised(models[1])
    for word in ("cat", "bicycle", "sun"):
        (drawing,) = models[0].generate(1, word=word, seed=2)
        shares = cnn.predict([drawing])[0]
        found = engine.evaluate(
            "drawing => tested.classifier.guesses(drawing)",
            [[row.tolist() for row in stroke] for stroke in drawing],
        )
        best = shares.argsort()[::-1][:5]
        assert [name for name, _ in found] == [cnn.words[i] for i in best]
        np.testing.assert_allclose([share for _, share in found], shares[best], atol=1e-3)


def test_doodles_are_distributed_as_those_of_python(models, engine: "Page") -> None:
    """Points and seconds of some doodles: their medians differ by less than chance would allow."""
    vae, _ = models
    theirs = vae.generate(200, word="sun", timing="joint", temperature=0.4, seed=0)
    found = engine.evaluate(
        """([word, count]) => {
            let last;
            const starts = tested.starts(tested.sketcher, { count, word, latent: 0.4 });
            const options = { temperature: 0.4, timeTemperature: 1 };
            for (last of tested.draw(tested.sketcher, starts, options));
            return last.drawings;
        }""",
        [vae.words.index("sun"), 60],
    )
    for measure in (
        lambda drawing: sum(len(stroke[0]) for stroke in drawing),
        lambda drawing: drawing[-1][2][-1] / 1000,
    ):
        a, b = (np.array([measure(one) for one in some]) for some in (theirs, found))
        spread = np.std(a) * 1.25 * np.sqrt(1 / len(a) + 1 / len(b))  # of a median's error
        assert abs(np.median(a) - np.median(b)) < 4 * spread, (np.median(a), np.median(b))


def test_a_row_is_drawn_in_time(engine: "Page") -> None:
    milliseconds = engine.evaluate(
        """() => {
            const { sketcher } = tested;
            const course = sketcher.begin(sketcher.latent(0, null), 0);
            const began = performance.now();
            for (let i = 0; i < 40; i++) sketcher.read([course], [[0.1, 0, 0, 1, 0, 0]]);
            return (performance.now() - began) / 40;
        }"""
    )
    print(f"{milliseconds:.1f} ms a row in Chromium")
    assert milliseconds < 200  # of a busy machine; speed is measured in benchmarks


def test_eight_bits_cost_next_to_nothing(models) -> None:
    whole, rounded, points = nats_lost(models[0], load_split(sample_store(), "valid"), 60)
    assert points > 500 and 0 < abs(whole - rounded) < 0.01


def test_a_model_that_the_page_cannot_draw_with_is_refused(models, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at 28 px"):
        build(
            tmp_path / "a.html", models[0], DoodleCNN(read_config(CNNConfig, image_size=255), ["a"])
        )
    vae = make_vae(use_layer_norm=False)
    with pytest.raises(ValueError, match="layer norm"):
        build(tmp_path / "a.html", vae, models[1])
    assert not list(tmp_path.iterdir())


def draw(page: "Page", points: list[tuple[float, float]], *, by_touch: bool) -> None:
    """A stroke on the paper, in shares of its side."""
    paper = page.locator(".doodle-paper")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    touch = page.context.new_cdp_session(page) if by_touch else None
    for number, (x, y) in enumerate(places):
        if touch:
            kind, where = "touchMove" if number else "touchStart", [{"x": x, "y": y}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})
        else:
            page.mouse.move(x, y)
            if number == 0:
                page.mouse.down()
        page.wait_for_timeout(16)
    if touch:
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    else:
        page.mouse.up()


def circle(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    turns = np.linspace(0, 2 * math.pi, 25)
    return [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LAPTOP = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"}


@pytest.mark.parametrize("page", [PHONE, LAPTOP], ids=["phone", "laptop"], indirect=True)
def test_a_person_draws_and_the_model_draws_on(page: "Page", path: Path, request) -> None:
    name = request.node.callspec.id
    page.locator("body[data-ready]").wait_for()
    page.screenshot(path=path.with_name(f"{name}.png"), full_page=True)
    print(f"screenshots: {path.parent}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
    page.get_by_role("checkbox", name="Draw on when I stop").check()
    draw(page, circle(0.5, 0.5, 0.35), by_touch=name == "phone")
    page.get_by_text("Looks like").wait_for()
    draw(page, circle(0.38, 0.42, 0.05), by_touch=name == "phone")
    status = page.locator(".doodle-said")
    status.get_by_text("drawing").first.wait_for()  # it draws on, or finds the drawing finished
    page.get_by_role("button", name="Complete").click()
    page.get_by_role("button", name="Ending 1,").or_(
        status.get_by_text("finished")
    ).first.wait_for()
    page.screenshot(path=path.with_name(f"{name}_drawn.png"), full_page=True)
    for _ in range(2):
        page.get_by_role("button", name="Undo").click()
    assert page.locator(".doodle-paper .doodle-ink").get_attribute("d") == ""


@pytest.mark.parametrize("page", [LAPTOP], indirect=True)
def test_a_drawing_becomes_a_gif_and_a_link(page: "Page") -> None:
    page.locator("body[data-ready]").wait_for()
    draw(page, circle(0.5, 0.5, 0.3), by_touch=False)
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download GIF").click()
    with Image.open(caught.value.path()) as gif:
        frames = ImageSequence.all_frames(gif)
    assert frames[0].size == (255, 255) and len(frames) > 3
    # of the lines alone: the pen, a dot that is gone at the end, is paler
    inks = [int((np.asarray(frame.convert("L")) < 100).sum()) for frame in frames]
    assert (np.diff(inks) > -50).all() and inks[-1] > 500 > inks[0]
    page.get_by_role("button", name="Copy a link").click()
    page.get_by_text("now holds your drawing").wait_for()
    ink = page.locator(".doodle-paper .doodle-ink").get_attribute("d")
    page.evaluate("sessionStorage.clear()")
    page.reload()
    page.locator("body[data-ready]").wait_for()
    again = page.locator(".doodle-paper .doodle-ink").get_attribute("d")
    assert len(again.split("C")) + len(again.split("L")) == len(ink.split("C")) + len(
        ink.split("L")
    )


@pytest.mark.parametrize("page", [LAPTOP], indirect=True)
def test_a_tap_on_the_wall_draws_another(page: "Page") -> None:
    page.locator("body[data-ready]").wait_for()
    tile = page.get_by_role("button", name="Another cat")
    before = tile.locator("svg").get_attribute("viewBox")
    tile.click()
    page.wait_for_timeout(50)
    tile.locator(f'svg:not([viewBox="{before}"])').wait_for(state="attached")
    page.locator("figure", has_text="cat").first.wait_for()
    page.get_by_placeholder("another word").fill("bicycle")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Another bicycle").wait_for()
