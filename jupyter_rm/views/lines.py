"""The lines at the sites of a session: everybody's jobs by their place, oneself marked, and how the nodes are.

What a site does not tell stays empty. Knows rows that were told to this process; asks nobody. Read next:
:mod:`.people`, :mod:`.queue`, :mod:`jupyter_rm.model.sites`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..model.sites import SiteJob, SiteView
from .grid import UNITS
from .palette import MARKS
from .people import hues, job_key
from .pictures import Table
from .texts import line

JOB_COLUMNS = (
    *("key", "position", "length", "id", "user", "color", "mine", "state", "queue", "reason", "submit", "start"),
    *("estimate", "nodes", "hosts", "site", "uid", "lit"),
)
PLACE_COLUMNS = (
    *("key", "title", "jobs", "others", "nodes", "up", "free", "mixed", "busy", "drained", "down", "unknown"),
    *("heard_queue", "heard_nodes", "number", "failure", "source"),
)
LINE_COLUMNS = ("key", "x", "x1", "y", "y1", "color", "hatch", "lit", "state", "uid", "place", "first", "last", "note")
ROW_COLUMNS = ("key", "y", "label")
TOLD_COLUMNS = ("key", "x", "y", "text", "ink")
MOST_ROWS, MOST_JOBS = 6, 1000
_NOTE_PX = 110  # so much room a text above a mark takes
# Widths of marks, in tenths exactly: when jobs leave the line all others move by the same, and when it becomes a little
# longer or shorter none does. At least two thirds of the figure are used.
_WIDTHS = (50, 40, 30, 25, 20, 16, 12, 10, 8, 6, 5, 4, 3.2, 2.5, 2, 1.6, 1.2, 1, 0.8, 0.6, 0.5, 0.4)
_NODES = (("busy", "BUSY"), ("mixed", "PARTLY"), ("free", "IDLE"), ("drained", "DRAINED"), ("down", "DOWN"))


@dataclass(frozen=True)
class Lines:
    """Everybody's jobs at some sites.

    Args:
        sites: by name. own: (site, job id) -> pilot, such as ``p.0``. select: what is highlighted.
        short: how a site is called where there is little room.
    """

    sites: Mapping[str, SiteView]
    own: Mapping[tuple[str, str], str]
    select: str
    short: Mapping[str, str]

    def uid(self, site: str, job: SiteJob) -> str:
        """Return what highlights a job in all views: its pilot, or the job itself."""
        return self.own.get((site, job.id)) or job_key(site, job.id)

    def jobs(self, search: str = "", limit: int = 200) -> Table:
        """Return everybody's jobs: those in line by their place, then those that stand in none, then those that run."""
        rows: list[list[Any]] = []
        for name, view in sorted(self.sites.items()):
            colors = hues(view.jobs)
            lengths = _lengths(view)
            for job in sorted(view.jobs, key=_order):
                uid = self.uid(name, job)
                rows.append(
                    [
                        *(f"{name} {job.id}", job.position or None),
                        lengths.get(job.queue) if job.position else None,
                        *(line(job.id), line(job.user), colors[job.user], job.mine, line(job.state)),
                        *(line(job.queue), line(job.reason), job.submit or None, job.start or None),
                        *(job.estimate or None, job.nodes or None, line(job.hosts, 80)),
                        *(self.short.get(name, name), uid, int(uid == self.select)),
                    ]
                )
        if search:
            words = search.lower()
            rows = [row for row in rows if any(words in str(row[at]).lower() for at in (3, 4, 7, 8, 9, 15))]
        # One's own are never cut off.
        room = max(0, limit - sum(row[6] for row in rows))
        kept = []
        for row in rows:
            if row[6] or room > 0:
                kept.append(row)
                room -= not row[6]
        return Table(JOB_COLUMNS, kept)

    def places(self) -> Table:
        """Return one row a site: jobs, nodes by state, and when each was heard of."""
        return Table(PLACE_COLUMNS, [_place(name, view) for name, view in sorted(self.sites.items())])

    def figure(self, width: int) -> dict[str, Table]:
        """Return the drawn lines: a mark a job in line, one's own lit, and under them the nodes by state.

        Args:
            width: of the figure, pixels; there are never more marks than it can show.
        """
        rows = self._rows()[:MOST_ROWS]
        marks: list[list[Any]] = []
        names, told = [], []
        step = UNITS / max(2, len(rows))
        for number, (name, queue) in enumerate(rows):
            low, high = UNITS - (number + 0.88) * step, UNITS - (number + 0.38) * step
            above = round(UNITS - (number + 0.2) * step, 1)
            key = f"{name} {queue}"
            short = self.short.get(name, name)
            y = (round(low, 1), round(high, 1))
            if queue:
                made, notes = self._line(name, queue, y, width)
                told += [[f"{key} {uid}", x, above, text, "INK"] for uid, x, text in notes]
            else:
                made = _machines(name, self.sites[name], y)
            marks += made
            names.append([key, round((low + high) / 2, 1), line(f"{short} {queue or 'nodes'}", 20)])
        return {
            "line": Table(LINE_COLUMNS, marks),
            "line_rows": Table(ROW_COLUMNS, names),
            "line_notes": Table(TOLD_COLUMNS, told),
        }

    def _rows(self) -> list[tuple[str, str]]:
        """Return (site, queue) of the lines to draw, those that one stands in first; an empty queue: the nodes."""
        found: list[tuple[str, str]] = []
        for name, view in sorted(self.sites.items()):
            waiting = [job for job in view.jobs if job.position]
            mine = Counter(job.queue for job in waiting if job.mine)
            all_ = Counter(job.queue for job in waiting)
            queues = sorted(all_, key=lambda queue: (-mine[queue], -all_[queue], queue))
            found += [(name, queue) for queue in queues[:3]]
            found += [(name, "")] if view.node_states else []
        return found

    def _line(
        self, name: str, queue: str, y: tuple[float, float], width: int
    ) -> tuple[list[list[Any]], list[tuple[str, float, str]]]:
        view = self.sites[name]
        colors = hues(view.jobs)
        jobs = sorted((job for job in view.jobs if job.queue == queue and job.position), key=_order)
        length = max((job.position for job in jobs), default=1)
        size = max(1, -(-length * 3 // max(3, width)))  # jobs in one mark
        buckets: dict[int, list[SiteJob]] = {}
        for job in jobs:
            buckets.setdefault((job.position - 1) // size, []).append(job)
        count = -(-length // size)
        wide = next((width for width in _WIDTHS if width * count <= UNITS), UNITS / count)
        gap = max(0.1, round(0.06 * wide, 1))
        marks: list[list[Any]] = []
        notes: list[tuple[str, float, str]] = []
        for number, some in sorted(buckets.items()):
            own = [job for job in some if job.mine]
            # Of one's own a pilot speaks for the others.
            first = min(own, key=lambda job: (name, job.id) not in self.own) if own else some[0]
            most = first.user if own else Counter(job.user for job in some).most_common(1)[0][0]
            uid = self.uid(name, first) if len(some) == 1 or own else ""
            lit = int(any(self.uid(name, job) == self.select for job in some))
            x, x1 = _tenth(number * wide + gap), _tenth((number + 1) * wide - gap)
            state = "QUEUED" if own else "OTHERS"
            # A job keeps its mark, which moves; where several share one it is the mark that stays.
            key = f"{name} {first.id}" if size == 1 else f"{name} {queue} {number}"
            marks.append([key, x, x1, *y, colors[most], " ", lit, state, uid, *_told(some, queue)])
            if uid.startswith("p.") and (not notes or x - notes[-1][1] > _NOTE_PX * UNITS / width):
                # At the right edge there is no room for it further to the right.
                notes.append((uid, round(min(x, UNITS - _NOTE_PX * UNITS / width), 1), f"{uid} place {first.position}"))
        return marks, notes


def _order(job: SiteJob) -> tuple[Any, ...]:
    return (
        job.state.partition(":")[0] != "queued",
        job.position or 1 << 60,
        job.queue,
        job.start or job.submit,
        len(job.id),
        job.id,
    )


def _lengths(view: SiteView) -> dict[str, int]:
    """Return how many stand in each line; nothing where some were left out or are not shown."""
    if view.left_out or not view.whole:
        return {}
    return dict(Counter(job.queue for job in view.jobs if job.position))


def _told(jobs: Sequence[SiteJob], queue: str) -> tuple[int | None, int | None, int | None, str]:
    """Return what is said of a mark: its place, or its first and last one, and what does not change with them."""
    first, last = jobs[0], jobs[-1]
    if len(jobs) == 1:
        why = f": {first.reason}" if first.reason else ""
        return first.position, None, None, line(f"job {first.id} of {first.user} in {queue}{why}", 200)
    ((most, count),) = Counter(job.user for job in jobs).most_common(1)
    # Who they all are stands in the list below; here it would be told anew of all marks whenever a job starts.
    others = f"most of {most}" if 2 * count > len(jobs) else f"{most} and others"
    who = f"all of {most}" if count == len(jobs) else others
    return None, first.position, last.position, line(f"in {queue}, {who}", 200)


def _tenth(value: float) -> float:
    """Return a number with one decimal, a whole one without: differences of such columns are told in few bytes."""
    rounded = round(value, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def node_states(view: SiteView) -> dict[str, int]:
    """Return how many nodes are free, mixed, busy, drained, down and unknown; zeros are left out."""
    states = dict(view.node_states)
    offline = states.pop("offline", 0)
    # Those that are ill come first in the list, so that it holds all of them.
    drained = min(offline, sum(node.state == "offline" and "drain" in node.raw.lower() for node in view.nodes))
    return {name: count for name, count in (states | {"drained": drained, "down": offline - drained}).items() if count}


def _machines(name: str, view: SiteView, y: tuple[float, float]) -> list[list[Any]]:
    """Return the nodes of a site as one bar whose parts are the states."""
    states = node_states(view)
    total = sum(states.values())
    marks: list[list[Any]] = []
    x = 0.0
    for state, mark in (*_NODES, ("unknown", "ABSENT")):
        count = states.get(state, 0)
        if count:
            x1 = x + UNITS * count / total
            text = f"{count:,} of {total:,} nodes {state}"
            key = f"{name} nodes {state}"
            places = (None, None, None)
            marks.append([key, _tenth(x), _tenth(x1), *y, mark, MARKS[mark].hatch or " ", 0, mark, "", *places, text])
            x = x1
    return marks


def _place(name: str, view: SiteView) -> list[Any]:
    own = sum(job.mine for job in view.jobs)
    states = node_states(view)
    total = sum(states.values())
    up = total - states.get("down", 0) - states.get("drained", 0) - states.get("unknown", 0)
    return [
        *(line(name), line(view.title), own, len(view.jobs) - own + view.left_out if view.whole else None),
        *(total or None, up if total else None),
        *(states.get(state, 0) if total else None for state in ("free", "mixed", "busy", "drained", "down", "unknown")),
        *(view.heard.get("queue") or view.heard.get("jobs"), view.heard.get("nodes"), view.number or None),
        line("; ".join(f"{part}: {why}" for part, why in view.failures.items())),
        line(sources(view)),
    ]


def sources(view: SiteView) -> str:
    """Return where the parts of a view are from, each source once, a single one alone; empty: one's own commands."""
    said: dict[str, list[str]] = {}
    for part, source in view.sources.items():
        said.setdefault(source, []).append(part)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{', '.join(parts)}: {source}" for source, parts in said.items())
