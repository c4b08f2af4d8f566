"""Log lines in JupyterLab: whose, how bad, with which text; followed while somebody looks, and never HTML."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from lab_kit import Jupyter, Talk, faults, open_lab, shoot, show_panel, until
from playwright.sync_api import Locator, Page, Route

import jupyter_rm as jrm
from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session

EVIL = "<img src=x onerror=window.broken=1> \x1b[31mred\x1b[0m <b>bold</b>"


@pytest.fixture(scope="module")
def logged(lab: Jupyter) -> Iterator[Session]:
    """A session with a pilot whose agent has something to say."""
    del lab
    session = sessions.open("logged")
    pilot = session.pilot("local", cores=1)
    assert pilot.wait(timeout=60) == "ACTIVE", pilot.reason
    yield session
    session.close()


def opened(page: Page, lab: Jupyter) -> Locator:
    """Open the logs by the menu of the session; return the view."""
    open_lab(page, lab)
    show_panel(page)
    page.click(".jrm-session[data-session=logged]", button="right")
    page.locator(".lm-Menu-itemLabel", has_text="Show logs").click()
    view = page.locator(".jrm-v-logs")
    view.locator(".jrm-log-line").first.wait_for()
    return view


def show(page: Page, view: str) -> None:
    order = {"view": view, "session": "logged"}
    page.evaluate("order => window.jupyterapp.commands.execute('jupyter_rm:show-view', order).then(() => null)", order)


def lines(view: Locator) -> list[str]:
    return view.locator(".jrm-log-line > :last-child").all_inner_texts()


def asked(page: Page) -> list[str]:
    """Return a list that grows with every request for log lines."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url) if "/logs?" in request.url else None)
    return found


def quiet(page: Page, requests: list[str]) -> list[str]:
    """Let a minute of the page pass; return what it has asked for in it."""
    drawn = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))"
    page.evaluate(drawn)  # what can be seen is known by then
    count = len(requests)
    for _ in range(20):
        page.clock.run_for(3000)
        page.evaluate(drawn)
    return requests[count:]


def test_lines_are_found_followed_and_left_alone(lab: Jupyter, logged: Session, page: Page, talk: Talk) -> None:
    page.clock.install()  # time goes on as ever, until a test moves it on
    requests = asked(page)
    view = opened(page, lab)
    until(page, lambda: any("agent of p.0" in line for line in lines(view)), lambda: f"not the agent's: {lines(view)}")
    of = view.get_by_label("Of which component")
    assert of.locator("option").all_inner_texts() == ["the broker and all pilots", "broker", "p.0"]
    everything = len(lines(view))
    of.select_option("p.0")
    shown = view.locator(".jrm-log-line > :nth-child(2)")
    until(page, lambda: set(shown.all_inner_texts()) == {"p.0"}, "lines of others are shown")
    assert f" of {everything} lines" in view.locator(".jrm-log-note").inner_text()
    # More of it, from now on; what is logged is followed.
    view.get_by_role("button", name="Log more").click()
    until(page, lambda: view.get_by_role("button", name="Log more").get_attribute("aria-pressed") == "true", "no word")
    logged.submit(jrm.Task("true")).wait(timeout=60)
    until(page, lambda: any("Launch: 1 tasks" in line for line in lines(view)), lambda: f"not followed: {lines(view)}")
    view.get_by_role("searchbox").fill("launch:")
    until(page, lambda: lines(view) and all("Launch:" in line for line in lines(view)), "the text finds others")
    view.get_by_label("Show which levels").select_option("ERROR")
    until(page, lambda: not lines(view), "an error is found where there is none")
    view.get_by_label("Show which levels").select_option("")
    view.get_by_role("searchbox").fill("")
    assert faults(page, ".jrm-v-logs") == []
    shoot(page, "logs")
    # Nobody looks: nothing is asked for; afterwards all of it is there.
    show(page, "usage")
    page.locator(".jrm-v-usage .jrm-live:has-text('live')").wait_for()
    view.wait_for(state="hidden")
    logged.submit(jrm.Task("true")).wait(timeout=60)
    assert quiet(page, requests) == []
    show(page, "logs")
    until(page, lambda: sum("Launch:" in line for line in lines(view)) == 2, "what was logged meanwhile is missing")
    # Not followed: still. Followed again: all of it.
    follow = view.get_by_role("button", name="Follow")
    follow.click()
    until(page, lambda: view.locator(".jrm-live").inner_text() == "stopped", "it is not said that it stands still")
    logged.submit(jrm.Task("true")).wait(timeout=60)
    assert quiet(page, requests) == []
    assert sum("Launch:" in line for line in lines(view)) == 2
    follow.click()
    until(page, lambda: sum("Launch:" in line for line in lines(view)) == 3, "it does not go on")
    view.get_by_role("button", name="Log more").click()
    until(page, lambda: view.get_by_role("button", name="Log more").get_attribute("aria-pressed") == "false", "no word")
    assert talk.ours == []


