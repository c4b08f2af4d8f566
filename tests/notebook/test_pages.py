"""The pages of widgets in a real browser, with a model that stands for the widget machinery of whatever page it is."""

from __future__ import annotations

import base64
import json
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import show
from jupyter_rm.client.session import Session
from jupyter_rm.notebook import fed, live, widgets
from jupyter_rm.notebook.asking import described
from jupyter_rm.notebook.widgets import PAGES
from jupyter_rm.runtime.connect import Question
from jupyter_rm.views.forms import form_of, system_of

# What anywidget gives a page: traits, messages both ways. ``sent`` is what the kernel would get.
MODEL = """
window.start = async (text, state) => {
  if (window.end) window.end();
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const page = (await import(url)).default;
  const heard = {};
  window.sent = [];
  window.state = state;
  window.model = {
    get: name => window.state[name],
    set: (name, value) => { throw new Error(`nothing is synced back: ${name}`); },
    send: told => window.sent.push(told),
    on: (name, act) => (heard[name] = heard[name] || []).push(act),
    off: (name, act) => (heard[name] = (heard[name] || []).filter(each => each !== act)),
  };
  window.change = shown => { window.state.shown = shown; (heard["change:shown"] || []).forEach(act => act()); };
  window.tell = (content, packed) => {
    const bytes = Uint8Array.from(atob(packed), each => each.charCodeAt(0));
    (heard["msg:custom"] || []).forEach(act => act(content, [new DataView(bytes.buffer)]));
  };
  window.frame = told => {
    const buffer = new DataView(new TextEncoder().encode(JSON.stringify(told)).buffer);
    (heard["msg:custom"] || []).forEach(act => act({ kind: "frame" }, [buffer]));
  };
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  window.end = await page.render({ model: window.model, el });
};
"""


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 900, "height": 700})
        page.set_default_timeout(20_000)
        page.set_content("<!DOCTYPE html><html><body></body></html>")
        page.add_script_tag(content=MODEL)
        yield page
        browser.close()


def start(page: Page, name: str, state: dict[str, Any]) -> None:
    page.evaluate("([text, state]) => window.start(text, state)", [(PAGES / name).read_text(), state])


def shot(page: Page, tmp_path: Path, name: str) -> None:
    page.screenshot(path=tmp_path / f"{name}.png")


def test_a_launch_form(browser_page: Page, tmp_path: Path) -> None:
    page = browser_page
    system = system_of("slurm+ssh://me@login")
    start(page, "form.js", {"shown": form_of(system, {}, site="slurm+ssh://me@login") | {"told": "", "started": False}})
    assert page.get_by_label("Nodes", exact=True).get_attribute("placeholder") == "1"
    assert "sbatch --parsable" in page.locator("pre").first.inner_text()
    page.get_by_label("Nodes", exact=True).fill("two")
    page.wait_for_function("window.sent.length === 1")
    told = page.evaluate("window.sent[0]")
    assert told["op"] == "fill" and told["values"]["nodes"] == "two"
    page.evaluate("window.change", form_of(system, told["values"]) | {"told": "", "started": False})
    assert page.get_by_label("Nodes", exact=True).get_attribute("aria-invalid") == "true"
    assert "is not a number" in page.locator(".bad").first.inner_text()
    button = page.get_by_role("button", name="Start pilot")
    assert button.is_disabled() and button.get_attribute("title"), "a grey button says why"
    page.get_by_label("Nodes", exact=True).fill("2")
    page.evaluate("window.change", form_of(system, {"nodes": "2"}) | {"told": "", "started": False})
    assert "--nodes=2" in page.locator("pre").first.inner_text()
    shot(page, tmp_path, "form")
    button.click()
    assert page.evaluate("window.sent.at(-1)")["op"] == "start"


