"""The portable spawner: what NativeSpawner does, in Python, for macOS and for kernels without pidfds.

What it is: one thread per allocation in use. The thread starts a process with subprocess, waits for it, ends what is
left of its group, and goes on with the next queued launch of the pool. A further thread keeps the timeouts.

What it knows and does not know: it keeps the contract of `SpawnerLike` (process.py), checked by the same tests, with
differences that a person's own machine can bear. It starts some hundreds of processes a second, not thousands. The
peak memory of a task is at least that of this program (a child counts its parent's memory until it execs).
Tasks do not die by the kernel's hand when this program is killed (PDEATHSIG is Linux only); `jrm-guard` or the next
start must clear them away. Signals that this program ignores, apart from Python's own SIGPIPE and SIGXFSZ, stay
ignored in tasks.

Read next: process.py for the interface.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import heapq
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from jupyter_rm.runtime import process_types as base

__all__ = ["PortableSpawner"]

T = TypeVar("T")

CWD, STDIN, STDOUT, STDERR, EXEC, LIMITS, FORK = range(1, 8)

# Limits must be set by the process itself, between fork and exec, where Python code cannot run safely when there are
# threads. So a launch with limits takes a detour through a fresh interpreter that sets them and becomes the task.
DETOUR = """
import json, os, resource, sys
source, answer = int(sys.argv[1]), int(sys.argv[2])
os.set_inheritable(answer, False)
with os.fdopen(source, "rb") as f:
    argv, env, limits = json.load(f)
raw = lambda s: s.encode("latin-1")
step = 6
try:
    for which, soft, hard in limits:
        resource.setrlimit(which, (soft, hard))
    step = 5
    os.execve(raw(argv[0]), [raw(a) for a in argv], {raw(k): raw(v) for k, v in env})
except (OSError, ValueError) as e:
    os.write(answer, b"%d %d" % (step, getattr(e, "errno", None) or 22))
