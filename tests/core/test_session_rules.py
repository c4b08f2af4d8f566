"""Rules of the session that the simulation found broken once, each in its smallest form."""

from __future__ import annotations

import numpy as np
from session_kit import HandMade, Talk, ends, holding

from jupyter_rm.core.payloads import Payloads
from jupyter_rm.core.session import SessionMachine
from jupyter_rm.model.columns import Picks
from jupyter_rm.model.describe import Task, Template
from jupyter_rm.model.effects import JobChanged
from jupyter_rm.model.messages import Assign, CancelTasks, Ended, Serving, Staged, Submit
from jupyter_rm.model.resources import Request
from jupyter_rm.model.states import Cause, TaskState


def lone(talk: Talk, **fields: object) -> tuple[int, HandMade]:
    """Return a bulk of three tasks that one agent holds."""
    agent = HandMade(talk, talk.pilot())
    agent.greet()
    bulk = talk.submit(3, **fields)
    assert [type(order) for order in agent.orders()] == [Assign]
    return bulk, agent


def test_a_lost_node_gives_no_second_start_to_what_forbids_it() -> None:
    talk = Talk()
    bulk, agent = lone(talk, restart="never", retries=2)
    agent.started(bulk, [0])
    agent.ended(bulk, [0], TaskState.FAILED, Cause.NODE_LOST)
    assert talk.state(bulk, 0) == (1, TaskState.FAILED)


def test_a_failure_of_its_own_is_retried_even_then() -> None:
    talk = Talk()
    bulk, agent = lone(talk, restart="never", retries=1)
    agent.started(bulk, [0])
    agent.ended(bulk, [0], TaskState.FAILED, Cause.TASK_EXIT)
    assert talk.state(bulk, 0)[0] == 2


def test_a_pause_before_the_next_attempt_is_doubled_up_to_a_bound() -> None:
    talk = Talk()
    bulk, agent = lone(talk, retries=5, retry_delay=1500.0)
    for attempt, pause in ((1, 1500.0), (2, 3000.0), (3, 3600.0), (4, 3600.0)):
        agent.started(bulk, [0], attempt)
        agent.ended(bulk, [0], TaskState.FAILED, Cause.TASK_EXIT, attempt)
        answers: list[str] = []
        talk.session.explain(bulk, 0, answers.append)
        assert answers == [f"it pauses before its next attempt, {pause:.0f} s more"]
        for later in (pause - 1.0, 1.0):
            assert talk.state(bulk, 0) == (attempt + 1, TaskState.WAITING)
            talk.now += later
            talk.session.ports[agent.pilot].heard_at = talk.now  # it is not silent
            talk.session.tick(talk.now)
            talk.flush()
        assert talk.state(bulk, 0) == (attempt + 1, TaskState.SCHEDULED)


def test_a_loss_is_no_reason_to_pause_and_who_pauses_can_be_canceled() -> None:
    talk = Talk()
    bulk, agent = lone(talk, retries=1, retry_delay=60.0)
    agent.ended(bulk, [0], TaskState.FAILED, Cause.NODE_LOST)
    assert talk.state(bulk, 0) == (2, TaskState.SCHEDULED)
    agent.ended(bulk, [1], TaskState.FAILED, Cause.TASK_EXIT)
    talk.session.cancel([(bulk, Picks.of(np.array([1])))])
    assert talk.state(bulk, 1) == (2, TaskState.CANCELED)
    talk.session.tick(61.0)
    talk.flush()
    assert talk.state(bulk, 1) == (2, TaskState.CANCELED)


def test_after_a_restart_of_the_broker_pauses_begin_anew() -> None:
    talk = Talk()
    bulk, agent = lone(talk, retries=1, retry_delay=60.0)
    agent.ended(bulk, [0], TaskState.FAILED, Cause.TASK_EXIT)
    before = talk.session
    talk.session = SessionMachine("0-study", 2, Payloads(), before.patience, before.wall, before.ledger)
    talk.session.recover(0.0)
    agent.greet(holding(bulk, [1, 2]))
    assert talk.state(bulk, 0) == (2, TaskState.WAITING)
    talk.session.tick(60.0)
    talk.flush()
    assert talk.state(bulk, 0) == (2, TaskState.SCHEDULED)


def test_only_named_causes_are_tried_again() -> None:
    talk = Talk()
    bulk, agent = lone(talk, retries=3, retry_on=("OUT_OF_MEMORY",))
    agent.ended(bulk, [0], TaskState.FAILED, Cause.TASK_EXIT)
    agent.ended(bulk, [1], TaskState.FAILED, Cause.OUT_OF_MEMORY)
    agent.ended(bulk, [2], TaskState.FAILED, Cause.NODE_LOST)
    assert [talk.state(bulk, index)[0] for index in range(3)] == [1, 2, 2]
    assert talk.state(bulk, 0)[1] == TaskState.FAILED


