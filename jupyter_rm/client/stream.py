"""What goes on coming: ``for`` blocks a thread for it, ``async for`` leaves the running event loop alive.

Knows nothing of what comes: a generator yields it, and a :class:`Pause` when there is nothing. Read next:
:mod:`.blocking`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, cast

from .blocking import Until

if TYPE_CHECKING:
    from .replica import Replica

T = TypeVar("T")
_END = object()


class Pause(NamedTuple):
    """Nothing is there now: look again once ``ready()``, or after ``seconds`` (None: not before)."""

    ready: Callable[[], bool]
    seconds: float | None = None


class Stream(Iterator[T], Generic[T]):
    """An iterator for threads and for event loops; use one of the two.

    Args:
        steps: yields what comes, and pauses.
        slow: a step may take long (it reads files elsewhere): an event loop has it done on a thread.
        wait: how a thread waits; default: as the replica does.
    """

    def __init__(
        self,
        replica: Replica,
        steps: Generator[T | Pause, None, None],
        slow: bool = False,
        wait: Callable[[Pause], object] | None = None,
    ) -> None:
        self._replica, self._steps, self._slow = replica, steps, slow
        self._wait = wait or (lambda pause: replica.wait(*pause))

    def __next__(self) -> T:
        for step in self._steps:
            if not isinstance(step, Pause):
                return step
            self._wait(step)
        raise StopIteration

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            step = await asyncio.to_thread(next, self._steps, _END) if self._slow else next(self._steps, _END)
            if step is _END:
                return
            if not isinstance(step, Pause):
                yield cast("T", step)
                continue
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_until(Until(self._replica, step.ready)), step.seconds)

    def close(self) -> None:
        """Want no more of it."""
        self._steps.close()


async def _until(until: Until) -> None:
    await until
