"""Where what is told of a site is from: beside its age, in words for people, and with all other columns in sight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_kit import Jupyter, Talk, faults, open_lab, shoot, show_panel, until
from playwright.sync_api import Page

from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session

SITE = """
extends = "sim"
site.url = "sim://{name}?nodes={nodes}"
collect.shared = "{shared}"
"""


@pytest.fixture(scope="module")
def two(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session with a pilot at a site that collects for all its users, and one where the directory is missing."""
    del home
    patch, account = pytest.MonkeyPatch(), tmp_path_factory.mktemp("account")
    patch.setenv("HOME", str(account))
    patch.setenv("XDG_CONFIG_HOME", str(account / "config"))
    shared = account / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    place = account / "config/jupyter_rm/sites"
    place.mkdir(parents=True)
    (place / "hall.toml").write_text(SITE.format(name="hall", nodes=12, shared=shared))
    (place / "attic.toml").write_text(SITE.format(name="attic", nodes=4, shared="/srv/nobody/made/this/place/for/all"))
    session = sessions.open("two")
    for site in ("hall", "attic"):
        pilot = session.pilot(site, nodes=1, cores=1)
        assert pilot.wait(timeout=120) == "ACTIVE", f"{site}: {pilot.reason}"
    yield session
    session.close()
    patch.undo()


def test_who_said_what_is_told_of_a_site(lab: Jupyter, two: Session, page: Page, talk: Talk) -> None:
    open_lab(page, lab)
    show_panel(page)
    page.click(f".jrm-session[data-session={two.name}]")
    page.locator("#jupyter_rm-panel").get_by_role("group", name="Views").get_by_role("button", name="Queue").click()
    queue = page.locator(".jrm-v-queue")
    sites = queue.get_by_role("region", name="Sites, as they were heard of last")
    heads = sites.locator("thead th:visible")
    heads.filter(has_text="Heard from").wait_for()
    at = heads.all_inner_texts().index("Heard from")
    said = {name: sites.locator("tbody tr", has_text=name).locator("th, td").nth(at) for name in ("hall", "attic")}
    until(page, lambda: said["hall"].inner_text() == "collected by you for all", said["hall"].inner_text)
    alone = "own commands; shared collection: /srv/nobody/made/this/place/for/all: No such file or directory"
    until(page, lambda: said["attic"].inner_text() == alone, said["attic"].inner_text)
    assert heads.last.inner_text() == "Collection", "a column in which nothing stands"
    assert sites.locator("tbody tr", has_text="hall").get_by_text(" ago").count() == 2, "two parts with their ages"
    # However long the words are, no column is pushed out of sight.
    fits = "e => e.scrollWidth <= e.clientWidth"
    assert sites.evaluate(fits), "columns lie beyond the edge"
    queue.locator(".bk-Figure").nth(1).wait_for(timeout=60_000)
    heads.filter(has_text="Heard from").scroll_into_view_if_needed()
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")
    shoot(page, "heard-from")
    assert faults(page, ".jrm-v-queue") == []
    assert talk.ours == []
