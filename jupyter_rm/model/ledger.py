"""The ledger: the one fold from facts to the current state of a session.

The same code runs in the broker, on restart, in the notebook's replica, in offline replay and in the simulator. Columns
of numbers, never an object per task: 44 bytes a task. It knows no clock and asks nobody; news that is late or repeated
changes nothing. Read next: :mod:`jupyter_rm.model.bulktable`, the columns, and :mod:`jupyter_rm.core.broker`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from .bulktable import CANCEL_ASKED, COLUMNS, LEFT, NOBODY, STATES, UNSERVED, BulkTable
from .columns import Array, unpack
from .facts import (
    AttemptsEnded,
    BulkSubmitted,
    CancelRequested,
    Ends,
    Fact,
    PilotChanged,
    PilotQueued,
    PilotRequested,
    PilotSilent,
    PilotStep,
    ReportApplied,
    ServiceGiven,
    ServiceReady,
    SessionClosed,
    SessionOpened,
    StagingSeen,
    TasksAssigned,
    TasksEnded,
    TasksStaged,
    TasksStarted,
    TasksWaiting,
)
from .pilotrow import MOST_PLACES, PilotRow, PilotSaved
from .states import INFRASTRUCTURE, Cause, PilotState, TaskState

MOST_MOVING = 200
_STARTED = tuple((name, np.dtype("<" + COLUMNS[name])) for name in ("node", "started"))
_ENDED = tuple(
    (name, np.dtype("<" + COLUMNS[name]))
    for name in ("cause", "code", "node", "started", "ended", "user", "sys", "rss")
)
_INFRASTRUCTURE = np.array(sorted(INFRASTRUCTURE), np.uint8)


class Ledger:
    """The state of one session, folded from its facts in order.

    Attributes:
        bulks: table per bulk number. pilots: row per pilot number. keys: submission key -> number.
        unfinished: those of the bulks that have open tasks; other threads take :meth:`open_bulks`.
        counts: tasks per state over all bulks, shape (10,), int64.
        services: bulk of each service by name, the latest; given: endpoints of services that are no tasks.
    """

    def __init__(self) -> None:
        self.name = ""
        self.opened_at = 0.0
        self.owner = ""
        self.host = ""
        self.closed = False
        self.close_reason = ""
        self.bulks: list[BulkTable] = []
        self.unfinished: dict[int, BulkTable] = {}
        self._over = np.zeros(STATES, np.int64)  # tasks per state of all other bulks
        self.pilots: list[PilotRow] = []
        self.bulk_keys: dict[bytes, int] = {}
        self.pilot_keys: dict[bytes, int] = {}
        self.services: dict[str, int] = {}
        self.given: dict[str, str] = {}
        self.folded = 0

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Return the number of tasks per state."""
        total: npt.NDArray[np.int64] = self._over.copy()
        for _, table in self.open_bulks():
            total += table.counts
        return total

    def open_bulks(self) -> list[tuple[int, BulkTable]]:
        """Return (number, table) of the bulks with open tasks, in the order of their numbers."""
        return list(self.unfinished.items())

    @property
    def stale(self) -> int:
        """Return how many late or repeated pieces of news were dropped."""
        return sum(table.stale for table in self.bulks)

    def apply(self, fact: Fact) -> Array | None:
        """Fold one fact in. For facts about tasks: the mask of accepted picks (None: all, or not about tasks)."""
        self.folded += 1
        fold = _FOLD_TASKS.get(type(fact))
        if fold is None:
            return _FOLD[type(fact)](self, fact)
        number: int = fact.bulk  # type: ignore[attr-defined]
        table = self.bulks[number]
        if number not in self.unfinished:  # late, all of it: what is over stays as it is
            picks = getattr(fact, "picks", None)
            late = 0 if picks is None else len(picks)
            table.stale += late if type(fact) is not CancelRequested else 0
            return np.zeros(late, np.bool_)
        mask = fold(self, table, fact)
        if type(fact) is TasksEnded and not table.open:
            self._end(number, table)
        return mask

    def _session_opened(self, fact: SessionOpened) -> None:
        self.name, self.opened_at, self.owner, self.host = fact.name, fact.at, fact.owner, fact.host

    def _session_closed(self, fact: SessionClosed) -> None:
        self.closed, self.close_reason = True, fact.reason

    def _bulk_submitted(self, fact: BulkSubmitted) -> None:
        if fact.bulk != len(self.bulks):
            raise ValueError(f"bulk {fact.bulk} follows {len(self.bulks)}")
        self._keep(BulkTable(fact))

    def _keep(self, table: BulkTable) -> None:
        number, template = len(self.bulks), table.form.template
        self.bulk_keys[table.form.key] = number
        if template.service:
            self.services[template.name] = number
            self.given.pop(template.name, None)
        self.bulks.append(table)
        self.unfinished[number] = table
        if not table.open:
            self._end(number, table)

    def _end(self, number: int, table: BulkTable) -> None:
        """A bulk is over: no task of it changes any more."""
        if self.unfinished.pop(number, None) is not None:
            self._over += table.counts
            table.seal()

    def _tasks_waiting(self, table: BulkTable, fact: TasksWaiting) -> Array | None:
        attempts = table.attempt[fact.picks.where].astype("<u2").tobytes()
        table.since = fact.at
        return table.advance(fact.picks, attempts, TaskState.WAITING)[1]

    def _tasks_assigned(self, table: BulkTable, fact: TasksAssigned) -> Array | None:
        first = TaskState.STAGING_IN if table.form.template.input_staging else TaskState.SCHEDULED
        accepted, mask = table.advance(fact.picks, fact.attempt, first)
        table.pilot[accepted] = fact.pilot
        table.since = fact.at
        return mask

    def _tasks_staged(self, table: BulkTable, fact: TasksStaged) -> Array | None:
        accepted, mask = table.advance(fact.picks, fact.attempt, fact.state)
        if fact.ends is not None:
            # It may be known as STAGING_OUT already, by its agent's word: then this word says that the agent is done.
            where, attempts = fact.picks.where, unpack(fact.attempt, "<u2", len(fact.picks))
            here = (table.state[where] == fact.state) & (table.attempt[where] == attempts)
            here &= (table.flags[where] & LEFT) == 0
            accepted, mask = (fact.picks.where, None) if bool(here.all()) else (fact.picks.array()[here], here)
            self._ends(table, fact, accepted, mask)
            table.flags[accepted] |= np.uint8(LEFT)
        if table.endpoint and table.state[0] >= TaskState.STAGING_OUT:
            table.endpoint = ""  # its program has ended, though its files are still under way
        table.since = fact.at
        return mask

    def _service_ready(self, table: BulkTable, fact: ServiceReady) -> None:
        if fact.attempt == table.attempt[fact.index] and table.state[fact.index] < TaskState.STAGING_OUT:
            table.endpoint = fact.endpoint

    def _service_given(self, fact: ServiceGiven) -> None:
        self.given[fact.name] = fact.endpoint
        self.services.pop(fact.name, None)

    def endpoint(self, name: str) -> str | None:
        """Return where a service can be reached now, '' while it cannot; None when there is none of that name."""
        bulk = self.services.get(name)
        return self.given.get(name) if bulk is None else self.bulks[bulk].endpoint

    def _staging_seen(self, table: BulkTable, fact: StagingSeen) -> None:
        if len(table.moving) > MOST_MOVING:
            table.moving.clear()
        table.moving[fact.pilot, fact.index] = fact

    def _tasks_started(self, table: BulkTable, fact: TasksStarted) -> Array | None:
        accepted, mask = table.advance(fact.picks, fact.attempt, TaskState.RUNNING)
        table.set(accepted, mask, len(fact.picks), _STARTED, fact)
        return mask

    def _tasks_ended(self, table: BulkTable, fact: TasksEnded) -> Array | None:
        states = fact.state[0] if len(fact.state) == 1 else unpack(fact.state, "<u1", len(fact.picks))
        accepted, mask = table.advance(fact.picks, fact.attempt, states)
        self._ends(table, fact, accepted, mask)
        if fact.pilot != NOBODY:
            table.pilot[accepted] = fact.pilot
        return mask

    def _attempts_ended(self, table: BulkTable, fact: AttemptsEnded) -> Array | None:
        following = (unpack(fact.attempt, "<u2", len(fact.picks)) + np.uint16(1)).astype("<u2")
        accepted, mask = table.advance(fact.picks, following.tobytes(), TaskState.WAITING)
        self._ends(table, fact, accepted, mask)
        table.pilot[accepted] = NOBODY
        if 0 <= fact.pilot < len(self.pilots):
            began, ended = table.started[accepted], table.ended[accepted]
            cores = table.form.template.request.ranks * table.form.template.request.cores
            self.pilots[fact.pilot].spent += float(np.maximum(0.0, ended - began)[began > 0].sum()) * cores
        own = ~np.isin(table.cause[accepted], _INFRASTRUCTURE)
        table.failures[accepted] += own.astype(np.uint8)
        if table.form.template.output_staging:
            table.flags[accepted] &= np.uint8(0xFF ^ LEFT)
        if table.form.template.services:
            table.flags[accepted] &= np.uint8(0xFF ^ UNSERVED)
        return mask

    @staticmethod
    def _ends(
        table: BulkTable, fact: TasksEnded | AttemptsEnded | TasksStaged, accepted: Any, mask: Array | None
    ) -> None:
        ends: Ends | None = fact.ends
        assert ends is not None
        table.set(accepted, mask, len(fact.picks), _ENDED, ends)
        if table.endpoint and (mask is None or bool(mask.any())):
            table.endpoint = ""
        if ends.notes:
            index = fact.picks.array()
            for position, text in ends.notes.items():
                if mask is None or mask[position]:
                    table.notes[int(index[position])] = text

    def _cancel_requested(self, table: BulkTable, fact: CancelRequested) -> None:
        flag = UNSERVED if fact.cause == Cause.SERVICE_LOST else CANCEL_ASKED
        table.flags[fact.picks.where] |= np.uint8(flag)

    def _pilot_requested(self, fact: PilotRequested) -> None:
        if fact.pilot != len(self.pilots):
            raise ValueError(f"pilot {fact.pilot} follows {len(self.pilots)}")
        self.pilot_keys[fact.key] = fact.pilot
        self.pilots.append(PilotRow(fact.pilot, fact.key, fact.spec, fact.at))

    def _pilot_changed(self, fact: PilotChanged) -> None:
        row = self.pilots[fact.pilot]
        if row.state.final and fact.state == row.state:
            # Why it ended may be learned later; that it did, and how, stands.
            row.cause, row.reason = Cause(fact.cause), fact.reason or row.reason
        if row.state.final or fact.state < row.state:
            return
        if fact.state != row.state:
            row.since = fact.at
            row.times[fact.state] = fact.at
        if fact.state >= PilotState.STARTING and (fact.state != row.state or fact.epoch > row.epoch):
            row.queued = None
        if fact.state == PilotState.ACTIVE and (fact.state != row.state or fact.epoch > row.epoch):
            row.step = None
        # A reason is one of its state: a new state without one has none.
        row.reason = fact.reason or (row.reason if fact.state == row.state else "")
        row.state = PilotState(fact.state)
        row.cause = Cause(fact.cause)
        row.job_id = fact.job_id or row.job_id
        row.epoch = max(row.epoch, fact.epoch)
        row.nodes = fact.nodes or row.nodes
        row.sandbox = fact.sandbox or row.sandbox
        row.code = fact.code if fact.code is not None else row.code
        row.files = fact.files or row.files
        row.facts = fact.facts or row.facts
        if row.state.final:
            row.silent = False

    def _pilot_silent(self, fact: PilotSilent) -> None:
        self.pilots[fact.pilot].silent = fact.silent

    def _pilot_step(self, fact: PilotStep) -> None:
        row = self.pilots[fact.pilot]
        if not row.state.final:
            row.step = fact

    def _pilot_queued(self, fact: PilotQueued) -> None:
        row = self.pilots[fact.pilot]
        if not row.state.final:
            row.queued = fact
            if fact.position and (not row.places or row.places[-1][1] != fact.position):
                row.places = (*row.places[-MOST_PLACES:], (fact.at, fact.position))
            if fact.estimate and (not row.estimates or row.estimates[-1][1] != fact.estimate):
                row.estimates = (*row.estimates[-MOST_PLACES:], (fact.at, fact.estimate))

    def _report_applied(self, fact: ReportApplied) -> None:
        row = self.pilots[fact.pilot]
        row.seq = max(row.seq, fact.seq)

    def held(self, bulk: int, pilot: int) -> npt.NDArray[np.int64]:
        """Return the indices of tasks of ``bulk`` that ``pilot`` holds now."""
        table = self.bulks[bulk]
        if not table.counts[TaskState.STAGING_IN : TaskState.DONE].any():
            return np.zeros(0, np.int64)  # most bulks of a long session are over
        held = (table.pilot == pilot) & (table.state >= TaskState.STAGING_IN) & (table.state < TaskState.DONE)
        if table.form.template.output_staging:
            held &= (table.flags & LEFT) == 0
        return np.flatnonzero(held)

    def digest(self) -> dict[str, Any]:
        """Return everything that must be equal after replay, in plain values (for tests and damage reports)."""
        return {
            "name": self.name,
            "closed": self.closed,
            "bulks": [
                {name: getattr(table, name).tobytes() for name in COLUMNS}
                | {"notes": dict(table.notes), "endpoint": table.endpoint}
                for table in self.bulks
            ],
            "services": (dict(self.services), dict(self.given)),
            "pilots": [(row.number, int(row.state), row.epoch, row.seq, row.silent) for row in self.pilots],
        }

    def dump(self) -> bytes:
        """Return a snapshot from which :meth:`load` continues as if all facts had been folded."""
        return msgspec.msgpack.encode(
            [
                [self.name, self.opened_at, self.owner, self.host, self.closed, self.close_reason, self.folded],
                [
                    [
                        table.form,
                        {name: getattr(table, name).tobytes() for name in COLUMNS},
                        table.counts.tolist(),
                        table.notes,
                        table.since,
                        table.stale,
                        table.endpoint,
                    ]
                    for table in self.bulks
                ],
                [{name: getattr(row, name) for name in PilotRow.__slots__} for row in self.pilots],
                self.given,
            ]
        )

    @classmethod
    def load(cls, body: bytes) -> Ledger:
        """Return the ledger that :meth:`dump` described."""
        snapshot = _snapshot.decode(body)
        self = cls()
        (self.name, self.opened_at, self.owner, self.host, self.closed, self.close_reason, self.folded) = snapshot[0]
        for form, columns, counts, notes, since, stale, endpoint in snapshot[1]:
            table = BulkTable.__new__(BulkTable)
            table.form, table._sealed = form, b""
            for name, dtype in COLUMNS.items():
                setattr(table, name, np.frombuffer(columns[name], dtype).copy())
            table.counts = np.array(counts, np.int64)
            table.notes, table.since, table.stale, table.moving = notes, since, stale, {}
            table.endpoint = endpoint
            self._keep(table)
        for saved in snapshot[2]:
            row = PilotRow(saved.number, saved.key, saved.spec, saved.at)
            for name in PilotRow.__slots__:
                setattr(row, name, getattr(saved, name))
            row.state, row.cause = PilotState(saved.state), Cause(saved.cause)
            self.pilot_keys[row.key] = row.number
            self.pilots.append(row)
        for name, endpoint in snapshot[3].items():
            self.given[name] = endpoint
            self.services.pop(name, None)
        return self


