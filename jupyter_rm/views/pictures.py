"""Pictures: what one view shows at one moment, as plain values and keyed tables.

A :class:`Picture` is bounded by what a screen can show, whatever the size of the session; :mod:`.feed` sends its first
one whole and of later ones what changed. The roof tells how reasons are worded. Knows no sockets and no clients.
Read next: :mod:`.feed`, :mod:`.tables`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..model.errors import RequestError
from ..model.ids import pilot_uid
from ..model.ledger import Ledger
from ..model.pilotrow import PilotRow
from ..model.sites import SiteView
from ..model.states import CAUSE_TEXT, Cause, TaskState
from . import tables
from .texts import line

MOST_PILOTS = 200
MOST_BINS = 500
PILOT_COLUMNS = (
    *("uid", "name", "site", "state", "unreachable", "reason", "cause", "job_id"),
    *("nodes", "cores", "gpus", "running", "asked_at", "since", "suspended", "ops"),
)
HERE = ("local", "noop")  # sites without a login or a batch system; all others are URLs, or names of site files
JOB_OPS = ("hold", "release", "suspend", "resume")  # what can be done to a job, if its batch system can
ACTIVITY_COLUMNS = ("at", "started", "done", "failed", "canceled", "running")
SESSION_COLUMNS = ("name", "state", "opened_at", "tasks", "pilots", "clients")
# Widths of the bins of a time axis, seconds: those that people count in.
_WIDTHS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 43200, 86400, 604800)
PilotReason = Callable[[PilotRow], str]


@dataclass(frozen=True)
class Table:
    """Rows in order; the first cell of a row is its key and occurs once."""

    columns: Sequence[str]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Picture:
    """What a view shows: named plain values and named tables."""

    values: dict[str, Any]
    tables: dict[str, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Words:
    """How things are said: the reason of a task's state, and of a pilot's."""

    task: tables.Reason
    pilot: PilotReason


def counts_of(ledger: Ledger) -> dict[str, int]:
    """Return the number of tasks per state, those states only in which there are some."""
    counts = ledger.counts
    return {state.name: int(counts[state]) for state in TaskState if counts[state]}


def head(ledger: Ledger) -> dict[str, Any]:
    """Return the values that all views of a session tell."""
    return {
        "session": ledger.name,
        "state": "closed" if ledger.closed else "open",
        "opened_at": ledger.opened_at,
        "counts": counts_of(ledger),
        "total": sum(len(table) for table in ledger.bulks),
    }


# ------------------------------------------------------------ summary


def name_of(row: PilotRow) -> str:
    """Return the name given to a pilot; a script of one's own is called one."""
    spec = row.spec
    return f"script {spec.name or spec.script_name}".rstrip() if spec.script else spec.name


def pilot_row(row: PilotRow, running: int, reason: PilotReason, sites: Mapping[str, SiteView]) -> list[Any]:
    """Return the cells of a pilot, as in :data:`PILOT_COLUMNS`; times are seconds since 1970."""
    return [
        pilot_uid(row.number),
        name_of(row),
        row.spec.site,
        row.state.name,
        row.silent,
        line(reason(row)),
        row.cause.name if row.cause is not Cause.NONE else None,
        row.job_id,
        len(row.nodes) or row.spec.nodes,
        sum(node.cores for node in row.nodes) or row.spec.cores,
        sum(node.gpus for node in row.nodes) or row.spec.gpus,
        running,
        row.at,
        row.since,
        row.suspended,
        _ops(row, sites),
    ]


def _ops(row: PilotRow, sites: Mapping[str, SiteView]) -> list[str] | None:
    """Return which of :data:`JOB_OPS` the site of a pilot can do; None: nothing was heard of it yet."""
    if row.spec.site in HERE:
        return []
    seen = sites.get(row.spec.site)
    return None if seen is None else [op for op in JOB_OPS if op in seen.ops]


def pilots_table(ledger: Ledger, reason: PilotReason, sites: Mapping[str, SiteView], most: int = MOST_PILOTS) -> Table:
    """Return the pilots, newest first, those that live before those that ended, at most ``most`` of them.

    Args:
        sites: by name, as they were heard of last: what their batch systems can do.
    """
    running = np.zeros(len(ledger.pilots) + 1, np.int64)
    for table in ledger.bulks:
        if table.counts[TaskState.RUNNING]:
            holders = table.pilot[table.state == TaskState.RUNNING].astype(np.int64) + 1
            running += np.bincount(holders, minlength=len(running))[: len(running)]
    order = sorted(ledger.pilots, key=lambda row: (row.state.final, -row.number))[:most]
    return Table(PILOT_COLUMNS, [pilot_row(row, int(running[row.number + 1]), reason, sites) for row in order])


