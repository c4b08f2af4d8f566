"""The program that starts processes is killed: what ran is lost with its agent, not failed, and starts again."""

from __future__ import annotations

import sys
import threading
import time

import psutil
import pytest

import jupyter_rm as jrm
from jupyter_rm.client.session import Session
from jupyter_rm.client.task import TaskHandle
from jupyter_rm.runtime.home import Home

ONCE = '[ "$JRM_TASK_ATTEMPT" -gt 1 ] || exec sleep 600'


def _host() -> psutil.Process:
    holder = Home.locate().holder()
    assert holder is not None
    (host,) = [p for p in psutil.Process(holder.pid).children(recursive=True) if "--spawn" in p.cmdline()]
    return host


def _until_running(*tasks: TaskHandle) -> None:
    deadline = time.monotonic() + 20
    while not all(task.state == "RUNNING" for task in tasks):
        assert time.monotonic() < deadline, f"not running: {[task.state for task in tasks]}"
        threading.Event().wait(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="the portable spawner has no program of its own")
def test_what_ran_under_a_dead_spawner_is_run_again_and_not_failed(session: Session) -> None:
    over = session.submit(jrm.Task("true"))
    assert over.wait(timeout=20) == "DONE"
    running, never = session.submit(jrm.Shell(ONCE)), session.submit(jrm.Shell(ONCE, restart="never"))
    _until_running(running, never)
    host = _host()
    agent = host.parent()
    host.kill()
    assert running.wait(timeout=30) == "DONE", running.story()
    assert running.attempt == 2
    assert never.wait(timeout=30) == "FAILED", never.story()
    assert never.cause == "AGENT_LOST"
    assert (over.state, over.attempt) == ("DONE", 1)
    assert agent is not None
    assert not agent.is_running(), "the agent with the dead spawner goes on"
    assert session.call(len, "abc").result(timeout=30) == 3
