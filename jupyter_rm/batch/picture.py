"""A queue as one listing shows it: own jobs first, the others for the place in the line.

Pure: records in, a picture out. It knows nothing of commands or time. Read next: :mod:`jupyter_rm.runtime.collect`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .records import JobRecord, JobState, NodeRecord, ProjectRecord, QueueRecord


@dataclass(frozen=True)
class QueuePicture:
    """Jobs of a site at one moment.

    Attributes:
        mine: own jobs, by place in the line, then running ones; others: jobs of other users, in the same order.
        places: by id of a job of mine that waits: (position, length) of the line it stands in; 1 is next. A job whose
            place nobody knows is not in it.
        whole: the listing held everybody's jobs; False: the site shows only one's own, and lengths are not known.
    """

    mine: tuple[JobRecord, ...] = ()
    others: tuple[JobRecord, ...] = ()
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    whole: bool = True


def _number(id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]{1,18}", id)[:3])


def turn(job: JobRecord) -> tuple[float, float, float, tuple[int, ...], str]:
    """The order in which a scheduler without backfill would start jobs: by priority, then by age."""
    return (
        float(job.position if job.position is not None else 1 << 60),
        -(job.priority or 0.0),
        job.submit or 0.0,
        _number(job.id),
        job.id,
    )


def in_line(job: JobRecord) -> bool:
    """Return whether a job waits for its turn: a held or broken one stands in no line."""
    return job.state is JobState.QUEUED and job.detail in ("", "requeued")


def picture(jobs: Iterable[JobRecord], user: str, whole: bool = True) -> QueuePicture:
    """Return the picture of a listing.

    Args:
        jobs: every job of the listing; user: whose jobs are "mine"; whole: everybody's jobs were listed.

    The line of a job is the queue (partition) it was put into. Its place is what the batch system says, else its rank
    by priority and age; backfilling may start it earlier.
    """
    every = [job for job in jobs if not job.state.final]
    waiting = sorted((job for job in every if in_line(job)), key=turn)
    rest = sorted((job for job in every if not in_line(job)), key=lambda job: (job.start or 0.0, _number(job.id)))
    lines: dict[str, list[JobRecord]] = {}
    for job in waiting:
        lines.setdefault(job.queue, []).append(job)
    places: dict[str, tuple[int, int]] = {}
    for line in lines.values():
        for place, job in enumerate(line, 1):
            if job.user != user:
                continue
            if job.position:
                places[job.id] = (job.position, len(line) if whole else 0)
            elif whole:
                places[job.id] = (place, len(line))
    ordered = [*waiting, *rest]
    return QueuePicture(
        tuple(job for job in ordered if job.user == user),
        tuple(job for job in ordered if job.user != user),
        places,
        whole,
    )


@dataclass(frozen=True)
class Part:
    """How fresh one part of a picture is.

    Attributes:
        at: heard last (epoch s, 0: never); failure: why not since then.
        source: where it is from when a site has a collection for all its users; empty: one's own commands.
    """

    at: float = 0.0
    failure: str = ""
    source: str = ""


@dataclass(frozen=True)
class SitePicture:
    """All that is known of a site at one moment.

    Attributes:
        number: grows with every change.
        jobs: own jobs by id; estimates: believed starts (epoch s) that no listing of jobs holds, by id.
        queue: the last listing of everybody's jobs; nodes, queues: of the site;
        projects: that jobs of this account can be charged to.
        parts: by name (``jobs, queue, estimate, nodes, queues, projects``) how fresh each is; a missing one was never
            asked for.
    """

    number: int = 0
    jobs: Mapping[str, JobRecord] = field(default_factory=dict)
    estimates: Mapping[str, float] = field(default_factory=dict)
    queue: QueuePicture = QueuePicture()
    nodes: tuple[NodeRecord, ...] = ()
    queues: tuple[QueueRecord, ...] = ()
    projects: tuple[ProjectRecord, ...] = ()
    parts: Mapping[str, Part] = field(default_factory=dict)

    def age(self, part: str, now: float) -> float | None:
        """Return how many seconds old a part is at ``now`` (epoch s); None when it was never heard."""
        at = self.parts.get(part, Part()).at
        return max(0.0, now - at) if at else None


@dataclass(frozen=True)
class Change:
    """What a later picture has that an earlier one had not: jobs of the line and nodes, and what is gone."""

    number: int
    jobs: tuple[JobRecord, ...] = ()
    gone: tuple[str, ...] = ()
    nodes: tuple[NodeRecord, ...] = ()
    nodes_gone: tuple[str, ...] = ()
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """True when a view has nothing to draw anew."""
        return not (self.jobs or self.gone or self.nodes or self.nodes_gone)


def change(old: SitePicture, new: SitePicture) -> Change:
    """Return the way from ``old`` to ``new``; own jobs and others are told apart by their user, as in a listing."""
    before = {job.id: job for job in (*old.queue.mine, *old.queue.others)} | dict(old.jobs)
    after = {job.id: job for job in (*new.queue.mine, *new.queue.others)} | dict(new.jobs)
    nodes_before = {node.name: node for node in old.nodes}
    nodes_after = {node.name: node for node in new.nodes}
    return Change(
        new.number,
        tuple(job for id, job in after.items() if before.get(id) != job),
        tuple(id for id in before if id not in after),
        tuple(node for name, node in nodes_after.items() if nodes_before.get(name) != node),
        tuple(name for name in nodes_before if name not in nodes_after),
        new.queue.places,
    )
