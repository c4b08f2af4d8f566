"""What the views of a run of ten thousand tasks say in the end is what stands in the journal, task by task."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from server_kit import Server

import jupyter_rm as jrm
from jupyter_rm.client import admin, offline
from jupyter_rm.client import session as sessions
from jupyter_rm.client.connection import Connection
from jupyter_rm.model.states import TaskState
from jupyter_rm.runtime.home import Home
from jupyter_rm.server.hub import Hub
from jupyter_rm.server.screen import Screen, Subscribe

TASKS = 10_000
VIEWS = ("summary", "tasks", "usage", "nodes", "timeline", "queue")


def test_views_ask_nobody_for_anything(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pages with three views each: what collects at agents and sites hears no more of them than of none."""
    session = sessions.open("quiet")
    assert session.pilot("noop", nodes=4, cores=64).wait(timeout=60) == "ACTIVE"
    sent: Counter[str] = Counter()
    send = Connection._send

    def counted(connection: Connection, message: Any) -> None:
        sent[type(message).__name__] += 1
        send(connection, message)

    monkeypatch.setattr(Connection, "_send", counted)

    def work() -> Counter[str]:
        before = sent.copy()
        for _ in range(5):
            session.array(jrm.Task("work", ["{i}"]), i=range(400)).wait(60)
        return sent - before

    came = asyncio.Event()

    async def watched() -> tuple[Counter[str], list[int]]:
        hub = Hub()
        frames: list[list[bytes]] = [[], []]
        screens = [Screen(hub, lambda frame, mine=mine: taken(mine, frame)) for mine in frames]  # type: ignore[misc]
        for screen in screens:
            for view in ("nodes", "queue", "usage"):
                screen.obey(Subscribe(id=view, view=view, session="quiet"))
        await until(lambda: all(len(each) >= 3 for each in frames), "no first pictures")
        seen = [len(each) for each in frames]
        told = await asyncio.to_thread(work)
        moved = lambda: all(len(each) >= count + 3 for each, count in zip(frames, seen, strict=True))  # noqa: E731
        await until(moved, "views do not move")
        for screen in screens:
            screen.close()
        return told, [len(each) for each in frames]

    async def taken(mine: list[bytes], frame: bytes) -> None:
        mine.append(frame)
        came.set()

    async def until(ready: Callable[[], bool], what: str) -> None:
        while not ready():
            came.clear()
            try:
                await asyncio.wait_for(came.wait(), 60)
            except asyncio.TimeoutError:
                raise AssertionError(what) from None

    alone = work()
    with_views, frames = asyncio.run(watched())
    print(
        f"\nmessages to the broker: {dict(alone)} without views, {dict(with_views)} with {frames} frames of six views"
    )
    news = {"Ack", "Credit"}  # how much was heard, which depends on how it came in pieces
    assert {n: c for n, c in alone.items() if n not in news} == {n: c for n, c in with_views.items() if n not in news}
    session.close()


def test_totals_of_ten_thousand_tasks_are_those_of_the_journal(server: Server) -> None:
    session = sessions.open("totals")
    pilot = session.pilot("noop", nodes=4, cores=64)
    assert pilot.wait(timeout=60) == "ACTIVE", pilot.reason
    feed = server.feed()
    for view in VIEWS:
        feed.say("subscribe", id=view, view=view, session="totals")
    feed.until(lambda: len(feed.shown) == len(VIEWS), "first pictures")
    count, begun = len(feed.frames), time.monotonic()
    submitted = 0
    while submitted < TASKS:  # in flocks, so that there is something to see for a while
        session.array(jrm.Task("work", ["{i}"], name="job"), i=range(500))
        submitted += 500
        feed.silent(0.1)
    slow = session.pilot("local", cores=1)
    canceled = session.array(jrm.Task("sleep", ["60", "{i}"], pilot=slow.uid), i=range(100))
    canceled.cancel()
    canceled.wait(60)
    wanted = {"DONE": TASKS, "CANCELED": 100}
    for view in set(VIEWS) - {"queue"}:  # shows pilots, and nothing of tasks
        feed.until(lambda view=view: feed.values(view)["counts"] == wanted, f"the end in {view}", 60)  # type: ignore[misc]
    assert "counts" not in feed.values("queue")
    took = time.monotonic() - begun
    updates = [
        (frame["id"], size) for frame, size in zip(feed.frames[count:], feed.sizes[count:], strict=True)
        if frame["kind"] == "delta"
    ]  # fmt: skip
    print(f"\n{took:.1f} s, updates {Counter(name for name, _ in updates)}, largest {max(size for _, size in updates)}")
    # Rates, states over time, use, throughput and failures; the timeline draws up to 2,000 tasks one by one.
    assert max(size for name, size in updates if name in ("summary", "tasks", "usage")) <= 50_000
    assert max(size for _, size in updates) <= 300_000
    # A view is seen to move at least once a second.
    assert all(sum(name == view for name, _ in updates) >= max(3, int(took)) for view in ("tasks", "usage"))
    # Sums over the bins of the curves, and over the cells of the map.
    bins = feed.rows("usage", "usage")
    last = feed.rows("tasks", "history")[-1]
    assert (last["done"], last["canceled"], last["running"], last["waiting"]) == (TASKS, 100, 0, 0)
    assert sum(row["done"] for row in feed.rows("nodes", "cells")) == TASKS
    # The journal, read by itself, by the fold that needs no broker.
    session.close()
    admin.stop()
    (ledger,) = [each for each in offline.replay(str(Home.locate().journal)).sessions.values() if each.name == "totals"]
    assert {state.name: int(ledger.counts[state]) for state in TaskState if ledger.counts[state]} == wanted
    began = sum(int((table.started > 0).sum()) for table in ledger.bulks)
    ended = sum(int((table.ended > 0).sum()) for table in ledger.bulks)
    assert (sum(row["started"] for row in bins), sum(row["ended"] for row in bins)) == (began, ended)
    assert TASKS <= began <= TASKS + 100
