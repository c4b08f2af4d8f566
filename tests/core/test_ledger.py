"""The ledger: any order and repetition of news ends in the same state, states only advance, and replay is exact."""

from __future__ import annotations

import random
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_rm.model import bulktable
from jupyter_rm.model import facts as facts_of
from jupyter_rm.model.bulktable import CANCEL_ASKED, STATES
from jupyter_rm.model.columns import Column, Picks, pack
from jupyter_rm.model.describe import Template
from jupyter_rm.model.facts import (
    AttemptsEnded,
    BulkSubmitted,
    CancelRequested,
    Ends,
    Fact,
    PilotChanged,
    PilotQueued,
    PilotRequested,
    PilotSilent,
    PilotSpec,
    PilotStep,
    ReportApplied,
    SessionClosed,
    SessionOpened,
    TasksAssigned,
    TasksEnded,
    TasksStarted,
    TasksWaiting,
)
from jupyter_rm.model.ledger import Ledger
from jupyter_rm.model.resources import Node
from jupyter_rm.model.states import PILOT_STEPS, TASK_STEPS, Cause, PilotState, TaskState, advances

SHUFFLES = 10_000


def ends(cause: Cause = Cause.NONE, count: int = 1) -> Ends:
    zero = np.zeros(count)
    return Ends(
        bytes([cause]),
        *(pack(zero, dtype) for dtype in ("<i4", "<u4", "<f8", "<f8", "<f4", "<f4", "<u4")),
        None,
        {},
    )


def fresh(count: int) -> Ledger:
    ledger = Ledger()
    ledger.apply(SessionOpened("s", 0.0))
    ledger.apply(BulkSubmitted(0, b"k", 0.0, count, Template()))
    return ledger


def of(state: TaskState, attempt: int, picks: Picks) -> Fact:
    vec = pack([attempt], "<u2")
    if state == TaskState.SCHEDULED:
        return TasksAssigned(0, picks, 0, 1.0, vec)
    if state == TaskState.RUNNING:
        return TasksStarted(0, picks, 0, vec, bytes(4), bytes(8))
    if state == TaskState.WAITING:
        return AttemptsEnded(0, picks, 0, pack([attempt - 1], "<u2"), ends(Cause.TASK_EXIT))
    return TasksEnded(0, picks, 0, vec, bytes([state]), ends())


def test_ten_thousand_shuffles_end_the_same() -> None:
    """A task's whole stream of news in any order, with repetitions: the last state, never a step back."""
    stream = [
        (TaskState.SCHEDULED, 1),
        (TaskState.RUNNING, 1),
        (TaskState.WAITING, 2),
        (TaskState.SCHEDULED, 2),
        (TaskState.RUNNING, 2),
        (TaskState.WAITING, 3),
        (TaskState.SCHEDULED, 3),
        (TaskState.RUNNING, 3),
        (TaskState.DONE, 3),
    ]
    chance = random.Random(7)
    ledger = fresh(SHUFFLES)
    table = ledger.bulks[0]
    news: list[tuple[int, TaskState, int]] = []
    for task in range(SHUFFLES):
        mine = [(task, state, attempt) for state, attempt in stream]
        mine += chance.sample(mine, 3)
        chance.shuffle(mine)
        news += mine
    # One step of every task at a time: tasks that hear the same thing hear it in one fact.
    width = len(news) // SHUFFLES
    for step in range(width):
        heard: dict[tuple[TaskState, int], list[int]] = {}
        for task, state, attempt in news[step::width]:
            heard.setdefault((state, attempt), []).append(task)
        for (state, attempt), tasks in heard.items():
            before = table.attempt.astype(np.int64) * STATES + table.state
            old = list(zip(table.attempt[tasks].tolist(), table.state[tasks].tolist(), strict=True))
            mask = ledger.apply(of(state, attempt, Picks.of(tasks)))
            after = table.attempt.astype(np.int64) * STATES + table.state
            assert bool((after >= before).all()), "a task went back"
            accepted = [True] * len(tasks) if mask is None else mask.tolist()
            assert accepted == [advances(*known, attempt, state) for known in old]
    assert set(table.state.tolist()) == {int(TaskState.DONE)}
    assert set(table.attempt.tolist()) == {3}
    assert int(table.counts[TaskState.DONE]) == SHUFFLES


def test_a_final_state_is_final() -> None:
    for final in (TaskState.DONE, TaskState.FAILED, TaskState.CANCELED):
        ledger = fresh(1)
        ledger.apply(of(final, 1, Picks.span(0, 1)))
        for state in list(TaskState)[TaskState.WAITING :]:
            if state not in (TaskState.STAGING_IN, TaskState.STAGING_OUT):
                ledger.apply(of(state, 5, Picks.span(0, 1)))
        assert ledger.bulks[0].state.tolist() == [int(final)]
        assert ledger.bulks[0].attempt.tolist() == [1]


