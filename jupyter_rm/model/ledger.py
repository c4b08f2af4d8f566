"""The ledger: the one fold from facts to the current state of a session.

The same code runs in the broker, on restart, in the notebook's replica, in offline replay and in the simulator. Columns
of numbers, never an object per task: 44 bytes a task. It knows no clock and asks nobody; news that is late or repeated
changes nothing (:func:`jupyter_rm.model.states.advances`, here on whole arrays). Read next:
:mod:`jupyter_rm.core.broker`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from .columns import Array, Picks, unpack
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

STATES = len(TaskState)
NOBODY = -1
# column -> dtype; zero is the right start for all but pilot
COLUMNS: dict[str, str] = {
    "state": "u1",
    "cause": "u1",
    "flags": "u1",
    "failures": "u1",
    "attempt": "u2",
    "pilot": "i2",
    "code": "i4",
    "node": "u4",
    "started": "f8",
    "ended": "f8",
    "user": "f4",
    "sys": "f4",
    "rss": "u4",
}
CANCEL_ASKED = 1
LEFT = 2  # no agent holds it any more: what is left to do in STAGING_OUT is done without the pilot
UNSERVED = 4  # this attempt is to end because a service it uses has
MOST_MOVING = 200
# Plain numbers: compared for every single task.
_BOUND, _DONE = int(TaskState.STAGING_IN), int(TaskState.DONE)
_NOT = np.zeros(1, np.bool_), np.zeros(0, np.int64)
_STARTED = tuple((name, np.dtype("<" + COLUMNS[name])) for name in ("node", "started"))
_ENDED = tuple(
    (name, np.dtype("<" + COLUMNS[name]))
    for name in ("cause", "code", "node", "started", "ended", "user", "sys", "rss")
)
_INFRASTRUCTURE = np.array(sorted(INFRASTRUCTURE), np.uint8)


class BulkTable:
    """The tasks of one bulk, a numpy column per attribute, shape (count,).

    Attributes: those of :data:`COLUMNS`; ``form`` is the submission; ``counts`` the number of tasks per state;
    ``notes`` short texts by index; ``since`` the wall time of the last change; ``endpoint`` where the service of this
    bulk can be reached, '' while it cannot.
    """

    __slots__ = (*COLUMNS, "counts", "endpoint", "form", "moving", "notes", "since", "stale")
    state: npt.NDArray[np.uint8]
    cause: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]
    failures: npt.NDArray[np.uint8]
    attempt: npt.NDArray[np.uint16]
    pilot: npt.NDArray[np.int16]
    code: npt.NDArray[np.int32]
    node: npt.NDArray[np.uint32]
    started: npt.NDArray[np.float64]
    ended: npt.NDArray[np.float64]
    user: npt.NDArray[np.float32]
    sys: npt.NDArray[np.float32]
    rss: npt.NDArray[np.uint32]

    def __init__(self, form: BulkSubmitted) -> None:
        self.form = form
        for name, dtype in COLUMNS.items():
            setattr(self, name, np.zeros(form.count, dtype))
        first = TaskState.SUBMITTED if form.after else TaskState.WAITING
        self.state[:] = first
        self.pilot[:] = NOBODY
        self.attempt[:] = 1
        self.counts = np.zeros(STATES, np.int64)
        self.counts[first] = form.count
        self.notes: dict[int, str] = {}
        self.moving: dict[tuple[int, int], StagingSeen] = {}  # (pilot, index or -1): for people, in no snapshot
        self.since = form.at
        self.stale = 0
        self.endpoint = ""

    def __len__(self) -> int:
        return self.form.count

    @property
    def open(self) -> int:
        """Return how many tasks have no final state yet."""
        return sum(self.counts.tolist()[:_DONE])

    def advance(self, picks: Picks, attempt: bytes, state: int | Array) -> tuple[Any, Array | None]:
        """Move the picked tasks on where this is news.

        Returns (where, mask): the index expression of the accepted ones, and the mask over ``picks`` (None: all).
        """
        if picks.hi - picks.lo == 1:
            return self._advance_one(picks.lo, attempt, state)
        where = picks.where
        count = len(picks)
        old = self.state[where]
        new_attempt = unpack(attempt, "<u2", count)
        known = self.attempt[where]
        ok = (old < TaskState.DONE) & ((new_attempt > known) | ((new_attempt == known) & (old < state)))
        accepted: Any = where
        mask: Array | None = None
        if not bool(ok.all()):
            mask = ok
            self.stale += count - int(ok.sum())
            accepted = picks.array()[ok]
            old, new_attempt = old[ok], new_attempt[ok]
            if isinstance(state, np.ndarray):
                state = state[ok]
        self.counts -= np.bincount(old, minlength=STATES)
        self.state[accepted] = state
        self.attempt[accepted] = new_attempt
        if isinstance(state, np.ndarray):
            self.counts += np.bincount(state, minlength=STATES)
        else:
            self.counts[state] += len(old)
        return accepted, mask

    def _advance_one(self, index: int, attempt: bytes, state: int | Array) -> tuple[Any, Array | None]:
        """Do the same for one task, which is most of what happens when somebody waits for each."""
        news = int.from_bytes(attempt, "little")
        after = int(state[0]) if isinstance(state, np.ndarray) else int(state)
        old, known = self.state.item(index), self.attempt.item(index)
        if old >= _DONE or news < known or (news == known and old >= after):
            self.stale += 1
            return _NOT[1], _NOT[0]
        self.counts[old] -= 1
        self.counts[after] += 1
        self.state[index] = after
        self.attempt[index] = news
        return slice(index, index + 1), None

    def set(
        self,
        accepted: Any,
        mask: Array | None,
        count: int,
        columns: tuple[tuple[str, np.dtype[Any]], ...],
        source: object,
    ) -> None:
        """Store packed columns, attributes of ``source``, at the accepted places."""
        for name, dtype in columns:
            values = np.frombuffer(getattr(source, name), dtype)
            if mask is not None:
                values = values[mask] if len(values) == count else values
            getattr(self, name)[accepted] = values

    def open_held(self, pilot: int, where: Any) -> int:
        """Return how many of the tasks at ``where`` this pilot holds without a final state."""
        if type(where) is slice and where.stop - where.start == 1:
            one = where.start
            held = _BOUND <= self.state.item(one) < _DONE and self.pilot.item(one) == pilot
            return int(held and not self.flags.item(one) & LEFT)
        state = self.state[where]
        mine = (state >= TaskState.STAGING_IN) & (state < TaskState.DONE) & (self.pilot[where] == pilot)
        return int((mine & ((self.flags[where] & LEFT) == 0)).sum())

    def moving_of(self, index: int) -> str:
        """Return what is known of files on their way for a task, '' when nothing is."""
        told = self.moving.get((int(self.pilot[index]), index)) or self.moving.get((int(self.pilot[index]), -1))
        if told is None:
            return ""
        percent = f", {100 * told.done / told.size:.0f} % of {told.size / 1e6:.1f} MB" if told.size else ""
        return told.text + percent

    def nbytes(self) -> int:
        """Return the memory of the columns, bytes."""
        return sum(int(getattr(self, name).nbytes) for name in COLUMNS)


class Ledger:
    """The state of one session, folded from its facts in order.

    Attributes:
        bulks: table per bulk number. pilots: row per pilot number. keys: submission key -> number.
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
        self.pilots: list[PilotRow] = []
        self.bulk_keys: dict[bytes, int] = {}
        self.pilot_keys: dict[bytes, int] = {}
        self.services: dict[str, int] = {}
        self.given: dict[str, str] = {}
        self.folded = 0

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Return the number of tasks per state."""
        total = np.zeros(STATES, np.int64)
        for table in self.bulks:
            total += table.counts
        return total

    @property
    def stale(self) -> int:
        """Return how many late or repeated pieces of news were dropped."""
        return sum(table.stale for table in self.bulks)

    def apply(self, fact: Fact) -> Array | None:
        """Fold one fact in. For facts about tasks: the mask of accepted picks (None: all, or not about tasks)."""
        self.folded += 1
        return _FOLD[type(fact)](self, fact)

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

    def _tasks_waiting(self, fact: TasksWaiting) -> Array | None:
        table = self.bulks[fact.bulk]
        attempts = table.attempt[fact.picks.where].astype("<u2").tobytes()
        table.since = fact.at
        return table.advance(fact.picks, attempts, TaskState.WAITING)[1]

    def _tasks_assigned(self, fact: TasksAssigned) -> Array | None:
        table = self.bulks[fact.bulk]
        first = TaskState.STAGING_IN if table.form.template.input_staging else TaskState.SCHEDULED
        accepted, mask = table.advance(fact.picks, fact.attempt, first)
        table.pilot[accepted] = fact.pilot
        table.since = fact.at
        return mask

    def _tasks_staged(self, fact: TasksStaged) -> Array | None:
        table = self.bulks[fact.bulk]
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

    def _service_ready(self, fact: ServiceReady) -> None:
        table = self.bulks[fact.bulk]
        if fact.attempt == table.attempt[fact.index] and table.state[fact.index] < TaskState.STAGING_OUT:
            table.endpoint = fact.endpoint

    def _service_given(self, fact: ServiceGiven) -> None:
        self.given[fact.name] = fact.endpoint
        self.services.pop(fact.name, None)

    def endpoint(self, name: str) -> str | None:
        """Return where a service can be reached now, '' while it cannot; None when there is none of that name."""
        bulk = self.services.get(name)
        return self.given.get(name) if bulk is None else self.bulks[bulk].endpoint

    def _staging_seen(self, fact: StagingSeen) -> None:
        moving = self.bulks[fact.bulk].moving
        if len(moving) > MOST_MOVING:
            moving.clear()
        moving[fact.pilot, fact.index] = fact

    def _tasks_started(self, fact: TasksStarted) -> Array | None:
        table = self.bulks[fact.bulk]
        accepted, mask = table.advance(fact.picks, fact.attempt, TaskState.RUNNING)
        table.set(accepted, mask, len(fact.picks), _STARTED, fact)
        return mask

    def _tasks_ended(self, fact: TasksEnded) -> Array | None:
        table = self.bulks[fact.bulk]
        states = fact.state[0] if len(fact.state) == 1 else unpack(fact.state, "<u1", len(fact.picks))
        accepted, mask = table.advance(fact.picks, fact.attempt, states)
        self._ends(table, fact, accepted, mask)
        if fact.pilot != NOBODY:
            table.pilot[accepted] = fact.pilot
        return mask

    def _attempts_ended(self, fact: AttemptsEnded) -> Array | None:
        table = self.bulks[fact.bulk]
        following = (unpack(fact.attempt, "<u2", len(fact.picks)) + np.uint16(1)).astype("<u2")
        accepted, mask = table.advance(fact.picks, following.tobytes(), TaskState.WAITING)
        self._ends(table, fact, accepted, mask)
        table.pilot[accepted] = NOBODY
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

    def _cancel_requested(self, fact: CancelRequested) -> None:
        flag = UNSERVED if fact.cause == Cause.SERVICE_LOST else CANCEL_ASKED
        self.bulks[fact.bulk].flags[fact.picks.where] |= np.uint8(flag)

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
            table.form = form
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
    TasksWaiting: Ledger._tasks_waiting,
    TasksAssigned: Ledger._tasks_assigned,
    TasksStaged: Ledger._tasks_staged,
    StagingSeen: Ledger._staging_seen,
    ServiceReady: Ledger._service_ready,
    ServiceGiven: Ledger._service_given,
    TasksStarted: Ledger._tasks_started,
    TasksEnded: Ledger._tasks_ended,
    AttemptsEnded: Ledger._attempts_ended,
    CancelRequested: Ledger._cancel_requested,
    PilotRequested: Ledger._pilot_requested,
    PilotChanged: Ledger._pilot_changed,
    PilotSilent: Ledger._pilot_silent,
    ReportApplied: Ledger._report_applied,
    PilotStep: Ledger._pilot_step,
    PilotQueued: Ledger._pilot_queued,
}
