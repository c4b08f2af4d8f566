"""The queue: where each pilot of a session stands on its way, for how long, why, when it may start, and who else waits.

What a batch system does not tell stays empty: nothing is guessed. How sure a start is, only its history can say: the
earliest and the latest that were told lately. Knows ledgers; knows no batch system and no figures. Read next:
:mod:`.lines` (everybody's jobs), :mod:`.pictures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..model.ids import parse_pilot, pilot_uid
from ..model.pilotrow import PilotRow
from ..model.sites import SiteView
from ..model.states import Cause, PilotState
from ..model.units import human_s
from .axis import Axis
from .grid import LEGEND_COLUMNS, UNITS, legend, pixels
from .lines import MOST_JOBS, Lines, node_states
from .palette import MARKS
from .pictures import HERE, Picture, PilotReason, Table, Words, head, name_of
from .tables import Source
from .texts import line
from .windows import Window

QUEUE_COLUMNS = (
    *("uid", "name", "site", "state", "unreachable", "step", "reason", "cause", "job_id", "queue", "nodes", "cores"),
    *("position", "length", "asked_at", "started_at", "ended_at", "estimate", "source", "walltime"),
    *("earliest", "latest", "certainty"),
)
BAR_COLUMNS = ("key", "x", "x1", "y", "y1", "color", "hatch", "lit", "state", "uid", "text")
LANE_COLUMNS = ("key", "y", "label")
SPARK_COLUMNS = ("key", "x", "x1", "y", "y1")
NOTE_COLUMNS = ("key", "x", "y", "text", "ink")
MARK_COLUMNS = ("key", "x", "text")
FEW, MOST = 24, 200
FEW_JOBS = 200
LATELY_S = 3600.0  # starts that were told longer ago say nothing of how sure one is
WIDTH = 960
FEWEST_LANES = 4  # a single pilot is a lane, not a poster
_SHOWN = ("SUBMITTED", "QUEUED", "STARTING", "ACTIVE", "DRAINING")


def queue(source: Source, words: Words, window: Window, now: float) -> Picture:
    """Return where the pilots of a session stand.

    Args:
        window: ``limit`` (pilots), ``rows`` (jobs of others), ``search`` (in the jobs: a user, a queue, a reason),
            ``begin``, ``select`` (a pilot or a job to highlight), ``width``. now: seconds since 1970.
    """
    most = min(max(1, window.limit or FEW), MOST)
    with source.changed:
        ledger = source.ledger
        values = head(ledger)
        del values["counts"]  # nothing of tasks is shown: what changes among them is not sent
        rows = sorted(ledger.pilots, key=lambda row: (row.state.final, -row.number))[:most]
        alive = any(not row.state.final for row in ledger.pilots)
        away = any(not row.state.final and row.spec.site not in HERE for row in ledger.pilots)
        table = [_line(row, words.pilot, now) for row in rows]
        own = {(row.spec.site, row.job_id): pilot_uid(row.number) for row in ledger.pilots if row.job_id}
        sites: Mapping[str, SiteView] = dict(getattr(source, "sites", {}))
    chosen = parse_pilot(window.select) if window.select.startswith("p.") else -1
    begins = [row.at for row in rows]
    first = min(begins, default=now - 60.0) if window.begin is None else window.begin
    last = now if alive else max([each.since for each in rows], default=now)
    estimates = [row.queued.estimate for row in rows if row.queued and row.queued.estimate and not row.state.final]
    right = max([last, *estimates]) if window.end is None else window.end
    width = pixels(window.width, WIDTH)
    axis = Axis.of(first, max(right, first + 1.0), int(min(480, max(8, width // 3))))
    edge = min(float(axis.edges[-1]), float(np.ceil(last / axis.width) * axis.width))
    bars, lanes, sparks, notes = [], [], [], []
    for number, row in enumerate(rows):
        low, high = _lane(number, len(rows))
        lit = int(row.number == chosen)
        label = line(f"{pilot_uid(row.number)} {name_of(row) or place_of(row.spec.site)}", 20)
        lanes.append([pilot_uid(row.number), round((low + high) / 2, 1), label])
        bars += _life(row, edge, axis, (low, high), lit)
        sparks += _spark(row, edge, axis, (low, high))
        note = _note(row)
        if note:
            ended = row.state in (PilotState.FAILED, PilotState.CANCELED)
            begin = _x(row.times.get(int(row.state), row.since) + (4 * axis.width if ended else 0), axis)
            notes.append([pilot_uid(row.number), begin, round((low + high) / 2, 1), note, "INK"])
    seen = dict.fromkeys(bar[5] for bar in bars)
    meanings = [
        (name, MARKS[name].hatch, name.lower()) for name in (*_SHOWN, "SILENT", "FAILED", "CANCELED") if name in seen
    ]
    lines = Lines(sites, own, window.select, _short(sites))
    jobs = lines.jobs(window.search, min(max(1, window.rows or FEW_JOBS), MOST_JOBS))
    values |= {"others": sum(not row[6] for row in jobs.rows)}
    values["others_note"] = _others(sites, away, 0 if window.search else len(jobs.rows))
    drawn = lines.figure(width)
    meanings += _users(jobs.rows) + _machines(sites)
    values |= {"begin": float(axis.edges[0]), "end": float(axis.edges[-1]), "pilots": len(ledger.pilots)}
    lacks = f"This session has no {window.select}." if chosen >= len(ledger.pilots) else ""
    values["note"] = lacks if rows else "No pilot was asked for yet."
    marks = [["now", round(edge * 1000), "now"]] if estimates else []
    return Picture(
        values,
        {
            "queue": Table(QUEUE_COLUMNS, table),
            "bars": Table(BAR_COLUMNS, bars),
            "lanes": Table(LANE_COLUMNS, lanes),
            "sparks": Table(SPARK_COLUMNS, sparks),
            "notes": Table(NOTE_COLUMNS, notes),
            "marks": Table(MARK_COLUMNS, marks),
            "legend": Table(LEGEND_COLUMNS, legend(meanings, width)),
            "jobs": jobs,
            "places": lines.places(),
            **drawn,
        },
    )


def _short(sites: Mapping[str, SiteView]) -> dict[str, str]:
    """Return short names of sites; the whole one where two would be called the same."""
    short = {name: place_of(name) for name in sites}
    return {name: text if list(short.values()).count(text) == 1 else name for name, text in short.items()}


def _users(jobs: list[list[Any]]) -> list[tuple[str, str, str]]:
    """Return what the colours of users mean: oneself, and those with the most jobs."""
    count: dict[tuple[str, str], int] = {}
    for row in jobs:
        who = row[5], "you" if row[6] else str(row[4])
        count[who] = count.get(who, 0) + 1
    most = sorted(count, key=lambda who: (who[1] != "you", -count[who], who[1]))[:6]
    return [(color, " ", name) for color, name in most]


def _machines(sites: Mapping[str, SiteView]) -> list[tuple[str, str, str]]:
    seen = {state for view in sites.values() for state in node_states(view)}
    marks = (("busy", "BUSY"), ("mixed", "PARTLY"), ("free", "IDLE"), ("drained", "DRAINED"), ("down", "DOWN"))
    return [(mark, MARKS[mark].hatch, f"nodes {state}") for state, mark in marks if state in seen]


def _others(sites: Mapping[str, SiteView], away: bool, listed: int) -> str:
    """Return why nothing is told of others' jobs, or not all; ``listed``: how many are, 0 for as many as match."""
    if not sites:
        return "Jobs of others are listed while a pilot waits at a batch system." if away else ""
    hidden = sorted(place_of(name) for name, view in sites.items() if not view.whole)
    left = {place_of(name): view.left_out for name, view in sites.items() if view.left_out}
    parts = [f"{', '.join(hidden)} shows nobody the jobs of others"] if hidden else []
    parts += [f"of {name} {count:,} further jobs are not told here" for name, count in left.items()]
    known = sum(len(view.jobs) for view in sites.values())
    parts += [f"{listed:,} of {known:,} jobs are listed; search for others"] if 0 < listed < known else []
    return "; ".join(parts)


