"""What sites look like from outside, for those who follow sessions with pilots there. Never recorded.

:func:`view_of` turns a collected picture into rows of bounded number; :class:`Seen` keeps the last view of each site
for those who come later. Knows pictures and messages; asks no batch system. Read next:
:mod:`jupyter_rm.runtime.collect`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..model.errors import JrmError
from ..model.messages import Message, SiteSeen
from ..model.sites import SiteJob, SiteNode, SiteQueue, SiteView

if TYPE_CHECKING:  # a broker without pilots elsewhere starts without all this
    from ..batch import JobRecord
    from ..batch.picture import SitePicture
    from ..runtime.home import Home

# A view holds what a person may look at; own jobs are always in it.
MOST_OTHERS, MOST_NODES, MOST_QUEUES = 500, 5000, 200
MOST_HOSTS = 2000  # characters of a job's list of hosts


def view_of(site: str, title: str, picture: SitePicture, ops: tuple[str, ...] = ()) -> SiteView:
    """Return a picture as rows: own jobs, the first others in the line, the nodes that are ill first."""
    from ..batch.picture import in_line, turn

    places = picture.queue.places
    mine = {job.id: job for job in picture.queue.mine} | dict(picture.jobs)
    own = sorted(mine.values(), key=lambda job: (places.get(job.id, (1 << 60, 0))[0], job.id))
    line: Counter[str] = Counter()
    others = []
    for job in sorted((*picture.queue.mine, *picture.queue.others), key=lambda job: (not in_line(job), turn(job))):
        waits = in_line(job)
        line[job.queue] += waits
        if job.id not in mine:
            others.append((job, line[job.queue] if waits else 0))
    nodes = sorted(picture.nodes, key=lambda node: (node.state != "offline", node.name))
    return SiteView(
        site,
        title,
        (
            *(_job(job, True, job.position or places.get(job.id, (0, 0))[0]) for job in own if not job.state.final),
            *(_job(job, False, place) for job, place in others[:MOST_OTHERS]),
        ),
        max(0, len(others) - MOST_OTHERS),
        picture.queue.whole,
        tuple(
            SiteNode(
                *(node.name, node.state, node.raw_state, node.cores or 0, node.mem_mib or 0, node.gpus or 0),
                *(-1.0 if node.load is None else node.load, node.reason[:200], node.queues),
            )
            for node in nodes[:MOST_NODES]
        ),
        max(0, len(nodes) - MOST_NODES),
        dict(Counter(node.state for node in nodes)),
        {name: part.at for name, part in picture.parts.items() if part.at},
        {name: part.failure[:300] for name, part in picture.parts.items() if part.failure},
        picture.number,
        tuple(
            SiteQueue(
                *(one.name, one.open, one.default, one.max_walltime_s or 0.0, one.max_nodes or 0),
                *(one.cores_per_node or 0, one.mem_mib or 0),
            )
            for one in picture.queues[:MOST_QUEUES]
        ),
        ops,
        projects=tuple(one.name for one in picture.projects[:MOST_QUEUES]),
        sources={name: part.source for name, part in picture.parts.items() if part.source},
    )


def _job(job: JobRecord, mine: bool, place: int) -> SiteJob:
    from ..batch.nodelist import fold

    state = f"{job.state.value}:{job.detail}" if job.detail else job.state.value
    reason = (job.reason_text or job.reason)[:200]
    waits = job.state.value == "queued"
    hosts = fold(job.nodes) if job.nodes else ""
    return SiteJob(
        *(job.id, job.user, mine, state, job.queue, reason, place if waits else 0),
        *(job.submit or 0.0, job.start or 0.0, job.estimate or 0.0, len(job.nodes)),
        hosts if len(hosts) <= MOST_HOSTS else "",
    )


class Seen:
    """The last view of each site. All calls in the broker's loop.

    Args:
        say: sends a message about a session to its followers. home: where the queues of sites are kept for forms.
    """

    def __init__(self, say: Callable[[str, Callable[[str], Message]], None], home: Home | None = None) -> None:
        self._say = say
        self._home = home
        self._last: dict[str, tuple[frozenset[str], SiteView]] = {}

    def show(self, sessions: Iterable[str], view: SiteView) -> None:
        """A site was looked at for the pilots of these sessions."""
        whose = frozenset(sessions)
        before = self._last.get(view.site)
        self._last[view.site] = (whose, view)
        parts = ("queues", "projects")
        if view.queues and (before is None or any(before[1].heard.get(one) != view.heard.get(one) for one in parts)):
            self._keep(view)
        for session in whose:
            self._say(session, lambda label: SiteSeen(label, view))

    def _keep(self, view: SiteView) -> None:
        if self._home is None:
            return
        from ..runtime.found import Found, remember

        # A form without choices is a nuisance, no failure.
        with contextlib.suppress(OSError, JrmError):
            missed = view.failures.get("projects", "")
            told = Found(
                view.site, view.heard.get("queues", 0.0), view.title, view.queues, "", "", view.projects, missed
            )
            remember(self._home, told)

    def came(self, session: str, label: str) -> list[Message]:
        """Return what is known, for somebody who follows a session now."""
        return [SiteSeen(label, view) for whose, view in self._last.values() if session in whose]
