"""The controller: it starts jobs, ends those that must end, and writes down how they ended. It ends with the last job.

Every program of the batch system may decide what is due (:func:`advance`); only the controller touches processes. There
is one at a time, whoever starts it; jobs go on without it, and the next one finds them again by their files. Read next:
:mod:`.schedule` (the decisions), :mod:`.processes`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time

from . import processes, schedule
from .named import programs
from .schedule import ENDING, RUNNING, WAITING, Job
from .store import State, Store

# It looks at its jobs at least so often, s: a first process that was killed tells nobody.
LOOK = 1.0


def advance(store: Store, state: State, now: float) -> None:
    """Take every decision that is due and write down which bookings are over; the lock must be held."""
    while True:
        made = schedule.turn(state.nodes, state.jobs, now)
        for job, end in made.over:
            store.record(job, job.becomes or "COMPLETED", None if job.becomes else 0, end)
        if not (made.over or made.started):
            return


def needed(state: State) -> bool:
    """Is there a job that somebody must start, watch or end?"""
    return any(not (job.state == WAITING and job.held) for job in state.real)


def ring(store: Store, state: State) -> None:
    """Have a controller look at the jobs, if any need one; the lock must be held."""
    if not needed(state):
        return
    try:
        bell = os.open(store.bell, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody listens
        with (store.place / "controller.log").open("ab") as log:
            subprocess.Popen(
                [str(programs(store) / "simbatch"), "control"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        return
    with contextlib.suppress(OSError):  # full: it will look anyway
        os.write(bell, b"x")
    os.close(bell)


class Controller:
    """The one that is there."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._programs = str(programs(store))
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._cleared: set[tuple[int, int, str]] = set()  # (job, start, node) of which nothing runs any more

    def run(self) -> None:
        """Look after jobs until none is left; returns at once when another controller is there."""
        with (self._store.place / "controller.lock").open("a") as only:
            try:
                fcntl.flock(only, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            if not self._store.bell.exists():
                os.mkfifo(self._store.bell, 0o600)
            bell = os.open(self._store.bell, os.O_RDWR | os.O_NONBLOCK)
            while True:
                with self._store.open() as state:
                    now = time.time()
                    wait = self._turn(state, now)
                    if wait is None:
                        # Under the lock: who submits next finds nobody listening, and starts another.
                        os.close(bell)
                        fcntl.flock(only, fcntl.LOCK_UN)
                        return
                if select.select([bell], [], [], wait)[0]:
                    with contextlib.suppress(BlockingIOError):
                        os.read(bell, 4096)

    def _turn(self, state: State, now: float) -> float | None:
        """Do all that is due; return for how long nothing will be, s, None when nothing is left."""
        for job in list(state.real):
            self._look(state, job, now)
        advance(self._store, state, now)
        for job in list(state.real):
            if job.state == RUNNING and not job.pid:
                self._start(state, job)
            elif job.state == ENDING:
                self._end(state, job, now)
            elif job.state == RUNNING:
                self._tend(state, job)
        if not needed(state):
            return None
        ending = any(job.state == ENDING or (job.lost and job.state == RUNNING) for job in state.jobs)
        moment = schedule.next_moment(state.nodes, state.jobs, now)
        return min(0.2 if ending else LOOK, max(0.01, moment - now) if moment is not None else LOOK)

    def _start(self, state: State, job: Job) -> None:
        try:
            child = processes.start(self._store, state, job, self._programs)
        except (OSError, ValueError) as error:
            self._over(state, job, "LAUNCH_FAILED", None, time.time(), str(error))
            return
        self._children[job.id] = child
        job.pid = child.pid

    def _look(self, state: State, job: Job, now: float) -> None:
        """Take in the end of a job's first process."""
        child = self._children.get(job.id)
        if child is not None:
            child.poll()
        if job.holds and not job.pid:
            # A controller before this one may have got as far as starting it.
            with contextlib.suppress(OSError, ValueError):
                job.pid = int(self._store.file(job, "pid").read_text())
        if not job.holds or (job.state == RUNNING and not job.pid) or processes.alive(self._store, job):
            return
        self._children.pop(job.id, None)
        # What a job leaves behind ends with it.
        processes.end_at_once(processes.mark(state, job))
        code: int | None = None
        with contextlib.suppress(OSError, ValueError):
            code = int(self._store.file(job, "exit").read_text())
        for what in ("pid", "exit"):
            self._store.file(job, what).unlink(missing_ok=True)
        if schedule.again(job, now, state.settings.wait):
            return
        outcome = job.becomes or ("COMPLETED" if code == 0 else "FAILED")
        why = job.why or ("" if job.becomes or code is not None else "Killed")
        self._over(state, job, outcome, code, now, why)

    def _over(self, state: State, job: Job, outcome: str, code: int | None, now: float, why: str) -> None:
        job.why = why
        state.jobs.remove(job)
        self._store.file(job, "env").unlink(missing_ok=True)
        self._store.record(job, outcome, code, now)

    def _end(self, state: State, job: Job, now: float) -> None:
        """Ask once, then, after the grace, insist; nobody asks a job that lost its node."""
        word = processes.mark(state, job)
        if job.becomes == "NODE_FAIL" or now >= job.told + state.settings.grace:
            processes.end_at_once(word)
        elif not job.asked:
            job.asked = True
            if job.stopped:
                processes.send(processes.found(word), signal.SIGCONT)
            processes.ask_to_end(job)

    def _tend(self, state: State, job: Job) -> None:
        """Let a job stand still or go on, and end what runs on nodes that it lost."""
        word = processes.mark(state, job)
        if job.suspended != job.stopped:
            if job.suspended:
                processes.frozen(word)
            else:
                processes.send(processes.found(word), signal.SIGCONT)
            job.stopped = job.suspended
        for node in job.lost:
            if (job.id, job.restarts, node) not in self._cleared and not processes.end_at_once(word, node):
                self._cleared.add((job.id, job.restarts, node))


def main(store: Store) -> int:
    """Be the controller of a cluster for as long as there are jobs."""
    Controller(store).run()
    return 0
