"""What agents and batch systems say, and what it means.

Reports are taken exactly once and in order; after every new connection the agent's inventory settles what it holds. A
pilot's silence means nothing but silence; only proof that its job is gone gives its tasks back. Knows no client,
socket, file or clock. Read next: :mod:`jupyter_rm.core.session` and :mod:`jupyter_rm.core.agent` (the other end).
"""

from __future__ import annotations

import msgspec
import numpy as np

from ..model.bulktable import CANCEL_ASKED, NOBODY, UNSERVED
from ..model.columns import Array, Picks, pack, unpack
from ..model.effects import EndPilot, JobChanged, QueueSeen, Remains, Send, StepTaken
from ..model.errors import ProtocolError
from ..model.facts import (
    AttemptsEnded,
    PilotChanged,
    PilotQueued,
    PilotSilent,
    PilotStep,
    ReportApplied,
    TasksAssigned,
    TasksStaged,
    TasksStarted,
)
from ..model.late import renewed
from ..model.logs import LogTold
from ..model.messages import (
    AgentHello,
    AgentRefused,
    CancelTasks,
    Drain,
    Ended,
    Goodbye,
    Inventory,
    Message,
    Returned,
    Serving,
    Staged,
    Staging,
    Started,
    Stock,
    Stop,
    Up,
    Why,
)
from ..model.states import INFRASTRUCTURE, Cause, PilotState, TaskState
from ..wire import codec
from .binding import Binding
from .cargo import cut_ends
from .endings import LOST_MOST, deserves_another
from .lives import asleep, changed, learned
from .port import Port
from .script import script_news
from .sound import bad_nodes, check_report

_ALL_DONE = bytes([TaskState.DONE])


