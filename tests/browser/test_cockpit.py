"""A person at JupyterLab: opens a session from the launcher, asks for a pilot, watches tasks, reads why one failed,
cancels one, finds things again. Everything is real: server, broker, agent, tasks, Chromium."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab_kit import ROOT, Jupyter, Talk, execute, faults, open_lab, shoot, show_panel, until
from playwright.sync_api import Page

import jupyter_rm as jrm
from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session
from jupyter_rm.views import palette

EVIL = "<img src=x onerror=window.broken=1><b>bold</b>"


@pytest.fixture(scope="module")
def study(lab: Jupyter) -> Session:
    """A session with a pilot of two cores and tasks of all kinds: 40 that end, one in ten of them badly."""
    session = sessions.open("study")
    pilot = session.pilot("local", cores=2)
    assert pilot.wait(timeout=60) == "ACTIVE", pilot.reason
    script = f"echo '{EVIL}'; printf '\\033[31mred\\033[0m\\n'; echo oh >&2; exit $(($0 % 10 == 3))"
    bulk = session.submit([jrm.Task("sh", ["-c", script, str(n)], name=f"step-{n}") for n in range(40)])
    bulk.wait(timeout=60)
    return session


def dark(page: Page, on: bool) -> None:
    name = "JupyterLab Dark" if on else "JupyterLab Light"
    page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
    page.wait_for_function("on => document.body.dataset.jpThemeLight === String(!on)", arg=on)
    # Style sheets come a little later than the mark.
    page.wait_for_function(
        "on => { const panel = document.querySelector('#jupyter_rm-panel');"
        " return (getComputedStyle(panel).backgroundColor.match(/\\d+/)[0] < 100) === on; }",
        arg=on,
    )


def test_from_the_launcher_to_a_pilot_and_its_tasks(lab: Jupyter, page: Page, talk: Talk) -> None:
    open_lab(page, lab)
    page.click('.jp-LauncherCard[title*="Open a session"]')
    page.fill(".jp-Dialog input", "from-launcher")
    page.keyboard.press("Enter")
    page.wait_for_selector('.jrm-session[data-session="from-launcher"][aria-current=true]')
    panel = page.locator("#jupyter_rm-panel")
    panel.get_by_role("button", name="Start pilot").click()
    form = panel.get_by_role("form")
    form.get_by_label("Cores per node").fill("many")
    until(page, lambda: form.locator("[aria-invalid=true]").count() == 1, "a bad number is not told")
    start = form.get_by_role("button", name="Start pilot")
    until(page, lambda: start.get_attribute("aria-disabled") == "true", "a bad form can be sent")
    assert "Not yet" in (start.get_attribute("title") or ""), "a grey button says nothing"
    form.get_by_label("Cores per node").fill("2")
    until(page, lambda: start.get_attribute("aria-disabled") is None, "a good form cannot be sent")
    start.click()
    page.wait_for_selector('.jrm-pilot:has-text("active")', timeout=60_000)
    page.wait_for_selector('.Toastify__toast:has-text("is active")')
    session = sessions.open("from-launcher")
    session.submit([jrm.Task("sleep", ["60"]), jrm.Task("sh", ["-c", "exit 3"])])
    page.wait_for_selector('#jupyter_rm-panel .jrm-chip[data-state=FAILED]:has-text("1")')
    page.wait_for_selector('#jp-main-statusbar >> text="1 failed"')
    # A notice leads to what failed.
    page.click('.Toastify__toast button:has-text("Show them")')
    page.wait_for_selector('.jrm-v-tasks .jrm-row:has-text("exit code 3")')
    assert page.locator(".jrm-v-tasks .jrm-row").count() == 1, "the notice shows more than what failed"
    # Among what runs it can be ended.
    page.click('li[data-id="jp-running-sessions"]')
    item = page.locator('.jp-RunningSessions-item:has-text("1 open")')
    item.hover()
    item.get_by_role("button").last.click()
    until(page, lambda: session.closed, "the session was not closed from the list of what runs")
    assert talk.ours == []


def test_tasks_are_found_explained_and_canceled(lab: Jupyter, study: Session, page: Page, talk: Talk) -> None:
    open_lab(page, lab)
    show_panel(page)
    page.click(".jrm-session[data-session=study]")
    page.click('#jupyter_rm-panel .jrm-chip[data-state="FAILED"]')
    view = page.locator(".jrm-v-tasks")
    rows = view.locator(".jrm-row")
    until(page, lambda: rows.count() == 4, "four tasks have failed")
    assert "4 of 40 tasks" in view.inner_text()
    view.get_by_role("button", name="Lasted").click()
    until(page, lambda: view.locator("[aria-sort=ascending]").inner_text().startswith("Lasted"), "not sorted")
    view.get_by_role("button", name="Task", exact=False).first.click()
    rows.first.click()
    drawer = view.locator(".jrm-drawer")
    drawer.locator("text=exit code").first.wait_for()
    drawer.locator(".jrm-out").first.wait_for()
    # Output is text: nothing of it became an element, nothing of it ran, terminal commands are gone.
    output = drawer.locator(".jrm-out").first.inner_text()
    assert output.splitlines() == [EVIL, "red"], output
    assert view.locator("img, .jrm-out b").count() == 0
    assert page.evaluate("window.broken") is None
    assert "read its standard error" in drawer.locator(".jrm-next").inner_text()
    assert drawer.locator(".jrm-story li").count() > 2
    cancel = drawer.get_by_role("button", name="Cancel")
    assert cancel.get_attribute("title") == "It has ended already", "a grey button without a reason"
    page.wait_for_selector(".jrm-v-tasks .jrm-figure canvas, .jrm-v-tasks .jrm-figure .bk-Figure")
    # All states again, and one that runs: canceled with the button.
    view.locator(".jrm-chip[data-state=FAILED]").click()
    task = study.submit(jrm.Task("sleep", ["300"], name="to-cancel"))
    view.get_by_label("Search tasks").fill("to-cancel")
    until(page, lambda: rows.count() == 1 and "running" in rows.first.inner_text(), "the search does not find it")
    rows.first.click()
    drawer.locator(f"h3:has-text('{task.uid}')").wait_for()
    drawer.get_by_role("button", name="Cancel").click()
    task.wait(timeout=60)
    assert task.state == "CANCELED"
    until(page, lambda: "canceled" in rows.first.inner_text(), "the table does not show it")
    view.get_by_label("Search tasks").fill("")
    until(page, lambda: rows.count() > 9, "the search is not given up")
    # The keyboard is enough: rows by arrows, details by Enter, closed by Escape.
    grid = view.get_by_role("grid")
    grid.focus()
    for key in ("Home", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    drawer.locator("h3:has-text('t.0.1')").wait_for()
    page.keyboard.press("Escape")
    drawer.wait_for(state="hidden")
    assert talk.ours == []


def test_nothing_serious_for_those_who_cannot_see_or_point(lab: Jupyter, study: Session, page: Page) -> None:
    open_lab(page, lab)
    show_panel(page)
    page.click(".jrm-session[data-session=study]")
    page.locator("#jupyter_rm-panel").get_by_role("button", name="Start pilot").click()
    page.locator("#jupyter_rm-panel form .jrm-row2").nth(2).wait_for()
    found: list[str] = []
    for view in ("Tasks", "Nodes", "Queue", "Timeline", "Usage"):
        page.locator("#jupyter_rm-panel").get_by_role("group", name="Views").get_by_role("button", name=view).click()
        page.wait_for_selector(f".jrm-v-{view.lower()} .bk-Figure", timeout=60_000)
        page.wait_for_selector(f'.jrm-v-{view.lower()} .jrm-live:has-text("live")')
    page.locator("#jupyter_rm-panel").get_by_role("button", name="Not now").click()
    for on in (True, False):
        dark(page, on)
        found += faults(page, "#jupyter_rm-panel")
        for view in ("Tasks", "Nodes", "Queue", "Timeline", "Usage"):
            page.click(f'.lm-TabBar-tabLabel:has-text("{view} · study")')
            if view == "Tasks":
                page.locator(".jrm-v-tasks .jrm-row").nth(3).click()
                page.locator(".jrm-drawer .jrm-out").first.wait_for()
            page.wait_for_timeout(300)
            shoot(page, f"{view.lower()}-{'dark' if on else 'light'}")
            found += faults(page, f".jrm-v-{view.lower()}")
    assert found == []


def test_the_node_map_is_drilled_into_and_choices_are_shown_everywhere(
    lab: Jupyter, study: Session, page: Page, talk: Talk
) -> None:
    running = study.submit([jrm.Task("sleep", ["300"], name="held") for _ in range(2)])
    open_lab(page, lab)
    show_panel(page)
    page.click(".jrm-session[data-session=study]")
    views = page.locator("#jupyter_rm-panel").get_by_role("group", name="Views")
    views.get_by_role("button", name="Nodes").click()
    canvas = page.locator(".jrm-v-nodes .bk-Figure").first
    canvas.wait_for()
    crumbs = page.locator(".jrm-v-nodes .jrm-crumbs")
    until(page, lambda: crumbs.locator("[aria-current]").count() == 1, "no way back is shown")
    top = crumbs.inner_text()
    page.wait_for_timeout(500)
    box = canvas.bounding_box()
    assert box
    page.mouse.click(box["x"] + 120, box["y"] + 60)
    until(page, lambda: crumbs.inner_text() != top, "a click on a node does not lead into it")
    shoot(page, "drilled")
    crumbs.get_by_role("button").first.click()
    until(page, lambda: crumbs.inner_text() == top, "no way back out")
    page.locator("#jupyter_rm-panel").get_by_role("button", name="Highlight").click()
    until(page, lambda: page.input_value(".jrm-v-nodes input[data-field=select]") == "p.0", "the choice is not shown")
    running.cancel()
    running.wait(timeout=60)
    assert talk.ours == []


def test_two_tabs_show_the_same_and_a_closed_session_says_so(lab: Jupyter, page: Page) -> None:
    open_lab(page, lab)
    other = page.context.new_page()
    open_lab(other, lab)
    for each in (page, other):
        show_panel(each)
    execute(page, "jupyter_rm:open-session")
    page.fill(".jp-Dialog input", "tabs")
    page.keyboard.press("Enter")
    for each in (page, other):
        each.click(".jrm-session[data-session=tabs]")
        each.locator("#jupyter_rm-panel").get_by_role("group", name="Views").get_by_role("button", name="Tasks").click()
        each.wait_for_selector('.jrm-v-tasks:has-text("No tasks yet")')
    page.locator("#jupyter_rm-panel").get_by_role("button", name="Close session").click()
    page.click('.jp-Dialog button:has-text("Close it")')
    for each in (page, other):
        each.wait_for_selector('.jrm-v-tasks .jrm-live:has-text("session closed")')
        each.wait_for_selector('.jrm-v-tasks:has-text("closed before any was submitted")')
    other.close()


def test_the_page_has_the_colours_and_words_of_the_palette() -> None:
    text = Path(ROOT / "labextension/src/core/texts.ts").read_text()
    for name, mark in palette.MARKS.items():
        if f"\n  {name}: mark(" not in text:
            continue
        wanted = f"{name}: mark('{mark.letter}', '{mark.text}', '{palette.LIGHT.of(name)}', '{palette.DARK.of(name)}')"
        assert wanted in text, f"texts.ts should say {wanted}"
    for name in ("WAITING", "RUNNING", "DONE", "FAILED", "CANCELED", "QUEUED", "ACTIVE"):
        assert f"\n  {name}: mark(" in text
    version = json.loads((ROOT / "labextension/package.json").read_text())["version"]
    assert version == jrm.__version__
