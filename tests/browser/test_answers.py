"""Buttons that say what they did, and beforehand what they cannot do; mistakes that are told as mistakes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from lab_kit import SHOTS, Jupyter, Talk, execute, faults, free_port, open_lab, shoot, show_panel, until
from playwright.sync_api import Locator, Page

import jupyter_rm as jrm
from jupyter_rm.client import admin
from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session

LOOKING = """
from jupyter_server.auth.authorizer import Authorizer
class Looking(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return action == "read" or not resource.startswith("jupyter_rm:")
"""
COLOURS = """
async url => {
  const image = new Image();
  image.src = url;
  await image.decode();
  const pen = new OffscreenCanvas(image.width, image.height).getContext('2d');
  pen.drawImage(image, 0, 0);
  const words = new Uint32Array(pen.getImageData(0, 0, image.width, image.height).data.buffer);
  return [image.width, image.height, new Set(words).size];
}
"""
REFUSED = "You may not do this: ask who runs this Jupyter server"


@pytest.fixture(scope="module")
def mixed(home: Path) -> Iterator[Session]:
    """A session with a pilot, a task that failed (t.0.0) and one that runs (t.1.0)."""
    del home
    session = sessions.open("mixed")
    pilot = session.pilot("local", cores=2)
    assert pilot.wait(timeout=60) == "ACTIVE", pilot.reason
    session.submit(jrm.Task("sh", ["-c", "exit 2"])).wait(timeout=60)
    session.submit(jrm.Task("sleep", ["600"]))
    yield session
    session.close()


def chosen(page: Page, view: str) -> Locator:
    show_panel(page)
    page.click(".jrm-session[data-session=mixed]")
    page.locator("#jupyter_rm-panel").get_by_role("group", name="Views").get_by_role("button", name=view).click()
    shown = page.locator(f".jrm-v-{view.lower()}")
    shown.locator('.jrm-live:has-text("live")').wait_for()
    return shown


def grey(which: Locator) -> str:
    """Why a button cannot be pressed; empty: it can."""
    off = which.get_attribute("aria-disabled") == "true"
    return (which.get_attribute("title") or "no reason") if off else ""


def test_buttons_over_the_table_say_what_they_did(lab: Jupyter, mixed: Session, page: Page, talk: Talk) -> None:
    open_lab(page, lab)
    view = chosen(page, "Tasks")
    bar = view.locator(".jrm-bar")
    retry, said = bar.get_by_role("button", name="Retry"), view.locator(".jrm-said")
    failed, running = (view.locator(f".jrm-row:has-text('{uid}')") for uid in ("t.0.0", "t.1.0"))
    running.click()
    until(page, lambda: "Retry 1" in retry.inner_text(), "it is not chosen")
    assert grey(retry) == "It has neither failed nor been canceled"
    failed.click(modifiers=["Control"])
    until(page, lambda: "Retry 2" in retry.inner_text() and not grey(retry), lambda: f"not offered: {grey(retry)}")
    failed.click()
    bar.get_by_role("button", name="Cancel").click()
    until(page, lambda: said.is_visible() and "0 of 1" in said.inner_text(), "nobody says that nothing was canceled")
    retry.click()
    until(page, lambda: "1 task submitted again" in said.inner_text(), lambda: f"it says: {said.inner_text()!r}")
    assert faults(page, ".jrm-v-tasks") == []
    shoot(page, "said")
    # The story begins with what happened, not with its own heading.
    story = view.locator(".jrm-story li")
    story.nth(1).wait_for()
    assert "what happened" not in story.first.inner_text()
    causes = page.locator("#jupyter_rm-panel .jrm-reason").first
    until(page, lambda: "the program ended with an error" in causes.inner_text(), lambda: causes.inner_text())
    assert talk.ours == []


def saved(page: Page, view: Locator, to: Path) -> tuple[int, int, int]:
    """Press the button; return width, height and how many colours the picture has."""
    with page.expect_download() as waits:
        view.get_by_role("button", name="Save picture").click()
    download = waits.value
    assert download.suggested_filename.startswith("mixed-") and download.suggested_filename.endswith(".png")
    download.save_as(to)
    assert to.read_bytes().startswith(b"\x89PNG")
    url = "data:image/png;base64," + base64.b64encode(to.read_bytes()).decode()
    width, height, colours = page.evaluate(COLOURS, url)
    return int(width), int(height), int(colours)


def test_what_is_drawn_is_saved_as_one_picture(lab: Jupyter, mixed: Session, page: Page, talk: Talk) -> None:
    open_lab(page, lab)
    for name in ("Tasks", "Nodes", "Queue", "Timeline", "Usage"):
        view = chosen(page, name)
        figures = view.locator(".jrm-figure .bk-Figure")
        figures.first.wait_for()
        page.wait_for_timeout(500)  # Bokeh paints when the page has a moment
        boxes = [box for box in (each.bounding_box() for each in figures.all() if each.is_visible()) if box]
        width, height, colours = saved(page, view, SHOTS / f"saved-{name.lower()}.png")
        # All figures of the view, not the first of them.
        assert height >= max(box["y"] + box["height"] for box in boxes) - min(box["y"] for box in boxes), name
        assert width >= max(box["width"] for box in boxes) - 2 and colours > 5, (
            f"{name}: {width} wide, {colours} colours"
        )
    assert talk.ours == []


def test_a_mistake_in_a_highlight_is_no_lost_line(lab: Jupyter, mixed: Session, page: Page, talk: Talk) -> None:
    open_lab(page, lab)
    view = chosen(page, "Nodes")
    live, field = view.locator(".jrm-live"), view.locator("input[data-field=select]")
    field.fill("nope")
    told = view.locator(".jrm-notice")
    told.wait_for()
    assert "'nope'" in told.inner_text() and "t.3.17 (a task)" in told.inner_text()
    until(page, lambda: "ago" in live.inner_text(), lambda: f"the head says: {live.inner_text()}")
    assert "connecting" not in live.inner_text()
    field.fill("t.99.0")
    said = view.locator(".jrm-said")
    until(page, lambda: said.is_visible() and "t.99.0" in said.inner_text(), "nobody says that there is no such task")
    assert live.inner_text() == "live"
    told.wait_for(state="detached")
    field.fill("p.0")
    said.wait_for(state="hidden")
    assert talk.ours == []


def test_a_broker_that_hangs_is_told_above_the_view(lab: Jupyter, mixed: Session, page: Page) -> None:
    open_lab(page, lab)
    view = chosen(page, "Tasks")
    status = admin.status()
    assert status is not None
    broker = psutil.Process(int(status["pid"]))
    broker.suspend()
    try:
        until(page, lambda: "live" not in view.locator(".jrm-live").inner_text(), "it is shown as live", 12)
        assert "the broker cannot be reached just now" in view.locator(".jrm-told").inner_text()
        view.locator(".jrm-row:has-text('t.0.0')").click()
        drawer = view.locator(".jrm-drawer")
        until(page, lambda: "the broker does not answer" in drawer.inner_text(), drawer.inner_text, 12)
        shoot(page, "hangs")
    finally:
        broker.resume()
    view.locator('.jrm-live:has-text("live")').wait_for()


def test_who_may_only_look_finds_buttons_that_say_so(home: Path, mixed: Session, page: Page, talk: Talk) -> None:
    port = free_port()
    place = home / f"lab-{port}"
    place.mkdir()
    (place / "looking.py").write_text(LOOKING)
    jupyter = Jupyter(home, "lab", port, "--ServerApp.authorizer_class=looking.Looking")
    try:
        open_lab(page, jupyter)
        view = chosen(page, "Tasks")
        panel = page.locator("#jupyter_rm-panel")
        in_panel = ("+ Open", "Close session", "Retry failed", "Detach", "Start pilot")
        for name in (*in_panel, "Drain pilot p.0", "Cancel pilot p.0"):
            which = panel.get_by_role("button", name=name)
            until(page, lambda which=which: grey(which) == REFUSED, f"{name} does not say that it is not allowed")  # type: ignore[misc]
        view.locator(".jrm-row:has-text('t.1.0')").click()
        cancel = view.locator(".jrm-bar").get_by_role("button", name="Cancel")
        until(page, lambda: grey(cancel) == REFUSED, "tasks can be canceled")
        drawn = view.locator(".jrm-drawer").get_by_role("button", name="Cancel")
        until(page, lambda: grey(drawn) == REFUSED, "the task can be canceled beside the table")
        # The palette offers it all the same: it asks for nothing, and says why.
        execute(page, "jupyter_rm:close-session")
        page.wait_for_selector(f'.Toastify__toast:has-text("JRM-H403: {REFUSED}")')
        execute(page, "jupyter_rm:start-pilot")
        submit = panel.locator("form").get_by_role("button", name="Start pilot")
        until(page, lambda: grey(submit) == REFUSED, lambda: f"the form can be sent: {grey(submit)}")
        assert page.locator(".jp-Dialog").count() == 0
        assert faults(page, "#jupyter_rm-panel") == []
        assert talk.ours == []
    finally:
        jupyter.stop()
