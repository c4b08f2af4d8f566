"""Calls: Python functions as tasks, gathered into bulks on their way out and resolved in batches on their way back.

A call is appended to a queue; the connection's thread sends what has gathered when the broker has room for it, so the
slower the broker, the larger the bulks, and a single call leaves at once. Read next: :mod:`.executor`.
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ..model.columns import Array, Column, Picks
from ..model.describe import Template
from ..model.errors import JrmError, LinkError, TaskError
from ..model.facts import TasksEnded
from ..model.messages import Cancel, Refused, Submit, Values
from ..model.states import TaskState
from . import blocking
from .results import decode

if TYPE_CHECKING:
    from .again import Payloads
    from .connection import Connection
    from .replica import Replica

# Submissions under way at once: enough to hide the broker's disk sync, few enough that calls gather meanwhile.
UNDER_WAY = 3
LARGEST = 8192


class Ticket:
    """Where the calls of one submission learn their bulk number; shared by their handles."""

    __slots__ = ("error", "key", "live", "number", "replica")

    def __init__(self, replica: Replica, key: bytes) -> None:
        self.replica = replica
        self.key = key
        self.number: int | None = None
        self.error: JrmError | None = None
        self.live = False

    def numbered(self, bulk: int) -> None:
        self.number = bulk

    def started(self, index: Array) -> None:
        pass

    def ended(self, index: Array, fact: TasksEnded) -> None:
        pass

    def lost(self, error: JrmError) -> None:
        self.error = error
        with self.replica.changed:
            self.replica.changed.notify_all()

    def wait(self, timeout: float | None = None) -> int:
        """Return the bulk's number as soon as the broker gave it one."""
        if self.number is None:
            self.replica.wait(lambda: self.number is not None or self.error is not None, timeout)
        if self.error is not None:
            raise self.error
        if self.number is None:
            raise TimeoutError("the broker has not recorded the call yet")
        return self.number


class CallFuture(Future[Any]):
    """A future of one call; ``uid`` once the broker has numbered it.

    Done callbacks run on a thread of their own, so that a slow or blocking one cannot hold up other results.
    """

    _queue: CallQueue | None = None
    _batch: FutureBatch | None = None
    _place = -1

    def cancel(self) -> bool:
        """Cancel the call if it has not begun; True when it is (or was) cancelled."""
        if not super().cancel():
            return False
        with self._condition:
            if self._state == "CANCELLED":
                self.set_running_or_notify_cancel()
        if self._queue is not None:
            self._queue.cancelled(self)
        return True

    def _invoke_callbacks(self) -> None:
        if self._done_callbacks:  # type: ignore[attr-defined]
            _callbacks.run(super()._invoke_callbacks)  # type: ignore[misc]

    def result(self, timeout: float | None = None) -> Any:
        """Return what the call returned; as of every Future."""
        return super().result(timeout if self.done() else self._patience(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised; as of every Future."""
        return super().exception(timeout if self.done() else self._patience(timeout))

    def _patience(self, timeout: float | None) -> float | None:
        """Wait, and say so if it may never end; return what is left of ``timeout`` then."""
        deadline = None if timeout is None else time.monotonic() + timeout
        told = self._queue is None
        while not told and not self.done():
            step = blocking.WORRY_S if deadline is None else min(blocking.WORRY_S, deadline - time.monotonic())
            if step <= 0:
                break
            with self._condition:
                if self._state in ("PENDING", "RUNNING"):
                    self._condition.wait(step)
            if not self.done() and step == blocking.WORRY_S and self._queue is not None:
                told = blocking.tell_stuck(self._queue._replica)
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    @property
    def uid(self) -> str:
        """The task's uid, empty while it has none."""
        if self._batch is None or self._batch.number is None:
            return ""
        return f"t.{self._batch.number}.{self._place}"


class _Callbacks:
    """One thread that runs done callbacks in order, made at first use."""

    def __init__(self) -> None:
        self._queue: collections.deque[Callable[[], None]] = collections.deque()
        self._ready = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self, call: Callable[[], None]) -> None:
        self._queue.append(call)
        self._ready.release()
        if self._thread is None or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._loop, name="jupyter_rm callbacks", daemon=True)
                    self._thread.start()

    def _loop(self) -> None:
        while True:
            self._ready.acquire()
            try:
                self._queue.popleft()()
            except Exception:
                import logging

                logging.getLogger("jupyter_rm").exception("a done callback raised")


_callbacks = _Callbacks()


def run_callback(call: Callable[[], None]) -> None:
    """Run a user's callback on the callbacks' thread."""
    _callbacks.run(call)


