"""A pilot that ruins everything it is given is set aside while another can do its work (G22)."""

from __future__ import annotations

import pytest
from session_kit import HandMade, Talk, ends

from jupyter_rm.core.breaker import RUINED
from jupyter_rm.model.columns import Picks
from jupyter_rm.model.messages import Assign, Ended
from jupyter_rm.model.states import Cause, TaskState


def agents(talk: Talk, count: int) -> list[HandMade]:
    made = [HandMade(talk, talk.pilot()) for _ in range(count)]
    for agent in made:
        agent.greet()
    return made


def play(talk: Talk, agent: HandMade, state: TaskState, cause: Cause = Cause.NONE) -> int:
    """Let an agent end everything it was given, attempt by attempt as it was told; return how much that was."""
    done = 0
    for order in agent.orders():
        if isinstance(order, Assign):
            index = order.picks
            agent.say(Ended(order.bulk, index, order.attempt, bytes([state]), ends(cause)))
            done += len(index)
    return done


@pytest.mark.parametrize("cause", [Cause.START_FAILED, Cause.ENV_FAILED, Cause.WORKER_LOST, Cause.DISK_FULL])
def test_it_is_charged_at_most_twenty_tasks_and_the_others_end_well(cause: Cause) -> None:
    talk = Talk()
    bad, good = agents(talk, 2)
    bulk = talk.submit(100)
    counts = talk.session.ledger.bulks[bulk].counts
    given = 0
    for _ in range(60):
        given += play(talk, bad, TaskState.FAILED, cause)
        play(talk, good, TaskState.DONE)
        if counts[TaskState.DONE] + counts[TaskState.FAILED] == 100:
            break
    assert given >= RUINED, "the bad pilot was not even tried"
    assert counts[TaskState.FAILED] <= RUINED
    assert counts[TaskState.DONE] == 100 - counts[TaskState.FAILED]
    row = talk.session.ledger.pilots[bad.pilot]
    assert row.reason.startswith("set aside: it ruined")


def test_a_pilot_that_is_alone_goes_on() -> None:
    talk = Talk()
    (agent,) = agents(talk, 1)
    bulk = talk.submit(100)
    counts = talk.session.ledger.bulks[bulk].counts
    while play(talk, agent, TaskState.FAILED, Cause.START_FAILED):
        pass
    assert counts[TaskState.FAILED] == 100


def test_what_fails_everywhere_ends_and_nothing_goes_round_for_ever() -> None:
    talk = Talk()
    both = agents(talk, 2)
    bulk = talk.submit(80)
    counts = talk.session.ledger.bulks[bulk].counts
    for _ in range(400):
        if not sum(play(talk, agent, TaskState.FAILED, Cause.START_FAILED) for agent in both):
            break
    assert counts[TaskState.FAILED] == 80


def test_failures_of_the_tasks_own_making_are_not_held_against_it() -> None:
    talk = Talk()
    bad, good = agents(talk, 2)
    bulk = talk.submit(100)
    for _ in range(60):
        play(talk, bad, TaskState.FAILED, Cause.TASK_EXIT)
        play(talk, good, TaskState.DONE)
    counts = talk.session.ledger.bulks[bulk].counts
    assert counts[TaskState.FAILED] > RUINED
    assert talk.session.ports[bad.pilot].breaker.until is None


def test_it_is_tried_again_later_without_charging_tasks_and_one_success_clears_it() -> None:
    talk = Talk()
    bad, good = agents(talk, 2)
    bulk = talk.submit(100)
    for _ in range(60):
        play(talk, bad, TaskState.FAILED, Cause.START_FAILED)
        play(talk, good, TaskState.DONE)
    failed = int(talk.session.ledger.bulks[bulk].counts[TaskState.FAILED])
    breaker = talk.session.ports[bad.pilot].breaker
    assert breaker.until is not None
    later = talk.submit(20)
    assert play(talk, bad, TaskState.DONE) == 0
    talk.now = breaker.until
    for agent in (bad, good):
        talk.session.ports[agent.pilot].heard_at = talk.now
    talk.session.tick(talk.now)
    talk.flush()
    assert breaker.until is None
    more = talk.submit(40)
    assert play(talk, bad, TaskState.FAILED, Cause.START_FAILED) > 0
    table = talk.session.ledger.bulks[more]
    assert table.counts[TaskState.FAILED] == 0, "on trial nothing is charged"
    assert breaker.until is not None
    talk.now = breaker.until
    talk.session.tick(talk.now)
    talk.submit(40)
    play(talk, good, TaskState.DONE)
    assert play(talk, bad, TaskState.DONE) > 0
    assert breaker.in_a_row == 0
    assert talk.session.ledger.bulks[bulk].counts[TaskState.FAILED] == failed
    assert talk.session.ledger.bulks[later].counts[TaskState.FAILED] == 0


def test_a_success_in_the_same_report_counts() -> None:
    talk = Talk()
    bad, _ = agents(talk, 2)
    bulk = talk.submit(100)
    order = next(order for order in bad.orders() if isinstance(order, Assign))
    index = order.picks.array()
    states = bytes([TaskState.DONE] + [TaskState.FAILED] * (len(index) - 1))
    causes = bytes([Cause.NONE] + [Cause.START_FAILED] * (len(index) - 1))
    told = ends(Cause.NONE)
    bad.say(Ended(bulk, Picks.of(index), order.attempt, states, type(told)(causes, *list(_rest(told)))))
    assert talk.session.ports[bad.pilot].breaker.in_a_row == 0


def _rest(told: object) -> list[object]:
    return [getattr(told, name) for name in told.__struct_fields__[1:]]  # type: ignore[attr-defined]
