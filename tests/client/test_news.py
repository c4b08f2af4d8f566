"""Who is told of states: each task and pilot once per state, whatever way the news came (RP-03)."""

from __future__ import annotations

import collections
import functools
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_parts import ended, feed, opened, submitted
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import admin, news
from jupyter_rm.client.bulk import Bulk
from jupyter_rm.client.calls import run_callback
from jupyter_rm.client.pilot import Pilot
from jupyter_rm.client.replica import Replica
from jupyter_rm.client.session import Session
from jupyter_rm.model import facts as f
from jupyter_rm.model.columns import Picks, pack
from jupyter_rm.model.messages import Attached
from jupyter_rm.model.states import Cause, PilotState

ALL = Picks.span(0, 3)


class Book:
    """What a callback was told: (tasks by index, or the pilot's uid; state), in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, str]] = []

    def note(self, what: Any, state: str) -> None:
        self.told.append(([task._index for task in what] if isinstance(what, Bulk) else what.uid, str(state)))


def settled() -> None:
    """Return when the callbacks that are due have been called."""
    over = threading.Event()
    run_callback(over.set)
    assert over.wait(20), "the callbacks' thread stands still"


def followed(*facts: f.Fact) -> tuple[Replica, Any]:
    replica = Replica("x")
    replica.feed(feed(0, opened(), *facts))
    session: Any = SimpleNamespace(_replica=replica, _table=lambda number: replica.ledger.bulks[number])
    session._some = functools.partial(Session._some, session)
    session._requested = functools.partial(Session._requested, session)
    return replica, session


def subscribe(session: Any, book: Book, **how: bool) -> news.Subscription:
    return news.Telling.on_state(session, book.note, **how)


def assigned(picks: Picks, attempt: int = 1) -> f.TasksAssigned:
    return f.TasksAssigned(0, picks, 0, 2.0, pack(attempt, "<u2"))


def started(picks: Picks, attempt: int = 1) -> f.TasksStarted:
    return f.TasksStarted(0, picks, 0, pack(attempt, "<u2"), pack(0, "<u4"), pack(3.0, "<f8"))


def again(picks: Picks) -> f.AttemptsEnded:
    over = ended(0, picks, []).ends
    return f.AttemptsEnded(0, picks, 0, f.ONE, over)


def test_one_call_for_what_changed_together() -> None:
    replica, session = followed()
    book = Book()
    subscribe(session, book)
    replica.feed(feed(1, submitted(3), assigned(ALL), started(Picks.span(0, 2)), ended(0, ALL, [b""] * 3)))
    replica.feed(feed(1, submitted(3)))  # a repeat
    settled()
    assert book.told == [([0, 1, 2], "WAITING"), ([0, 1, 2], "SCHEDULED"), ([0, 1], "RUNNING"), ([0, 1, 2], "DONE")]


def test_a_state_is_told_once_and_further_attempts_on_request() -> None:
    replica, session = followed(f.PilotRequested(0, b"p" * 16, 1.0, f.PilotSpec()), submitted(1))
    book, every = Book(), Book()
    one = Picks.span(0, 1)
    subscribe(session, book, pilots=False)
    subscribe(session, every, pilots=False, attempts=True)
    replica.feed(feed(3, assigned(one), started(one), again(one), assigned(one, 2), started(one, 2)))
    settled()
    assert [state for _, state in book.told] == ["WAITING", "SCHEDULED", "RUNNING"]
    assert [state for _, state in every.told] == ["WAITING", "SCHEDULED", "RUNNING"] * 2


def test_a_snapshot_tells_what_was_missed_and_nothing_twice() -> None:
    source, _ = followed(submitted(3))
    replica, session = followed(submitted(3))
    book, late = Book(), Book()
    subscribe(session, book)
    replica.feed(feed(2, ended(0, Picks.span(0, 1), [b""])))
    source.feed(feed(2, ended(0, Picks.span(0, 1), [b""]), ended(0, Picks.span(1, 3), [b"", b""])))
    replica.attach(Attached(1, "x", 4, source.ledger.dump()))
    replica.attach(Attached(1, "x", 4, source.ledger.dump()))
    subscribe(session, late)
    subscribe(session, late, present=False)
    settled()
    assert book.told == [([0, 1, 2], "WAITING"), ([0], "DONE"), ([1, 2], "DONE")]
    assert late.told == [([0, 1, 2], "DONE")]


def test_what_is_asked_for_is_told_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    replica, session = followed(submitted(3))
    part, closed, nothing, bad = Book(), Book(), Book(), Book()

    def stumble(what: Any, state: str) -> None:
        bad.note(what, state)
        raise RuntimeError("this callback is broken")

    news.Telling.on_state(session, stumble)
    news.of_bulk(Bulk.select(session, [0], [2]), part.note, False)  # type: ignore[arg-type]
    subscribe(session, nothing, tasks=False)
    gone = subscribe(session, closed, present=False)
    replica.feed(feed(2, assigned(ALL)))
    settled()
    gone.close()
    replica.feed(feed(3, ended(0, ALL, [b""] * 3)))
    settled()
    assert part.told == [([2], "WAITING"), ([2], "SCHEDULED"), ([2], "DONE")]
    assert closed.told == [([0, 1, 2], "SCHEDULED")]
    assert nothing.told == []
    assert [state for _, state in bad.told] == ["WAITING", "SCHEDULED", "DONE"]
    assert [record.message for record in caplog.records if "on_state raised" in record.message] != []
    assert sum("on_state raised" in record.message for record in caplog.records) == 1


def test_pilots_are_told_of_too() -> None:
    replica, session = followed(f.PilotRequested(0, b"p" * 16, 1.0, f.PilotSpec()))
    book, one = Book(), Book()
    subscribe(session, book)
    news.of_requested(Pilot(session, 0), one.note)
    changes = [f.PilotChanged(0, int(PilotState.ACTIVE), 2.0, reason=why) for why in ("", "still")]
    script = f.PilotRequested(1, b"q" * 16, 1.0, f.PilotSpec(script=b"#!/bin/sh\n"))
    runs = f.PilotChanged(1, int(PilotState.ACTIVE), 3.0)
    canceled = f.PilotChanged(0, int(PilotState.CANCELED), 4.0, int(Cause.USER_CANCEL))
    replica.feed(feed(2, *changes, script, runs, canceled))
    settled()
    assert one.told == [("p.0", "SUBMITTED"), ("p.0", "ACTIVE"), ("p.0", "CANCELED")]
    assert [entry for entry in book.told if entry[0] == "p.0"] == one.told
    assert [entry for entry in book.told if entry[0] == "p.1"] == [("p.1", "SUBMITTED"), ("p.1", "RUNNING")]


def test_a_thousand_tasks_are_told_of_by_a_session(session: Session) -> None:
    told: collections.Counter[tuple[str, str]] = collections.Counter()
    each: collections.Counter[tuple[str, str]] = collections.Counter()
    whole: collections.Counter[str] = collections.Counter()

    def note(tasks: Bulk, state: str) -> None:
        told.update((task.uid, str(state)) for task in tasks)

    def stumble(tasks: Bulk, state: str) -> None:
        raise RuntimeError("this callback is broken")

    session.on_state(stumble, pilots=False)
    session.on_state(note, pilots=False)
    bulk = session.array(jrm.Task("/bin/sh", ["-c", "exit {code}"]), code=[0] * 990 + [3] * 10)
    bulk.on_state(lambda tasks, state: whole.update({str(state): len(tasks)}))
    for task in bulk:
        task.on_state(lambda task, state: each.update([(task.uid, str(state))]))
    assert bulk.wait(60), bulk.counts()

    def finals(counts: collections.Counter[tuple[str, str]]) -> dict[str, int]:
        return dict(collections.Counter(state for _, state in counts if state in ("DONE", "FAILED")))

    for counts in (told, each):
        eventually(lambda c=counts: finals(c) == {"DONE": 990, "FAILED": 10}, f"all are told: {finals(counts)}", 20)
        assert set(counts.values()) == {1}
    assert (whole["DONE"], whole["FAILED"]) == (990, 10)
    late = Book()
    bulk[0].on_state(late.note)
    settled()
    assert late.told == [(bulk[0].uid, "DONE")]


def test_a_killed_broker_is_no_news(session: Session, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = session.submit(jrm.Shell(f"until test -e {gate}; do sleep 0.02; done"))
    book, pilots = Book(), Book()
    session.on_state(book.note, pilots=False)
    session.pilots()[0].on_state(pilots.note)
    eventually(lambda: task.state == "RUNNING", "the task runs")
    holder = admin._home().holder()
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    gate.touch()
    assert task.wait(40) == "DONE"
    settled()
    states = [state for _, state in book.told]
    assert states[-2:] == ["RUNNING", "DONE"]
    assert len(set(states)) == len(states)
    assert pilots.told == [("p.0", "ACTIVE")]


def test_callbacks_can_be_taken_back(session: Session, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = session.submit(jrm.Shell(f"until test -e {gate}; do sleep 0.02; done"))
    bulk = session.tasks()
    pilot = session.pilots()[0]
    called: list[str] = []
    kept = threading.Event()

    def gone(_: object) -> None:
        called.append("gone")

    for thing in (task, bulk, pilot):
        thing.add_done_callback(gone)  # type: ignore[attr-defined]
    task.add_done_callback(lambda _: kept.set())
    line = f"while not __import__('os').path.exists({str(gate)!r}): __import__('time').sleep(0.02)"
    call, other = session.call(exec, line), session.call(exec, line)
    for one in (call, other):
        one.add_done_callback(gone)
    assert session[task.uid].remove_done_callback(gone) == 1
    assert task.remove_done_callback(gone) == 0
    assert bulk.remove_done_callback(gone) == 1
    assert session.pilots()[0].remove_done_callback(gone) == 1
    assert other.remove_done_callback(gone) == 1
    gate.touch()
    assert kept.wait(20), task.state
    assert [call.result(20), other.result(20)] == [None, None]
    pilot.cancel()
    assert pilot.wait("DONE", 20) in ("DONE", "CANCELED")
    eventually(lambda: called, "the callback that was left is called")
    settled()
    assert called == ["gone"]
