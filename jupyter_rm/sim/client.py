"""A simulated client: asks, asks again until answered, believes only answers, and follows the feed.

Its history says of each request what became of it: invoked, accepted, refused, or unknown (it died before the answer).
Read next: :mod:`jupyter_rm.sim.plan`, where what it asks for is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from ..model import facts as facts_of
from ..model.ledger import Ledger
from ..model.messages import (
    Accepted,
    Attach,
    Attached,
    Feed,
    Message,
    Refused,
    RequestPilot,
    Submit,
    SubmitBundle,
)
from ..testing.oracles import agreed
from ..wire import codec

if TYPE_CHECKING:
    from .world import World

RESEND = 4.0
REATTACH = 25.0


class Client:
    """One client of one session.

    Attributes:
        history: (time, outcome, request), outcome one of invoke, ok, fail, unknown.
        ledger: its replica of the session, when it follows; ``cursor`` the last row folded.
    """

    def __init__(self, world: World, number: int, session: str, *, follow: bool) -> None:
        self._world = world
        self.address = f"c.{number}"
        self.session, self.follow = session, follow
        self.history: list[tuple[float, str, Message]] = []
        self.ledger = Ledger()
        self.cursor = 0
        self.attached = False
        self._create = True
        self._incarnation = 0
        self._req = 0
        self._waiting: dict[int, tuple[Message, Callable[[Accepted], None] | None]] = {}
        self._backlog: list[Callable[[], None]] = []
        self._attach_req = 0
        world.network.listen(self.address, self._frame)
        self._attach()

    # ------------------------------------------------------------ asking

    def ask(self, message: Message, then: Callable[[Accepted], None] | None = None) -> None:
        """Send a request and repeat it until it is answered; ``then`` takes the answer if it is accepted."""
        self._req += 1
        message = msgspec.structs.replace(message, req=self._req)
        self._waiting[self._req] = (message, then)
        self.history.append((self._world.loop.now, "invoke", message))
        self._send(self._req)

    def when_attached(self, call: Callable[[], None]) -> None:
        """Do something as soon as the session is known to exist."""
        if self.attached:
            call()
        else:
            self._backlog.append(call)

    def die(self) -> None:
        """Be replaced by a new client that knows nothing of what was asked."""
        now = self._world.loop.now
        self.history += [(now, "unknown", message) for message, _ in self._waiting.values()]
        self._waiting.clear()
        self.ledger, self.cursor = Ledger(), 0
        self._attach()

    def _send(self, req: int) -> None:
        asked = self._waiting.get(req)
        if asked is not None:
            self._world.network.send(self.address, "broker", codec.encode(asked[0]))
            self._world.loop.after(RESEND, self._send, req)

    def _attach(self) -> None:
        self._req += 1
        self._attach_req = self._req
        self._world.loop.after(0.0 if not self.attached else 0.05, self._send_attach, self._req)

    def _send_attach(self, req: int) -> None:
        if req == self._attach_req:
            # A new life of the broker may have lost what damage took: what was folded counts only in the same life.
            if self._incarnation != self._world.broker.disk.incarnation:
                self._incarnation, self.cursor = self._world.broker.disk.incarnation, 0
            message = Attach(req, self.session, create=self._create, cursor=self.cursor if self.follow else 0)
            self._world.network.send(self.address, "broker", codec.encode(message))
            self._world.loop.after(RESEND, self._send_attach, req)

    # ------------------------------------------------------------ answers

    def _frame(self, source: str, frame: bytes) -> None:
        del source
        message = codec.from_broker.decode(frame)
        if isinstance(message, Feed):
            self._feed(message)
        elif isinstance(message, Attached):
            self._attached(message)
        elif isinstance(message, (Accepted, Refused)):
            self._answer(message)

    def _answer(self, answer: Accepted | Refused) -> None:
        asked = self._waiting.get(answer.req)
        if asked is None or (isinstance(answer, Refused) and answer.error.retry):
            return
        del self._waiting[answer.req]
        message, then = asked
        now = self._world.loop.now
        if isinstance(answer, Refused):
            self.history.append((now, "fail", message))
            self._world.trace.note(now, self.address, f"refused: {answer.error.message}")
            return
        self.history.append((now, "ok", message))
        if isinstance(message, (Submit, SubmitBundle, RequestPilot)):
            self._world.watch_of(self.session).acknowledged(message.key, answer.number)
        if then is not None:
            then(answer)

    def _attached(self, message: Attached) -> None:
        if message.req != self._attach_req:
            return
        self._attach_req = 0
        self._create = False
        if self.follow:
            if message.snapshot:
                self.ledger = Ledger.load(message.snapshot)
            self.cursor = message.cursor
            self._world.loop.after(REATTACH, self._again, self._req)
        self.attached = True
        backlog, self._backlog = self._backlog, []
        for call in backlog:
            call()

    def _again(self, req: int) -> None:
        del req
        if self._attach_req == 0:
            self._attach()

    def _feed(self, message: Feed) -> None:
        if not self.follow or not self.attached or message.cursor <= self.cursor or self._attach_req:
            return
        if message.before != self.cursor:
            self._attach()  # something is missing
            return
        for raw in message.facts:
            self.ledger.apply(facts_of.decode(bytes(raw)))
        self.cursor = message.cursor

    # ------------------------------------------------------------ the end

    @property
    def idle(self) -> bool:
        """Say whether everything asked was answered."""
        return not self._waiting and not self._backlog and self.attached

    def catch_up(self) -> None:
        """Attach anew, to hear what was lost on the way."""
        self._attach()

    def caught_up(self, tip: int) -> bool:
        """Say whether it is attached and has folded everything up to row ``tip``."""
        return self._attach_req == 0 and (not self.follow or self.cursor == tip)

    def finish(self, live: Ledger) -> None:
        """Check the replica against the live ledger."""
        if self.follow:
            agreed(live, self.ledger, f"the replica of {self.address}")
