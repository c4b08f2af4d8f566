"""Virtual time: a queue of things to do, in order of their time, then of their arrival.

Nothing waits for real; ``now`` jumps from event to event. It knows no clock of any machine: those are
:class:`~jupyter_rm.testing.clock.Clock`. Read next: :mod:`jupyter_rm.testing.clock`.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Loop:
    """A discrete-event loop.

    Attributes:
        now: seconds since the world began, the true time that no machine can see.
        events: how many things were done.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._count = 0
        self._queue: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []

    def after(self, delay: float, call: Callable[..., object], *args: Any) -> None:
        """Call ``call(*args)`` in ``delay`` seconds."""
        self._count += 1
        heappush(self._queue, (self.now + delay, self._count, call, args))

    def run(self, until: float, done: Callable[[], bool] | None = None) -> bool:
        """Go on up to time ``until``, or until ``done()`` (asked after each event); say whether it was done."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, call, args = heappop(queue)
            self.events += 1
            call(*args)
            if done is not None and done():
                return True
        self.now = max(self.now, until)
        return False
