"""The parts of a test's world: waiting for what must come, a home of its own, and proof that nothing of it is left.

A file of its own beside ``conftest.py``: pytest loads many files of that name, and which of them
``from conftest import ...`` finds depends on the tests that were loaded before.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from jupyter_rm.client import admin, connection, settings
from jupyter_rm.client import session as sessions


def eventually(check: Callable[[], object], what: str, within: float = 20.0) -> None:
    """Wait until ``check()`` is true; fail with ``what`` after ``within`` seconds."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while not check():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        pause.wait(0.02)


def left_behind(home: Path) -> list[str]:
    """Return the processes (other than this one and its ancestors) that belong to a home."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["pid"]):
        try:
            environment = process.environ()
            # Tasks get a clean environment; their sandbox says whose they are.
            mine = environment.get("JUPYTER_RM_HOME") == str(home) or str(home) in environment.get("JRM_SANDBOX", "")
            if process.pid not in own and mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid}: {' '.join(process.cmdline())}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def set_home(path: Path | None) -> None:
    """Make this process and its children use another home."""
    connection.close_all()
    sessions._open.clear()
    if path is None:
        os.environ.pop("JUPYTER_RM_HOME", None)
    else:
        os.environ["JUPYTER_RM_HOME"] = str(path)
    settings.forget()


@contextlib.contextmanager
def new_home() -> Iterator[Path]:
    """Have an empty home, in which nothing is left afterwards."""
    # Not below pytest's own directory: socket paths are short.
    home = Path(tempfile.mkdtemp(prefix="jrmt-")).resolve()
    set_home(home)
    try:
        yield home
    finally:
        end_world(home)


def end_world(home: Path) -> None:
    """Close all sessions of a home, stop its broker, and check that nothing of it is left."""
    from jupyter_rm.client.listing import sessions as listing

    try:
        if admin._home().holder() is not None:
            for line in listing():
                if line.state == "open":
                    sessions.open(line.name).close()
            admin.stop(timeout_s=90.0)  # the whole machine may stand still for a while
        eventually(lambda: not left_behind(home), "processes of the world are left", 60.0)
    finally:
        for line in left_behind(home):
            psutil.Process(int(line.split(":")[0])).kill()
        set_home(None)
        shutil.rmtree(home, ignore_errors=True)
