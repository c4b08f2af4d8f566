"""What must always be true, checked by a second, slower and simpler reading of the same events.

A :class:`Watch` sees of one session what no machine sees at once: every committed fact, every start and end of an
execution, every answer a client got. It folds facts one task at a time with :func:`jupyter_rm.model.states.advances`,
independently of the ledger's arrays. A broken promise raises :class:`Broken`, which names it:

    I1  what was acknowledged to a client is in the ledger
    I2  every task takes exactly one final state
    I3  a task starts no more often than its policy allows, and never twice at once
    I4  nothing of a stale connection has any effect
    I5  in the end everything is final and nobody holds anything
    I6  replayed facts, snapshots and followers agree with the live ledger
    I7  the value of a call is what the execution returned
    I8  what was canceled starts no more, and ends soon
    I9  no attempt starts before its inputs are in place, and none is DONE before its outputs are
    I10 no task is bound before the services it uses are ready, and none outlives them

Read next: :mod:`jupyter_rm.sim.world`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..model.columns import Picks, Scalar, unpack
from ..model.facts import (
    AttemptsEnded,
    BulkSubmitted,
    CancelRequested,
    Fact,
    PilotRequested,
    ServiceReady,
    SessionClosed,
    TasksAssigned,
    TasksEnded,
    TasksStaged,
    TasksStarted,
    TasksWaiting,
)
from ..model.ledger import Ledger
from ..model.staging import to_client
from ..model.states import INFRASTRUCTURE, TaskState, advances


class Broken(AssertionError):
    """A promise was broken; the text begins with its name (I1 .. I10)."""


class Execution:
    """One start of one task."""

    __slots__ = ("at", "attempt", "bulk", "index", "number", "payload", "pilot")

    def __init__(self, number: int, at: float, bulk: int, index: int, attempt: int, pilot: int, payload: bytes) -> None:
        self.number, self.at, self.bulk, self.index = number, at, bulk, index
        self.attempt, self.pilot, self.payload = attempt, pilot, payload

    def __str__(self) -> str:
        return f"t.{self.bulk}.{self.index} attempt {self.attempt} on p.{self.pilot} (start {self.number})"


class _Tasks:
    """The reference fold of one bulk, one Python number per task."""

    def __init__(self, form: BulkSubmitted) -> None:
        count = form.count
        first = TaskState.SUBMITTED if form.after else TaskState.WAITING
        self.form = form
        self.state = [int(first)] * count
        self.attempt = [1] * count
        self.own = [0] * count  # failures of the task's own
        self.lost = [0] * count  # attempts that infrastructure ended
        self.starts = [0] * count
        self.asked = [False] * count  # somebody asked to cancel it
        self.left = [False] * count  # its agent is done with it, its files are not here yet


class Watch:
    """The watch over one session; ``now`` returns the true time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.bulks: list[_Tasks] = []
        self.pilots = 0
        self.closed = False
        self.keys: dict[bytes, int] = {}  # committed submissions and pilots
        self.acked: dict[bytes, int] = {}  # what clients were told
        self.executions = 0
        self._live: dict[tuple[int, int], list[Execution]] = {}
        self._begun: set[tuple[int, int, int]] = set()
        self._excused: set[tuple[int, int, int]] = set()
        self._forgotten: set[tuple[int, int]] = set()
        self._returned: dict[tuple[int, int, int], list[bytes]] = {}
        self._inputs: set[tuple[int, int, int]] = set()
        self._outputs: set[tuple[int, int, int]] = set()
        self._home: set[tuple[int, int, int]] = set()
        self._services: dict[str, tuple[int, bool]] = {}  # name -> (bulk, can it be reached)
        self._unserved: set[tuple[int, int, int]] = set()  # attempts whose service has ended

    # ------------------------------------------------------------ executions

    def started(
        self, bulk: int, index: int, attempt: int, pilot: int, payload: bytes, params: Mapping[str, Scalar]
    ) -> Execution:
        """An execution starts now; Broken if it must not."""
        self.executions += 1
        new = Execution(self.executions, self._now(), bulk, index, attempt, pilot, payload)
        if bulk >= len(self.bulks):
            raise Broken(f"I3 {new} starts, but the journal knows no such bulk")
        tasks, key = self.bulks[bulk], (bulk, index, attempt)
        template = tasks.form.template
        tasks.starts[index] += 1
        forgotten = (bulk, index) in self._forgotten
        excused = key in self._excused or forgotten
        if key in self._begun and not forgotten:
            raise Broken(f"I3 {new} starts although this attempt started before")
        self._begun.add(key)
        if template.restart == "never" and not forgotten and tasks.starts[index] > 1 + tasks.own[index]:
            raise Broken(f"I3 {new} starts again although restart is never")
        for other in self._live.get((bulk, index), ()):
            if not excused and (bulk, index, other.attempt) not in self._excused:
                raise Broken(f"I3 {new} starts while {other} runs")
        if tasks.state[index] >= TaskState.DONE and not excused:
            raise Broken(f"I8 {new} starts although it ended {TaskState(tasks.state[index]).name}")
        if template.mode == "call" and payload != payload_of(tasks.form.key, index):
            raise Broken(f"I7 {new} has the arguments of another task")
        if params and params["x"] != tasks.form.columns["x"].get(index):
            raise Broken(f"I7 {new} has the parameters of another task")
        if template.input_staging and key not in self._inputs:
            raise Broken(f"I9 {new} starts, and its inputs are not in place")
        self._live.setdefault((bulk, index), []).append(new)
        return new

    def staged(self, bulk: int, index: int, attempt: int, *, out: bool = False, home: bool = False) -> None:
        """Inputs of an attempt are in place; or (``out``) outputs where they were made, or (``home``) here."""
        key = (bulk, index, attempt)
        (self._home if home else self._outputs if out else self._inputs).add(key)

    def gone(self, execution: Execution) -> None:
        """An execution is over."""
        live = self._live[execution.bulk, execution.index]
        live.remove(execution)
        if not live:
            del self._live[execution.bulk, execution.index]

    def returned(self, execution: Execution, value: bytes) -> None:
        """A call returned."""
        key = (execution.bulk, execution.index, execution.attempt)
        self._returned.setdefault(key, []).append(value)

    @property
    def live(self) -> int:
        """Return how many tasks run now."""
        return len(self._live)

    def excuse(self, bulk: int, index: int, attempt: int) -> None:
        """This attempt may run beside a later one: its pilot was truly silent for so long that it may be run again."""
        self._excused.add((bulk, index, attempt))

    # ------------------------------------------------------------ facts

    def refold(self, facts: Iterable[Fact], lost: Iterable[Fact]) -> None:
        """The journal lost its tail to damage: begin again from what is left of it.

        Agents heal what they reported. What only the broker knew is gone: which attempts it had given to whom. Tasks
        in lost facts may therefore start once more; nothing else is forgiven.
        """
        for fact in lost:
            self.forgive(fact)
        starts = [tasks.starts for tasks in self.bulks]
        self.bulks, self.pilots = [], 0
        self.keys.clear()
        self._services.clear()
        for fact in facts:
            self.committed(fact)
        for tasks, known in zip(self.bulks, starts, strict=True):
            tasks.starts = known

    def forgive(self, lost: Any) -> None:
        """A fact or a report is lost to damage: the tasks it names may start once more."""
        picks = getattr(lost, "picks", None)
        if picks is not None:
            self._forgotten.update((lost.bulk, index) for index in picks.array().tolist())

    def committed(self, fact: Fact) -> None:
        """A fact was committed; Broken if it must not be."""
        fold = _FOLD.get(type(fact))
        if fold is not None:
            fold(self, fact)

    def _bulk(self, fact: BulkSubmitted) -> None:
        if fact.key in self.keys:
            raise Broken(f"I1 bulk {fact.bulk} is a second record of the same submission")
        self.keys[fact.key] = fact.bulk
        self.bulks.append(_Tasks(fact))
        if fact.template.service:
            self._services[fact.template.name] = (fact.bulk, False)

    def _pilot(self, fact: PilotRequested) -> None:
        if fact.key in self.keys:
            raise Broken(f"I1 pilot {fact.pilot} is a second record of the same request")
        self.keys[fact.key] = fact.pilot
        self.pilots += 1

    def _move(self, fact: Any, state: Any, more: int = 0, attempts: bytes | None = None) -> list[tuple[int, int]]:
        """Return (position, index) of the accepted ones."""
        tasks = self.bulks[fact.bulk]
        index = fact.picks.array().tolist()
        count = len(index)
        attempt = [tasks.attempt[i] for i in index] if attempts is None else unpack(attempts, "<u2", count).tolist()
        states = unpack(state, "<u1", count).tolist() if isinstance(state, bytes) else [int(state)] * count
        out = []
        for at, (i, number, new) in enumerate(zip(index, attempt, states, strict=True)):
            if advances(tasks.attempt[i], tasks.state[i], number + more, new):
                tasks.attempt[i], tasks.state[i] = number + more, new
                out.append((at, i))
        return out

    def _waiting(self, fact: TasksWaiting) -> None:
        self._move(fact, TaskState.WAITING)

    def _assigned(self, fact: TasksAssigned) -> None:
        tasks = self.bulks[fact.bulk]
        first = TaskState.STAGING_IN if tasks.form.template.input_staging else TaskState.SCHEDULED
        for _, index in self._move(fact, first, 0, fact.attempt):
            if tasks.asked[index]:
                raise Broken(f"I8 t.{fact.bulk}.{index} is given to p.{fact.pilot} after it was to be canceled")
            for name in tasks.form.template.services:
                if not self._services[name][1] and (fact.bulk, index) not in self._forgotten:
                    raise Broken(f"I10 t.{fact.bulk}.{index} is given to p.{fact.pilot}, and {name} is not ready")

    def _staged(self, fact: TasksStaged) -> None:
        tasks = self.bulks[fact.bulk]
        self._move(fact, fact.state, 0, fact.attempt)
        if fact.ends is not None:
            attempts = unpack(fact.attempt, "<u2", len(fact.picks)).tolist()
            for index, attempt in zip(fact.picks.array().tolist(), attempts, strict=True):
                if (tasks.attempt[index], tasks.state[index]) == (attempt, fact.state):
                    tasks.left[index] = True

    def _started(self, fact: TasksStarted) -> None:
        self._move(fact, TaskState.RUNNING, 0, fact.attempt)

    def _ended(self, fact: TasksEnded) -> None:
        self._unready(fact.bulk)
        tasks = self.bulks[fact.bulk]
        values = fact.ends.values.values() if fact.ends.values is not None else None
        for at, index in self._move(fact, fact.state, 0, fact.attempt):
            if tasks.state[index] == TaskState.CANCELED and fact.pilot >= 0 and not (tasks.asked[index] or self.closed):
                raise Broken(f"I8 t.{fact.bulk}.{index} is CANCELED on p.{fact.pilot}, and nobody asked for it")
            self._check_outputs(fact.bulk, index)
            if tasks.state[index] == TaskState.DONE and tasks.form.template.mode == "call":
                value = values[at] if values is not None else None
                if value not in self._returned.get((fact.bulk, index, tasks.attempt[index]), ()):
                    raise Broken(f"I7 t.{fact.bulk}.{index} is DONE with {value!r}, which no execution returned")

    def _check_outputs(self, bulk: int, index: int) -> None:
        tasks = self.bulks[bulk]
        key, given = (bulk, index, tasks.attempt[index]), tasks.form.template.output_staging
        if tasks.state[index] != TaskState.DONE or not given:
            return
        if any(map(to_client, given)) and key not in self._home:
            raise Broken(f"I9 t.{bulk}.{index} is DONE, and its outputs are not here")
        if not all(map(to_client, given)) and key not in self._outputs:
            raise Broken(f"I9 t.{bulk}.{index} is DONE, and its outputs are not in place")

    def _attempts(self, fact: AttemptsEnded) -> None:
        self._unready(fact.bulk)
        tasks = self.bulks[fact.bulk]
        causes = unpack(fact.ends.cause, "<u1", len(fact.picks)).tolist()
        for at, index in self._move(fact, TaskState.WAITING, 1, fact.attempt):
            if causes[at] in INFRASTRUCTURE:
                tasks.lost[index] += 1
            else:
                tasks.own[index] += 1
                if tasks.own[index] > tasks.form.template.retries:
                    raise Broken(f"I3 t.{fact.bulk}.{index} gets more attempts than its retries")
            expected = 1 + tasks.own[index] + tasks.lost[index]
            if tasks.attempt[index] > expected and (fact.bulk, index) not in self._forgotten:
                raise Broken(f"I3 t.{fact.bulk}.{index} has skipped an attempt")

    def _ready(self, fact: ServiceReady) -> None:
        tasks = self.bulks[fact.bulk]
        if tasks.attempt[0] == fact.attempt and tasks.state[0] < TaskState.STAGING_OUT:
            self._services[tasks.form.template.name] = (fact.bulk, True)

    def _unready(self, bulk: int) -> None:
        """An attempt has ended: if it was a service's, so must what uses it."""
        name = self.bulks[bulk].form.template.name
        if not self.bulks[bulk].form.template.service or self._services[name] != (bulk, True):
            return
        self._services[name] = (bulk, False)
        for number, users in enumerate(self.bulks):
            for index, state in enumerate(users.state if name in users.form.template.services else ()):
                if TaskState.WAITING < state < TaskState.STAGING_OUT:
                    self._unserved.add((number, index, users.attempt[index]))

    def _closed(self, fact: SessionClosed) -> None:
        del fact
        self.closed = True

    def _asked(self, fact: CancelRequested) -> None:
        asked = self.bulks[fact.bulk].asked
        for index in fact.picks.array().tolist():
            asked[index] |= not fact.cause

    # ------------------------------------------------------------ clients

    def acknowledged(self, key: bytes, number: int) -> None:
        """A client was told that its submission or pilot is recorded under this number."""
        known = self.acked.setdefault(key, number)
        if known != number:
            raise Broken(f"I1 a submission was acknowledged as number {known} and as number {number}")

    def promised(self) -> None:
        """Check that everything acknowledged is in the journal."""
        for key, number in self.acked.items():
            if self.keys.get(key) != number:
                raise Broken(f"I1 number {number} was acknowledged, but the journal has {self.keys.get(key)}")

    # ------------------------------------------------------------ the end

    def late_cancels(self) -> list[str]:
        """Return the tasks that were to be canceled, or whose service is gone, and that have not ended."""
        return [
            f"t.{bulk}.{index}"
            for bulk, tasks in enumerate(self.bulks)
            for index, asked in enumerate(tasks.asked)
            if (asked and tasks.state[index] < TaskState.DONE)
            or ((bulk, index, tasks.attempt[index]) in self._unserved and tasks.state[index] < TaskState.STAGING_OUT)
        ]

    def finish(self, ledger: Ledger) -> None:
        """Check the live ledger against the reference fold, task by task."""
        self.promised()
        if len(ledger.bulks) != len(self.bulks) or len(ledger.pilots) != self.pilots:
            raise Broken("I6 the ledger knows other bulks or pilots than the journal")
        for bulk, (tasks, table) in enumerate(zip(self.bulks, ledger.bulks, strict=True)):
            for index, state in enumerate(tasks.state):
                if state < TaskState.DONE:
                    raise Broken(f"I5 t.{bulk}.{index} is {TaskState(state).name} in the end")
            if table.state.tolist() != tasks.state or table.attempt.tolist() != tasks.attempt:
                raise Broken(f"I2 the ledger's bulk {bulk} differs from what its facts say task by task")
            if table.failures.tolist() != tasks.own:
                raise Broken(f"I3 the ledger's bulk {bulk} counts failures wrongly")
        if self._live:
            raise Broken(f"I5 {next(iter(self._live.values()))[0]} still runs in the end")


def payload_of(key: bytes, index: int) -> bytes:
    """Return the arguments of call ``index`` of the submission ``key``."""
    return key[:6] + index.to_bytes(4, "little")


def agreed(ledger: Ledger, other: Ledger, what: str) -> None:
    """Check that two ledgers are equal; Broken names ``what`` differs."""
    one, two = ledger.digest(), other.digest()
    for name, value in one.items():
        if two[name] != value:
            raise Broken(f"I6 {what} differs from the live ledger in its {name}")


def picked(picks: Picks | None, count: int) -> list[int]:
    """Return the indices named by picks, or all of ``count``."""
    return list(range(count)) if picks is None else picks.array().tolist()


_FOLD: dict[type[Fact], Callable[[Watch, Any], None]] = {
    BulkSubmitted: Watch._bulk,
    PilotRequested: Watch._pilot,
    TasksWaiting: Watch._waiting,
    TasksAssigned: Watch._assigned,
    TasksStaged: Watch._staged,
    TasksStarted: Watch._started,
    ServiceReady: Watch._ready,
    TasksEnded: Watch._ended,
    AttemptsEnded: Watch._attempts,
    CancelRequested: Watch._asked,
    SessionClosed: Watch._closed,
}
