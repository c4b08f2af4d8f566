"""When no broker can be had: a home that others may write into, and a broker of another version. The page says what
happened and what to do, and goes on by itself once that is done; in JupyterLab and in Notebook 7."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_kit import ROOT, Jupyter, Talk, faults, free_port, open_lab, shoot, until
from playwright.sync_api import Locator, Page

from jupyter_rm.client import admin
from jupyter_rm.client import session as sessions

# A broker that speaks a protocol of its own, else a real one.
OTHER = """
import sys
import jupyter_rm.model.messages as messages
messages.PROTOCOL = 99
from jupyter_rm.broker.__main__ import main
sys.exit(main(["--ready-fd", sys.argv[1]]))
"""


@pytest.fixture
def other_version(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A broker of another version in the home of this module."""
    reading, writing = os.pipe()
    made = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(writing)],
        env={**os.environ, "JUPYTER_RM_HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        pass_fds=(writing,),
        start_new_session=True,
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as ready:
        said = ready.readline()
    assert said.startswith(b"ok"), said
    yield made
    made.terminate()
    made.wait(30)


def text(told: Locator) -> str:
    """What stands there; nothing while it does not."""
    return "\n".join(told.all_inner_texts())


def panel_of(page: Page) -> None:
    page.evaluate("window.jupyterapp.commands.execute('jupyter_rm:show-panel')")
    page.wait_for_selector("#jupyter_rm-panel", state="visible", timeout=60_000)


def test_a_broker_that_cannot_start_is_explained_and_started_when_it_can(
    home: Path, lab: Jupyter, page: Page, talk: Talk
) -> None:
    state = home / "default"
    state.mkdir(mode=0o700, exist_ok=True)
    admin.stop(force=True)
    state.chmod(0o777)
    open_lab(page, lab)
    panel_of(page)
    told = page.locator("#jupyter_rm-panel .jrm-notice")
    page.evaluate("void window.jupyterapp.commands.execute('jupyter_rm:start-broker')")
    until(page, lambda: str(state) in text(told), lambda: f"what is wrong is not told: {lab.said}")
    assert "Next:" in text(told) and "JRM-" in text(told), text(told)
    assert faults(page, "#jupyter_rm-panel") == []
    shoot(page, "no-broker")
    # Also where somebody wants to do something.
    page.evaluate("void window.jupyterapp.commands.execute('jupyter_rm:open-session', {session: 'x'})")
    page.wait_for_selector('.Toastify__toast:has-text("default")')
    state.chmod(0o700)
    told.get_by_role("button", name="Try again").click()
    page.locator("#jupyter_rm-panel >> text=No open session").wait_for()
    told.wait_for(state="detached")
    sessions.open("at-last")
    page.locator(".jrm-session[data-session=at-last]").wait_for()
    sessions.open("at-last").close()
    admin.stop(force=True)
    assert [line for line in talk.ours if "pageerror" in line] == []


def test_a_broker_of_another_version_is_named(
    home: Path, lab: Jupyter, other_version: subprocess.Popen[bytes], page: Page
) -> None:
    seven = Jupyter(home, "notebook", free_port())
    try:
        for jupyter in (lab, seven):
            if jupyter is lab:
                open_lab(page, lab)
            else:
                seven.notebook("empty.ipynb", "1")
                page.goto(seven.url("notebooks/empty.ipynb"), wait_until="domcontentloaded")
                page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
            panel_of(page)
            told = page.locator("#jupyter_rm-panel .jrm-notice")
            until(page, lambda told=told: "protocol" in text(told), "the version is not told")
            assert "jrm broker stop" in text(told) and "99" in text(told), text(told)
            shoot(page, f"other-version-{jupyter.app}")
        other_version.terminate()
        other_version.wait(30)
        told.get_by_role("button", name="Try again").click()
        told.wait_for(state="detached")
        page.locator("#jupyter_rm-panel >> text=closed session").wait_for()
    finally:
        seven.stop()
