"""The queue: where each pilot of a session stands on its way, for how long, why, and when it may start.

What a batch system does not tell stays empty: nothing is guessed. Knows ledgers; knows no batch system and no figures.
Read next: :mod:`.pictures`, :mod:`.timeline`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model.ids import parse_pilot, pilot_uid
from ..model.ledger import PilotRow
from ..model.states import Cause, PilotState
from ..model.units import human_s
from .axis import Axis
from .grid import LEGEND_COLUMNS, UNITS, legend, pixels
from .palette import MARKS
from .pictures import Picture, PilotReason, Table, Words, head
from .tables import Source
from .texts import line
from .windows import Window

QUEUE_COLUMNS = (
    *("uid", "name", "site", "state", "unreachable", "step", "reason", "cause", "job_id", "queue", "nodes", "cores"),
    *("position", "length", "asked_at", "started_at", "ended_at", "estimate", "source", "walltime"),
)
BAR_COLUMNS = ("key", "x", "x1", "y", "y1", "color", "hatch", "lit", "state", "uid", "text")
LANE_COLUMNS = ("key", "y", "label")
SPARK_COLUMNS = ("key", "x", "x1", "y", "y1")
NOTE_COLUMNS = ("key", "x", "y", "text", "ink")
MARK_COLUMNS = ("key", "x", "text")
FEW, MOST = 24, 200
WIDTH = 960
FEWEST_LANES = 6  # a single pilot is a lane, not a poster
_SHOWN = ("SUBMITTED", "QUEUED", "STARTING", "ACTIVE", "DRAINING")


def queue(source: Source, words: Words, window: Window, now: float) -> Picture:
    """Return where the pilots of a session stand.

    Args:
        window: ``limit`` (pilots), ``begin``, ``select`` (a pilot to highlight), ``width``. now: seconds since 1970.
    """
    most = min(max(1, window.limit or FEW), MOST)
    with source.changed:
        ledger = source.ledger
        values = head(ledger)
        rows = sorted(ledger.pilots, key=lambda row: (row.state.final, -row.number))[:most]
        alive = any(not row.state.final for row in ledger.pilots)
        table = [_line(row, words.pilot) for row in rows]
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
        label = line(f"{pilot_uid(row.number)} {row.spec.name or place_of(row.spec.site)}", 20)
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
    values |= {"begin": float(axis.edges[0]), "end": float(axis.edges[-1]), "pilots": len(ledger.pilots)}
    values["note"] = "" if rows else "No pilot was asked for yet."
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
        },
    )


def _line(row: PilotRow, reason: PilotReason) -> list[Any]:
    queued, step = row.queued, row.step
    waits = queued is not None and not row.state.final
    started = row.times.get(int(PilotState.STARTING)) or row.times.get(int(PilotState.ACTIVE))
    return [
        *(pilot_uid(row.number), row.spec.name, line(row.spec.site), row.state.name, row.silent),
        line(f"{step.step}: {step.text or step.status}") if step is not None and not row.state.final else "",
        *(line(reason(row)), row.cause.name if row.cause is not Cause.NONE else None, line(row.job_id)),
        line(row.spec.queue),
        len(row.nodes) or row.spec.nodes,
        sum(node.cores for node in row.nodes) if row.nodes else row.spec.cores,
        (queued.position or None) if waits and queued else None,
        (queued.length or None) if waits and queued else None,
        *(row.at, started, row.since if row.state.final else None),
        (queued.estimate or None) if waits and queued else None,
        line(queued.source) if waits and queued else "",
        row.spec.walltime or None,
    ]


def place_of(site: str) -> str:
    """Return the short name of a site: of ``slurm+ssh://me@login.org:22/x`` that is ``login``."""
    host = site.partition("://")[2].rpartition("@")[2].partition("/")[0].partition(":")[0]
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
        said = f"estimated start, says {line(row.queued.source) or 'the batch system'}"
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