def test_the_table_of_states_and_the_fold_agree() -> None:
    """Every step the table allows is accepted by the fold inside one attempt, and the order never allows a way back."""
    for state, following in TASK_STEPS.items():
        for other in following:
            assert advances(1, state, 1, other), f"{state.name} -> {other.name}"
        for other in TaskState:
            if other <= state or state.final:
                assert not advances(1, state, 1, other), f"{state.name} -> {other.name} is a way back"
    for pilot, after in PILOT_STEPS.items():
        assert all(other > pilot for other in after)
        assert bool(after) != pilot.final


def test_pilots_only_advance() -> None:
    ledger = fresh(1)
    ledger.apply(PilotRequested(0, b"p", 0.0, PilotSpec()))
    row = ledger.pilots[0]
    ledger.apply(PilotChanged(0, PilotState.ACTIVE, 1.0, epoch=2, nodes=(Node("a", 4),), job_id="7"))
    ledger.apply(PilotChanged(0, PilotState.QUEUED, 2.0, job_id="8"))
    assert (row.state, row.job_id, row.epoch, row.nodes[0].name) == (PilotState.ACTIVE, "7", 2, "a")
    ledger.apply(PilotChanged(0, PilotState.FAILED, 3.0, cause=int(Cause.PILOT_LOST)))
    ledger.apply(PilotChanged(0, PilotState.DONE, 4.0))
    assert (row.state, row.since, row.job_id) == (PilotState.FAILED, 3.0, "7")


