"""Tasks that wait for a pilot, in order, as runs of indices.

A bulk of ten million waiting tasks is one entry. Canceled tasks are skipped when they come up, not searched for. Knows
nothing about pilots. Read next: :mod:`jupyter_rm.core.session`.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from ..model.bulktable import BulkTable
from ..model.columns import Array, Picks
from ..model.states import TaskState


class WaitQueue:
    """Waiting runs by priority, then by arrival."""

    def __init__(self) -> None:
        self._runs: dict[int, deque[Array | tuple[int, int]]] = {}
        self._order: dict[int, list[int]] = {}  # priority -> bulks in order of arrival

    def add(self, bulk: int, picks: Picks, priority: int, *, front: bool = False) -> None:
        """Let tasks wait; ``front`` for those that waited before."""
        run: Array | tuple[int, int] = np.sort(picks.array()) if picks.rest else (picks.lo, picks.hi)
        runs = self._runs.get(bulk)
        if runs is None:
            runs = self._runs[bulk] = deque()
            bulks = self._order.setdefault(priority, [])
            bulks.insert(0, bulk) if front else bulks.append(bulk)
        if front:
            runs.appendleft(run)
        else:
            runs.append(run)

    def bulks(self) -> list[int]:
        """Return the waiting bulks, most important first."""
        return [bulk for priority in sorted(self._order, reverse=True) for bulk in self._order[priority]]

    def __bool__(self) -> bool:
        return bool(self._runs)

    def take(self, bulk: int, most: int, table: BulkTable) -> Picks | None:
        """Take up to ``most`` tasks of one run that still wait; None when the bulk has none left."""
        runs = self._runs.get(bulk)
        while runs:
            run = runs[0]
            if isinstance(run, tuple):
                lo, hi = run
                cut = min(hi, lo + most)
                if cut < hi:
                    runs[0] = (cut, hi)
                else:
                    runs.popleft()
                picks = Picks.span(lo, cut)
            else:
                if len(run) > most:
                    runs[0] = run[most:]
                    run = run[:most]
                else:
                    runs.popleft()
                picks = Picks.of(run)
            if picks.hi - picks.lo == 1:
                if table.state.item(picks.lo) == TaskState.WAITING:
                    return picks
                continue
            picks = picks.where_true(table.state[picks.where] == TaskState.WAITING)
            if len(picks):
                return picks
        self._forget(bulk)
        return None

    def _forget(self, bulk: int) -> None:
        self._runs.pop(bulk, None)
        for priority, bulks in list(self._order.items()):
            if bulk in bulks:
                bulks.remove(bulk)
                if not bulks:
                    del self._order[priority]
