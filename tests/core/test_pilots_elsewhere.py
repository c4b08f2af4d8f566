"""What a session makes of news about pilots elsewhere: no fact twice, no word after the end, no wish that cannot be."""

from __future__ import annotations

import pytest
from session_kit import HandMade, Talk

from jupyter_rm.core.session import SessionMachine
from jupyter_rm.model.effects import JobChanged, QueueSeen, StartPilot, StepTaken
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.facts import PilotQueued, PilotSpec, PilotStep
from jupyter_rm.model.late import capabilities
from jupyter_rm.model.messages import Goodbye
from jupyter_rm.model.states import Cause, PilotState

HERE = "0-study"


def test_steps_and_places_in_the_queue_are_told_once_and_never_after_the_end() -> None:
    talk = Talk()
    pilot = talk.pilot()
    for _ in range(3):
        talk.session.step(StepTaken(HERE, pilot, "environment", "progress", 40.0, "4 of 10 MB"))
        talk.session.queue_seen(QueueSeen(HERE, pilot, 3, 9, 0.0, "", "waits"))
    talk.session.step(StepTaken(HERE, pilot, "environment", "ok"))
    talk.session.step(StepTaken(HERE, 99, "environment", "ok"))
    talk.session.job(JobChanged(HERE, pilot, False, cause=int(Cause.SUBMIT_REJECTED), reason="no such queue"))
    talk.session.step(StepTaken(HERE, pilot, "submit", "ok"))
    talk.session.queue_seen(QueueSeen(HERE, pilot, 1))
    talk.flush()
    assert [fact.status for fact in talk.facts if isinstance(fact, PilotStep)] == ["progress", "ok"]
    assert [fact.position for fact in talk.facts if isinstance(fact, PilotQueued)] == [3]
    row = talk.session.ledger.pilots[pilot]
    assert (row.state, row.reason) == (PilotState.FAILED, "no such queue")


@pytest.mark.parametrize(
    ("canceled", "state", "cause"),
    [(True, PilotState.CANCELED, Cause.USER_CANCEL), (False, PilotState.FAILED, Cause.PILOT_LOST)],
)
def test_an_agent_that_its_job_ended_is_canceled_only_when_that_was_asked_for(
    canceled: bool, state: PilotState, cause: Cause
) -> None:
    talk = Talk()
    pilot = talk.pilot()
    agent = HandMade(talk, pilot)
    agent.greet()
    if canceled:
        talk.session.cancel_pilot(pilot, drain=False)
    agent.say(Goodbye(int(Cause.PILOT_LOST), "ended from outside"))
    row = talk.session.ledger.pilots[pilot]
    assert (row.state, row.cause) == (state, cause)


def test_the_shell_s_word_on_sites_counts_and_comes_before_anything_is_recorded() -> None:
    def check(spec: PilotSpec) -> None:
        if spec.site != "slurm+ssh://me@login":
            raise RequestError(f"site: {spec.site!r}", code="JRM-Q17")

    talk = Talk()
    old = talk.session
    talk.session = SessionMachine(HERE, 1, old.payloads, old.patience, old.wall, old.ledger, check_site=check)
    with pytest.raises(RequestError, match="site"):
        talk.session.request_pilot(b"a", PilotSpec(site="ssh://me@host"))
    assert talk.session.request_pilot(b"b", PilotSpec(site="slurm+ssh://me@login", cores=100_000)) == 0
    talk.flush()
    assert [effect.spec.cores for effect in talk.effects if isinstance(effect, StartPilot)] == [100_000]


def test_the_answer_of_a_probe_names_capabilities_in_any_type() -> None:
    for told in ("a,b", "a, b\n", ("a,b",), ("a", "b", "")):
        assert capabilities(("c",), {"capabilities": told}) == {"a", "b", "c"}, told


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"cores": 100_000}, "cores"),  # this machine is one node
        ({"backup": -1}, "backup"),
        ({"drain": 60.0, "walltime": 30.0}, "drain"),
        ({"options": {"qos": "a\0b"}}, "options"),
        ({"options": {str(n): "x" for n in range(65)}}, "options"),
        ({"hooks": {"before_env": "x" * 5000}}, "hooks"),
        ({"queue": "a\0"}, "queue"),
    ],
)
def test_an_impossible_wish_is_refused_by_field(wish: dict[str, object], field: str) -> None:
    talk = Talk()
    with pytest.raises(RequestError, match=field):
        talk.session.request_pilot(b"a", PilotSpec(**wish))  # type: ignore[arg-type]
    assert not talk.session.ledger.pilots
