"""How often a machine may be knocked at: at most so many logins a minute, whatever the reason and whoever asks.

Sites ban addresses that try too often (fail2ban), and a ban hits everybody behind that address. The count is kept for
the whole process by host and port, across connections.

Knows: a sliding window. Does not know: why somebody knocks. Read next: ``connection.py``.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict, deque

WINDOW_S = 60.0


class Attempts:
    """When one more attempt is due; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: defaultdict[str, deque[float]] = defaultdict(deque)

    def book(self, host: str, per_min: int, now: float | None = None) -> float:
        """Return 0 and count an attempt at ``host``, or return how many seconds it must wait, counting nothing."""
        moment = time.monotonic() if now is None else now
        with self._lock:
            made = self._made[host]
            while made and made[0] <= moment - WINDOW_S:
                made.popleft()
            if len(made) >= per_min:
                return made[0] + WINDOW_S - moment
            made.append(moment)
            return 0.0

    def give_back(self, host: str) -> None:
        """Take the last attempt back: it ended in a login that was welcome."""
        with self._lock:
            if self._made[host]:
                self._made[host].pop()


ATTEMPTS = Attempts()


def pause(number: int, first_s: float, most_s: float) -> float:
    """Return the seconds before attempt ``number`` (from 0): doubled each time, capped, then between half and all."""
    full = min(most_s, first_s * 2.0 ** min(number, 30))
    return full * random.uniform(0.5, 1.0)  # noqa: S311  # spreads clients, guards nothing
