"""Who starts when: first come, first served, and backfill that delays nobody.

Pure: nodes and jobs in, decisions out; times are numbers. Every waiting job gets the earliest slot that all before it
in the line leave free (conservative backfill), so nobody is ever delayed by who came later, and the first of the line
starts at its slot or sooner. Knows no clock, process or file. Read next: :mod:`.control`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

WAITING, RUNNING, ENDING = "waiting", "running", "ending"
# So many jobs of the line are planned for; those behind them wait without an estimate.
DEPTH = 100
# A job that should be over and is not: it is believed to end so soon, s.
SOON = 1.0


@dataclass(frozen=True)
class Queue:
    """One queue; ``urgency``: a higher one goes first. ``yields``: its running jobs give way to other queues."""

    name: str
    urgency: int
    longest_s: float
    most_nodes: int = 0
    yields: bool = False
    default: bool = False


QUEUES = {
    queue.name: queue
    for queue in (
        Queue("batch", 1, 86400.0, default=True),
        Queue("debug", 2, 600.0, most_nodes=2),
        Queue("spare", 0, 86400.0, yields=True),
    )
}


@dataclass
class Node:
    """One virtual node; ``down``: why it cannot be used, empty while it can."""

    name: str
    cores: int
    down: str = ""


@dataclass
class Job:
    """One job, from its submission to its end.

    Attributes:
        nodes: how many; cores: on each, 0: whole nodes. limit_s: time limit. eligible: not looked at before.
        state: ``waiting``, ``running`` or ``ending`` (told to end). began: when it started.
        on: its nodes; own: the numbers of its cores on each of them, in the same order.
        lasts: of other people's jobs, which are bookings and no processes: how long it runs; 0: a process.
        becomes: how it counts once it has ended (``CANCELLED``, ``TIMEOUT``, ...); empty: its exit code tells.
        told: when it was told to end; asked: its processes know. pid: of its first process, 0: not started yet.
        suspended: it is to stand still; stopped: it does.
        lost: nodes of it that went down while it goes on with the others.
    """

    id: int
    user: str
    queue: str
    nodes: int
    cores: int
    limit_s: float
    submitted: float
    eligible: float
    name: str = ""
    token: str = ""
    held: bool = False
    state: str = WAITING
    on: list[str] = field(default_factory=list)
    own: list[list[int]] = field(default_factory=list)
    began: float = 0.0
    lasts: float = 0.0
    becomes: str = ""
    why: str = ""
    told: float = 0.0
    asked: bool = False
    pid: int = 0
    suspended: bool = False
    stopped: bool = False
    requeue: bool = False
    no_kill: bool = False
    restarts: int = 0
    lost: list[str] = field(default_factory=list)
    workdir: str = "/"
    stdout: str = "/dev/null"
    stderr: str = "/dev/null"
    script: str = ""
    spec: str = ""

    @property
    def due(self) -> float:
        """When its time limit is over."""
        return self.began + self.limit_s

    @property
    def holds(self) -> bool:
        """Does it hold nodes?"""
        return self.state != WAITING


@dataclass(frozen=True)
class Slot:
    """When a waiting job would start as things are, and where."""

    start: float
    on: tuple[str, ...]


@dataclass(frozen=True)
class Booking:
    """A part of a node's time."""

    start: float
    end: float
    cores: int


class Profile:
    """What is free on each node from now on."""

    def __init__(self, nodes: Iterable[Node], holding: Iterable[Job], now: float) -> None:
        self._now = now
        self._nodes = {node.name: node for node in nodes if not node.down}
        self._booked: dict[str, list[Booking]] = {name: [] for name in self._nodes}
        for job in holding:
            self.book(job, Slot(min(job.began, now), tuple(job.on)), max(job.due, now + SOON))

    def book(self, job: Job, slot: Slot, end: float = 0.0) -> None:
        """Take the slot for a job; ``end``: when it is over, by default its time limit after its start."""
        for name in slot.on:
            if (node := self._nodes.get(name)) is not None:
                booking = Booking(slot.start, end or slot.start + job.limit_s, job.cores or node.cores)
                self._booked[name].append(booking)

    def earliest(self, job: Job) -> Slot | None:
        """Return the first slot for a job; None when the nodes that are up can never hold it."""
        first = max(self._now, job.eligible)
        ends = {booking.end for booked in self._booked.values() for booking in booked if booking.end > first}
        for start in (first, *sorted(ends)):
            fits = []
            for name, node in self._nodes.items():
                free = self._free(node, start, start + job.limit_s)
                if free >= max(1, job.cores or node.cores):
                    fits.append((free, name))
            if len(fits) >= job.nodes:
                # The fullest nodes first: whole ones stay whole for those who need them.
                order = {name: at for at, name in enumerate(self._nodes)}
                chosen = sorted(fits, key=lambda fit: (fit[0], order[fit[1]]))[: job.nodes]
                return Slot(start, tuple(sorted((name for _, name in chosen), key=order.__getitem__)))
        return None

    def _free(self, node: Node, start: float, end: float) -> int:
        """Return the cores of a node that are free all the time from ``start`` to ``end``."""
        near = [booking for booking in self._booked[node.name] if booking.start < end and booking.end > start]
        moments = {start, *(booking.start for booking in near if booking.start > start)}
        busiest = max(sum(b.cores for b in near if b.start <= moment < b.end) for moment in moments)
        return node.cores - busiest


