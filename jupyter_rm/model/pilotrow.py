"""What is kept of one pilot, live and in a snapshot. Read next: :mod:`jupyter_rm.model.ledger`, which fills it."""

from __future__ import annotations

import msgspec

from .facts import PilotQueued, PilotSpec, PilotStep
from .late import Value
from .resources import Node
from .states import Cause, PilotState

MOST_PLACES = 200  # places in the queue that are remembered; estimates likewise


class PilotRow:
    """What is known of one pilot."""

    __slots__ = (
        "at",
        "cause",
        "code",
        "epoch",
        "estimates",
        "facts",
        "files",
        "job_id",
        "key",
        "nodes",
        "number",
        "places",
        "queued",
        "reason",
        "sandbox",
        "seq",
        "silent",
        "since",
        "spec",
        "spent",
        "state",
        "step",
        "times",
    )

    def __init__(self, number: int, key: bytes, spec: PilotSpec, at: float) -> None:
        self.number = number
        self.key = key
        self.spec = spec
        self.at = at
        self.state = PilotState.SUBMITTED
        self.cause = Cause.NONE
        self.reason = ""
        self.since = at
        self.job_id = ""
        self.epoch = -1
        self.nodes: tuple[Node, ...] = ()
        self.silent = False
        self.seq = 0  # reports applied
        self.sandbox = ""
        self.code: int | None = None  # of an own script, as is the next
        self.files: tuple[str, ...] = ()
        self.facts: dict[str, Value] = {}
        self.spent = 0.0  # core-seconds of attempts that were followed by another one
        self.times: dict[int, float] = {int(PilotState.SUBMITTED): at}
        self.step: PilotStep | None = None  # the last one on the way to this state
        self.queued: PilotQueued | None = None  # while the batch system lets it wait
        self.places: tuple[tuple[float, int], ...] = ()  # (at, position) whenever it changed, the last ones
        self.estimates: tuple[tuple[float, float], ...] = ()  # (at, believed start) whenever it changed, the last ones

    @property
    def suspended(self) -> bool:
        """Does the batch system say that its job is stopped for a while?"""
        step = self.step
        return not self.state.final and step is not None and (step.step, step.status) == ("suspend", "progress")


class PilotSaved(msgspec.Struct):
    """A row of a snapshot."""

    number: int
    key: bytes
    spec: PilotSpec
    at: float
    state: int
    cause: int
    reason: str
    since: float
    job_id: str
    epoch: int
    nodes: tuple[Node, ...]
    silent: bool
    seq: int
    sandbox: str
    times: dict[int, float]
    step: PilotStep | None = None
    queued: PilotQueued | None = None
    places: tuple[tuple[float, int], ...] = ()
    estimates: tuple[tuple[float, float], ...] = ()
    code: int | None = None
    files: tuple[str, ...] = ()
    facts: dict[str, Value] = {}
    spent: float = 0.0
