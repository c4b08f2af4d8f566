"""Effects and inputs: what machines order their shells, and what shells tell their machines.

A machine never does anything itself. ``handle(now, input) -> Turn(facts, effects)``; the shell journals the facts, then
performs the effects in order. Effects are idempotent or fenced, because a crash can fall between any two of them.
Read next: :mod:`jupyter_rm.core.broker` and :mod:`jupyter_rm.core.agent`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .columns import Column, Picks
from .facts import Fact, PilotSpec
from .logs import LogTold, TellLog
from .messages import Message
from .staging import Found

Tokens = npt.NDArray[np.uint64]


class Effect:
    """Base of all effects."""

    __slots__ = ()


class Input:
    """Base of all inputs that are not messages."""

    __slots__ = ()


@dataclass(slots=True)
class Turn:
    """What one input led to: (session, fact) to journal first, then effects to perform in order."""

    facts: list[tuple[str, Fact]] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)


# ---------------------------------------------------------------- both


@dataclass(frozen=True, slots=True)
class Send(Effect):
    """Send a message to a peer: a client id, or (session, pilot) for an agent."""

    to: object
    message: Message


@dataclass(frozen=True, slots=True)
class Tick(Input):
    """Time passed."""


# ---------------------------------------------------------------- broker


@dataclass(frozen=True, slots=True)
class FromClient(Input):
    """A client's message; ``client`` identifies its connection."""

    client: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class FromAgent(Input):
    """An agent's frame."""

    message: Message


@dataclass(frozen=True, slots=True)
class JobChanged(Input):
    """What is known of a pilot's batch job now.

    ``alive`` False means proof that nothing of it runs any more; ``state`` is a PilotState or None for 'no news' (with
    ``alive`` False the end of an own script, which no agent tells). ``code``, ``files``: as in PilotChanged.
    """

    session: str
    pilot: int
    alive: bool
    state: int | None = None
    job_id: str = ""
    cause: int = 0
    reason: str = ""
    code: int | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepTaken(Input):
    """Where the way to a pilot's agent stands; fields as in :class:`~jupyter_rm.model.facts.PilotStep`."""

    session: str
    pilot: int
    step: str
    status: str = "progress"
    percent: float = -1.0
    text: str = ""


@dataclass(frozen=True, slots=True)
class QueueSeen(Input):
    """What a batch system says of a waiting job; fields as in :class:`~jupyter_rm.model.facts.PilotQueued`."""

    session: str
    pilot: int
    position: int = 0
    length: int = 0
    estimate: float = 0.0
    source: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Remains(Input):
    """What an agent that is gone left behind: its last hello (empty: none), and (number, body) of its reports."""

    session: str
    pilot: int
    hello: bytes
    reports: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class StartPilot(Effect):
    """Submit the pilot's job (local: start the agent). Idempotent by (session, pilot).

    ``orders``: the encoded orders of a bundle, which go with it.
    """

    session: str
    pilot: int
    spec: PilotSpec
    key: bytes
    orders: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class EndPilot(Effect):
    """Cancel the pilot's job; answered by JobChanged(alive=False) once it is proven gone.

    ``lost``: its agent says that the job is being ended from outside: find out why before canceling anything.
    """

    session: str
    pilot: int
    job_id: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Bring(Effect):
    """Bring what these tasks take from the client's machine to a pilot's site; answered by Brought, once or more.

    ``early``: nobody waits for it yet, and nothing is answered.
    """

    session: str
    pilot: int
    bulk: int
    picks: Picks
    early: bool = False


@dataclass(frozen=True, slots=True)
class Brought(Input):
    """What became of sources of a bulk at a pilot's site."""

    session: str
    pilot: int
    bulk: int
    found: dict[str, Found]


@dataclass(frozen=True, slots=True)
class Fetch(Effect):
    """Fetch what these attempts give to the client's machine; answered by Fetched, once or in parts."""

    session: str
    pilot: int
    bulk: int
    picks: Picks
    attempt: bytes


@dataclass(frozen=True, slots=True)
class Fetched(Input):
    """Files of these attempts are here; ``notes`` say by position of which not, and why."""

    session: str
    pilot: int
    bulk: int
    picks: Picks
    attempt: bytes
    notes: dict[int, str]


@dataclass(frozen=True, slots=True)
class Carrying(Input):
    """How far files are; fields as in :class:`~jupyter_rm.model.facts.StagingSeen`."""

    session: str
    pilot: int
    bulk: int
    text: str
    index: int = -1
    done: int = 0
    size: int = 0


# ---------------------------------------------------------------- agent


