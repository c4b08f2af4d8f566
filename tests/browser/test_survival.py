"""Views in cells go on: in a busy cell, after a kernel's restart, a reload, and the death of the Jupyter server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_kit import Jupyter, Talk, execute, faults, free_port, open_lab, shoot, until
from playwright.sync_api import Locator, Page

import jupyter_rm as jrm
from jupyter_rm.client import session as sessions

OPEN = """
import jupyter_rm as jrm, time
s = jrm.open("cells")
p = s.pilot("local", cores=2)
p.wait()
b = s.submit([jrm.Task("sleep", ["0.3"], name=f"nap-{n}") for n in range(100)])
s.view("tasks")
"""
BUSY = "time.sleep(8)\nprint('awake')"
COUNT = """
view => {
  window.changes = [];
  new MutationObserver(() => window.changes.push(performance.now())).observe(
    view.querySelector('.jrm-chips'), {subtree: true, childList: true, characterData: true});
}
"""


@pytest.fixture(scope="module")
def seven(home: Path) -> Iterator[Jupyter]:
    """Notebook 7 beside JupyterLab, with the same broker."""
    made = Jupyter(home, "notebook", free_port())
    yield made
    made.stop()


def live(page: Page) -> Locator:
    """The view under the first cell, once it is alive."""
    view = page.locator(".jp-OutputArea .jrm-v-tasks")
    view.locator('.jrm-live:has-text("live")').wait_for(timeout=60_000)
    return view


def run_all(page: Page) -> None:
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    # Lab asks for a kernel when cells are run before there is one.
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=90_000
    )
    execute(page, "notebook:run-all-cells")


def updates_in(page: Page, view: Locator) -> list[float]:
    """Count changes of what is shown while the last cell sleeps; return the gaps between them, seconds."""
    view.evaluate(COUNT)
    page.wait_for_selector('.jp-OutputArea-output:has-text("awake")', timeout=60_000)
    at = page.evaluate("[...window.changes, performance.now()]")
    return [(b - a) / 1000 for a, b in itertools.pairwise(at)]


def test_a_view_in_a_cell_survives_everything(lab: Jupyter, page: Page, talk: Talk) -> None:
    lab.notebook("cells.ipynb", OPEN, BUSY)
    open_lab(page, lab, "lab/tree/cells.ipynb")
    run_all(page)
    view = live(page)
    gaps = updates_in(page, view)
    assert len(gaps) >= 8, f"{len(gaps)} updates while the cell slept for 8 s"
    assert max(gaps) < 3, f"the view stood still for {max(gaps):.1f} s of a busy cell"
    shoot(page, "cell")
    assert faults(page, ".jp-OutputArea .jrm-view") == []

    execute(page, "notebook:restart-kernel")
    page.click('.jp-Dialog button:has-text("Restart")')
    session = sessions.open("cells")
    session.submit(jrm.Task("true")).wait(timeout=60)
    until(page, lambda: "101 tasks" in view.inner_text(), "the view does not go on after a kernel's restart")

    # The picture is in the file, and nothing secret beside it.
    execute(page, "docmanager:save")
    file = lab.files / "cells.ipynb"
    until(page, lambda: "vnd.jupyter-rm.view+json" in file.read_text(), "the view is not in the notebook's file")
    until(page, lambda: "a-token-for-browsers" not in file.read_text(), "a token is in the notebook's file")
    page.reload(wait_until="domcontentloaded")
    view = live(page)
    until(page, lambda: "101 tasks" in view.inner_text(), "the view does not come back after a reload")

    lab.kill()
    view.locator('.jrm-live:has-text("connecting")').wait_for(timeout=30_000)
    assert "101 tasks" in view.inner_text(), "the last picture is gone with the server"
    session.submit(jrm.Task("true")).wait(timeout=60)  # the work goes on without it
    lab.start()
    until(page, lambda: "102 tasks" in view.inner_text(), "the view does not come back after the server's restart")
    until(page, lambda: "live" in view.locator(".jrm-live").inner_text(), "and is not alive")
    # Lab itself stumbles over its server's death; we must not.
    assert [line for line in talk.ours if "pageerror" in line and "extensions/jupyter_rm" in line] == []

    # A login that is over is said, with what to do; a new one brings the view back.
    lab.kill()
    page.context.clear_cookies()
    lab.token = "another-token"
    lab.start()
    page.locator('.jp-OutputArea .jrm-notice:has-text("log in again")').wait_for(timeout=30_000)
    page.goto(lab.url("lab/tree/cells.ipynb"), wait_until="domcontentloaded")
    view = live(page)

    # An old notebook shows the last picture, and says why, and offers to connect.
    session.close()
    page.reload(wait_until="domcontentloaded")
    told = page.locator('.jp-OutputArea .jrm-notice:has-text("is closed")')
    told.wait_for(timeout=60_000)
    shoot(page, "old-notebook")
    told.get_by_role("button", name="Reconnect").click()
    page.locator('.jp-OutputArea .jrm-live:has-text("session closed")').wait_for()


def test_the_same_in_notebook_7(seven: Jupyter, page: Page, talk: Talk) -> None:
    seven.notebook("seven.ipynb", OPEN.replace('"cells"', '"seven"'), BUSY)
    page.goto(seven.url("notebooks/seven.ipynb"), wait_until="domcontentloaded")
    run_all(page)
    view = live(page)
    gaps = updates_in(page, view)
    assert len(gaps) >= 8, f"{len(gaps)} updates while the cell slept for 8 s"
    execute(page, "jupyter_rm:show-panel")
    page.wait_for_selector('#jupyter_rm-panel .jrm-session[data-session="seven"]', state="visible")
    page.locator("#jupyter_rm-panel").get_by_role("group", name="Views").get_by_role("button", name="Usage").click()
    page.wait_for_selector(".jrm-v-usage .bk-Figure", timeout=60_000)
    beside = page.locator(".jrm-v-usage .jrm-figure")
    until(page, lambda: (beside.bounding_box() or {"height": 0})["height"] > 80, "the view beside has no room")
    shoot(page, "notebook-7")
    assert talk.ours == []
    sessions.open("seven").close()
