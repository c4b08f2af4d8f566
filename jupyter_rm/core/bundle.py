"""A bundle: work that goes with its pilot, and the agent's right to decide about it while nobody is there to ask.

The broker binds the tasks of a bundle to its pilot when it is recorded and puts the orders for them beside the pilot's
spec (:class:`Parcel`). The agent carries them out, tries again what deserves it by the broker's own rule, and says so
in its reports (:class:`Deputy`). Its spool is never forgotten, so that with the parcel it tells every later life of the
agent where the work stands. Knows no socket, file or clock. Read next: :mod:`jupyter_rm.core.agent`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from ..model.columns import Array, Picks, pack, unpack
from ..model.describe import Template
from ..model.facts import Ends
from ..model.ids import tokens
from ..model.messages import Assign, Deliver, Ended, Goodbye, Order, Report, Returned, Started
from ..model.states import INFRASTRUCTURE, Cause, TaskState
from ..wire import codec
from .endings import LOST_MOST, deserves_another
from .holdings import cut_assign

_INFRASTRUCTURE = np.array(sorted(INFRASTRUCTURE), np.uint8)


class Parcel:
    """Orders that are gathered instead of sent; takes the part of a :class:`~jupyter_rm.core.port.Port` in that."""

    def __init__(self) -> None:
        self.templates: set[int] = set()
        self.functions: set[bytes] = set()
        self.bodies: list[bytes] = []

    def order(self, order: Order) -> None:
        """Put an order in."""
        self.bodies.append(codec.encode(order))


class _Standing:
    """Where the tasks of one bulk stand, columns of shape (n,): all that is known of them."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.index: Array = np.zeros(0, np.int64)
        self.attempt: Array = np.zeros(0, np.int64)
        self.failures: Array = np.zeros(0, np.int64)
        self.begun: Array = np.zeros(0, np.bool_)
        self.over: Array = np.zeros(0, np.bool_)

    def add(self, order: Assign) -> None:
        count = len(order.picks)
        order_of = np.concatenate((self.index, order.picks.array()))
        self.attempt = np.concatenate((self.attempt, unpack(order.attempt, "<u2", count).astype(np.int64)))
        self.failures = np.concatenate((self.failures, np.zeros(count, np.int64)))
        self.begun = np.concatenate((self.begun, np.zeros(count, np.bool_)))
        self.over = np.concatenate((self.over, np.zeros(count, np.bool_)))
        rank = np.argsort(order_of, kind="stable")
        self.index = order_of[rank]
        for name in ("attempt", "failures", "begun", "over"):
            setattr(self, name, getattr(self, name)[rank])

    def rows(self, index: Array) -> Array:
        """Return the rows of those of ``index`` that are here."""
        rows = np.searchsorted(self.index, index)
        rows[rows == len(self.index)] = 0
        return rows[self.index[rows] == index] if len(self.index) else rows[:0]

    def ended(self, report: Ended) -> None:
        """Take in a report of an earlier life."""
        index = report.picks.array()
        rows = self.rows(index)
        if len(rows) != len(index):
            return  # no bundle of ours: somebody else's numbers
        if report.again:
            self.attempt[rows] = unpack(report.attempt, "<u2", len(index)).astype(np.int64) + 1
            own = ~np.isin(unpack(report.ends.cause, "<u1", len(index)), _INFRASTRUCTURE)
            self.failures[rows] += own
            self.begun[rows] = False
        else:
            self.over[rows] = True


class Deputy:
    """Decides about the tasks of one bundle in the broker's stead.

    Args:
        bodies: the encoded orders of the parcel.
        spooled: (number, body) of all reports of earlier lives.
        first: this is the agent's first life: nothing can have begun before.
    """

    def __init__(self, bodies: Sequence[bytes], spooled: Sequence[tuple[int, bytes]], first: bool) -> None:
        self._orders: list[Order] = [codec.orders.decode(body) for body in bodies]
        self._standing: dict[int, _Standing] = {}
        self._canceled: set[int] = set()
        for order in self._orders:
            if isinstance(order, Assign):
                standing = self._standing.get(order.bulk)
                if standing is None:
                    assert order.template is not None, "a parcel names every template once"
                    standing = self._standing[order.bulk] = _Standing(order.template)
                standing.add(order)
        over = False
        for _, body in spooled:
            over |= self._told(codec.reports.decode(body))
        if over:
            for standing in self._standing.values():
                standing.over[:] = True
        self._first = first

    def _told(self, report: Report) -> bool:
        """Take in a report of an earlier life; say whether it is a goodbye."""
        if isinstance(report, (Started, Ended, Returned)) and (standing := self._standing.get(report.bulk)) is not None:
            if isinstance(report, Ended):
                standing.ended(report)
            else:
                rows = standing.rows(report.picks.array())
                (standing.begun if isinstance(report, Started) else standing.over)[rows] = True
        return isinstance(report, Goodbye)

    def begin(self) -> Iterator[Report | Order]:
        """Yield what to report of an earlier life's end, and the orders for what is left to do."""
        if not self._first:
            for bulk, standing in self._standing.items():
                yield from self._lost(bulk, standing)
        for order in self._orders:
            if not isinstance(order, Assign):
                yield order
                continue
            standing = self._standing[order.bulk]
            rows = standing.rows(order.picks.array())
            order = msgspec.structs.replace(
                order, attempt=pack(standing.attempt[rows], "<u2"), template=standing.template
            )
            keep = ~standing.over[rows]
            if bool(keep.any()):
                yield order if bool(keep.all()) else cut_assign(order, keep)

    def _lost(self, bulk: int, standing: _Standing) -> Iterator[Report]:
        """Give up what ran when the agent died: it may have begun whether or not that was written down.

        Only a task that must not start twice is written down before it starts; of those the others are as they were.
        """
        never = standing.template.restart == "never"
        lost = ~standing.over & (standing.begun | (not never))
        more = lost & (standing.attempt <= LOST_MOST + standing.template.retries) & (not never)
        for mask, again in ((lost & ~more, False), (more, True)):
            rows = np.flatnonzero(mask)
            if not len(rows):
                continue
            ends = Ends(bytes([Cause.AGENT_LOST]), bytes(4), bytes(4), bytes(8), bytes(8), bytes(4), bytes(4), bytes(4))
            attempt = pack(standing.attempt[rows], "<u2")
            report = Ended(bulk, Picks.of(standing.index[rows]), attempt, bytes([TaskState.FAILED]), ends, again)
            standing.ended(report)
            yield report

    def delivered(self, bulk: int) -> list[Order]:
        """Return what the parcel says about files of a bulk: it is said anew for every further attempt."""
        return [order for order in self._orders if isinstance(order, Deliver) and order.bulk == bulk]

    def canceled(self, bulk: int, index: Array) -> None:
        """Somebody asked for the end of these: no further attempt of them."""
        if bulk in self._standing:
            self._canceled.update(tokens(bulk, index).tolist())

    def again(self, bulk: int, index: Array, state: Array, cause: Array) -> Array | None:
        """Return which of these attempts are to be followed by another one, None: none is; all of shape (n,)."""
        standing = self._standing.get(bulk)
        if standing is None or not bool((state == TaskState.FAILED).any()):
            return None
        rows = standing.rows(index)
        if len(rows) != len(index):
            return None
        more = deserves_another(standing.template, state, cause, standing.failures[rows])
        if self._canceled:
            more &= ~np.isin(tokens(bulk, index), np.array(list(self._canceled), np.uint64))
        standing.failures[rows[more & ~np.isin(cause, _INFRASTRUCTURE)]] += 1
        return more if bool(more.any()) else None