os._exit(127)
"""


class StartError(Exception):
    """A start failed at `step` with `code` (errno)."""

    def __init__(self, step: int, code: int) -> None:
        super().__init__(step, code)
        self.step, self.code = step, code


@dataclass(slots=True, eq=False)
class Job:
    launch: base.Launch
    pool: int
    alloc: int = 0
    cpus: Sequence[int] = ()
    state: str = "queued"  # queued ready running reaping sweeping over
    flags: int = 0
    termed: bool = False
    pid: int = -1
    status: int = 0
    started: float = 0.0
    ended: float = 0.0
    usage: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # user s, sys s, max RSS KiB


class PortableSpawner:
    """`SpawnerLike` without C++; see the module's text for the differences."""

    def __init__(self, threads: int = 0, sweep: bool = True) -> None:  # noqa: ARG002  (one thread per allocation)
        self._sweep = sweep
        self._lock = threading.Condition()
        self._jobs: dict[int, Job] = {}
        self._pools: dict[int, deque[Job]] = {}
        self._envs: list[dict[bytes, bytes]] = []
        self._events: list[tuple[object, ...]] = []
        self._alarms: list[tuple[float, int, Job, str]] = []
        self._numbers = itertools.count()
        self._live = 0
        self._closed = False
        self._grace = float("inf")  # what `close` allows
        self._signalled = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        # Inherited by every task. Only the soft limit: lowering the hard one could not be undone for this program.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        self._clock: threading.Thread | None = None
        # The kernel ends nothing for us when this program ends, so an orderly end must do it.
        atexit.register(_close_at_exit, weakref.ref(self))

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            os.close(self._read)
            os.close(self._write)

    # ---- the interface ------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._read

    def env(self, items: Iterable[bytes]) -> int:
        self._envs.append(_env_dict(items))
        return len(self._envs)

    def start(self, pool: int, allocs: Sequence[int], launches: Sequence[base.Launch]) -> None:
        if len(allocs) != len(launches):
            raise ValueError("start: one allocation per launch")
        with self._lock:
            for job, alloc in zip(self._accept(pool, launches), allocs, strict=True):
                self._begin(job, alloc, job.launch.cpus)

    def queue(self, pool: int, launches: Sequence[base.Launch]) -> None:
        with self._lock:
            self._pools.setdefault(pool, deque()).extend(self._accept(pool, launches))

    def feed(self, pool: int, alloc: int, cpus: Sequence[int] = ()) -> int:
        with self._lock:
            job = None if self._closed else self._next_of(pool)
            if job is None:
                return 0
            self._begin(job, alloc, cpus)
            return job.launch.token

    def retract(self, pool: int, n: int = -1) -> list[int]:
        with self._lock:
            line = self._pools.get(pool, deque())
            tokens: list[int] = []
            while line and (n < 0 or len(tokens) < n):
                job = line.pop()
                del self._jobs[job.launch.token]
                tokens.append(job.launch.token)
            return tokens

    def cancel(self, tokens: Sequence[int]) -> None:
        with self._lock:
            for token in tokens:
                if job := self._jobs.get(int(token)):
                    self._cancel_one(job, base.WAS_CANCELLED, job.launch.grace)

    def signal(self, token: int, sig: int) -> bool:
        with self._lock:
            job = self._jobs.get(token)
            return job is not None and _there(job) and _kill(job.pid, sig)

    def events(self) -> npt.NDArray[np.void]:
        with self._lock:
            rows, self._events = self._events, []
            self._signalled = False
            with contextlib.suppress(BlockingIOError):
                os.read(self._read, 64)
        return np.array(rows, dtype=base.EVENT)

    def knows(self, token: int) -> bool:
        return token in self._jobs

    @property
    def adopter(self) -> int:
        return 0  # if anybody this process itself, which cannot tell them from its own children

    @property
    def alive(self) -> bool:
        return not (self._closed and self._live == 0)

    @property
    def running(self) -> int:
        return self._live

    @property
    def queued(self) -> int:
        with self._lock:
            return len(self._jobs) - self._live

    def close(self, kill: bool = True, grace: float = 2.0) -> None:
        with self._lock:
            self._closed = True
            self._grace = grace
            for job in list(self._jobs.values()):
                if kill or job.state == "queued":
                    self._cancel_one(job, base.WAS_CANCELLED, min(grace, job.launch.grace))
            if kill:
                self._lock.wait_for(lambda: self._live == 0, grace + 3)
            self._lock.notify_all()

    # ---- under the lock -----------------------------------------------------------------------------------------

    def _accept(self, pool: int, launches: Sequence[base.Launch]) -> list[Job]:
        if self._closed:
            raise RuntimeError("the spawner is closed")
        tokens = [launch.token for launch in launches]
        if 0 in tokens:
            raise ValueError("token 0 means none")
        for token in tokens:
            if token in self._jobs or len(set(tokens)) < len(tokens):
                raise ValueError(f"token {token} is in use")
        for launch in launches:
            _check(launch, len(self._envs))
        jobs = [Job(launch, pool) for launch in launches]
        self._jobs.update(zip(tokens, jobs, strict=True))
        return jobs

    def _begin(self, job: Job, alloc: int, cpus: Sequence[int]) -> None:
        job.alloc, job.cpus, job.state = alloc, cpus, "ready"
        self._live += 1
        if self._clock is None:
            self._clock = threading.Thread(target=self._keep_time, daemon=True, name="jrm-spawn-clock")
            self._clock.start()
        threading.Thread(target=self._chain, args=(job,), daemon=True, name="jrm-spawn").start()

    def _next_of(self, pool: int) -> Job | None:
        line = self._pools.get(pool)
        return line.popleft() if line else None

    def _push(self, job: Job, kind: int, step: int = 0, code: int = 0, successor: int = 0) -> None:
        flags = job.flags | (base.CORE_PASSED_ON if successor else 0)
        user, system, maxrss = job.usage
        row = (job.launch.token, job.alloc, successor, job.started, job.ended, job.pid, job.status, code, user, system)
        self._events.append((*row, int(maxrss), kind, step, flags, (0,) * 5))
        if not self._signalled:
            self._signalled = True
            os.write(self._write, b"!")

    def _cancel_one(self, job: Job, flag: int, grace: float) -> None:
        if job.state == "queued":
            job.flags |= flag
            job.state = "over"
            self._pools[job.pool].remove(job)
            del self._jobs[job.launch.token]
            self._push(job, base.CANCELLED)
        elif job.state in ("ready", "running"):
            job.flags |= flag
        if job.state in ("running", "sweeping"):
            self._term(job, grace)
        elif job.state == "reaping":
            job.termed = True

    def _term(self, job: Job, grace: float) -> None:
        job.termed = True
        if not _there(job):
            return  # the next look finds it over
        _kill(job.pid, signal.SIGTERM)
        _kill(job.pid, signal.SIGCONT)  # a stopped process cannot act on TERM
        self._alarm(job, "kill", grace)

    def _alarm(self, job: Job, what: str, delay: float) -> None:
        heapq.heappush(self._alarms, (time.monotonic() + delay, next(self._numbers), job, what))
        self._lock.notify_all()

    def _finish(self, job: Job, kind: int, step: int = 0, code: int = 0) -> Job | None:
        heir = None if self._closed else self._next_of(job.pool)
        self._push(job, kind, step, code, heir.launch.token if heir else 0)
        job.state = "over"
        del self._jobs[job.launch.token]
        if heir:
            heir.alloc, heir.cpus, heir.state = job.alloc, job.cpus, "ready"
            return heir
        self._live -= 1
        self._lock.notify_all()
        return None

    # ---- threads ------------------------------------------------------------------------------------------------

    def _keep_time(self) -> None:
        with self._lock:
            while not (self._closed and self._live == 0):
                now = time.monotonic()
                while self._alarms and self._alarms[0][0] <= now:
                    _, _, job, what = heapq.heappop(self._alarms)
                    if what == "timeout" and job.state == "running":
                        self._cancel_one(job, base.TIMED_OUT, job.launch.grace)
                    elif what == "kill" and _there(job):
                        _kill(job.pid, signal.SIGKILL)
                    elif what == "kill" and job.state == "reaping":
                        self._alarm(job, "kill", 0.01)
                self._lock.wait(self._alarms[0][0] - now if self._alarms else None)

    def _chain(self, first: Job) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # tasks inherit the mask of the thread that starts them
        job: Job | None = first
        while job:
            job = self._run(job)

    def _run(self, job: Job) -> Job | None:
        with self._lock:
            if job.flags & base.WAS_CANCELLED:
                return self._finish(job, base.CANCELLED)
        job.started = time.time()
        try:
            pid = self._spawn(job)
        except StartError as e:
            with self._lock:
                job.ended = time.time()
                return self._finish(job, base.FAILED, e.step, e.code)
        with self._lock:
            job.pid, job.state = pid, "running"
            self._push(job, base.STARTED)
            if job.flags & base.WAS_CANCELLED:
                self._term(job, min(self._grace, job.launch.grace))
            if job.launch.timeout > 0:
                self._alarm(job, "timeout", job.launch.timeout)
        if hasattr(os, "waitid"):  # wait without reaping: until then the number is ours and others may signal it
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            with self._lock:
                job.state = "reaping"
        status = _wait(job, 0)
        job.status = -1 if status is None else status
        with self._lock:
            job.state = "reaping"
        job.ended = time.time()
        if _group_lives(pid):
            self._sweep_group(job)
        with self._lock:
            return self._finish(job, base.ENDED)

    def _sweep_group(self, job: Job) -> None:
        with self._lock:
            if not (self._sweep or job.termed):
                return
            job.state = "sweeping"
            self._term(job, min(self._grace, job.launch.grace))
        pause = 0.001
        while True:
            # Orphans come to this process when it is a subreaper; unreaped they would stay members of the group.
            while _wait(job, os.WNOHANG, -job.pid) is not None:
                pass
            if not _group_lives(job.pid):
                return
            time.sleep(pause)
            pause = min(0.05, pause * 2)

    # ---- one start ----------------------------------------------------------------------------------------------

    def _spawn(self, job: Job) -> int:
        launch = job.launch
        env = self._envs[launch.env - 1] | _env_dict(launch.extra_env)
        if launch.cwd:
            _at(CWD, lambda: os.makedirs(launch.cwd, 0o700, exist_ok=True))  # noqa: PTH103  (bytes)
        if job.cpus and hasattr(os, "sched_setaffinity"):
            cpus = job.cpus
            _at(LIMITS, lambda: os.sched_setaffinity(0, cpus))  # this thread's, and so the child's
        with contextlib.ExitStack() as stack:

            def file(step: int, name: bytes, flags: int) -> int:
                path = os.path.join(launch.cwd, name) if name else b"/dev/null"  # noqa: PTH118
                # Opening a FIFO must not wait for its other end; the flag is taken back for the task.
                fd = _at(step, lambda: os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600))
                os.set_blocking(fd, True)
                stack.callback(os.close, fd)
                return fd

            create = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            stdin = file(STDIN, launch.stdin, os.O_RDONLY)
            stdout = file(STDOUT, launch.stdout, create)
            stderr = stdout if launch.stderr == launch.stdout else file(STDERR, launch.stderr, create)
            argv: list[bytes | str] = list(launch.argv)
            answer, pass_fds = -1, cast(tuple[int, ...], ())
            if launch.limits:
                source = stack.enter_context(tempfile.TemporaryFile())
                args = [a.decode("latin-1") for a in launch.argv]
                pairs = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in env.items()]
                source.write(json.dumps([args, pairs, launch.limits]).encode())
                source.seek(0)
                answer, tell = os.pipe()
                stack.callback(os.close, answer)
                tell_once = stack.enter_context(os.fdopen(tell, "wb"))
                argv = [sys.executable, "-I", "-S", "-c", DETOUR, str(source.fileno()), str(tell)]
                pass_fds = (source.fileno(), tell)
            pid = _popen(argv, launch.cwd, env, (stdin, stdout, stderr), pass_fds)
            if launch.limits:
                tell_once.close()
                if said := os.read(answer, 64):  # empty: the detour's end closed on exec
                    _wait(job, 0, pid)
                    step, code = map(int, said.split())
                    raise StartError(step, code)
            return pid


