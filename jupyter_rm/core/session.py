"""One session's decisions: what waits, what goes to which pilot, what an end means.

Every decision becomes a fact in the ledger at once and is journalled before any of its effects is performed. Runs the
same in the broker and in the simulator. Knows no client, socket, file or clock. Read next:
:mod:`jupyter_rm.core.broker` (who calls this) and :mod:`jupyter_rm.core.agent` (the other end).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..model.columns import Array, Column, Picks, pack, unpack
from ..model.describe import Template
from ..model.effects import Effect, EndPilot, JobChanged, Send, StartPilot, Turn
from ..model.errors import RequestError
from ..model.facts import (
    AttemptsEnded,
    BulkSubmitted,
    CancelRequested,
    Ends,
    Fact,
    PilotChanged,
    PilotRequested,
    PilotSilent,
    PilotSpec,
    ReportApplied,
    SessionClosed,
    SessionOpened,
    TasksAssigned,
    TasksEnded,
    TasksStarted,
    TasksWaiting,
)
from ..model.ids import check_name, pilot_uid
from ..model.ledger import CANCEL_ASKED, NOBODY, Ledger
from ..model.messages import (
    AgentHello,
    AgentRefused,
    AskWhy,
    Assign,
    CancelTasks,
    Drain,
    Ended,
    Function,
    Goodbye,
    Inventory,
    Message,
    Returned,
    Started,
    Stock,
    Stop,
    Submit,
    Up,
    Why,
    Withdraw,
)
from ..model.resources import Node
from ..model.states import HOPELESS, INFRASTRUCTURE, Cause, PilotState, TaskState
from ..wire import codec
from .patience import Patience
from .placing import make_placer, shape_of
from .port import Port
from .queue import WaitQueue

ASSIGN_MOST = 16_384
ASSIGN_BYTES = 4 << 20
# An attempt that infrastructure ended is not the task's fault, but a task that ends every pilot it meets must end too.
LOST_MOST = 20
_HOPELESS = np.array(sorted(HOPELESS), np.uint8)
_INFRASTRUCTURE = np.array(sorted(INFRASTRUCTURE), np.uint8)
NO_ENDS = Ends(b"\0", bytes(4), bytes(4), bytes(8), bytes(8), bytes(4), bytes(4), bytes(4))


class Payloads:
    """The pickled arguments and functions of open bulks; opaque bytes, never unpickled here.

    ``pending`` gathers what the shell has to journal together with the facts of the turn.
    """

    def __init__(self) -> None:
        self._payloads: dict[tuple[str, int], Column] = {}
        self._functions: dict[bytes, bytes] = {}
        self.pending: list[tuple[str, int, Column | None, dict[bytes, bytes]]] = []

    def keep(self, session: str, bulk: int, payload: Column | None, functions: dict[bytes, bytes]) -> None:
        """Take in what a submission brought."""
        new = {sha: body for sha, body in functions.items() if sha not in self._functions}
        self._functions.update(new)
        if payload is not None:
            self._payloads[session, bulk] = payload
        if payload is not None or new:
            self.pending.append((session, bulk, payload, new))

    def restore(self, session: str, bulk: int, payload: Column | None, functions: dict[bytes, bytes]) -> None:
        """Take in what the journal holds, after a restart."""
        self._functions.update(functions)
        if payload is not None:
            self._payloads[session, bulk] = payload

    def drop(self, session: str, bulk: int) -> None:
        """Forget the payloads of a bulk that ended."""
        self._payloads.pop((session, bulk), None)

    def payload(self, session: str, bulk: int) -> Column | None:
        """Return the payload column of an open bulk."""
        return self._payloads.get((session, bulk))

    def knows(self, sha256: bytes) -> bool:
        """Say whether a function's body is here."""
        return sha256 in self._functions

    def function(self, sha256: bytes) -> bytes:
        """Return a pickled function."""
        return self._functions[sha256]


