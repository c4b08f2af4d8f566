"""Tasks are bound late: pilots that come at different times finish them sooner than when each had its share at once."""

from __future__ import annotations

import numpy as np
from steady_kit import Steady

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