def _close_at_exit(spawner: weakref.ref[PortableSpawner]) -> None:
    if (alive := spawner()) is not None:
        alive.close(grace=0.5)


def _popen(
    argv: list[bytes | str], cwd: bytes, env: dict[bytes, bytes], files: tuple[int, int, int], pass_fds: tuple[int, ...]
) -> int:
    try:
        child = subprocess.Popen(
            argv,
            executable=argv[0],
            stdin=files[0],
            stdout=files[1],
            stderr=files[2],
            cwd=cwd or None,
            env=env,
            start_new_session=True,
            umask=0o077,
            pass_fds=pass_fds,
        )
    except OSError as e:
        if e.filename is None:
            raise StartError(FORK, e.errno or errno.EAGAIN) from None
        raise StartError(CWD if cwd and e.filename == cwd else EXEC, e.errno or errno.ENOENT) from None
    child.returncode = 0  # the waiting is ours: subprocess need not look after it
    return child.pid


def _at(step: int, do: Callable[[], T]) -> T:
    try:
        return do()
    except OSError as e:
        raise StartError(step, e.errno or errno.EINVAL) from None


def _wait(job: Job, options: int, pid: int = 0) -> int | None:
    """wait4 for the job's process (or the group -pid): the status and the usage added; None when there is none."""
    try:
        got, status, ru = os.wait4(pid or job.pid, options)
    except ChildProcessError:
        return None
    if got == 0:
        return None
    job.usage[0] += ru.ru_utime
    job.usage[1] += ru.ru_stime
    job.usage[2] = max(job.usage[2], ru.ru_maxrss / (1024 if sys.platform == "darwin" else 1))
    return status


