"""Bulk: many tasks as a user holds them, in the order they were given.

Holds only which tasks it means: one bulk of the ledger, or positions in several (a list of unlike tasks, a selection).
Everything is read from the session's columns when asked. Read next: :mod:`.task`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..model.bulktable import STATES
from ..model.columns import Array, Picks
from ..model.errors import RequestError, TaskError
from ..model.messages import FetchValues
from ..model.states import TaskState
from ..wire.values import RAISED
from . import blocking, calls, dicts, distant, files, news, show
from .results import decode, decode_plain
from .stream import Pause, Stream
from .task import TaskHandle

if TYPE_CHECKING:
    from .named import StateName
    from .news import Subscription
    from .session import Session

_FETCH = 50_000


class Bulk(Sequence[TaskHandle]):
    """Tasks of a session, in order.

    Attributes:
        session: the session. uid: ``t.N`` for a whole bulk of the ledger, else a short description.
    """

    def __init__(self, session: Session, bulks: Array, index: Array | None, count: int) -> None:
        """Use :meth:`whole` and :meth:`select`.

        Args:
            bulks: bulk number per task, shape (count,), or shape (1,) for all of them.
            index: index in its bulk per task, shape (count,); None: 0, 1, 2 ...
        """
        self.session = session
        self._bulks = bulks
        self._index = index
        self._count = count

    @classmethod
    def whole(cls, session: Session, number: int, count: int) -> Bulk:
        """Return all tasks of one bulk of the ledger."""
        return cls(session, np.array([number], np.uint32), None, count)

    @classmethod
    def select(cls, session: Session, bulks: Array, index: Array) -> Bulk:
        """Return the tasks (bulks[i], index[i])."""
        index = np.asarray(index, np.uint32)
        bulks = np.asarray(bulks, np.uint32)
        if len(bulks) > 1 and bool((bulks == bulks[0]).all()):
            bulks = bulks[:1]
        return cls(session, bulks, index, len(index))

    # ------------------------------------------------------------ which tasks

    @property
    def uid(self) -> str:
        """``t.N`` when it is exactly one bulk, else what it is made of."""
        if self._index is None:
            return f"t.{int(self._bulks[0])}"
        return f"{self._count} tasks"

    def parts(self) -> list[tuple[int, Any, Picks, Array | slice]]:
        """Return (bulk, index expression into its columns, picks, positions in this bulk) per bulk of the ledger."""
        if self._index is None:
            picks = Picks.span(0, self._count)
            return [(int(self._bulks[0]), slice(0, self._count), picks, slice(0, self._count))]
        if self._count == 0:
            return []
        if len(self._bulks) == 1:
            return [(int(self._bulks[0]), self._index, Picks.of(self._index), slice(0, self._count))]
        out: list[tuple[int, Any, Picks, Array | slice]] = []
        order = np.argsort(self._bulks, kind="stable")
        numbers, starts = np.unique(self._bulks[order], return_index=True)
        for number, where in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            out.append((int(number), self._index[where], Picks.of(self._index[where]), where))
        return out

    def what(self) -> tuple[tuple[int, Picks | None], ...]:
        """Return the tasks as messages name them."""
        return tuple((number, None if self._index is None else picks) for number, _, picks, _ in self.parts())

    def column(self, name: str) -> Array:
        """Return one of the ledger's columns for these tasks, shape (len,), a copy."""
        parts = self.parts()
        with self.session._replica.changed:
            if len(parts) == 1:
                values: Array = getattr(self.session._table(parts[0][0]), name)[parts[0][1]].copy()
                return values
            out: Array | None = None
            for number, where, _, places in parts:
                piece = getattr(self.session._table(number), name)[where]
                if out is None:
                    out = np.zeros(self._count, piece.dtype)
                out[places] = piece
        return out if out is not None else np.zeros(0)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, key: int) -> TaskHandle: ...
    @overload
    def __getitem__(self, key: slice) -> Bulk: ...

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return self._subset(np.arange(self._count)[key])
        if isinstance(key, np.ndarray):
            return self._subset(np.flatnonzero(key) if key.dtype == bool else key)
        place = int(key)
        if place < 0:
            place += self._count
        if not 0 <= place < self._count:
            raise IndexError(f"{key} of {self._count} tasks")
        bulk = int(self._bulks[place if len(self._bulks) > 1 else 0])
        return TaskHandle(self.session, bulk, place if self._index is None else int(self._index[place]))

    def __iter__(self) -> Iterator[TaskHandle]:
        for place in range(self._count):
            yield self[place]

    def __add__(self, other: Bulk | TaskHandle) -> Bulk:
        """Return the tasks of both, these first."""
        if not isinstance(other, (Bulk, TaskHandle)):
            return NotImplemented
        session = other._session if isinstance(other, TaskHandle) else other.session
        if session.name != self.session.name:
            raise RequestError("+: tasks of two sessions", hint="keep them apart", code="JRM-Q52")
        pieces = [
            self._flat(),
            (np.array([other._number()]), np.array([other._index])) if isinstance(other, TaskHandle) else other._flat(),
        ]
        bulks, index = (np.concatenate([piece[place] for piece in pieces]) for place in (0, 1))
        return Bulk.select(self.session, bulks, index)

    def _flat(self) -> tuple[Array, Array]:
        """Return bulk number and index of every task, each of shape (len,)."""
        index = np.arange(self._count, dtype=np.uint32) if self._index is None else self._index
        return np.broadcast_to(self._bulks if self._count else np.zeros(0, np.uint32), (self._count,)), index

    def _subset(self, places: Array) -> Bulk:
        index = places if self._index is None else self._index[places]
        bulks = self._bulks[places] if len(self._bulks) > 1 else np.broadcast_to(self._bulks, (len(places),))
        return Bulk.select(self.session, bulks, index)

    def failed(self) -> Bulk:
        """Return those that ended FAILED."""
        return self._subset(np.flatnonzero(self.column("state") == TaskState.FAILED))

    def where(self, state: str) -> Bulk:
        """Return those in a state, named as ``"RUNNING"``, or in one of several: ``"FAILED,CANCELED"``.

        Raises:
            RequestError: JRM-Q60, no such state.
        """
        names = [name.strip().upper() for name in state.split(",")]
        for name in names:
            if name not in TaskState.__members__:
                hint = "use " + ", ".join(TaskState.__members__)
                raise RequestError(f"state: {name!r} is unknown", hint=hint, code="JRM-Q60")
        return self._subset(np.flatnonzero(np.isin(self.column("state"), [TaskState[name] for name in names])))

    # ------------------------------------------------------------ how far

    def _counts(self) -> Any:
        ledger = self.session._replica.ledger
        if self._index is None:
            number = int(self._bulks[0])
            return ledger.bulks[number].counts if number < len(ledger.bulks) else np.zeros(STATES, np.int64)
        return np.bincount(self.column("state"), minlength=STATES) if self._count else np.zeros(STATES, np.int64)

    def counts(self) -> dict[str, int]:
        """Return the number of tasks per state, those states only in which there are some."""
        counts = self._counts()
        return {state.name: int(counts[state]) for state in TaskState if counts[state]}

    def done(self) -> bool:
        """Have all a final state?"""
        return self._ended() == self._count

    @property
    def state(self) -> str:
        """One word for all: the common state, or the least advanced one."""
        counts = self._counts()
        return next((state.name for state in TaskState if counts[state]), "DONE")

    # ------------------------------------------------------------ waiting

    def wait(self, timeout: float | None = None) -> bool:
        """Block until all have ended or ``timeout`` seconds are over; say whether they have."""
        session = self.session
        return blocking.wait(
            session._replica,
            self.done,
            timeout,
            what=f"{self._count} tasks of session {session.name!r}",
            cancel=self._how_to_cancel,
            settings=session._settings,
            picture=self.counts,
        )

    def _how_to_cancel(self) -> str:
        return blocking.how_to_cancel(self.session.name, self.uid) if self._index is None else "their cancel()"

    def __await__(self) -> Generator[Any, None, list[Any]]:
        """Wait for all and return the results, like :meth:`results`."""
        replica = self.session._replica
        if not self.done():
            yield from blocking.until(lambda call: replica.when(self.done, call), replica)
        return self.results(timeout=0)

    async def wait_async(self) -> bool:
        """Wait until all have ended without blocking the running event loop."""
        await blocking.Until(self.session._replica, self.done)
        return True

    def as_completed(self, timeout: float | None = None) -> Stream[TaskHandle]:
        """Yield the tasks as they end (those that have ended first), to ``for`` or to ``async for``.

        Raises:
            TimeoutError: not all ended within ``timeout`` seconds.
        """
        session = self.session
        return Stream(
            session._replica,
            self._as_completed(timeout),
            wait=lambda pause: blocking.wait(
                session._replica,
                *pause,
                what=f"{self._count - self._ended()} tasks of session {session.name!r}",
                cancel=self._how_to_cancel,
                settings=session._settings,
            ),
        )

    def _ended(self) -> int:
        return int(self._counts()[TaskState.DONE :].sum())

    def _as_completed(self, timeout: float | None) -> Generator[TaskHandle | Pause, None, None]:
        deadline = None if timeout is None else time.monotonic() + timeout
        seen = np.zeros(self._count, bool)
        while True:
            final = self.column("state") >= TaskState.DONE
            for place in np.flatnonzero(final & ~seen).tolist():
                yield self[place]
            seen |= final
            known = int(seen.sum())
            if known == self._count:
                return
            yield Pause(lambda: self._ended() > known, None if deadline is None else deadline - time.monotonic())  # noqa: B023
            if deadline is not None and time.monotonic() >= deadline and self._ended() <= known:
                raise TimeoutError(f"{self._count - known} of {self._count} tasks have not ended")

    async def results_async(self, *, return_exceptions: bool = False) -> list[Any]:
        """Return what :meth:`results` returns without blocking the running event loop."""
        await self.wait_async()
        return await asyncio.to_thread(lambda: self.results(0, return_exceptions=return_exceptions))

    def results(self, timeout: float | None = None, *, return_exceptions: bool = False) -> list[Any]:
        """Return all results in order: values of calls, standard output of executables.

        Args:
            timeout: seconds to wait for those that have not ended.
            return_exceptions: put exceptions into the list instead of raising the first.

        Raises:
            TimeoutError: not all have ended in time. TaskError, or the first call's own exception.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"{self._count - self._ended()} tasks have not ended")
        out: list[Any] = [None] * self._count
        state = self.column("state")
        for number, _, picks, places in self.parts():
            call = self.session._table(number).form.template.mode == "call"
            positions = range(self._count) if isinstance(places, slice) else places.tolist()
            raws = self._raws(number, picks) if call else None
            plain = decode_plain(raws) if raws is not None else None
            if plain is not None and bool((state[places] == TaskState.DONE).all()):
                if isinstance(places, slice):
                    return plain
                for place, value in zip(positions, plain, strict=True):
                    out[place] = value
                continue
            done_well = [] if call else [place for place in positions if state[place] == TaskState.DONE]
            far = files.read_many({place: self[place] for place in done_well}) if self._far(picks, number) else {}
            for offset, place in enumerate(positions):
                failed: BaseException | None = None
                if place in far:
                    out[place] = far[place]
                    continue
                raw = raws[offset] if raws is not None else None
                if raw and (state[place] == TaskState.DONE or raw[:1] == RAISED):
                    out[place], failed = decode(raw)
                elif call and state[place] == TaskState.DONE:
                    continue  # no value was kept: the site runs nothing
                else:
                    task = self[place]
                    failed = task.exception(0)
                    if failed is None:
                        out[place] = task.result(0)
                if failed is not None:
                    if isinstance(failed, TaskError) and not failed.uid:
                        failed.uid = self[place].uid
                    if not return_exceptions:
                        raise failed
                    out[place] = failed
        return out

    def _far(self, picks: Picks, number: int) -> bool:
        """May any of these tasks of a submission have run at a site elsewhere?"""
        pilots = np.unique(self.session._table(number).pilot[picks.where]).tolist()
        return any(pilot >= 0 and distant.elsewhere(self.session, pilot) for pilot in pilots)

    def _raws(self, number: int, picks: Picks) -> list[bytes | None]:
        """Return the raw results of the picked calls of a bulk, asking the broker for those that are not here."""
        replica, connection = self.session._replica, self.session._connection
        with replica.changed:
            store = replica.values.get(number)
            whole: list[bytes | None] = [None] * len(replica.ledger.bulks[number])
            if store is not None:
                whole = store.raw()
            states = replica.ledger.bulks[number].state
        index = picks.array()
        missing = []
        if None in whole:
            ended = (TaskState.DONE, TaskState.FAILED)
            missing = [i for i in index.tolist() if whole[i] is None and states[i] in ended]
        for start in range(0, len(missing), _FETCH):
            ask = Picks.of(missing[start : start + _FETCH])
            answer = connection.request(FetchValues(connection.number(), self.session.name, number, ask))
            for i, raw in zip(answer.picks.array().tolist(), answer.values.values(), strict=True):
                whole[i] = raw
        if self._index is None:
            return whole
        return [whole[i] for i in index.tolist()]

    # ------------------------------------------------------------ acting

    def cancel(self) -> int:
        """Cancel all that have not ended; return how many were hit."""
        return self.session._cancel(self.what()) if self._count else 0

    def retry(self) -> Bulk:
        """Submit those that ended FAILED or CANCELED again, as new tasks; return them.

        Raises:
            RequestError: the arguments of a call are not known in this process (any more).
        """
        state = self.column("state")
        return self.session._retry(self._subset(np.flatnonzero(state >= TaskState.FAILED)))

    def add_done_callback(self, callback: Callable[[Bulk], object]) -> None:
        """Call ``callback(self)`` on another thread when all have ended."""
        self.session._replica.when(self.done, calls.WhenEnded(self, callback))

    def remove_done_callback(self, callback: Callable[[Bulk], object]) -> int:
        """Take back every :meth:`add_done_callback` of ``callback`` that is not due yet; return how many."""
        return self.session._replica.forget(
            lambda call: isinstance(call, calls.WhenEnded) and call.callback == callback and call.owner is self
        )

    def on_state(self, callback: Callable[[Bulk, StateName], object], *, attempts: bool = False) -> Subscription:
        """Call ``callback(tasks, state)`` on another thread with those of these tasks that took a state together.

        It begins with the states they have now; else as :meth:`Session.on_state`.
        """
        return news.of_bulk(self, callback, attempts)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, one row per task in order; see ``docs``: columns of ``Session.frame``."""
        from .frames import frame

        return frame(self)

    def as_dict(self) -> dict[str, Any]:
        """Return how far it is and which tasks it means: plain values, from which :meth:`from_dict` finds it again."""
        return dicts.of_bulk(self)

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Bulk:
        """Return the bulk that :meth:`as_dict` described; attaches to its session.

        Raises:
            RequestError: JRM-Q57, no such dict, or it names other tasks now; JRM-Q08, JRM-Q03: there are none.
        """
        return dicts.bulk_of(fields, Bulk)

    def __eq__(self, other: object) -> bool:
        """Are these the same tasks in the same order?"""
        if not isinstance(other, Bulk) or other.session is not self.session or len(other) != len(self):
            return False
        return all(np.array_equal(mine, theirs) for mine, theirs in zip(self._flat(), other._flat(), strict=True))

    def __hash__(self) -> int:
        return hash((self.session.name, self._count))

    def __repr__(self) -> str:
        return show.bulk_line(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return show.bulk_bundle(self)


def joined(session: Session, pieces: Iterable[tuple[int, int, Array]], count: int) -> Bulk:
    """Return a bulk made of (bulk number, tasks in it, positions of those tasks in the result)."""
    pieces = list(pieces)
    if len(pieces) == 1:
        return Bulk.whole(session, pieces[0][0], pieces[0][1])
    bulks = np.zeros(count, np.uint32)
    index = np.zeros(count, np.uint32)
    for number, size, places in pieces:
        bulks[places] = number
        index[places] = np.arange(size, dtype=np.uint32)
    return Bulk.select(session, bulks, index)