def test_a_pilot_that_died_without_a_word_may_have_started_anything() -> None:
    talk = Talk()
    never, agent = lone(talk, restart="never")
    agent.greet(holding(never, [0, 1, 2]))
    talk.session.job(JobChanged("0-study", agent.pilot, alive=False))
    talk.flush()
    assert [talk.state(never, index) for index in range(3)] == [(1, TaskState.FAILED)] * 3


def test_a_restarted_agent_has_reported_every_start_before_its_inventory() -> None:
    talk = Talk()
    never, agent = lone(talk, restart="never")
    again = HandMade(talk, agent.pilot, epoch=2, seq=agent.seq)
    again.greet(None)
    again.started(never, [1])  # from the spool
    again.greet(())
    assert talk.state(never, 1) == (1, TaskState.FAILED)
    assert talk.state(never, 0)[0] == 2, "it was never started and may be"


def test_what_is_given_back_after_its_cancel_is_canceled() -> None:
    talk = Talk()
    bulk, agent = lone(talk)
    talk.session.cancel([(bulk, None)])
    agent.returned(bulk, [0, 1, 2])
    assert [talk.state(bulk, index) for index in range(3)] == [(1, TaskState.CANCELED)] * 3
    assert talk.session.ports[agent.pilot].held == 0


def test_what_was_canceled_while_its_pilot_was_silent_is_given_up_when_it_comes_back() -> None:
    # Seed 4400 of the simulation: it waited for files there that nobody would bring any more.
    talk = Talk()
    bulk, agent = lone(talk, on_silence="rerun")
    talk.session.cancel([(bulk, Picks.of([0]))])
    for talk.now in (20.0, 200.0):
        talk.session.tick(talk.now)
        talk.flush()
    assert talk.state(bulk, 0) == (1, TaskState.CANCELED)
    agent.orders()
    agent.greet(holding(bulk, [0]))
    assert [order.picks.array().tolist() for order in agent.orders() if isinstance(order, CancelTasks)] == [[0]]


def test_a_service_whose_program_has_ended_serves_nobody_while_its_files_are_under_way() -> None:
    talk = Talk()
    agent = HandMade(talk, talk.pilot())
    agent.greet()
    files = Task("db", output_staging=["log > session:///log"]).output_staging
    service = talk.submit(1, service=True, name="db", output_staging=files)
    agent.started(service, [0])
    agent.say(Serving(service, 0, 1, "n0:80"))
    user = talk.submit(1, services=("db",))
    agent.started(user, [0])
    agent.orders()
    agent.say(Staged(service, Picks.of([0]), b"\x01\x00", int(TaskState.STAGING_OUT)))
    assert [order.bulk for order in agent.orders() if isinstance(order, CancelTasks)] == [user]
    agent.ended(user, [0], TaskState.CANCELED, Cause.USER_CANCEL)
    assert talk.state(user) == (1, TaskState.FAILED)
    assert talk.session.ledger.bulks[user].cause[0] == Cause.SERVICE_LOST
    assert talk.state(service) == (1, TaskState.STAGING_OUT)


def test_what_is_given_back_waits_again_as_a_new_attempt() -> None:
    talk = Talk()
    bulk, agent = lone(talk)
    agent.orders()
    agent.returned(bulk, [1])
    assert talk.state(bulk, 1) == (2, TaskState.SCHEDULED)
    assert talk.session.ledger.bulks[bulk].failures[1] == 0


def test_a_pilot_cannot_speak_of_another_pilots_tasks() -> None:
    talk = Talk()
    bulk, agent = lone(talk)
    other = HandMade(talk, talk.pilot())
    other.greet()
    other.started(bulk, [0])
    other.ended(bulk, [0], TaskState.DONE)
    assert talk.state(bulk, 0) == (1, TaskState.SCHEDULED)
    agent.ended(bulk, [0, 1, 2], TaskState.DONE)
    assert talk.session.ports[agent.pilot].held == 0


def forgotten(talk: Talk) -> tuple[int, HandMade]:
    """Return a waiting bulk and an agent that holds its first two tasks, as after damage to the journal."""
    agent = HandMade(talk, talk.pilot())
    agent.nodes = (agent.nodes[0],)
    bulk = talk.submit(3)
    return bulk, agent


def test_what_an_agent_holds_and_the_journal_forgot_is_adopted() -> None:
    talk = Talk()
    bulk, agent = forgotten(talk)
    agent.greet(holding(bulk, [0, 1]))
    assert not [order for order in agent.orders() if isinstance(order, CancelTasks)]
    assert talk.state(bulk, 0) == (1, TaskState.SCHEDULED)
    assert talk.session.ports[agent.pilot].held == 3, "the third was given to it at once"
    agent.ended(bulk, [0, 1, 2], TaskState.DONE)
    assert talk.session.ports[agent.pilot].held == 0


