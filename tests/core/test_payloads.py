"""Functions and arguments stay in memory while an open bulk needs them, and come back from the journal."""

from __future__ import annotations

import hashlib

from session_kit import HandMade, Talk

from jupyter_rm.core.payloads import Payloads
from jupyter_rm.model.columns import Column
from jupyter_rm.model.describe import Template
from jupyter_rm.model.messages import Assign, Function, Submit
from jupyter_rm.model.states import Cause, TaskState

BODY = b"a function"
SHA = hashlib.sha256(BODY).digest()


def test_a_function_leaves_with_its_last_caller_and_is_fetched_for_the_next() -> None:
    journal: dict[bytes, bytes] = {}
    asked = []

    def fetch(sha: bytes) -> bytes | None:
        asked.append(sha)
        return journal.get(sha)

    payloads = Payloads(fetch)
    arguments = Column.of([b"1"])
    payloads.keep("s", 0, arguments, {SHA: BODY}, SHA)
    payloads.keep("s", 1, arguments, {}, SHA)
    journal.update(payloads.pending[0][3])
    payloads.drop("s", 0)
    assert (payloads.function(SHA), asked) == (BODY, [])
    payloads.drop("s", 1)
    assert payloads.payload("s", 1) is None
    assert not payloads._functions
    assert (payloads.function(SHA), asked) == (BODY, []), "the last one let go is still at hand"
    payloads.keep("s", 3, arguments, {b"other": b"another"}, b"other")
    payloads.drop("s", 3)
    payloads.keep("s", 2, arguments, {SHA: BODY}, SHA)
    assert payloads.pending[-1][3] == {}, "it is in the journal already"
    assert [payloads.function(SHA) for _ in range(3)] == [BODY] * 3
    assert asked == [SHA]
    assert payloads.function(b"never heard of") is None


def test_calls_of_a_function_that_damage_took_end_and_the_others_go_on() -> None:
    talk = Talk()
    payloads = talk.session.payloads = Payloads(lambda sha: None)
    agent = HandMade(talk, talk.pilot())
    call = Template(mode="call", function=SHA)
    talk.session.submit(Submit(0, "study", b"a" * 16, 2, call, payload=Column.of([b"1", b"2"]), functions={SHA: BODY}))
    payloads._functions.clear()  # a new life, after damage
    talk.submit(1)
    agent.greet()
    assert talk.state(0, 1) == (1, TaskState.FAILED)
    assert talk.session.ledger.bulks[0].cause[1] == Cause.BAD_PAYLOAD
    orders = agent.orders()
    assert [order.bulk for order in orders if isinstance(order, Assign)] == [1]
    assert not any(isinstance(order, Function) for order in orders)
