"""Real JupyterLab and Notebook servers, a real browser, and notebooks made for them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import ConsoleMessage, Page

ROOT = Path(__file__).resolve().parent.parent.parent
# Pictures of what the tests saw; git knows nothing of them.
SHOTS = ROOT / "out" / "browser"
AXE = ROOT / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
TOKEN = "a-token-for-browsers"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Jupyter:
    """A running JupyterLab or Notebook whose broker lives in ``home``.

    Args:
        home: of the broker. app: ``lab`` or ``notebook``. port: 0 chooses one. options: of its command line.
    """

    def __init__(self, home: Path, app: str, port: int, *options: str) -> None:
        self.home, self.app, self.port, self.options = home, app, port, options
        self.base = f"http://127.0.0.1:{port}/"
        self.root = home / f"{app}-{port}"
        self.files = self.root / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self.log = self.root / "log"
        self.token = TOKEN
        self.process: subprocess.Popen[bytes] | None = None
        # Or Lab asks whether one wants news, over the page.
        settings = self.root / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        bins = str(Path(sys.executable).parent)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("JUPYTER_") or k.startswith("JUPYTER_RM_")},
            "PATH": os.pathsep.join([bins, os.environ.get("PATH", os.defpath)]),
            "HOME": str(self.root),
            "JUPYTER_RM_HOME": str(self.home),
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTER_RUNTIME_DIR": str(self.root / "runtime"),
            "IPYTHONDIR": str(self.root / "ipython"),
            "PYTHONPATH": str(ROOT),
        }
        command = [
            *(sys.executable, "-m", {"lab": "jupyterlab", "notebook": "notebook"}[self.app]),
            *("--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={self.port}", "--ServerApp.port_retries=0"),
            *(f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={self.files}"),
            "--ServerApp.reraise_server_extension_failures=True",
            f"--{ {'lab': 'LabApp', 'notebook': 'JupyterNotebookApp'}[self.app] }.expose_app_in_browser=True",
            *self.options,
        ]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root
            )
        end = time.monotonic() + 60
        pause = threading.Event()
        while time.monotonic() < end:
            assert self.process.poll() is None, self.said
            try:
                with urllib.request.urlopen(f"{self.base}api", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                pause.wait(0.1)
        raise AssertionError(f"the server is not up:\n{self.said}")

    @property
    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-6000:]

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> None:
        """End it politely; kernels of a killed one too."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def notebook(self, name: str, *cells: str) -> str:
        """Write a notebook; return its path below the root."""
        made = new_notebook(cells=[new_code_cell(cell) for cell in cells])
        # Without it Lab asks for a kernel, and its question lies over the page.
        made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(made, self.files / name)
        return name

    def url(self, path: str = "lab", query: str = "") -> str:
        """The address of a page of it."""
        return f"{self.base}{path}?token={self.token}{query}"


class Talk:
    """What a page said on its console, and what went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.lines: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.lines.append(f"pageerror: {error.stack or error}"))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.lines.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    @property
    def ours(self) -> list[str]:
        """What is about us, or broke the page; not what Notebook 7.6 says on every page, also without us."""
        own = [line for line in self.lines if "jupyter_rm" in line or line.startswith("pageerror")]
        return [line for line in own if "reading 'schema'" not in line or "notebook_core" not in line]


def until(page: Page, what: Callable[[], object], text: str | Callable[[], str], limit: float = 60) -> None:
    """Wait until ``what()`` is true; fail with ``text`` (or what it returns) and a picture."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if what():
            return
        page.wait_for_timeout(100)
    shoot(page, "failed")
    raise AssertionError(f"{text() if callable(text) else text} (after {limit:.0f} s; see {SHOTS / 'failed.png'})")


def shoot(page: Page, name: str) -> Path:
    """Keep a picture of the page."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"{name}.png"
    page.screenshot(path=str(path))
    return path


def open_lab(page: Page, jupyter: Jupyter, path: str = "lab", fresh: bool = True) -> None:
    """Open a page of JupyterLab and wait until it is there."""
    page.goto(jupyter.url(path, "&reset" if fresh else ""), wait_until="domcontentloaded")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    page.wait_for_selector('li[data-id="jupyter_rm-panel"]', timeout=60_000)
    # What Lab still opens takes the keyboard away from a dialog, a menu or the palette.
    page.evaluate("() => window.jupyterapp.restored.then(() => null)")
    page.wait_for_selector("#jp-main-dock-panel .lm-TabBar-tab.lm-mod-current", timeout=60_000)


def execute(page: Page, command: str) -> None:
    """Run a command of Lab, without waiting for its end: it may ask something."""
    page.evaluate("command => void window.jupyterapp.commands.execute(command)", command)


def show_panel(page: Page) -> None:
    """Open our panel when it is closed."""
    if not page.locator("#jupyter_rm-panel").is_visible():
        page.click('li[data-id="jupyter_rm-panel"]')
    page.wait_for_selector("#jupyter_rm-panel", state="visible")


def faults(page: Page, where: str) -> list[str]:
    """Return what axe-core calls serious or critical below an element."""
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("where => axe.run(where, {resultTypes: ['violations']})", where)
    return [
        f"{each['id']} ({each['impact']}): {[node['html'][:160] for node in each['nodes'][:3]]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
