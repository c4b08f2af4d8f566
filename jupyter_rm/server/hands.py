"""Hands: a few threads that do what may block, so that the server's event loop never does.

They are daemons: work that hangs (a slow filesystem, a broker that does not answer) never keeps the server from ending.
Knows nothing of what it does. Read next: :mod:`.hub`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ..model.errors import LinkError

T = TypeVar("T")
_Job = tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]


class Hands:
    """At most ``count`` threads, started when there is something to do."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()
        self._closed = False

    async def do(self, work: Callable[[], T], timeout: float | None = None) -> T:
        """Run ``work()`` on a thread and return what it returns.

        Args:
            timeout: seconds to wait; the work itself goes on after that.

        Raises:
            LinkError: it took longer, or the server is ending. Whatever ``work`` raises.
        """
        if self._closed:
            raise LinkError("the Jupyter server is ending", code="JRM-T06", hint="start it again", retry=True)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)

        def done(value: Any, error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(settle, value, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

        self._jobs.put((work, done))
        self._staff()
        try:
            return await asyncio.wait_for(answer, timeout)
        except asyncio.TimeoutError:
            raise LinkError(
                f"no answer within {timeout:g} s", code="JRM-T02", hint="jrm broker status; try again", retry=True
            ) from None

    def _staff(self) -> None:
        with self._lock:
            if self._idle == 0 and len(self._threads) < self._count:
                name = f"jupyter_rm-{self._name}-{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
            if job is None:
                return
            work, done = job
            try:
                value = work()
            except BaseException as error:
                done(None, error)
            else:
                done(value, None)
            del work, done, job

    def close(self) -> None:
        """Take no more work and let idle threads end; does not wait."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