def line(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs that wait for their turn, the next one first."""
    waiting = [job for job in jobs if job.state == WAITING and not job.held]
    return sorted(waiting, key=lambda job: (-QUEUES[job.queue].urgency, job.id))


def plan(nodes: Sequence[Node], jobs: Sequence[Job], now: float) -> dict[int, Slot]:
    """Return the slot of each job in the line; one that the nodes which are up cannot hold has none."""
    profile = Profile(nodes, [job for job in jobs if job.holds], now)
    slots: dict[int, Slot] = {}
    for job in line(jobs)[:DEPTH]:
        slot = profile.earliest(job)
        if slot is not None:
            slots[job.id] = slot
            profile.book(job, slot)
    return slots


def to_preempt(nodes: Sequence[Node], jobs: Sequence[Job], now: float) -> list[Job]:
    """Return the running jobs that must give way so that the first job of the line can start; few, the youngest."""
    slots = plan(nodes, jobs, now)
    blocked = [
        job
        for job in line(jobs)
        if not QUEUES[job.queue].yields and job.eligible <= now and (job.id not in slots or slots[job.id].start > now)
    ]
    if not blocked:
        return []
    first = blocked[0]
    holding = [job for job in jobs if job.holds]
    # What is told to end already will be gone soon.
    staying = [job for job in holding if job.state == RUNNING]

    def fits(kept: Sequence[Job]) -> bool:
        slot = Profile(nodes, kept, now).earliest(first)
        return slot is not None and slot.start <= now

    if fits(staying):
        return []
    yielding = sorted((job for job in staying if QUEUES[job.queue].yields), key=lambda job: (-job.began, -job.id))
    taken: list[Job] = []
    for job in yielding:
        taken.append(job)
        if fits([one for one in staying if one not in taken]):
            break
    else:
        return []
    for job in list(taken):  # one that was taken in vain stays
        rest = [one for one in taken if one is not job]
        if fits([one for one in staying if one not in rest]):
            taken = rest
    return taken


@dataclass
class Turn:
    """What one look at the queue decided: ``over`` are bookings whose time came, with how each counts."""

    started: list[Job] = field(default_factory=list)
    over: list[tuple[Job, float]] = field(default_factory=list)
    told: list[Job] = field(default_factory=list)


def turn(nodes: Sequence[Node], jobs: list[Job], now: float) -> Turn:
    """Take every decision that is due: jobs change in place, bookings that are over leave the list."""
    made = Turn()
    for job in [job for job in jobs if job.state == RUNNING and job.lasts and job.began + job.lasts <= now]:
        jobs.remove(job)
        made.over.append((job, job.began + job.lasts))
    for job in jobs:
        if job.state == RUNNING and not job.lasts and job.due <= now:
            tell_to_end(job, "TIMEOUT", now)
            made.told.append(job)
    for id, slot in plan(nodes, jobs, now).items():
        if slot.start <= now:
            job = next(job for job in jobs if job.id == id)
            begin(nodes, jobs, job, slot.on, now)
            made.started.append(job)
    for job in to_preempt(nodes, jobs, now):
        tell_to_end(job, "PREEMPTED", now)
        if job.lasts:
            jobs.remove(job)
            made.over.append((job, now))
        else:
            made.told.append(job)
    return made


def begin(nodes: Sequence[Node], jobs: Sequence[Job], job: Job, on: Sequence[str], now: float) -> None:
    """Give a job nodes, and cores of them that nobody else has."""
    cores = {node.name: node.cores for node in nodes}
    own = []
    for name in on:
        taken = {n for one in jobs if one.holds and name in one.on for n in one.own[one.on.index(name)]}
        free = [n for n in range(cores[name]) if n not in taken]
        own.append(free[: job.cores or cores[name]])
    job.state, job.on, job.own, job.began, job.pid = RUNNING, list(on), own, now, 0
    job.becomes, job.lost = "", []


def tell_to_end(job: Job, becomes: str, now: float, why: str = "") -> None:
    """A running job is to end; the first reason counts."""
    if job.state == RUNNING:
        job.state, job.becomes, job.told, job.why = ENDING, becomes, now, why


def again(job: Job, now: float, wait_s: float) -> bool:
    """Put a job that was driven out back into the line when it asked for that; say whether it is."""
    if not (job.requeue and job.becomes in ("PREEMPTED", "NODE_FAIL")):
        return False
    job.state, job.on, job.own, job.began, job.pid = WAITING, [], [], 0.0, 0
    job.told, job.asked = 0.0, False
    job.restarts += 1
    job.eligible, job.becomes, job.why, job.lost = now + wait_s, "", "", []
    job.suspended = job.stopped = False
    return True


def next_moment(nodes: Sequence[Node], jobs: Sequence[Job], now: float) -> float | None:
    """Return when something is due that nobody announces: an end, a limit, a turn; None: nothing."""
    moments = [job.began + job.lasts for job in jobs if job.state == RUNNING and job.lasts]
    moments += [job.due for job in jobs if job.state == RUNNING]
    moments += [job.eligible for job in jobs if job.state == WAITING and not job.held]
    moments += [slot.start for slot in plan(nodes, jobs, now).values()]
    return min((moment for moment in moments if moment > now), default=None)


def reasons(nodes: Sequence[Node], jobs: Sequence[Job], now: float) -> dict[int, str]:
    """Return why each waiting job waits, by id."""
    out: dict[int, str] = {}
    ahead = False
    for job in jobs:
        if job.state == WAITING and job.held:
            out[job.id] = "Held"
    for job in line(jobs):
        up = [node for node in nodes if not node.down and node.cores >= max(1, job.cores)]
        if len(up) < job.nodes:
            out[job.id] = "NodesDown"
            continue
        if job.eligible > now:
            out[job.id] = "Requeued" if job.restarts else "Submitted"
        else:
            out[job.id] = "Priority" if ahead else "Resources"
        ahead = True
    return out
