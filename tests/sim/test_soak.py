"""Days of one session: pilots renew themselves, no task is lost or run twice, and memory stays what the tables are."""

from __future__ import annotations

from steady_kit import soak

from jupyter_rm.model.states import TaskState


def test_two_days_of_pilots_that_renew_themselves() -> None:
    world, ends = soak(days=2, tasks=1600, walltime=4 * 3600.0, bulk=50)
    assert ends[-1].pilots > 10
    assert all((table.state == TaskState.DONE).all() for table in world.ledger.bulks)
    assert world.watch("0-study").executions == 1600, "nothing was started twice for a pilot whose time was over"
    first, last = ends
    a_task = (last.broker - first.broker) / (last.done - first.done)
    assert a_task < 200, f"the broker holds {a_task:.0f} B more with each task that is over"
    assert last.agents < 1.2 * first.agents + 20_000, f"{ends}"
