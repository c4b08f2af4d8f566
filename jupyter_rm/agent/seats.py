"""Where calls wait, and how far ahead of a worker they are sent.

A pool holds the calls no worker has; a seat is an allocation with the worker that uses it. Knows neither frames nor
processes. Read next: :mod:`jupyter_rm.agent.workers`.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from ..model.effects import Tokens
from ..model.ids import by_bulk
from .commands import Lane
from .crew import Worker
from .worker import MOST

AHEAD = 0.012  # s of work that is under way to each worker
LONG = 0.004  # s; nothing is sent ahead of calls that take longer

Chunk = tuple[int, npt.NDArray[np.int64]]


class CallPool:
    """Calls of one pool that were not sent to a worker yet, and what is known of how long they take."""

    __slots__ = ("backlog", "lanes", "mean", "seen", "waiting")

    def __init__(self) -> None:
        self.backlog: deque[Chunk] = deque()
        self.waiting = 0
        self.lanes: dict[int, Seat] = {}
        self.mean = -1.0
        self.seen = 0

    def push_front(self, back: Tokens) -> None:
        """Put calls back in front of all others."""
        for bulk, _, index in reversed(by_bulk(back)):
            self.backlog.appendleft((bulk, index))
        self.waiting += len(back)


class Seat:
    """An allocation of a pool, with the calls that were launched on it and the worker that runs them."""

    __slots__ = ("lane", "own", "pool", "worker")

    def __init__(self, lane: Lane, pool: CallPool) -> None:
        self.lane, self.pool = lane, pool
        self.own: deque[Chunk] = deque()
        self.worker: Worker | None = None

    def room(self, worker: Worker) -> int:
        """Return how many more calls the worker should be sent now."""
        state = self.pool
        if self.own:
            return 1 if not worker.flight else 0
        if worker.flight == 0 and state.mean < 0:
            return 1
        if state.mean < 0 or state.mean > LONG:
            return 1 - worker.flight
        # What was seen so far bounds the trust in it, so that the first short call does not draw thousands after it.
        target = min(MOST, int(AHEAD / max(state.mean, 1e-6)) + 1, 4 * state.seen + 1)
        return target - worker.flight if worker.flight <= target // 2 else 0