def test_a_field_that_means_nothing_hides(browser_page: Page) -> None:
    page = browser_page
    system = system_of("pbs+ssh://me@login")
    start(page, "form.js", {"shown": form_of(system, {}) | {"told": "", "started": False}})
    assert page.get_by_label("Reservation").is_visible()
    page.evaluate("window.change", form_of(system, {"queue": "batch"}) | {"told": "", "started": False})
    assert not page.get_by_label("Reservation").is_visible()


def test_a_password_goes_to_the_kernel_and_nowhere_else(browser_page: Page, tmp_path: Path) -> None:
    page = browser_page
    question = Question("password", "login.site", "me", "<b>Password:</b>")
    start(page, "question.js", {"shown": described(question)})
    assert "<b>Password:</b>" in page.locator("section").inner_text(), "the server's words are text"
    field = page.get_by_label("A password").last
    assert field.get_attribute("type") == "password"
    shot(page, tmp_path, "question")
    field.fill("s3cret!")
    field.press("Enter")
    assert page.evaluate("window.sent") == [{"op": "answer", "text": "s3cret!"}]
    assert "s3cret" not in json.dumps(page.evaluate("window.state"))
    assert "s3cret" not in page.content() and field.input_value() == ""
    assert not field.is_visible()


def test_a_host_key_is_shown_and_chosen(browser_page: Page) -> None:
    page = browser_page
    question = Question("host_key", "new.site", "me", "never seen", fingerprint="SHA256:abc", key_type="ssh-ed25519")
    start(page, "question.js", {"shown": described(question)})
    assert "ssh-ed25519 SHA256:abc" in page.locator("section").inner_text()
    page.get_by_role("button", name="Do not connect").click()
    assert page.evaluate("window.sent") == [{"op": "cancel"}]
    start(page, "question.js", {"shown": described(question)})
    page.evaluate("window.change", {**described(question), "over": "settled"})
    assert page.get_by_role("status").inner_text().endswith("settled")
    assert page.get_by_role("button").count() == 0 or not page.get_by_role("button").first.is_visible()


def test_a_view_draws_frames_as_text(browser_page: Page, tmp_path: Path) -> None:
    page = browser_page
    start(page, "view.js", {"view": "tasks", "session": "study"})
    page.wait_for_function("window.sent.length === 2")
    assert page.evaluate("window.sent") == [{"op": "show"}, {"op": "library"}]
    rows = [["t.0.0", "RUNNING", "<img src=x onerror=window.hit=1>"], ["t.0.1", "DONE", ""]]
    first = {
        "kind": "snapshot",
        "seq": 1,
        "values": {"counts": {"RUNNING": 1, "DONE": 1}},
        "tables": {"tasks": {"columns": ["uid", "state", "reason"], "rows": rows}},
    }
    page.evaluate("window.frame", first)
    page.wait_for_selector("td >> text=t.0.1")
    assert "<img src=x" in page.locator("table").inner_text() and page.locator("table img").count() == 0
    delta = {"kind": "delta", "seq": 2, "values": {"counts": {"DONE": 2}}, "tables": {"tasks": {"gone": [0]}}}
    page.evaluate("window.frame", delta)
    page.wait_for_function("document.querySelectorAll('tbody tr').length === 1")
    assert "2 of 2 tasks ended" in page.locator(".jrm-fed").inner_text()
    shot(page, tmp_path, "view")
    page.evaluate("window.frame", {**delta, "seq": 9})
    assert page.evaluate("window.sent.at(-1)") == {"op": "resync"}
    lost = {"kind": "lost", "message": "it was left", "code": "JRM-T06", "hint": "open it again"}
    page.evaluate("window.frame", lost)
    assert "open it again" in page.locator(".lost").inner_text()
    page.evaluate("window.end()")
    assert page.evaluate("window.sent.at(-1)") == {"op": "hide"}
    assert page.evaluate("window.hit") is None