def summary(source: tables.Source, words: Words) -> Picture:
    """Return a session at a glance: tasks per state, why tasks failed, its pilots."""
    with source.changed:
        ledger = source.ledger
        causes = np.zeros(256, np.int64)
        for table in ledger.bulks:
            if table.counts[TaskState.FAILED]:
                causes += np.bincount(table.cause[table.state == TaskState.FAILED], minlength=256)[:256]
        values = head(ledger)
        values["failures"] = {cause.name: int(causes[cause]) for cause in Cause if causes[cause]}
        values["causes"] = {name: CAUSE_TEXT[Cause[name]] for name in values["failures"]}
        values["pilots"] = len(ledger.pilots)
        values["pilots_alive"] = sum(not row.state.final for row in ledger.pilots)
        sites: Mapping[str, SiteView] = getattr(source, "sites", {})
        return Picture(values, {"pilots": pilots_table(ledger, words.pilot, sites)})


# ------------------------------------------------------------ tasks


def tasks(source: tables.Source, words: Words, query: tables.Query, offset: int = 0, limit: int = 100) -> Picture:
    """Return a window of the filtered and sorted table of tasks, and the counts beside it."""
    # Counts first: rows may be later than the counts beside them, never earlier, so that the last picture of a session
    # whose tasks have all ended shows their ends.
    with source.changed:
        values = head(source.ledger)
    page = tables.select(source, query, offset, limit)
    rows = tables.rows(source, page.places, lambda table, index: line(words.task(table, index)))
    values |= {"matched": page.matched, "offset": page.offset}
    return Picture(values, {"tasks": Table(tables.COLUMNS, rows)})


# ------------------------------------------------------------ activity


def activity(source: tables.Source, now: float, bins: int = 200, begin: float | None = None) -> Picture:
    """Return what was started, ended and running over time.

    Args:
        now: wall time, seconds since 1970. bins: at most so many. begin: left edge, default when the session opened.
    """
    if not 2 <= bins <= MOST_BINS:
        raise RequestError(f"bins: {bins}", hint=f"give 2 to {MOST_BINS}", code="JRM-Q60")
    with source.changed:
        ledger = source.ledger
        values = head(ledger)
        ended = [(table.state, table.started, table.ended) for table in ledger.bulks if table.counts[5:].any()]
        copies = [tuple(column.copy() for column in columns) for columns in ended]
    # Clocks differ: a session may seem to open in the future.
    first = min(values["opened_at"] if begin is None else begin, now)
    span = max(1.0, now - first)
    width = next((width for width in _WIDTHS if span / width < bins), math.ceil(span / bins))
    # Edges are multiples of the width: a bin keeps its place, and its key, while time goes on.
    left = math.floor(first / width)
    count = min(bins, math.floor(now / width) - left + 1)
    sums = np.zeros((4, count + 2), np.int64)
    running = np.zeros(count + 2, np.int64)
    for state, began, over in copies:
        starts = _bins(began, began > 0, width, left, count)
        sums[0] += starts
        running += starts
        final = over > 0
        running -= _bins(over, final & (began > 0), width, left, count)
        for place, which in enumerate((TaskState.DONE, TaskState.FAILED, TaskState.CANCELED), 1):
            sums[place] += _bins(over, final & (state == which), width, left, count)
    # Place 0 holds everything before the left edge, the last one everything after the right edge.
    level = np.cumsum(running)
    rows = [
        [round((left + at) * width, 1), *(int(sums[kind, at + 1]) for kind in range(4)), int(level[at + 1])]
        for at in range(count)
    ]
    return Picture(values | {"bin_s": width}, {"activity": Table(ACTIVITY_COLUMNS, rows)})


def _bins(times: tables.Array, mask: tables.Array, width: float, left: int, count: int) -> tables.Array:
    if not bool(mask.any()):
        return np.zeros(count + 2, np.int64)
    place = np.clip(np.floor(times[mask] / width).astype(np.int64) - left + 1, 0, count + 1)
    return np.bincount(place, minlength=count + 2)


# ------------------------------------------------------------ sessions


def sessions(lines: Sequence[Mapping[str, Any]]) -> Picture:
    """Return the sessions of a user, open ones first.

    Args:
        lines: per session ``name, state, opened_at, tasks (per state), pilots ((name, site, state)), clients``.
    """
    # A closed session's name may be used again: the newest of a name is the one that people mean.
    newest: dict[str, Mapping[str, Any]] = {}
    for each in sorted(lines, key=lambda each: (each["state"] == "open", each["opened_at"])):
        newest[each["name"]] = each
    order = sorted(newest.values(), key=lambda each: (each["state"] != "open", -each["opened_at"], each["name"]))
    rows = [[each[name] for name in SESSION_COLUMNS] for each in order[:MOST_PILOTS]]
    return Picture({"sessions": len(order)}, {"sessions": Table(SESSION_COLUMNS, rows)})
