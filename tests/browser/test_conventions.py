"""What JupyterLab's people expect: commands, menus, keys; reasons on buttons that cannot be pressed; a page that no
output breaks; the keyboard alone is enough; dialogs and menus that can be heard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab_kit import Jupyter, Talk, execute, faults, open_lab, shoot, show_panel, until
from playwright.sync_api import Locator, Page

import jupyter_rm as jrm
from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session

VIEWS = ("tasks", "nodes", "queue", "timeline", "usage")
COMMANDS = [
    *("Show sessions", "Open a session", "Start a pilot", "Close a session", "Detach from a session"),
    *("Suspend a pilot", "Resume a pilot", "Show logs"),
    *("Retry failed tasks", "Start the broker", *(f"Show {view}" for view in VIEWS)),
]
# Every button of ours that cannot be pressed, and whether it says why and can be reached.
MUTE = """
() => [...document.querySelectorAll('.jrm button, .jrm [aria-disabled=true]')]
  .filter(each => each.disabled || each.getAttribute('aria-disabled') === 'true')
  .filter(each => each.offsetParent !== null)
  .filter(each => each.disabled || !each.title.trim() || each.tabIndex < 0)
  .map(each => each.outerHTML.slice(0, 200))
"""
GREY = "() => [...document.querySelectorAll('.jrm [aria-disabled=true]')].filter(e => e.offsetParent).map(e => e.title)"


@pytest.fixture(scope="module")
def busy(lab: Jupyter) -> Iterator[Session]:
    """A session with a pilot, a failed task and two that run."""
    session = sessions.open("busy")
    pilot = session.pilot("local", cores=2)
    assert pilot.wait(timeout=60) == "ACTIVE", pilot.reason
    session.submit(jrm.Task("sh", ["-c", "exit 2"], name="bad")).wait(timeout=60)
    session.submit([jrm.Task("sleep", ["600"], name=f"long-{n}") for n in range(2)])
    yield session
    session.close()


def chosen(page: Page, name: str) -> None:
    show_panel(page)
    page.click(f".jrm-session[data-session={name}]")


def test_commands_menus_and_keys_lead_everywhere(lab: Jupyter, busy: Session, page: Page, talk: Talk) -> None:
    open_lab(page, lab)
    chosen(page, "busy")
    # The palette has one category with all commands, each with a word on what it does.
    execute(page, "apputils:activate-command-palette")
    palette = page.locator(".jp-ModalCommandPalette")
    palette.wait_for()
    page.keyboard.type("jupyter_rm")
    labels = palette.locator(".lm-CommandPalette-itemLabel")
    until(page, lambda: set(COMMANDS) <= set(labels.all_inner_texts()), f"not in the palette: {COMMANDS}")
    heads = palette.locator(".lm-CommandPalette-header").all_inner_texts()
    assert "jupyter_rm" in [head.lower() for head in heads], heads
    shoot(page, "palette")
    page.keyboard.press("Control+a")
    page.keyboard.type("Show usage")
    # It filters a little later: Enter takes what is chosen by then.
    palette.locator(".lm-CommandPalette-item.lm-mod-active", has_text="Show usage").wait_for()
    page.keyboard.press("Enter")
    page.locator(".jrm-v-usage").wait_for()
    # The menu of a session, by a pointer.
    page.click(".jrm-session[data-session=busy]", button="right")
    menu = page.locator(".lm-Menu")
    menu.wait_for()
    items = menu.locator(".lm-Menu-itemLabel").all_inner_texts()
    for wanted in ("Show tasks", "Show queue", "Start a pilot", "Retry failed tasks", "Close a session"):
        assert wanted in items, items
    # That its separators are no items is JupyterLab's own.
    assert [fault for fault in faults(page, ".lm-Menu") if "aria-required-children" not in fault] == []
    shoot(page, "menu")
    menu.locator(".lm-Menu-itemLabel", has_text="Show nodes").click()
    page.locator(".jrm-v-nodes").wait_for()
    # Keys: two after another.
    for key, view in zip("tnqlu", VIEWS, strict=True):
        page.keyboard.press("Alt+j")
        page.keyboard.press(key)
        page.wait_for_selector(f".lm-TabBar-tab.lm-mod-current:has-text('{view.title()} · busy')")
        page.locator(f".jrm-v-{view}").wait_for(state="visible")
    page.keyboard.press("Alt+j")
    page.keyboard.press("p")
    page.locator("#jupyter_rm-panel").wait_for(state="visible")
    assert talk.ours == []


def focused(goal: Locator) -> bool:
    return bool(goal.evaluate("e => e === document.activeElement"))


def tab_to(page: Page, goal: Locator, most: int) -> None:
    """Press Tab until the keyboard is at ``goal``."""
    for _ in range(most):
        if focused(goal):
            return
        page.keyboard.press("Tab")
    assert focused(goal), f"{most} times Tab do not lead to {goal}"


def test_the_keyboard_alone_opens_a_session_starts_a_pilot_and_cancels_a_task(
    lab: Jupyter, page: Page, talk: Talk
) -> None:
    open_lab(page, lab)
    show_panel(page)
    page.locator("body").press("Alt+j")
    page.keyboard.press("o")
    name = page.locator(".jp-Dialog input")
    name.wait_for()
    until(page, lambda: focused(name), "the dialog does not take the keyboard")
    assert faults(page, ".jp-Dialog-content") == []
    page.keyboard.press("Control+a")
    page.keyboard.type("by-keys")
    page.keyboard.press("Enter")
    page.wait_for_selector('.jrm-session[data-session="by-keys"][aria-current=true]')
    page.keyboard.press("Alt+j")
    page.keyboard.press("s")
    panel = page.locator("#jupyter_rm-panel")
    cores = panel.get_by_label("Cores per node")
    cores.wait_for()
    tab_to(page, cores, 12)
    page.keyboard.type("1")
    start = panel.get_by_role("form").get_by_role("button", name="Start pilot")
    until(page, lambda: start.get_attribute("aria-disabled") is None, "the form cannot be sent")
    page.keyboard.press("Enter")
    page.wait_for_selector('.jrm-pilot:has-text("active")', timeout=60_000)
    session = sessions.open("by-keys")
    task = session.submit(jrm.Task("sleep", ["600"], name="to-end"))
    page.keyboard.press("Alt+j")
    page.keyboard.press("t")
    view = page.locator(".jrm-v-tasks")
    view.locator('.jrm-row:has-text("running")').wait_for()
    grid = view.get_by_role("grid")
    tab_to(page, grid, 40)
    for key in ("Home", "Enter"):
        page.keyboard.press(key)
    cancel = view.locator(".jrm-drawer").get_by_role("button", name="Cancel")
    cancel.wait_for()
    tab_to(page, cancel, 20)
    page.keyboard.press("Enter")
    assert task.wait(timeout=60) == "CANCELED"
    # Closing asks first, and can be heard.
    execute(page, "jupyter_rm:close-session")
    page.locator('.jp-Dialog:has-text("Close session by-keys?")').wait_for()
    assert faults(page, ".jp-Dialog-content") == []
    shoot(page, "dialog")
    page.keyboard.press("Escape")
    page.locator(".jp-Dialog").wait_for(state="detached")
    assert not session.closed
    session.close()
    assert talk.ours == []


def test_what_cannot_be_pressed_says_why(lab: Jupyter, busy: Session, page: Page) -> None:
    sessions.open("over").close()
    open_lab(page, lab)
    chosen(page, "busy")
    page.locator("#jupyter_rm-panel").get_by_role("group", name="Views").get_by_role("button", name="Tasks").click()
    page.locator(".jrm-v-tasks .jrm-row").nth(2).wait_for()
    rows = page.locator(".jrm-v-tasks .jrm-row")
    rows.filter(has_text="bad").click()
    page.locator(".jrm-drawer .jrm-story li").first.wait_for()
    page.locator("#jupyter_rm-panel").get_by_role("button", name="Start pilot").click()
    form = page.locator("#jupyter_rm-panel form")
    form.get_by_label("Cores per node").fill("0")
    until(page, lambda: "Not yet" in " ".join(page.evaluate(GREY)), "a bad form can be sent")
    assert page.evaluate(MUTE) == []
    form.get_by_label("Site").fill("slurn+ssh://me@x")
    until(page, lambda: "slurn" in form.inner_text(), "a site that means nothing is not named")
    assert "slurm" in form.inner_text() and page.evaluate(MUTE) == []
    assert faults(page, "#jupyter_rm-panel") == []
    form.get_by_role("button", name="Not now").click()
    page.locator("#jupyter_rm-panel summary", has_text="closed session").click()
    page.click(".jrm-session[data-session=over]")
    until(page, lambda: page.evaluate(GREY).count("The session is closed") >= 3, "a closed session can be acted on")
    assert page.evaluate(MUTE) == []


def test_no_output_breaks_the_page(lab: Jupyter, busy: Session, page: Page, talk: Talk) -> None:
    odd = "printf '\\033[2J\\033]0;title\\007\\001\\037<script>window.broken=1</script>\\342\\200\\256last\\n'"
    shells = {
        "huge": ("head -c 30000000 /dev/zero | tr '\\0' x; echo; echo the-end", "the-end"),
        "odd": (odd, "<script>window.broken=1</script>"),
        "binary": ("head -c 200000 /dev/urandom; head -c 100 /dev/zero", "This is binary data. All of it is in "),
    }
    session = sessions.open("outputs")
    session.pilot("local", cores=2).wait(timeout=60)
    session.submit([jrm.Shell(line, name=name) for name, (line, _) in shells.items()]).wait(timeout=60)
    open_lab(page, lab)
    chosen(page, "outputs")
    page.locator("#jupyter_rm-panel").get_by_role("group", name="Views").get_by_role("button", name="Tasks").click()
    rows = page.locator(".jrm-v-tasks .jrm-row")
    drawer = page.locator(".jrm-drawer")
    for name, (_, wanted) in shells.items():
        rows.filter(has=page.get_by_text(name, exact=True)).click()
        shown = drawer.locator(".jrm-out", has_text=wanted).first
        shown.wait_for()
        text = shown.inner_text()
        assert len(text) < 300_000 and not set(text) & set("\0\1\x1b\x1f\u202e"), name
        if name == "huge":
            assert "the end of 30" in drawer.inner_text(), "that it is cut is not said"
    assert page.evaluate("window.broken") is None and drawer.locator("script").count() == 0
    session.close()
    assert talk.ours == []


def test_a_view_of_a_session_that_nobody_knows_says_so(lab: Jupyter, busy: Session, page: Page) -> None:
    open_lab(page, lab)
    page.evaluate("window.jupyterapp.commands.execute('jupyter_rm:show-view', {view: 'tasks', session: 'nowhere'})")
    told = page.locator(".jrm-v-tasks .jrm-notice")
    told.wait_for()
    assert "nowhere" in told.inner_text() and "Next:" in told.inner_text(), told.inner_text()
    assert "not connected" in page.locator(".jrm-v-tasks .jrm-live").inner_text()
    # Once there is one of that name the view shows it.
    sessions.open("nowhere")
    page.locator('.jrm-v-tasks .jrm-live:has-text("live")').wait_for()
    sessions.open("nowhere").close()
    page.locator('.jrm-v-tasks .jrm-live:has-text("session closed")').wait_for()


def test_tooltips_of_figures_have_the_theme_of_the_page(lab: Jupyter, busy: Session, page: Page) -> None:
    open_lab(page, lab)
    chosen(page, "busy")
    page.locator("#jupyter_rm-panel").get_by_role("group", name="Views").get_by_role("button", name="Nodes").click()
    for theme, dark in (("JupyterLab Dark", True), ("JupyterLab Light", False)):
        page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", theme)
        page.wait_for_function("on => document.body.dataset.jpThemeLight === String(!on)", arg=dark)
        page.locator(f".jrm-v-nodes{'.jrm-dark' if dark else ':not(.jrm-dark)'}").wait_for()
        tip = page.locator(".bk-Tooltip")
        box = page.locator(".jrm-v-nodes .bk-Figure").nth(1)
        box.wait_for()

        def fits(box: Locator = box, tip: Locator = tip, dark: bool = dark) -> bool:
            where = box.bounding_box()
            if where is None:  # the figure of the other theme has just gone
                return False
            for step in (120, 124):
                page.mouse.move(where["x"] + step, where["y"] + 60)
            if not (tip.count() and tip.first.is_visible()):
                return False
            told = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color].map(c => c.match(/\\d+/g))"
            paper, ink = (sum(map(int, each[:3])) for each in tip.first.evaluate(told))
            return paper < 300 and ink > 500 if dark else paper > 700 and ink < 300

        until(page, fits, f"what is told of the node under the pointer does not look like {theme}")
        shoot(page, f"tooltip-{'dark' if dark else 'light'}")
        page.mouse.move(5, 5)
