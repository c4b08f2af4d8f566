"""The hub: what all handlers of one Jupyter server share. Followed sessions, threads, screens.

A session is followed from its first use until nobody has looked at it for a while. Methods named ``*_blocking`` and
:meth:`Hub.session` run on the hands, everything else on the event loop. Read next: :mod:`.api`, :mod:`.screen`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .hands import Hands
from .shared import Shared
from .start import Keeper

if TYPE_CHECKING:
    from ..client.replica import Replica
    from ..client.session import Session
    from ..model.errors import JrmError
    from .screen import Screen

T = TypeVar("T")
Mark = Callable[[], None]


class Bell:
    """Rings once when a replica has changed; one condition per replica, however many screens wait."""

    def __init__(self, replica: Replica, loop: asyncio.AbstractEventLoop) -> None:
        self.replica = replica
        self._loop = loop
        self._lock = threading.Lock()
        self._waiting: set[Mark] = set()
        self._armed = False

    def wait(self, seen: int, mark: Mark) -> None:
        """Call ``mark()`` on the event loop once the replica stands elsewhere than at fact number ``seen``."""
        with self._lock:
            self._waiting.add(mark)
            arm, self._armed = not self._armed, True
        replica = self.replica
        if arm:
            replica.when(lambda: replica.cursor != seen, self._ring)
        elif replica.cursor != seen or replica.error is not None:
            self._ring(False)

    def _ring(self, disarm: bool = True) -> None:
        with self._lock:
            marks, self._waiting = self._waiting, set()
            if disarm:
                self._armed = False
        try:
            for mark in marks:
                self._loop.call_soon_threadsafe(mark)
        except RuntimeError:  # the loop is closed: nobody looks any more
            return


class Hub:
    """Made once per server.

    Attributes:
        keeper: the way to the broker. screens: open feeds. shared: pictures that several of them show.
        hands, eyes, pulse: threads for requests, for pictures, and for looking whether the broker is well.
        lines: the last list of sessions; trouble: why there is no newer one. heard: told every new one (the watch).
        timeout: longest wait of a request, seconds. linger: how long an unused session is followed, seconds.
    """

    def __init__(self, start_broker: bool = True, timeout: float = 40.0, linger: float = 60.0) -> None:
        self.keeper = Keeper(start_broker)
        self.hands = Hands("hand", 6)
        self.eyes = Hands("eye", 2)
        self.pulse = Hands("pulse", 1)
        self.screens: set[Screen] = set()
        self.shared = Shared()
        self.timeout = timeout
        self.linger = linger
        self.lines: list[dict[str, Any]] = []
        self.trouble: JrmError | None = None
        self._unlisted = 0
        self.heard: Callable[[list[dict[str, Any]]], None] | None = None
        self._used: dict[str, float] = {}
        self._bells: dict[str, Bell] = {}
        self._lock = threading.Lock()

    async def do(self, work: Callable[[], T]) -> T:
        """Run blocking work on the hands, bounded in time."""
        return await self.hands.do(work, self.timeout)

    # ------------------------------------------------------------ sessions (on the hands)

    def session(self, name: str, create: bool = False) -> Session:
        """Return a session, following it from now on.

        Raises:
            RequestError: there is none of this name. Others: the broker cannot be reached.
        """
        from ..client import session as sessions

        self.keeper.connection()
        with self._lock:
            self._used[name] = time.monotonic()
        try:
            return sessions.open(name, create=create)
        except BaseException:
            with self._lock:
                self._used.pop(name, None)
            raise

    def bell(self, session: Session, loop: asyncio.AbstractEventLoop) -> Bell:
        """Return the bell of a session's present replica."""
        with self._lock:
            bell = self._bells.get(session.name)
            if bell is None or bell.replica is not session._replica:
                bell = self._bells[session.name] = Bell(session._replica, loop)
            return bell

    def leave(self, name: str) -> bool:
        """Stop following a session here; False when it was not followed."""
        from ..client import session as sessions

        with self._lock:
            self._bells.pop(name, None)
            known = self._used.pop(name, None) is not None
        if known:
            for session in list(sessions._open.values()):
                if session.name == name:
                    session.detach()
        return known

    def sweep(self, shown: set[str]) -> None:
        """Stop following sessions that nobody has used for a while and no screen shows."""
        now = time.monotonic()
        with self._lock:
            for name in shown:
                if name in self._used:
                    self._used[name] = now
            old = [name for name, at in self._used.items() if now - at > self.linger]
        for name in old:
            self.leave(name)

    # ------------------------------------------------------------ the event loop

    def shown(self) -> set[str]:
        """Return the names of the sessions that a visible subscription shows."""
        return {sub.session for screen in self.screens for sub in screen.subscriptions.values() if sub.visible}

    @property
    def listing_wanted(self) -> bool:
        """Does any screen follow the list of sessions?"""
        return any(sub.view == "sessions" for screen in self.screens for sub in screen.subscriptions.values())

    def listed(self, lines: list[dict[str, Any]]) -> None:
        """Take a new list of sessions; tell the watch and the screens."""
        if self.heard is not None:
            self.heard(lines)
        self._unlisted = 0
        if self.trouble is not None:
            self.trouble = None
            for screen in self.screens:
                screen.again()
        if lines != self.lines:
            self.lines = lines
            for screen in self.screens:
                screen.mark(lambda sub: sub.view == "sessions")

    def unlisted(self, error: JrmError) -> None:
        """Take note that there was no list; twice in a row, and what screens show is old and says why."""
        self._unlisted += 1
        if self._unlisted >= 2 and self.trouble is None:
            self.trouble = error
            for screen in self.screens:
                screen.mark(lambda sub: sub.view == "sessions")

    async def close(self, timeout: float = 3.0) -> None:
        """Say goodbye to screens and broker, in at most ``timeout`` seconds."""
        for screen in list(self.screens):
            screen.close()
        try:
            await self.hands.do(self.keeper.close, timeout)
        except Exception:
            return
        finally:
            self.hands.close()
            self.eyes.close()
            self.pulse.close()
