"""Executions without processes: what a performer owes the agent's machine, in virtual time.

Honours Launch, RunAhead, Retract and Kill to the letter of :mod:`jupyter_rm.model.effects`: every token handed in comes
back exactly once (in a Finished, or in a TakenBack if it never started), every allocation exactly once in a Freed.
How long a task takes and how it ends stands in its arguments (:func:`behaviour`). Every start is told to the watch.
Read next: :mod:`jupyter_rm.testing.oracles`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..core.holdings import Holdings
from ..model.columns import Column
from ..model.effects import Begun, Finished, Freed, Input, TakenBack, Tokens
from ..model.ids import INDEX_BITS, INDEX_MASK
from ..model.states import Cause, TaskState
from ..wire.values import INLINE, NOTHING, RAISED
from .chance import Random
from .clock import Clock
from .loop import Loop
from .oracles import Execution, Watch

# name -> (shortest, longest) seconds a task of that kind runs
KINDS: dict[str, tuple[float, float]] = {
    "ms": (0.001, 0.03),
    "short": (0.05, 3.0),
    "medium": (2.0, 40.0),
    "long": (60.0, 250.0),
}
_FAILURES = (Cause.TASK_EXIT, Cause.TASK_EXIT, Cause.START_FAILED, Cause.OUT_OF_MEMORY, Cause.WORKER_LOST)


def behaviour(kind: str, failing: float) -> tuple[str, ...]:
    """Return the arguments of a task that runs as long as ``kind`` says and fails with probability ``failing``."""
    return (kind, str(failing))


class _Pool:
    __slots__ = ("allocs", "queue")

    def __init__(self) -> None:
        self.allocs = 0
        self.queue: deque[int] = deque()


class Performer:
    """The performer of one life of an agent; ``wake`` is called when :meth:`take` has news."""

    def __init__(
        self,
        loop: Loop,
        rng: Random,
        clock: Clock,
        holdings: Holdings,
        watch: Watch,
        pilot: int,
        wake: Callable[[], None],
    ) -> None:
        self._loop, self._rng, self._clock = loop, rng, clock
        self._holdings, self._watch, self._pilot, self._wake = holdings, watch, pilot, wake
        self._pools: dict[int, _Pool] = {}
        self._running: dict[int, tuple[Execution, int, int]] = {}  # token -> (execution, alloc, pool)
        self._begun: list[tuple[int, float]] = []
        self._ended: list[tuple[int, int, int, int, float, float, bytes | None]] = []
        self._freed: list[int] = []
        self._taken: list[tuple[int, list[int]]] = []
        self._stopped = False

    @property
    def running(self) -> int:
        """Return how many executions are alive."""
        return len(self._running)

    def launch(self, number: int, tokens: Tokens, allocs: npt.NDArray[np.uint64]) -> None:
        """Start each task on its allocation."""
        pool = self._pools.setdefault(number, _Pool())
        pool.allocs += len(allocs)
        for token, alloc in zip(tokens.tolist(), allocs.tolist(), strict=True):
            self._start(token, alloc, number)
        self._wake()

    def ahead(self, number: int, tokens: Tokens) -> None:
        """Start tasks as allocations of the pool come free; straight back if it has none."""
        pool = self._pools.setdefault(number, _Pool())
        if pool.allocs == 0:
            self._taken.append((number, tokens.tolist()))
            self._wake()
        else:
            pool.queue.extend(tokens.tolist())

    def retract(self, number: int) -> None:
        """Give back what has not started."""
        pool = self._pools.setdefault(number, _Pool())
        self._taken.append((number, list(pool.queue)))
        pool.queue.clear()
        self._wake()

    def kill(self, tokens: Tokens) -> None:
        """End what runs, drop what waits; what is unknown ended already."""
        wanted = set(tokens.tolist())
        for pool in self._pools.values():
            dropped = [token for token in pool.queue if token in wanted]
            if dropped:
                pool.queue = deque(token for token in pool.queue if token not in wanted)
                for token in dropped:
                    self._ended.append((token, TaskState.CANCELED, Cause.USER_CANCEL, 0, 0.0, 0.0, None))
        for token in tokens.tolist():
            if token in self._running:
                self._loop.after(self._rng.uniform(0.0, 0.2), self._end, token, self._running[token][0], True)
        self._wake()

    def stop(self) -> None:
        """The node or the process died: everything that ran is gone."""
        self._stopped = True
        for execution, _, _ in self._running.values():
            self._watch.gone(execution)
        self._running.clear()

    def take(self) -> list[Input]:
        """Return what happened since the last call."""
        out: list[Input] = []
        if self._begun:
            starts, self._begun = self._begun, []
            out.append(
                Begun(
                    np.array([token for token, _ in starts], np.uint64),
                    np.zeros(len(starts), np.uint32),
                    np.array([at for _, at in starts]),
                )
            )
        if self._ended:
            ends, self._ended = self._ended, []
            with_value = [end for end in ends if end[6] is not None]
            without = [end for end in ends if end[6] is None]
            out += [_finished(part) for part in (with_value, without) if part]
        if self._freed:
            out.append(Freed(np.array(self._freed, np.uint64)))
            self._freed = []
        for number, tokens in self._taken:
            out.append(TakenBack(number, np.array(tokens, np.uint64)))
        self._taken.clear()
        return out

    def _start(self, token: int, alloc: int, number: int) -> None:
        bulk, index = token >> INDEX_BITS, token & INDEX_MASK
        held = self._holdings.bulks[bulk]
        segment, row = held.find(index)
        execution = self._watch.started(
            bulk,
            index,
            int(segment.attempt[row]),
            self._pilot,
            held.payload(index) if held.template.mode == "call" else b"",
            held.params(index) if held.template.params else {},
        )
        self._running[token] = (execution, alloc, number)
        self._begun.append((token, self._clock.wall()))
        shortest, longest = KINDS[held.template.arguments[0]]
        self._loop.after(self._rng.uniform(shortest, longest), self._end, token, execution, False)

    def _end(self, token: int, execution: Execution, killed: bool) -> None:
        running = self._running.get(token)
        if self._stopped or running is None or running[0] is not execution:
            return
        _, alloc, number = self._running.pop(token)
        self._watch.gone(execution)
        template = self._holdings.bulks[execution.bulk].template
        calls = template.mode == "call"
        ended = self._clock.wall()
        value: bytes | None = NOTHING if calls else None
        state, cause, code = TaskState.DONE, Cause.NONE, 0
        if killed:
            state, cause, code = TaskState.CANCELED, Cause.USER_CANCEL, -15
        elif self._rng.random() < float(template.arguments[1]):
            state, cause, code = TaskState.FAILED, self._rng.choice(_FAILURES), 1
            if self._rng.random() < 0.1:
                cause = Cause.NODE_LOST  # one node of several: the agent lives on
            elif calls:
                cause, value = Cause.CALL_RAISED, RAISED + b"it raised"
        elif calls:
            value = INLINE + execution.payload + f"/{execution.attempt}/{execution.number}".encode()
            self._watch.returned(execution, value)
        self._ended.append((token, state, cause, code, ended - (self._loop.now - execution.at), ended, value))
        pool = self._pools[number]
        if pool.queue:
            self._start(pool.queue.popleft(), alloc, number)
        else:
            pool.allocs -= 1
            self._freed.append(alloc)
        self._wake()


def _finished(ends: list[tuple[int, int, int, int, float, float, bytes | None]]) -> Finished:
    count = len(ends)
    tokens, state, cause, code, started, ended, values = zip(*ends, strict=True)
    return Finished(
        np.array(tokens, np.uint64),
        np.array(state, np.uint8),
        np.array(cause, np.uint8),
        np.array(code, np.int32),
        np.zeros(count, np.uint32),
        np.array(started),
        np.array(ended),
        np.zeros(count, np.float32),
        np.zeros(count, np.float32),
        np.zeros(count, np.uint32),
        Column.of_bytes(values) if values[0] is not None else None,
    )
