"""JupyterLab in a real browser, for tests that click, drag and draw."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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
MARKS = [  # of a test file that needs Chromium
    pytest.mark.slow,
    pytest.mark.skipif(
        not CHROMIUM and not os.environ.get("DOODLELIB_REQUIRE_BROWSER"),
        reason="no Chromium on this machine",
    ),
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
    for _ in range(WAIT // 200):
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

    def run_all(self) -> None:
        """Run all cells."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        last = self.page.locator(".jp-Notebook .jp-CodeCell").last.locator(".jp-InputPrompt")
        last.filter(has_text=re.compile(r"\d")).wait_for(timeout=4 * WAIT)  # [25]: it was run
        self.wait_until_idle()

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
            lab.run_all()
            yield lab
        finally:
            lab.shoot("last")
            context.close()
    assert not lab.errors, lab.errors
    assert not lab.strangers, "the page asked for something beyond this machine"


PLAIN = """
async ([source, state]) => {
  const heard = {};
  const tell = (name, ...more) => (heard[name] ?? []).forEach((listener) => listener(...more));
  const put = (name, value) => {
    state[name] = value;
    tell(`change:${name}`);
  };
  window.model = {
    get: (name) => state[name],
    set: put,
    save_changes: () => window.kernelTold(state),
    on: (names, listener) => names.split(" ").forEach((n) => (heard[n] ??= []).push(listener)),
    send: (asked) => window.kernelAsked(asked).then((answer) => {
      if (answer) tell("msg:custom", { ...answer, id: asked.id }, [new Uint8Array([71, 73, 70])]);
    }),
    put,
    tell,
  };
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  widget.render({ model: window.model, el });
}
"""


class Plain:
    """An empty page with one widget, and a kernel that answers as it is told to."""

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.told: dict[str, Any] = {}  # the state that the page reported last
        self.asked: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: {}
        page.expose_function("kernelTold", lambda state: self.told.update(state))
        page.expose_function("kernelAsked", lambda asked: self._ask(asked))

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        self.asked.append(asked)
        return self.answer(asked)

    def show(self, source: str, state: dict[str, Any]) -> None:
        """The widget of this JavaScript in this state, in the place of the one before."""
        self.page.evaluate(PLAIN, [source, state])

    def put(self, name: str, value: object) -> None:
        """A trait's new value, from the kernel."""
        self.page.evaluate("([name, value]) => model.put(name, value)", [name, value])

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait for what the page is about to do."""
        for _ in range(WAIT // 50):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise TimeoutError("it never came true")


@contextmanager
def plain(style: Path) -> Generator[Plain]:
    """A page without a notebook; fails at the end if it had errors."""
    from playwright.sync_api import sync_playwright

    page_html = f"<!doctype html><style>{style.read_text(encoding='utf-8')}</style>"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.set_default_timeout(WAIT)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.route("**", lambda route: route.fulfill(content_type="text/html", body=page_html))
        page.goto("http://plain.test/")
        try:
            yield Plain(page)
        finally:
            browser.close()
    assert not errors, errors


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