def test_a_start_the_journal_forgot_is_adopted() -> None:
    talk = Talk()
    bulk, agent = forgotten(talk)
    agent.greet(None)
    agent.started(bulk, [0])
    assert talk.state(bulk, 0) == (1, TaskState.RUNNING)
    assert int(talk.session.ledger.bulks[bulk].pilot[0]) == agent.pilot


def test_an_end_the_journal_forgot_counts() -> None:
    talk = Talk()
    bulk, agent = forgotten(talk)
    agent.greet(None)
    agent.ended(bulk, [0], TaskState.DONE)
    assert talk.state(bulk, 0) == (1, TaskState.DONE)


def test_a_cancel_that_nobody_asked_for_does_not_count() -> None:
    # Seed 493 of the simulation: an obsolete attempt was canceled, and that canceled the one that counted.
    talk = Talk()
    bulk, agent = forgotten(talk)
    agent.greet(None)
    agent.ended(bulk, [0], TaskState.CANCELED, Cause.USER_CANCEL)
    assert talk.state(bulk, 0) == (1, TaskState.WAITING)


def test_stale_connections_change_nothing() -> None:
    talk = Talk()
    bulk, agent = lone(talk)
    agent.greet(holding(bulk, [0, 1, 2]))
    facts, applied = len(talk.facts), talk.session.ports[agent.pilot].reports.last
    done = Ended(bulk, Picks.of([0]), b"\x01\x00", bytes([TaskState.DONE]), ends())
    stale: tuple[dict[str, int], ...] = ({"epoch": 0}, {"hello": agent.hello - 1}, {"incarnation": 0}, {"seq": applied})
    for other in stale:
        agent.say(done, **other)
        assert talk.session.ports[agent.pilot].reports.last == applied, f"{other} was taken"
    assert len(talk.facts) == facts
    agent.say(done, seq=applied + 1)
    assert talk.state(bulk, 0) == (1, TaskState.DONE)


def test_an_agent_that_comes_back_with_less_is_not_given_what_only_fitted_before() -> None:
    talk = Talk()
    agent = HandMade(talk, talk.pilot())
    agent.greet()
    small = talk.submit(64)
    wide = talk.submit(1, request=Request(cores=4))
    assert talk.state(wide)[1] == TaskState.WAITING  # the agent's stock is full
    again = HandMade(talk, agent.pilot, epoch=2, seq=agent.seq, cores=2)
    again.greet()
    again.ended(small, list(range(64)), TaskState.DONE, attempt=2)
    assert talk.state(small, 63)[1] == TaskState.DONE
    assert talk.state(wide)[1] == TaskState.WAITING
    said: list[str] = []
    talk.session.explain(wide, 0, said.append)
    assert "can never hold it" in said[0]


def test_an_agent_ahead_of_a_damaged_journal_keeps_its_attempts() -> None:
    """Its attempts are later than those the journal knows: they are its own, not obsolete (seed 3380)."""
    talk = Talk()
    bulk, agent = lone(talk)
    again = HandMade(talk, agent.pilot, seq=agent.seq)
    again.hello = agent.hello
    again.greet(holding(bulk, [0, 1, 2], attempt=2))
    assert not [order for order in again.orders() if isinstance(order, CancelTasks)]
    assert [talk.state(bulk, index) for index in range(3)] == [(2, TaskState.SCHEDULED)] * 3
    again.ended(bulk, [0], TaskState.DONE, attempt=2)
    assert talk.state(bulk, 0) == (2, TaskState.DONE)


def test_a_task_runs_where_its_agent_says_though_the_journal_lost_why() -> None:
    """The journal forgot that what it comes after was DONE; the agent that runs it has it all the same (seed 744)."""
    talk = Talk()
    first, agent = lone(talk)
    form = Submit(0, "study", b"x" * 16, 1, Template(executable="/bin/true"), after=((first, Picks.span(0, 3)),))
    bulk = talk.session.submit(form)
    talk.flush()
    assert talk.state(bulk) == (1, TaskState.SUBMITTED)
    agent.started(bulk, [0])
    assert talk.state(bulk) == (1, TaskState.RUNNING)
    assert talk.session.ledger.bulks[bulk].pilot[0] == agent.pilot
    agent.greet(holding(first, [0, 1, 2]) + holding(bulk, [0]))
    assert not [order for order in agent.orders() if isinstance(order, CancelTasks)]
    agent.ended(bulk, [0], TaskState.DONE)
    assert talk.state(bulk) == (1, TaskState.DONE)
