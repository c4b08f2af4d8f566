"""A pilot on another machine from the panel: the form, the login's questions, tasks there. A real sshd that wants a
password and a one-time code."""

from __future__ import annotations

from far_kit import Far
from lab_kit import Jupyter, Talk, open_lab, shoot, show_panel, until
from playwright.sync_api import Page

import jupyter_rm as jrm
from jupyter_rm.client import session as sessions


def test_a_login_asks_in_the_panel(far: Far, afar: Jupyter, page: Page, talk: Talk) -> None:
    session = sessions.open("afar")
    open_lab(page, afar)
    show_panel(page)
    page.click(".jrm-session[data-session=afar]")
    panel = page.locator("#jupyter_rm-panel")
    panel.get_by_role("button", name="Start pilot").click()
    form = panel.get_by_role("form")
    form.get_by_label("Site", exact=True).fill("ssh://alice@tb-mfa")
    form.get_by_label("Cores per node").fill("1")
    start = form.get_by_role("button", name="Start pilot")
    until(page, lambda: start.get_attribute("aria-disabled") is None, "the form cannot be sent")
    start.click()
    asked = panel.get_by_role("region", name="Questions of logins")
    secret = asked.get_by_label("alice@tb-mfa")
    secret.wait_for(timeout=60_000)
    assert secret.get_attribute("type") == "password"
    shoot(page, "question")
    secret.fill(far.password)
    asked.get_by_role("button", name="Answer").click()
    # The next one is another field: the one-time code.
    until(page, lambda: "code" in asked.inner_text().lower() and secret.input_value() == "", "nobody asks for a code")
    code = far.code()
    secret.fill(code)
    asked.get_by_role("button", name="Answer").click()
    page.wait_for_selector('.jrm-pilot:has-text("active")', timeout=90_000)
    asked.wait_for(state="hidden")
    task = session.submit(jrm.Task("hostname"))
    task.wait(timeout=60)
    assert task.state == "DONE", task.reason
    # Answers stand nowhere: not on the page, not in the server's log.
    for answer in (far.password, code):
        assert answer not in page.content() and answer not in afar.said
    session.close()
    assert talk.ours == []
