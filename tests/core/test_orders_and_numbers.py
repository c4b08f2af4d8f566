"""Orders stay below the longest frame, sessions get numbers nobody had, and a vain wait says so."""

from __future__ import annotations

import pytest
from session_kit import HandMade, Talk

from jupyter_rm.core.binding import ASSIGN_BYTES, _parts
from jupyter_rm.core.broker import BrokerMachine
from jupyter_rm.model.columns import Column, Picks, pack
from jupyter_rm.model.describe import Template
from jupyter_rm.model.effects import JobChanged
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.ledger import Ledger
from jupyter_rm.model.messages import Assign


def test_unequal_payloads_are_cut_by_size_and_nothing_is_lost() -> None:
    sizes = [1] * 50 + [ASSIGN_BYTES] * 3 + [1] * 50
    payload = Column.of_bytes([bytes(size) for size in sizes])
    order = Assign(0, Picks.span(10, 10 + len(sizes)), pack([1] * len(sizes), "<u2"), Template(), {}, payload)
    parts = _parts(order)
    assert len(parts) > 1
    assert [part.template is None for part in parts] == [False] + [True] * (len(parts) - 1)
    assert [index for part in parts for index in part.picks.array().tolist()] == list(range(10, 10 + len(sizes)))
    told = [value for part in parts if part.payload is not None for value in part.payload.values()]
    assert [len(value) for value in told if isinstance(value, bytes)] == sizes
    assert all(part.payload is not None and len(part.payload.data) <= 2 * ASSIGN_BYTES for part in parts)


def test_equal_payloads_are_one_order() -> None:
    payload = Column.of_bytes([b"x"] * 1000)
    order = Assign(0, Picks.span(0, 1000), pack([1], "<u2"), Template(), {}, payload)
    assert _parts(order) == [order]


def test_a_new_session_gets_a_number_that_is_nowhere_on_disk() -> None:
    machine = BrokerMachine(1, wall=lambda: 0.0, first_number=7)
    assert machine.open("a")[0].key == "7-a"
    old = Ledger()
    old.name = "b"
    machine.adopt("30-b", old)
    assert machine.open("c")[0].key == "31-c"


def test_waiting_for_a_pilot_that_has_ended_is_explained() -> None:
    talk = Talk()
    first = talk.pilot()
    bulk = talk.submit(1, pilot=f"p.{first}")
    talk.session.cancel_pilot(first, drain=False)
    talk.session.job(JobChanged("0-study", first, alive=False))
    talk.pilot()
    answers: list[str] = []
    talk.session.explain(bulk, 0, answers.append)
    assert "asks for pilot p.0, which has ended" in answers[0]
    with pytest.raises(RequestError, match=r"pilot: p\.0 has ended") as caught:
        talk.submit(1, pilot="p.0")
    assert caught.value.code == "JRM-Q13"


def test_a_name_whose_pilot_has_ended_may_be_taken_again() -> None:
    talk = Talk()
    first = talk.pilot(name="q")
    talk.session.cancel_pilot(first, drain=False)
    talk.session.job(JobChanged("0-study", first, alive=False))
    bulk = talk.submit(1, pilot="q")
    answers: list[str] = []
    talk.session.explain(bulk, 0, answers.append)
    assert "start another of that name" in answers[0]
    second = talk.pilot(name="q")
    HandMade(talk, second).greet()
    assert int(talk.session.ledger.bulks[bulk].pilot[0]) == second
