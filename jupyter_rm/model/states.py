"""The states of tasks and pilots, the causes of ends, and the one table that orders them.

Theory. A task lives through *attempts*; an attempt moves through the states below in their numeric order and may skip
states but never goes back. The pair (attempt, state) therefore only grows: that is the whole rule for accepting news
(:func:`advances`), and it makes late, repeated and reordered messages harmless. An attempt that ends without success
and with another attempt allowed is followed by attempt + 1 in WAITING; otherwise the task takes exactly one of the
three final states and keeps it for ever.

    NEW          described, known to the client only
    SUBMITTED    recorded durably by the broker; nothing decided yet
    WAITING      eligible, or waiting for what its reason says (a pilot, a dependency)
    STAGING_IN   its input files are being put in place
    SCHEDULED    bound to a pilot; the agent starts it as soon as its resources are free there
    RUNNING      its process (or call) was started
    STAGING_OUT  it ended; its output files are being put in place
    DONE | FAILED | CANCELED   final

A pilot is a placeholder job. ``UNREACHABLE`` is a flag beside the state: silence is never an end.

    NEW SUBMITTED   described, recorded      QUEUED   the batch system has it, waiting
    STARTING        the job runs, the agent is being set up
    ACTIVE          the agent answers and takes tasks      DRAINING   it takes no new ones
    DONE | FAILED | CANCELED   final

The diagrams in the documentation are drawn from ``TASK_STEPS`` and ``PILOT_STEPS``.
"""

from __future__ import annotations

from enum import IntEnum


class TaskState(IntEnum):
    """State of a task's current attempt; the integer order is the order of life."""

    NEW = 0
    SUBMITTED = 1
    WAITING = 2
    STAGING_IN = 3
    SCHEDULED = 4
    RUNNING = 5
    STAGING_OUT = 6
    DONE = 7
    FAILED = 8
    CANCELED = 9

    @property
    def final(self) -> bool:
        """True for DONE, FAILED and CANCELED."""
        return self >= TaskState.DONE


class PilotState(IntEnum):
    """State of a pilot; the integer order is the order of life."""

    NEW = 0
    SUBMITTED = 1
    QUEUED = 2
    STARTING = 3
    ACTIVE = 4
    DRAINING = 5
    DONE = 6
    FAILED = 7
    CANCELED = 8

    @property
    def final(self) -> bool:
        """True for DONE, FAILED and CANCELED."""
        return self >= PilotState.DONE


class Cause(IntEnum):
    """Why an attempt or a pilot ended as it did (failure taxonomy)."""

    NONE = 0
    TASK_EXIT = 1  # exit code other than 0, or a signal of the task's own making
    TASK_TIMEOUT = 2
    USER_CANCEL = 3
    START_FAILED = 4  # executable missing, sandbox not writable, limits refused
    ENV_FAILED = 5  # pre_exec or the named environment failed
    STAGE_IN_FAILED = 6
    STAGE_OUT_FAILED = 7
    WORKER_LOST = 8  # the Python worker died under the call
    AGENT_LOST = 9
    NODE_LOST = 10
    PILOT_LOST = 11  # the batch job ended under the attempt
    WALLTIME = 12
    DEPENDENCY = 13  # a task it comes after did not end DONE
    UNSATISFIABLE = 14
    SUBMIT_REJECTED = 15
    BOOT_STEP_FAILED = 16
    SESSION_CLOSED = 17
    CALL_RAISED = 18  # the Python function raised
    BAD_PAYLOAD = 19  # function, arguments or result cannot be (un)pickled
    DISK_FULL = 20
    OUT_OF_MEMORY = 21
    PROTOCOL_VERSION = 22
    PILOT_FAULTY = 23
    SERVICE_LOST = 24  # a service it uses ended
    GIVEN_BACK = 25  # its pilot had not begun it: it drains, or another one can begin it now


# Python 3.11 looks members up by a function of the class that is called when all else failed: not on a hot path.
for _states in (TaskState, PilotState, Cause):
    for _member in _states:
        type.__setattr__(_states, _member.name, _member)

