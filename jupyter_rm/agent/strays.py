"""Processes that left the group of their task (``setsid``, daemons) and outlived it: they are ended too.

What loses its parent comes to the spawner's host, which adopts it. Whose it was is written in the environment it began
with (``JRM_TASK_UID``); what has no such mark, such as a daemon of ``pre_exec``, stays until the pilot ends. Each is
signalled through a descriptor of its own, so that a number that was used again is never meant. Linux only: elsewhere
nobody adopts. Knows /proc, signals and time. Read next: :mod:`jupyter_rm.agent.perform`, which asks it after ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from ..model.errors import RequestError
from ..model.ids import parse_task

# s after an end at which is looked, and between two looks: a storm of ends costs no more than that.
SOON, PAUSE = 0.05, 0.5
# Who dies last may be adopted after a look: so often it is repeated.
LOOKS = 2


class Strays:
    """The adopted children of one spawner.

    Args:
        adopter: process id of who adopts them; 0: nobody.
        mark: variables that all tasks of this pilot have, ``K=V``.
        lives: says whether an attempt (bulk, index, attempt) has not ended yet.
        grace: s between TERM and KILL.
    """

    def __init__(
        self, adopter: int, mark: tuple[bytes, ...], lives: Callable[[int, int, int], bool], grace: float
    ) -> None:
        able = adopter and hasattr(os, "pidfd_open")
        self._children = Path(f"/proc/{adopter}/task/{adopter}/children") if able else None
        self._adopter, self._mark, self._lives, self._grace = adopter, frozenset(mark), lives, grace
        self._doomed: dict[int, tuple[int, float]] = {}  # process id -> (descriptor, when it is killed)
        self._last = 0.0
        self._left = 0
        self.due: float | None = None  # when to look, ``time.monotonic()``

    def ended(self) -> None:
        """Tasks have ended: look soon."""
        if self._children is not None:
            self._left = LOOKS
            if self.due is None:
                self.due = max(time.monotonic() + SOON, self._last + PAUSE)

    def look(self) -> None:
        """End what is left of tasks that have ended, when it is time to."""
        now = time.monotonic()
        if self._children is None or self.due is None or now < self.due:
            return
        self._last, self._left, self.due = now, self._left - 1, None
        try:
            there = [int(pid) for pid in self._children.read_text(encoding="ascii").split()]
        except (OSError, ValueError):
            self._children = None  # a kernel that does not tell: they stay until the pilot ends
            there = []
        for pid in self._doomed.keys() - set(there):
            os.close(self._doomed.pop(pid)[0])
        for pid in there:
            if pid not in self._doomed:
                self._doom(pid, now)
            elif now >= self._doomed[pid][1]:
                self._send(self._doomed[pid][0], signal.SIGKILL)
        if self._doomed or self._left > 0:
            self.due = now + PAUSE

    def _doom(self, pid: int, now: float) -> None:
        try:
            known = os.pidfd_open(pid)
        except OSError:
            return
        try:
            if self._stray(pid):
                self._send(known, signal.SIGTERM)
                self._send(known, signal.SIGCONT)  # a stopped process cannot act on TERM
                self._doomed[pid] = (known, now + self._grace)
                known = -1
        finally:
            if known >= 0:
                os.close(known)

    def _stray(self, pid: int) -> bool:
        """Say whether a process is a child of the adopter, and of a task that has ended."""
        try:
            items = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return False  # it is over, or another user's by now
        said = dict(item.partition(b"=")[::2] for item in items)
        if int(words[1]) != self._adopter or not self._mark.issubset(items):
            return False
        try:
            bulk, index = parse_task(os.fsdecode(said[b"JRM_TASK_UID"]))
            return not self._lives(bulk, index, int(said[b"JRM_TASK_ATTEMPT"]))
        except (KeyError, ValueError, RequestError):
            return False

    @staticmethod
    def _send(known: int, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(known, number)

    def close(self) -> None:
        """Forget them: the spawner ends with all that is below it."""
        for known, _ in self._doomed.values():
            os.close(known)
        self._doomed.clear()
        self._children, self.due = None, None
