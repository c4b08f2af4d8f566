"""Pilots on this machine: starting an agent, knowing whether it lives, ending it.

The job of a local pilot is a guard process with the agent under it. A lock that guard and agent inherit says whether
anything of the job is alive: it needs no process id, survives the broker, and cannot be mistaken after a reboot.
Starting twice is harmless: the second start finds the lock held and adopts what runs. Next: :mod:`jupyter_rm.agent`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from ..core.session import SITES
from ..model.effects import EndPilot, Input, JobChanged, StartPilot
from ..model.states import Cause, PilotState
from ..runtime.drive import Drive
from ..runtime.home import Home, private_directory, write_private
from ..runtime.process import guard_path
from ..wire import letters
from .parcel import loaded_here
from .remains import left_here

log = logging.getLogger("jupyter_rm.broker")
AGENT_RESTARTS = 20
END_GRACE = 10.0


def first_number(home: Home) -> int:
    """Return a number above those of all sessions that ever had a pilot here, even if the journal was lost."""
    numbers = [-1]
    for place in (home.state_path / "pilots", home.sandbox_path):
        if place.is_dir():
            numbers += [int(found.name.partition("-")[0]) for found in place.glob("[0-9]*-*")]
    return max(numbers) + 1


class _Job:
    def __init__(self, session: str, pilot: int, place: Path) -> None:
        self.session, self.pilot, self.place = session, pilot, place
        self.pid = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.pidfd = -1
        self.ended = False


class LocalJobs:
    """The agents of this machine, as the broker starts and watches them.

    Args:
        tell: takes news in.
        endpoint: where agents find the broker.
    """

    def __init__(self, home: Home, drive: Drive, endpoint: str, tell: Callable[[Input], None]) -> None:
        self._home = home
        self._drive = drive
        self._endpoint = endpoint
        self._tell = tell
        self._jobs: dict[tuple[str, int], _Job] = {}
        drive.every(1.0, self._look)

    @property
    def alive(self) -> int:
        """Return how many agents run."""
        return len(self._jobs)

    def start(self, order: StartPilot) -> None:
        """Start the agent of a pilot, or find the one that runs already."""
        key = (order.session, order.pilot)
        if key in self._jobs:
            return
        if order.spec.site not in SITES:
            self._fail(order, Cause.SUBMIT_REJECTED, f"site {order.spec.site!r} is not known here")
            return
        try:
            place = private_directory(self._home.state / "pilots" / order.session / f"p.{order.pilot}")
            self._start(order, place)
        except OSError as error:
            self._fail(order, Cause.BOOT_STEP_FAILED, f"the agent could not be started: {error}")
        except Exception as error:
            log.exception("start of pilot %s failed", key)
            self._fail(order, Cause.BOOT_STEP_FAILED, f"the agent could not be started: {error}")

    def _fail(self, order: StartPilot, cause: Cause, reason: str) -> None:
        self._tell(JobChanged(order.session, order.pilot, False, cause=int(cause), reason=reason))

    def _start(self, order: StartPilot, place: Path) -> None:
        job = _Job(order.session, order.pilot, place)
        lock = os.open(place / "alive.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                job.pid = int(os.pread(lock, 20, 0) or b"0")
                log.info("pilot %s p.%d runs already, pid %d", order.session, order.pilot, job.pid)
                self._watch(job)
                return
            if (place / "started").exists():
                # It ran in an earlier life of the broker and is gone: one pilot is one job, never two.
                self._tell(left_here(order.session, order.pilot, place))
                self._tell(JobChanged(order.session, order.pilot, False, reason=self._last_words(place)))
                return
            spec = {
                "session": order.session,
                "pilot": order.pilot,
                "endpoint": self._endpoint,
                "site": order.spec.site,
                "nodes": order.spec.nodes,
                "cores": order.spec.cores,
                "gpus": order.spec.gpus,
                "mem": order.spec.mem,
                "walltime": order.spec.walltime,
                "drain": order.spec.drain,
                "backup": order.spec.backup,
                "partitions": order.spec.partitions,
                "resources": order.spec.resources,
                "launch": order.spec.launch,
                "hooks": order.spec.hooks,
                "envs": order.spec.envs,
                "since": self._drive.clock.now(),
                "place": str(place),
                "sandbox": str(self._sandbox(order)),
                "bundle": order.spec.bundle,
            }
            if order.spec.bundle:
                write_private(place / letters.WORK, msgspec.msgpack.encode(loaded_here(order.orders)))
            write_private(place / "spec.json", json.dumps(spec).encode())
            write_private(place / "started", b"")
            with (place / "agent.log").open("ab") as out:
                job.process = subprocess.Popen(
                    [*self._guard(place), sys.executable, "-m", "jupyter_rm.agent", str(place / "spec.json")],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    cwd="/",
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            job.pid = job.process.pid
            os.pwrite(lock, b"%-20d" % job.pid, 0)
        finally:
            os.close(lock)
        self._watch(job)
        self._tell(
            JobChanged(
                order.session,
                order.pilot,
                True,
                int(PilotState.STARTING),
                job_id=str(job.pid),
                reason="the agent is starting",
            )
        )

    def _sandbox(self, order: StartPilot) -> Path:
        if order.spec.sandbox:
            # From home, as at every other site: where a broker was started is nobody's business.
            return private_directory(Path.home() / Path(order.spec.sandbox).expanduser())
        return private_directory(self._home.sandboxes / order.session / f"p.{order.pilot}")

    @staticmethod
    def _guard(place: Path) -> list[str]:
        guard = guard_path()
        if guard is None:
            return []
        return [str(guard), "-r", str(AGENT_RESTARTS), "-o", str(place / "guard.log"), "--"]

    def _watch(self, job: _Job) -> None:
        self._jobs[job.session, job.pilot] = job
        if job.pid and hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                job.pidfd = os.pidfd_open(job.pid)
                self._drive.watch(job.pidfd, self._look)

    def _look(self) -> None:
        for key, job in list(self._jobs.items()):
            if job.process is not None:
                job.process.poll()
            if self._gone(job):
                if job.pidfd >= 0:
                    self._drive.forget(job.pidfd)
                    os.close(job.pidfd)
                del self._jobs[key]
                self._tell(left_here(job.session, job.pilot, job.place))
                self._tell(
                    JobChanged(
                        job.session,
                        job.pilot,
                        False,
                        cause=0 if job.ended else int(Cause.AGENT_LOST),
                        reason=self._last_words(job.place),
                    )
                )

    @staticmethod
    def _gone(job: _Job) -> bool:
        try:
            lock = os.open(job.place / "alive.lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            # Somebody removed it, or no descriptor is left: then only the process itself is proof.
            return job.pid > 0 and not psutil.pid_exists(job.pid)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    @staticmethod
    def _last_words(place: Path) -> str:
        """Return the agent's last line, for people."""
        with contextlib.suppress(OSError):
            with (place / "agent.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
            if lines:
                return f"its agent ended; last words: {lines[-1][:300]} (log: {place / 'agent.log'})"
        return "its agent ended"

    def end(self, order: EndPilot) -> None:
        """Ask the agent to end; kill it if it does not."""
        job = self._jobs.get((order.session, order.pilot))
        if job is None or not job.pid or job.ended:
            return
        job.ended = True
        self._signal(job, signal.SIGTERM)
        self._drive.later(END_GRACE, lambda: self._signal(job, signal.SIGKILL))

    def _signal(self, job: _Job, number: int) -> None:
        if self._jobs.get((job.session, job.pilot)) is job and not self._gone(job):
            with contextlib.suppress(ProcessLookupError):
                os.kill(job.pid, number)