class WhenEnded:
    """A done callback of a task, a bulk or a pilot, known again when it is to be taken back."""

    __slots__ = ("callback", "owner")

    def __init__(self, owner: Any, callback: Callable[[Any], object]) -> None:
        self.owner = owner
        self.callback = callback

    def __call__(self) -> None:
        run_callback(lambda: self.callback(self.owner))  # type: ignore[arg-type]


class FutureBatch:
    """The futures of one submission."""

    __slots__ = ("futures", "key", "live", "number", "open")

    def __init__(self, key: bytes, futures: list[CallFuture]) -> None:
        self.key = key
        self.futures: list[CallFuture | None] = list(futures)
        self.number: int | None = None
        self.live = True
        self.open = len(futures)

    def numbered(self, bulk: int) -> None:
        self.number = bulk

    def started(self, index: Array) -> None:
        for number in index.tolist():
            future = self.futures[number]
            if future is not None and future._state == "PENDING":
                try:
                    future.set_running_or_notify_cancel()
                except Exception:  # noqa: S112 (cancelled meanwhile)
                    continue

    def ended(self, index: Array, fact: TasksEnded) -> None:
        values = fact.ends.values
        raws: list[Any] = values.values() if values is not None else [b""] * len(index)
        states = np.broadcast_to(np.frombuffer(fact.state, np.uint8), len(index))
        if len(states) and bool((states == TaskState.DONE).all()):
            for number, raw in zip(index.tolist(), raws, strict=True):
                self._settle(number, raw, "")
            return
        for position, (number, raw, state) in enumerate(zip(index.tolist(), raws, states.tolist(), strict=True)):
            note = fact.ends.notes.get(position, "")
            self._settle(number, raw, note or ("cancelled" if state == TaskState.CANCELED else "it did not end DONE"))

    def _settle(self, number: int, raw: bytes, note: str) -> None:
        future = self.futures[number]
        if future is None:
            return
        self.futures[number] = None
        self.open -= 1
        if future._state not in ("PENDING", "RUNNING"):
            return
        error: BaseException | None
        if raw:
            value, error = decode(raw)
        elif note:
            value, error = None, ended_badly(f"t.{self.number}.{number}", note)
        else:
            value, error = decode(raw)
        try:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)
        except Exception:  # cancelled in this very moment: its owner has been told
            return

    def fetched(self, replica: Replica, message: Values | None) -> None:
        """Resolve what ended while we were away, from the results the broker kept."""
        assert self.number is not None
        found: dict[int, bytes] = {}
        if message is not None:
            found = dict(zip(message.picks.array().tolist(), message.values.values(), strict=True))  # type: ignore[arg-type]
        table = replica.ledger.bulks[self.number]
        for number, future in enumerate(self.futures):
            if future is not None and table.state[number] >= TaskState.DONE:
                state = TaskState(int(table.state[number]))
                note = "" if state is TaskState.DONE else table.notes.get(number, f"it ended {state.name}")
                self._settle(number, found.get(number, b""), note)
        if not self.open:
            replica.settled(self.number)

    def lost(self, error: JrmError) -> None:
        for number, future in enumerate(self.futures):
            if future is not None:
                self.futures[number] = None
                try:
                    future.set_exception(error)
                except Exception:  # noqa: S112 (already settled)
                    continue


def ended_badly(uid: str, note: str) -> TaskError:
    """Return the error of a call that has no result of its own."""
    error = TaskError(f"{uid}: {note}", code="JRM-X48", hint="see story() of the task")
    error.uid = uid
    return error


def missed_ends(replica: Replica, bulk: int) -> Picks | None:
    """Return which unresolved calls of a live bulk have ended, None when there are none."""
    batch = replica.live(bulk)
    if not isinstance(batch, FutureBatch):
        return None
    table = replica.ledger.bulks[bulk]
    ended = np.flatnonzero(table.state >= TaskState.DONE)
    waiting = [number for number in ended.tolist() if batch.futures[number] is not None]
    return Picks.of(waiting) if waiting else None


