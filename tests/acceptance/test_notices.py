"""Every end is told once, and one bad callback spoils nothing (RP-03)."""

from __future__ import annotations

import collections
import threading

import pytest
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client.session import Session
from jupyter_rm.client.task import TaskHandle


@pytest.mark.filterwarnings("ignore")
def test_a_thousand_ends_are_told_once_each(session: Session) -> None:
    told: collections.Counter[tuple[str, str]] = collections.Counter()
    bad = threading.Semaphore(0)
    whole = threading.Event()

    def note(task: TaskHandle) -> None:
        told[task.uid, str(task.state)] += 1

    def stumble(task: TaskHandle) -> None:
        bad.release()
        raise RuntimeError("this callback is broken")

    bulk = session.array(jrm.Task("/bin/sh", ["-c", "exit {code}"]), code=[0] * 990 + [3] * 10)
    bulk.add_done_callback(lambda _: whole.set())
    for task in bulk:
        task.add_done_callback(stumble)
        task.add_done_callback(note)
    assert bulk.wait(60), bulk.counts()
    eventually(lambda: len(told) == 1000, f"all ends are told: {len(told)}", 20)
    assert whole.wait(10)
    assert set(told.values()) == {1}
    assert collections.Counter(state for _, state in told) == {"DONE": 990, "FAILED": 10}
    for _ in range(1000):
        assert bad.acquire(timeout=10)


def test_a_callback_for_what_has_ended_is_called_too(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/true"))
    assert task.wait(20) == "DONE"
    called = threading.Event()
    task.add_done_callback(lambda _: called.set())
    assert called.wait(10)
