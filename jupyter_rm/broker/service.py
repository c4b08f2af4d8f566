"""The broker's shell: sockets in, machine, journal, sockets out.

One round takes in what is at hand, lets the machine decide, commits the facts, and only then performs the effects and
feeds the followers. Reading requests are answered here, from ledger and journal. Read next:
:mod:`jupyter_rm.core.broker`.
"""

from __future__ import annotations

import logging
import os
import platform
import resource
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import zmq

from ..core.broker import BrokerMachine
from ..core.patience import DEFAULT, Patience
from ..core.payloads import Payloads
from ..core.session import SITES, SessionMachine
from ..core.sound import check_tasks
from ..model.effects import (
    Bring,
    Effect,
    EndPilot,
    Fetch,
    FromAgent,
    FromClient,
    Input,
    Send,
    StartPilot,
    Tick,
)
from ..model.errors import ErrorForm, JrmError, ProtocolError, RequestError
from ..model.logs import FetchLog, LogPart, LogSaid
from ..model.messages import (
    PROTOCOL,
    Accepted,
    AgentHello,
    AgentRefused,
    Answer,
    AskSite,
    Attach,
    Attached,
    BrokerStatus,
    Detach,
    Feed,
    FetchFiles,
    FetchStory,
    FetchValues,
    Hello,
    ListSessions,
    Message,
    MoveFiles,
    Refused,
    Seen,
    SessionLine,
    Sessions,
    Status,
    StopBroker,
    Story,
    Values,
    Welcome,
)
from ..runtime.clock import Clock
from ..runtime.drive import Drive, drain, post
from ..runtime.home import Home, private_directory
from ..runtime.journal import Journal
from ..runtime.logs import Tap
from ..wire import codec
from . import cleanup
from .feeds import Feeds
from .jobs import LocalJobs, first_number
from .remote import RemoteJobs, check_site
from .roads import Roads
from .speech import Speech
from .store import Store

if TYPE_CHECKING:  # most tasks take no files along
    from ..model.ledger import Ledger
    from .carrier import Carrier

log = logging.getLogger("jupyter_rm.broker")
# A cursor no further behind than this is continued from the journal instead of from a snapshot.
CATCH_UP_ROWS = 2_000
CATCH_UP_BYTES = 64 << 20
CLIENT_SILENT = 60.0
LAST_WORDS = 2.0  # seconds


