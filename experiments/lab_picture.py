"""The picture of the lab for the README: notebook 05 in JupyterLab, drawn on in a real browser.

    python experiments/lab_picture.py [OUT.png]

Needs Chromium (Debian: ``apt-get install chromium``). The cells of the sliders and of the pad run
with the shipped models, and are put side by side; a cat's head is drawn on the pad, and the model
is asked for endings. OUT is reports/figures/lab.png unless given.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np

from doodlelib.paths import ROOT

sys.path.append(str(ROOT / "tests"))
from browser import Lab, opened

SIZE = {"width": 1480, "height": 950}  # px
WIDTH_MS = 700.0  # for a line as long as the pad is wide
PAUSE_MS = 450.0  # between strokes
MOMENT_MS = 2500  # after which the endings are shown, each somewhere on its way
CELLS = ("temperature_explorer(model", "DrawingPad(model")
NEEDED = ("name: str =", "from doodlelib import lab", *CELLS)
ARRANGE = """(cells) => {
    for (const cell of document.querySelectorAll(".jp-Notebook .jp-Cell")) {
        cell.hidden = !cells.some((source) => cell.innerText.includes(source));
        cell.style.display = cell.hidden ? "none" : "";
    }
}"""
DRAW = """(paper, strokes) => {  // with its own times, however busy the machine is
    const box = paper.getBoundingClientRect();
    const send = (kind, [x, y, t]) => {
        const [clientX, clientY] = [box.left + x * box.width, box.top + y * box.height];
        const event = new PointerEvent(kind, { pointerId: 1, isPrimary: true, clientX, clientY });
        paper.dispatchEvent(Object.defineProperty(event, "timeStamp", { value: t }));
    };
    for (const points of strokes) {
        send("pointerdown", points[0]);
        for (const point of points.slice(1)) send("pointermove", point);
        send("pointerup", points.at(-1));
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


def cat() -> list[list[list[float]]]:
    """Strokes of points x, y (0 to 1) and t (ms): a head, round by hand, and one ear."""
    turn, number = np.linspace(-0.42, -2.36, 100) * np.pi, np.linspace(0, 33, 100)
    wobble = 0.012 * np.array([np.sin(0.5 * number), np.cos(0.37 * number)])
    head = np.array([0.5 + 0.33 * np.cos(turn), 0.6 + 0.27 * np.sin(turn)]) + wobble
    ear = np.concatenate(
        [np.linspace((0.62, 0.34), (0.78, 0.17), 8), np.linspace((0.78, 0.17), (0.76, 0.44), 9)[1:]]
    )
    strokes, start = [], 0.0
    for xy in (head.T, ear):
        t = start + np.cumsum(np.hypot(*np.diff(xy, axis=0, prepend=xy[:1]).T)) * WIDTH_MS
        strokes.append(np.column_stack([xy, t]).tolist())
        start = t[-1] + PAUSE_MS
    return strokes


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
    time = output.get_by_role("slider", name="Time", exact=True)
    time.fill(str(round(0.5 * float(time.get_attribute("max") or 0))))


def use_pad(lab: Lab) -> None:
    """The cat, with what it looks like and its endings, while their last strokes are drawn."""
    output = lab.output(CELLS[1])
    output.get_by_role("application", name="Drawing pad").evaluate(DRAW, cat())
    output.get_by_text("Looks like").wait_for()
    output.get_by_role("combobox", name="Word").fill("cat")
    lab.page.keyboard.press("Tab")
    output.get_by_role("button", name="Complete").click()
    output.locator(".doodle-busy").wait_for(state="hidden")
    lab.page.wait_for_timeout(MOMENT_MS)
    lab.page.locator(".jp-NotebookPanel .jp-WindowedPanel-outer").evaluate("e => e.scrollTo(0, 0)")


def main() -> None:
    """Run the notebook, draw, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "reports/figures/lab.png")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "notebooks").mkdir()
        name = "05_latent_space.ipynb"
        notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
        notebook.cells = [c for c in notebook.cells if any(part in c.source for part in NEEDED)]
        notebook.cells[1].source += '\nfirst, checkpoints = "cat", []'
        nbformat.write(notebook, folder / "notebooks" / name)  # a copy: JupyterLab saves by itself
        (folder / "doodlelib").symlink_to(ROOT / "doodlelib")
        with opened(folder, name, viewport=SIZE) as lab:
            arrange(lab)
            set_sliders(lab)
            use_pad(lab)
            lab.page.screenshot(path=out)
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
