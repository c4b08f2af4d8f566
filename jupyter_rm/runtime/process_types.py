"""What both spawners speak: a launch, an event, the interface; finding executables and the guard program.

Read next: process.py for the life of a launch and the choice between the two.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

STARTED, ENDED, FAILED, CANCELLED = 1, 2, 3, 4
"""Kinds of events: runs now; is over; could not be started; was dropped from the queue before it began."""

TIMED_OUT, WAS_CANCELLED, CORE_PASSED_ON = 1, 2, 4
"""Flags of events: ended by its timeout; ended by `cancel` or `close`; its allocation went to `successor`."""

STEPS = ("", "cwd", "stdin", "stdout", "stderr", "exec", "limits", "fork")
"""Where a start failed, by the number in an event's `step` (limits includes the CPU affinity)."""

EVENT = np.dtype(
    [
        ("token", np.uint64),  # the launch's token
        ("alloc", np.uint64),  # the allocation it held; 0 when it was dropped from a queue
        ("successor", np.uint64),  # the token that inherited the allocation, 0: nobody, it is the caller's again
        ("started", np.float64),  # s since the epoch; 0 when it never started
        ("ended", np.float64),
        ("pid", np.int32),  # -1 when there never was a process
        ("status", np.int32),  # as os.waitstatus_to_exitcode reads it; -1 when the kernel did not tell
        ("error", np.int32),  # errno of a FAILED
        ("user", np.float32),  # CPU seconds of the process and the children it waited for
        ("sys", np.float32),
        ("maxrss", np.uint32),  # KiB, the largest of them
        ("kind", np.uint8),  # STARTED ENDED FAILED CANCELLED
        ("step", np.uint8),  # index into STEPS
        ("flags", np.uint8),  # TIMED_OUT | WAS_CANCELLED | CORE_PASSED_ON
        ("pad", np.uint8, (5,)),
    ]
)
"""One event; 72 bytes, the same layout as `Event` in native/spawner_core.hpp.

A STARTED whose end stands in the same batch may be left out: the ENDED record carries its start time.
"""


@dataclass(slots=True)
class Launch:
    """One process to start. Paths are bytes, times are seconds, CPUs are the kernel's numbers."""

    token: int  # 1..2**64-1, chosen by the caller, unique among live ones
    argv: list[bytes]  # argv[0] is the file executed; see resolve()
    env: int  # from spawner.env()
    cwd: bytes  # made if missing (0700); b"" stays where the spawner is
    stdin: bytes = b"/dev/null"  # the three are relative to cwd; b"" is /dev/null; a FIFO is opened without waiting
    stdout: bytes = b""  # created 0600 and emptied
    stderr: bytes = b""  # the same name as stdout: one shared descriptor
    cpus: list[int] = field(default_factory=list)  # affinity, [] leaves it; a queued launch takes its predecessor's
    extra_env: list[bytes] = field(default_factory=list)  # K=V beside or instead of those of env
    timeout: float = 0.0  # s from the start, 0: none; then TERM to the group, `grace` later KILL
    grace: float = 5.0
    limits: list[tuple[int, int, int]] = field(default_factory=list)  # (resource.RLIMIT_x, soft, hard), -1: none


class SpawnerLike(Protocol):
    """What both spawners do. All methods may be called from any thread; none waits for a process except `close`."""

    def fileno(self) -> int:
        """A descriptor that is readable when events wait; for `loop.add_reader`."""

    def env(self, items: Iterable[bytes]) -> int:
        """Register an environment (K=V each) that many launches share; its id."""

    def start(self, pool: int, allocs: Sequence[int], launches: Sequence[Launch]) -> None:
        """Start each launch on its allocation; ValueError for a token in use, RuntimeError when closed."""

    def queue(self, pool: int, launches: Sequence[Launch]) -> None:
        """Line launches up behind the pool: each begins when a process of the pool ends, on its allocation and CPUs."""

    def feed(self, pool: int, alloc: int, cpus: Sequence[int] = ()) -> int:
        """Give an allocation to the first queued launch of the pool; its token, 0 if none is queued."""

    def retract(self, pool: int, n: int = -1) -> list[int]:
        """Take up to n launches (-1: all) back from the tail of the pool's queue; their tokens. No event follows."""

    def cancel(self, tokens: Sequence[int]) -> None:
        """End launches: a queued one is dropped (CANCELLED), a running group gets TERM and after its grace KILL."""

    def signal(self, token: int, sig: int) -> bool:
        """Send a signal to the process group of a running launch; False if it does not run."""

    def events(self) -> npt.NDArray[np.void]:
        """Take all waiting events, in order, as an array of EVENT (read-only)."""

    def knows(self, token: int) -> bool:
        """Whether a launch was handed in whose end has not been told."""

    @property
    def adopter(self) -> int:
        """Process id of who adopts what its processes leave behind, and reaps it; 0: nobody."""

    @property
    def alive(self) -> bool:
        """False once no further event will come: it is closed and empty, or its host program has died.

        A host that died has reported all that was out as lost, error EPIPE. Stop watching `fileno` and open another.
        """

    @property
    def running(self) -> int:
        """How many launches hold an allocation: about to start, running, or being ended."""

    @property
    def queued(self) -> int:
        """How many launches wait in queues."""

    def close(self, kill: bool = True, grace: float = 2.0) -> None:
        """Drop the queues and end all groups (TERM, KILL after `grace` s); kill=False lets them end by themselves."""


def resolve(name: bytes, env: Iterable[bytes]) -> bytes | None:
    """The file that `name` means under the PATH of `env` (K=V items), or None if there is no such executable.

    A name with a slash is returned as it is: it is relative to the task's own directory, which may not exist yet.
    """
    if b"/" in name:
        return name
    path = os.defpath.encode()
    for item in env:
        if item.startswith(b"PATH="):
            path = item[5:]
    for folder in path.split(b":"):
        file = os.path.join(folder or b".", name)  # noqa: PTH118  (bytes)
        if os.path.isfile(file) and os.access(file, os.X_OK):  # noqa: PTH113
            return os.path.abspath(file)  # noqa: PTH100
    return None


def guard_path() -> Path | None:
    """The `jrm-guard` program, or None where it was not built (it needs Linux)."""
    from jupyter_rm import native

    for folder in native.__path__:
        path = Path(folder) / "jrm-guard"
        if os.access(path, os.X_OK):
            return path
    return None
