"""Python calls: warm worker processes, kept busy in batches, replaced when they die.

Each allocation of a pool has one worker while calls of the pool run on it. Batches go to a worker over one pipe,
results come back over another, both as columns; a worker runs its calls in the order they were sent, so results need
no names. How much is sent ahead follows how long calls take: some 10 ms of work, nothing ahead of long
calls. A worker that is silent gives back what it has not begun, so nothing waits behind a call that turned out long.

Frames to a worker: kind, count, number, plan (u32 each), length (u64), body. Frames back: kind, count (u32), length,
serial number (u64), then started, ended (f8), sizes (u4), codes (u1) and the values. See
:mod:`~jupyter_rm.agent.worker` for the other side, :mod:`~jupyter_rm.agent.crew` for one worker as seen from here.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..core.holdings import Holdings
from ..model.columns import Column
from ..model.effects import Begun, Finished, TakenBack, Tokens
from ..model.ids import INDEX_BITS, by_bulk, tokens
from ..model.states import Cause, TaskState
from ..runtime.process import SpawnerLike
from . import worker as far
from .commands import Lane, Site, Slots, Unstartable
from .crew import GIVEN_BACK, HELLO, RESULTS, CallPlan, Ending, Frame, Kind, Worker, ended_note
from .environments import Captured, Environments, Internal
from .news import News, Row
from .seats import CallPool, Chunk, Seat

BATCH_BYTES = 1 << 20
# s without news after which a worker is asked to give back what it has not begun, then looked at again.
QUIET = (0.02, 0.25, 1.0)
# Times an idle worker is asked for the answer it owes, QUIET[1] s apart, before another one takes its seat.
ASKS_MOST = 8

CANCELED: Ending = (TaskState.CANCELED, Cause.USER_CANCEL, "")


class Workers:
    """All Python workers of one agent; arguments as for :class:`~jupyter_rm.agent.executables.Executables`."""

    def __init__(
        self,
        holdings: Holdings,
        slots: Callable[[int], Slots],
        site: Site,
        spawner: SpawnerLike,
        environments: Environments,
        internal: Internal,
        news: News,
        selector: selectors.BaseSelector,
    ) -> None:
        self._holdings, self._slots, self._site, self._spawner = holdings, slots, site, spawner
        self._environments, self._internal, self._news, self._selector = environments, internal, news, selector
        self._pools: dict[int, CallPool] = {}
        self._plans: dict[int, CallPlan] = {}
        self._workers: list[Worker] = []
        self._idle: dict[Kind, list[Worker]] = {}
        self._most = max(1, site.cores)
        self._closed = False

    # ------------------------------------------------------------ effects

    def launch(self, pool: int, tokens: Tokens, allocs: npt.NDArray[np.uint64]) -> None:
        """Run each call on its allocation."""
        state = self._pools.setdefault(pool, CallPool())
        seats = []
        for alloc, token in zip(allocs.tolist(), tokens.tolist(), strict=True):
            seat = Seat(Lane.of(alloc, pool, self._slots(alloc), self._site), state)
            seat.own.append((token >> INDEX_BITS, np.array([token & 0xFFFFFFFF], np.int64)))
            state.lanes[alloc] = seat
            seats.append(seat)
        for seat in seats:
            self._serve(seat)

    def ahead(self, pool: int, tokens: Tokens) -> None:
        """Queue calls behind the pool's allocations; they come straight back when it has none."""
        state = self._pools.setdefault(pool, CallPool())
        if not state.lanes:
            self._news.taken.append(TakenBack(pool, tokens))
            return
        for bulk, _, index in by_bulk(tokens):
            state.backlog.append((bulk, index))
        state.waiting += len(tokens)
        for seat in list(state.lanes.values()):
            self._serve(seat)

    def retract(self, pool: int) -> Tokens:
        """Take back what no worker has."""
        state = self._pools.get(pool)
        if state is None or not state.backlog:
            return np.zeros(0, np.uint64)
        back = [tokens(bulk, index) for bulk, index in state.backlog]
        state.backlog.clear()
        state.waiting = 0
        return np.concatenate(back)

    def kill(self, doomed: Tokens) -> None:
        """Cancel calls: those not begun are dropped, running ones are interrupted, and after the grace killed."""
        for state in self._pools.values():
            for queue in (state.backlog, *[seat.own for seat in state.lanes.values()]):
                dropped = self._drop(queue, doomed)
                if queue is state.backlog:
                    state.waiting -= dropped
        for worker in self._workers:
            flying = worker.flying()
            hit = flying[np.isin(flying, doomed)]
            for token in hit.tolist():
                worker.doomed.setdefault(token, CANCELED)
            if len(hit):
                worker.end_by = time.monotonic() + self._site.grace
                worker.recall()
        for state in self._pools.values():
            for seat in list(state.lanes.values()):
                self._serve(seat)

    def _drop(self, queue: deque[Chunk], doomed: Tokens) -> int:
        count = 0
        for _ in range(len(queue)):
            bulk, index = queue.popleft()
            hit = np.isin(tokens(bulk, index), doomed)
            for i in index[hit].tolist():
                self._end(bulk << INDEX_BITS | i, CANCELED)
            count += int(hit.sum())
            if not hit.all():
                queue.append((bulk, index[~hit]))
        return count

    def _end(self, token: int, how: Ending, node: int = 0, started: float = 0.0) -> None:
        ended = time.time() if started else 0.0
        self._news.row(Row(token, how[0], how[1], node=node, started=started, ended=ended, note=how[2]))

    # ------------------------------------------------------------ feeding workers

    def _plan(self, bulk: int) -> CallPlan | Captured:
        held = self._holdings.bulks[bulk]
        plan = self._plans.get(bulk)
        if plan is not None and plan.holds(held) and not plan.env.error:
            return plan
        try:
            where = self._site.environment(held.template.named_env)
            captured = self._environments.get(self._site.lines(held.template, "pre_exec"), where)
            if captured.env is None:
                return captured
            known, pairs = self._site.known, held.template.environment
            environment = {key: known(text, f"environment[{key!r}]") for key, text in pairs}
        except Unstartable as error:
            wrong = Captured(0)
            wrong.error = error.note
            return wrong
        if len(self._plans) > 512:
            self._plans = {number: p for number, p in self._plans.items() if number in self._holdings.bulks}
        plan = self._plans[bulk] = CallPlan(bulk, held, self._site, captured, environment)
        return plan

    def _serve(self, seat: Seat) -> None:
        """Give a seat's worker more to do, or the seat back when there is nothing left."""
        state = seat.pool
        share = max(1, -(-state.waiting // max(1, len(state.lanes))))  # leave something for the others
        while True:
            worker = seat.worker
            queue = seat.own or state.backlog
            if not queue:
                break
            if worker is not None and (not worker.ready or worker.held_back or worker.doomed):
                return
            if worker is not None and worker.quiet and worker.flight:
                return  # it is at a long call: nothing is to wait behind that
            room = 1 if worker is None else seat.room(worker)
            if room <= 0:
                return
            bulk, index = queue[0]
            plan = self._plan(bulk)
            if isinstance(plan, Captured):
                if plan.error:
                    queue.popleft()
                    state.waiting -= len(index) if queue is state.backlog else 0
                    for i in index.tolist():
                        self._end(bulk << INDEX_BITS | i, (TaskState.FAILED, Cause.ENV_FAILED, plan.error))
                    continue
                plan.waiters.append(lambda: self._serve(seat))
                return
            kind = self._kind(plan, seat.lane)
            if worker is not None and worker.kind != kind:
                if worker.flight:
                    return
                self._rest(worker)
                worker = None
            if worker is None:
                if not self._hire(seat, kind, plan):
                    queue.popleft()
                    continue
                continue
            if queue is seat.own:
                count = len(index)
            else:
                count = min(room, len(index), share)
                if count <= 0:
                    return
                share -= count
            if plan.sha not in self._holdings.functions:
                count = len(index)
                for i in index.tolist():
                    note = "its function has not reached the agent"
                    self._end(bulk << INDEX_BITS | i, (TaskState.FAILED, Cause.BAD_PAYLOAD, note))
            else:
                count = worker.send_calls(plan, self._holdings.functions[plan.sha], index[:count], BATCH_BYTES)
            if count == len(index):
                queue.popleft()
            else:
                queue[0] = (bulk, index[count:])
            if queue is state.backlog:
                state.waiting -= count
        if seat.worker is None or not seat.worker.flight:
            if seat.worker is not None:
                self._rest(seat.worker)
                seat.worker = None
            if state.lanes.pop(seat.lane.alloc, None) is not None:
                self._news.freed.append(seat.lane.alloc)

    def _kind(self, plan: CallPlan, lane: Lane) -> Kind:
        gpus = lane.ranks[0][3] if lane.ranks else []
        if not gpus:
            return plan.kind
        devices = ",".join(map(str, gpus))
        return (plan.kind[0], (*plan.kind[1], ("CUDA_VISIBLE_DEVICES", devices), ("ROCR_VISIBLE_DEVICES", devices)))

    # ------------------------------------------------------------ hiring and losing workers

    def _hire(self, seat: Seat, kind: Kind, plan: CallPlan) -> bool:
        """Seat a warm worker or a new one; False when none can be made (the first call has been failed for it)."""
        warm = self._idle.get(kind)
        if warm:
            worker = warm.pop()
            worker.move(seat.lane.cpus)
        else:
            if len(self._workers) >= self._most:
                self._dismiss_one()
            env = self._environments.register(plan.env, kind[1])
            try:
                os.makedirs(plan.cwd, 0o700, exist_ok=True)  # noqa: PTH103
                how = (kind, env, seat.lane.cpus, plan.cwd, self._spawner, self._selector)
                worker = Worker(*how, plan.env.python)
            except OSError as error:
                queue = seat.own or seat.pool.backlog
                bulk, index = queue[0]
                for i in index.tolist():
                    note = f"no Python worker can be made: {error}"
                    self._end(bulk << INDEX_BITS | i, (TaskState.FAILED, Cause.START_FAILED, note), seat.lane.node)
                seat.pool.waiting -= len(index) if queue is seat.pool.backlog else 0
                return False
            self._workers.append(worker)
            worker.start(self._internal(lambda event: self._process_news(worker, event)))
        worker.seat = seat
        seat.worker = worker
        if worker.held_back:  # it still owes an answer from before it was idle
            worker.due = time.monotonic() + QUIET[0]
        return True

    def _rest(self, worker: Worker) -> None:
        worker.seat = None
        worker.due = None
        self._idle.setdefault(worker.kind, []).append(worker)

    def _dismiss_one(self) -> None:
        for warm in self._idle.values():
            if warm:
                worker = warm.pop(0)
                self._workers.remove(worker)
                worker.dismiss()
                return

    def _let_go(self, worker: Worker, seat: Seat) -> None:
        """Put another worker on the seat of one that has nothing to do and no longer answers."""
        worker.seat = seat.worker = None
        self._workers.remove(worker)
        worker.dismiss()
        self._serve(seat)

    def _process_news(self, worker: Worker, event: np.void) -> None:
        if worker.take_event(event):
            return  # it runs
        if worker in self._workers:
            self._workers.remove(worker)
        for warm in self._idle.values():
            if worker in warm:
                warm.remove(worker)
        seat = worker.seat
        if isinstance(seat, Seat):
            self._read(worker)
            rest = worker.unsent_frame()
            if rest is not None:
                self._results(worker, seat, rest)
            self._bury(worker, seat, event)
        worker.bury()
        if isinstance(seat, Seat):
            self._serve(seat)

    def _bury(self, worker: Worker, seat: Seat, event: np.void) -> None:
        """Account for the calls of a worker that is dead: the running one is lost with it, the rest runs elsewhere."""
        seat.worker = None
        running = worker.running
        left = worker.take(worker.flight)
        note = ended_note(event, worker.err_file)
        cause = Cause.ENV_FAILED if worker.python and not worker.ready else Cause.WORKER_LOST
        lost: Ending = (TaskState.FAILED, cause, worker.refused or note)
        if running:
            token = int(left[0])
            how = worker.doomed.pop(token, lost)
            self._end(token, how, seat.lane.node, worker.running_since())
            left = left[1:]
        for token in [t for t in left.tolist() if t in worker.doomed]:
            self._end(token, CANCELED, seat.lane.node)
        if worker.doomed:
            left = left[~np.isin(left, np.array(list(worker.doomed), np.uint64))]
        seat.pool.push_front(left)
        if not worker.ready:  # it never got as far as its first call: another one would not either
            queue = seat.own or seat.pool.backlog
            plan = self._plan(queue[0][0]) if queue else None
            # What stands first by now may be of another kind: those that this one was for, another one has failed.
            if isinstance(plan, CallPlan) and self._kind(plan, seat.lane) == worker.kind:
                bulk, index = queue.popleft()
                seat.pool.waiting -= len(index) if queue is seat.pool.backlog else 0
                for i in index.tolist():
                    self._end(bulk << INDEX_BITS | i, lost, seat.lane.node)

    # ------------------------------------------------------------ news

    @property
    def busy(self) -> bool:
        """Say whether calls are under way."""
        return any(worker.flight or not worker.ready for worker in self._workers)

    def due(self) -> float | None:
        """Return when :meth:`turn` is to be called even without news (monotonic s), None: never."""
        times = [worker.due for worker in self._workers if worker.due is not None]
        return min(times) if times else None

    def turn(self, ready: list[object]) -> None:
        """Take in what workers sent, look after those that are quiet, send more."""
        for worker in ready:
            if isinstance(worker, Worker):
                worker.push()
                self._read(worker)
                if isinstance(worker.seat, Seat):
                    self._serve(worker.seat)
        now = time.monotonic()
        for worker in [one for one in self._workers if one.due is not None and one.due <= now]:
            self._look_after(worker, now)

    def _read(self, worker: Worker) -> None:
        for frame in worker.frames():
            seat = worker.seat
            if frame.kind == HELLO:
                worker.greet(frame.count)
            elif not isinstance(seat, Seat):
                worker.answered()  # asked while it was busy, answered when it was idle
            elif frame.kind == RESULTS:
                self._results(worker, seat, frame)
            elif frame.kind == GIVEN_BACK:
                self._given_back(worker, seat, frame)

    def _results(self, worker: Worker, seat: Seat, frame: Frame) -> None:
        count = frame.count
        done = worker.take(count)
        worker.counted(count)
        state = seat.pool
        mean = float((frame.ended - frame.started).mean()) if count > 1 else float(frame.ended[0] - frame.started[0])
        state.mean = mean if state.mean < 0 else 0.5 * state.mean + 0.5 * mean
        state.seen += count
        zeros, wide, seconds = np.zeros(count, np.uint8), np.zeros(count, np.uint32), np.zeros(count, np.float32)
        node = wide if not seat.lane.node else np.full(count, seat.lane.node, np.uint32)
        news = Finished(
            done,
            np.full(count, TaskState.DONE, np.uint8),
            zeros,
            wide.view(np.int32),
            node,
            frame.started,
            frame.ended,
            seconds,
            seconds,
            wide,
        )
        ends = np.cumsum(frame.sizes, dtype="<u8") if count > 1 else frame.sizes.astype("<u8")
        if any(frame.codes) if count == 1 else frame.codes.any():
            self._failures(worker, news, frame, ends)
        else:
            news.values = Column("bytes", count, data=frame.data, ends=ends.tobytes())
        for token in worker.doomed.keys() & set(done.tolist()) if worker.doomed else ():
            del worker.doomed[token]  # it was over before the order could reach it
        if not worker.doomed:
            worker.end_by = None
        self._news.finished.append(news)
        worker.quiet = 0
        # One that was asked to give back and has nothing left still owes its answer: its seat waits for that.
        worker.due = time.monotonic() + QUIET[0] if worker.flight or worker.held_back else None

    @staticmethod
    def _failures(worker: Worker, news: Finished, frame: Frame, ends: npt.NDArray[np.uint64]) -> None:
        news.cause = news.cause.copy()
        values, start = [], 0
        for at, (end, code) in enumerate(zip(ends.tolist(), frame.codes.tolist(), strict=True)):
            value = frame.data[start:end]
            start = end
            if code == far.DONE:
                values.append(value)
                continue
            size = int.from_bytes(value[:4], "little")
            note = value[4 : 4 + size].decode("utf-8", "replace")
            values.append(value[4 + size :])
            how: Ending = (TaskState.FAILED, Cause.CALL_RAISED, note)
            if code == far.BAD:
                how = (TaskState.FAILED, Cause.BAD_PAYLOAD, note)
            elif code == far.NO_SPACE:
                how = (TaskState.FAILED, Cause.DISK_FULL, note)
            elif code == far.BROKEN_OFF:
                how = worker.doomed.get(int(news.tokens[at]), CANCELED)
            news.state[at], news.cause[at] = how[0], how[1]
            if how[2]:
                news.notes[at] = how[2]
        news.values = Column.of_bytes(values)

    def _given_back(self, worker: Worker, seat: Seat, frame: Frame) -> None:
        back = worker.take_back(frame.count, frame.serial)
        worker.answered()
        if worker.doomed:
            hit = np.isin(back, np.array(list(worker.doomed), np.uint64))
            for token in back[hit].tolist():
                self._end(token, worker.doomed.pop(token), seat.lane.node)
            back = back[~hit]
        seat.pool.push_front(back)
        if worker.running and worker.running_token() in worker.doomed:
            worker.signal(signal.SIGINT)
            worker.end_by = worker.end_by or time.monotonic() + self._site.grace
            worker.due = worker.end_by
        elif worker.doomed:
            worker.due = time.monotonic() + QUIET[0]
        else:
            worker.end_by = None
        if len(back):
            for other in list(seat.pool.lanes.values()):
                if other is not seat:
                    self._serve(other)

    def _hand_back(self, seat: Seat) -> None:
        """Return what is queued behind nothing but long calls: elsewhere it might start at once."""
        state = seat.pool
        if state.backlog and all(s.worker is not None and s.worker.quiet > 1 for s in state.lanes.values()):
            self._news.taken.append(TakenBack(seat.lane.pool, self.retract(seat.lane.pool)))

    def _look_after(self, worker: Worker, now: float) -> None:
        """See what a worker without news is doing: a long call, one that ran out of time, one that will not end."""
        seat = worker.seat
        if isinstance(seat, Seat) and worker.held_back and not worker.flight:
            # The signal may come just before the worker waits for its input, and Python sees it only after that; or a
            # call took the signal for itself: such a worker will never answer.
            if worker.asks >= ASKS_MOST:
                self._let_go(worker, seat)
                return
            worker.asks += 1
            worker.recall()
            worker.due = now + QUIET[1]
            return
        if not isinstance(seat, Seat) or not worker.flight:
            worker.due = None
            return
        if not worker.ready:
            worker.due = now + QUIET[-1]
            return
        running = worker.running_token() if worker.running else None
        if running is not None:
            since = worker.since(now)
            if worker.told != worker.begun:
                worker.told = worker.begun
                started = np.array([worker.running_since()])
                node = np.array([seat.lane.node], np.uint32)
                self._news.begun.append(Begun(np.array([running], np.uint64), node, started))
            limit = self._limit(running)
            if limit and now - since >= limit and running not in worker.doomed:
                note = f"ran longer than its timeout of {limit:g} s"
                worker.doomed[running] = (TaskState.FAILED, Cause.TASK_TIMEOUT, note)
                worker.end_by = now + self._site.grace
                worker.recall()
            if running in worker.doomed and worker.end_by is not None and now >= worker.end_by:
                worker.kill()  # its end is reported with the news that the worker is gone
        worker.quiet = min(worker.quiet + 1, len(QUIET) - 1)
        if running is not None:
            self._hand_back(seat)
        if worker.flight > 1 or worker.unsent or worker.doomed or worker.wrote():
            worker.recall()
        times = [now + QUIET[worker.quiet]]
        if running is not None and (limit := self._limit(running)) and running not in worker.doomed:
            times.append(max(now + 0.005, worker.since(now) + limit))
        if worker.end_by is not None:
            times.append(max(now + 0.005, worker.end_by))
        worker.due = min(times)

    def _limit(self, token: int) -> float:
        held = self._holdings.bulks.get(token >> INDEX_BITS)
        return held.template.timeout if held is not None else 0.0

    def close(self) -> None:
        """Let all workers go."""
        self._closed = True
        for worker in self._workers:
            worker.dismiss()
        self._workers.clear()
