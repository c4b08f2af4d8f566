"""What a batch system is asked and what it answers, in our own words.

Times are seconds since 1970 (float) or None, sizes MiB, durations seconds. A record says what one listing said, nothing
more: a job that a listing leaves out is UNKNOWN, never finished. Read next: :mod:`.system`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from ..model.errors import SiteError
from ..model.states import Cause


class JobState(str, Enum):
    """State of a batch job.

    ``ENDED`` means: proven to be over, and nobody said how. ``UNKNOWN`` concludes nothing at all.
    """

    UNKNOWN = "unknown"
    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        """True when the job is proven to be over."""
        return self in (JobState.ENDED, JobState.DONE, JobState.FAILED, JobState.CANCELED)


# Finer words that may follow a state in a description ("failed:timeout"), and the cause of a pilot's end they mean.
DETAILS: dict[str, Cause] = {
    "held": Cause.NONE,
    "suspended": Cause.NONE,
    "requeued": Cause.NONE,
    "starting": Cause.NONE,
    "ending": Cause.NONE,
    "waiting": Cause.NONE,
    "unreachable": Cause.NONE,
    "error": Cause.PILOT_LOST,
    "timeout": Cause.WALLTIME,
    "preempted": Cause.PILOT_LOST,
    "node_fail": Cause.NODE_LOST,
    "boot_fail": Cause.BOOT_STEP_FAILED,
    "out_of_memory": Cause.OUT_OF_MEMORY,
    "signal": Cause.PILOT_LOST,
    "revoked": Cause.PILOT_LOST,
    "never_ran": Cause.SUBMIT_REJECTED,
}


class Command(msgspec.Struct, frozen=True):
    """One command to run where the batch system is.

    Attributes:
        argv: program and arguments; nothing in it is ever meant for a shell.
        stdin: constant text of the description, never a user's value.
        env: variables to add to the environment.
        timeout_s: after how many seconds without an end to give up.
    """

    argv: tuple[str, ...]
    stdin: bytes = b""
    env: Mapping[str, str] = {}
    timeout_s: float = 30.0

    def line(self) -> str:
        """Return the command as a person would type it in a POSIX shell; each value is quoted."""
        head = ["env", *(f"{name}={value}" for name, value in self.env.items())] if self.env else []
        return shlex.join([*head, *self.argv])


class JobRecord(msgspec.Struct, frozen=True):
    """What one listing says of one job.

    Attributes:
        id: the batch system's own id; ``state`` with ``detail`` (a word of :data:`DETAILS` or empty).
        raw_state: as the batch system wrote it.
        reason: verbatim; ``reason_text``: in plain words.
        position: place in the queue, 1 is next (None: not said); ``priority``: larger starts sooner.
        submit, start, end: when it was submitted, started, ended.
        estimate: when the batch system believes it will start; ``ends_by``: when its time limit ends it.
        limit_s: time limit in seconds.
        nodes: host names, in order; exit: exit code; signal: number of the signal that ended it.
        token: ours, found again in the job's name or comment; restarts: how often the system started it anew.
    """

    id: str
    state: JobState = JobState.UNKNOWN
    detail: str = ""
    raw_state: str = ""
    reason: str = ""
    reason_text: str = ""
    queue: str = ""
    position: int | None = None
    priority: float | None = None
    submit: float | None = None
    start: float | None = None
    end: float | None = None
    estimate: float | None = None
    ends_by: float | None = None
    limit_s: float | None = None
    nodes: tuple[str, ...] = ()
    exit: int | None = None
    signal: int | None = None
    token: str = ""
    user: str = ""
    name: str = ""
    restarts: int | None = None
    cluster: str = ""

    @property
    def alive(self) -> bool:
        """False only as proof that nothing of the job runs any more."""
        return not self.state.final

    @property
    def cause(self) -> Cause:
        """Why it ended, as far as the batch system knows."""
        if self.state is JobState.CANCELED:
            return DETAILS.get(self.detail) or Cause.USER_CANCEL
        if self.state is JobState.FAILED:
            return DETAILS.get(self.detail) or Cause.PILOT_LOST
        return Cause.NONE


class QueueRecord(msgspec.Struct, frozen=True):
    """A queue (partition) with its limits; None is 'no limit, or not said'."""

    name: str
    open: bool = True
    default: bool = False
    max_walltime_s: float | None = None
    max_nodes: int | None = None
    nodes: int | None = None
    cores_per_node: int | None = None
    mem_mib: int | None = None
    running: int | None = None
    queued: int | None = None


class ProjectRecord(msgspec.Struct, frozen=True):
    """A project (account) that jobs of this person can be charged to."""

    name: str


class NodeRecord(msgspec.Struct, frozen=True):
    """A node: ``state`` is one of free, busy, mixed, offline, unknown; ``raw_state`` as the batch system wrote it."""

    name: str
    state: str = "unknown"
    raw_state: str = ""
    cores: int | None = None
    mem_mib: int | None = None
    gpus: int | None = None
    load: float | None = None
    reason: str = ""
    queues: tuple[str, ...] = ()


class Submitted(msgspec.Struct, frozen=True):
    """A job was accepted; ``warnings`` are what else the command said."""

    id: str
    cluster: str = ""
    warnings: str = ""


class Acknowledged(msgspec.Struct, frozen=True):
    """What was told a job was taken; ``missing`` are jobs that the batch system does not know (any more)."""

    missing: tuple[str, ...] = ()
    text: str = ""


class JobContext(msgspec.Struct, frozen=True):
    """What a running job sees of itself: ``nodes`` are (host, slots) in order, slots 0 when not said."""

    id: str
    nodes: tuple[tuple[str, int], ...]
    name: str = ""
    end: float | None = None
    limit_s: float | None = None
    restarts: int = 0
    tmp: str = ""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong in a description: where, what belongs there, what stands there."""

    file: str
    path: str
    expected: str
    found: str
    line: int = 0

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        path = f"{self.path}: " if self.path else ""
        return f"{where}: {path}expected {self.expected}, found {self.found}"


class BatchError(SiteError):
    """A batch system refused, failed or could not be understood; it concludes nothing about any job.

    Attributes:
        op: which operation; rc: the command's exit code; raw: its output verbatim (at most 4,000 characters);
        translation: the same in plain words, empty when nobody has translated it yet; refused: it is certain that
        the batch system took nothing (otherwise a failed submit may have made a job all the same). about: the attribute
        that was refused, where that is known.
    """

    op: str = ""
    rc: int | None = None
    raw: str = ""
    translation: str = ""
    refused: bool = False
    about: str = ""

    def __reduce__(self) -> tuple[object, ...]:
        state = {name: getattr(self, name) for name in ("op", "rc", "raw", "translation", "refused", "about")}
        return (_again, (self.message, self.code, self.hint, self.retry, state))


def _again(message: str, code: str, hint: str, retry: bool, state: Mapping[str, Any]) -> BatchError:
    error = BatchError(message, code=code, hint=hint, retry=retry)
    for name, value in state.items():
        setattr(error, name, value)
    return error
