"""Tasks are bound late: pilots that come at different times finish them sooner than when each had its share at once."""

from __future__ import annotations

import numpy as np
from steady_kit import Steady

from jupyter_rm.core.balance import MOVES_MOST
from jupyter_rm.model.states import TaskState

STARTS = (0, 60, 120, 180)
TASKS = 400


def world(bound: bool, lost: bool = False) -> tuple[Steady, float]:
    """Return (the world when all is done, how long that took)."""
    made = Steady()
    for number, after in enumerate(STARTS):
        made.pilot(nodes=1, cores=8, name=f"p{number}", options={"after": str(after)})
    made.loop.run(1.0)
    if bound:
        for number in range(len(STARTS)):
            made.submit(TASKS // len(STARTS), pilot=f"p{number}")
    else:
        made.submit(TASKS)
    if lost:
        made.loop.run(200.0)
        made.site.lose(next(job for key, job in made.site.jobs.items() if key[1] == 1))
    return made, made.until_done(TASKS, 5000.0)


def test_late_binding_beats_equal_shares() -> None:
    shares, late = world(bound=True)[1], world(bound=False)[1]
    # 400 tasks of 21 s on 8, 16, 24, 32 cores: about 350 s; the last pilot alone needs 180 + 100 * 21 / 8 = 440.
    assert late < 0.9 * shares, (late, shares)
    assert late < 400, late


def test_what_a_dead_pilot_held_ends_on_the_others() -> None:
    made, took = world(bound=False, lost=True)
    table = made.ledger.bulks[0]
    assert (table.state == TaskState.DONE).all()
    again = table.attempt > 1
    assert 0 < again.sum() < 3 * 8, "what ran there was run again, and nothing else"
    assert not (table.pilot[again] == 1).any()
    assert set(np.unique(table.pilot).tolist()) == {0, 1, 2, 3}
    assert took < 450, took


def test_what_waits_at_a_full_pilot_goes_to_one_that_has_nothing_to_do() -> None:
    made = Steady()
    made.pilot(nodes=1, cores=1, name="small")
    made.loop.run(1.0)
    made.submit(30)
    made.submit(4, pilot="small")
    made.loop.run(30.0)
    table = made.ledger.bulks[0]
    assert (table.pilot == 0).all(), "the small one has taken all of it: nobody else was there"
    made.pilot(nodes=1, cores=8, name="large", options={"after": "30"})
    took = made.until_done(34, 5000.0)
    # 21 s each: 60 s alone, then nine cores, and the four that only the small one may run. Left where they were: 710 s.
    assert took < 260, took
    assert (table.attempt <= 1 + MOVES_MOST).all()
    assert (made.ledger.bulks[1].pilot == 0).all()
    assert sum(watch.executions for watch in made._watches.values()) == 34, "nothing that had begun was taken away"


def test_long_tasks_after_a_burst_of_short_ones_do_not_stay_in_line_at_one_pilot() -> None:
    """The agent has them in line to follow each other, as it learned from the short ones: they are called back."""
    made = Steady()
    made.pilot(nodes=1, cores=2, name="first")
    made.loop.run(1.0)
    made.submit(200, kind="ms")
    made.until_done(200, 600.0)
    made.submit(16, kind="long")
    for name in ("second", "third"):
        made.pilot(nodes=1, cores=2, name=name)
    made.loop.run(made.loop.now + 20.0)
    table = made.ledger.bulks[1]
    began = [int(((table.started > 0) & (table.pilot == pilot)).sum()) for pilot in range(3)]
    assert min(began) >= 2, f"begun by each pilot: {began}"
    made.until_done(216, 5000.0)
    assert sum(watch.executions for watch in made._watches.values()) == 216, "nothing that had begun was taken away"


def test_work_does_not_go_back_and_forth_between_busy_pilots() -> None:
    made = Steady()
    for number in range(3):
        made.pilot(nodes=1, cores=4, name=f"p{number}")
    made.loop.run(1.0)
    made.submit(300, kind="short")
    took = made.until_done(300, 5000.0)
    table = made.ledger.bulks[0]
    assert took < 1.4 * 300 * 1.5 / 12 + 10, took
    assert (table.attempt > 2).sum() <= 3, np.bincount(table.attempt)
