"""Which attempts an agent holds, exactly: what its inventory says after every new connection.

Arrays are added and taken away, never searched; the difference is worked out when somebody asks. Read next:
:mod:`jupyter_rm.core.agent`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class HeldSet:
    """The attempts of one bulk that are held: index << 16 | attempt, as arrays added and taken away."""

    __slots__ = ("_added", "_gone", "_gone_count", "count", "top")

    def __init__(self) -> None:
        self._added: list[npt.NDArray[np.int64]] = []
        self._gone: list[npt.NDArray[np.int64]] = []
        self._gone_count = 0
        self.count = 0
        self.top = 0

    def add(self, index: npt.NDArray[np.int64], attempt: npt.NDArray[Any]) -> None:
        self.top = max(self.top, int(index[0] if len(index) == 1 else index.max()) + 1)
        self._added.append(index << 16 | attempt.astype(np.int64))
        self.count += len(index)

    def drop(self, index: npt.NDArray[np.int64], attempt: npt.NDArray[Any]) -> None:
        self._gone.append(index << 16 | attempt.astype(np.int64))
        self._gone_count += len(index)
        self.count -= len(index)
        if self._gone_count > 65_536 and self._gone_count > self.count:
            self._compact()

    def _compact(self) -> npt.NDArray[np.int64]:
        keys = np.concatenate(self._added) if self._added else np.zeros(0, np.int64)
        keys = np.setdiff1d(keys, np.concatenate(self._gone)) if self._gone else np.sort(keys)
        self._added, self._gone, self._gone_count = [keys], [], 0
        return keys

    def now(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (indices, attempts) held, sorted by index."""
        keys = self._compact()
        return keys >> 16, keys & 0xFFFF
