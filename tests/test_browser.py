"""The sliders of notebook 05, moved by mouse and keyboard in a real browser.

Needs Chromium (Debian: ``apt-get install chromium``); skips without it, unless
DOODLELIB_REQUIRE_BROWSER is set.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import torch

from doodlelib import checkpoint, dataset
from doodlelib.config import VAEConfig, read_config
from doodlelib.strokes import END
from doodlelib.vae import SketchVAE

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOKEN = "token-of-this-test"
WAIT = 180_000  # ms

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
    cell.source += "\nname, vae, data = 'tiny', 'tiny.pt', 'tiny'"
    nbformat.write(notebook, path)
    return repository


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """URL of a JupyterLab with settings of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {
        "JUPYTER_CONFIG_DIR": "jupyter",
        "JUPYTER_DATA_DIR": "share",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    places = {name: str(folder / place) for name, place in names.items()}
    places |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    settings = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},  # else far cells are not there
    }
    for name, values in settings.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder / 'notebooks'}"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **places}, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{url}/api/status?token={TOKEN}", process)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(url: str, process: subprocess.Popen) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            assert process.poll() is None, "the server ended"
            time.sleep(0.2)
    raise TimeoutError(url)


def test_sliders_change_the_pictures(folder: Path, server: str) -> None:
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    strangers: list[str] = []

    def note(url: str) -> None:
        if "127.0.0.1" not in url and not url.startswith(("data:", "blob:")):
            strangers.append(url)

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(folder / "profile"),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": 1300, "height": 1000},
        )
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: note(request.url))
        try:
            page.goto(f"{server}/lab/tree/05_latent_space.ipynb?token={TOKEN}&reset")
            idle = page.locator("#jp-main-statusbar").get_by_text("Python 3 (ipykernel) | Idle")
            idle.wait_for()  # before that the toolbar says idle, and a run would be lost
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            widgets = page.locator(".jupyter-widgets img")
            page.wait_for_function("document.querySelectorAll('.jupyter-widgets img').length >= 2")
            idle.wait_for()

            handles = page.locator(".widget-slider .noUi-handle")
            pictures = [widgets.nth(i) for i in range(2)]
            before = [picture.get_attribute("src") for picture in pictures]
            pictures[0].scroll_into_view_if_needed()
            page.screenshot(path=folder / "1_before.png")

            handles.first.focus()  # the keyboard moves the temperature
            for _ in range(4):
                page.keyboard.press("ArrowRight")
            _wait_for_change(page, 0, before[0])
            page.screenshot(path=folder / "2_temperature.png")

            last = handles.last  # the mouse drags the interpolation
            last.scroll_into_view_if_needed()
            box = last.bounding_box()
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x + 120, y, steps=10)
            page.mouse.up()
            _wait_for_change(page, 1, before[1])
            page.screenshot(path=folder / "3_interpolation.png")
        finally:
            page.screenshot(path=folder / "last.png")
            context.close()
    assert not errors
    assert not strangers, "the page asked for something beyond this machine"


def _wait_for_change(page: object, index: int, before: str) -> None:
    page.wait_for_function(
        "([i, old]) => document.querySelectorAll('.jupyter-widgets img')[i].src !== old",
        arg=[index, before],
    )
