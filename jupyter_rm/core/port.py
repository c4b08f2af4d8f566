"""The broker's end of the link to one agent: connection, orders under way, what the agent wants.

Knows the protocol, nothing about tasks. A port is *ready* only after the agent's inventory arrived in this connection:
before that, broker and agent may disagree about what is held. Read next: :mod:`jupyter_rm.core.session`.
"""

from __future__ import annotations

from ..model.effects import Effect, Send
from ..model.messages import AgentHello, AgentWelcome, Down, Order, Up
from ..wire import codec
from ..wire.link import Inbox, Outbox
from .breaker import Breaker
from .patience import Patience


class Port:
    """One pilot's agent as the broker sees it.

    Attributes:
        held: tasks bound to the pilot without a final state. stock: how many it wants to hold.
        templates: bulks whose template was sent in this connection; functions likewise.
        asleep: its job waits to be started anew, so nobody is to be heard.
    """

    def __init__(self, session: str, pilot: int, incarnation: int, patience: Patience, applied: int) -> None:
        self.session, self.pilot, self.incarnation = session, pilot, incarnation
        self._patience = patience
        self.epoch = -1
        self.hello = -1
        self.ready = False
        self.connected = False
        self.asleep = False
        self.heard_at = 0.0
        self.said_at = 0.0
        self.orders = Outbox(patience=patience.resend)
        self.reports = Inbox(applied)
        self.kept = 0
        self.held = 0
        self.coming = 0  # of those held: how many wait for files, counted before tasks are bound
        self.stock = 0
        self.rate = 0.0
        self.templates: set[int] = set()
        self.functions: set[bytes] = set()
        self.cargo: set[int] = set()  # bulks whose files from here were asked for in this connection
        self.owes_ack = False
        self.silent_since: float | None = None
        self.idle_since: float | None = None  # it has free cores since then
        self.asked_back = -1e9  # when it was last asked for what it has not begun
        self.breaker = Breaker()

    @property
    def peer(self) -> tuple[str, int]:
        """Return the name under which the shell finds this agent."""
        return (self.session, self.pilot)

    @property
    def room(self) -> int:
        """Return how many more tasks the agent wants now, beside those whose files are on their way."""
        return self.stock - self.held + self.coming if self.ready else 0

    @property
    def hungry(self) -> bool:
        """Say whether it is worth an order: a port that is nearly full waits until a quarter of its stock is gone."""
        return self.room > 0 and 4 * self.room >= self.stock

    def greet(self, now: float, hello: AgentHello) -> Effect:
        """Open a new connection."""
        self.epoch, self.hello = hello.epoch, hello.hello
        self.connected, self.ready, self.asleep = True, False, False
        self.heard_at = now
        self.orders = Outbox(patience=self._patience.resend)
        self.templates.clear()
        self.functions.clear()
        self.cargo.clear()
        self.stock = hello.stock
        return Send(
            self.peer,
            AgentWelcome(
                self.session, self.pilot, hello.epoch, hello.hello, self.incarnation, self.reports.last, self.kept
            ),
        )

    def accepts(self, now: float, frame: Up) -> bool:
        """Say whether the frame belongs to this connection, and note what it says about the stream."""
        if not self.connected or (frame.epoch, frame.hello, frame.incarnation) != (
            self.epoch,
            self.hello,
            self.incarnation,
        ):
            return False
        self.heard_at = now
        self.owes_ack = True
        self.orders.ack(frame.ack, now)
        self.orders.forget(frame.ack)
        return True

    def order(self, order: Order) -> None:
        """Queue an order."""
        self.orders.put(codec.encode(order))

    def transmit(self, now: float) -> list[Effect]:
        """Return the frames to send now: orders, or at least the acknowledgement that is owed."""
        if not self.connected:
            return []
        if self.orders.overdue(now):
            self.orders.rewind(self.orders.acked, now)
        effects: list[Effect] = [self._down(seq, body) for seq, body in self.orders.take(now)]
        if not effects and self.owes_ack:
            effects.append(self._down(self.orders.sent, b""))
        if effects:
            self.owes_ack = False
            self.said_at = now
        return effects

    def farewell(self) -> Effect:
        """Return the acknowledgement of the last report, after which the agent may go."""
        return self._down(self.orders.sent, b"")

    def _down(self, seq: int, body: bytes) -> Send:
        return Send(
            self.peer,
            Down(
                self.session,
                self.pilot,
                self.epoch,
                self.hello,
                self.incarnation,
                seq,
                self.reports.last,
                self.kept,
                body,
            ),
        )

    def lose(self) -> None:
        """Forget the connection: the agent ended."""
        self.connected = self.ready = False
        self.stock = 0
