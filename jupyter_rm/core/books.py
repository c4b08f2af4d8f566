"""A session's books: the ledger, what this turn adds to it, and the tasks that wait.

Every decision becomes a fact in the ledger at once and is journalled before any of its effects is performed. Here is
what all parts of a session share: writing a fact, ending tasks, letting them wait again, tasks that come after others.
Knows no client, agent, socket, file or clock. Read next: :mod:`jupyter_rm.core.binding`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..model.bulktable import NOBODY
from ..model.columns import Array, Picks, pack
from ..model.effects import Effect, Turn
from ..model.facts import (
    AttemptsEnded,
    Ends,
    Fact,
    PilotSpec,
    TasksEnded,
    TasksWaiting,
)
from ..model.ledger import Ledger
from ..model.states import INFRASTRUCTURE, Cause, TaskState
from .patience import Patience
from .pauses import Pauses
from .payloads import Payloads
from .placing import Ground
from .port import Port
from .queue import WaitQueue

_INFRASTRUCTURE = np.array(sorted(INFRASTRUCTURE), np.uint8)


class Books:
    """The ledger of one session and everything that is derived from it.

    Args:
        key: name under which the journal knows the session (unique for ever).
        incarnation: number of this life of the broker.
        wall: returns the wall time of the current turn, for display in facts.
        check_site: raises RequestError for a site that cannot be asked; None: only this machine can.
    """

    def __init__(
        self,
        key: str,
        incarnation: int,
        payloads: Payloads,
        patience: Patience,
        wall: Callable[[], float],
        ledger: Ledger | None = None,
        check_site: Callable[[PilotSpec], None] | None = None,
    ) -> None:
        self._check_site = check_site
        self.key = key
        self.incarnation = incarnation
        self.payloads = payloads
        self.patience = patience
        self.wall = wall
        self.ledger = ledger if ledger is not None else Ledger()
        self.queue = WaitQueue()
        self.ports: dict[int, Port] = {}
        self._grounds: dict[int, Ground] = {}
        self._after: dict[int, tuple[tuple[int, Picks], ...]] = {}  # bulk -> what must be DONE first
        self._pauses = Pauses(patience.pause_most)
        self._asks: dict[int, Callable[[Any], None]] = {}
        self._ask = 0
        self._with_files: set[int] = set()  # bulks of which tasks may wait for files
        self._turn = Turn()
        self.now = 0.0  # when the last turn ended
        self._assignable = False
        self._ended_bulks: set[int] = set()

    def collect(self) -> Turn:
        """Return what has been decided since the last call."""
        turn, self._turn = self._turn, Turn()
        return turn

    def _fact(self, fact: Fact) -> Array | None:
        self._turn.facts.append((self.key, fact))
        return self.ledger.apply(fact)

    def _do(self, effect: Effect) -> None:
        self._turn.effects.append(effect)

    def _port(self, pilot: int) -> Port:
        port = self.ports.get(pilot)
        if port is None:
            applied = self.ledger.pilots[pilot].seq
            port = self.ports[pilot] = Port(self.key, pilot, self.incarnation, self.patience, applied)
        return port

    def _end(self, bulk: int, picks: Picks, pilot: int, state: TaskState, cause: Cause, note: str = "") -> None:
        table = self.ledger.bulks[bulk]
        now = pack(self.wall(), "<f8")
        old = table.state[picks.where]
        attempts = pack(table.attempt[picks.where], "<u2")
        zero8 = bytes(8)
        running = bool((old == TaskState.RUNNING).any())
        started = pack(table.started[picks.where], "<f8") if running else zero8
        nodes = pack(table.node[picks.where], "<u4") if running else bytes(4)
        ends = Ends(
            bytes([cause]), bytes(4), nodes, started, now, bytes(4), bytes(4), bytes(4), None, {0: note} if note else {}
        )
        self._fact(TasksEnded(bulk, picks, pilot, attempts, bytes([state]), ends))
        self._ended_bulks.add(bulk)

    def _again(self, port: Port, bulk: int, index: Array, cause: Cause) -> None:
        table = self.ledger.bulks[bulk]
        picks = Picks.of(index)
        ends = Ends(
            bytes([cause]),
            bytes(4),
            pack(table.node[index], "<u4"),
            pack(table.started[index], "<f8"),
            pack(self.wall(), "<f8"),
            bytes(4),
            bytes(4),
            bytes(4),
            None,
            {},
        )
        self._fact(AttemptsEnded(bulk, picks, port.pilot, pack(table.attempt[index], "<u2"), ends))
        port.held -= len(index)
        self.queue.add(bulk, picks, table.form.template.priority, front=True)
        self._assignable = True

    def _wait_again(self, bulk: int, picks: Picks, *, front: bool = True) -> None:
        """Let tasks wait for their next attempt; those that failed by themselves pause before, if they say so."""
        table = self.ledger.bulks[bulk]
        template = table.form.template
        if template.retry_delay:
            index = picks.array()
            rest = (table.failures[index] > 0) & ~np.isin(table.cause[index], _INFRASTRUCTURE)
            if bool(rest.any()):
                self._pauses.add(bulk, index[rest], table.failures[index[rest]], template.retry_delay)
                picks = Picks.of(index[~rest])
        if len(picks):
            self.queue.add(bulk, picks, template.priority, front=front)
            self._assignable = True

    # ------------------------------------------------------------ tasks that come after others

    def _settle(self) -> None:
        """Look at the bulks that wait for those in which something ended."""
        for bulk in self._ended_bulks:
            if not self.ledger.bulks[bulk].open:
                self.payloads.drop(self.key, bulk)
        if self._after and self._ended_bulks:
            watching = [
                bulk for bulk, after in self._after.items() if any(number in self._ended_bulks for number, _ in after)
            ]
            self._ended_bulks.clear()
            self._settle_after(watching)
        self._ended_bulks.clear()

    def _settle_after(self, bulks: list[int]) -> None:
        for bulk in bulks:
            done = True
            broken = ""
            for number, picks in self._after[bulk]:
                state = self.ledger.bulks[number].state[picks.where]
                if bool((state > TaskState.DONE).any()):
                    broken = f"a task of t.{number} did not end DONE"
                done &= bool((state == TaskState.DONE).all())
            table = self.ledger.bulks[bulk]
            waiting = Picks.of(np.flatnonzero(table.state == TaskState.SUBMITTED))
            if broken:
                del self._after[bulk]
                if len(waiting):
                    self._end(bulk, waiting, NOBODY, TaskState.CANCELED, Cause.DEPENDENCY, broken)
                    self._settle()
            elif done:
                del self._after[bulk]
                if len(waiting):
                    self._fact(TasksWaiting(bulk, waiting, self.wall()))
                    self.queue.add(bulk, waiting, table.form.template.priority)
                    self._assignable = True