class SessionMachine:
    """The decisions of one session.

    Args:
        key: name under which the journal knows the session (unique for ever).
        wall: returns the wall time of the current turn, for display in facts.
    """

    def __init__(
        self,
        key: str,
        incarnation: int,
        payloads: Payloads,
        patience: Patience,
        wall: Callable[[], float],
        ledger: Ledger | None = None,
    ) -> None:
        self.key = key
        self.incarnation = incarnation
        self.payloads = payloads
        self.patience = patience
        self.wall = wall
        self.ledger = ledger if ledger is not None else Ledger()
        self.queue = WaitQueue()
        self.ports: dict[int, Port] = {}
        self._placers: dict[tuple[Node, ...], Any] = {}
        self._fits: dict[tuple[int, int], bool] = {}
        self._after: dict[int, tuple[tuple[int, Picks], ...]] = {}  # bulk -> what must be DONE first
        self._asks: dict[int, Callable[[str], None]] = {}
        self._ask = 0
        self._turn = Turn()
        self._assignable = False
        self._ended_bulks: set[int] = set()

    # ------------------------------------------------------------ plumbing

    def collect(self) -> Turn:
        """Return what has been decided since the last call."""
        turn, self._turn = self._turn, Turn()
        return turn

    def _fact(self, fact: Fact) -> Array | None:
        self._turn.facts.append((self.key, fact))
        return self.ledger.apply(fact)

    def _do(self, effect: Effect) -> None:
        self._turn.effects.append(effect)

    def recover(self, now: float) -> None:
        """Rebuild everything that is not a fact from the ledger, after a restart."""
        for row in self.ledger.pilots:
            if row.state.final:
                continue
            port = self._port(row.number)
            port.heard_at = now
            port.held = sum(len(self.ledger.held(bulk, row.number)) for bulk in range(len(self.ledger.bulks)))
            # The start may or may not have happened before the crash; starting is idempotent.
            self._do(StartPilot(self.key, row.number, row.spec, row.key))
            if row.state == PilotState.DRAINING and row.cause == Cause.USER_CANCEL:
                self._do(EndPilot(self.key, row.number, row.job_id))
        for number, table in enumerate(self.ledger.bulks):
            waiting = np.flatnonzero(table.state == TaskState.WAITING)
            if len(waiting):
                self.queue.add(number, Picks.of(waiting), table.form.template.priority)
            if table.counts[TaskState.SUBMITTED]:
                self._after[number] = table.form.after
        self._assignable = True

    def _port(self, pilot: int) -> Port:
        port = self.ports.get(pilot)
        if port is None:
            applied = self.ledger.pilots[pilot].seq
            port = self.ports[pilot] = Port(self.key, pilot, self.incarnation, self.patience, applied)
        return port

    # ------------------------------------------------------------ requests

    def open(self, name: str, owner: str, host: str) -> None:
        """Begin the session."""
        self._fact(SessionOpened(name, self.wall(), owner, host))

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
        bulk = len(self.ledger.bulks)
        self.payloads.keep(self.key, bulk, message.payload, message.functions)
        after = tuple((number, picks) for number, picks in message.after)
        form = BulkSubmitted(bulk, message.key, self.wall(), message.count, message.template, message.columns, after)
        self._fact(form)
        if after:
            self._after[bulk] = after
            self._settle_after([bulk])
        else:
            self.queue.add(bulk, Picks.span(0, message.count), message.template.priority)
        self._assignable = True
        return bulk

    def _check(self, message: Submit) -> None:
        template = message.template
        if message.count < 1 or message.count > 2**31:
            raise RequestError(f"count: {message.count} tasks", hint="give 1 to 2,147,483,648", code="JRM-Q11")
        for name, column in message.columns.items():
            if len(column) != message.count:
                raise RequestError(
                    f"{name}: {len(column)} values for {message.count} tasks",
                    hint="give one value a task",
                    code="JRM-Q11",
                )
        if template.mode == "call" and (message.payload is None or len(message.payload) != message.count):
            raise RequestError(
                "payload: one per call is needed", hint="submit calls through s.call or s.map", code="JRM-Q11"
            )
        if (
            template.mode == "call"
            and template.function not in message.functions
            and not self.payloads.knows(template.function)
        ):
            raise RequestError(
                "function: its body is not known here", hint="submit it again", code="JRM-Q16", retry=True
            )
        for number, picks in message.after:
            if not 0 <= number < len(self.ledger.bulks) or picks.hi > len(self.ledger.bulks[number]):
                raise RequestError(
                    f"after: bulk {number} has no such tasks", hint="name tasks of this session", code="JRM-Q12"
                )
        if template.pilot:
            self._named(template.pilot)
        self._must_fit(template)

    def _named(self, name: str) -> int:
        for row in reversed(self.ledger.pilots):
            if name in (row.spec.name, pilot_uid(row.number)):
                return row.number
        known = ", ".join(row.spec.name or pilot_uid(row.number) for row in self.ledger.pilots) or "none yet"
        raise RequestError(
            f"pilot: there is no pilot {name!r}", hint=f"pilots of this session: {known}", code="JRM-Q13"
        )

    def _must_fit(self, template: Template) -> None:
        """Refuse what no present or requested pilot can ever hold."""
        alive = [row for row in self.ledger.pilots if not row.state.final]
        if template.pilot:
            number = self._named(template.pilot)
            alive = [row for row in alive if row.number == number]
        if not alive or any(not row.nodes for row in alive):
            return  # a pilot whose nodes are not known yet may hold it
        reason = ""
        for row in alive:
            placer = self._placer(row.nodes)
            why = placer.explain(shape_of(placer, template.request, template.partition))
            if why["ever"]:
                return
            reason = str(why["reason"])
        raise RequestError(
            f"no pilot can ever hold {template.request}: {reason}",
            hint="ask for less, or start a larger pilot first",
            code="JRM-Q14",
        )

    def _placer(self, nodes: tuple[Node, ...]) -> Any:
        placer = self._placers.get(nodes)
        if placer is None:
            placer = self._placers[nodes] = make_placer(nodes)
        return placer

    def cancel(self, what: Iterable[tuple[int, Picks | None]]) -> int:
        """Cancel tasks; return how many had no final state yet."""
        hit = 0
        for bulk, picks in what:
            if not 0 <= bulk < len(self.ledger.bulks):
                raise RequestError(f"there is no bulk {bulk}", hint="see s.tasks()", code="JRM-Q12")
            table = self.ledger.bulks[bulk]
            chosen = Picks.span(0, len(table)) if picks is None else picks
            if chosen.hi > len(table):
                raise RequestError(f"bulk {bulk} has {len(table)} tasks", hint="see s.tasks()", code="JRM-Q12")
            state = table.state[chosen.where]
            idle = chosen.where_true(state <= TaskState.WAITING)
            busy = chosen.where_true((state > TaskState.WAITING) & (state < TaskState.DONE))
            hit += len(idle) + len(busy)
            if len(idle):
                self._end(bulk, idle, NOBODY, TaskState.CANCELED, Cause.USER_CANCEL)
            if len(busy):
                self._fact(CancelRequested(bulk, busy, self.wall()))
                self._order_cancel(bulk, busy)
        self._settle()
        return hit

    def _order_cancel(self, bulk: int, picks: Picks) -> None:
        table = self.ledger.bulks[bulk]
        index = picks.array()
        pilots = table.pilot[index]
        for pilot in np.unique(pilots).tolist():
            port = self.ports.get(int(pilot))
            if port is not None and port.ready:
                port.order(CancelTasks(bulk, Picks.of(np.sort(index[pilots == pilot]))))

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

    def request_pilot(self, key: bytes, spec: PilotSpec) -> int:
        """Record a pilot and return its number."""
        known = self.ledger.pilot_keys.get(key)
        if known is not None:
            return known
        self._must_be_open()
        if spec.name:
            check_name(spec.name, "name")
            if any(row.spec.name == spec.name and not row.state.final for row in self.ledger.pilots):
                raise RequestError(
                    f"name: a pilot {spec.name!r} is there already",
                    hint="use it, or choose another name",
                    code="JRM-Q15",
                )
        number = len(self.ledger.pilots)
        self._fact(PilotRequested(number, key, self.wall(), spec))
        self._port(number)
        self._do(StartPilot(self.key, number, spec, key))
        return number

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
        self.cancel([(bulk, None) for bulk, table in enumerate(self.ledger.bulks) if table.open])
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
        elif state == TaskState.RUNNING:
            answer(f"it is running on pilot {pilot_uid(int(table.pilot[index]))}")
        else:
            answer(f"it ended {state.name}" + (f": {table.notes[index]}" if index in table.notes else ""))

    def _why_waiting(self, template: Template) -> str:
        alive = [row for row in self.ledger.pilots if not row.state.final]
        if not alive:
            return "the session has no pilot; start one with s.pilot(...)"
        parts = []
        for row in alive:
            name, port = row.spec.name or pilot_uid(row.number), self.ports.get(row.number)
            if row.state < PilotState.ACTIVE:
                parts.append(f"pilot {name} is {row.state.name}" + (f" ({row.reason})" if row.reason else ""))
            elif row.state == PilotState.DRAINING:
                parts.append(f"pilot {name} is draining")
            elif row.silent or port is None or not port.ready:
                parts.append(f"pilot {name} is not in contact")
            elif not self._fit(row.number, template):
                placer = self._placer(row.nodes)
                why = placer.explain(shape_of(placer, template.request, template.partition))
                parts.append(f"pilot {name} can never hold it: {why['reason']}")
            else:
                parts.append(f"pilot {name} holds {port.held} tasks and takes more when some have ended")
        return "; ".join(parts)

    # ------------------------------------------------------------ agents

    def hello(self, now: float, hello: AgentHello) -> None:
        """An agent introduces itself."""
        if not 0 <= hello.pilot < len(self.ledger.pilots):
            self._refuse(hello, "no such pilot")
            return
        row = self.ledger.pilots[hello.pilot]
        port = self._port(hello.pilot)
        if row.state.final:
            self._refuse(hello, f"the pilot is {row.state.name}")
        elif hello.epoch < row.epoch:
            self._refuse(hello, "a later agent of this pilot is there already")
        elif (hello.epoch, hello.hello) > (port.epoch, port.hello):
            if row.state < PilotState.ACTIVE or hello.epoch > row.epoch:
                state = max(row.state, PilotState.ACTIVE)
                self._fact(
                    PilotChanged(
                        hello.pilot,
                        int(state),
                        self.wall(),
                        epoch=hello.epoch,
                        nodes=hello.nodes,
                        sandbox=hello.sandbox,
                        reason=row.reason if state == PilotState.DRAINING else "",
                        cause=int(row.cause),
                    )
                )
            self._heard(port)
            self._do(port.greet(now, hello))
        elif (hello.epoch, hello.hello) == (port.epoch, port.hello) and port.connected and not port.ready:
            self._do(port.greet(now, hello))  # our welcome was lost

    def _refuse(self, hello: AgentHello, reason: str) -> None:
        self._do(Send((self.key, hello.pilot), AgentRefused(self.key, hello.pilot, hello.epoch, reason)))

    def _heard(self, port: Port) -> None:
        port.silent_since = None
        if self.ledger.pilots[port.pilot].silent:
            self._fact(PilotSilent(port.pilot, False, self.wall()))

    def frame(self, now: float, frame: Up) -> None:
        """A frame of an agent's stream."""
        port = self.ports.get(frame.pilot)
        if port is None or not port.accepts(now, frame):
            return
        self._heard(port)
        if frame.body and port.reports.take(frame.seq):
            report = codec.reports.decode(frame.body)
            self._report(port, report)
            self._fact(ReportApplied(port.pilot, frame.seq))

    def _report(self, port: Port, report: Message) -> None:
        if isinstance(report, Ended):
            self._ended(port, report)
        elif isinstance(report, Started):
            self._started(port, report)
        elif isinstance(report, Inventory):
            if report.epoch == port.epoch and report.hello == port.hello:
                self._inventory(port, report)
        elif isinstance(report, Returned):
            self._returned(port, report)
        elif isinstance(report, Stock):
            port.stock, port.rate = report.stock, report.rate
        elif isinstance(report, Why):
            answer = self._asks.pop(report.ask, None)
            if answer is not None:
                answer(report.text)
        elif isinstance(report, Goodbye):
            self._goodbye(port, report)
        self._assignable = True

    def _owned(self, port: Port, bulk: int, picks: Picks) -> Array | None:
        """Return which of the picked tasks this pilot may speak of (None: all).

        Those of nobody too: a damaged journal forgets to whom it gave them, and the pilot that has them may say so.
        """
        holder = self.ledger.bulks[bulk].pilot[picks.where]
        mine = holder == port.pilot
        return None if bool(mine.all()) else mine | (holder == NOBODY)

    def _adopt(self, port: Port, bulk: int, index: Array, attempt: Array) -> Array:
        """Note that the pilot holds attempts of which the journal lost the assignment; return which it does."""
        table = self.ledger.bulks[bulk]
        found: Array = (table.state[index] == TaskState.WAITING) & (attempt >= table.attempt[index])
        if bool(found.any()):
            picks = Picks.of(index[found])
            self._fact(TasksAssigned(bulk, picks, port.pilot, self.wall(), pack(attempt[found], "<u2")))
            port.held += len(picks)
        return found

    def _started(self, port: Port, report: Started) -> None:
        bulk, picks = report.bulk, report.picks
        mine = self._owned(port, bulk, picks)
        attempt, node, started = report.attempt, report.node, report.started
        if mine is not None:
            count = len(picks)
            index, attempts = picks.array()[mine], unpack(attempt, "<u2", count)[mine]
            if len(index) == 0:
                return
            self._adopt(port, bulk, index, attempts)
            picks, attempt = Picks.of(index), pack(attempts, "<u2")
            node = pack(unpack(node, "<u4", count)[mine], "<u4")
            started = pack(unpack(started, "<f8", count)[mine], "<f8")
        self._fact(TasksStarted(bulk, picks, port.pilot, attempt, node, started))

    def _own(self, port: Port, report: Ended) -> Ended | None:
        """Return the part of the report that is this pilot's to make."""
        mine = self._owned(port, report.bulk, report.picks)
        if mine is None:
            return report
        table = self.ledger.bulks[report.bulk]
        where, count = report.picks.where, len(report.picks)
        state = unpack(report.state, "<u1", count)
        # What was canceled although nobody asked for it was obsolete there, not here.
        asked = ((table.flags[where] & CANCEL_ASKED) != 0) | (table.pilot[where] == port.pilot)
        mine &= asked | (state != TaskState.CANCELED)
        if not bool(mine.any()):
            return None
        picks, attempt, ends = _cut(report.picks, report.attempt, report.ends, mine)
        return Ended(report.bulk, picks, attempt, pack(state[mine], "<u1"), ends)

    def _ended(self, port: Port, told: Ended) -> None:
        report = self._own(port, told)
        if report is None:
            return
        table = self.ledger.bulks[report.bulk]
        count = len(report.picks)
        state = unpack(report.state, "<u1", count)
        cause = unpack(report.ends.cause, "<u1", count)
        where = report.picks.where
        if bool((state == TaskState.DONE).all()):
            again = None
        else:
            spare = table.failures[where] < table.form.template.retries
            again = (state == TaskState.FAILED) & spare & ~np.isin(cause, _HOPELESS)
            lost = (state == TaskState.FAILED) & np.isin(cause, _INFRASTRUCTURE)
            again = again & ~lost if table.form.template.restart == "never" else again | lost
            again &= (table.flags[where] & CANCEL_ASKED) == 0
            if self.ledger.closed:
                again[:] = False
        before = table.open_held(port.pilot, where)
        if again is None or not bool(again.any()):
            self._fact(TasksEnded(report.bulk, report.picks, port.pilot, report.attempt, report.state, report.ends))
        else:
            over = ~again
            if bool(over.any()):
                picks, attempt, ends = _cut(report.picks, report.attempt, report.ends, over)
                self._fact(TasksEnded(report.bulk, picks, port.pilot, attempt, pack(state[over], "<u1"), ends))
            picks, attempt, ends = _cut(report.picks, report.attempt, report.ends, again)
            mask = self._fact(AttemptsEnded(report.bulk, picks, port.pilot, attempt, ends))
            if mask is not None:
                picks = picks.where_true(mask)
            if len(picks):
                self.queue.add(report.bulk, picks, table.form.template.priority, front=True)
        port.held -= before - table.open_held(port.pilot, where)
        self._ended_bulks.add(report.bulk)
        self._settle()

    def _returned(self, port: Port, report: Returned) -> None:
        """Attempts came back unstarted: they wait again, as a new attempt, and nothing is counted against them."""
        table = self.ledger.bulks[report.bulk]
        index = report.picks.array()
        attempt = unpack(report.attempt, "<u2", len(index))
        current = (table.attempt[index] == attempt) & (table.pilot[index] == port.pilot)
        current &= table.state[index] < TaskState.DONE
        asked = current & ((table.flags[index] & CANCEL_ASKED) != 0)
        if bool(asked.any()):
            picks = Picks.of(index[asked])
            self._end(report.bulk, picks, port.pilot, TaskState.CANCELED, Cause.USER_CANCEL)
            port.held -= len(picks)
            self._settle()
        current &= ~asked
        if bool(current.any()):
            self._again(port, report.bulk, index[current], Cause.PILOT_LOST, "given back unstarted")

    def _inventory(self, port: Port, report: Inventory) -> None:
        """Agree on what the agent holds: whatever it does not name, it never got or has lost."""
        pilot = port.pilot
        held = {bulk: (picks.array(), unpack(attempt, "<u2", len(picks))) for bulk, picks, attempt in report.held}
        for bulk, table in enumerate(self.ledger.bulks):
            mine = self.ledger.held(bulk, pilot)
            if len(mine) == 0 and bulk not in held:
                continue
            index, attempt = held.get(bulk, (np.zeros(0, np.int64), np.zeros(0, np.uint16)))
            current = index[(table.attempt[index] == attempt) & (table.pilot[index] == pilot)] if len(index) else index
            missing = np.setdiff1d(mine, current)
            other = ~np.isin(index, current)
            if bool(other.any()):
                found = self._adopt(port, bulk, index[other], attempt[other])
                obsolete = index[other][~found]
                if len(obsolete):
                    port.order(CancelTasks(bulk, Picks.of(obsolete)))
            if len(missing):
                # An agent of the same epoch never got them; one that was restarted may have begun them.
                self._lost(port, bulk, missing, Cause.AGENT_LOST, "the agent was restarted")
        port.ready = True
        row = self.ledger.pilots[pilot]
        if row.state == PilotState.DRAINING:
            port.order(Stop(int(row.cause)) if row.cause == Cause.USER_CANCEL else Drain())
        for bulk, table in enumerate(self.ledger.bulks):
            mine = self.ledger.held(bulk, pilot)
            asked = mine[(table.flags[mine] & CANCEL_ASKED) != 0]
            if len(asked):
                port.order(CancelTasks(bulk, Picks.of(asked)))
        self._settle()

    def _lost(self, port: Port, bulk: int, index: Array, cause: Cause, note: str, told: bool = True) -> None:
        """Attempts are gone with their agent or pilot: end them, or let them wait again.

        ``told``: the agent itself reported everything it started. Without its word any of them may have been started.
        """
        table = self.ledger.bulks[bulk]
        template = table.form.template
        asked = (table.flags[index] & CANCEL_ASKED) != 0
        hopeless = table.attempt[index] > LOST_MOST + template.retries
        if template.restart == "never":
            hopeless |= (table.state[index] >= TaskState.RUNNING) | (not told)
        if self.ledger.closed:
            asked[:] = True
        if bool(asked.any()):
            self._end(bulk, Picks.of(index[asked]), port.pilot, TaskState.CANCELED, Cause.USER_CANCEL)
        ended = ~asked & hopeless
        if bool(ended.any()):
            self._end(bulk, Picks.of(index[ended]), port.pilot, TaskState.FAILED, cause, note)
        port.held -= int((asked | hopeless).sum())
        again = index[~asked & ~hopeless]
        if len(again):
            self._again(port, bulk, again, cause, note)

    def _again(self, port: Port, bulk: int, index: Array, cause: Cause, note: str) -> None:
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
        del note
        self._fact(AttemptsEnded(bulk, picks, port.pilot, pack(table.attempt[index], "<u2"), ends))
        port.held -= len(index)
        self.queue.add(bulk, picks, table.form.template.priority, front=True)
        self._assignable = True

    def _goodbye(self, port: Port, report: Goodbye) -> None:
        row = self.ledger.pilots[port.pilot]
        state = PilotState.CANCELED if row.cause == Cause.USER_CANCEL else PilotState.DONE
        if report.cause in (Cause.AGENT_LOST, Cause.NODE_LOST, Cause.DISK_FULL):
            state = PilotState.FAILED
        cause = Cause(report.cause) or row.cause
        self._do(port.farewell())
        self._pilot_over(port, state, cause, report.reason, told=True)
        self._do(EndPilot(self.key, port.pilot, row.job_id))

    def job(self, change: JobChanged) -> None:
        """News about a pilot's job from the batch system (or the process table)."""
        if not 0 <= change.pilot < len(self.ledger.pilots):
            return
        row = self.ledger.pilots[change.pilot]
        port = self._port(change.pilot)
        if row.state.final:
            return
        if change.alive:
            if change.state is not None and (change.state > row.state or change.job_id != row.job_id):
                state = max(int(row.state), change.state)
                self._fact(
                    PilotChanged(
                        change.pilot,
                        state,
                        self.wall(),
                        change.cause or int(row.cause),
                        change.reason,
                        change.job_id,
                        epoch=row.epoch,
                    )
                )
                if row.state == PilotState.DRAINING and row.cause == Cause.USER_CANCEL:
                    self._do(EndPilot(self.key, change.pilot, change.job_id))
            return
        canceled = row.state == PilotState.DRAINING
        state_after = PilotState.CANCELED if row.cause == Cause.USER_CANCEL else PilotState.DONE
        if not canceled:
            state_after = PilotState.FAILED
        cause = row.cause if canceled else Cause(change.cause or Cause.PILOT_LOST)
        self._pilot_over(port, state_after, cause, change.reason or "its job ended", told=False)

    def _pilot_over(self, port: Port, state: PilotState, cause: Cause, reason: str, *, told: bool) -> None:
        port.lose()
        for bulk in range(len(self.ledger.bulks)):
            mine = self.ledger.held(bulk, port.pilot)
            if len(mine):
                lost = cause if cause in INFRASTRUCTURE else Cause.PILOT_LOST
                self._lost(port, bulk, mine, lost, reason, told)
        self._fact(PilotChanged(port.pilot, int(state), self.wall(), int(cause), reason))
        self.ports.pop(port.pilot, None)
        self._settle()

    # ------------------------------------------------------------ dependencies

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

    # ------------------------------------------------------------ binding tasks to pilots

    def _fit(self, pilot: int, template: Template) -> bool:
        row = self.ledger.pilots[pilot]
        if template.pilot and template.pilot not in (row.spec.name, pilot_uid(pilot)):
            return False
        placer = self._placer(row.nodes)
        shape = shape_of(placer, template.request, template.partition)
        key = (pilot, shape)
        fits = self._fits.get(key)
        if fits is None:
            fits = self._fits[key] = bool(placer.explain(shape)["ever"])
        return fits

    def flush(self, now: float) -> None:
        """Bind waiting tasks to pilots with room, then send what is to be sent; after a batch of inputs."""
        if self._assignable:
            self._assignable = False
            self._assign()
        for port in self.ports.values():
            self._turn.effects += port.transmit(now)

    def _assign(self) -> None:
        open_ports = [
            port
            for port in self.ports.values()
            if port.hungry and self.ledger.pilots[port.pilot].state == PilotState.ACTIVE
        ]
        if not open_ports or not self.queue:
            return
        for bulk in self.queue.bulks():
            table = self.ledger.bulks[bulk]
            template = table.form.template
            while True:
                ports = [port for port in open_ports if port.room > 0 and self._fit(port.pilot, template)]
                if not ports:
                    break
                port = max(ports, key=lambda port: (port.room, -port.pilot))
                share = -(-port.room // 2) if len(ports) > 1 else port.room
                picks = self.queue.take(bulk, min(share, ASSIGN_MOST, self._by_bytes(table.form, bulk)), table)
                if picks is None:
                    break
                self._bind(port, bulk, picks, table.form)
            open_ports = [port for port in open_ports if port.room > 0]
            if not open_ports:
                return

    def _by_bytes(self, form: BulkSubmitted, bulk: int) -> int:
        """Return how many tasks of a bulk make an order of decent size."""
        payload = self.payloads.payload(self.key, bulk) if form.template.mode == "call" else None
        size = len(payload.data) if payload is not None else 0
        size += sum(len(column.data) for column in form.columns.values())
        return max(1, ASSIGN_BYTES * form.count // size) if size > ASSIGN_BYTES else ASSIGN_MOST

    def _bind(self, port: Port, bulk: int, picks: Picks, form: BulkSubmitted) -> None:
        table = self.ledger.bulks[bulk]
        attempt = pack(table.attempt[picks.where], "<u2")
        self._fact(TasksAssigned(bulk, picks, port.pilot, self.wall(), attempt))
        port.held += len(picks)
        self._send_assign(port, bulk, picks, attempt, form)

    def _send_assign(self, port: Port, bulk: int, picks: Picks, attempt: bytes, form: BulkSubmitted) -> None:
        template: Template | None = None
        if bulk not in port.templates:
            port.templates.add(bulk)
            template = form.template
        payload: Column | None = None
        if form.template.mode == "call":
            sha = form.template.function
            if sha not in port.functions:
                port.functions.add(sha)
                port.order(Function(sha, self.payloads.function(sha)))
            whole = self.payloads.payload(self.key, bulk)
            payload = whole.take(picks) if whole is not None else None
        columns = {name: column.take(picks) for name, column in form.columns.items()}
        port.order(Assign(bulk, picks, attempt, template, columns, payload))

    # ------------------------------------------------------------ time

    def tick(self, now: float) -> None:
        """Notice silence; nothing is ever ended because of it."""
        for port in list(self.ports.values()):
            row = self.ledger.pilots[port.pilot]
            if row.state < PilotState.ACTIVE or now - port.heard_at < self.patience.silent:
                continue
            if not row.silent:
                port.silent_since = now
                self._fact(PilotSilent(port.pilot, True, self.wall()))
            if port.silent_since is not None and now - port.silent_since >= self.patience.rerun:
                self._rerun(port)

    def _rerun(self, port: Port) -> None:
        """Run elsewhere what permits that while its pilot is silent; late news of the old attempts will be stale."""
        for bulk, table in enumerate(self.ledger.bulks):
            if table.form.template.on_silence == "rerun" and table.form.template.restart != "never":
                mine = self.ledger.held(bulk, port.pilot)
                if len(mine):
                    self._lost(port, bulk, mine, Cause.PILOT_LOST, "its pilot was silent")

    def kept(self) -> None:
        """The journal is safe on disk: agents may forget what they reported so far."""
        for port in self.ports.values():
            if port.kept != port.reports.last:
                port.kept = port.reports.last
                port.owes_ack = True

    def withdraw(self, bulk: int, picks: Picks) -> None:
        """Ask the agents to give tasks back that they have not started."""
        table = self.ledger.bulks[bulk]
        index = picks.array()
        for pilot, port in self.ports.items():
            mine = index[(table.pilot[index] == pilot) & (table.state[index] == TaskState.SCHEDULED)]
            if len(mine) and port.ready:
                port.order(Withdraw(bulk, Picks.of(mine)))


def _cut(picks: Picks, attempt: bytes, ends: Ends, mask: Array) -> tuple[Picks, bytes, Ends]:
    """Return the part of a report at which ``mask`` is true."""
    count = len(picks)
    where = np.flatnonzero(mask)
    place = {int(old): new for new, old in enumerate(where.tolist())} if ends.notes else {}

    def cut(data: bytes, dtype: str) -> bytes:
        return pack(unpack(data, dtype, count)[where], dtype)

    return (
        Picks.of(picks.array()[where]),
        cut(attempt, "<u2"),
        Ends(
            cut(ends.cause, "<u1"),
            cut(ends.code, "<i4"),
            cut(ends.node, "<u4"),
            cut(ends.started, "<f8"),
            cut(ends.ended, "<f8"),
            cut(ends.user, "<f4"),
            cut(ends.sys, "<f4"),
            cut(ends.rss, "<u4"),
            ends.values.take(Picks.of(where)) if ends.values is not None else None,
            {place[at]: note for at, note in ends.notes.items() if at in place},
        ),
    )