_snapshot = msgspec.msgpack.Decoder(
    tuple[
        tuple[str, float, str, str, bool, str, int],
        list[tuple[BulkSubmitted, dict[str, bytes], list[int], dict[int, str], float, int, str]],
        list[PilotSaved],
        dict[str, str],
    ]
)

_FOLD: dict[type[Fact], Callable[[Ledger, Any], Array | None]] = {
    SessionOpened: Ledger._session_opened,
    SessionClosed: Ledger._session_closed,
    BulkSubmitted: Ledger._bulk_submitted,
    ServiceGiven: Ledger._service_given,
    PilotRequested: Ledger._pilot_requested,
    PilotChanged: Ledger._pilot_changed,
    PilotSilent: Ledger._pilot_silent,
    ReportApplied: Ledger._report_applied,
    PilotStep: Ledger._pilot_step,
    PilotQueued: Ledger._pilot_queued,
}
# About tasks of one bulk.
_FOLD_TASKS: dict[type[Fact], Callable[[Ledger, BulkTable, Any], Array | None]] = {
    TasksWaiting: Ledger._tasks_waiting,
    TasksAssigned: Ledger._tasks_assigned,
    TasksStaged: Ledger._tasks_staged,
    StagingSeen: Ledger._staging_seen,
    ServiceReady: Ledger._service_ready,
    TasksStarted: Ledger._tasks_started,
    TasksEnded: Ledger._tasks_ended,
    AttemptsEnded: Ledger._attempts_ended,
    CancelRequested: Ledger._cancel_requested,
}