def altered(change: Callable[[dict[str, object]], None]) -> Callable[[Route], None]:
    """Return a route that lets the real answer be other than it was."""

    def handle(route: Route) -> None:
        answer = route.fetch()
        told = json.loads(answer.body())
        change(told)
        route.fulfill(response=answer, body=json.dumps(told))

    return handle


def test_a_long_log_is_cut_and_no_line_becomes_html(lab: Jupyter, logged: Session, page: Page, talk: Talk) -> None:
    del logged

    def longer(told: dict[str, object]) -> None:
        if told["component"] == "broker" and told["lines"]:
            many = [
                {"no": n, "at": 1.7e9 + n, "level": "INFO" if n % 100 else "ERROR", "name": "x", "text": f"line {n}"}
                for n in range(1, 1900)
            ]
            many[-1] |= {"text": EVIL, "level": "WARNING"}
            told |= {"lines": many, "dropped": 4321}

    page.route("**/logs?component=broker*", altered(longer))
    view = opened(page, lab)
    view.get_by_label("Of which component").select_option("broker")
    note = view.locator(".jrm-log-note")
    until(page, lambda: "the last 1,000 are shown" in note.inner_text(), note.inner_text)
    assert "4,321 older ones were not kept" in note.inner_text()
    assert len(lines(view)) == 1000 and lines(view)[-1].startswith("<img src=x")
    assert page.evaluate("window.broken") is None and view.locator(".jrm-log img, .jrm-log b").count() == 0
    # The newest are in sight; who scrolls away is offered the way back.
    box = view.get_by_role("log")
    at_end = "e => e.scrollTop + e.clientHeight >= e.scrollHeight - 4"
    assert box.evaluate(at_end)
    box.focus()
    page.keyboard.press("Home")
    back = view.get_by_role("button", name="To the end")
    back.wait_for()
    back.click()
    until(page, lambda: box.evaluate(at_end), "the button does not lead to the end")
    view.get_by_label("Show which levels").select_option("ERROR")
    until(page, lambda: lines(view) == [f"line {n}" for n in range(100, 1900, 100)], lambda: f"{lines(view)}")
    view.get_by_label("Show which levels").select_option("WARNING")
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.locator(".jrm-v-logs.jrm-dark").wait_for()
    page.wait_for_function(
        "() => getComputedStyle(document.querySelector('.jrm-v-logs')).backgroundColor.match(/\\d+/)[0] < 100"
    )
    assert faults(page, ".jrm-v-logs") == []
    shoot(page, "logs-dark")
    assert talk.ours == []


def test_who_may_not_read_is_told(lab: Jupyter, logged: Session, page: Page) -> None:
    del logged
    told = {"code": "JRM-H403", "message": "not for you", "hint": "ask who runs this server", "retry": False}
    page.route("**/logs?*", lambda route: route.fulfill(status=403, json=told))
    open_lab(page, lab)
    show(page, "logs")
    notice = page.locator(".jrm-v-logs .jrm-notice")
    notice.wait_for()
    assert "not for you" in notice.inner_text() and "ask who runs" in notice.inner_text()
    assert page.locator(".jrm-v-logs .jrm-live").inner_text() == "not connected"
