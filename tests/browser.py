"""JupyterLab in a real browser, for tests that click, drag and draw."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, ViewportSize

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
WAIT = 300_000  # ms; on an idle machine nothing takes a tenth of it


@contextmanager
def serving(folder: Path) -> Generator[str]:
    """URL of a JupyterLab on the notebooks of `folder`, with settings of its own there."""
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
    command += ["--ip=127.0.0.1", "--port=0"]  # any that is free
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder / 'notebooks'}"]
    command += ["--LabApp.expose_app_in_browser=True"]  # to change the theme
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **places}, stdout=log, stderr=log)
        try:
            yield _url_of(process, folder / "runtime")
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _url_of(process: subprocess.Popen, runtime: Path) -> str:
    """Address of the server, once it answers; it writes its port to a file."""
    info = runtime / f"jpserver-{process.pid}.json"
    for _ in range(300):
        try:
            url = f"http://127.0.0.1:{json.loads(info.read_text())['port']}"
            with urllib.request.urlopen(f"{url}/api/status?token={TOKEN}", timeout=2):
                return url
        except (OSError, ValueError):  # not there, half written, or not listening yet
            assert process.poll() is None, "the server ended"
            time.sleep(0.2)
    raise TimeoutError(f"no answer from the server of {info}")


class Lab:
    """The page with the notebook, whose cells have been run."""

    def __init__(self, page: "Page", shots: Path) -> None:
        self.page, self.shots = page, shots
        self.messages: list[str] = []  # from widgets to the kernel
        self.errors: list[str] = []
        self.strangers: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", lambda socket: socket.on("framesent", self._hear))

    def _note(self, url: str) -> None:
        if "127.0.0.1" not in url and not url.startswith(("data:", "blob:")):
            self.strangers.append(url)

    def _hear(self, frame: str | bytes) -> None:
        text = frame if isinstance(frame, str) else frame.decode(errors="replace")
        if "comm_msg" in text:
            self.messages.append(text)

    def wait_until_idle(self) -> None:
        """Before that the toolbar says idle, and a run would be lost."""
        bar = self.page.locator("#jp-main-statusbar")
        bar.get_by_text("Python 3 (ipykernel) | Idle").wait_for()

    def output(self, source: str) -> "Locator":
        """What the cell that holds `source` shows, in sight."""
        found = self.page.locator(".jp-CodeCell", has_text=source).locator(".jp-Cell-outputArea")
        found.scroll_into_view_if_needed()
        return found

    def active_cell(self) -> int:
        """Number of the cell that JupyterLab's own keys would work on."""
        return self.page.locator(".jp-Cell").evaluate_all(
            "all => all.findIndex(cell => cell.classList.contains('jp-mod-active'))"
        )

    def shoot(self, name: str) -> None:
        self.page.screenshot(path=self.shots / f"{name}.png")

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for what the page or the kernel is about to do."""
        for _ in range(WAIT // 50):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise TimeoutError(f"{condition} never came true")


@contextmanager
def opened(
    folder: Path, notebook: str, *, viewport: "ViewportSize | None" = None
) -> Generator[Lab]:
    """A notebook of `folder` in the browser, all its cells run.

    Fails at the end if the page had errors, or asked for anything beyond this machine.
    """
    from playwright.sync_api import sync_playwright

    shots = folder / "shots"
    shots.mkdir()
    print(f"screenshots: {shots}")
    with serving(folder) as server, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(folder / "profile"),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            has_touch=True,
            viewport=viewport or {"width": 1300, "height": 1000},
        )
        page = context.new_page()
        page.set_default_timeout(WAIT)
        lab = Lab(page, shots)
        try:
            page.goto(f"{server}/lab/tree/{notebook}?token={TOKEN}&reset")
            lab.wait_until_idle()
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            page.locator(".doodle-map").wait_for()  # the last widget
            lab.wait_until_idle()
            yield lab
        finally:
            lab.shoot("last")
            context.close()
    assert not lab.errors, lab.errors
    assert not lab.strangers, "the page asked for something beyond this machine"


def inks(player: "Locator") -> list[str]:
    """Path data of what each doodle of a player shows."""
    return player.locator(".doodle-ink").evaluate_all("all => all.map(e => e.getAttribute('d'))")


def drag(page: "Page", handle: "Locator", dx: float) -> None:
    """Take the middle of a slider and move it; the button stays down."""
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y, steps=8)
