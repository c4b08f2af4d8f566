"""Bugs put in on purpose, by name, to prove that the simulation finds them.

Each leaves out one rule that the protocol stands on. Some are patches of the machines, some are habits of the shells,
which look into ``World.bugs``. A mutation that no seed catches means that a promise is not watched.
Read next: :mod:`jupyter_rm.testing.oracles`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np

from ..core import hearing
from ..core.agent import AgentMachine
from ..core.bundle import Deputy
from ..core.cargo import Cargo
from ..core.port import Port
from ..core.session import SessionMachine
from ..model.bulktable import BulkTable
from ..model.columns import Array, Picks
from ..model.effects import Effect, Spool
from ..model.facts import Ends, TasksEnded
from ..model.messages import Down, Inventory, Up
from ..model.states import Cause, TaskState
from ..wire.link import Inbox

Patch = tuple[object, str, Any]


def _no_sequence_check() -> list[Patch]:
    def take(self: Inbox, seq: int) -> bool:
        self.last = seq
        return True

    return [(Inbox, "take", take)]


def _no_connection_fence() -> list[Patch]:
    def accepts(self: Port, now: float, frame: Up) -> bool:
        if not self.connected:
            return False
        self.heard_at, self.owes_ack = now, True
        self.orders.ack(frame.ack, now)
        return True

    handle = AgentMachine._frame

    def frame(self: AgentMachine, now: float, message: Any) -> None:
        if isinstance(message, Down):
            message = Down(
                message.session,
                message.pilot,
                self.epoch,
                self.hello,
                self.incarnation,
                message.seq,
                message.ack,
                message.kept,
                message.body,
            )
        handle(self, now, message)

    return [(Port, "accepts", accepts), (AgentMachine, "_frame", frame)]


def _forgotten_lease() -> list[Patch]:
    tick = SessionMachine.tick

    def forget(self: SessionMachine, now: float) -> None:
        tick(self, now)
        for port in list(self.ports.values()):
            if self.ledger.pilots[port.pilot].silent:
                for bulk in range(len(self.ledger.bulks)):
                    mine = self.ledger.held(bulk, port.pilot)
                    if len(mine):
                        self._lost(port, bulk, mine, Cause.PILOT_LOST, "its pilot was silent")

    return [(SessionMachine, "tick", forget)]


def _inventory_ignored() -> list[Patch]:
    def inventory(_self: SessionMachine, port: Port, _report: Inventory) -> None:
        port.ready = True

    return [(SessionMachine, "_inventory", inventory)]


def _attempt_ignored() -> list[Patch]:
    advance = BulkTable.advance

    def careless(self: BulkTable, picks: Picks, attempt: bytes, state: int | Array) -> tuple[Any, Array | None]:
        known = np.maximum(self.attempt[picks.where], np.frombuffer(attempt, "<u2"))
        return advance(self, picks, known.astype("<u2").tobytes(), state)

    return [(BulkTable, "advance", careless)]


def _cancel_forgotten_on_reconnect() -> list[Patch]:
    inventory = SessionMachine._inventory

    def forget(self: SessionMachine, port: Port, report: Inventory) -> None:
        with mock.patch.object(hearing, "CANCEL_ASKED", 0):
            inventory(self, port, report)

    return [(SessionMachine, "_inventory", forget)]


def _intent_not_spooled() -> list[Patch]:
    place = AgentMachine._place

    def careless(self: AgentMachine, now: float) -> None:
        with mock.patch.object(self, "_report", lambda *_, **__: None):  # what is said here is said before starts only
            place(self, now)

    return [(AgentMachine, "_place", careless)]


def _spool_after_start() -> list[Patch]:
    flush = AgentMachine.flush

    def late(self: AgentMachine, now: float) -> list[Effect]:
        effects = flush(self, now)
        return [effect for effect in effects if not isinstance(effect, Spool)] + [
            Spool(effect.seq, effect.body) for effect in effects if isinstance(effect, Spool)
        ]

    return [(AgentMachine, "flush", late)]


def _shell() -> list[Patch]:
    return []


def _nothing(*_: object) -> None:
    pass


def _files_announced_once() -> list[Patch]:
    return [(Cargo, "_bring_again", _nothing)]


def _files_fetched_once() -> list[Patch]:
    return [(Cargo, "_fetch_again", _nothing)]


def _done_before_its_files() -> list[Patch]:
    def conclude(self: Cargo, pilot: int, bulk: int, picks: Picks, attempt: bytes, state: bytes, ends: Ends) -> None:
        self._fact(TasksEnded(bulk, picks, pilot, attempt, state, ends))

    return [(Cargo, "_conclude", conclude)]


def _bundle_begins_anew() -> list[Patch]:
    return [(Deputy, "_told", lambda *_: False)]


def _bundle_retries_without_end() -> list[Patch]:
    def again(self: Deputy, bulk: int, index: Array, state: Array, cause: Array) -> Array | None:
        del index, cause
        more: Array = (state == TaskState.FAILED) & (bulk in self._standing)
        return more if bool(more.any()) else None

    return [(Deputy, "again", again)]


def _remains_unread() -> list[Patch]:
    return [(SessionMachine, "remains", _nothing)]


def _services_not_waited_for() -> list[Patch]:
    return [(SessionMachine, "_unready", lambda *_: [])]


def _users_outlive_services() -> list[Patch]:
    return [(SessionMachine, "_unserve", _nothing)]


# name -> patches of the machines; an empty list: the shells of the simulation know it by name
MUTATIONS: dict[str, Callable[[], list[Patch]]] = {
    "ack-before-commit": _shell,
    "effects-before-journal": _shell,
    "wall-clock-lease": _shell,
    "spool-ignored": _shell,
    "no-sequence-check": _no_sequence_check,
    "no-connection-fence": _no_connection_fence,
    "forgotten-lease": _forgotten_lease,
    "inventory-ignored": _inventory_ignored,
    "attempt-ignored": _attempt_ignored,
    "cancel-forgotten-on-reconnect": _cancel_forgotten_on_reconnect,
    "intent-not-spooled": _intent_not_spooled,
    "spool-after-start": _spool_after_start,
    "files-announced-once": _files_announced_once,
    "files-fetched-once": _files_fetched_once,
    "done-before-its-files": _done_before_its_files,
    "bundle-begins-anew": _bundle_begins_anew,
    "bundle-retries-without-end": _bundle_retries_without_end,
    "remains-unread": _remains_unread,
    "services-not-waited-for": _services_not_waited_for,
    "users-outlive-services": _users_outlive_services,
}


@contextmanager
def mutated(name: str | None) -> Iterator[frozenset[str]]:
    """Put a mutation in while the context lasts (None: none) and return what to pass to ``World`` as ``bugs``."""
    if name is None:
        yield frozenset()
        return
    with ExitStack() as stack:
        for target, attribute, value in MUTATIONS[name]():
            stack.enter_context(mock.patch.object(target, attribute, value))
        yield frozenset({name})
