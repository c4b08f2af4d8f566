"""Pilots that follow one another: each is asked for in time, once, and takes over what the one before cannot end."""

from __future__ import annotations

import pytest

from jupyter_rm.core import lives, renewal
from jupyter_rm.model.effects import JobChanged
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.facts import PilotSpec
from jupyter_rm.model.messages import AgentHello
from jupyter_rm.model.pilotrow import PilotRow
from jupyter_rm.model.resources import Node
from jupyter_rm.model.states import Cause, PilotState


def active(**spec: object) -> PilotRow:
    row = PilotRow(3, b"k" * 16, PilotSpec(site="local", **spec), 100.0)  # type: ignore[arg-type]
    row.state = PilotState.ACTIVE
    row.times[int(PilotState.ACTIVE)] = 1000.0
    return row


def test_a_successor_is_due_a_share_of_the_walltime_before_the_end() -> None:
    row = active(walltime=3600.0, renew=2)
    assert not renewal.is_due(row, 1000 + 3600 - 721) and renewal.is_due(row, 1000 + 3600 - 720)
    short = active(walltime=100.0, renew=1)
    assert not renewal.is_due(short, 1049) and renewal.is_due(short, 1050), "half of it is the most"
    assert renewal.is_due(active(walltime=3600.0, renew=1, drain=1000.0), 1000 + 2600)
    assert not renewal.is_due(active(walltime=3600.0), 9e9), "nobody asked for one"
    row.state, row.cause = PilotState.DONE, Cause.WALLTIME
    assert renewal.is_due(row, 9e9), "nobody was there in time"
    row.cause = Cause.NONE
    assert renewal.is_due(row, 9e9), "it drained because its time was nearly over"
    row.times[int(PilotState.DRAINING)] = 1500.0
    assert not renewal.is_due(row, 9e9), "it was told to"


def test_it_is_the_same_successor_whenever_it_is_asked() -> None:
    row = active(walltime=60.0, renew=2, name="big", nodes=4)
    key, spec = renewal.successor(row)
    assert (key, spec) == renewal.successor(row) and key != row.key
    assert (spec.renew, spec.replaces, spec.name, spec.nodes) == (1, 3, "", 4)
    assert renewal.successor(active(walltime=60.0))[0] == key


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"renew": 1}, "renew"),
        ({"renew": -1}, "renew"),
        ({"renew": 10**6, "walltime": 1.0}, "renew"),
        ({"replaces": 2}, "replaces"),
    ],
)
def test_what_cannot_be_renewed_is_refused_by_field(spec: dict[str, int], field: str) -> None:
    with pytest.raises(RequestError, match=f"^{field}: "):
        renewal.check(PilotSpec(**spec), 2)  # type: ignore[arg-type]


def hello(*nodes: Node, epoch: int = 1) -> AgentHello:
    return AgentHello("s", 3, epoch, 2, 0, nodes=nodes)


def test_what_is_said_of_new_lives_and_of_nodes_lost_replaced_and_back() -> None:
    row = active()
    row.epoch, row.nodes = 1, (Node("a", 4), Node("b", 4))
    assert "n" not in lives.changed(row, hello(*row.nodes))
    lost = lives.changed(row, hello(Node("a", 4), Node("b", 0)))
    assert lost.startswith("takes tasks on 1 of 2 nodes: b is lost") and "JRM-L37" in lost
    assert "c has taken the place of b" in lives.changed(row, hello(Node("a", 4), Node("c", 4)))
    row.nodes = (Node("a", 4), Node("b", 0))
    assert lives.changed(row, hello(Node("a", 4), Node("b", 4))) == "takes tasks", "it came late"
    row.reason = lost
    assert "b is there again" in lives.changed(row, hello(Node("a", 4), Node("b", 4)))
    assert "JRM-A38" in lives.changed(row, hello(*row.nodes, epoch=2))
    assert "JRM-S30" in lives.changed(row, hello(*row.nodes, epoch=1001))


def test_only_a_better_word_on_an_end_from_outside_is_taken() -> None:
    row = active()
    row.state, row.cause, row.reason = PilotState.FAILED, Cause.PILOT_LOST, "ended from outside"
    news = JobChanged("s", 3, False, cause=int(Cause.WALLTIME), reason="job 7 reached its time limit")
    fact = lives.learned(row, news, 5.0)
    assert fact is not None and (fact.state, fact.cause) == (PilotState.FAILED, Cause.WALLTIME)
    assert lives.learned(row, JobChanged("s", 3, False, reason="the agent ended"), 5.0) is None
    row.cause = Cause.WALLTIME
    assert lives.learned(row, news, 5.0) is None, "that is known"
