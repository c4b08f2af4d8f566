"""The connection: the one thread of this process that talks to the broker.

It numbers requests, folds feeds into replicas and survives the broker: when the broker dies it starts one again,
attaches every session from its cursor and repeats what was not answered (requests carry keys, so repeating is
harmless). Other threads only append to the outbox and wait. Read next: :mod:`.line` (the socket), :mod:`.replica`.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from ..model.errors import JrmError, LinkError, RequestError
from ..model.messages import (
    Asked,
    AskOver,
    Attach,
    Attached,
    Detach,
    Feed,
    FetchValues,
    Message,
    Refused,
    Seen,
    SiteSeen,
    Status,
    Submit,
    Values,
)
from .ask import Desk
from .line import Line, dial
from .replica import Callback, Replica, call_all
from .settings import Settings, current
from .start import reap

if TYPE_CHECKING:
    from ..runtime.home import Home

Reply = Callable[[Any], None]
SEEN_FEEDS = 64
SEEN_BYTES = 2 << 20
RETRY_S = 0.5
QUIET_S = 2.0  # a broker that has said nothing for so long is asked when somebody wants to know whether it is there
SILENT_S = 6.0  # ... and is away when it has not answered for so long


class Source(Protocol):
    """Something with messages to send that wants to gather them as late as possible."""

    def gather(self) -> None:
        """Post what there is; called on the connection's thread."""