class CallQueue:
    """Calls of one session on their way to the broker."""

    def __init__(self, connection: Connection, replica: Replica, payloads: Payloads) -> None:
        self._connection = connection
        self._replica = replica
        self._payloads = payloads
        self._calls: collections.deque[tuple[Template, bytes, CallFuture | None, Ticket | None]] = collections.deque()
        self._under_way = 0
        self._ticket: tuple[Template, Ticket, int] | None = None
        self._lock = threading.Lock()

    @property
    def waiting(self) -> bool:
        """True while something has not been sent."""
        return bool(self._calls)

    def put_future(self, template: Template, payload: bytes, future: CallFuture) -> None:
        """Queue a call whose result goes to ``future``."""
        future._queue = self
        with self._lock:
            self._ticket = None  # what shares a ticket must stand together in the queue
            self._calls.append((template, payload, future, None))
        self._connection.wake()

    def put_handle(self, template: Template, payload: bytes) -> tuple[Ticket, int]:
        """Queue a call; return the ticket and the index in the bulk it will be part of."""
        with self._lock:
            shared = self._ticket
            if shared is None or shared[0] is not template or shared[2] >= LARGEST:
                shared = (template, Ticket(self._replica, os.urandom(16)), 0)
            template_, ticket, index = shared
            self._ticket = (template_, ticket, index + 1)
            self._calls.append((template, payload, None, ticket))
        self._connection.wake()
        return ticket, index

    def cancelled(self, future: CallFuture) -> None:
        """Cancel a call whose future was cancelled."""
        batch = future._batch
        if batch is not None and batch.number is not None:
            what = ((batch.number, Picks.span(future._place, future._place + 1)),)
            self._connection.post(Cancel(self._connection.number(), self._replica.name, what), lambda _: None)

    def gather(self) -> None:
        """Send what has gathered, as far as the broker has room (connection's thread)."""
        while self._calls and self._under_way < UNDER_WAY:
            with self._lock:
                self._ticket = None  # its calls are leaving: later ones go into another bulk
                run = self._run()
            if run:
                self._send(run)

    def _run(self) -> list[tuple[Template, bytes, CallFuture | None, Ticket | None]]:
        """Take the calls of equal template and kind from the front."""
        calls = self._calls
        run: list[tuple[Template, bytes, CallFuture | None, Ticket | None]] = []
        template, ticket = calls[0][0], calls[0][3]
        while calls and len(run) < LARGEST:
            call = calls[0]
            if call[0] is not template or call[3] is not ticket:
                break
            calls.popleft()
            if call[2] is None or call[2]._state == "PENDING":
                run.append(call)
        return run

    def _send(self, run: list[tuple[Template, bytes, CallFuture | None, Ticket | None]]) -> None:
        template, ticket = run[0][0], run[0][3]
        batch: FutureBatch | Ticket
        if ticket is not None:
            batch = ticket
        else:
            futures = [call[2] for call in run if call[2] is not None]
            batch = FutureBatch(os.urandom(16), futures)
            for place, future in enumerate(futures):
                future._batch, future._place = batch, place
        replica = self._replica
        with replica.changed:
            if replica.error is not None:
                error = replica.error
            else:
                error = None
                replica.batches[batch.key] = batch
        if error is not None:
            batch.lost(error)
            return
        payload = Column.of_bytes([call[1] for call in run])
        self._under_way += 1

        def reply(message: Any) -> None:
            self._under_way -= 1
            if isinstance(message, Refused):
                message = message.error.error()
            if isinstance(message, JrmError):
                with replica.changed:
                    replica.batches.pop(batch.key, None)
                batch.lost(message)
                return
            self._payloads.keep(message.number, payload)
            if isinstance(batch, FutureBatch):
                # Cancelled between sending and now: the broker has to hear of it.
                gone = [n for n, future in enumerate(batch.futures) if future is not None and future.cancelled()]
                if gone:
                    what = ((message.number, Picks.of(gone)),)
                    self._connection.post(Cancel(self._connection.number(), replica.name, what), lambda _: None)

        submit = Submit(self._connection.number(), replica.name, batch.key, len(run), template, {}, payload)
        self._connection.post(submit, reply)

    def give_up(self, error: JrmError | None = None) -> None:
        """Drop what was not sent."""
        failed = error or LinkError("the session was closed here", code="JRM-T06", hint="open it again")
        while self._calls:
            _, _, future, ticket = self._calls.popleft()
            if future is not None and not future.done():
                future.set_exception(failed)
            if ticket is not None:
                ticket.lost(failed)


class Templates:
    """Templates of calls, interned so that equal ones are the same object (the queue compares identities)."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, Template], Template] = {}

    def of(self, base: Template, sha: bytes) -> Template:
        """Return the template of a call of function ``sha`` with the fields of ``base``."""
        found = self._known.get((sha, base))
        if found is None:
            found = msgspec.structs.replace(base, mode="call", function=sha)
            if len(self._known) > 4096:
                self._known.clear()
            self._known[sha, base] = found
        return found
