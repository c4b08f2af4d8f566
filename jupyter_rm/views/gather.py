"""The columns of all tasks of a session as one, copied once per state of the ledger and shared by all views.

A session may have one submission of a million tasks or thousands of single ones; views want arrays either way. The copy
is made under the source's lock and then belongs to nobody: views compute on it without holding anything. Knows columns
only. Read next: :mod:`.usage`, :mod:`.nodes`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ..model.bulktable import BulkTable
from ..model.ids import parse_pilot, parse_task
from ..model.pilotrow import PilotRow
from ..model.states import PilotState, TaskState
from ..model.units import GPU_UNIT
from .tables import Array, Source

T = TypeVar("T")
MOST_KEPT = 4


@dataclass(frozen=True)
class Pilot:
    """What views need of a pilot; times are seconds since 1970, ``until`` None while it lives."""

    number: int
    row: PilotRow
    nodes: tuple[Any, ...]
    state: PilotState
    silent: bool
    active: float | None
    until: float | None


@dataclass(frozen=True)
class Gathered:
    """All tasks of a session at one moment, in the order of their uids.

    Attributes:
        state u1, started f8, ended f8 (0: not yet), pilot i2, node u4: per task, shape (n,).
        sizes: tasks per bulk, shape (b,). cores, gpus, mem: what one task of a bulk asks for (cores, devices, MiB),
        shape (b,). submitted, since: per bulk, seconds since 1970. names: per bulk. pilots: all of them.
    """

    state: Array
    started: Array
    ended: Array
    pilot: Array
    node: Array
    cause: Array
    sizes: Array
    cores: Array
    gpus: Array
    mem: Array
    submitted: Array
    since: Array
    pilots: tuple[Pilot, ...]
    opened_at: float
    closed: bool
    kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` returns, made once for this moment of the session: views share what is costly."""
        if key not in self.kept:
            if len(self.kept) >= MOST_KEPT:
                self.kept.clear()
            self.kept[key] = make()
        made: T = self.kept[key]
        return made

    @property
    def starts(self) -> Array:
        """Return the place of the first task of each bulk, and the end; shape (b + 1,)."""
        return np.concatenate((np.zeros(1, np.int64), np.cumsum(self.sizes)))

    def bulk(self, places: Array | None = None) -> Array:
        """Return the number of the bulk of each task (at ``places``), int64."""
        if places is None:
            return np.repeat(np.arange(len(self.sizes)), self.sizes)
        return np.searchsorted(self.starts, places, "right") - 1

    def uid(self, place: int) -> str:
        """Return the uid of the task at ``place``."""
        starts = self.starts
        bulk = int(np.searchsorted(starts, place, "right")) - 1
        return f"t.{bulk}.{place - int(starts[bulk])}"

    def missing(self, select: str) -> str:
        """Return that the session has no such task, submission or pilot, in words; empty: it has."""
        if select.startswith("p."):
            there = parse_pilot(select) < len(self.pilots)
        elif select.startswith("t."):
            bulk, index = parse_task(select)
            there = bulk < len(self.sizes) and index < int(self.sizes[bulk])
        else:
            return ""
        return "" if there else f"This session has no {select}."

    def over(self) -> Array:
        """Return when each task took its final state; infinite while it has none.

        A task that ended without ever being bound has no time of its own: that of its submission's last change.
        """
        final = self.state >= TaskState.DONE
        over = np.where(final, self.ended, np.inf)
        unknown = final & (self.ended <= 0)
        if bool(unknown.any()):
            over[unknown] = np.repeat(self.since, self.sizes)[unknown]
        return over

    def latest(self, now: float, pilots: bool = True) -> float:
        """Return the right edge of a time axis: now while anything is open, else the last thing that happened.

        Args:
            pilots: look at pilots too, not at tasks only.
        """
        rows = self.pilots if pilots else ()
        if bool((self.state < TaskState.DONE).any()) or any(pilot.until is None for pilot in rows):
            return now
        last = [self.opened_at + 1.0, *(pilot.until for pilot in rows if pilot.until is not None)]
        if len(self.ended):
            last.append(float(self.ended.max()))
        # Not cut at ``now``: what is known may be younger than the moment at which the picture was asked for.
        return max(last)


_lock = threading.Lock()
_last: weakref.WeakKeyDictionary[Any, tuple[int, int, Gathered]] = weakref.WeakKeyDictionary()


def gather(source: Source) -> Gathered:
    """Return the columns of a session now; the same object as long as nothing changed."""
    with source.changed:
        ledger = source.ledger
        mark = id(ledger), ledger.folded
        with _lock:
            known = _last.get(source)
        if known is not None and known[:2] == mark:
            return known[2]
        tables = ledger.bulks
        requests = [table.form.template.request for table in tables]
        gathered = Gathered(
            state=_joined(tables, "state"),
            started=_joined(tables, "started"),
            ended=_joined(tables, "ended"),
            pilot=_joined(tables, "pilot"),
            node=_joined(tables, "node"),
            cause=_joined(tables, "cause"),
            sizes=np.array([len(table) for table in tables], np.int64),
            cores=np.array([each.ranks * each.cores for each in requests], np.float64),
            gpus=np.array([each.ranks * each.gpus / GPU_UNIT for each in requests], np.float64),
            mem=np.array([each.ranks * each.mem for each in requests], np.float64),
            submitted=np.array([table.form.at for table in tables], np.float64),
            since=np.array([table.since for table in tables], np.float64),
            pilots=tuple(_pilot(row) for row in ledger.pilots),
            opened_at=ledger.opened_at,
            closed=ledger.closed,
        )
    with _lock:
        _last[source] = (*mark, gathered)
    return gathered


_EMPTY = {
    name: np.zeros(0, dtype) for name, dtype in (("state", "u1"), ("cause", "u1"), ("pilot", "i2"), ("node", "u4"))
}


def _joined(tables: list[BulkTable], name: str) -> Array:
    if not tables:
        return _EMPTY.get(name, np.zeros(0))
    return np.concatenate([getattr(table, name) for table in tables])


def _pilot(row: PilotRow) -> Pilot:
    active = row.times.get(int(PilotState.ACTIVE))
    until = row.since if row.state.final else None
    return Pilot(row.number, row, row.nodes, row.state, row.silent, active, until)
