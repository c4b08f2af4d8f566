"""Facts: everything that is ever recorded, in one file.

A fact is something that happened: immutable, numbered by the journal, folded by the ledger. A fact about tasks covers a
batch (:class:`~jupyter_rm.model.columns.Picks` of one bulk) with one *vec* per attribute. Facts are written as msgpack
arrays behind a small integer tag; a new field goes to the end with a default, a tag is never used again.

Times ``at`` are seconds since the epoch and for display only: no decision compares them. Read next:
:mod:`jupyter_rm.model.ledger`.
"""

from __future__ import annotations

import msgspec

from .columns import Column, Picks
from .describe import Template
from .late import Value
from .resources import Node

ONE = b"\x01\x00"  # the attempt vec of first attempts


class Fact(msgspec.Struct, frozen=True, array_like=True):
    """Base of all facts."""


class SessionOpened(Fact, tag=1, frozen=True):
    """A session of this name began to exist."""

    name: str
    at: float
    owner: str = ""
    host: str = ""


class SessionClosed(Fact, tag=2, frozen=True):
    """The session was closed; nothing new starts in it."""

    at: float
    reason: str = ""


class BulkSubmitted(Fact, tag=3, frozen=True):
    """``count`` tasks were recorded: one template and a column per parameter.

    The payloads of calls are kept beside the journal's facts (they are large and only agents need them).
    ``after`` names what must be DONE first: (bulk, picks).
    """

    bulk: int
    key: bytes
    at: float
    count: int
    template: Template
    columns: dict[str, Column] = {}
    after: tuple[tuple[int, Picks], ...] = ()


class TasksWaiting(Fact, tag=4, frozen=True):
    """These tasks are eligible now (what they came after is DONE)."""

    bulk: int
    picks: Picks
    at: float


class TasksAssigned(Fact, tag=5, frozen=True):
    """These tasks are bound to a pilot; vec ``attempt`` u2."""

    bulk: int
    picks: Picks
    pilot: int
    at: float
    attempt: bytes = ONE


class TasksStarted(Fact, tag=6, frozen=True):
    """Processes or calls began; vecs attempt u2, node u4, started f8."""

    bulk: int
    picks: Picks
    pilot: int
    attempt: bytes
    node: bytes
    started: bytes


class Ends(msgspec.Struct, frozen=True, array_like=True):
    """How attempts ended; vecs cause u1, code i4, node u4, started f8, ended f8, user f4 s, sys f4 s, rss u4 KiB.

    ``code`` is the exit code, or minus the signal. ``values`` holds results of calls (see
    :mod:`jupyter_rm.wire.values`); ``notes`` short texts by position in the picks.
    """

    cause: bytes
    code: bytes
    node: bytes
    started: bytes
    ended: bytes
    user: bytes
    sys: bytes
    rss: bytes
    values: Column | None = None
    notes: dict[int, str] = {}


class TasksEnded(Fact, tag=7, frozen=True):
    """Tasks took their final state; vecs attempt u2, state u1 (a TaskState). ``pilot`` -1: on no pilot."""

    bulk: int
    picks: Picks
    pilot: int
    attempt: bytes
    state: bytes
    ends: Ends


class AttemptsEnded(Fact, tag=8, frozen=True):
    """Attempts ended without success and another follows: the tasks wait again as attempt + 1."""

    bulk: int
    picks: Picks
    pilot: int
    attempt: bytes
    ends: Ends


class CancelRequested(Fact, tag=9, frozen=True):
    """Tasks that an agent holds are to end; ``cause`` 0: somebody asked for it, else why."""

    bulk: int
    picks: Picks
    at: float
    cause: int = 0


class PilotRequested(Fact, tag=10, frozen=True):
    """A pilot was recorded. Units of ``spec`` are those of :class:`PilotSpec`."""

    pilot: int
    key: bytes
    at: float
    spec: PilotSpec


class PilotChanged(Fact, tag=11, frozen=True):
    """A pilot took a state; empty fields mean unchanged.

    Of an own script: ``code`` is its exit code or minus its signal, ``files`` where its stdout and stderr are.
    ``facts``: what its agent says of where it is.
    """

    pilot: int
    state: int
    at: float
    cause: int = 0
    reason: str = ""
    job_id: str = ""
    epoch: int = -1
    nodes: tuple[Node, ...] = ()
    sandbox: str = ""
    code: int | None = None
    files: tuple[str, ...] = ()
    facts: dict[str, Value] = {}


class PilotSilent(Fact, tag=12, frozen=True):
    """The flag beside the state: the pilot is unreachable, or reachable again."""

    pilot: int
    silent: bool
    at: float


class ReportApplied(Fact, tag=13, frozen=True):
    """All reports of this pilot up to ``seq`` are part of the journal."""

    pilot: int
    seq: int


class PilotStep(Fact, tag=14, frozen=True):
    """Where the way to a pilot's agent stands: steps connect, survey, environment, submit, queue, start, link.

    ``status`` is start, progress, ok or fail; ``percent`` -1: not known.
    """

    pilot: int
    at: float
    step: str
    status: str = "progress"
    percent: float = -1.0
    text: str = ""