def _sure(row: PilotRow, now: float) -> tuple[float, float, str]:
    """Return the earliest and the latest start that was told lately, and how sure that makes the last one."""
    queued = row.queued
    if queued is None or not queued.estimate:
        return 0.0, 0.0, ""
    if queued.estimate < now:
        return 0.0, 0.0, f"overdue by {human_s(now - queued.estimate)}; no later start was told"
    since = now - LATELY_S
    told = [start for at, start in row.estimates[:-1] if at >= since and start > now] + [queued.estimate]
    low, high = min(told), max(told)
    if len(told) == 1:
        return low, high, "told once: how sure it is shows when it is told again"
    if high - low < 60:
        return low, high, f"told {len(told)} times, always the same minute"
    return low, high, f"told {len(told)} times within {human_s(high - low)}"


def _line(row: PilotRow, reason: PilotReason, now: float) -> list[Any]:
    queued, step = row.queued, row.step
    waits = queued is not None and not row.state.final
    started = row.times.get(int(PilotState.STARTING)) or row.times.get(int(PilotState.ACTIVE))
    earliest, latest, certainty = _sure(row, now) if waits else (0.0, 0.0, "")
    return [
        *(pilot_uid(row.number), name_of(row), line(row.spec.site), row.state.name, row.silent),
        line(f"{step.step}: {step.text or step.status}") if step is not None and not row.state.final else "",
        *(line(reason(row)), row.cause.name if row.cause is not Cause.NONE else None, line(row.job_id)),
        line(row.spec.queue),
        len(row.nodes) or row.spec.nodes or None,
        (sum(node.cores for node in row.nodes) if row.nodes else row.spec.cores) or None,
        (queued.position or None) if waits and queued else None,
        (queued.length or None) if waits and queued else None,
        *(row.at, started, row.since if row.state.final else None),
        (queued.estimate or None) if waits and queued else None,
        line(queued.source) if waits and queued else "",
        row.spec.walltime or None,
        *(earliest or None, latest or None, certainty),
    ]


