"""Tasks that pause between two attempts (``retry_delay``): they wait, and no pilot gets them before their time.

A pause is not a fact: a broker that is started again lets those that wait begin theirs anew. Read next:
:mod:`jupyter_rm.core.books`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..model.columns import Array, Picks


class Pauses:
    """The tasks of one session that pause; ``most`` is the longest pause that doubling leads to, s."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._new: list[tuple[float, int, Picks]] = []  # how long
        self._known: list[tuple[float, int, Picks]] = []  # until when

    def add(self, bulk: int, index: Array, failures: Array, delay: float) -> None:
        """Let tasks pause: ``delay`` s after their first failure, twice as long after each further one."""
        for count in np.unique(failures).tolist():
            pause = min(delay * 2.0 ** min(count - 1, 64), max(delay, self._most))
            self._new.append((pause, bulk, Picks.of(index[failures == count])))

    def begin(self, now: float) -> None:
        """Let the pauses of this turn begin."""
        if self._new:
            self._known += [(now + pause, bulk, picks) for pause, bulk, picks in self._new]
            self._new.clear()

    def over(self, now: float) -> Iterator[tuple[int, Picks]]:
        """Yield those whose pause is over, and forget them."""
        due = [each for each in self._known if each[0] <= now]
        if due:
            self._known = [each for each in self._known if each[0] > now]
            yield from ((bulk, picks) for _, bulk, picks in due)

    def until(self, bulk: int, index: int) -> float | None:
        """Return when the pause of a task is over; None: it does not pause."""
        mine = [at for at, number, picks in self._known if number == bulk and index in picks.array()]
        return max(mine, default=None)
