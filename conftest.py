"""What holds for every test run: in CI a skipped test is a failed run, Ctrl-C works, and clusters are not shared.

A test that skips proves nothing, and nobody looks at the list. With ``CI`` set in the environment, or with
``--no-skips``, a run with any skip ends with an error that names each one. Read next: ``CONTRIBUTING.md``.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

_skipped: list[str] = []

# Tests that start servers and batch systems: the accounts in them have the same numbers everywhere, and some tests
# kill what they find of such a user. They run one after the other, in one worker, with one cluster for all.
TOGETHER = (
    "tests/batch/",
    "tests/bootstrap/",
    "tests/browser/test_line.py",
    "tests/browser/test_login.py",
    "tests/cli/test_site.py",
    "tests/connect/",
    "tests/nodes/",
    "tests/remote/",
    "tests/sites/",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run (as with CI=true)")


def pytest_configure() -> None:
    # A shell that runs a command in the background makes it, and all it starts, deaf to Ctrl-C; tests send Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give tests to workers file by file, and those of ``TOGETHER`` to one of them."""
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "together" if nodeid.startswith(TOGETHER) else super()._split_scope(nodeid)

    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        used = {"cluster", "bed"} & set(getattr(item, "fixturenames", ()))
        if used and not item.nodeid.startswith(TOGETHER):
            raise pytest.UsageError(f"{item.nodeid} uses {used}: its file belongs into TOGETHER of conftest.py")


def _strict(config: pytest.Config) -> bool:
    return bool(config.getoption("--no-skips")) or os.environ.get("CI", "").lower() not in ("", "0", "false")


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    # An expected failure is reported as skipped with `wasxfail`; it did run.
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # Whole files that skip are known to the worker alone.
    _skipped.extend(name for name in getattr(node, "workeroutput", {}).get("skipped", ()) if name not in _skipped)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["skipped"] = _skipped
        return
    if _skipped and _strict(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _skipped and _strict(config):
        terminalreporter.section("skipped tests are not allowed here", red=True)
        for name in _skipped:
            terminalreporter.line(f"SKIPPED {name}", red=True)
