"""When a pilot ruins what it is given: noticing it, and giving its tasks to others.

A node with a full disk, a broken environment or an unreachable sandbox ends tasks in a millisecond each, so without
care it would eat a whole ensemble while healthy pilots work. After :data:`RUINED` such ends in a row, with no success
between them, a pilot is set aside for a while if another one can do its work; what it ends meanwhile in this way is
not charged to the tasks. Knows no clock. Read next: :mod:`jupyter_rm.core.hearing`, who asks.
"""

from __future__ import annotations

import numpy as np

from ..model.columns import Array
from ..model.states import Cause, TaskState

# Ends that may well be the place's fault: the task itself hardly ran.
_PLACE = np.array(sorted({Cause.START_FAILED, Cause.ENV_FAILED, Cause.WORKER_LOST, Cause.DISK_FULL}), np.uint8)
# So many tasks may be charged with them in a row.
RUINED = 20


class Breaker:
    """What is held against one pilot.

    Attributes:
        in_a_row: ends that may be its fault since its last success. until: on the session's clock, when it is tried
            again; None while it is in use.
    """

    __slots__ = ("in_a_row", "until")

    def __init__(self) -> None:
        self.in_a_row = 0
        self.until: float | None = None

    def succeeded(self) -> None:
        """A task ended DONE here: nothing is held against it any more."""
        self.in_a_row = 0
        self.until = None

    def uncharged(self, state: Array, cause: Array) -> Array:
        """Count ends, and return which of them are beyond what tasks may be charged with; arrays of shape (n,)."""
        ruined = (state == TaskState.FAILED) & np.isin(cause, _PLACE)
        if bool((state == TaskState.DONE).any()):
            self.succeeded()
            return np.zeros(len(state), bool)
        before = self.in_a_row
        self.in_a_row += int(ruined.sum())
        beyond: Array = ruined & (np.cumsum(ruined) + before > RUINED)
        return beyond

    @property
    def tripped(self) -> bool:
        """Say whether it has ruined too much in a row."""
        return self.in_a_row >= RUINED
