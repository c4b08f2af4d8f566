"""Messages whose types are right and whose content is nonsense change nothing and end nobody."""

from __future__ import annotations

import hashlib
import math

import pytest
from session_kit import HandMade, Talk, ends

from jupyter_rm.model.columns import Column, Picks
from jupyter_rm.model.describe import Template
from jupyter_rm.model.effects import Send
from jupyter_rm.model.errors import ProtocolError, RequestError
from jupyter_rm.model.facts import PilotSpec, ReportApplied
from jupyter_rm.model.messages import (
    AgentRefused,
    Ended,
    Goodbye,
    Inventory,
    Report,
    Returned,
    Started,
    Stock,
    Submit,
)
from jupyter_rm.model.resources import Node, Request

ONE, EIGHT, ZERO4 = b"\1\0", bytes(8), bytes(4)
NOWHERE = Picks.span(0, 99)
TWICE = Picks(0, 2, b"\1\0\0\0\1\0\0\0")
BEYOND = Picks(0, 1, b"\x07\0\0\0")
TORN = Picks(0, 1, b"\0\0\0")

REPORTS: list[Report] = [
    Started(7, Picks.span(0, 1), ONE, ZERO4, EIGHT),
    Started(-1, Picks.span(0, 1), ONE, ZERO4, EIGHT),
    Started(0, NOWHERE, ONE, ZERO4, EIGHT),
    Started(0, TWICE, ONE, ZERO4, EIGHT),
    Started(0, BEYOND, ONE, ZERO4, EIGHT),
    Started(0, TORN, ONE, ZERO4, EIGHT),
    Started(0, Picks.span(0, 4), ONE * 3, ZERO4, EIGHT),
    Started(0, Picks.span(0, 4), ONE, ZERO4, b"abc"),
    Ended(0, Picks(3, 1), ONE, b"\x07", ends()),
    Ended(0, Picks.span(0, 1), ONE, b"\x63", ends()),
    Ended(0, Picks.span(0, 1), ONE, b"\x05", ends()),
    Ended(0, Picks.span(0, 1), ONE, b"", ends()),
    Returned(0, NOWHERE, ONE),
    Inventory(1, 1, ((0, TWICE, ONE),)),
    Inventory(1, 1, ((9, Picks.span(0, 1), ONE),)),
    Stock(5, math.nan),
    Goodbye(200, "unheard of"),
]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_a_report_that_makes_no_sense_counts_as_taken_and_changes_nothing(report: Report) -> None:
    talk = Talk()
    agent = HandMade(talk, talk.pilot())
    agent.greet()
    talk.submit(4)
    before = talk.session.ledger.digest()
    with pytest.raises(ProtocolError):
        agent.say(report)
    talk.flush()
    assert isinstance(talk.facts[-1], ReportApplied)
    after = talk.session.ledger.digest()
    assert {**after, "pilots": None} == {**before, "pilots": None}
    agent.started(0, [0])  # the stream goes on
    assert talk.state(0)[1] == 5


@pytest.mark.parametrize(
    "nodes",
    [(), (Node("n", 70_000),), (Node("n", -1),), (Node("n", 4, gpus=65),), (Node("n", 4, mem=1 << 32),)],
    ids=["none", "cores", "negative", "gpus", "memory"],
)
def test_an_agent_with_impossible_nodes_is_refused(nodes: tuple[Node, ...]) -> None:
    talk = Talk()
    agent = HandMade(talk, talk.pilot())
    agent.nodes = nodes
    with pytest.raises(IndexError):  # there is no welcome
        agent.greet()
    assert any(isinstance(e, Send) and isinstance(e.message, AgentRefused) for e in talk.effects)
    talk.submit(1)


TEMPLATES = {
    "ranks": Template(executable="x", request=Request(ranks=20_000_000)),
    "no ranks": Template(executable="x", request=Request(ranks=0)),
    "gpus": Template(executable="x", request=Request(gpus=10**10)),
    "gpu share": Template(executable="x", request=Request(gpus=15_000)),
    "negative memory": Template(executable="x", request=Request(mem=-1)),
    "nothing": Template(executable="x", request=Request(cores=0)),
    "numa": Template(executable="x", request=Request(numa="sideways")),
    "named": Template(executable="x", request=Request(named=(("licenses", 1 << 40),))),
    "timeout": Template(executable="x", timeout=math.nan),
    "mode": Template(executable="x", mode="magic"),
    "restart": Template(executable="x", restart="perhaps"),
    "priority": Template(executable="x", priority=1 << 40),
    "partition": Template(executable="x", partition=1 << 40),
    "exclusive tag of nobody": Template(executable="x", exclusive_tag=True),
}
PARTS = {
    "count": {"count": 0},
    "short column": {"columns": {"a": Column("int", 4, data=b"abc")}},
    "column of another length": {"columns": {"a": Column("int", 3, data=bytes(24))}},
    "unknown column": {"columns": {"a": Column("complex", 4)}},
    "range": {"columns": {"a": Column("range", 4, 2**62, 2**62)}},
    "ends": {"columns": {"a": Column("text", 4, data=b"abcd", ends=b"\xff" * 32)}},
    "after": {"after": ((0, NOWHERE),)},
    "after itself": {"after": ((1, Picks.span(0, 1)),)},
    "after torn": {"after": ((0, TORN),)},
    "function": {"functions": {hashlib.sha256(b"one").digest(): b"another"}},
    "payload": {"template": Template(mode="call", function=b"f"), "payload": Column("int", 4, data=bytes(32))},
} | {name: {"template": template} for name, template in TEMPLATES.items()}


@pytest.mark.parametrize("part", PARTS)
def test_a_bulk_that_makes_no_sense_is_refused_whether_a_pilot_is_there_or_not(part: str) -> None:
    for there in (False, True):
        talk = Talk()
        if there:
            HandMade(talk, talk.pilot()).greet()
        talk.submit(4)
        before = talk.session.ledger.digest()
        fields = {"count": 4, "template": Template(executable="/bin/true"), **PARTS[part]}
        with pytest.raises(RequestError):
            talk.session.submit(Submit(0, "study", b"k" * 16, **fields))  # type: ignore[arg-type]
        talk.flush()
        assert talk.session.ledger.digest() == before


@pytest.mark.parametrize("picks", [NOWHERE, TWICE, BEYOND, TORN, Picks(-3, 2), Picks(3, 1)])
def test_canceling_tasks_that_are_not_there_is_refused(picks: Picks) -> None:
    talk = Talk()
    talk.submit(4)
    before = talk.session.ledger.digest()
    with pytest.raises(RequestError):
        talk.session.cancel([(0, picks)])
    assert talk.session.ledger.digest() == before


@pytest.mark.parametrize(
    "spec", [{"mem": 1 << 40}, {"cores": -1}, {"walltime": math.inf}, {"sandbox": "a\0b"}, {"resources": {"x": -1}}]
)
def test_a_pilot_that_no_site_can_give_is_refused(spec: dict[str, object]) -> None:
    talk = Talk()
    with pytest.raises(RequestError, match=next(iter(spec))):
        talk.session.request_pilot(b"p" * 16, PilotSpec(**spec))  # type: ignore[arg-type]
    assert not talk.session.ledger.pilots


def test_columns_made_here_are_sound() -> None:
    for values in (range(5), [1, 2], [1.5], ["a", "é", ""], [b"", b"xy"], [], range(5, 0, -1), [2**70, 1]):
        column = Column.of(values)
        column.check()
        if len(column):
            column.take(Picks.span(0, 1)).check()
            column.take(Picks.of([0, len(column) - 1])).check()
    Column.const("x", 3).check()
