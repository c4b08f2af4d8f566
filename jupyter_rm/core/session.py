"""One session's decisions: what people ask of it.

Runs the same in the broker and in the simulator. Beneath it: :mod:`jupyter_rm.core.hearing` (what agents say),
:mod:`jupyter_rm.core.binding` (which pilot gets what) and :mod:`jupyter_rm.core.books` (the ledger). Read next:
:mod:`jupyter_rm.core.broker`, who calls this.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

import msgspec
import numpy as np

from ..model.bulktable import NOBODY
from ..model.columns import Picks, pack
from ..model.effects import EndPilot, StartPilot
from ..model.errors import RequestError
from ..model.facts import (
    BulkSubmitted,
    CancelRequested,
    PilotChanged,
    PilotRequested,
    PilotSpec,
    SessionClosed,
    SessionOpened,
    TasksAssigned,
)
from ..model.ids import check_name, parse_pilot, pilot_uid
from ..model.late import Value, capabilities, capability_names
from ..model.logs import FetchLog, LogPart, TellLog
from ..model.messages import (
    AgentHello,
    AskWhy,
    Drain,
    Stop,
    Submit,
    SubmitBundle,
)
from ..model.states import Cause, PilotState, TaskState
from . import renewal
from .balance import Balance
from .binding import ASSIGN_MOST
from .bundle import Parcel
from .sound import check_bundle, check_pilot, check_submit, check_tasks

# What a pilot can be asked of.
SITES = ("local", "noop")


class SessionMachine(Balance):
    """The decisions of one session."""

    _refused_successor: frozenset[int] = frozenset()

    def open(self, name: str, owner: str, host: str) -> None:
        """Begin the session."""
        self._fact(SessionOpened(name, self.wall(), owner, host))

    def recover(self, now: float) -> None:
        """Rebuild everything that is not a fact from the ledger, after a restart."""
        for row in self.ledger.pilots:
            if row.state.final:
                continue
            port = self._port(row.number)
            port.heard_at = now
            port.held = sum(len(self.ledger.held(bulk, row.number)) for bulk, _ in self.ledger.open_bulks())
            # The start may or may not have happened before the crash; starting is idempotent.
            self._do(StartPilot(self.key, row.number, row.spec, row.key, self._parcel(row.number)))
            if row.state == PilotState.DRAINING and row.cause == Cause.USER_CANCEL:
                self._do(EndPilot(self.key, row.number, row.job_id))
        for number, table in self.ledger.open_bulks():
            waiting = np.flatnonzero(table.state == TaskState.WAITING)
            if len(waiting):
                self._wait_again(number, Picks.of(waiting), front=False)
            if table.counts[TaskState.SUBMITTED]:
                self._after[number] = table.form.after
        self._look = True
        self._fetch_again()
        self._assignable = True

    def _must_be_open(self) -> None:
        if self.ledger.closed:
            raise RequestError(
                f"session {self.ledger.name!r} is closed",
                hint="open it again under this or another name",
                code="JRM-Q10",
            )

    def submit(self, message: Submit) -> int:
        """Record a bulk and return its number; RequestError when it can never run."""
        known = self.ledger.bulk_keys.get(message.key)
        if known is not None:
            return known
        self._must_be_open()
        self._check(message)
        bulk = self._record(message)
        if message.after:
            self._after[bulk] = message.after
            self._settle_after([bulk])
        else:
            self.queue.add(bulk, Picks.span(0, message.count), message.template.priority)
        self._bring_early(list(range(len(self.ledger.pilots))), [bulk])
        self._assignable = True
        return bulk

    def _record(self, message: Submit) -> int:
        bulk = len(self.ledger.bulks)
        called = message.template.function if message.template.mode == "call" else b""
        self.payloads.keep(self.key, bulk, message.payload, message.functions, called)
        template, columns, after = message.template, message.columns, message.after
        self._fact(BulkSubmitted(bulk, message.key, self.wall(), message.count, template, columns, after))
        return bulk

    def _check(self, message: Submit) -> None:
        check_submit(message)
        template = message.template
        if (
            template.mode == "call"
            and template.function not in message.functions
            and self.payloads.function(template.function) is None
        ):
            raise RequestError(
                "function: its body is not known here", hint="submit it again", code="JRM-Q16", retry=True
            )
        for number, picks in message.after:
            check_tasks(self.ledger, number, picks, "after")
        if template.pilot:
            self._named(template.pilot)
        if template.service or template.services:
            self.check_services(template, message.count)
        self._must_fit(template)

    def cancel(self, what: Iterable[tuple[int, Picks | None]]) -> int:
        """Cancel tasks; return how many had no final state yet."""
        hit = 0
        for bulk, picks in what:
            check_tasks(self.ledger, bulk, picks if picks is not None else Picks.span(0, 0))
            table = self.ledger.bulks[bulk]
            chosen = Picks.span(0, len(table)) if picks is None else picks
            state = table.state[chosen.where]
            idle = chosen.where_true(state <= TaskState.WAITING)
            busy = chosen.where_true((state > TaskState.WAITING) & (state < TaskState.DONE))
            hit += len(idle) + len(busy)
            if len(idle):
                self._end(bulk, idle, NOBODY, TaskState.CANCELED, Cause.USER_CANCEL)
            if len(busy):
                self._fact(CancelRequested(bulk, busy, self.wall()))
                self._order_cancel(bulk, busy.array())
                if len(left := self._left_of(bulk, busy)):
                    self._end(bulk, left, NOBODY, TaskState.CANCELED, Cause.USER_CANCEL)
        self._settle()
        return hit

    def hello(self, now: float, hello: AgentHello) -> None:
        """An agent introduces itself; a successor's first word lets the pilot before it drain."""
        super().hello(now, hello)
        if 0 <= hello.pilot < len(self.ledger.pilots):
            over = renewal.handed_over(self.ledger.pilots[hello.pilot], self.ledger.pilots)
            if over is not None:
                row, why = over
                self._fact(PilotChanged(row.number, PilotState.DRAINING, self.wall(), 0, why))
                port = self._port(row.number)
                if port.ready:  # else its next inventory brings it
                    port.order(Drain())

    def tick(self, now: float) -> None:
        """Notice silence, and ask for successors in time."""
        super().tick(now)
        if self.ledger.closed:
            return
        for bulk, picks in self._pauses.over(now):
            self.queue.add(bulk, picks, self.ledger.bulks[bulk].form.template.priority, front=True)
            self._assignable = True
        if len(self.ports) > 1:
            self._even_out(now)
        for row in [row for row in self.ledger.pilots if renewal.is_due(row, self.wall())]:
            key, spec = renewal.successor(row)
            if key not in self.ledger.pilot_keys and row.number not in self._refused_successor:
                try:
                    self.request_pilot(key, spec)
                except RequestError as error:
                    self._refused_successor |= {row.number}
                    why = f"its successor was refused: {error.message} [{error.code}]"
                    self._fact(PilotChanged(row.number, int(row.state), self.wall(), int(row.cause), why))

    def request_pilot(self, key: bytes, spec: PilotSpec) -> int:
        """Record a pilot and return its number."""
        known = self.ledger.pilot_keys.get(key)
        if known is not None:
            self._offer(known, spec.capabilities)
            return known
        self._must_be_open()
        self._check_pilot(spec)
        self._port(self._add_pilot(key, spec))
        self._do(StartPilot(self.key, len(self.ledger.pilots) - 1, spec, key))
        return len(self.ledger.pilots) - 1

    def _offer(self, pilot: int, names: tuple[str, ...]) -> None:
        """A pilot that is asked for again offers more than before."""
        row = self.ledger.pilots[pilot]
        before = capabilities(row.spec.capabilities, row.facts)
        more = before | set(capability_names(names, "capabilities"))
        if more != before and not row.state.final:
            facts: dict[str, Value] = {**row.facts, "capabilities": tuple(sorted(more))}
            now, cause = self.wall(), int(row.cause)
            self._fact(PilotChanged(pilot, int(row.state), now, cause, row.reason, facts=facts))
            self._assignable = True

    def _check_pilot(self, spec: PilotSpec) -> None:
        check_pilot(spec)
        renewal.check(spec, len(self.ledger.pilots))
        (self._check_site or only_here)(spec)
        if spec.name:
            check_name(spec.name, "name")
            if any(row.spec.name == spec.name and not row.state.final for row in self.ledger.pilots):
                raise RequestError(
                    f"name: a pilot {spec.name!r} is there already",
                    hint="use it, or choose another name",
                    code="JRM-Q15",
                )

    def _add_pilot(self, key: bytes, spec: PilotSpec) -> int:
        number = len(self.ledger.pilots)
        self._fact(PilotRequested(number, key, self.wall(), spec))
        return number

    def submit_bundle(self, message: SubmitBundle) -> tuple[int, int]:
        """Record a pilot and the work that goes with it; return (number of the pilot, number of tasks).

        Raises:
            RequestError: some of it is impossible; nothing was recorded.
        """
        known = self.ledger.pilot_keys.get(message.key)
        if known is not None:
            return known, sum(each.count for each in message.work)
        self._must_be_open()
        spec = msgspec.structs.replace(message.spec, bundle=True)
        self._check_pilot(spec)
        check_bundle(message.work, self.payloads.function)
        number = self._add_pilot(message.key, spec)
        port = self._port(number)
        for each in message.work:
            bulk = self._record(each)
            picks = Picks.span(0, each.count)
            self._fact(TasksAssigned(bulk, picks, number, self.wall()))
            port.held += each.count
        self._do(StartPilot(self.key, number, spec, message.key, self._parcel(number)))
        return number, port.held

    def _parcel(self, pilot: int) -> tuple[bytes, ...]:
        """Return the orders that go with a bundle's pilot; none once its agent has been heard of."""
        row = self.ledger.pilots[pilot]
        if not row.spec.bundle or row.state >= PilotState.ACTIVE:
            return ()
        parcel = Parcel()
        for bulk, table in self.ledger.open_bulks():
            index = self.ledger.held(bulk, pilot)
            most = min(ASSIGN_MOST, self._by_bytes(table.form, bulk))
            for start in range(0, len(index), most):
                picks = Picks.of(index[start : start + most])
                self._send_assign(parcel, bulk, picks, pack(table.attempt[picks.where], "<u2"), table.form)
        return tuple(parcel.bodies)

    def cancel_pilot(self, pilot: int, drain: bool, cause: Cause = Cause.USER_CANCEL) -> None:
        """End a pilot: at once, or when its running tasks have ended."""
        if not 0 <= pilot < len(self.ledger.pilots):
            raise RequestError(f"there is no pilot {pilot}", hint="see s.pilots()", code="JRM-Q13")
        row = self.ledger.pilots[pilot]
        if row.state.final:
            return
        why = "draining on request" if drain else "being canceled"
        self._fact(PilotChanged(pilot, PilotState.DRAINING, self.wall(), 0 if drain else int(cause), why))
        port = self._port(pilot)
        if port.ready:
            port.order(Drain() if drain else Stop(int(cause)))
        if not drain or not port.connected:
            self._do(EndPilot(self.key, pilot, row.job_id))

    def close(self, reason: str = "closed on request") -> None:
        """End the session."""
        if self.ledger.closed:
            return
        self.cancel([(bulk, None) for bulk, _ in self.ledger.open_bulks()])
        for row in self.ledger.pilots:
            if not row.state.final:
                self.cancel_pilot(row.number, drain=False)
        self._fact(SessionClosed(self.wall(), reason))

    def explain(self, bulk: int, index: int, answer: Callable[[str], None]) -> None:
        """Find out why a task waits and pass the text to ``answer``, now or when its agent has said so."""
        if not 0 <= bulk < len(self.ledger.bulks) or not 0 <= index < len(self.ledger.bulks[bulk]):
            raise RequestError(f"there is no task t.{bulk}.{index}", hint="see s.tasks()", code="JRM-Q12")
        table = self.ledger.bulks[bulk]
        state = TaskState(int(table.state[index]))
        if state == TaskState.SUBMITTED:
            names = ", ".join(f"t.{number} ({len(picks)} tasks)" for number, picks in table.form.after)
            answer(f"it comes after {names}, and those are not all DONE yet")
        elif state == TaskState.WAITING:
            until = self._pauses.until(bulk, index)
            if until is not None:
                answer(f"it pauses before its next attempt, {max(0.0, until - self.now):.0f} s more")
            else:
                answer(self._why_waiting(table.form.template))
        elif state == TaskState.SCHEDULED:
            pilot = int(table.pilot[index])
            port = self.ports.get(pilot)
            if port is None or not port.ready:
                answer(f"pilot {pilot_uid(pilot)} holds it, but its agent is not in contact now")
            else:
                self._ask += 1
                self._asks[self._ask] = answer
                port.order(AskWhy(self._ask, bulk, index))
        elif state in (TaskState.STAGING_IN, TaskState.STAGING_OUT):
            answer(self._why_staging(bulk, index))
        elif state == TaskState.RUNNING:
            answer(f"it is running on pilot {pilot_uid(int(table.pilot[index]))}")
        else:
            answer(f"it ended {state.name}" + (f": {table.notes[index]}" if index in table.notes else ""))

    def fetch_log(self, asked: FetchLog, answer: Callable[[LogPart], None]) -> None:
        """Ask a pilot's agent for lines of its log and pass them to ``answer``; RequestError JRM-Q96: it cannot be."""
        number = parse_pilot(asked.component)
        port = self.ports.get(number)
        if port is None or not port.ready:
            raise RequestError(
                f"component: the agent of {asked.component} is not in contact",
                hint="see what led there: jrm logs broker, jrm story",
                code="JRM-Q96",
                retry=True,
            )
        self._ask += 1
        self._asks[self._ask] = answer
        port.order(TellLog(self._ask, asked.life, asked.after, asked.most, asked.level))


def only_here(spec: PilotSpec) -> None:
    """Refuse every site but this machine (RequestError JRM-Q17)."""
    if spec.site not in SITES:
        near = difflib.get_close_matches(spec.site, SITES, 1)
        hint = f"did you mean {near[0]!r}?" if near else "sites known here: " + ", ".join(SITES)
        raise RequestError(f"site: {spec.site!r} is not known here", hint=hint, code="JRM-Q17")