CAUSE_TEXT: dict[Cause, str] = {
    Cause.NONE: "",
    Cause.TASK_EXIT: "the program ended with an error",
    Cause.TASK_TIMEOUT: "it ran longer than its timeout",
    Cause.USER_CANCEL: "canceled on request",
    Cause.START_FAILED: "it could not be started",
    Cause.ENV_FAILED: "its environment could not be prepared",
    Cause.STAGE_IN_FAILED: "an input file could not be put in place",
    Cause.STAGE_OUT_FAILED: "an output file could not be put in place",
    Cause.WORKER_LOST: "the Python worker died under the call",
    Cause.AGENT_LOST: "the pilot's agent was lost while it ran",
    Cause.NODE_LOST: "its node was lost",
    Cause.PILOT_LOST: "the pilot ended under it",
    Cause.WALLTIME: "the pilot reached its time limit",
    Cause.DEPENDENCY: "a task it comes after did not end DONE",
    Cause.UNSATISFIABLE: "no pilot can ever hold it",
    Cause.SUBMIT_REJECTED: "the batch system refused the pilot",
    Cause.BOOT_STEP_FAILED: "the agent could not be started",
    Cause.SESSION_CLOSED: "the session was closed",
    Cause.CALL_RAISED: "the function raised",
    Cause.BAD_PAYLOAD: "function, arguments or result cannot be pickled",
    Cause.DISK_FULL: "no space left on the device",
    Cause.OUT_OF_MEMORY: "killed for memory",
    Cause.PROTOCOL_VERSION: "agent and broker speak different versions",
    Cause.PILOT_FAULTY: "its pilot ruined everything it was given",
    Cause.SERVICE_LOST: "a service it uses ended",
    Cause.GIVEN_BACK: "its pilot gave it back before it began",
}

# Ends that say nothing about the task itself. They lead to a new attempt unless the task forbids a second start, and
# they do not use up its retries.
INFRASTRUCTURE: frozenset[Cause] = frozenset(
    {
        Cause.AGENT_LOST,
        Cause.NODE_LOST,
        Cause.PILOT_LOST,
        Cause.WALLTIME,
        Cause.PROTOCOL_VERSION,
        Cause.PILOT_FAULTY,
        Cause.GIVEN_BACK,
    }
)
# Ends that no further attempt can mend.
HOPELESS: frozenset[Cause] = frozenset(
    {Cause.USER_CANCEL, Cause.DEPENDENCY, Cause.UNSATISFIABLE, Cause.SESSION_CLOSED, Cause.BAD_PAYLOAD}
)

_T, _P = TaskState, PilotState
TASK_STEPS: dict[TaskState, tuple[TaskState, ...]] = {
    _T.NEW: (_T.SUBMITTED,),
    _T.SUBMITTED: (_T.WAITING, _T.FAILED, _T.CANCELED),
    _T.WAITING: (_T.STAGING_IN, _T.SCHEDULED, _T.FAILED, _T.CANCELED),
    _T.STAGING_IN: (_T.SCHEDULED, _T.FAILED, _T.CANCELED),
    _T.SCHEDULED: (_T.RUNNING, _T.FAILED, _T.CANCELED),
    _T.RUNNING: (_T.STAGING_OUT, _T.DONE, _T.FAILED, _T.CANCELED),
    _T.STAGING_OUT: (_T.DONE, _T.FAILED, _T.CANCELED),
    _T.DONE: (),
    _T.FAILED: (),
    _T.CANCELED: (),
}
PILOT_STEPS: dict[PilotState, tuple[PilotState, ...]] = {
    _P.NEW: (_P.SUBMITTED,),
    _P.SUBMITTED: (_P.QUEUED, _P.STARTING, _P.FAILED, _P.CANCELED),
    _P.QUEUED: (_P.STARTING, _P.ACTIVE, _P.FAILED, _P.CANCELED),
    _P.STARTING: (_P.ACTIVE, _P.FAILED, _P.CANCELED),
    _P.ACTIVE: (_P.DRAINING, _P.DONE, _P.FAILED, _P.CANCELED),
    _P.DRAINING: (_P.DONE, _P.FAILED, _P.CANCELED),
    _P.DONE: (),
    _P.FAILED: (),
    _P.CANCELED: (),
}


def advances(attempt: int, state: int, new_attempt: int, new_state: int) -> bool:
    """Say whether news (new_attempt, new_state) is later than what is known (attempt, state)."""
    if state >= TaskState.DONE:
        return False
    return (new_attempt, new_state) > (attempt, state)
