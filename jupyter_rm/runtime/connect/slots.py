"""How many sessions of one connection are in use, so that a server's MaxSessions is a queue and not an error.

A server may allow fewer than assumed: who is refused tries again until one is free. Long-running streams leave two
sessions free for commands and files, so that a stream can always be killed.

Knows: counting and waiting. Does not know: SSH. Read next: ``connection.py``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from jupyter_rm.model.errors import LinkError
from jupyter_rm.runtime.connect.link import Busy

T = TypeVar("T")
_KEPT_FREE = 2
_PAUSE_S = 0.02  # a server frees a session some milliseconds after the channel was closed


class Slots:
    """The sessions of one connection.

    Args:
        most: sessions at once.
        wait_s: how long a caller waits for one.
        name: the machine, for messages.
        reclaim: gives up sessions that are open and idle; called before anybody waits.
    """

    def __init__(self, most: int, wait_s: float, name: str, reclaim: Callable[[], None] = lambda: None) -> None:
        self._most = max(1, most)
        self._wait = wait_s
        self._name = name
        self._reclaim = reclaim
        self._used = 0
        self._long = 0
        self._change = threading.Condition()
        self._closed = False

    def use(self, make: Callable[[], T], long: bool) -> T:
        """Return what ``make`` returns, once there is room for it; ``free`` must be called when it is over.

        Raises:
            LinkError: JRM-T27, no session became free in time; or what ``make`` raises.
        """
        deadline = time.monotonic() + self._wait
        while True:
            if not self._room(long):
                self._reclaim()
            self._take(deadline, long)
            try:
                return make()
            except Busy as error:
                # The server counts otherwise: its limit is lower, or a session that was just closed still counts there.
                self._reclaim()
                with self._change:
                    self._used -= 1
                    self._long -= long
                    if time.monotonic() >= deadline:
                        raise self._full(str(error)) from None
                    self._change.wait(_PAUSE_S)
            except BaseException:
                self.free(long)
                raise

    def _take(self, deadline: float, long: bool) -> None:
        with self._change:
            if not self._change.wait_for(lambda: self._room(long), max(0.0, deadline - time.monotonic())):
                raise self._full("")
            self._used += 1
            self._long += long

    def _room(self, long: bool) -> bool:
        if self._closed:
            return True
        if long and self._long >= max(1, self._most - _KEPT_FREE):
            return False
        return self._used < self._most

    def _full(self, says: str) -> LinkError:
        why = f" ({says})" if says else ""
        return LinkError(
            f"{self._name}: all {self._used} sessions of the connection are in use for {self._wait:g} s{why}",
            code="JRM-T27",
            hint="close a stream, or ask the site for a larger MaxSessions",
            retry=True,
        )

    def free(self, long: bool) -> None:
        """Say that one is over."""
        with self._change:
            self._used -= 1
            self._long -= long
            self._change.notify_all()

    def close(self) -> None:
        """Let everybody who waits go on (and fail on the closed connection)."""
        with self._change:
            self._closed = True
            self._change.notify_all()
