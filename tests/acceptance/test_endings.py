"""How tasks end before their time: canceled in any state, timed out, tried again (RP-76, SM-19, G17)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client.session import Session
from jupyter_rm.client.task import TaskHandle


def reach(session: Session, task: TaskHandle, state: str) -> None:
    assert session._replica.wait(lambda: task.state == state, 20), f"{task.uid} is {task.state}, not {state}"


def blocked(session: Session) -> None:
    """Keep both cores busy."""
    for task in session.submit([jrm.Task("/bin/sleep", ["600"])] * 2):
        reach(session, task, "RUNNING")


def unsent_call(session: Session) -> TaskHandle:
    blocked(session)
    return session.call(time.sleep, 600)


def dependent(session: Session) -> TaskHandle:
    first = session.submit(jrm.Task("/bin/sleep", ["600"]))
    task = session.submit(jrm.Task("/bin/true", after=first))
    # SUBMITTED and WAITING both mean that no pilot has it.
    assert task.state < "SCHEDULED"
    assert "after" in task.reason
    return task


def queued(session: Session) -> TaskHandle:
    blocked(session)
    task = session.submit(jrm.Task("/bin/true"))
    reach(session, task, "SCHEDULED")
    return task


def preparing(session: Session) -> TaskHandle:
    task = session.submit(jrm.Task("/bin/true", pre_exec=["sleep 600"]))
    reach(session, task, "SCHEDULED")
    return task


def running(session: Session) -> TaskHandle:
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    reach(session, task, "RUNNING")
    return task


def running_call(session: Session) -> TaskHandle:
    task = session.call(time.sleep, 600)
    reach(session, task, "RUNNING")
    return task


def ranks(session: Session) -> TaskHandle:
    task = session.submit(jrm.Task("/bin/sleep", ["600"], ranks=2))
    reach(session, task, "RUNNING")
    return task


@pytest.mark.parametrize("make", [unsent_call, dependent, queued, preparing, running, running_call, ranks])
def test_canceled_in_every_state(session: Session, make: Callable[[Session], TaskHandle]) -> None:
    task = make(session)
    begun = time.monotonic()
    assert task.cancel()
    assert task.wait(5) == "CANCELED", f"still {task.state} after 5 s: {task.reason}"
    assert time.monotonic() - begun < 5
    assert task.cause == "USER_CANCEL"
    assert not task.cancel(), "a second cancel changes nothing and says so"
    session.cancel()
    assert session.wait(10), session.counts()


def test_a_program_deaf_to_term_is_killed_with_its_children(session: Session, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    line = (
        f"trap '' TERM; (trap '' TERM; echo $$ >> {pids}; sleep 600 & wait) & echo $! >> {pids}; sleep 600; sleep 600"
    )
    task = session.submit(jrm.Shell(line))
    eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2, "it has started")
    task.cancel()
    assert task.wait(15) == "CANCELED"
    left = [int(pid) for pid in pids.read_text().split()]
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in left), f"{left} have gone", 10)


def test_a_timeout_takes_the_grandchildren_along(session: Session, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    line = f"sleep 60 & echo $! >> {pids}; (sleep 60 & echo $! >> {pids}; wait) & sleep 60"
    task = session.submit(jrm.Shell(line, timeout=2))
    reach(session, task, "RUNNING")
    begun = time.monotonic()
    assert task.wait(10) == "FAILED"
    assert time.monotonic() - begun <= 4
    assert task.cause == "TASK_TIMEOUT"
    assert "2" in task.reason
    left = [int(pid) for pid in pids.read_text().split()]
    assert len(left) == 2
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in left), f"{left} have gone", 5)


def test_a_timeout_of_a_call(session: Session) -> None:
    bulk = session.map(time.sleep, [600], timeout=1)
    with pytest.raises(jrm.TaskError, match="timeout"):
        bulk.results(15)
    assert bulk[0].cause == "TASK_TIMEOUT"
    assert session.call(pow, 2, 3).result(20) == 8


def test_three_attempts_each_with_its_own_sandbox(session: Session, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    line = f'echo $JRM_TASK_ATTEMPT > number; echo x >> {mark}; test "$(wc -l < {mark})" = 3'
    task = session.submit(jrm.Shell(line, retries=5))
    assert task.wait(30) == "DONE", task.reason
    assert task.attempt == 3
    assert task.sandbox is not None
    assert task.sandbox.name.endswith(".3")
    numbers = [task.sandbox.with_suffix(f".{n}") / "number" for n in (1, 2, 3)]
    assert [path.read_text().strip() for path in numbers] == ["1", "2", "3"]
    story = str(task.story())
    assert "attempt 1" in story
    assert "attempt 2" in story


def test_retries_run_out(session: Session) -> None:
    task = session.submit(jrm.Shell("exit 9", retries=2))
    assert task.wait(30) == "FAILED"
    assert (task.attempt, task.exit_code, task.cause) == (3, 9, "TASK_EXIT")


def test_ten_thousand_canceled_within_two_seconds(session: Session, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    starts.touch()
    bulk = session.array(jrm.Shell(f"echo {{n}} >> {starts}; sleep 600"), n=range(10_000))
    eventually(lambda: starts.stat().st_size > 0, "some run")
    first: list[int] = []
    thread = threading.Thread(target=lambda: first.append(bulk.cancel()))
    begun = time.monotonic()
    thread.start()
    assert bulk.wait(30), bulk.counts()
    took = time.monotonic() - begun
    thread.join(10)
    size = starts.stat().st_size
    assert bulk.counts() == {"CANCELED": 10_000}
    assert first == [10_000]
    assert bulk.cancel() == 0, "canceling again changes nothing"
    assert session.submit(jrm.Task("/bin/true")).wait(10) == "DONE"
    assert starts.stat().st_size == size, "a canceled task was started"
    assert took <= 2, f"{took:.1f} s"