class PilotQueued(Fact, tag=15, frozen=True):
    """What the batch system says of a waiting job.

    ``position`` 1 is next (0: not known) of ``length`` waiting jobs (0: not known); ``estimate`` when it may start,
    epoch s (0: not known), as told by ``source``; ``reason`` in plain words.
    """

    pilot: int
    at: float
    position: int = 0
    length: int = 0
    estimate: float = 0.0
    source: str = ""
    reason: str = ""


class TasksStaged(Fact, tag=16, frozen=True):
    """Files of attempts are on their way or in place; vec attempt u2.

    ``state`` SCHEDULED: all inputs are there. STAGING_OUT: the program has ended; with ``ends`` its agent is done with
    it too, and what is left is done without the pilot.
    """

    bulk: int
    picks: Picks
    pilot: int
    attempt: bytes
    state: int
    at: float
    ends: Ends | None = None


class StagingSeen(Fact, tag=17, frozen=True):
    """How far files of tasks of a pilot are: ``done`` of ``size`` bytes; ``index`` -1: files of many tasks."""

    bulk: int
    pilot: int
    at: float
    text: str
    index: int = -1
    done: int = 0
    size: int = 0


class ServiceReady(Fact, tag=18, frozen=True):
    """This attempt of a service can be reached at its endpoint."""

    bulk: int
    index: int
    pilot: int
    attempt: int
    at: float
    endpoint: str


class ServiceGiven(Fact, tag=19, frozen=True):
    """A service that is no task can be reached at its endpoint; '' not any more."""

    name: str
    endpoint: str
    at: float


class PilotSpec(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What to ask a site for.

    Attributes:
        site: ``local``, ``noop``, a URL or the name of a site file.
        name: for people.
        nodes: whole nodes (0: not asked).
        cores, gpus: in total, or per node for ``noop``.
        mem: MiB per node (0: what the machine has).
        walltime: seconds (0: none).
        queue, project: as the batch system calls them.
        options: further attributes of the batch system by name, as text.
        launch: launch method inside the job (empty: the site's best).
        env_mode: use, create, update, recreate, private, local or none (empty: create); ``env``: path or name of an
            environment; ``env_source``: staged, index or installed (empty: staged).
        drain: s before the end of the walltime at which no new task starts.
        hooks: shell lines of the user by the moment at which they run, see :data:`jupyter_rm.model.hooks.HOOKS`.
        backup: nodes beyond ``nodes`` that stand in for lost ones.
        bundle: it takes its work along when it is submitted, and ends when that is done.
        script: no agent at all, but the user's own batch script, these bytes; ``script_name`` what its file is called.
        python: the interpreter there: a path, a command, or a shell line after which ``python3`` is it (empty: the
            best one found); ``env_base``: directory there for environments (empty: ``~/.jupyter_rm``).
        capabilities: what it offers to tasks that require it, such as ``dataset:x``.
        envs: paths there of environments that tasks may name (``named_env``).
        partitions: how many of the nodes, in their order, make each part to which tasks may be confined; () one part.
        renew: how many pilots like this one are to follow it, each asked for before the one before it ends.
        replaces: the pilot whose work it takes over once it is active; -1: of none.
        env_prefer: staged, system-then-staged or system: where the agent's packages come from (empty: staged).
        connect: auto, letters, or forward and reverse in an order: the ways to its agent that are tried (empty: auto).
        resources: how many of what has a name of the user's own (licenses, seats) tasks find on each node.
    """

    site: str = "local"
    name: str = ""
    nodes: int = 0
    cores: int = 0
    gpus: int = 0
    mem: int = 0
    walltime: float = 0.0
    queue: str = ""
    project: str = ""
    sandbox: str = ""
    options: dict[str, str] = {}
    launch: str = ""
    env_mode: str = ""
    env: str = ""
    env_source: str = ""
    drain: float = 0.0
    hooks: dict[str, str] = {}
    backup: int = 0
    bundle: bool = False
    script: bytes = b""
    script_name: str = ""
    python: str = ""
    env_base: str = ""
    capabilities: tuple[str, ...] = ()
    envs: dict[str, str] = {}
    partitions: tuple[int, ...] = ()
    renew: int = 0
    replaces: int = -1
    env_prefer: str = ""
    connect: str = ""
    resources: dict[str, int] = {}


AnyFact = (
    SessionOpened
    | SessionClosed
    | BulkSubmitted
    | TasksWaiting
    | TasksAssigned
    | TasksStarted
    | TasksEnded
    | AttemptsEnded
    | CancelRequested
    | PilotRequested
    | PilotChanged
    | PilotSilent
    | ReportApplied
    | PilotStep
    | PilotQueued
    | TasksStaged
    | StagingSeen
    | ServiceReady
    | ServiceGiven
)

# Kinds of rows in the journal: a fact of the ledger, or the arguments and functions of calls.
KIND_FACT = 1
KIND_PAYLOAD = 2

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyFact)


def encode(fact: Fact) -> bytes:
    """Return the journal form of a fact."""
    return _encoder.encode(fact)


def decode(body: bytes | memoryview) -> Fact:
    """Return the fact; msgspec.DecodeError for anything else."""
    fact: Fact = _decoder.decode(body)
    return fact
