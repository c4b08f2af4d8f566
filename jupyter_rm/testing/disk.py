"""Disks that keep exactly what they promised and nothing more.

:class:`JournalDisk`: a transaction is there for good once committed; rows that were not yet *kept* (checkpointed) can
be lost, but only to damage. :class:`SpoolDisk`: what was appended survives the death of the process, what was synced
survives the death of the node. Knows nothing about what the bytes mean. Read next: :mod:`jupyter_rm.sim.broker`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .chance import Random


class JournalDisk:
    """The broker's journal: rows of (session, kind, body) in transactions.

    Attributes:
        rows: what is committed. kept: how many rows damage cannot reach. incarnation: lives of the broker so far.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, Any]] = []
        self.kept = 0
        self.incarnation = 0
        self._ends: list[int] = []
        self._safe = 0

    def commit(self, rows: list[tuple[str, int, Any]], *, safe: bool = False) -> int:
        """Append a transaction; return the number of its first row, from 1. ``safe`` rows are never damaged."""
        first = len(self.rows) + 1
        self.rows += rows
        self._ends.append(len(self.rows))
        if safe:
            self._safe = len(self.rows)
        return first

    def checkpoint(self) -> None:
        """Make everything so far safe from damage."""
        self.kept = len(self.rows)

    def damage(self, rng: Random) -> list[tuple[str, int, Any]]:
        """Lose whole transactions from the end, none of them kept; return the rows that went."""
        floor = max(self.kept, self._safe)
        choices = [end for end in self._ends if end >= floor]
        if not choices:
            return []
        end = rng.choice(choices)
        lost = self.rows[end:]
        del self.rows[end:]
        self._ends = [other for other in self._ends if other <= end]
        return lost


class SpoolDisk:
    """An agent's outbox on the disk of its node."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, bytes]] = []
        self._synced = 0  # how many of the entries survive the node

    def append(self, seq: int, body: bytes, sync: bool) -> None:
        """Write a report; ``sync`` makes it and all before it survive the node."""
        self._entries.append((seq, body))
        if sync:
            self._synced = len(self._entries)

    def forget(self, seq: int) -> None:
        """Drop reports up to ``seq``."""
        keep = next((at for at, (number, _) in enumerate(self._entries) if number > seq), len(self._entries))
        del self._entries[:keep]
        self._synced = max(0, self._synced - keep)

    def lose_cache(self, rng: Random) -> int:
        """The node went down: lose some of what was not synced, from the end; return how many reports went."""
        keep = rng.randint(self._synced, len(self._entries))
        lost = len(self._entries) - keep
        del self._entries[keep:]
        self._synced = keep
        return lost

    def damage(self, rng: Random) -> list[bytes]:
        """Lose some records in a row, wherever they stand and whatever was synced; return their bodies."""
        if not self._entries:
            return []
        first = rng.randrange(len(self._entries))
        after = min(len(self._entries), first + rng.randint(1, 4))
        lost = [body for _, body in self._entries[first:after]]
        del self._entries[first:after]
        self._synced = min(self._synced, len(self._entries))
        return lost

    def load(self, note: Callable[[str], None] | None = None) -> list[tuple[int, bytes]]:
        """Return what a new life of the agent finds."""
        if note is not None:
            note(f"spool holds {len(self._entries)} reports")
        return list(self._entries)
