"""Programs and shell lines: from an allocation to a process, and from its end to a result.

The common case, one process per task, is handed to the spawner in batches and comes back as arrays; there Python sees
no single task unless it failed. Ranks, environments still being made and queues the spawner cannot keep are handled
here one by one. Read next: :mod:`jupyter_rm.agent.commands`, :mod:`jupyter_rm.runtime.process`.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from ..core.holdings import Holdings
from ..model.effects import Begun, Finished, TakenBack, Tokens
from ..model.ids import INDEX_BITS, INDEX_MASK, by_bulk
from ..model.states import Cause, TaskState
from ..runtime.process import CANCELLED, ENDED, FAILED, STEPS, TIMED_OUT, WAS_CANCELLED, Launch, SpawnerLike
from .commands import Lane, Plan, Site, Slots, Unstartable
from .environments import Captured, Environments, Internal
from .news import News, Row
from .notes import code_note, exec_note, tail

# Standard error is read for so many failures per turn, so that a storm of failing tasks cannot hold up the rest.
TAILS_PER_TURN = 50
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DONE, _FAILED = int(TaskState.DONE), int(TaskState.FAILED)


class _Pool:
    """Queued tasks of one pool: in the spawner (``inside`` if there may be any) and here (``backlog``)."""

    __slots__ = ("backlog", "inside", "lanes")

    def __init__(self) -> None:
        self.inside = False
        self.lanes = 0
        self.backlog: deque[int] = deque()


class _Group:
    """A task of several processes on one allocation."""

    __slots__ = ("cause", "code", "first", "flags", "lane", "left", "note", "plan", "row", "token")

    def __init__(self, token: int, plan: Plan, lane: Lane, first: Launch) -> None:
        self.token, self.plan, self.lane, self.first = token, plan, lane, first
        self.left: set[int] = set()
        self.code = 0
        self.flags = 0
        self.cause = Cause.NONE
        self.note = ""
        self.row = Row(token, node=lane.node)


class Executables:
    """The processes of one agent.

    Args:
        holdings: what stands behind a token.
        slots: the placer's answer to "what is this allocation".
        site: where things are.
        spawner, environments, internal: what starts processes; ``internal`` registers those that are no task.
        news: where results are gathered.
    """

    def __init__(
        self,
        holdings: Holdings,
        slots: Callable[[int], Slots],
        site: Site,
        spawner: SpawnerLike,
        environments: Environments,
        internal: Internal,
        news: News,
    ) -> None:
        self._holdings, self._slots, self._site = holdings, slots, site
        self._spawner, self._environments, self._internal, self._news = spawner, environments, internal, news
        self._plans: dict[int, Plan | Unstartable] = {}
        self._pools: dict[int, _Pool] = {}
        self._lanes: dict[int, Lane] = {}
        self._groups: dict[int, _Group] = {}
        # Tasks with an allocation whose environment is being made, by token.
        self._unready: dict[int, Lane] = {}
        self._idle: deque[Lane] = deque()
        self._one_node = len(site.nodes) <= 1
        self._tails = TAILS_PER_TURN

    # ------------------------------------------------------------ effects

    def launch(self, pool: int, tokens: Tokens, allocs: npt.NDArray[np.uint64]) -> None:
        """Start each task on its allocation."""
        state = self._pools.setdefault(pool, _Pool())
        lanes = []
        for alloc in allocs.tolist():
            lane = self._lanes[alloc] = Lane.of(alloc, pool, self._slots(alloc), self._site)
            lanes.append(lane)
        state.lanes += len(lanes)
        for bulk, where, index in by_bulk(tokens):
            self._start(bulk, index, [lanes[at] for at in where.tolist()])
        self._serve_idle()

    def ahead(self, pool: int, tokens: Tokens) -> None:
        """Queue tasks behind the pool's allocations; they come straight back when it has none."""
        state = self._pools.setdefault(pool, _Pool())
        if state.lanes == 0:
            self._news.taken.append(TakenBack(pool, tokens))
            return
        for bulk, _, index in by_bulk(tokens):
            plan = self._plan(bulk)
            if state.backlog or isinstance(plan, Captured) or (isinstance(plan, Plan) and not plan.passes_on):
                state.backlog.extend(((bulk << INDEX_BITS) + index).tolist())
            else:
                self._queue(pool, state, bulk, plan, index)

    def retract(self, pool: int) -> Tokens:
        """Take all queued tasks back, in their order."""
        state = self._pools.get(pool)
        if state is None:
            return np.zeros(0, np.uint64)
        inside = [token - 1 for token in reversed(self._spawner.retract(pool))] if state.inside else []
        state.inside = False
        tokens = np.array([*inside, *state.backlog], np.uint64)
        state.backlog.clear()
        return tokens

    def kill(self, tokens: Tokens) -> None:
        """End tasks or drop them, whatever they are doing; what is unknown here has ended already."""
        wanted = set(tokens.tolist())
        for state in self._pools.values():
            hit = wanted.intersection(state.backlog) if state.backlog else ()
            if hit:
                state.backlog = deque(token for token in state.backlog if token not in hit)
                for token in hit:
                    self._news.row(Row(token, state=TaskState.CANCELED, cause=Cause.USER_CANCEL))
                wanted.difference_update(hit)
        for token in wanted & self._unready.keys():
            lane = self._unready.pop(token)
            self._news.row(Row(token, state=TaskState.CANCELED, cause=Cause.USER_CANCEL, node=lane.node))
            self._idle.append(lane)
        for token in wanted & self._groups.keys():
            group = self._groups[token]
            group.flags |= WAS_CANCELLED
            self._spawner.cancel(list(group.left))
        self._spawner.cancel([token + 1 for token in wanted])
        self._serve_idle()

    def runs_ranks(self, token: int) -> bool:
        """Say whether this is a task of several processes that has not ended."""
        return token in self._groups

    @property
    def ahead_inside(self) -> bool:
        """Say whether tasks may be queued inside the spawner; costs nothing, while asking it costs a round trip."""
        return any(state.inside for state in self._pools.values())

    def settle(self) -> None:
        """Pass on allocations that came free since; call it after other events than those of :meth:`take`."""
        self._serve_idle()

    @property
    def backlog(self) -> bool:
        """Say whether tasks wait here for Python to start them when an allocation comes free."""
        return any(state.backlog for state in self._pools.values())

    # ------------------------------------------------------------ starting

    def _plan(self, bulk: int) -> Plan | Unstartable | Captured:
        """Return how tasks of a bulk start; Captured while their environment is being made."""
        held = self._holdings.bulks[bulk]
        plan = self._plans.get(bulk)
        if plan is not None and (isinstance(plan, Unstartable) or plan.holds(held)):
            return plan
        try:
            where = self._site.environment(held.template.named_env)
        except Unstartable as error:
            return error
        captured = self._environments.get(self._site.lines(held.template, "pre_exec"), where)
        if captured.error:
            return Unstartable(captured.error, Cause.ENV_FAILED)  # not kept: it is tried again later
        if captured.env is None:
            return captured
        try:
            plan = Plan(bulk, held, self._site, self._environments, captured)
        except Unstartable as error:
            return error
        if len(self._plans) > 512:
            self._plans = {number: p for number, p in self._plans.items() if number in self._holdings.bulks}
        self._plans[bulk] = plan
        return plan

    def _start(self, bulk: int, index: npt.NDArray[np.int64], lanes: list[Lane]) -> None:
        plan = self._plan(bulk)
        base = bulk << INDEX_BITS
        if isinstance(plan, Captured):
            for i, lane in zip(index.tolist(), lanes, strict=True):
                self._unready[base + i] = lane
            waiting = [(base + i) for i in index.tolist()]
            plan.waiters.append(lambda: self._ready(waiting))
            return
        if isinstance(plan, Unstartable):
            for i, lane in zip(index.tolist(), lanes, strict=True):
                self._refuse(base + i, plan, lane)
            return
        if plan.ranks > 1:
            made = plan.launches(index, plan.held.attempts(index), None)
            for i, lane, first in zip(index.tolist(), lanes, made, strict=True):
                self._start_group(base + i, plan, lane, first)
            return
        allocs: list[int] = []
        launches: list[Launch] = []
        for at, launch in enumerate(plan.launches(index, plan.held.attempts(index), lanes)):
            if isinstance(launch, Unstartable):
                self._refuse(base + int(index[at]), launch, lanes[at])
            else:
                allocs.append(lanes[at].alloc + 1)
                launches.append(launch)
        if launches:
            self._spawner.start(lanes[0].pool, allocs, launches)

    def _queue(
        self, pool: int, state: _Pool, bulk: int, plan: Plan | Unstartable, index: npt.NDArray[np.int64]
    ) -> None:
        made: list[Launch | Unstartable]
        made = [plan] * len(index) if isinstance(plan, Unstartable) else []
        if isinstance(plan, Plan):
            made = plan.launches(index, plan.held.attempts(index), None)
        launches = [launch for launch in made if isinstance(launch, Launch)]
        if len(launches) < len(made):
            for i, launch in zip(index.tolist(), made, strict=True):
                if isinstance(launch, Unstartable):
                    self._refuse((bulk << INDEX_BITS) + i, launch, None)
        if launches:
            self._spawner.queue(pool, launches)
            state.inside = True

    def _ready(self, tokens: list[int]) -> None:
        """Start those of ``tokens`` that still wait for an environment which is decided now."""
        left = np.array([token for token in tokens if token in self._unready], np.uint64)
        for bulk, where, index in by_bulk(left):
            self._start(bulk, index, [self._unready.pop(token) for token in left[where].tolist()])
        self._serve_idle()

    def _refuse(self, token: int, why: Unstartable, lane: Lane | None) -> None:
        node = lane.node if lane is not None else 0
        self._news.row(Row(token, TaskState.FAILED, why.cause, node=node, note=why.note))
        if lane is not None:
            self._idle.append(lane)

    def _serve_idle(self) -> None:
        """Give allocations whose task is over to the next in line, or back."""
        while self._idle:
            lane = self._idle.popleft()
            state = self._pools[lane.pool]
            if state.inside:
                if self._spawner.feed(lane.pool, lane.alloc + 1, lane.cpus):
                    continue
                state.inside = False
            if state.backlog:
                token = state.backlog.popleft()
                self._start(token >> INDEX_BITS, np.array([token & INDEX_MASK]), [lane])
                continue
            del self._lanes[lane.alloc]
            state.lanes -= 1
            self._news.freed.append(lane.alloc)

    # ------------------------------------------------------------ ranks

    def _start_group(self, token: int, plan: Plan, lane: Lane, first: Launch | Unstartable) -> None:
        if isinstance(first, Unstartable):
            self._refuse(token, first, lane)
            return
        group = self._groups[token] = _Group(token, plan, lane, first)
        if plan.around[0]:
            self._start_hook(group, "pre_launch")
        else:
            self._start_ranks(group)

    def _start_ranks(self, group: _Group) -> None:
        plan, lane, first = group.plan, group.lane, group.first
        launches = []
        for at in range(len(lane.ranks)):
            number = self._internal(partial(self._rank_news, group, at))
            group.left.add(number)
            launches.append(plan.rank(first, lane, at, number))
        # A pool of its own: these allocations pass on by way of the group, not from rank to rank.
        self._spawner.start(launches[0].token, [lane.alloc + 1] * len(launches), launches)

    def _start_hook(self, group: _Group, name: str) -> None:
        number = self._internal(partial(self._hook_news, group, name))
        group.left.add(number)
        launch = group.plan.hook(group.first, group.lane, name, number, group.code)
        self._spawner.start(number, [group.lane.alloc + 1], [launch])

    def _hook_news(self, group: _Group, name: str, event: np.void) -> None:
        """Go on when lines before or after all ranks are done."""
        kind = int(event["kind"])
        if kind not in (ENDED, FAILED, CANCELLED):
            return
        group.left.discard(int(event["token"]))
        code = os.waitstatus_to_exitcode(int(event["status"])) if kind == ENDED else 0
        if kind == ENDED:
            group.flags |= int(event["flags"]) & TIMED_OUT
            group.row.started = group.row.started or float(event["started"])
            group.row.ended = max(group.row.ended, float(event["ended"]))
        if kind == FAILED and not group.cause:
            group.cause, group.note = self._start_note(group.token, event)
        elif code and not group.code and not group.cause:
            group.code = code
            last = tail(os.fsdecode(group.first.cwd), f"{name}.log")
            group.note = f"hook {name} ended with {code_note(code)}" + (f": {last}" if last else "")
        ok = not (group.code or group.cause or group.flags & (WAS_CANCELLED | TIMED_OUT))
        if ok and name == "pre_launch":
            self._start_ranks(group)
        else:
            self._end_group(group)

    def _rank_news(self, group: _Group, at: int, event: np.void) -> None:
        row = group.row
        started = float(event["started"])
        if started and (not row.started or started < row.started):
            if not row.started:
                self._news.start(group.token, row.node, started)
            row.started = started
        kind = int(event["kind"])
        if kind not in (ENDED, FAILED, CANCELLED):
            return
        group.left.discard(int(event["token"]))
        row.ended = max(row.ended, float(event["ended"]))
        row.user += float(event["user"])
        row.sys += float(event["sys"])
        row.rss = max(row.rss, int(event["maxrss"]))
        rank = group.lane.ranks[at][0]
        if kind == FAILED and not group.cause:
            group.cause, group.note = self._start_note(group.token, event)
        elif kind == ENDED:
            group.flags |= int(event["flags"]) & TIMED_OUT
            code = os.waitstatus_to_exitcode(int(event["status"]))
            if code and not group.code and not group.cause:
                group.code = code
                group.note = f"rank {rank}: {self._end_note(group.token, code, rank)}"
        if (group.code or group.cause) and group.left and not group.flags & WAS_CANCELLED:
            self._spawner.cancel(list(group.left))
        if not group.left:
            by_itself = not (group.cause or group.flags & (WAS_CANCELLED | TIMED_OUT))
            if group.plan.around[1] and by_itself:
                self._start_hook(group, "post_launch")
            else:
                self._end_group(group)

    def _end_group(self, group: _Group) -> None:
        row = group.row
        row.code, row.note = group.code, group.note
        if group.flags & WAS_CANCELLED:
            row.state, row.cause, row.note = TaskState.CANCELED, Cause.USER_CANCEL, ""
        elif group.flags & TIMED_OUT:
            row.state, row.cause, row.note = TaskState.FAILED, Cause.TASK_TIMEOUT, self._timeout_note(group.plan)
        elif group.cause or group.code:
            row.state, row.cause = TaskState.FAILED, group.cause or Cause.TASK_EXIT
        del self._groups[group.token]
        self._news.row(row)
        self._idle.append(group.lane)

    # ------------------------------------------------------------ ends

    def take(self, events: npt.NDArray[np.void]) -> None:
        """Take the spawner's events about tasks in."""
        kind = events["kind"]
        begun = events[kind == 1]
        if len(begun):
            nodes = self._nodes(begun["alloc"])
            self._news.begun.append(Begun(begun["token"] - np.uint64(1), nodes, begun["started"].copy()))
        over = events[kind >= ENDED] if len(begun) else events
        if len(over):
            self._over(over)

    def _nodes(self, allocs: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
        if self._one_node:
            return np.zeros(len(allocs), np.uint32)
        unique, inverse = np.unique(allocs, return_inverse=True)
        lanes = [self._lanes.get(alloc - 1) for alloc in unique.tolist()]
        return np.array([lane.node if lane else 0 for lane in lanes], np.uint32)[inverse]

    def _over(self, over: npt.NDArray[np.void]) -> None:
        kind, status, flags = over["kind"], over["status"], over["flags"]
        count = len(over)
        tokens = over["token"] - np.uint64(1)
        state, cause = np.full(count, _DONE, np.uint8), np.zeros(count, np.uint8)
        code = np.zeros(count, np.int32)
        timed_out = (flags & TIMED_OUT) != 0
        # Nearly always nothing went wrong, and a turn is short: the rest is worked out only when there is a reason.
        if status.any() or (kind != ENDED).any() or (flags & (TIMED_OUT | WAS_CANCELLED)).any():
            low = status & 0x7F
            code = np.where(kind == ENDED, np.where(low == 0, (status >> 8) & 0xFF, -low), 0).astype(np.int32)
            failed = (code != 0) | (kind == FAILED)
            canceled = ((flags & WAS_CANCELLED) != 0) | (kind == CANCELLED)
            state[failed | timed_out] = TaskState.FAILED
            cause[failed] = Cause.TASK_EXIT
            cause[kind == FAILED] = Cause.START_FAILED
            cause[timed_out] = Cause.TASK_TIMEOUT
            state[canceled], cause[canceled] = TaskState.CANCELED, Cause.USER_CANCEL
        news = Finished(
            tokens,
            state,
            cause,
            code,
            self._nodes(over["alloc"]),
            over["started"],
            over["ended"],
            over["user"],
            over["sys"],
            over["maxrss"],
        )
        self._tails = TAILS_PER_TURN
        for at in np.flatnonzero(state == _FAILED).tolist():
            token = int(tokens[at])
            if timed_out[at]:
                plan = self._plans.get(token >> INDEX_BITS)
                news.notes[at] = self._timeout_note(plan if isinstance(plan, Plan) else None)
            elif kind[at] == FAILED:
                why, news.notes[at] = self._start_note(token, over[at])
                news.cause[at] = why
            else:
                news.notes[at] = self._end_note(token, int(code[at]), 0)
        self._news.finished.append(news)
        back = over["alloc"][(over["successor"] == 0) & (over["alloc"] != 0)]
        self._idle.extend(self._lanes[alloc - 1] for alloc in back.tolist())
        self._serve_idle()

    # ------------------------------------------------------------ notes for people

    @staticmethod
    def _timeout_note(plan: Plan | None) -> str:
        return f"ran longer than its timeout of {plan.template.timeout:g} s" if plan is not None else "timed out"

    def _place(self, token: int) -> tuple[Plan | None, str, dict[str, int | float | str | bytes]]:
        """Return (plan, working directory, column values) of a task that was started."""
        plan = self._plans.get(token >> INDEX_BITS)
        if not isinstance(plan, Plan):
            return None, "", {}
        index = np.array([token & INDEX_MASK], np.int64)
        try:
            row = plan.rows(index)[0]
            return plan, plan.folder(int(index[0]), int(plan.held.attempts(index)[0]), row), row
        except (KeyError, Unstartable):
            return None, "", {}

    def _start_note(self, token: int, event: np.void) -> tuple[Cause, str]:
        number = int(event["error"])
        step = STEPS[int(event["step"])] if int(event["step"]) < len(STEPS) else ""
        why = os.strerror(number) if number else "unknown error"
        cause = Cause.DISK_FULL if number in _FULL else Cause.START_FAILED
        plan, folder, row = self._place(token)
        if number == errno.EPIPE:
            # Not the task's fault: what starts processes here was killed, with all that it had started.
            return Cause.AGENT_LOST, "the program that starts processes on this node has died"
        if plan is None:
            return cause, f"{step}: {why}"
        if step == "cwd":
            return cause, f"sandbox {folder}: {why}"
        if step in ("stdin", "stdout", "stderr"):
            return cause, f"{step} {plan.text(step, row)!r} in {folder}: {why}"
        if step == "limits":
            return cause, f"its limits or cores were refused: {why}"
        if step != "exec":
            return cause, f"no process could be made: {why}"
        return cause, exec_note(plan.text("executable", row), folder, number, why)

    def _end_note(self, token: int, code: int, rank: int) -> str:
        note = code_note(code)
        if self._tails <= 0:
            return note
        self._tails -= 1
        plan, folder, row = self._place(token)
        if plan is None:
            return note
        last = tail(folder, plan.text("stderr", row) + (f".{rank}" if rank else ""))
        return f"{note}; stderr ends: {last}" if last else note
