"""News of states: the callbacks of ``on_state``, told of what the replica folds, many tasks at once.

Called on the connection's thread after every fact, under the replica's lock: what is news is found there, by columns;
the callbacks run in order on the callbacks' thread. How far each task was told is kept, so nothing is told twice, not
even when a snapshot takes the place of facts. Read next: :mod:`.replica`, :mod:`.calls`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from ..model.bulktable import BulkTable
from ..model.columns import Array
from ..model.facts import BulkSubmitted, Fact, PilotChanged, PilotRequested
from ..model.states import TaskState
from .calls import run_callback
from .named import StateName, names

if TYPE_CHECKING:
    from .bulk import Bulk
    from .replica import Replica
    from .requested import Requested
    from .session import Session
    from .task import TaskHandle

Callback = Callable[[Any, StateName], object]
_STATES = names(TaskState)
_NEVER = np.uint32(0xFFFFFFFF)  # the mark of a task that is not asked for


class Subscription:
    """One callback of ``on_state``; ``close()`` ends it.

    Attributes:
        closed: it is called no more.
    """

    def __init__(self, session: Session, callback: Callback, tasks: bool, pilots: bool, attempts: bool) -> None:
        self.closed = False
        self._session = session
        self._callback = callback
        self._tasks, self._pilots = tasks, pilots  # all of them, also those to come
        self._attempts = attempts
        self._raised = False
        # How far it was told: of the tasks of a bulk (None: the bulk is over), of a pilot.
        self._told: dict[int, npt.NDArray[np.uint32] | None] = {}
        self._told_of: dict[int, int] = {}

    def close(self) -> None:
        """Call back no more, not even for what is on its way."""
        self.closed = True
        news = self._session._replica.news
        if news is not None:
            news.drop(self)

    def _tell(self, make: Callable[[], object], state: StateName) -> None:
        def call() -> None:
            if self.closed:
                return
            try:
                self._callback(make(), state)
            except Exception:  # it must not stop the others, nor fill the screen
                if not self._raised:
                    self._raised = True
                    logging.getLogger("jupyter_rm").exception(
                        "a callback of on_state raised; it is called further, and what else it raises is not logged"
                    )

        run_callback(call)

    def _marks(self, table: BulkTable, where: Any) -> npt.NDArray[np.uint32]:
        marks: npt.NDArray[np.uint32] = table.state[where].astype(np.uint32)
        return marks + (table.attempt[where].astype(np.uint32) << 4) if self._attempts else marks

    def look(self, number: int, table: BulkTable, index: Array, tell: bool = True) -> None:
        """Tell what is news of these tasks."""
        if number not in self._told:
            if not self._tasks:
                return
            self._told[number] = np.zeros(len(table), np.uint32)
        told = self._told[number]
        if told is None:
            return
        marks = self._marks(table, index)
        news = marks > told[index]
        told[index[news]] = marks[news]
        if tell and bool(news.any()):
            index, states = index[news], marks[news] & 15
            for state in np.unique(states).tolist():
                took = index[states == state]
                self._tell(functools.partial(self._session._some, number, took), _STATES[state])
        if not table.open:
            self._told[number] = None

    def look_at_pilot(self, number: int, tell: bool = True) -> None:
        """Tell what is news of a pilot (or of a script's job)."""
        if not self._pilots and number not in self._told_of:
            return
        found = self._session._requested(number)
        state = found.state
        if state.value > self._told_of.get(number, 0):
            self._told_of[number] = state.value
            if tell:
                self._tell(lambda: found, state)

    def bulks(self, count: int) -> list[int]:
        """Return which of the first ``count`` bulks it is about."""
        return list(range(count)) if self._tasks else list(self._told)

    def over(self) -> bool:
        """Can nothing more be told?"""
        rows = self._session._replica.ledger.pilots
        return (
            not (self._tasks or self._pilots)
            and all(told is None for told in self._told.values())
            and all(rows[number].state.final for number in self._told_of)
        )


class _One(Subscription):
    """Of one task: thousands of these cost one look each, not an array each."""

    def __init__(self, task: TaskHandle, callback: Callback, attempts: bool) -> None:
        super().__init__(task._session, callback, False, False, attempts)
        self.task = task
        self._mark = 0

    def look_at(self, table: BulkTable) -> None:
        """Tell it when it is news."""
        mark = int(self._marks(table, self.task._index))
        if mark > self._mark:
            self._mark = mark
            self._tell(lambda: self.task, _STATES[mark & 15])


class News:
    """The subscriptions to one replica; all methods are called under its lock."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._many: list[Subscription] = []
        self._ones: dict[int, dict[int, list[_One]]] = {}

    def folded(self, fact: Fact) -> None:
        """Tell what this fact has changed."""
        if isinstance(fact, (PilotRequested, PilotChanged)):
            for each in self._many:
                each.look_at_pilot(fact.pilot)
        elif isinstance(fact, BulkSubmitted):
            self._look(fact.bulk, np.arange(fact.count))
        elif (picks := getattr(fact, "picks", None)) is not None:
            self._look(fact.bulk, picks.array())  # type: ignore[attr-defined]

    def restored(self) -> None:
        """Tell what a snapshot has changed."""
        ledger = self._replica.ledger
        for number, table in enumerate(ledger.bulks):
            self._look(number, np.arange(len(table)))
        for number in range(len(ledger.pilots)):
            for each in self._many:
                each.look_at_pilot(number)

    def _look(self, number: int, index: Array) -> None:
        table = self._replica.ledger.bulks[number]
        for each in self._many:
            each.look(number, table, index)
        ones = self._ones.get(number)
        if ones is not None:
            for place in index.tolist() if len(index) < len(ones) else list(ones):
                for one in ones.get(place, ()):
                    one.look_at(table)
            if not table.open:
                del self._ones[number]
        if not table.open:
            self._many = [each for each in self._many if not each.over()]

    def add(self, subscription: Subscription, present: bool) -> None:
        """Begin with how all stands, or with what comes next."""
        ledger = self._replica.ledger
        if isinstance(subscription, _One):
            task = subscription.task
            subscription.look_at(ledger.bulks[task._bulk])
            self._ones.setdefault(task._bulk, {}).setdefault(task._index, []).append(subscription)
            return
        for number in subscription.bulks(len(ledger.bulks)):
            table = ledger.bulks[number]
            subscription.look(number, table, np.arange(len(table)), present)
        for number in range(len(ledger.pilots)):
            subscription.look_at_pilot(number, present)
        if not subscription.over():
            self._many.append(subscription)

    def drop(self, subscription: Subscription) -> None:
        """Look no more for this one."""
        with self._replica.changed:
            if isinstance(subscription, _One):
                ones = self._ones.get(subscription.task._bulk, {}).get(subscription.task._index, [])
                ones[:] = [one for one in ones if one is not subscription]
            self._many = [each for each in self._many if each is not subscription]


def _add(subscription: Subscription, present: bool = True) -> Subscription:
    replica = subscription._session._replica
    with replica.changed:
        if replica.error is not None:
            raise replica.error
        if replica.news is None:
            replica.news = News(replica)
        replica.news.add(subscription, present)
    return subscription


def of_task(task: TaskHandle, callback: Callback, attempts: bool) -> Subscription:
    """Tell ``callback`` of one task; see :meth:`TaskHandle.on_state`."""
    task._table()  # its number, and its row here
    return _add(_One(task, callback, attempts))


def of_bulk(bulk: Bulk, callback: Callback, attempts: bool) -> Subscription:
    """Tell ``callback`` of some tasks; see :meth:`Bulk.on_state`."""
    subscription = Subscription(bulk.session, callback, False, False, attempts)
    for number, where, _, _ in bulk.parts():
        told = subscription._told[number] = np.full(len(bulk.session._table(number)), _NEVER)
        told[where] = 0
    return _add(subscription)


def of_requested(one: Requested, callback: Callback) -> Subscription:
    """Tell ``callback`` of one pilot or script; see :meth:`Requested.on_state`."""
    one._row()
    subscription = Subscription(one._session, callback, False, False, False)
    subscription._told_of[one._number] = 0
    return _add(subscription)


class Telling:
    """What a session tells by itself: states as they change."""

    def on_state(
        self,
        callback: Callback,
        *,
        tasks: bool = True,
        pilots: bool = True,
        present: bool = True,
        attempts: bool = False,
    ) -> Subscription:
        """Call ``callback(what, state)`` on another thread as states change; ``close()`` of what is returned ends it.

        ``what`` is a Bulk of the tasks that took this state together, or a Pilot (or a Job, of a script). Each task and
        each pilot is told of every state once, in order; states it passed unseen are left out, the last one never is.

        Args:
            tasks, pilots: what to tell of. present: begin with the state each has now. attempts: tell the states of
                further attempts of a task too, from WAITING on.

        Raises:
            LinkError: this process does not follow the session any more.
        """
        return _add(Subscription(cast("Session", self), callback, tasks, pilots, attempts), present)
