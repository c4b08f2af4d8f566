"""What a turn of the broker says: orders at once, a single call's number a moment later, no acknowledgement twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from jupyter_rm.broker.speech import Speech
from jupyter_rm.model.columns import Column, Picks
from jupyter_rm.model.describe import Template
from jupyter_rm.model.effects import Effect, EndPilot, Send
from jupyter_rm.model.facts import BulkSubmitted, Fact, ReportApplied, TasksAssigned
from jupyter_rm.model.messages import Accepted, Down
from jupyter_rm.runtime.drive import Drive

AGENT = ("0-study", 0)


def down(body: bytes) -> Send:
    return Send(AGENT, Down("0-study", 0, 0, 1, 1, 1, 1, 0, body))


def bound(mode: str, count: int = 1) -> list[tuple[str, Fact]]:
    """Return the facts of a turn that takes a bulk in and gives it to a pilot."""
    template = Template(mode=mode, executable="" if mode == "call" else "true")
    columns = {"x": Column.of([1] * count)}
    picks = Picks.span(0, count)
    form = BulkSubmitted(0, bytes(16), 0.0, count, template, columns)
    return [("0-study", form), ("0-study", TasksAssigned(0, picks, 0, 0.0, b"\1\0"))]


class Ear:
    """Stands for the drive and hears what is said."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.idle: Callable[[], None] | None = None
        self.speech = Speech(cast(Drive, self), self._effect, lambda *news: self.heard.append("feed"))

    def when_idle(self, callback: Callable[[], None]) -> None:
        self.idle = callback

    def _effect(self, effect: Effect) -> None:
        kind: Any = type(effect)
        if isinstance(effect, Send):
            kind = type(effect.message)
            if isinstance(effect.message, Down):
                kind = "order" if effect.message.body else "ack"
        self.heard.append(kind)

    def turn(self, facts: list[tuple[str, Fact]], *effects: Effect) -> list[object]:
        """Say a turn; return what was heard at once."""
        self.heard.clear()
        self.speech.turn(facts, list(effects), [("0-study", 0, len(facts), [b"."])] if facts else [])
        return list(self.heard)

    def rest(self) -> list[object]:
        """Nothing comes in for a while; return what is heard then."""
        self.heard.clear()
        idle, self.idle = self.idle, None
        if idle is not None:
            idle()
        return list(self.heard)


def test_the_sender_of_a_single_call_hears_of_it_when_its_agent_is_at_work() -> None:
    ear, reply = Ear(), Send(b"client", Accepted(1, 0, 1))
    assert ear.turn(bound("call"), reply, down(b"assign")) == ["order"]
    assert ear.rest() == ["feed", Accepted]
    assert ear.turn(bound("call"), reply, down(b"assign")) == ["order"]
    ear.heard.clear()
    ear.speech.tell()  # the next turn begins
    assert ear.heard == ["feed", Accepted]
    assert ear.rest() == [], "nothing is said twice"
    for facts in (bound("executable"), bound("call", 2), bound("call")[:1]):
        assert ear.turn(facts, reply, down(b"assign")) == ["order", "feed", Accepted]


def test_an_acknowledgement_waits_for_the_next_order_but_not_for_long() -> None:
    ear, report = Ear(), ReportApplied(0, 1)
    assert ear.turn([("0-study", report)], down(b"")) == ["feed"]
    assert ear.turn(bound("executable"), down(b"assign")) == ["order", "feed"], "the order says it too"
    assert ear.turn([("0-study", report)], down(b"")) == ["feed"]
    assert ear.rest() == ["ack"]
    assert ear.turn([("0-study", report)], down(b"")) == ["feed"]
    assert ear.turn([("0-study", report)], down(b"")) == ["ack", "feed"], "not longer than a turn"
    assert ear.rest() == ["ack"]
    assert ear.turn([("0-study", report)] * 4, down(b"")) == ["ack", "feed"], "many reports: at once"
    # An agent that goes waits for this word, and is ended after it.
    assert ear.turn([("0-study", report)], down(b""), EndPilot("0-study", 0, "")) == ["ack", EndPilot, "feed"]
