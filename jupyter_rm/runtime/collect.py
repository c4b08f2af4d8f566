"""What a site looks like from outside, collected once for everybody: own jobs often, the queue seldom, nodes rarely.

It asks no oftener than the site's description allows, whatever asks it: one listing of jobs in a slot of at least
30 s, and when the whole queue is due that listing serves for the own jobs too. What a command does not say leaves the
picture as it was, with its age. Where a site has one collection for all its users, queue, nodes and queues come from
there. It concludes nothing and submits nothing; who watches pilots decides what a record means. Any thread may look at
``picture``; one at a time collects. Read next: :mod:`.batchsite`, :mod:`.collect_shared`,
:mod:`jupyter_rm.batch.picture`, ``docs/collect.md``.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from ..batch import BatchError, JobRecord, JobState
from ..batch.document import Part as Which
from ..batch.document import Told
from ..batch.picture import Part, QueuePicture, SitePicture, in_line, picture
from .batchsite import BatchSite
from .collect_shared import Found, Shared

# Never oftener than this, s, whatever a description says: a listing of jobs, one of everybody's jobs, one of the nodes.
LEAST_JOBS, LEAST_QUEUE, LEAST_NODES = 30.0, 60.0, 300.0
# When a person asks, the next listing of jobs may come so soon after the last, s.
LEAST_ASKED = 2.0
# A part that fails is asked for more rarely, up to this many times its pause.
RAREST = 10.0
# While somebody else collects for all, one looks again after so many s.
BUSY_AGAIN = 5.0
# For so long others are waited for before one's own commands are run, s: a turn that nobody uses lasts a minute.
OTHERS = 90.0
T = TypeVar("T")


class Collector:
    """The one collection of a site, shared by all that want to know.

    Args:
        site: the batch system; clock: seconds that never go back; wall: seconds since 1970, for people.
        polite: False for what is nobody else's (processes of a machine, a simulated cluster): the description's own
            pace is kept then.
        shared: the site's collection for all its users, where it has one.

    Attributes:
        picture: what is known, with the age of each part; a new object whenever something was heard.
    """

    def __init__(
        self,
        site: BatchSite,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        polite: bool = True,
        shared: Shared | None = None,
    ) -> None:
        self.site = site
        self._shared = shared
        self.picture = SitePicture()
        self._clock, self._wall = clock, wall
        poll = site.system.poll
        least = LEAST_JOBS if polite else 0.0
        rare = LEAST_NODES if polite else 0.0
        every = max(least, poll.get("every_s", LEAST_JOBS), poll.get("least_s", 0.0))
        self._pauses: dict[str, float] = {
            "jobs": every,
            "queue": max(2 * least, every, LEAST_QUEUE if polite else 0.0),
            "estimate": LEAST_NODES,
            "nodes": max(rare, poll.get("nodes_s", 0.0)),
            "queues": max(rare, poll.get("queues_s", 0.0)),
            "projects": max(rare, poll.get("queues_s", 0.0)),
        }
        self._asked: dict[str, float] = {}
        self._listed = float("-inf")  # the last listing of jobs, of whatever kind
        self._failures: dict[str, int] = {}
        self._others_since: dict[str, float] = {}  # since when others are waited for, by part
        self._doubtful: set[str] = set()  # own jobs of which the queue says something that only `status` may say
        self._one = threading.Lock()

    # --- when

    def due(self, now: float | None = None, asked: bool = False) -> float:
        """Return in how many seconds the next listing of jobs may be made; 0: now. ``asked``: a person wants it."""
        now = self._clock() if now is None else now
        # Where listings are more frequent than that anyway, a person's turn would never come.
        pause = min(LEAST_ASKED, self._pauses["jobs"]) if asked else self._pause("jobs")
        return max(0.0, self._listed + pause - now)

    def _pause(self, part: str) -> float:
        return self._pauses[part] * min(RAREST, 2.0 ** self._failures.get(part, 0))

    def _may(self, part: str, now: float) -> bool:
        return now - self._asked.get(part, float("-inf")) >= self._pause(part)

    # --- own jobs

    def status(
        self, jobs: Mapping[str, str] | Iterable[str], asked: bool = False, borrow: bool = False
    ) -> list[JobRecord]:
        """Make one listing of jobs, if it is time, and return what it says of own ones, places in the line included.

        Args:
            jobs: ids, with the token of each where listings show tokens. asked: a person wants to know of own jobs,
                out of turn; the next turn comes a whole pause later.
            borrow: none of them ever ran: what root or the account that the site's file names collected for all may
                say that they wait or run.

        Returns:
            Records of those jobs that were heard of in this very listing; none when it is too early.

        Raises:
            BatchError, LinkError: nothing was heard; what was known stands.
        """
        tokens = dict(jobs) if isinstance(jobs, Mapping) else dict.fromkeys(jobs, "")
        with self._one:
            now = self._clock()
            if not tokens or self.due(now, asked) > 0:
                return []
            self._listed = now
            self._doubtful &= set(tokens)
            waiting = [
                id for id in tokens if (known := self.picture.jobs.get(id)) is None or known.state is JobState.QUEUED
            ]
            if not asked and (hoping := self._wants_estimates(waiting, now)):
                said = self._try("estimate", lambda: self.site.estimates(hoping))
                self._show("estimate", estimates={**self.picture.estimates, **said})
                return []
            whole = not asked and self.site.can("queue") and waiting and not self._doubtful and self._may("queue", now)
            # Which of the two ways to hear of own jobs failed does not matter: the pace is one.
            if not whole:
                return self._try("jobs", lambda: self._own(tokens))
            found = self._look("queue")
            if found is None or (found.told is None and not found.busy):
                return self._try("queue", lambda: self._whole(tokens, found))
            if found.told is not None:
                line = picture(found.told.records, self.site.user, found.told.whole)
                before = self.picture.parts.get("jobs", Part()).at
                at = self._showed("queue", found, queue=line)
                if borrow and found.trusted and at > before:
                    return self._line(tokens, line, at)
            return self._try("jobs", lambda: self._own(tokens))

    def _own(self, tokens: Mapping[str, str]) -> list[JobRecord]:
        checked = {id: token for id, token in tokens.items() if token}
        heard = [self._placed(record) for record in self.site.status(tokens, checked)]
        self._doubtful.clear()
        self._keep(heard)
        self._failures.pop("jobs", None)
        return heard

    def _whole(self, tokens: Mapping[str, str], found: Found | None) -> list[JobRecord]:
        line = self.site.queue()
        self._collected("queue", found, Told(0.0, (*line.mine, *line.others), line.whole), queue=line)
        return self._line(tokens, line)

    def _line(self, tokens: Mapping[str, str], line: QueuePicture, at: float = 0.0) -> list[JobRecord]:
        """Everybody's jobs: of own ones it is believed that they wait or run; anything else is asked for by id."""
        mine = {record.id: record for record in line.mine}
        heard = []
        for id, token in tokens.items():
            record, before = mine.get(id), self.picture.jobs.get(id)
            if record is None or (token and record.token and record.token != token):
                self._doubtful.add(id)
            elif before is not None and before.submit and record.submit and abs(before.submit - record.submit) > 1.0:
                self._doubtful.add(id)  # requeued, or its number given to another job
            else:
                heard.append(self._placed(record))
        self._keep(heard, at)
        return heard

    def _placed(self, record: JobRecord) -> JobRecord:
        if record.state is not JobState.QUEUED:
            return record
        place = self.picture.queue.places.get(record.id)
        position = record.position or (place[0] if place and in_line(record) else None)
        estimate = record.estimate or self.picture.estimates.get(record.id)
        return msgspec.structs.replace(record, position=position, estimate=estimate)

    def place(self, id: str) -> tuple[int, int]:
        """Return (position, length) of an own job in its line; zeros for what is not known."""
        return self.picture.queue.places.get(id, (0, 0))

    def _keep(self, heard: Iterable[JobRecord], at: float = 0.0) -> None:
        jobs = dict(self.picture.jobs)
        for record in heard:
            if record.state is not JobState.UNKNOWN or record.id not in jobs:
                jobs[record.id] = record
        self._show("jobs", Part(at) if at else None, jobs=jobs)

    def forget(self, id: str) -> None:
        """Leave a job out of the picture: it is over."""
        with self._one:
            self._show("", jobs={key: record for key, record in self.picture.jobs.items() if key != id})
            self._doubtful.discard(id)

    def _wants_estimates(self, waiting: list[str], now: float) -> list[str]:
        """Return whose start to ask for: a slot of its own now and then, where another program than that of the
        listings believes in start times, and never two such slots in a row."""
        last = max((self._asked.get(part, float("-inf")) for part in ("jobs", "queue")), default=0.0)
        if not self.site.can("estimate") or not self._may("estimate", now) or self._asked.get("estimate", -1.0) > last:
            return []
        programs = [self.site.system.get(f"ops.{op}.argv")[0] for op in ("estimate", "status")]
        if programs[0] == programs[1]:
            return []
        return [id for id in waiting if (known := self.picture.jobs.get(id)) is not None and in_line(known)]

    # --- the site

    def look_around(self) -> bool:
        """Ask for nodes, queues and projects if it is time; return whether anything was heard.

        Raises:
            LinkError: the connection is lost. What the batch system cannot say is noted in the picture.
        """
        heard = False
        with self._one:
            asks: tuple[tuple[Which, Callable[[], Iterable[Any]]], ...]
            asks = (("nodes", self.site.nodes), ("queues", self.site.queues))
            for part, ask in asks:
                if self._turn_of(part):
                    with contextlib.suppress(BatchError):
                        heard |= self._gather(part, ask)
            if self._turn_of("projects"):  # one's own: no collection for all has them
                with contextlib.suppress(BatchError):
                    self._show("projects", projects=tuple(self._try("projects", self.site.projects)))
                    heard = True
        return heard

    def _gather(self, part: Which, ask: Callable[[], Iterable[Any]]) -> bool:
        """Hear of a part from the collection for all or by one's own command; return whether anything was heard."""
        found = self._look(part)
        if found is not None and found.told is not None:
            self._showed(part, found, **{part: found.told.records})
            return True
        if found is not None and found.busy:
            return False
        records = tuple(self._try(part, ask))
        self._collected(part, found, Told(0.0, records), **{part: records})
        return True

    def _turn_of(self, part: str) -> bool:
        return self.site.can(part) and self._may(part, self._clock())

    # --- the collection for all

    def _look(self, part: Which) -> Found | None:
        """Return what the collection for all says of a part; None when there is none."""
        if self._shared is None:
            return None
        found = self._shared.look(part, self._pauses[part])
        now = self._clock()
        if found.busy:
            if now - self._others_since.setdefault(part, now) > OTHERS:
                return Found(trouble="; ".join(filter(None, [found.trouble, "whose turn it is does not collect"])))
            self._asked[part] = now - self._pause(part) + BUSY_AGAIN
        elif found.told is not None:
            # It is looked at again when it is old; one that nobody renews is looked at now and then.
            self._asked[part] = now - min(found.age, 0.75 * self._pauses[part])
            self._failures.pop(part, None)
        if not found.busy:
            self._others_since.pop(part, None)
        return found

    def _showed(self, part: Which, found: Found, **news: Any) -> float:
        """Show what others collected; return when they did, seconds since 1970 here."""
        at = self._wall() - found.age
        self._show(part, Part(at, source=found.note()), **news)
        return at

    def _collected(self, part: Which, found: Found | None, told: Told, **news: Any) -> None:
        """Show what one's own command said, and let all others have it when that was ours to do."""
        trouble = ""
        if found is not None and found.turn and self._shared is not None:
            trouble = self._shared.give(part, replace(told, at=found.now))
        self._show(part, Part(self._wall(), source=found.note(trouble) if found is not None else ""), **news)

    # --- the picture

    def _try(self, part: str, ask: Callable[[], T]) -> T:
        self._asked[part] = self._clock()
        try:
            said = ask()
        except BatchError as error:
            self._failures[part] = self._failures.get(part, 0) + 1
            old = self.picture.parts.get(part, Part())
            self._show(part, replace(old, failure=error.message))
            raise
        self._failures.pop(part, None)
        return said

    def _show(self, part: str, how: Part | None = None, **news: Any) -> None:
        parts = {**self.picture.parts, part: how or Part(self._wall())} if part else self.picture.parts
        self.picture = replace(self.picture, number=self.picture.number + 1, parts=parts, **news)
