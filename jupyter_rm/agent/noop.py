"""The performer of the ``noop`` site: every task ends at once, so that the machinery alone can be measured.

Arrays only, whatever the number of tasks. Read next: :mod:`jupyter_rm.agent.perform`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..core.holdings import Holdings
from ..model.effects import Effect, Finished, Freed, Input, Kill, Launch, Retract, RunAhead, TakenBack, Tokens
from ..model.states import TaskState
from .news import Bell


class NoopPerformer:
    """Ends tasks as DONE in the moment they are handed in; the face of :class:`~jupyter_rm.agent.perform.Performer`.

    Args:
        holdings: not looked at; every performer is given it.
        clock: seconds since the epoch.
    """

    busy_ahead = False

    def __init__(self, holdings: Holdings | None = None, clock: Callable[[], float] = time.time) -> None:
        del holdings
        self._clock = clock
        self._bell = Bell()
        self._tokens: list[Tokens] = []
        self._freed: list[npt.NDArray[np.uint64]] = []
        self._taken: list[TakenBack] = []

    def perform(self, effect: Effect) -> None:
        """Carry out a Launch, RunAhead, Retract or Kill; TypeError for any other effect."""
        if isinstance(effect, Launch):
            self._tokens.append(effect.tokens)
            self._freed.append(effect.allocs)
        elif isinstance(effect, RunAhead):
            self._tokens.append(effect.tokens)
        elif isinstance(effect, Retract):
            self._taken.append(TakenBack(effect.pool, np.zeros(0, np.uint64)))
        elif not isinstance(effect, Kill):  # what is to be killed has ended already
            raise TypeError(f"{type(effect).__name__} is not for the performer")
        self._bell.ring()

    def filenos(self) -> list[int]:
        """Return the descriptors that are readable when :meth:`poll` has something to do."""
        return [self._bell.fileno()]

    def due(self) -> float | None:
        """Return None: there is never anything to do later."""
        return None

    def poll(self) -> list[Input]:
        """Return all ends since the last call."""
        self._bell.quiet()
        out: list[Input] = []
        if self._tokens:
            tokens = self._tokens[0] if len(self._tokens) == 1 else np.concatenate(self._tokens)
            count = len(tokens)
            now = np.full(count, self._clock())
            state = np.full(count, TaskState.DONE, np.uint8)
            small, wide, seconds = np.zeros(count, np.uint8), np.zeros(count, np.uint32), np.zeros(count, np.float32)
            out.append(Finished(tokens, state, small, wide.view(np.int32), wide, now, now, seconds, seconds, wide))
        if self._freed:
            out.append(Freed(self._freed[0] if len(self._freed) == 1 else np.concatenate(self._freed)))
        out += self._taken
        self._tokens, self._freed, self._taken = [], [], []
        return out

    def close(self, grace: float = 0.0) -> None:
        """Do nothing but let the descriptor go."""
        del grace
        self._bell.close()
