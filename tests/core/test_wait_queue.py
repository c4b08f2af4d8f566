"""The wait queue: priority, then arrival; canceled tasks are skipped; nobody waits twice or is forgotten."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_rm.core.queue import WaitQueue
from jupyter_rm.model.bulktable import BulkTable
from jupyter_rm.model.columns import Picks
from jupyter_rm.model.describe import Template
from jupyter_rm.model.facts import BulkSubmitted
from jupyter_rm.model.states import TaskState


def table(count: int) -> BulkTable:
    return BulkTable(BulkSubmitted(0, b"k", 0.0, count, Template()))


def test_bulks_come_by_priority_then_arrival() -> None:
    queue = WaitQueue()
    for bulk, priority in ((0, 0), (1, 5), (2, 0), (3, -1), (4, 5)):
        queue.add(bulk, Picks.span(0, 3), priority)
    assert queue.bulks() == [1, 4, 0, 2, 3]


def test_what_waited_before_comes_first() -> None:
    queue, tasks = WaitQueue(), table(10)
    queue.add(0, Picks.span(0, 5), 0)
    queue.add(0, Picks.of([9, 7]), 0, front=True)
    taken = queue.take(0, 10, tasks)
    assert taken is not None
    assert taken.array().tolist() == [7, 9]


def test_an_empty_bulk_is_gone() -> None:
    queue, tasks = WaitQueue(), table(2)
    queue.add(0, Picks.span(0, 2), 0)
    assert queue
    assert queue.take(0, 5, tasks) is not None
    assert queue.take(0, 5, tasks) is None
    assert not queue
    assert queue.bulks() == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_queue_gives_out_what_waits_and_nothing_else(data: st.DataObject) -> None:
    count = 30
    queue, tasks = WaitQueue(), table(count)
    queue.add(0, Picks.span(0, count), 0)
    waiting = set(range(count))
    given_out: set[int] = set()
    for _ in range(data.draw(st.integers(1, 25))):
        what = data.draw(st.sampled_from(("take", "cancel", "back")))
        if what == "take":
            most = data.draw(st.integers(1, 12))
            picks = queue.take(0, most, tasks)
            if picks is None:
                assert not waiting
                continue
            index = picks.array().tolist()
            assert 1 <= len(index) <= most
            assert index == sorted(index)
            assert set(index) <= waiting
            waiting -= set(index)
            given_out |= set(index)
            tasks.state[picks.where] = TaskState.SCHEDULED
        elif what == "cancel" and waiting:
            gone = data.draw(st.lists(st.sampled_from(sorted(waiting)), unique=True))
            tasks.state[np.array(gone, np.int64)] = TaskState.CANCELED
            waiting -= set(gone)
        elif given_out:
            back = data.draw(st.lists(st.sampled_from(sorted(given_out)), min_size=1, unique=True))
            tasks.state[np.array(back, np.int64)] = TaskState.WAITING
            queue.add(0, Picks.of(back), 0, front=data.draw(st.booleans()))
            given_out -= set(back)
            waiting |= set(back)
    while (picks := queue.take(0, 7, tasks)) is not None:
        tasks.state[picks.where] = TaskState.SCHEDULED
        waiting -= set(picks.array().tolist())
    assert not waiting
