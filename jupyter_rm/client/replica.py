"""The replica: this process's copy of one session's ledger, and who waits for it to change.

Facts are folded by the same :class:`~jupyter_rm.model.ledger.Ledger` as everywhere, on the connection's thread, under
``changed`` (a condition that every reader of several columns holds). Waiters come in three kinds: blocked threads
(notified), callbacks by task (``watch``), and batches of calls whose futures are resolved at once.
Knows nothing about sockets. Read next: :mod:`.connection`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..model.columns import Array, Picks
from ..model.errors import JrmError, LinkError
from ..model.facts import BulkSubmitted, SessionOpened, TasksEnded, TasksStarted, decode
from ..model.ledger import Ledger
from ..model.states import TaskState
from .results import ValueStore

if TYPE_CHECKING:
    from ..model.messages import Attached, Feed
    from ..model.sites import SiteView
    from .ask import Ask
    from .news import News

Callback = Callable[[], None]


class Batch(Protocol):
    """Calls that were sent together and whose objects want to be told what becomes of them."""

    live: bool  # it wants to be told of starts and ends too

    def numbered(self, bulk: int) -> None:
        """The broker made them bulk ``bulk``."""

    def started(self, index: Array) -> None:
        """These began."""

    def ended(self, index: Array, fact: TasksEnded) -> None:
        """These ended (``fact.picks`` in the same order)."""

    def lost(self, error: JrmError) -> None:
        """The broker refused them."""


class Replica:
    """One followed session.

    Attributes:
        name: the session's name. ledger: its state. cursor: number of the last fact folded.
        changed: condition notified after every fold. error: why no more news will come, if so.
    """

    def __init__(self, name: str, value_limit: int = 256 << 20) -> None:
        self.name = name
        self.ledger = Ledger()
        self.cursor = 0
        self.changed = threading.Condition()
        self.error: JrmError | None = None
        self.asking: Callable[[], Ask | None] = lambda: None  # a question that nobody has shown to a person yet
        self.sites: dict[str, SiteView] = {}  # what sites of its pilots look like from outside, by name
        self.attached = False
        self.created = False
        self.batches: dict[bytes, Batch] = {}
        self.values: dict[int, ValueStore] = {}
        self._live: dict[int, Batch] = {}
        self._value_bytes = 0
        self._value_limit = value_limit
        self._watchers: dict[int, dict[int, list[Callback]]] = {}
        self._conditions: list[tuple[Callable[[], bool], Callback]] = []
        self.news: News | None = None  # who is told of states
        # Calls back who waited; the connection puts that off until it has nothing else to do.
        self.tell: Callable[[list[Callback]], None] = call_all
        self.feeds_since_seen = 0
        self.bytes_since_seen = 0

    # ------------------------------------------------------------ news (connection's thread)

    def attach(self, message: Attached) -> list[int]:
        """Take the snapshot of an :class:`Attached`; return live bulks whose results must be fetched."""
        missed: list[int] = []
        ready: list[Callback] = []
        with self.changed:
            if message.snapshot:
                ledger = Ledger.load(message.snapshot)
                if self.cursor and ledger.opened_at != self.ledger.opened_at:
                    raise _another(self.name)
                self.ledger = ledger
                for key, batch in list(self.batches.items()):
                    number = self.ledger.bulk_keys.get(key)
                    if number is not None:
                        del self.batches[key]
                        batch.numbered(number)
                        if batch.live:
                            self._live[number] = batch
                missed = [
                    number for number in self._live if bool((self.ledger.bulks[number].state >= TaskState.DONE).any())
                ]
                ready = self._ready(set(self._watchers))
                if self.news is not None:
                    self.news.restored()
            self.cursor = message.cursor
            self.attached = True
            self.created = message.created
            ready += self._met()
            self.changed.notify_all()
        call_all(ready)
        return missed

    def feed(self, message: Feed) -> bool:
        """Fold a feed in; False when it does not continue from our cursor (attach again)."""
        if message.cursor <= self.cursor and message.cursor:
            return True
        if message.before != self.cursor:
            return False
        facts = [decode(raw) for raw in message.facts]
        touched: set[int] = set()
        with self.changed:
            for fact in facts:
                if type(fact) is SessionOpened and self.ledger.opened_at:
                    raise _another(self.name)
                mask = self.ledger.apply(fact)
                if type(fact) is TasksEnded:
                    touched.add(fact.bulk)
                    self._ended(fact, mask)
                elif type(fact) is TasksStarted:
                    batch = self._live.get(fact.bulk)
                    if batch is not None:
                        batch.started(fact.picks.array())
                elif type(fact) is BulkSubmitted:
                    self._numbered(fact)
                if self.news is not None:
                    self.news.folded(fact)
            self.cursor = message.cursor
            ready = self._ready(touched) if self._watchers else []
            if self._conditions:
                ready += self._met()
            self.changed.notify_all()
        if ready:
            self.tell(ready)
        return True

    def _numbered(self, fact: BulkSubmitted) -> None:
        batch = self.batches.pop(fact.key, None)
        if batch is not None:
            batch.numbered(fact.bulk)
            if batch.live:
                self._live[fact.bulk] = batch

    def _ended(self, fact: TasksEnded, mask: Array | None) -> None:
        batch = self._live.get(fact.bulk)
        if batch is not None:
            batch.ended(fact.picks.array(), fact)
            if self.ledger.bulks[fact.bulk].open == 0:
                del self._live[fact.bulk]
        elif fact.ends.values is not None:
            self.keep(fact.bulk, fact.picks, fact.ends.values, mask)

    def keep(self, bulk: int, picks: Picks, values: Any, mask: Array | None = None) -> None:
        """Keep raw results; the oldest are forgotten when there are too many (they can be fetched again)."""
        store = self.values.get(bulk)
        if store is None:
            store = self.values[bulk] = ValueStore(len(self.ledger.bulks[bulk]))
        self._value_bytes += store.add(picks, values, mask)
        while self._value_bytes > self._value_limit:
            oldest = next(iter(self.values))
            freed = self.values[oldest].drop_oldest()
            if not freed:
                del self.values[oldest]
                if not self.values:
                    break
            self._value_bytes -= freed

    def settled(self, bulk: int) -> None:
        """All objects of a live bulk are resolved."""
        self._live.pop(bulk, None)

    def live(self, bulk: int) -> Batch | None:
        """Return the live batch behind a bulk."""
        return self._live.get(bulk)

    def fail(self, error: JrmError) -> None:
        """No more news will come: wake everybody."""
        with self.changed:
            self.error = error
            ready = [call for by_index in self._watchers.values() for calls in by_index.values() for call in calls]
            ready += [call for _, call in self._conditions]
            self._watchers.clear()
            self._conditions.clear()
            self.news = None
            batches = [*self.batches.values(), *self._live.values()]
            self.batches.clear()
            self._live.clear()
            self.changed.notify_all()
        for batch in batches:
            batch.lost(error)
        call_all(ready)

    # ------------------------------------------------------------ waiting (any thread)

    def wait(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        """Block until ``ready()`` (asked under ``changed``) or ``timeout`` seconds are over; say whether it is.

        Raises:
            LinkError: the connection is gone for good.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.changed:
            while not ready():
                if self.error is not None:
                    raise self.error
                left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
                if left <= 0:
                    return False
                self.changed.wait(left)
        return True

    def wait_cheaply(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Like :meth:`wait`, but ``ready`` is asked where the news comes in, so the waiting thread wakes up once.

        Raises:
            LinkError: the connection is gone for good.
        """
        gate = threading.Lock()
        gate.acquire()
        self.when(ready, gate.release)
        try:
            # Open without being ready means that no more news will come: wait() raises that.
            return gate.acquire(timeout=timeout) and (ready() or self.wait(ready, 0.0))
        finally:
            if self._conditions:  # whoever was called back is not among them any more
                with self.changed:
                    self._conditions[:] = [entry for entry in self._conditions if entry[0] is not ready]

    def watch(self, bulk: int, index: int, callback: Callback) -> None:
        """Call ``callback`` once when the task has ended (at once when it has), on another thread perhaps."""
        with self.changed:
            if not self.final(bulk, index) and self.error is None:
                self._watchers.setdefault(bulk, {}).setdefault(index, []).append(callback)
                return
        callback()

    def when(self, ready: Callable[[], bool], callback: Callback) -> None:
        """Call ``callback`` once when ``ready()`` has become true."""
        with self.changed:
            if not ready() and self.error is None:
                self._conditions.append((ready, callback))
                return
        callback()

    def forget(self, same: Callable[[Callback], bool], bulk: int = -1, index: int = -1) -> int:
        """Take back callbacks of a task (:meth:`watch`) and of conditions (:meth:`when`); return how many."""
        with self.changed:
            calls = self._watchers.get(bulk, {}).get(index, [])
            before = len(calls) + len(self._conditions)
            calls[:] = [call for call in calls if not same(call)]
            self._conditions[:] = [entry for entry in self._conditions if not same(entry[1])]
            return before - len(calls) - len(self._conditions)

    def final(self, bulk: int, index: int) -> bool:
        """Say whether a task has its final state."""
        return bulk < len(self.ledger.bulks) and self.ledger.bulks[bulk].state.item(index) >= TaskState.DONE

    def _ready(self, touched: set[int]) -> list[Callback]:
        ready: list[Callback] = []
        for bulk in touched:
            waiting = self._watchers.get(bulk)
            if not waiting or bulk >= len(self.ledger.bulks):
                continue
            state = self.ledger.bulks[bulk].state
            index = np.fromiter(waiting, np.int64, len(waiting))
            for number in index[state[index] >= TaskState.DONE].tolist():
                ready += waiting.pop(number)
            if not waiting:
                del self._watchers[bulk]
        return ready

    def _met(self) -> list[Callback]:
        ready: list[Callback] = []
        kept = []
        for condition, callback in self._conditions:
            if condition():
                ready.append(callback)
            else:
                kept.append((condition, callback))
        self._conditions[:] = kept
        return ready


def _another(name: str) -> LinkError:
    return LinkError(
        f"session {name!r} was closed, and another of that name was opened", code="JRM-T06", hint="open it again"
    )


def call_all(callbacks: list[Callback]) -> None:
    """Call back who waited; what one of them raises is logged."""
    for callback in callbacks:
        try:
            callback()
        except Exception as error:  # a callback of the user's must not stop the news for everybody
            import logging

            logging.getLogger("jupyter_rm").exception("a done callback raised %s", type(error).__name__)
