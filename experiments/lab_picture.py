"""The picture of the lab for the README: notebook 05 in JupyterLab, drawn on in a real browser.

    python experiments/lab_picture.py [OUT.png]

Needs Chromium (Debian: ``apt-get install chromium``). The notebook runs as it is, with the shipped
models. The cells of the sliders and of the pad are then put side by side, a cat's head is drawn on
the pad with the mouse, and the model is asked for endings. OUT is reports/figures/lab.png.
"""

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from doodlelib.paths import ROOT

sys.path.append(str(ROOT / "tests"))
from browser import Lab, opened

SIZE = {"width": 1480, "height": 950}  # px
COLORS = 128  # of the PNG, which says what photographs need in a tenth of the bytes
CELLS = ("temperature_explorer(model", "DrawingPad(model")
ARRANGE = """(cells) => {
    for (const cell of document.querySelectorAll(".jp-Notebook .jp-Cell")) {
        cell.hidden = !cells.some((source) => cell.innerText.includes(source));
        cell.style.display = cell.hidden ? "none" : "";
    }
}"""
STYLE = """
    .jp-Notebook .jp-WindowedPanel-viewport {
        display: grid; grid-template-columns: 1fr 1fr; align-items: start; gap: 12px;
    }
    .jp-Notebook-footer, .jp-InputPrompt, .jp-OutputPrompt, .jp-Collapser, .jp-cell-toolbar {
        display: none;
    }
"""


def cat() -> list[np.ndarray]:
    """Strokes (n, 2) of a cat's head, from 0 to 1: an outline with ears, eyes and a nose."""
    turn = np.linspace(-0.30, 1.30, 60) * np.pi  # from one ear around the chin to the other
    head = np.column_stack([0.5 + 0.33 * np.cos(turn), 0.58 + 0.30 * np.sin(turn)])
    ears = [[0.22, 0.10], [0.42, 0.30], [0.58, 0.30], [0.78, 0.10], head[0]]
    around = np.linspace(0, 2 * np.pi, 12)
    eye = 0.03 * np.column_stack([np.cos(around), np.sin(around)])
    return [np.vstack([head, ears]), np.add(eye, (0.38, 0.52)), np.add(eye, (0.62, 0.52))]


def draw(lab: Lab, strokes: list[np.ndarray]) -> None:
    """Draw on the pad, some 10 ms a point."""
    paper = lab.page.get_by_role("application", name="Drawing pad").bounding_box()
    for stroke in strokes:
        for number, (x, y) in enumerate(stroke):
            at = paper["x"] + x * paper["width"], paper["y"] + y * paper["height"]
            lab.page.mouse.move(*at)
            if number == 0:
                lab.page.mouse.down()
            lab.page.wait_for_timeout(10)
        lab.page.mouse.up()
        lab.page.wait_for_timeout(200)


def arrange(lab: Lab) -> None:
    """Put the two cells side by side, without what stands around them."""
    for command in ("application:toggle-left-area", "application:toggle-presentation-mode"):
        lab.page.evaluate(f"window.jupyterapp.commands.execute('{command}')")
    lab.page.evaluate(ARRANGE, CELLS)
    lab.page.add_style_tag(content=STYLE)
    lab.page.wait_for_timeout(1000)


def set_sliders(lab: Lab) -> None:
    """24 cats, in the middle of their playing."""
    output = lab.output(CELLS[0])
    output.get_by_role("combobox", name="Word").select_option("cat")
    lab.wait_until_idle()
    output.get_by_role("slider", name="Shape temperature").fill("0.25")
    lab.wait_until_idle()
    output.get_by_role("slider", name="Doodles").fill("24")
    lab.wait_for(lambda: output.locator("figure").count() == 24)
    output.get_by_role("slider", name="Time", exact=True).fill("5000")


def use_pad(lab: Lab) -> None:
    """The cat, with what it looks like and its endings, while their last strokes are drawn."""
    output = lab.output(CELLS[1])
    draw(lab, cat())
    output.get_by_role("combobox", name="Word").fill("cat")
    lab.page.keyboard.press("Tab")
    output.get_by_role("button", name="Complete").click()
    output.get_by_role("group", name="Player").wait_for()
    lab.wait_until_idle()
    time = output.get_by_role("slider", name="Time", exact=True)
    time.fill(str(0.75 * float(time.get_attribute("max") or 0)))
    lab.page.mouse.move(0, 0)
    time.evaluate("slider => slider.blur()")


def main() -> None:
    """Run the notebook, draw, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "reports/figures/lab.png")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "notebooks", folder / "notebooks")  # JupyterLab saves by itself
        (folder / "doodlelib").symlink_to(ROOT / "doodlelib")
        with opened(folder, "05_latent_space.ipynb", viewport=SIZE) as lab:
            arrange(lab)
            set_sliders(lab)
            use_pad(lab)
            shot = lab.page.screenshot()
    with Image.open(io.BytesIO(shot)) as image:
        image.convert("RGB").quantize(COLORS).save(out, optimize=True)
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
