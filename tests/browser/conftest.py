"""One browser for all, one home and one JupyterLab per module."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from far_kit import afar, far, line  # noqa: F401 (fixtures)
from lab_kit import Jupyter, Talk, free_port, shoot
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
WORDS = [
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    # What a page measures of its own memory is rounded without it.
    *("--enable-precise-memory-info", "--js-flags=--expose-gc"),
]

REPORTS = pytest.StashKey[dict[str, pytest.TestReport]]()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; gone with its module, since Playwright keeps an event loop running in this thread."""
    assert CHROMIUM, "no Chromium: apt-get install chromium fonts-dejavu-core, or name one in the variable CHROMIUM"
    # Its sandbox needs a user other than root.
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=[*WORDS, *root])
        yield made
        made.close()


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[Jupyter]:
    """JupyterLab with a broker in the home of the module."""
    made = Jupyter(home, "lab", free_port())
    yield made
    made.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know how the test ended."""
    report = yield
    item.stash.setdefault(REPORTS, {})[report.when] = report
    return report


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of a browser that knows nothing yet; one whose test fails leaves a picture."""
    context = browser.new_context(viewport={"width": 1360, "height": 860}, reduced_motion="reduce")
    context.set_default_timeout(45_000)
    yield context.new_page()
    call = request.node.stash.get(REPORTS, {}).get("call")
    if call is not None and call.failed:
        for number, each in enumerate(context.pages):
            shoot(each, f"failed-{request.node.name}-{number}")
    context.close()


@pytest.fixture
def talk(page: Page) -> Talk:
    """What the page says."""
    return Talk(page)