def place_of(site: str) -> str:
    """Return the short name of a site: of ``slurm+ssh://me@login.org:22/x`` that is ``login``."""
    host = site.partition("://")[2].partition("?")[0].rpartition("@")[2].partition("/")[0].partition(":")[0]
    return host.partition(".")[0] if host and not host[0].isdecimal() else host or site


def _lane(number: int, count: int) -> tuple[float, float]:
    step = UNITS / max(FEWEST_LANES, count)
    return UNITS - (number + 1) * step + 0.1 * step, UNITS - number * step - 0.1 * step


def _x(seconds: float, axis: Axis) -> int:
    return round(min(max(seconds, float(axis.edges[0])), float(axis.edges[-1])) * 1000)


def _life(row: PilotRow, edge: float, axis: Axis, lane: tuple[float, float], lit: int) -> list[list[Any]]:
    """Return a bar per state that a pilot was in, and one from now to its estimated start."""
    steps = sorted(row.times.items(), key=lambda each: (each[1], each[0]))
    low, high = round(lane[0], 1), round(lane[1], 1)
    uid = pilot_uid(row.number)
    bars = []
    for place, (state, at) in enumerate(steps):
        known = PilotState(state)
        if known.final:
            x = _x(at, axis)
            if known is not PilotState.DONE:
                end = x + round(4000 * axis.width)
                said = line(row.reason or row.cause.name.lower().replace("_", " "), 120)
                name = known.name
                bars.append([f"{uid}:{name}", x, end, low, high, name, MARKS[name].hatch, lit, name, uid, said])
            break
        until = steps[place + 1][1] if place + 1 < len(steps) else edge
        name = known.name
        if row.silent and place + 1 == len(steps):
            name = "SILENT"
        x, x1 = _x(at, axis), _x(until, axis)
        if x1 > x:
            took = "" if place + 1 == len(steps) else f"for {human_s(until - at)}"
            bars.append([f"{uid}:{known.name}", x, x1, low, high, name, MARKS[name].hatch or " ", lit, name, uid, took])
    if row.queued is not None and row.queued.estimate > edge and not row.state.final:
        low_, high_, sure = _sure(row, edge)
        said = f"estimated start, says {line(row.queued.source) or 'the batch system'}; {sure}"
        if high_ - low_ >= 2 * axis.width:
            # How far the told starts lie apart: a thin line through the lane.
            middle = (low + high) / 2
            where = (round(middle - (high - low) / 12, 1), round(middle + (high - low) / 12, 1))
            spread = [
                _x(low_, axis),
                _x(high_, axis),
                *where,
                "INK",
                " ",
                0,
                "ESTIMATE",
                uid,
                f"starts that were {sure}",
            ]
            bars.append([f"{uid}:spread", *spread])
        x, x1 = _x(edge, axis), _x(row.queued.estimate, axis)
        if x1 > x:
            third = (high - low) / 3
            place_ = (round(low + third, 1), round(high - third, 1))
            bars.append([f"{uid}:estimate", x, x1, *place_, "QUEUED", "/", lit, "ESTIMATE", uid, said])
    return bars


def _spark(row: PilotRow, edge: float, axis: Axis, lane: tuple[float, float]) -> list[list[Any]]:
    """Return a pilot's place in the queue over time, in pieces of a stepped line in its lane; the first is below."""
    places = row.places
    if len(places) < 2:
        return []
    most = max(place for _, place in places)
    least = min(place for _, place in places)
    low, high = lane
    room = 0.8 * (high - low)
    until = row.times.get(int(PilotState.STARTING)) or row.times.get(int(PilotState.ACTIVE))
    until = until or (row.since if row.state.final else edge)
    rows: list[list[Any]] = []
    x0 = y0 = None
    for number, (at, place) in enumerate((*places, (until, places[-1][1]))):
        x = _x(at, axis)
        y = round(low + 0.1 * (high - low) + room * (place - least) / max(1, most - least), 1)
        if x0 is not None and y0 is not None:
            rows.append([f"{pilot_uid(row.number)}:{number}", x0, x, y0, y0])
            rows.append([f"{pilot_uid(row.number)}:{number}-", x, x, y0, y])
        x0, y0 = x, y
    return rows


def _note(row: PilotRow) -> str:
    """Return what is written into a pilot's lane: its place, or that it failed."""
    if row.state.final:
        return row.state.name.lower()
    if row.queued is not None and row.queued.position:
        of = f" of {row.queued.length}" if row.queued.length else ""
        return f"place {row.queued.position}{of}"
    if row.silent:
        return "unreachable"
    return ""
