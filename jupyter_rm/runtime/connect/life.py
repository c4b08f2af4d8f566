"""The life of a connection: logging in, watching, losing, trying again, giving up.

What happens after a loss is decided here for every transport: attempts come back with jittered pauses and never more
often than the site's guards allow; a refusal ends them at once; background attempts ask nobody.

Knows: the contract of ``link.py``, the limits of ``settings.py``. Does not know: SSH, commands, files. Read next:
``connection.py``, which is what a login is good for.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from jupyter_rm.model.errors import LinkError
from jupyter_rm.runtime.connect.ask import Asker, Nobody, Question
from jupyter_rm.runtime.connect.attempts import ATTEMPTS, pause
from jupyter_rm.runtime.connect.link import Link, lost
from jupyter_rm.runtime.connect.settings import ConnectSettings
from jupyter_rm.runtime.connect.target import Route

_log = logging.getLogger(__name__)
# Trying again by itself cannot help with these, and may harm: a ban, a lock-out, an attack.
FINAL = frozenset({"JRM-T24", "JRM-T25", "JRM-T26", "JRM-T29"})


@dataclass(frozen=True)
class Event:
    """What happened to a connection: ``lost``, ``retry``, ``reconnected``, ``moved``, ``failed`` or ``closed``.

    Attributes:
        kind: one of the words above; after ``failed`` nothing is tried any more until a person calls ``reconnect``.
        text: one line for a person.
        code: stable identifier, such as ``JRM-T21``.
    """

    kind: str
    text: str
    code: str = ""


class _Recalled:
    """An asker whose open question can be taken back when the connection is closed meanwhile."""

    def __init__(self, ask: Asker) -> None:
        self._ask = ask
        self._open: Question | None = None

    def ask(self, question: Question) -> None:
        """Pass the question on."""
        self._open = question
        self._ask.ask(question)

    def recall(self) -> None:
        """Cancel what is still open."""
        if self._open is not None:
            self._open.cancel()


class Life:
    """One login that is kept.

    Args:
        route: the way there.
        settings: numbers and directories.
        log_in: makes a link, with the asker given.
        ask: who answers the questions of this first login.

    Raises:
        LinkError: the login failed.
    """

    def __init__(self, route: Route, settings: ConnectSettings, log_in: Callable[[Asker], Link], ask: Asker) -> None:
        self.route = route
        self.name = str(route.target)
        self.settings = settings
        self._log_in = log_in
        self._lock = threading.RLock()  # held briefly; never while somebody logs in
        self._changed = threading.Condition(self._lock)
        self._entering = threading.Lock()  # one login at a time
        self._asking: _Recalled | None = None
        self._stop = threading.Event()
        self._state = "lost"
        self._error: LinkError | None = None
        self._why = ""  # why the last link died
        self._listeners: list[Callable[[Event], None]] = []
        self._link = self._attempt(ask)
        self._set("up")
        keeper = threading.Thread(target=self._keep, name=f"connect {route.target.host or 'local'}", daemon=True)
        keeper.start()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self._state}>"

    # What the other half of a connection does when the login changes.

    def _broken(self) -> None:
        """The link is dead."""

    def _renewed(self, link: Link) -> None:
        """There is a new link."""

    def _ending(self) -> None:
        """The link is about to be closed for good."""

    @property
    def state(self) -> str:
        """``up``, ``lost`` (being tried again), ``failed`` (a person must call ``reconnect``) or ``closed``."""
        return self._state

    @property
    def alive(self) -> bool:
        """Whether commands can be sent now, as far as is known."""
        return self._state == "up" and self._link.alive()

    @property
    def error(self) -> LinkError | None:
        """Why the connection is ``failed``, else None."""
        return self._error

    def rtt(self) -> float:
        """Return the seconds of one round trip, measured now.

        Raises:
            LinkError: JRM-T21, no connection.
        """
        return self._up().ping()

    def listen(self, hear: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``hear`` with each event, in a thread of the connection; returns how to stop that."""
        with self._lock:
            self._listeners.append(hear)

        def stop() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._listeners.remove(hear)

        return stop

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the connection is up; False after ``timeout`` seconds, or when it is failed or closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._state != "lost", timeout)
            return self._state == "up"

    def reconnect(self, ask: Asker) -> None:
        """Log in again at a person's wish, with questions; nothing happens while the connection is up.

        Raises:
            LinkError: as ``open.connect``.
        """
        with self._entering:
            if self._state == "closed":
                raise self._closed()
            if self.alive:
                return
            self._link.close()
            self._adopt(self._attempt(ask))

    def close(self) -> None:
        """End the login and everything in it; an open question is taken back."""
        with self._changed:
            if self._state == "closed":
                return
            self._state = "closed"
            self._stop.set()
            self._changed.notify_all()
            asking = self._asking
        if asking is not None:
            asking.recall()
        self._ending()
        self._link.close()
        self._tell(Event("closed", f"{self.name}: closed"))

    def _attempt(self, ask: Asker, patient: bool = False) -> Link:
        """Log in once. Too many failures in the last minute: who is patient waits, a person is told."""
        door = self.route.hops[0]
        key = f"{door.host}:{door.port}"
        while not self.route.target.local and (delay := ATTEMPTS.book(key, self.settings.attempts_per_min)):
            if not patient:
                raise LinkError(
                    f"{self.name}: {self.settings.attempts_per_min} logins within a minute have failed; "
                    f"the next is allowed in {delay:.0f} s",
                    code="JRM-T31",
                    hint="wait; sites ban addresses that try too often",
                    retry=True,
                )
            if self._stop.wait(delay):
                raise self._closed()
        self._asking = _Recalled(ask)
        try:
            link = self._log_in(self._asking)
        finally:
            self._asking = None
        # Only failures become a ban: a login that was welcome does not count.
        ATTEMPTS.give_back(key)
        return link

    def _set(self, state: str) -> None:
        with self._changed:
            if self._state != "closed":
                self._state = state
            self._changed.notify_all()

    def _tell(self, event: Event) -> None:
        _log.info("%s: %s", event.kind, event.text)
        with self._lock:
            listeners = list(self._listeners)
        for hear in listeners:
            try:
                hear(event)
            except Exception:
                _log.exception("a listener of %s failed", self.name)

    def _adopt(self, link: Link) -> None:
        with self._lock:
            closed = self._state == "closed"
            if not closed:
                before, self._link = self._link, link
                self._error = None
        if closed:
            link.close()
            raise self._closed()
        self._renewed(link)
        self._set("up")
        if before.address() and link.address() and before.address() != link.address():
            self._tell(Event("moved", f"{self.name} is now {link.address()}; it was {before.address()}", "JRM-T23"))
        self._tell(Event("reconnected", f"{self.name}: connected again", "JRM-T21"))

    def _keep(self) -> None:
        """Watch the link; when it dies, try again until it is back, refused, or nobody wants it."""
        while not self._stop.is_set():
            link = self._link
            why = link.watch(self._stop)
            if self._stop.is_set():
                return
            with self._lock:
                if link is not self._link:  # somebody reconnected by hand
                    continue
                self._why = why
                self._set("lost")
            for tidy in (self._broken, link.close):
                try:
                    tidy()
                except Exception:  # this thread is the connection's only hope; the rest of a dead link does not matter
                    _log.exception("%s: clearing up", self.name)
            self._tell(Event("lost", f"connection to {self.name} lost ({why}); running work is unaffected", "JRM-T21"))
            if self.settings.reconnect:
                self._retry()
            else:
                self._fail(lost(self.name, why))
            with self._changed:
                self._changed.wait_for(lambda: self._state in ("up", "closed"))

    def _retry(self) -> None:
        number = 0
        while self._state == "lost":
            delay = pause(number, self.settings.backoff_first_s, self.settings.backoff_max_s)
            number += 1
            self._tell(Event("retry", f"connection to {self.name}: attempt {number} in {delay:.1f} s", "JRM-T21"))
            if self._stop.wait(delay):
                return
            with self._entering:
                if self._state != "lost":  # a person was faster
                    return
                try:
                    self._adopt(self._attempt(Nobody(), patient=True))
                except LinkError as error:
                    if error.code in FINAL:
                        self._fail(error)
                    else:
                        _log.info("attempt %d at %s: %s", number, self.name, error.message)

    def _fail(self, error: LinkError) -> None:
        with self._lock:
            self._error = error
            self._set("failed")
        self._tell(Event("failed", error.message, error.code))

    def _closed(self) -> LinkError:
        return LinkError(f"the connection to {self.name} was closed here", code="JRM-T05", hint="open it again")

    def _up(self) -> Link:
        """Return the live link."""
        if self._state == "closed":
            raise self._closed()
        error, link = self._error, self._link
        if error is not None:
            raise type(error)(error.message, code=error.code, hint=error.hint, retry=error.retry)
        if self._state != "up" or not link.alive():
            raise lost(self.name, self._why if self._state != "up" else "")
        return link