class Between:
    """Carries messages between a widget of this process and its page, as comms do."""

    def __init__(self, page: Page, widget: Any) -> None:
        self.page, self.widget = page, widget
        self.said: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
        self.taken = 0
        self.asked: list[dict[str, Any]] = []
        widget.send = lambda content, buffers: self.said.put((content, bytes(buffers[0])))

    def until(self, there: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 40
        while not there():
            assert time.monotonic() < deadline, f"{what}; the page asked {self.asked[-5:]}"
            told = self.page.evaluate("start => window.sent.slice(start)", self.taken)
            self.taken += len(told)
            self.asked += told
            for each in told:
                self.widget._handle_custom_msg(each, [])
            try:
                content, data = self.said.get(timeout=0.05)
            except queue.Empty:
                continue
            self.page.evaluate("([c, d]) => window.tell(c, d)", [content, base64.b64encode(data).decode()])


def test_a_view_without_any_server_is_the_view_of_jupyterlab(
    browser_page: Page, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fed.LIBRARY.is_file(), "built by scripts/build-lab.sh"
    page = browser_page
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    bulk = session.array(jrm.Shell("echo said $N; exit $N", environment={"N": "{n}"}), n=[0, 0, 3])
    widget = fed.widget(session, "tasks", {})
    between = Between(page, widget)
    start(page, "view.js", {"view": "tasks", "session": session.name})
    rows = page.locator(".jrm-v-tasks [role=row]")
    between.until(lambda: rows.count() >= 4, "the table is there")
    between.until(lambda: page.locator(".bk-Figure").count() > 0, "BokehJS came through the kernel and drew")
    bulk.wait()
    between.until(lambda: "FAILED" in page.locator(".jrm-v-tasks").inner_text().upper(), "the view goes on")
    page.locator(".jrm-v-tasks [role=row]").filter(has_text="t.0.2").dblclick()
    between.until(lambda: "said 3" in page.locator(".jrm-v-tasks").inner_text(), "the details of a task")
    shot(page, tmp_path, "fed")
    assert not any(told["op"] == "resync" for told in between.asked)
    assert {told["path"].split("?")[0] for told in between.asked if told["op"] == "ask"} >= {"api/figures/tasks"}
    assert errors == []
    assert not page.locator(".jrm-fed").is_visible(), "the plain tables have gone"
    page.evaluate("window.end()")
    widget.close()


def test_cards_follow_and_act(browser_page: Page, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    page = browser_page
    monkeypatch.setattr(show, "viewer", lambda: live)
    monkeypatch.setattr(widgets, "somebody_looks", lambda: True)
    task = session.submit(jrm.Shell("sleep 600", name="long-one"))
    made = task.view()
    bundle = made._repr_mimebundle_()
    assert "long-one" in bundle["text/plain"] and widgets.MIME in bundle
    eventually(lambda: made._widget.shown["state"] == "RUNNING", f"it runs: {made._widget.shown}")
    start(page, "card.js", {"shown": made._widget.shown})
    again = page.get_by_role("button", name="Try again")
    assert again.is_disabled() and "failed" in str(again.get_attribute("title"))
    page.get_by_role("button", name="Cancel").click()
    made.heard(page.evaluate("window.sent.at(-1)"))
    eventually(lambda: made._widget.shown["state"] == "CANCELED", f"it is cancelled: {made._widget.shown}")
    page.evaluate("window.change", made._widget.shown)
    assert "canceled" in page.locator("dl").inner_text() and again.is_enabled()
    assert page.get_by_role("button", name="Cancel").get_attribute("title") == "it has ended"
    made.heard({"op": "retry"})
    eventually(lambda: "submitted again as t.1" in made._widget.shown["told"], f"told: {made._widget.shown}")
    made.heard({"op": "cancel"})  # what a grey button says is not done
    assert session["t.1.0"].state != "CANCELED"
    pilot = session.pilots()[0].view()
    pilot._repr_mimebundle_()
    pilot.heard({"op": "cancel"})
    eventually(lambda: pilot._widget.shown["state"] == "CANCELED", f"its end: {pilot._widget.shown}")
    assert all(button["why"] for button in pilot._widget.shown["buttons"])