class Broker:
    """The broker program.

    Args:
        idle: seconds with no client and no pilot after which it ends; 0 never. What waits is in the journal.
    """

    def __init__(self, home: Home, journal: Journal, *, idle: float = 0.0, patience: Patience = DEFAULT) -> None:
        self.home = home
        self.journal = journal
        self.patience = patience
        self.clock = Clock()
        self.started_at = self.clock.now()
        self.idle = idle
        self._idle_since = self.clock.now()
        incarnation = int(journal.meta_get("incarnation") or b"0") + 1
        journal.meta_set("incarnation", b"%d" % incarnation)
        self.tap = Tap(logging.getLogger("jupyter_rm"), incarnation)
        self.machine = BrokerMachine(
            incarnation,
            payloads=Payloads(journal.blob_get),
            wall=self.clock.wall,
            host=platform.node(),
            patience=patience,
            first_number=first_number(home),
            check_site=check_site,
        )
        self.store = Store(journal)
        self.drive = Drive(self.clock, self._round)
        self.context = zmq.Context()
        self._clients: dict[bytes, float] = {}
        self._agents = Roads()
        self._stopping = False
        self._kept_at = 0.0
        self._dirty = True
        client_path, agent_path = home.socket("broker"), home.socket("agents")
        self._client_socket = self._bind(str(client_path), codec.LOCAL_LIMIT)
        self._agent_socket = self._bind(str(agent_path), codec.AGENT_LIMIT)
        self.feeds = Feeds(self._to_client)
        self.speech = Speech(self.drive, self._perform, self.feeds.publish)
        self.jobs = LocalJobs(home, self.drive, f"ipc://{agent_path}", self._news)
        self.remote = RemoteJobs(
            home,
            self.drive,
            self.context,
            self._news,
            self._remote_frame,
            self._say,
            lambda session: self.feeds.count(session) > 0,
        )
        self._carrier: Carrier | None = None
        self._reads: dict[type[Message], Callable[[bytes, Any], None]] = {
            Hello: self._hello,
            Attach: self._attach,
            Detach: self._detach,
            Seen: self._seen,
            ListSessions: self._list,
            FetchValues: self._values,
            FetchStory: self._story,
            Status: self._status,
            StopBroker: self._stop_asked,
            FetchLog: self._log,
            Answer: self._answer,
            AskSite: self._ask_site,
            FetchFiles: self._files,
            MoveFiles: self._files,
        }
        self.drive.watch(self._client_socket, lambda: drain(self._client_socket, self._client_frames))
        self.drive.watch(self._agent_socket, lambda: drain(self._agent_socket, self._agent_frames))
        self.drive.every(1.0, self._tick)

    def _bind(self, path: str, limit: int) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.LINGER, 500)
        socket.setsockopt(zmq.SNDHWM, 10_000)
        socket.setsockopt(zmq.RCVHWM, 10_000)
        socket.setsockopt(zmq.MAXMSGSIZE, limit)
        if sys.platform == "linux":
            # The directory is private already; the kernel's word on who connects is the second lock.
            socket.setsockopt(zmq.IPC_FILTER_UID, os.geteuid())
        socket.bind(f"ipc://{path}")
        return socket

    # ------------------------------------------------------------ life

    def recover(self, tell: Callable[[float], None] = lambda _: None) -> None:
        """Take up the work of an earlier life; ``tell`` is told how much of the journal has been read (0..1)."""
        folded = self.store.recover(self.machine, tell)
        turn = self.machine.recover(self.clock.now())
        self._carry_out(turn.facts, turn.effects)
        report = self.journal.report
        log.info("incarnation %d: %d facts, journal %s", self.machine.incarnation, folded, report.state)

    def run(self) -> None:
        """Serve until told to stop."""
        try:
            self.drive.run()
        finally:
            if self._carrier is not None:
                self._carrier.close()
            self.remote.close()
            self._client_socket.close()
            self._agent_socket.close()
            self.journal.close()
            # Last words get their moment; a thread that still holds a road to somewhere must not hold us.
            words = threading.Thread(target=self.context.term, daemon=True)
            words.start()
            words.join(LAST_WORDS)
            self.drive.close()
            self.tap.close()

    def stop(self, reason: str) -> None:
        """End after this round; agents go on."""
        log.info("stopping: %s", reason)
        self._stopping = True

    # ------------------------------------------------------------ one round

    def _round(self) -> None:
        self.speech.tell()
        turn = self.machine.flush(self.clock.now())
        if turn.facts or turn.effects or self.machine.payloads.pending:
            self._carry_out(turn.facts, turn.effects)
        if self._stopping:
            self.speech.finish()
            self.drive.stop()

    def _carry_out(self, facts: list[tuple[str, Any]], effects: list[Effect]) -> None:
        log.debug("a turn of %d facts and %d effects", len(facts), len(effects))
        before = {key: self.store.tips.get(key, 0) for key, _ in facts}
        try:
            fed = self.store.commit(self.machine.payloads, facts, self.clock.wall())
        except JrmError as error:
            # What was decided is not recorded, so nothing of it may be said or done, but that it was refused. The next
            # life starts from the journal; agents keep their reports and clients their other requests until then.
            log.exception("the journal refused; this life of the broker ends here")
            refused = ErrorForm.of(error)
            for effect in effects:
                if isinstance(effect, Send) and isinstance(effect.to, bytes):
                    self._to_client(effect.to, Refused(getattr(effect.message, "req", 0), refused))
            raise
        self._dirty |= bool(facts)
        news = [(key, before[key], self.store.tips[key], bodies) for key, bodies in fed.items()]
        self.speech.turn(facts, effects, news)

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            if isinstance(effect.to, bytes):
                self._to_client(effect.to, effect.message)
            else:
                self._to_agent(effect.to, effect.message)
        elif isinstance(effect, StartPilot):
            (self.jobs if effect.spec.site in SITES else self.remote).start(effect)
        elif isinstance(effect, EndPilot):
            self.jobs.end(effect)
            self.remote.end(effect)
        elif isinstance(effect, (Bring, Fetch)):
            self._carry(effect)

    def _carry(self, order: Bring | Fetch) -> None:
        if self._carrier is None:
            from .carrier import Carrier

            def ledger(key: str) -> Ledger | None:
                session = self.machine.sessions.get(key)
                return session.ledger if session is not None else None

            self._carrier = Carrier(
                self.drive,
                self._news,
                ledger,
                self.remote.connections,
                lambda: private_directory(self.home.state / "cargo"),
            )
        self._carrier.start(order)

    def _news(self, news: Input) -> None:
        self.machine.handle(self.clock.now(), news)
        self.drive.wake()

    def _tick(self) -> None:
        now = self.clock.now()
        self.machine.handle(now, Tick())
        for client, seen in list(self._clients.items()):
            if now - seen > CLIENT_SILENT and not self._to_client(client, Feed("", 0, 0, ())):
                self._forget_client(client)
        if self._dirty and now - self._kept_at >= self.patience.kept:
            self._kept_at = now
            self._round()  # what was taken in is committed before the checkpoint, or it would not be part of it
            self._dirty = False
            if self.journal.checkpoint() >= self.journal.last:
                self.machine.kept()
        carrying = self._carrier is not None and self._carrier.busy
        busy = self._clients or self.jobs.alive or self.remote.alive or carrying
        if busy:
            self._idle_since = now
        elif self.idle and now - self._idle_since > self.idle:
            self.stop(f"nothing to do for {self.idle:.0f} s")

    # ------------------------------------------------------------ agents

    def _agent_frames(self, frames: list[bytes]) -> None:
        if len(frames) != 2:
            return
        route, frame = frames
        try:
            message = codec.from_agent.decode(frame)
            if isinstance(message, AgentHello) or message.session in self.machine.sessions:
                self._agents.note((message.session, message.pilot), message.epoch, route)
            self.machine.handle(self.clock.now(), FromAgent(message))
        except ProtocolError as error:
            log.warning("frame from an agent dropped: %s", error)

    def _remote_frame(self, key: tuple[str, int], frame: bytes) -> None:
        try:
            message = codec.from_agent.decode(frame)
            if (message.session, message.pilot) != key:
                raise ProtocolError(f"the agent of {key} speaks of {message.session} p.{message.pilot}", code="JRM-N02")
            self.machine.handle(self.clock.now(), FromAgent(message))
        except ProtocolError as error:
            log.warning("frame from an agent dropped: %s", error)

    def _to_agent(self, to: object, message: Message) -> None:
        if self.remote.links.send(to, message):
            return
        route = self._agents.to(to, getattr(message, "epoch", -1))
        if route is not None:
            self._send(self._agent_socket, route, message)
        if isinstance(message, AgentRefused) and message.session not in self.machine.sessions:
            self._agents.forget(to)  # a stranger: nothing of it is remembered

    # ------------------------------------------------------------ clients

    def _send(self, socket: zmq.Socket[bytes], route: bytes, message: Message) -> bool:
        try:
            post(socket, codec.encode(message), route)
        except zmq.ZMQError:
            return False  # gone, or its queue is full: the link resends, a feed is skipped
        return True

    def _to_client(self, client: bytes, message: Message) -> bool:
        return self._send(self._client_socket, client, message)

    def _say(self, session: str, make: Callable[[str], Message]) -> None:
        for client, label in self.feeds.followers(session):
            self._to_client(client, make(label))

    def _forget_client(self, client: bytes) -> None:
        self._clients.pop(client, None)
        self.feeds.leave(client)

    def _client_frames(self, frames: list[bytes]) -> None:
        if len(frames) != 2:
            return
        client, frame = frames
        self._clients[client] = self.clock.now()
        try:
            message = codec.from_client.decode(frame)
        except ProtocolError as error:
            log.warning("message from a client refused: %s", error)
            self._to_client(client, Refused(0, ErrorForm.of(error)))
            return
        self.speech.tell()
        read = self._reads.get(type(message))
        if read is None:
            self.machine.handle(self.clock.now(), FromClient(client, message))
            return
        try:
            read(client, message)
        except JrmError as error:
            self._to_client(client, Refused(getattr(message, "req", 0), ErrorForm.of(error)))

    def _hello(self, client: bytes, message: Hello) -> None:
        if message.version != PROTOCOL:
            raise ProtocolError(
                f"the client speaks protocol {message.version}, the broker {PROTOCOL}",
                code="JRM-N13",
                hint="stop the old broker (jrm broker stop); work in progress goes on",
            )
        self._to_client(client, Welcome(message.req, PROTOCOL, self.machine.incarnation, os.getpid(), platform.node()))

    def _attach(self, client: bytes, message: Attach) -> None:
        session, created = self.machine.open(message.session, message.owner, create=message.create)
        self._round()  # what was decided so far is committed and fed before the snapshot is taken
        key, cursor = session.key, message.cursor
        tip = self.store.tips[key]
        self.feeds.follow(key, client, message.session)
        # After damage, numbers may have been given a second time: only a snapshot tells the truth.
        sound = self.journal.report.state in ("clean", "recovered")
        missed = None
        if sound and 0 < cursor <= tip and tip - cursor <= CATCH_UP_ROWS:
            missed = self._missed(key, cursor)
        if missed is not None:
            self._to_client(client, Attached(message.req, message.session, cursor, b"", created))
            if missed:
                self._to_client(client, Feed(message.session, cursor, tip, missed))
        else:
            self._to_client(client, Attached(message.req, message.session, tip, session.ledger.dump(), created))
        for asked in self.remote.came(key, message.session):
            self._to_client(client, asked)

    def _missed(self, key: str, cursor: int) -> tuple[msgspec.Raw, ...] | None:
        """Return the facts after ``cursor``; None when they are too long for one message (results travel in facts)."""
        out, size = [], 0
        for body in self.store.facts(key, cursor):
            size += len(body)
            if size > CATCH_UP_BYTES:
                return None
            out.append(msgspec.Raw(body))
        return tuple(out)

    def _detach(self, client: bytes, message: Detach) -> None:
        self.feeds.leave(client, self.machine.find(message.session).key)
        self._to_client(client, Accepted(message.req))

    def _answer(self, client: bytes, message: Answer) -> None:
        self.remote.answer(self.machine.find(message.session).key, message)
        self._to_client(client, Accepted(message.req))

    def _files(self, client: bytes, message: FetchFiles | MoveFiles) -> None:
        session = self.machine.find(message.session)
        pilots = session.ledger.pilots
        if not 0 <= message.pilot < len(pilots):
            raise RequestError(f"files: there is no pilot {message.pilot}", hint="see: jrm pilots", code="JRM-Q03")
        if isinstance(message, MoveFiles) and message.what == cleanup.WORD:
            cleanup.check(session.ledger, message.pilot)
            message = msgspec.structs.replace(message, session=session.key)
        self.remote.files(pilots[message.pilot].spec, message, lambda told: self._to_client(client, told))

    def _ask_site(self, client: bytes, message: AskSite) -> None:
        session = self.machine.find(message.session)
        if message.pilot >= len(session.ledger.pilots):
            raise RequestError(f"there is no pilot {message.pilot}", hint="see: jrm pilots", code="JRM-Q03")

        def answer(told: Message) -> None:
            self._round()  # what was heard of pilots is told first
            self._to_client(client, told)

        self.remote.asked(session.key, message, answer)

    def _seen(self, client: bytes, message: Seen) -> None:
        key = self.machine.find(message.session).key
        self.feeds.seen(key, client, message.cursor, self.store.tips[key])

    def _list(self, client: bytes, message: ListSessions) -> None:
        lines = tuple(self._line(session) for session in self.machine.sessions.values())
        self._to_client(client, Sessions(message.req, lines))

    def _line(self, session: SessionMachine) -> SessionLine:
        ledger = session.ledger
        latest = self.machine.names.get(ledger.name) == session.key
        return SessionLine(
            ledger.name if latest else session.key,
            ledger.opened_at,
            ledger.closed,
            tuple(int(count) for count in ledger.counts),
            tuple((row.spec.name, row.spec.site, int(row.state)) for row in ledger.pilots),
            self.feeds.count(session.key),
        )

    def _values(self, client: bytes, message: FetchValues) -> None:
        session = self.machine.find(message.session)
        check_tasks(session.ledger, message.bulk, message.picks)
        picks, values = self.store.values(session.key, message.bulk, message.picks)
        self._to_client(client, Values(message.req, message.bulk, picks, values))

    def _story(self, client: bytes, message: FetchStory) -> None:
        key = self.machine.find(message.session).key
        facts = self.store.story(key, message.bulk, message.index)
        self._to_client(client, Story(message.req, tuple(facts)))

    def _log(self, client: bytes, message: FetchLog) -> None:
        session = self.machine.find(message.session)
        if message.component == "broker":
            part = self.tap.read(message.life, message.after, message.most, message.level)
            self._to_client(client, LogSaid(message.req, part))
        else:
            session.fetch_log(message, lambda part: self.drive.call(lambda: self._log_said(client, message.req, part)))

    def _log_said(self, client: bytes, req: int, part: LogPart) -> None:
        self._to_client(client, LogSaid(req, part))

    def _stop_asked(self, client: bytes, message: StopBroker) -> None:
        if message.pid != os.getpid():
            raise RequestError(f"pid: this broker is {os.getpid()}", hint="see: jrm broker status", code="JRM-Q05")
        self._to_client(client, Accepted(message.req))
        self.stop("stopped on request")

    def _status(self, client: bytes, message: Status) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._to_client(
            client,
            BrokerStatus(
                message.req,
                self.machine.incarnation,
                os.getpid(),
                self.clock.now() - self.started_at,
                self.journal.last,
                self.journal.report.state,
                len(self.machine.sessions),
                len(self._clients),
                self.jobs.alive + self.remote.alive,
                usage // 1024 if sys.platform == "darwin" else usage,
            ),
        )