@dataclass(frozen=True, slots=True)
class FromBroker(Input):
    """A frame from the broker."""

    message: Message


@dataclass(frozen=True, slots=True)
class Begun(Input):
    """Attempts were started. All arrays have shape (n,)."""

    tokens: Tokens
    node: npt.NDArray[np.uint32]
    started: npt.NDArray[np.float64]


@dataclass(slots=True)
class Finished(Input):
    """Attempts ended. All arrays have shape (n,); ``values`` one byte string per attempt or None; notes by position.

    state u1 (TaskState), cause u1, code i4 (exit code or -signal), node u4, started/ended f8 epoch s, user/sys f4 s,
    rss u4 KiB.
    """

    tokens: Tokens
    state: npt.NDArray[np.uint8]
    cause: npt.NDArray[np.uint8]
    code: npt.NDArray[np.int32]
    node: npt.NDArray[np.uint32]
    started: npt.NDArray[np.float64]
    ended: npt.NDArray[np.float64]
    user: npt.NDArray[np.float32]
    sys: npt.NDArray[np.float32]
    rss: npt.NDArray[np.uint32]
    values: Column | None = None
    notes: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Freed(Input):
    """These allocations are free again (nothing inherited them)."""

    allocs: npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class TakenBack(Input):
    """Run-ahead tasks that were taken back unstarted."""

    pool: int
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Launch(Effect):
    """Start each task on its allocation. Tasks of a pool have equal shapes, so allocations can pass on inside it."""

    pool: int
    tokens: Tokens
    allocs: npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class RunAhead(Effect):
    """Start these tasks, in order, on allocations of the pool as they come free, without asking."""

    pool: int
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Retract(Effect):
    """Take all run-ahead tasks of the pool back; answered by TakenBack."""

    pool: int


@dataclass(frozen=True, slots=True)
class Kill(Effect):
    """Cancel tasks: drop those not started, end those that run; each is answered in a Finished."""

    tokens: Tokens


@dataclass(frozen=True, slots=True)
class StageIn(Effect):
    """Put the inputs of attempts in place; answered by Moved. Arrays of shape (n,), attempts u2."""

    tokens: Tokens
    attempts: npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class StageOut(Effect):
    """Put the outputs of attempts in place, those on the target; answered by Moved. Arrays as in StageIn."""

    tokens: Tokens
    attempts: npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Unstage(Effect):
    """Put no more files of these tasks in place; nothing is answered."""

    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Delivered(Effect):
    """Files from the client's machine are there, or cannot be had: see :class:`~jupyter_rm.model.messages.Deliver`."""

    bulk: int
    found: dict[str, Found]


@dataclass(frozen=True, slots=True)
class Moved(Input):
    """Files of attempts are in place, inputs or (``out``) outputs; ``notes`` say by position of which not, and why.

    ``at``: when, epoch s.
    """

    tokens: Tokens
    attempts: npt.NDArray[np.uint16]
    out: bool
    notes: dict[int, str]
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Moving(Input):
    """How far a file of a task is, bytes."""

    bulk: int
    index: int
    text: str
    done: int
    size: int


@dataclass(frozen=True, slots=True)
class Watch(Effect):
    """Look at the output of this attempt of a service, which runs on ``host``, until it is ready; see Heard."""

    token: int
    attempt: int
    host: str


@dataclass(frozen=True, slots=True)
class Unwatch(Effect):
    """Look at this service no more; nothing is answered."""

    token: int


@dataclass(frozen=True, slots=True)
class Heard(Input):
    """An attempt of a service can be reached at its endpoint; '' when it was not ready in time."""

    token: int
    attempt: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class ReadLog(Effect):
    """Read lines of this program's log; see LogRead."""

    order: TellLog


@dataclass(frozen=True, slots=True)
class LogRead(Input):
    """The lines that were asked for."""

    report: LogTold


@dataclass(frozen=True, slots=True)
class Explain(Effect):
    """Say what the performer still does before it starts tasks of a bulk, if anything, else ``text``; see Explained."""

    ask: int
    bulk: int
    text: str


@dataclass(frozen=True, slots=True)
class Explained(Input):
    """Why the task that was asked about does not run."""

    ask: int
    text: str


@dataclass(frozen=True, slots=True)
class Spool(Effect):
    """Write a numbered report to the durable outbox; ``sync``: before anything that follows."""

    seq: int
    body: bytes
    sync: bool = False


@dataclass(frozen=True, slots=True)
class Forget(Effect):
    """Reports up to ``seq`` are safe elsewhere."""

    seq: int


@dataclass(frozen=True, slots=True)
class End(Effect):
    """End this agent."""

    cause: int
    reason: str