class Hearing(Binding):
    """Takes in agents' frames and news of jobs."""

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
        elif wrong := bad_nodes(hello.nodes):
            self._refuse(hello, f"it cannot be: {wrong}")
        elif (hello.epoch, hello.hello) > (port.epoch, port.hello):
            other = bool(hello.nodes) and hello.nodes != row.nodes  # one of them was replaced
            if row.state < PilotState.ACTIVE or hello.epoch > row.epoch or other:
                state = max(row.state, PilotState.ACTIVE)
                self._fact(
                    PilotChanged(
                        hello.pilot,
                        int(state),
                        self.wall(),
                        epoch=hello.epoch,
                        nodes=hello.nodes,
                        sandbox=hello.sandbox,
                        facts=renewed(row.facts, hello.facts),
                        reason=row.reason if state == PilotState.DRAINING else changed(row, hello),
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
        """A frame of an agent's stream; ProtocolError when what it carries makes no sense."""
        port = self.ports.get(frame.pilot)
        if port is None or not port.accepts(now, frame):
            return
        self._heard(port)
        if frame.body and port.reports.take(frame.seq):
            try:
                report = codec.reports.decode(frame.body)
                check_report(self.ledger, report)
            except ProtocolError:
                # It counts as taken, or it would come for ever; the next inventory settles what it was about.
                self._fact(ReportApplied(port.pilot, frame.seq))
                raise
            self._report(port, report)
            self._fact(ReportApplied(port.pilot, frame.seq))

    def _report(self, port: Port, report: Message) -> None:
        if isinstance(report, Ended):
            self._ended(port, report)
        elif isinstance(report, Started):
            self._started(port, report)
        elif isinstance(report, Staged):
            self._staged(port, report)
        elif isinstance(report, Staging):
            self._moving(port, report)
        elif isinstance(report, Inventory):
            if report.epoch == port.epoch and report.hello == port.hello:
                self._inventory(port, report)
        elif isinstance(report, Returned):
            self._returned(port, report)
        elif isinstance(report, Stock):
            port.stock, port.rate = report.stock, report.rate
        elif isinstance(report, (Why, LogTold)):
            answer = self._asks.pop(report.ask, None)
            if answer is not None:
                answer(report.text if isinstance(report, Why) else report.part)
        elif isinstance(report, Serving):
            self._serving(port, report)
        elif isinstance(report, Goodbye):
            self._goodbye(port, report)
        self._assignable = True

    def _owned(self, port: Port, bulk: int, picks: Picks) -> Array | None:
        """Return which of the picked tasks this pilot may speak of (None: all).

        Those of nobody too: a damaged journal forgets to whom it gave them, and the pilot that has them may say so.
        """
        holder = self.ledger.bulks[bulk].pilot[picks.where]
        if len(holder) == 1 and holder[0] == port.pilot:
            return None
        mine = holder == port.pilot
        return None if bool(mine.all()) else mine | (holder == NOBODY)

    def _adopt(self, port: Port, bulk: int, index: Array, attempt: Array) -> Array:
        """Note that the pilot holds attempts of which the journal lost the assignment; return which it does.

        The loss may reach back to the moment when what they come after was DONE.
        """
        table = self.ledger.bulks[bulk]
        found: Array = (table.state[index] <= TaskState.WAITING) & (attempt >= table.attempt[index])
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

    def _staged(self, port: Port, report: Staged) -> None:
        bulk, picks, attempt = report.bulk, report.picks, report.attempt
        mine = self._owned(port, bulk, picks)
        if mine is not None:
            index, attempts = picks.array()[mine], unpack(attempt, "<u2", len(picks))[mine]
            if len(index) == 0:
                return
            self._adopt(port, bulk, index, attempts)
            picks, attempt = Picks.of(index), pack(attempts, "<u2")
        self._fact(TasksStaged(bulk, picks, port.pilot, attempt, report.state, self.wall()))

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
        picks, attempt, ends = cut_ends(report.picks, report.attempt, report.ends, mine)
        return Ended(report.bulk, picks, attempt, pack(state[mine], "<u1"), ends, report.again)

    def _goes_on(self, port: Port, report: Ended) -> None:
        """Attempts ended whose next ones the agent has taken up itself."""
        bulk, picks, count = report.bulk, report.picks, len(report.picks)
        table = self.ledger.bulks[bulk]
        before = table.open_held(port.pilot, picks.where)
        mask = self._fact(AttemptsEnded(bulk, picks, port.pilot, report.attempt, report.ends))
        following = unpack(report.attempt, "<u2", count) + np.uint16(1)
        if mask is not None:
            following, picks = following[mask], picks.where_true(mask)
        if len(picks):
            self._fact(TasksAssigned(bulk, picks, port.pilot, self.wall(), pack(following, "<u2")))
        port.held -= before - table.open_held(port.pilot, report.picks.where)

    def _ended(self, port: Port, told: Ended) -> None:
        report = self._own(port, told)
        if report is None:
            return
        if report.again:
            self._goes_on(port, report)
            return
        table = self.ledger.bulks[report.bulk]
        count = len(report.picks)
        state = unpack(report.state, "<u1", count)
        where = report.picks.where
        if report.state == _ALL_DONE or bool((state == TaskState.DONE).all()):
            again = None
            port.breaker.succeeded()
        else:
            report, state = self._nobody_asked(report, state)
            report = self._spare(port, report, state, unpack(report.ends.cause, "<u1", count))
            cause = unpack(report.ends.cause, "<u1", count)
            again = deserves_another(table.form.template, state, cause, table.failures[where])
            again &= (table.flags[where] & CANCEL_ASKED) == 0
            if self.ledger.closed:
                again[:] = False
        before = table.open_held(port.pilot, where)
        if again is None or not bool(again.any()):
            self._conclude(port.pilot, report.bulk, report.picks, report.attempt, report.state, report.ends)
        else:
            over = ~again
            if bool(over.any()):
                picks, attempt, ends = cut_ends(report.picks, report.attempt, report.ends, over)
                self._conclude(port.pilot, report.bulk, picks, attempt, pack(state[over], "<u1"), ends)
            picks, attempt, ends = cut_ends(report.picks, report.attempt, report.ends, again)
            mask = self._fact(AttemptsEnded(report.bulk, picks, port.pilot, attempt, ends))
            if mask is not None:
                picks = picks.where_true(mask)
            if len(picks):
                self._wait_again(report.bulk, picks)
        port.held -= before - table.open_held(port.pilot, where)
        self._ended_bulks.add(report.bulk)
        self._settle()

    def _nobody_asked(self, report: Ended, state: Array) -> tuple[Ended, Array]:
        """What was canceled without a person's word: for a lost service; or it had meanwhile become what is wanted."""
        flags = self.ledger.bulks[report.bulk].flags[report.picks.where]
        lost = (state == TaskState.CANCELED) & ((flags & CANCEL_ASKED) == 0) & (not self.ledger.closed)
        if not bool(lost.any()):
            return report, state
        state = np.where(lost, TaskState.FAILED, state).astype(np.uint8)
        why = np.where((flags & UNSERVED) != 0, Cause.SERVICE_LOST, Cause.AGENT_LOST)
        cause = np.where(lost, why, unpack(report.ends.cause, "<u1", len(state)))
        ends = msgspec.structs.replace(report.ends, cause=pack(cause, "<u1"))
        return msgspec.structs.replace(report, state=pack(state, "<u1"), ends=ends), state

    def _spare(self, port: Port, report: Ended, state: Array, cause: Array) -> Ended:
        """Charge the pilot, not its tasks, with what it ruins beyond measure while another one could do its work."""
        beyond = port.breaker.uncharged(state, cause)
        template = self.ledger.bulks[report.bulk].form.template
        if not port.breaker.tripped or not self._others(port, template):
            return report
        if port.breaker.until is None:
            why = f"set aside: it ruined {port.breaker.in_a_row} tasks in a row; other pilots get its work"
            row = self.ledger.pilots[port.pilot]
            self._fact(PilotChanged(port.pilot, int(row.state), self.wall(), int(row.cause), why))
        port.breaker.until = port.heard_at + self.patience.aside
        if bool((beyond & (self.ledger.bulks[report.bulk].attempt[report.picks.where] > LOST_MOST)).any()):
            return report  # whatever is tried ends like this: it is the tasks after all
        told = cause.copy()
        told[beyond] = int(Cause.PILOT_FAULTY)
        ends = msgspec.structs.replace(report.ends, cause=pack(told, "<u1"))
        return msgspec.structs.replace(report, ends=ends)

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
            self._again(port, report.bulk, index[current], Cause.GIVEN_BACK)

    def _inventory(self, port: Port, report: Inventory) -> None:
        """Agree on what the agent holds: whatever it does not name, it never got or has lost."""
        pilot = port.pilot
        held = {bulk: (picks.array(), unpack(attempt, "<u2", len(picks))) for bulk, picks, attempt in report.held}
        for bulk in sorted(self.ledger.unfinished.keys() | held.keys()):
            table = self.ledger.bulks[bulk]
            mine = self.ledger.held(bulk, pilot)
            if len(mine) == 0 and bulk not in held:
                continue
            index, attempt = held.get(bulk, (np.zeros(0, np.int64), np.zeros(0, np.uint16)))
            # What has a final state by our own word (canceled while its pilot was silent) is to be given up there.
            open_here = (table.pilot[index] == pilot) & (table.state[index] < TaskState.DONE)
            current = index[(table.attempt[index] == attempt) & open_here]
            missing = np.setdiff1d(mine, current)
            other = ~np.isin(index, current)
            if len(missing):
                # An agent of the same epoch never got them; one that was restarted may have begun them.
                self._lost(port, bulk, missing, Cause.AGENT_LOST, "the agent was restarted")
            if bool(other.any()):
                # What it holds as a later attempt than a damaged journal knows of waits by now, and is its own again.
                found = self._adopt(port, bulk, index[other], attempt[other])
                obsolete = index[other][~found]
                if len(obsolete):
                    port.order(CancelTasks(bulk, Picks.of(obsolete)))
        port.ready = True
        row = self.ledger.pilots[pilot]
        if row.state == PilotState.DRAINING:
            port.order(Stop(int(row.cause)) if row.cause == Cause.USER_CANCEL else Drain())
        for bulk, table in self.ledger.open_bulks():
            mine = self.ledger.held(bulk, pilot)
            asked = mine[(table.flags[mine] & (CANCEL_ASKED | UNSERVED)) != 0]
            if len(asked):
                port.order(CancelTasks(bulk, Picks.of(asked)))
        self._bring_again(port)
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
            self._again(port, bulk, again, cause)

    def _goodbye(self, port: Port, report: Goodbye) -> None:
        row = self.ledger.pilots[port.pilot]
        state = PilotState.CANCELED if row.cause == Cause.USER_CANCEL else PilotState.DONE
        if report.cause in (Cause.AGENT_LOST, Cause.NODE_LOST, Cause.DISK_FULL):
            state = PilotState.FAILED
        cause, reason = Cause(report.cause) or row.cause, report.reason
        if cause == Cause.PILOT_LOST:
            # Its job ended it. When that was asked for, the job may have been faster than our word to the agent.
            if state == PilotState.CANCELED:
                cause, reason = row.cause, "stopped on request"
            else:
                state = PilotState.FAILED
        self._do(port.farewell())
        self._pilot_over(port, state, cause, reason, told=True)
        # Of an end from outside the batch system knows more: it is asked, and not told to cancel what it ends itself.
        self._do(EndPilot(self.key, port.pilot, row.job_id, cause == Cause.PILOT_LOST))

    def job(self, change: JobChanged) -> None:
        """News about a pilot's job from the batch system (or the process table)."""
        if not 0 <= change.pilot < len(self.ledger.pilots):
            return
        row = self.ledger.pilots[change.pilot]
        if row.state.final:
            if (more := learned(row, change, self.wall())) is not None:
                self._fact(more)
            return
        if row.spec.script:
            if (told := script_news(row, change, self.wall())) is not None:
                self._fact(told)
            return
        port = self._port(change.pilot)
        if asleep(row, change):
            self._asleep(port, row.state, Cause(change.cause), change.reason)
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
                        change.reason if change.state >= row.state else "",  # old news gives no reason for today
                        change.job_id,
                        epoch=row.epoch,
                    )
                )
                self._bring_early([change.pilot], list(self.ledger.unfinished))
                if row.state == PilotState.DRAINING and row.cause == Cause.USER_CANCEL:
                    self._do(EndPilot(self.key, change.pilot, change.job_id))
            return
        canceled = row.state == PilotState.DRAINING
        state_after = PilotState.CANCELED if row.cause == Cause.USER_CANCEL else PilotState.DONE
        if not canceled:
            state_after = PilotState.FAILED
        cause = row.cause if canceled else Cause(change.cause or Cause.PILOT_LOST)
        # Of a pilot that was never submitted nothing can have begun.
        never = row.state < PilotState.ACTIVE and change.cause in (Cause.SUBMIT_REJECTED, Cause.BOOT_STEP_FAILED)
        self._pilot_over(port, state_after, cause, change.reason or "its job ended", told=never)

    def remains(self, news: Remains) -> None:
        """Take in what an agent left behind that is gone: reports that never came through, in their order.

        Some may be missing: what was never written is lost with it, and settled when its job is called over.
        """
        if not 0 <= news.pilot < len(self.ledger.pilots) or self.ledger.pilots[news.pilot].state.final:
            return
        row, port = self.ledger.pilots[news.pilot], self._port(news.pilot)
        try:
            hello = codec.from_agent.decode(news.hello)
        except ProtocolError:
            hello = None
        if (
            isinstance(hello, AgentHello)
            and (hello.session, hello.pilot) == (self.key, news.pilot)
            and hello.epoch >= row.epoch
            and not bad_nodes(hello.nodes)
        ):
            state = int(max(row.state, PilotState.ACTIVE))
            if (state, hello.nodes, hello.sandbox) != (int(row.state), row.nodes, row.sandbox):
                self._fact(
                    PilotChanged(
                        *(news.pilot, state, self.wall(), int(row.cause), "its agent was here"),
                        epoch=hello.epoch,
                        nodes=hello.nodes,
                        sandbox=hello.sandbox,
                    )
                )
        for seq, body in news.reports:
            if seq <= port.reports.last or row.state.final:
                continue
            port.reports.last = seq
            try:
                report = codec.reports.decode(body)
                check_report(self.ledger, report)
            except ProtocolError:
                report = None  # damaged there; what it was about is settled when its job is called over
            if report is not None and not isinstance(report, (Inventory, Stock, Why, LogTold)):
                self._report(port, report)
            self._fact(ReportApplied(news.pilot, seq))

    def step(self, news: StepTaken) -> None:
        """Where the way to a pilot's agent stands; a repeated word is no news."""
        if not 0 <= news.pilot < len(self.ledger.pilots) or self.ledger.pilots[news.pilot].state.final:
            return
        fact = PilotStep(news.pilot, self.wall(), news.step, news.status, news.percent, news.text)
        last = self.ledger.pilots[news.pilot].step
        if last is None or msgspec.structs.replace(last, at=fact.at) != fact:
            self._fact(fact)

    def queue_seen(self, news: QueueSeen) -> None:
        """What a batch system says of a waiting job."""
        if not 0 <= news.pilot < len(self.ledger.pilots) or self.ledger.pilots[news.pilot].state.final:
            return
        fact = PilotQueued(news.pilot, self.wall(), news.position, news.length, news.estimate, news.source, news.reason)
        last = self.ledger.pilots[news.pilot].queued
        if last is None or msgspec.structs.replace(last, at=fact.at) != fact:
            self._fact(fact)

    def _asleep(self, port: Port, state: PilotState, cause: Cause, reason: str) -> None:
        """This life of a pilot is over, and another may come: what it held may run elsewhere meanwhile."""
        port.lose()
        port.asleep = True
        for bulk, _ in self.ledger.open_bulks():
            mine = self.ledger.held(bulk, port.pilot)
            if len(mine):
                self._lost(port, bulk, mine, cause, reason, told=False)
        row = self.ledger.pilots[port.pilot]
        if row.silent:
            self._fact(PilotSilent(port.pilot, False, self.wall()))
        self._fact(PilotChanged(port.pilot, int(state), self.wall(), int(row.cause), reason))
        self._settle()

    def _pilot_over(self, port: Port, state: PilotState, cause: Cause, reason: str, *, told: bool) -> None:
        port.lose()
        for bulk, _ in self.ledger.open_bulks():
            mine = self.ledger.held(bulk, port.pilot)
            if len(mine):
                lost = cause if cause in INFRASTRUCTURE else Cause.PILOT_LOST
                self._lost(port, bulk, mine, lost, reason, told)
        self._fact(PilotChanged(port.pilot, int(state), self.wall(), int(cause), reason))
        self.ports.pop(port.pilot, None)
        self._grounds.pop(port.pilot, None)
        self._settle()

    # ------------------------------------------------------------ time

    def tick(self, now: float) -> None:
        """Notice silence; nothing is ever ended because of it."""
        for port in list(self.ports.values()):
            row = self.ledger.pilots[port.pilot]
            if port.breaker.until is not None and now >= port.breaker.until:
                port.breaker.until = None
                why = "in use again, on trial: it ruined many tasks in a row"
                self._fact(PilotChanged(port.pilot, int(row.state), self.wall(), int(row.cause), why))
                self._assignable = True
            silent = now - port.heard_at >= self.patience.silent
            if row.spec.script or row.state < PilotState.ACTIVE or port.asleep or not silent:
                continue
            if not row.silent:
                port.silent_since = now
                self._fact(PilotSilent(port.pilot, True, self.wall()))
            if port.silent_since is not None and now - port.silent_since >= self.patience.rerun:
                self._rerun(port)

    def _rerun(self, port: Port) -> None:
        """Run elsewhere what permits that while its pilot is silent; late news of the old attempts will be stale."""
        for bulk, table in self.ledger.open_bulks():
            template, bundle = table.form.template, self.ledger.pilots[port.pilot].spec.bundle
            if template.on_silence == "rerun" and template.restart != "never" and not bundle:
                mine = self.ledger.held(bulk, port.pilot)
                if len(mine):
                    self._lost(port, bulk, mine, Cause.PILOT_LOST, "its pilot was silent")

    def kept(self) -> None:
        """The journal is safe on disk: agents may forget what they reported so far."""
        for port in self.ports.values():
            if port.kept != port.reports.last:
                port.kept = port.reports.last
                port.owes_ack = True
