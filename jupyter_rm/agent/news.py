"""What performers gather between two turns of the agent: starts, ends, allocations that came free.

Results that arise in arrays are kept as arrays; single ones are gathered as rows and become one array at the end. Knows
nothing about processes. Read next: :mod:`jupyter_rm.agent.perform`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

from ..model.columns import Column
from ..model.effects import Begun, Finished, Freed, Input, TakenBack
from ..model.states import Cause, TaskState

NOTE = 2000


class Bell:
    """A descriptor that is readable from :meth:`ring` to :meth:`quiet`: wakes whoever selects on it."""

    def __init__(self) -> None:
        self._hear, self._pull = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        self._rung = False

    def fileno(self) -> int:
        return self._hear

    def ring(self) -> None:
        if not self._rung:
            self._rung = True
            os.write(self._pull, b"!")

    def quiet(self) -> None:
        if self._rung:
            self._rung = False
            os.read(self._hear, 16)

    def close(self) -> None:
        os.close(self._hear)
        os.close(self._pull)


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    return ends


@dataclass(slots=True)
class Row:
    """How one attempt ended; a column of :class:`~jupyter_rm.model.effects.Finished` each."""

    token: int
    state: int = TaskState.DONE
    cause: int = Cause.NONE
    code: int = 0
    node: int = 0
    started: float = 0.0
    ended: float = 0.0
    user: float = 0.0
    sys: float = 0.0
    rss: int = 0
    note: str = ""
    value: bytes = b""


@dataclass(slots=True)
class News:
    """Everything that happened since the last turn."""

    begun: list[Begun] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    freed: list[int] = field(default_factory=list)
    taken: list[TakenBack] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.begun or self.finished or self.rows or self.freed or self.taken)

    def row(self, row: Row) -> None:
        """Add a single end."""
        if len(row.note) > NOTE:
            row.note = row.note[:NOTE]
        self.rows.append(row)

    def start(self, token: int, node: int, started: float) -> None:
        """Add a single start."""
        self.begun.append(Begun(np.array([token], np.uint64), np.array([node], np.uint32), np.array([started])))

    def take(self) -> list[Input]:
        """Return all of it as few inputs, starts before ends before free allocations, and begin anew."""
        out: list[Input] = []
        if len(self.begun) == 1:
            out.append(self.begun[0])
        elif self.begun:
            out.append(
                Begun(
                    np.concatenate([part.tokens for part in self.begun]),
                    np.concatenate([part.node for part in self.begun]),
                    np.concatenate([part.started for part in self.begun]),
                )
            )
        out += self.finished
        for rows in ([r for r in self.rows if not r.value], [r for r in self.rows if r.value]):
            if rows:
                out.append(_of_rows(rows))
        if self.freed:
            out.append(Freed(np.array(self.freed, np.uint64)))
        out += self.taken
        self.begun, self.finished, self.rows, self.freed, self.taken = [], [], [], [], []
        return out


def _of_rows(rows: list[Row]) -> Finished:
    return Finished(
        np.array([row.token for row in rows], np.uint64),
        np.array([row.state for row in rows], np.uint8),
        np.array([row.cause for row in rows], np.uint8),
        np.array([row.code for row in rows], np.int32),
        np.array([row.node for row in rows], np.uint32),
        np.array([row.started for row in rows], np.float64),
        np.array([row.ended for row in rows], np.float64),
        np.array([row.user for row in rows], np.float32),
        np.array([row.sys for row in rows], np.float32),
        np.array([row.rss for row in rows], np.uint32),
        Column.of_bytes([row.value for row in rows]) if rows[0].value else None,
        {at: row.note for at, row in enumerate(rows) if row.note},
    )
