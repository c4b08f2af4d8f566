"""The broker's machine: who asks what of which session.

It routes: clients' requests and agents' frames go to the :class:`~jupyter_rm.core.session.SessionMachine` they name,
and every request gets exactly one reply. Reading (attach, values, stories, listings) needs no decision and is done by
the shell from ledger and journal. Knows no socket, file or clock. Read next: :mod:`jupyter_rm.core.session`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..model.effects import (
    Brought,
    Carrying,
    Effect,
    Fetched,
    FromAgent,
    FromClient,
    Input,
    JobChanged,
    QueueSeen,
    Remains,
    Send,
    StepTaken,
    Turn,
)
from ..model.errors import ErrorForm, JrmError, ProtocolError, RequestError
from ..model.facts import PilotSpec
from ..model.ids import check_name
from ..model.ledger import Ledger
from ..model.messages import (
    PROTOCOL,
    Accepted,
    AgentHello,
    AgentRefused,
    Cancel,
    CancelPilot,
    CloseSession,
    Explain,
    Explained,
    GiveService,
    Message,
    Refused,
    RequestPilot,
    Submit,
    SubmitBundle,
    Up,
)
from .patience import DEFAULT, Patience
from .payloads import Payloads
from .session import SessionMachine


class BrokerMachine:
    """All sessions of one user.

    Args:
        incarnation: number of this life of the broker; larger than any before.
        wall: returns the wall time of the current turn, for display.
        first_number: a new session's number is at least this: what an earlier life left on disk must not be taken for
            the new session's.
        check_site: raises RequestError for a site that cannot be asked; None: only this machine can.
    """

    def __init__(
        self,
        incarnation: int,
        *,
        payloads: Payloads | None = None,
        wall: Callable[[], float],
        host: str = "",
        patience: Patience = DEFAULT,
        first_number: int = 0,
        check_site: Callable[[PilotSpec], None] | None = None,
    ) -> None:
        self._check_site = check_site
        self._next_number = first_number
        self.incarnation = incarnation
        self.payloads = payloads if payloads is not None else Payloads()
        self.wall = wall
        self.host = host
        self.patience = patience
        self.sessions: dict[str, SessionMachine] = {}
        self.names: dict[str, str] = {}  # name -> key of the latest session of that name
        self._effects: list[Effect] = []

    # ------------------------------------------------------------ sessions

    def adopt(self, key: str, ledger: Ledger) -> SessionMachine:
        """Take in a session that the journal holds."""
        session = self._machine(key, ledger)
        self.sessions[key] = session
        self.names[ledger.name] = key
        self._next_number = max(self._next_number, int(key.partition("-")[0]) + 1)
        return session

    def _machine(self, key: str, ledger: Ledger | None = None) -> SessionMachine:
        return SessionMachine(
            key, self.incarnation, self.payloads, self.patience, self.wall, ledger, check_site=self._check_site
        )

    def recover(self, now: float) -> Turn:
        """Take up the work of an earlier life, after all sessions were adopted."""
        for session in self.sessions.values():
            session.recover(now)
        return self.flush(now)

    def open(self, name: str, owner: str = "", *, create: bool = True) -> tuple[SessionMachine, bool]:
        """Return (session, whether it was made just now); RequestError for bad or unknown names."""
        if name in self.sessions:
            return self.sessions[name], False  # an earlier session, by its key
        check_name(name, "session")
        key = self.names.get(name)
        if key is not None and not (create and self.sessions[key].ledger.closed):
            return self.sessions[key], False
        if not create:
            known = ", ".join(self.names) or "none"
            raise RequestError(f"there is no session {name!r}", hint=f"sessions: {known}", code="JRM-Q08")
        key = f"{self._next_number}-{name}"
        self._next_number += 1
        session = self._machine(key)
        self.sessions[key] = session
        self.names[name] = key
        session.open(name, owner, self.host)
        return session, True

    def find(self, name: str) -> SessionMachine:
        """Return a session by name or key; RequestError when there is none."""
        key = self.names.get(name, name)
        if key not in self.sessions:
            return self.open(name, create=False)[0]
        return self.sessions[key]

    # ------------------------------------------------------------ inputs

    def handle(self, now: float, news: Input) -> None:
        """Take one input in; :meth:`flush` returns what it led to."""
        if isinstance(news, FromAgent):
            self._agent(now, news.message)
        elif isinstance(news, FromClient):
            self._client(news.client, news.message)
        elif isinstance(news, JobChanged):
            if news.session in self.sessions:
                self.sessions[news.session].job(news)
        elif isinstance(news, StepTaken):
            if news.session in self.sessions:
                self.sessions[news.session].step(news)
        elif isinstance(news, QueueSeen):
            if news.session in self.sessions:
                self.sessions[news.session].queue_seen(news)
        elif isinstance(news, Remains):
            if news.session in self.sessions:
                self.sessions[news.session].remains(news)
        elif isinstance(news, (Brought, Fetched, Carrying)):
            if news.session in self.sessions:
                self.sessions[news.session].cargo(news)
        else:
            for session in self.sessions.values():
                session.tick(now)

    def flush(self, now: float) -> Turn:
        """Return everything decided since the last call: facts to journal, then effects to perform."""
        turn = Turn()
        for session in self.sessions.values():
            session.flush(now)
            part = session.collect()
            turn.facts += part.facts
            turn.effects += part.effects
        turn.effects += self._effects
        self._effects = []
        return turn

    def kept(self) -> None:
        """The journal is safe on disk up to now."""
        for session in self.sessions.values():
            session.kept()

    def _agent(self, now: float, message: Message) -> None:
        if isinstance(message, AgentHello):
            session = self.sessions.get(message.session)
            reason = ""
            if session is None:
                reason = "no such session"
            elif message.version != PROTOCOL:
                reason = f"the agent speaks protocol {message.version}, the broker {PROTOCOL}"
            if session is None or reason:
                refusal = AgentRefused(message.session, message.pilot, message.epoch, reason)
                self._effects.append(Send((message.session, message.pilot), refusal))
            else:
                session.hello(now, message)
        elif isinstance(message, Up) and message.session in self.sessions:
            self.sessions[message.session].frame(now, message)

    def _client(self, client: bytes, message: Message) -> None:
        req: int = getattr(message, "req", 0)
        try:
            self._request(client, req, message)
        except JrmError as error:
            self._effects.append(Send(client, Refused(req, ErrorForm.of(error))))

    def _request(self, client: bytes, req: int, message: Message) -> None:
        number = count = 0
        if isinstance(message, Submit):
            number, count = self.find(message.session).submit(message), message.count
        elif isinstance(message, SubmitBundle):
            number, count = self.find(message.session).submit_bundle(message)
        elif isinstance(message, Cancel):
            count = self.find(message.session).cancel(message.what)
        elif isinstance(message, RequestPilot):
            number = self.find(message.session).request_pilot(message.key, message.spec)
        elif isinstance(message, CancelPilot):
            self.find(message.session).cancel_pilot(message.pilot, message.drain)
        elif isinstance(message, GiveService):
            self.find(message.session).give_service(message.name, message.endpoint)
        elif isinstance(message, CloseSession):
            self.find(message.session).close()
        elif isinstance(message, Explain):
            session = self.find(message.session)
            session.explain(
                message.bulk,
                message.index,
                lambda text: self._effects.append(Send(client, Explained(req, text))),
            )
            return
        else:
            raise ProtocolError(f"{type(message).__name__} is no request")
        self._effects.append(Send(client, Accepted(req, number, count)))
