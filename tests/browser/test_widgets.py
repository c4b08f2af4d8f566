"""Widgets in a real JupyterLab: a form that starts a pilot, a card that ends a task, nothing secret in the file."""

from __future__ import annotations

from lab_kit import Jupyter, Talk, execute, open_lab, shoot, until
from playwright.sync_api import Locator, Page

import jupyter_rm as jrm
from jupyter_rm.client import session as sessions

CELLS = [
    "import jupyter_rm as jrm\n%load_ext jupyter_rm\ns = jrm.open('widgets')",
    "%jrm form slurm+ssh://me@login.cluster.example",
    "%jrm form noop",
    "p = s.pilot('local', cores=1)\nt = s.submit(jrm.Shell('sleep 600', name='long-one'))\nt.view()",
]


def _field(form: Locator, label: str) -> Locator:
    """Return the field of a label, not the box that hides it."""
    return form.get_by_label(label, exact=True).and_(form.locator(":not([type=checkbox])"))


def test_forms_and_cards_act(lab: Jupyter, page: Page, talk: Talk) -> None:
    lab.notebook("widgets.ipynb", *CELLS)
    open_lab(page, lab, "lab/tree/widgets.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=90_000
    )
    execute(page, "notebook:run-all-cells")
    slurm = page.locator(".jrm-form").first
    slurm.wait_for(timeout=60_000)
    _field(slurm, "Nodes").fill("7")
    until(page, lambda: "--nodes=7" in slurm.locator("pre").first.inner_text(), "the command does not follow")
    shoot(page, "form-in-a-cell")

    noop = page.locator(".jrm-form").nth(1)
    _field(noop, "Name").fill("from-the-page")
    until(page, lambda: noop.get_by_role("button", name="Start pilot").is_enabled(), "it cannot be started")
    noop.get_by_role("button", name="Start pilot").click()
    until(page, lambda: "was asked for" in noop.inner_text(), "nothing is told of the pilot")
    session = sessions.open("widgets")
    until(page, lambda: "from-the-page" in [pilot.name for pilot in session.pilots()], "no pilot was asked for")

    card = page.locator(".jrm-card")
    card.scroll_into_view_if_needed()
    until(page, lambda: card.get_by_role("button", name="Cancel").is_enabled(), "the card is not alive")
    assert card.get_by_role("button", name="Try again").is_disabled()
    shoot(page, "card-in-a-cell")
    card.get_by_role("button", name="Cancel").click()
    task = session["t.0.0"]
    assert isinstance(task, jrm.TaskHandle) and task.wait(60) == "CANCELED"
    until(page, lambda: card.get_by_role("button", name="Try again").is_enabled(), "the card does not follow")

    execute(page, "docmanager:save")
    file = lab.files / "widgets.ipynb"
    until(page, lambda: "long-one" in file.read_text(), "the notebook is not saved")
    text = file.read_text()
    assert "a-token-for-browsers" not in text and len(text) < 100_000
    assert [line for line in talk.ours if "pageerror" in line] == []
    session.close()
