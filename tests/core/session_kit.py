"""A session's machine and a hand-made agent that says exactly what a test wants it to say."""

from __future__ import annotations

import numpy as np

from jupyter_rm.core.patience import Patience
from jupyter_rm.core.payloads import Payloads
from jupyter_rm.core.session import SessionMachine
from jupyter_rm.model.columns import Picks, pack
from jupyter_rm.model.describe import Template
from jupyter_rm.model.effects import Effect, Send
from jupyter_rm.model.facts import Ends, Fact, PilotSpec
from jupyter_rm.model.messages import (
    AgentHello,
    AgentWelcome,
    Down,
    Ended,
    Inventory,
    Order,
    Report,
    Returned,
    Started,
    Submit,
    Up,
)
from jupyter_rm.model.resources import Node
from jupyter_rm.model.states import Cause, TaskState
from jupyter_rm.wire import codec


class Talk:
    """A session and what it decided."""

    def __init__(self) -> None:
        self.now = 0.0
        self.session = SessionMachine("0-study", 1, Payloads(), Patience(), lambda: 1.7e9 + self.now)
        self.session.open("study", "me", "here")
        self.facts: list[Fact] = []
        self.effects: list[Effect] = []

    def submit(self, count: int, **fields: object) -> int:
        template = Template(executable="/bin/true", **fields)  # type: ignore[arg-type]
        key = len(self.session.ledger.bulks).to_bytes(16, "little")
        bulk = self.session.submit(Submit(0, "study", key, count, template))
        self.flush()
        return bulk

    def pilot(self, name: str = "") -> int:
        number = self.session.request_pilot(len(self.session.ledger.pilots).to_bytes(16, "big"), PilotSpec(name=name))
        self.flush()
        return number

    def flush(self) -> None:
        self.session.flush(self.now)
        turn = self.session.collect()
        self.facts += [fact for _, fact in turn.facts]
        self.effects += turn.effects

    def state(self, bulk: int, index: int = 0) -> tuple[int, int]:
        table = self.session.ledger.bulks[bulk]
        return int(table.attempt[index]), int(table.state[index])


class HandMade:
    """An agent: hello, then any reports, each in a frame of its own."""

    def __init__(self, talk: Talk, pilot: int, *, epoch: int = 1, seq: int = 0, cores: int = 4) -> None:
        self.talk, self.pilot, self.epoch, self.seq = talk, pilot, epoch, seq
        self.hello, self.incarnation = 0, -1
        self.nodes = (Node("n0", cores),)
        self._seen = 0

    def greet(self, held: tuple[tuple[int, Picks, bytes], ...] | None = ()) -> None:
        """Say hello and, unless ``held`` is None, what is held."""
        self.hello += 1
        hello = AgentHello("0-study", self.pilot, self.epoch, self.hello, self.seq, nodes=self.nodes, stock=64)
        self.talk.session.hello(self.talk.now, hello)
        self.talk.flush()
        welcomes = [
            effect.message
            for effect in self.talk.effects
            if isinstance(effect, Send) and isinstance(effect.message, AgentWelcome)
        ]
        self.incarnation, self.seq = welcomes[-1].incarnation, max(self.seq, welcomes[-1].applied)
        if held is not None:
            self.say(Inventory(self.epoch, self.hello, held))

    def say(self, report: Report, **other: int) -> None:
        self.seq += 1
        fields = {"epoch": self.epoch, "hello": self.hello, "incarnation": self.incarnation, "seq": self.seq, **other}
        frame = Up("0-study", self.pilot, ack=0, body=codec.encode(report), **fields)  # type: ignore[arg-type]
        self.talk.session.frame(self.talk.now, frame)
        self.talk.flush()

    def orders(self) -> list[Order]:
        """Return the orders sent since the last call."""
        sent = [
            effect.message
            for effect in self.talk.effects
            if isinstance(effect, Send) and effect.to == ("0-study", self.pilot) and isinstance(effect.message, Down)
        ]
        new, self._seen = sent[self._seen :], len(sent)
        return [codec.orders.decode(down.body) for down in new if down.body]

    def started(self, bulk: int, index: list[int], attempt: int = 1) -> None:
        self.say(Started(bulk, Picks.of(index), _u2(attempt), pack([0], "<u4"), pack([1.0], "<f8")))

    def ended(self, bulk: int, index: list[int], state: TaskState, cause: Cause = Cause.NONE, attempt: int = 1) -> None:
        self.say(Ended(bulk, Picks.of(index), _u2(attempt), bytes([state]), ends(cause)))

    def returned(self, bulk: int, index: list[int], attempt: int = 1) -> None:
        self.say(Returned(bulk, Picks.of(index), _u2(attempt)))


def ends(cause: Cause = Cause.NONE) -> Ends:
    return Ends(bytes([cause]), bytes(4), bytes(4), bytes(8), bytes(8), bytes(4), bytes(4), bytes(4))


def holding(bulk: int, index: list[int], attempt: int = 1) -> tuple[tuple[int, Picks, bytes], ...]:
    return ((bulk, Picks.of(index), _u2(attempt)),)


def _u2(attempt: int) -> bytes:
    return pack(np.array([attempt]), "<u2")
