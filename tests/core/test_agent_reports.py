"""What an agent writes down while nobody listens, so that its death costs only what runs."""

from __future__ import annotations

import numpy as np
from session_kit import Talk
from test_deputy import Alone, bundled, work

from jupyter_rm.core.agent import GATHERED, REPORTS_FLYING
from jupyter_rm.model.effects import Finished, Freed, FromBroker
from jupyter_rm.model.messages import AgentWelcome, Ended
from jupyter_rm.model.states import TaskState
from jupyter_rm.wire import codec


def lonely(count: int, cores: int, **fields: object) -> Alone:
    alone = Alone(bundled(Talk(), work(count, **fields))[1].orders, cores)
    machine = alone.machine
    welcome = AgentWelcome("0-study", 0, 0, machine.hello, 1, 0, 0)
    alone.carry_out(machine.handle(1.0, FromBroker(welcome)))  # a broker that says not a word after this
    return alone


def end_one(alone: Alone, now: float) -> None:
    """Let the task that runs longest end well at ``now``."""
    token = next(iter(alone.running))
    alloc = alone.running.pop(token)
    one, small, none = np.ones(1), np.ones(1, np.float32), np.zeros(1, np.uint32)
    tokens, done = np.array([token], np.uint64), np.array([TaskState.DONE], np.uint8)
    over = Finished(tokens, done, np.zeros(1, np.uint8), np.zeros(1, np.int32), none, one, one, small, small, none)
    alone.carry_out(alone.machine.handle(now, over))
    alone.carry_out(alone.machine.handle(now, Freed(np.array([alloc], np.uint64))))
    alone.carry_out(alone.machine.flush(now))


def ends_spooled(alone: Alone) -> int:
    reports = [codec.reports.decode(body) for _, body in alone.spool]
    return sum(len(report.picks) for report in reports if isinstance(report, Ended))


def test_ends_are_spooled_soon_though_nobody_confirms_any() -> None:
    alone = lonely(100, cores=100)
    for number in range(100):
        end_one(alone, 1.0 + number * GATHERED / 10)
    assert ends_spooled(alone) >= 100 - 11
    assert len(alone.spool) < REPORTS_FLYING + 100 // 10 + 5, "they are gathered, not written one by one"


def test_a_death_costs_of_tasks_that_start_only_once_those_that_ran() -> None:
    alone = lonely(100, cores=2, restart="never")
    for _ in range(60):
        end_one(alone, 1.0)  # all within a moment
    assert ends_spooled(alone) == 60
    assert len(alone.running) == 2
