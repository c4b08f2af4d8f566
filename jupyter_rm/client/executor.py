"""``s.executor()``: a :class:`concurrent.futures.Executor` whose workers are the session's pilots.

Keeps the whole contract of the standard library: ``submit``, ``map``, ``shutdown``, ``as_completed``, ``wait``,
exceptions with their remote traceback as cause. Read next: :mod:`.calls`.
"""

from __future__ import annotations

import collections
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, wait
from typing import TYPE_CHECKING, Any, TypeVar

from ..model.describe import Template
from ..model.errors import RequestError
from .calls import CallFuture
from .functions import call_template, dump_arguments

if TYPE_CHECKING:
    from .session import Session

T = TypeVar("T")


class SessionExecutor(Executor):
    """Runs calls in the session.

    Args:
        session: where the calls run.
        max_workers: at most so many calls at once (None: as many as the pilots hold).
        **fields: ``cores``, ``gpus``, ``mem``, ``timeout``, ``retries`` ... of every call, as in ``jrm.Task``.
    """

    def __init__(self, session: Session, max_workers: int | None = None, **fields: Any) -> None:
        for name in ("initializer", "initargs", "mp_context", "max_tasks_per_child"):
            if fields.pop(name, None):
                raise RequestError(
                    f"{name}: not supported by this executor",
                    hint="workers are shared by all calls of the session: set things up inside the function, "
                    "behind functools.cache",
                    code="JRM-Q33",
                )
        if max_workers is not None and (not isinstance(max_workers, int) or max_workers < 1):
            raise RequestError("max_workers: must be 1 or more", hint="leave it out for all cores", code="JRM-Q05")
        self._session = session
        self._base: Template = call_template(fields)
        self._templates: dict[bytes, Template] = {}
        self._most = max_workers
        self._running = 0
        self._backlog: collections.deque[tuple[Template, bytes, CallFuture]] = collections.deque()
        # Weak: what is under way is held elsewhere, and results must not live longer than their futures.
        self._open: weakref.WeakSet[CallFuture] = weakref.WeakSet()
        self._guard = threading.Lock()
        self._shut = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> CallFuture:
        """Run ``fn(*args, **kwargs)`` in a worker; return its future.

        Raises:
            RuntimeError: after shutdown. RequestError: function or arguments cannot be pickled.
        """
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        session = self._session
        sha = session._functions.sha(fn)
        session._need_pilot(self._base)  # each time: the last pilot may have ended meanwhile
        template = self._templates.get(sha)
        if template is None:
            template = self._templates[sha] = session._templates.of(self._base, sha)
        payload = dump_arguments(args, kwargs)
        future = CallFuture()
        if self._most is None:
            with self._guard:
                self._open.add(future)
            session._queue.put_future(template, payload, future)
            return future
        with self._guard:
            self._open.add(future)
            self._backlog.append((template, payload, future))
        future.add_done_callback(self._one_done)
        self._fill()
        return future

    def _fill(self) -> None:
        assert self._most is not None
        while True:
            with self._guard:
                if self._running >= self._most or not self._backlog:
                    return
                template, payload, future = self._backlog.popleft()
                if future.done():
                    continue
                self._running += 1
                future._counted = True  # type: ignore[attr-defined]
            self._session._queue.put_future(template, payload, future)

    def _one_done(self, future: Any) -> None:
        with self._guard:
            self._open.discard(future)
            if getattr(future, "_counted", False):
                self._running -= 1
        self._fill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for the open ones, or cancel those that have not begun."""
        self._shut = True
        with self._guard:
            still = [future for future in self._open if not future.done()]
        if cancel_futures:
            for future in still:
                future.cancel()
        if wait:
            _wait_all([future for future in still if not future.done()])


def _wait_all(futures: list[CallFuture]) -> None:
    if futures:
        wait(futures)
