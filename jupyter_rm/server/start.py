"""The broker, seen from the server: reached when needed, started when there is none, never owned.

After a failed start the same answer is given for a while, so that an open panel does not start a broker in vain every
second. All of this blocks: it runs on the hands. Read next: :mod:`.hub`, :mod:`jupyter_rm.client.start`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from ..model.errors import JrmError, LinkError

if TYPE_CHECKING:
    from ..client.connection import Connection

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 8.0


class Keeper:
    """The way to the broker.

    Args:
        start: may a broker be started when none runs?
    """

    def __init__(self, start: bool = True) -> None:
        self.start = start
        self._lock = threading.Lock()
        self._error: JrmError | None = None
        self._again_at = 0.0
        self._pause = FIRST_PAUSE_S
        self._mine: Connection | None = None

    @property
    def connected(self) -> bool:
        """Is a broker at the other end now? Never blocks."""
        mine = self._mine
        return mine is not None and mine.connected

    def connection(self, anew: bool = False) -> Connection:
        """Return the connection, reaching (or starting) the broker first when it is away.

        Args:
            anew: try at once even when the last try failed a moment ago.

        Raises:
            JrmError: it cannot be reached; the text says why.
        """
        from ..client import settings
        from ..client.connection import Connection

        with self._lock:
            if self._error is not None and not anew and time.monotonic() < self._again_at:
                raise self._error
            try:
                if not self.start and _home().holder() is None:
                    raise LinkError(
                        "no broker runs, and this server may not start one (JupyterRM.start_broker)",
                        code="JRM-T02",
                        hint="start one: jrm sessions",
                        retry=True,
                    )
                if self._mine is None:
                    settings.change(value_cache_mib=1)  # results of calls are for kernels
                self._mine = Connection.shared()
            except JrmError as error:
                self._error = error
                self._again_at = time.monotonic() + self._pause
                self._pause = min(LONGEST_PAUSE_S, 2 * self._pause)
                raise
            self._error, self._pause = None, FIRST_PAUSE_S
            return self._mine

    def health(self) -> dict[str, Any]:
        """Return how the broker is, without starting one: ``up``, and why not or what it says of itself."""
        from ..client import admin
        from ..client.settings import current

        try:
            home = _home()
            place = {"profile": current().profile, "home": str(home.state_path)}
            told = admin.status()
        except JrmError as error:
            return {"up": False, **described(error)}
        if told is not None:
            return {"up": True, **told}
        why = self._error or LinkError(
            "no broker runs", code="JRM-T02", hint="it is started when it is needed", retry=True
        )
        return {"up": False, **described(why), **place}

    def close(self) -> None:
        """Hang up; the broker goes on."""
        if self._mine is not None:
            self._mine.close(1.0)


def described(error: JrmError) -> dict[str, Any]:
    """Return an error as plain values."""
    return {"code": error.code, "message": error.message, "hint": error.hint, "retry": error.retry}


def _home() -> Any:
    from ..client.settings import current
    from ..runtime.home import Home

    return Home.locate(current().profile)
