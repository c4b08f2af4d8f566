"""Exported pages open by themselves: no server, no network, no frozen page when there is nothing to draw."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_kit import SHOTS, Talk
from playwright.sync_api import Page

import jupyter_rm as jrm
from jupyter_rm import snapshot
from jupyter_rm.client import session as sessions
from jupyter_rm.notebook import look
from jupyter_rm.views import export
from jupyter_rm.views.pictures import Picture, Table
from jupyter_rm.views.windows import DRAWN

DRAWN_JS = """
() => {
  const canvases = [...document.querySelectorAll('*')].flatMap(each => {
    const roots = each.shadowRoot ? [each.shadowRoot] : [];
    const found = [];
    while (roots.length) {
      const root = roots.pop();
      for (const inner of root.querySelectorAll('*')) {
        if (inner.shadowRoot) roots.push(inner.shadowRoot);
        if (inner.tagName === 'CANVAS' && inner.width > 50) found.push(inner);
      }
    }
    return found;
  });
  return canvases.length;
}
"""


@pytest.fixture(scope="module")
def full(home: Path) -> sessions.Session:
    """A session in which a few tasks ran."""
    session = sessions.open("full")
    assert session.pilot("local", cores=2).wait(timeout=60) == "ACTIVE"
    session.submit([jrm.Task("true", name="wolfgang") for _ in range(20)]).wait(timeout=60)
    return session


@pytest.mark.parametrize("view", DRAWN)
@pytest.mark.parametrize("what", ["full", "nothing"])
def test_a_page_draws_itself(full: sessions.Session, page: Page, tmp_path: Path, view: str, what: str) -> None:
    made = tmp_path / f"{view}.html"
    if what == "nothing":  # not even an axis
        shown = look.picture(full, view, {})
        tables = {name: Table(table.columns, []) for name, table in shown.tables.items()}
        made.write_text(export.page(view, Picture(shown.values, tables)))
    else:
        snapshot.save(full, view, made, anonymous=True, theme="dark")
        assert made.stat().st_mode & 0o777 == 0o600 and "wolfgang" not in made.read_text()
    talk = Talk(page)
    page.context.set_offline(True)
    page.goto(made.as_uri())
    page.wait_for_function(f"({DRAWN_JS.strip()})() > 0")
    # It answers, so nothing draws for ever.
    assert page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(() => done(1))))") == 1
    assert [line for line in talk.lines if not line.startswith("warning")] == []
    if what == "full":
        page.screenshot(path=SHOTS / f"export-{view}.png")