def _kill(group: int, sig: int) -> bool:
    """Send to a process group; False when nothing is left of it (or nothing that is ours)."""
    try:
        os.killpg(group, sig)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _group_lives(leader: int) -> bool:
    """Say whether the group of a reaped leader has members.

    No number of a group in use is given to a new process: when there is one with this number, our group is over and
    the one of that name is somebody else's.
    """
    if not _kill(leader, 0):
        return False
    try:
        os.kill(leader, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _there(job: Job) -> bool:
    """Say whether the process group of a job can be signalled."""
    return job.state == "running" or (job.state == "sweeping" and _group_lives(job.pid))


def _env_dict(items: Iterable[bytes]) -> dict[bytes, bytes]:
    out: dict[bytes, bytes] = {}
    for item in items:
        if not isinstance(item, bytes):
            raise TypeError("env must be bytes")
        if b"\0" in item:
            raise ValueError("env holds a zero byte")
        key, _, value = item.partition(b"=")
        out[key] = value
    return out


def _check(launch: base.Launch, envs: int) -> None:
    if not launch.argv:
        raise ValueError("argv is empty")
    if not 1 <= launch.env <= envs:
        raise ValueError("env: not an id given by env()")
    names = [launch.cwd, launch.stdin, launch.stdout, launch.stderr]
    for item in [*launch.argv, *launch.extra_env, *names]:
        if not isinstance(item, bytes):
            raise TypeError("argv, files and cwd must be bytes")
        if b"\0" in item:
            raise ValueError("argv, files and cwd must not hold a zero byte")