@st.composite
def histories(draw: st.DrawFn) -> list[Fact]:
    """Draw facts of a session of two bulks and two pilots, sensible or not, in any order."""
    sizes = (draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    out: list[Fact] = [
        SessionOpened("s", 1.0, "me", "here"),
        BulkSubmitted(0, b"a", 1.0, sizes[0], Template()),
        BulkSubmitted(
            1, b"b", 2.0, sizes[1], Template(mode="call"), {"x": Column.of(range(sizes[1]))}, ((0, Picks(0, 1)),)
        ),
        PilotRequested(0, b"p", 3.0, PilotSpec(name="p")),
        PilotRequested(1, b"q", 3.0, PilotSpec(cores=4)),
    ]
    for _ in range(draw(st.integers(0, 40))):
        bulk, pilot = draw(st.integers(0, 1)), draw(st.integers(0, 1))
        index = draw(st.lists(st.integers(0, sizes[bulk] - 1), min_size=1, unique=True))
        picks = Picks.of(index)
        attempt = pack(draw(st.lists(st.integers(1, 4), min_size=len(index), max_size=len(index))), "<u2")
        state = draw(st.sampled_from((TaskState.DONE, TaskState.FAILED, TaskState.CANCELED)))
        note = {0: "a note"} if draw(st.booleans()) else {}
        cause = draw(st.sampled_from(list(Cause)))
        how = ends(cause)
        how = Ends(how.cause, how.code, how.node, how.started, how.ended, how.user, how.sys, how.rss, None, note)
        out.append(
            draw(
                st.sampled_from(
                    (
                        TasksWaiting(bulk, picks, 4.0),
                        TasksAssigned(bulk, picks, pilot, 5.0, attempt),
                        TasksStarted(bulk, picks, pilot, attempt, bytes(4), bytes(8)),
                        TasksEnded(bulk, picks, pilot, attempt, bytes([state]), how),
                        AttemptsEnded(bulk, picks, pilot, attempt, how),
                        CancelRequested(bulk, picks, 6.0),
                        PilotChanged(pilot, draw(st.integers(1, 8)), 7.0, job_id="1", epoch=draw(st.integers(-1, 3))),
                        PilotSilent(pilot, draw(st.booleans()), 8.0),
                        ReportApplied(pilot, draw(st.integers(0, 9))),
                        SessionClosed(9.0, "enough"),
                    )
                )
            )
        )
    return out


@settings(max_examples=300, deadline=None)
@given(histories(), st.data())
def test_replay_and_snapshots_are_exact(history: list[Fact], data: st.DataObject) -> None:
    """Folding the journal's form, or a snapshot and the rest of it, gives the live ledger."""
    live, replayed = Ledger(), Ledger()
    cut = data.draw(st.integers(1, len(history)))
    restored = Ledger()
    for number, fact in enumerate(history):
        if number == cut:
            restored = Ledger.load(live.dump())
        live.apply(fact)
        replayed.apply(facts_of.decode(facts_of.encode(fact)))
        if number >= cut:
            restored.apply(fact)
    if cut == len(history):
        restored = Ledger.load(live.dump())
    assert live.digest() == replayed.digest() == restored.digest()
    assert live.dump() == restored.dump()
    for table in live.bulks:
        assert table.counts.tolist() == np.bincount(table.state, minlength=STATES).tolist()


@settings(max_examples=200, deadline=None)
@given(histories())
def test_a_bulk_that_is_over_reads_the_same_in_one_piece(history: list[Fact]) -> None:
    """Small bulks are sealed when they are over; whoever looks or brings late news notices nothing."""
    with mock.patch.object(bulktable, "SEALED_MOST", 0):
        plain = Ledger()
        told = [plain.apply(fact) for fact in history]
    ledger = Ledger()
    for fact, before in zip(history, told, strict=True):
        mask = ledger.apply(fact)
        assert (mask is None) == (before is None) or not np.any(mask)
        assert set(ledger.unfinished) == {n for n, table in enumerate(ledger.bulks) if table.open}
        assert ledger.counts.tolist() == sum((table.counts for table in ledger.bulks), np.zeros(STATES, int)).tolist()
    assert ledger.digest() == plain.digest() and ledger.dump() == plain.dump() == Ledger.load(ledger.dump()).dump()
    assert not any(table.sealed for table in plain.bulks)
    assert all(table.sealed or table.open for table in ledger.bulks)


def test_a_single_task_that_is_over_is_small() -> None:
    ledger = fresh(1)
    tables = [ledger.bulks[0]]
    for state in (TaskState.SCHEDULED, TaskState.RUNNING, TaskState.DONE):
        assert not tables[0].sealed
        ledger.apply(of(state, 1, Picks.span(0, 1)))
    assert tables[0].sealed and sys.getsizeof(tables[0]) + sys.getsizeof(tables[0]._sealed) < 400
    with pytest.raises(ValueError, match="read-only"):
        tables[0].state[0] = TaskState.RUNNING
    late = ledger.apply(of(TaskState.RUNNING, 2, Picks.span(0, 1)))
    assert late is not None and not late.any() and ledger.stale == 1
    assert ledger.apply(CancelRequested(0, Picks.span(0, 1), 1.0)) is not None and not tables[0].flags.any()


@given(histories())
def test_states_never_go_back(history: list[Fact]) -> None:
    ledger = Ledger()
    seen: dict[tuple[int, int], tuple[int, int]] = {}
    for fact in history:
        ledger.apply(fact)
        for bulk, table in enumerate(ledger.bulks):
            for index, now in enumerate(zip(table.attempt.tolist(), table.state.tolist(), strict=True)):
                before = seen.get((bulk, index), now)
                assert now >= before
                assert now == before or before[1] < TaskState.DONE
                seen[bulk, index] = now


def test_a_cancel_is_remembered() -> None:
    ledger = fresh(3)
    ledger.apply(CancelRequested(0, Picks.of([0, 2]), 1.0))
    assert (ledger.bulks[0].flags & CANCEL_ASKED).tolist() == [1, 0, 1]


def test_the_way_to_a_pilot_is_shown_until_its_agent_is_there() -> None:
    ledger = Ledger()
    ledger.apply(SessionOpened("s", 0.0))
    ledger.apply(
        PilotRequested(0, b"p", 1.0, PilotSpec(site="slurm+ssh://me@login", options={"qos": "high"}, backup=1))
    )
    row = ledger.pilots[0]
    ledger.apply(PilotStep(0, 2.0, "environment", "progress", 40.0, "4 of 10 MB sent"))
    ledger.apply(PilotChanged(0, int(PilotState.QUEUED), 3.0, job_id="17"))
    ledger.apply(PilotQueued(0, 4.0, 3, 9, 5000.0, "squeue", "waits behind jobs of higher priority"))
    again = Ledger.load(ledger.dump()).pilots[0]
    for one in (row, again):
        assert one.step is not None and (one.step.step, one.step.percent) == ("environment", 40.0)
        assert one.queued is not None and (one.queued.position, one.queued.length, one.queued.estimate) == (
            3,
            9,
            5000.0,
        )
        assert one.spec.options == {"qos": "high"}
    ledger.apply(PilotChanged(0, int(PilotState.STARTING), 5.0, job_id="17"))
    assert row.queued is None and row.step is not None
    ledger.apply(PilotChanged(0, int(PilotState.ACTIVE), 6.0, epoch=0))
    assert row.step is None
    ledger.apply(PilotStep(0, 7.0, "queue", "progress", -1.0, "requeued; waits again"))
    ledger.apply(PilotChanged(0, int(PilotState.FAILED), 8.0))
    ledger.apply(PilotStep(0, 9.0, "start", "ok"))  # late: it is over
    assert row.step is not None and row.step.step == "queue"