class Connection:
    """Use :meth:`shared`; one per process and profile.

    Attributes:
        home: the places of the profile. functions: pickled functions by sha256 that calls name.
        desk: questions of logins that wait for a person.
    """

    def __init__(self, home: Home, settings: Settings) -> None:
        self.home = home
        self.settings = settings
        self.functions: dict[bytes, bytes] = {}
        self.desk = Desk(self)
        self._sent_functions: set[bytes] = set()
        self._numbers = itertools.count(1)
        self._outbox: collections.deque[tuple[int, Message, Reply | None]] = collections.deque()
        self._pending: dict[int, tuple[Message, Reply]] = {}
        self._again: set[int] = set()
        self._sources: list[Source] = []
        self._replicas: dict[str, Replica] = {}
        self._awake = False
        self._waiting: list[Callback] = []
        self._closing = False
        self._broken: JrmError | None = None
        self._retry_at = 0.0
        self._heard = self._probed = 0.0
        self._line: Line | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jupyter_rm", daemon=True)

    _shared: dict[str, Connection] = {}  # noqa: RUF012 (one per process on purpose)
    _lock = threading.RLock()

    @classmethod
    def shared(cls) -> Connection:
        """Return this process's connection for the current settings, starting the broker if there is none."""
        from ..runtime.home import Home

        settings = current()
        home = Home.locate(settings.profile)
        with cls._lock:
            key = str(home.state_path)
            found = cls._shared.get(key)
            if found is None or found._broken is not None or not found._thread.is_alive():
                found = cls(home, settings)
                found._connect()
                found._thread.start()
                cls._shared[key] = found
            return found

    # ------------------------------------------------------------ any thread

    @property
    def connected(self) -> bool:
        """Does a broker answer, as far as is known? Looking makes a quiet one be asked, and never blocks."""
        if self._line is None:
            return False
        now = time.monotonic()
        if self._probed <= self._heard and now - self._heard > QUIET_S:
            self._probed = now
            with contextlib.suppress(JrmError):
                self.post(Status(self.number()))  # nobody waits: that it is answered says it all
        return self._probed <= self._heard or now - self._probed < SILENT_S

    def wake(self) -> None:
        """Let the thread look at outbox and sources soon."""
        if not self._awake:
            self._awake = True
            try:
                os.write(self._wake_write, b"x")
            except OSError:  # full, or closed
                pass

    def post(self, message: Message, reply: Reply | None = None) -> None:
        """Send a message soon; ``reply`` gets the answer (or an error) on the connection's thread."""
        if self._broken is not None:
            raise self._broken
        if not self._thread.is_alive():
            raise LinkError("this connection is closed (or of another process)", code="JRM-T06", hint="open it again")
        self._outbox.append((getattr(message, "req", 0), message, reply))
        if threading.get_ident() != self._thread.ident:  # that thread looks before it waits
            self.wake()

    def number(self) -> int:
        """Return a request number never used before on this connection."""
        return next(self._numbers)

    def request(self, message: Message, timeout: float | None = None) -> Any:
        """Send a request and return its answer.

        Raises:
            JrmError: what the broker refused with. LinkError: no answer in time.
        """
        answer: list[Any] = []
        done = threading.Event()

        def reply(message: Any) -> None:
            answer.append(message)
            done.set()

        self.post(message, reply)
        limit = self.settings.request_timeout_s if timeout is None else timeout
        deadline = time.monotonic() + limit
        while not done.wait(min(1.0, max(0.0, deadline - time.monotonic()))):
            _ = self.connected  # by the end it is known whether it answers nobody, or not this
            if time.monotonic() >= deadline:
                self._pending.pop(getattr(message, "req", 0), None)
                raise LinkError(
                    f"the broker did not answer within {limit:g} s",
                    code="JRM-T02",
                    hint="look at: jrm broker status, jrm broker log",
                    retry=True,
                )
        if isinstance(answer[0], JrmError):
            raise answer[0]
        if isinstance(answer[0], Refused):
            raise answer[0].error.error()
        return answer[0]

    def attach(self, name: str, create: bool = True) -> Replica:
        """Follow a session; returns when its state is here."""
        with self._lock:
            replica = self._replicas.get(name)
            if replica is not None and replica.error is None:
                return replica
            replica = Replica(name, self.settings.value_cache_mib << 20)
            replica.tell = self._waiting.extend
            replica.asking = lambda: self.desk.unshown(name)
            self._replicas[name] = replica
        try:
            self.request(Attach(self.number(), name, create, 0, _user()))
        except BaseException:
            self._replicas.pop(name, None)
            raise
        return replica

    def detach(self, name: str) -> None:
        """Stop following a session."""
        replica = self._replicas.pop(name, None)
        if replica is not None:
            with contextlib.suppress(JrmError):
                self.request(Detach(self.number(), name), timeout=5.0)
            replica.fail(LinkError(f"session {name!r} was detached here", code="JRM-T06", hint="open it again"))

    def add_source(self, source: Source) -> None:
        """Ask ``source`` for messages whenever woken."""
        self._sources.append(source)

    def remove_source(self, source: Source) -> None:
        """Undo :meth:`add_source`."""
        with contextlib.suppress(ValueError):
            self._sources.remove(source)

    def close(self, timeout: float = 2.0) -> None:
        """Send what is waiting (at most ``timeout`` seconds) and end the thread; sessions go on."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            deadline = time.monotonic() + timeout
            while (self._outbox or self._pending or self.busy) and time.monotonic() < deadline and not self._broken:
                self._idle.clear()
                self.wake()
                self._idle.wait(0.05)
            self._closing = True
            self._awake = False
            self.wake()
            self._thread.join(timeout)
        with self._lock:
            if self._shared.get(str(self.home.state_path)) is self:
                del self._shared[str(self.home.state_path)]

    @property
    def busy(self) -> bool:
        """True while a source holds something unsent."""
        return any(getattr(source, "waiting", False) for source in self._sources)

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            self._loop()
        except JrmError as error:
            self._break(error)
        except Exception as error:
            broken = LinkError(
                f"the connection ended: {type(error).__name__}: {error}",
                code="JRM-T03",
                hint="open the session again; please report this",
            )
            broken.__cause__ = error
            self._break(broken)
        finally:
            call_all(self._waiting)
            if self._broken is None:
                self._break(LinkError("the connection was closed", code="JRM-T06", hint="open the session again"))
            self._hang_up()
            os.close(self._wake_read)
            write, self._wake_write = self._wake_write, -1
            os.close(write)

    def _loop(self) -> None:
        import zmq

        poller = zmq.Poller()
        poller.register(self._wake_read, zmq.POLLIN)
        registered: list[Any] = []
        while not self._closing:
            mine = [] if self._line is None else [self._line.socket, self._line.monitor]
            if mine != registered:
                for old in registered:
                    poller.unregister(old)
                for new in mine:
                    poller.register(new, zmq.POLLIN)
                registered = mine
            if self._waiting:
                # As late as possible: whoever waited needs the interpreter, which this thread is about to give up.
                waiting, self._waiting[:] = self._waiting[:], []
                call_all(waiting)
            # A line that was lost in the midst of work is made anew at once.
            wait_s = 1.0 if self._line is not None else 0.0 if self._needed() else RETRY_S
            if self._outbox and self._line is not None:
                wait_s = 0.0
            ready = dict(poller.poll(int(wait_s * 1000)))
            if not ready and self._line is not None:
                # The broker may be waiting for credit before it feeds us on.
                for replica in list(self._replicas.values()):
                    if replica.feeds_since_seen:
                        self._tell_seen(replica)
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            self._awake = False
            if self._line is None and (self._needed() or self._socket_is_back()):
                self._reconnect()
            if self._line is not None and self._line.socket in ready:
                self._receive(self._line)
            for source in self._sources:
                source.gather()
            self._flush()
            if self._line is not None and self._line.monitor in ready:
                self._hang_up()
                reap()
            if not self._idle.is_set():
                self._idle.set()

    def _needed(self) -> bool:
        """Is there a reason to have a broker now?"""
        if time.monotonic() < self._retry_at:
            return False
        if self._outbox or self._pending or self.busy:
            return True
        return any(replica.ledger.unfinished and not replica.ledger.closed for replica in self._replicas.values())

    def _socket_is_back(self) -> bool:
        """Did somebody else start a broker again?"""
        return bool(self._replicas) and time.monotonic() >= self._retry_at and self.home.holder() is not None

    def _send(self, message: Message) -> None:
        assert self._line is not None
        if isinstance(message, Submit) and message.template.function:
            sha = message.template.function
            if sha not in self._sent_functions:
                message = msgspec.structs.replace(message, functions={sha: self.functions[sha]})
                self._line.send(message)
                self._sent_functions.add(sha)
                return
        self._line.send(message)

    def _connect(self) -> None:
        self._line = dial(self.home, self.settings.start_timeout_s, self.number)
        self._sent_functions.clear()
        self._heard = time.monotonic()

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
            self.desk.forget()

    def _reconnect(self) -> None:
        try:
            self._connect()
        except JrmError as error:
            self._retry_at = time.monotonic() + 2 * RETRY_S
            for _, reply in self._drain_pending():
                reply(error)
            return
        for number in self._again:
            self._pending.pop(number, None)
        self._again.clear()
        for message, _ in list(self._pending.values()):
            self._send(message)
        for replica in list(self._replicas.values()):
            if replica.cursor:
                self._attach_again(replica)

    def _attach_again(self, replica: Replica) -> None:
        """Follow a session further, from where we stand; it must still exist."""
        replica.attached = False

        def reply(message: Any) -> None:
            self._again.discard(number)
            if isinstance(message, Refused):
                self._lose(replica, message.error.error())

        number = self.number()
        self._again.add(number)
        request = Attach(number, replica.name, False, replica.cursor, _user())
        self._pending[number] = (request, reply)
        self._send(request)

    def _lose(self, replica: Replica, error: JrmError) -> None:
        if self._replicas.get(replica.name) is replica:
            del self._replicas[replica.name]
        replica.fail(error)

    def _drain_pending(self) -> list[tuple[Message, Reply]]:
        out = []
        for number in list(self._pending):
            entry = self._pending.pop(number, None)
            if entry is not None:
                out.append(entry)
        while self._outbox:
            _, message, reply = self._outbox.popleft()
            if reply is not None:
                out.append((message, reply))
        return out

    def _flush(self) -> None:
        while self._outbox and self._line is not None:
            number, message, reply = self._outbox.popleft()
            if reply is not None:
                self._pending[number] = (message, reply)
            try:
                self._send(message)
            except (TypeError, ValueError, OverflowError) as error:
                # One message that cannot be written down must not end the connection of all sessions.
                self._pending.pop(number, None)
                if reply is not None:
                    reply(RequestError(f"this cannot be sent: {error}", code="JRM-Q05", hint="give plain text"))

    def _receive(self, line: Line) -> None:
        self._heard = time.monotonic()
        for _ in range(256):
            frame = line.frame()
            if frame is None:
                return
            message = line.decode(frame)
            if isinstance(message, Feed):
                self._feed(message, len(frame))
                continue
            if isinstance(message, Asked):
                self.desk.asked(message)
                self._nudge(message.session)
                continue
            if isinstance(message, AskOver):
                self.desk.over(message.session, message.ask)
                continue
            if isinstance(message, SiteSeen):
                self._site_seen(message)
                continue
            number = getattr(message, "req", 0)
            if isinstance(message, Attached):
                self._attached(message)
            entry = self._pending.pop(number, None)
            if entry is not None:
                entry[1](message)

    def _nudge(self, session: str) -> None:
        """Wake whoever waits for something of a session: a person is asked."""
        replica = self._replicas.get(session)
        if replica is not None:
            with replica.changed:
                replica.changed.notify_all()

    def _site_seen(self, message: SiteSeen) -> None:
        replica = self._replicas.get(message.session)
        if replica is not None:
            with replica.changed:
                replica.sites[message.view.site] = message.view
                replica.changed.notify_all()

    def _feed(self, message: Feed, size: int) -> None:
        replica = self._replicas.get(message.session)
        if replica is None:
            return
        if not replica.attached:
            return
        try:
            if not replica.feed(message):
                self._attach_again(replica)
                return
        except JrmError as error:
            self._lose(replica, error)
            return
        replica.feeds_since_seen += 1
        replica.bytes_since_seen += size
        if replica.feeds_since_seen >= SEEN_FEEDS or replica.bytes_since_seen >= SEEN_BYTES:
            self._tell_seen(replica)

    def _tell_seen(self, replica: Replica) -> None:
        replica.feeds_since_seen = replica.bytes_since_seen = 0
        self._send(Seen(replica.name, replica.cursor))

    def _attached(self, message: Attached) -> None:
        replica = self._replicas.get(message.session)
        if replica is None:
            return
        try:
            for number in replica.attach(message):
                self._fetch_live(replica, number)
        except JrmError as error:
            self._lose(replica, error)

    def _fetch_live(self, replica: Replica, bulk: int) -> None:
        """Resolve calls that ended while nobody told us: their results have to be asked for."""
        from .calls import missed_ends

        fact_picks = missed_ends(replica, bulk)
        if fact_picks is None:
            return

        def reply(message: Any) -> None:
            batch = replica.live(bulk)
            if batch is not None:
                resolve = getattr(batch, "fetched", None)
                if resolve is not None:
                    resolve(replica, message if isinstance(message, Values) else None)

        number = self.number()
        request = FetchValues(number, replica.name, bulk, fact_picks)
        self._pending[number] = (request, reply)
        self._send(request)

    def _break(self, error: JrmError) -> None:
        self._broken = error
        for _, reply in self._drain_pending():
            reply(error)
        for replica in list(self._replicas.values()):
            replica.fail(error)


def _user() -> str:
    return os.environ.get("USER", "")


def close_all() -> None:
    """Close every connection of this process."""
    for connection in list(Connection._shared.values()):
        connection.close()


def _after_fork() -> None:
    # The child has neither the thread nor the right to the socket.
    Connection._shared = {}
    Connection._lock = threading.RLock()


atexit.register(close_all)
os.register_at_fork(after_in_child=_after_fork)
