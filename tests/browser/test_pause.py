"""A pilot is suspended and goes on again from the panel: by its button, its menu, the palette and the keyboard; and who
cannot be suspended says why. The batch system is this machine with two commands more, so what stands still is real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_kit import Jupyter, Talk, execute, faults, open_lab, shoot, show_panel, until
from playwright.sync_api import Locator, Page

import jupyter_rm as jrm
from jupyter_rm.client import session as sessions
from jupyter_rm.client.pilot import Pilot
from jupyter_rm.client.session import Session

SYSTEM = """
extends = "local"
title = "naps"
site.url = "naps://localhost"
[ops.suspend]
constant = 'for id in "$@"; do pkill -STOP -s "${id%%.*}"; done'
argv = ["/bin/sh", "-c", "{constant}", "suspend", "{ids:each}"]
[ops.resume]
constant = 'for id in "$@"; do pkill -CONT -s "${id%%.*}"; done'
argv = ["/bin/sh", "-c", "{constant}", "resume", "{ids:each}"]
"""


@pytest.fixture(scope="module")
def naps(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session with a pilot whose system can suspend it (p.0), one on this machine and one of a system that cannot."""
    del home
    patch, account = pytest.MonkeyPatch(), tmp_path_factory.mktemp("account")
    patch.setenv("HOME", str(account))  # of the broker, and of the pilots
    patch.setenv("XDG_CONFIG_HOME", str(account / "config"))
    place = account / "config/jupyter_rm/sites"
    place.mkdir(parents=True)
    (place / "naps.toml").write_text(SYSTEM)
    (place / "plain.toml").write_text('extends = "local"\ntitle = "plain"\n')
    session = sessions.open("naps")
    for site in ("naps", "local", "plain://localhost"):
        pilot = session.pilot(site, cores=1)
        assert pilot.wait(timeout=120) == "ACTIVE", f"{site}: {pilot.reason}"
    yield session
    session.close()
    patch.undo()


def line(page: Page, uid: str) -> Locator:
    """What the panel shows of a pilot."""
    return page.locator(f'#jupyter_rm-panel .jrm-pilot[data-uid="{uid}"]')


def stands(pilot: Pilot, still: bool) -> Callable[[], bool]:
    return lambda: pilot.suspended is still


def test_a_pilot_is_suspended_and_goes_on(lab: Jupyter, naps: Session, page: Page, talk: Talk) -> None:
    pilot = naps["p.0"]
    assert isinstance(pilot, Pilot)
    open_lab(page, lab)
    show_panel(page)
    page.click(".jrm-session[data-session=naps]")
    mine = line(page, "p.0")
    # By its button, which then offers the way back.
    suspend, resume = (mine.get_by_role("button", name=f"{word} pilot p.0") for word in ("Suspend", "Resume"))
    until(page, lambda: suspend.get_attribute("aria-disabled") is None, lambda: f"{suspend.get_attribute('title')}")
    suspend.click()
    until(page, stands(pilot, True), lambda: f"not suspended: {pilot.reason}")
    resume.wait_for()
    until(page, lambda: "suspended at naps" in mine.inner_text(), mine.inner_text)
    assert "unreachable" not in mine.inner_text()
    task = naps.submit(jrm.Task("true", pilot="p.0"))
    shoot(page, "suspended")
    assert faults(page, "#jupyter_rm-panel") == []
    # By the keyboard.
    resume.focus()
    page.keyboard.press("Enter")
    until(page, stands(pilot, False), lambda: f"still suspended: {pilot.reason}")
    assert task.wait(timeout=60) == "DONE", task.reason
    suspend.wait_for()
    # By its menu.
    mine.locator("b").click(button="right")
    menu = page.locator(".lm-Menu")
    menu.wait_for()
    assert {"Suspend a pilot", "Resume a pilot"} <= set(menu.locator(".lm-Menu-itemLabel").all_inner_texts())
    menu.locator(".lm-Menu-itemLabel", has_text="Suspend a pilot").click()
    until(page, stands(pilot, True), lambda: f"not suspended by its menu: {pilot.reason}")
    page.wait_for_selector('.Toastify__toast:has-text("p.0 is suspended")')
    # By the palette, whichever can.
    execute(page, "jupyter_rm:resume-pilot")
    until(page, stands(pilot, False), lambda: f"not resumed by the command: {pilot.reason}")
    execute(page, "jupyter_rm:resume-pilot")
    page.wait_for_selector('.Toastify__toast:has-text("p.0: It is not suspended")')
    assert talk.ours == []


def test_who_cannot_be_suspended_says_why(lab: Jupyter, naps: Session, page: Page, talk: Talk) -> None:
    open_lab(page, lab)
    show_panel(page)
    page.click(".jrm-session[data-session=naps]")
    for uid, why in (("p.1", "no batch job"), ("p.2", "Its site cannot do that")):
        grey = line(page, uid).get_by_role("button", name=f"Suspend pilot {uid}")
        until(page, lambda grey=grey, why=why: why in (grey.get_attribute("title") or ""), f"{uid} does not say {why}")  # type: ignore[misc]
        assert grey.get_attribute("aria-disabled") == "true"
        grey.click(force=True)  # does nothing
    # The menu of such a pilot answers in the same words.
    line(page, "p.2").locator("b").click(button="right")
    page.locator(".lm-Menu-itemLabel", has_text="Suspend a pilot").click()
    page.wait_for_selector('.Toastify__toast:has-text("p.2: Its site cannot do that")')
    assert page.locator("#jupyter_rm-panel .jrm-notice").count() == 0
    assert not any(pilot.suspended for pilot in naps.pilots())
    assert talk.ours == []
