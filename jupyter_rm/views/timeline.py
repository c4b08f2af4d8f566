"""The timeline: what ran when, on which node, pilot or as which task; failed tasks stand out.

Few tasks are drawn one by one, side by side where they ran at once. Of many, each lane tells how busy it was per bin of
time, and where tasks failed; so a screen never gets more marks than it has room for. Bars of what still runs end at the
edge of a bin, so that they change only now and then. Knows columns; knows no figures. Read next: :mod:`.nodes`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..model.errors import RequestError
from ..model.ids import parse_pilot, parse_task, pilot_uid
from ..model.states import TaskState
from ..model.units import human_s
from . import nodes
from .axis import Axis
from .chart import chart
from .gather import Gathered, gather
from .grid import LEGEND_COLUMNS, UNITS, legend, pixels
from .palette import MARKS, category
from .pictures import Picture, Table, head
from .tables import Array, Source
from .texts import line
from .windows import Window

BY = ("node", "pilot", "task")
COLORS = ("state", "task")
WIDTH, HEIGHT = 960, 420
FEW_LANES, MOST_LANES = 32, 400
MOST_BARS, MOST_BINS = 2000, 2800
BAR_COLUMNS = ("key", "x", "x1", "y", "y1", "color", "hatch", "lit", "state", "uid", "text")
LANE_COLUMNS = ("key", "y", "label")
MARK_COLUMNS = ("key", "x", "text")


@dataclass(frozen=True)
class Lanes:
    """The lanes of a timeline.

    Attributes:
        labels: from above. lane: of each task, -1: none, shape (n,) of ``tasks``. cores: what each can hold.
        spans: when each held something, (begin, end) seconds since 1970.
    """

    keys: list[str]
    labels: list[str]
    tasks: Array
    lane: Array
    cores: Array
    spans: list[tuple[float, float] | None]
    matched: int


def timeline(source: Source, window: Window, now: float) -> Picture:
    """Return the timeline for a window.

    Args:
        window: ``by`` (``node``, ``pilot`` or ``task``), ``begin``, ``end`` (seconds since 1970), ``rows`` (lanes),
            ``offset`` (of tasks), ``focus`` (a rack or node), ``color``, ``layout``, ``select``, ``at`` (show what was
            known then), ``width``, ``height``. now: seconds since 1970.

    Raises:
        RequestError: a field is wrong; JRM-Q60, JRM-Q68.
    """
    by, color = window.by or "node", window.color or "state"
    if by not in BY:
        raise RequestError(f"by: {by!r} is unknown", hint="use " + ", ".join(BY), code="JRM-Q60")
    if color not in COLORS:
        raise RequestError(f"color: {color!r} is unknown", hint="use " + ", ".join(COLORS), code="JRM-Q60")
    with source.changed:
        values = head(source.ledger)
        gathered = gather(source)
    latest = gathered.latest(now)
    width, height = pixels(window.width, WIDTH), pixels(window.height, HEIGHT)
    first = gathered.opened_at if window.begin is None else window.begin
    last = latest if window.end is None else window.end
    if not last > first:
        last = first + 1.0
    # Three pixels are the least that is worth a change.
    axis = Axis.of(first, last, int(min(480, max(8, width // 3))))
    moment = latest if window.at is None else min(max(window.at, gathered.opened_at), latest)
    ends = _ends(gathered, moment)
    rows = min(window.rows, MOST_LANES) if window.rows > 0 else FEW_LANES
    inside = (gathered.started > 0) & (gathered.started <= min(moment, axis.edges[-1])) & (ends >= axis.edges[0])
    seen = np.flatnonzero(inside)
    if by == "task":
        lanes = _by_task(gathered, seen, rows, window.offset)
    elif by == "pilot":
        lanes = _by_pilot(gathered, seen, rows, moment)
    else:
        lanes = _by_node(gathered, seen, rows, window, moment)
    edge = float(axis.edges[min(axis.count, max(0, int(np.ceil(moment / axis.width)) - axis.left))])
    lit = _lit(gathered, lanes.tasks, window.select)
    draw = _Drawing(gathered, lanes, axis, ends, edge, color, lit)
    count = max(1, len(lanes.keys))
    single = len(lanes.tasks) <= MOST_BARS
    bars = draw.held() + (draw.one_by_one(height) if single else draw.binned(MOST_BINS // count))
    marks = [["at", round(moment * 1000), "replay"]] if window.at is not None else []
    values |= {
        "by": by,
        "begin": float(axis.edges[0]),
        "end": float(axis.edges[-1]),
        "bin_s": axis.width,
        "at": window.at,
        "matched": lanes.matched,
        "lanes": len(lanes.keys),
        "offset": window.offset,
        "binned": not single,
        "layout": window.layout or "physical",
        "color": color,
        "note": gathered.missing(window.select) if lanes.keys else "Nothing has run yet.",
    }
    if gathered.closed or latest < now:
        values["now"] = latest
    return Picture(
        values,
        {
            "bars": Table(BAR_COLUMNS, bars),
            "lanes": Table(LANE_COLUMNS, draw.labels(height)),
            "marks": Table(MARK_COLUMNS, marks),
            "legend": Table(LEGEND_COLUMNS, legend(_meanings(bars, single, color), width)),
        },
    )


def _ends(gathered: Gathered, moment: float) -> Array:
    """Return when each task ended; infinite when it had not at ``moment``."""
    ended = (gathered.state >= TaskState.DONE) & (gathered.ended > 0) & (gathered.ended <= moment)
    return np.where(ended, gathered.ended, np.inf)


# ------------------------------------------------------------ lanes


def _by_task(gathered: Gathered, seen: Array, rows: int, offset: int) -> Lanes:
    if offset < 0:
        raise RequestError(f"offset: {offset}", hint="start at 0 or more", code="JRM-Q60")
    offset = min(offset, max(0, len(seen) - 1))
    order = seen[np.lexsort((seen, gathered.started[seen]))][offset : offset + rows] if len(seen) else seen
    uids = [gathered.uid(int(place)) for place in order]
    waited: list[tuple[float, float] | None] = [
        (float(gathered.submitted[bulk]), float(gathered.started[place]))
        for bulk, place in zip(gathered.bulk(order).tolist(), order.tolist(), strict=True)
    ]
    return Lanes(uids, uids, order, np.arange(len(order)), np.ones(len(order)), waited, len(seen))


def _by_pilot(gathered: Gathered, seen: Array, rows: int, moment: float) -> Lanes:
    shown = [pilot for pilot in gathered.pilots if pilot.active is not None and pilot.active <= moment][-rows:]
    place = np.full(max((pilot.number for pilot in gathered.pilots), default=-1) + 2, -1, np.int64)
    for at, pilot in enumerate(shown):
        place[pilot.number] = at
    lane = place[gathered.pilot[seen].astype(np.int64)]
    there = lane >= 0
    uids = [pilot_uid(pilot.number) for pilot in shown]
    labels = [line(f"{pilot_uid(each.number)} {each.row.spec.name or each.row.spec.site}", 40) for each in shown]
    cores = np.array([sum(node.cores for node in pilot.nodes) for pilot in shown], float)
    spans: list[tuple[float, float] | None] = [
        (pilot.active or 0.0, min(moment, pilot.until or np.inf)) for pilot in shown
    ]
    return Lanes(uids, labels, seen[there], lane[there], cores, spans, int(there.sum()))


def _by_node(gathered: Gathered, seen: Array, rows: int, window: Window, moment: float) -> Lanes:
    # Nodes of pilots that are gone are shown too: tasks ran there.
    pilots = [pilot for pilot in gathered.pilots if pilot.nodes and (pilot.active or 0.0) <= moment]
    plan = chart(pilots, window.layout or "physical")
    parts = plan.parts(window.focus, rows, "node")
    host = nodes.hosts(gathered, plan, seen)
    edges = np.array([part.begin for part in parts] + [parts[-1].end if parts else 0], np.int64)
    lane = np.searchsorted(edges, host, "right") - 1
    there = (host >= 0) & (lane >= 0) & (lane < len(parts))
    cores = np.diff(np.concatenate((np.zeros(1), np.cumsum(plan.cores)))[edges]) if parts else np.zeros(0)
    first = np.full(len(plan), np.inf)
    until = np.full(len(plan), -np.inf)
    for pilot in pilots:
        where = plan.where[pilot.number]
        first[where] = np.minimum(first[where], pilot.active or moment)
        until[where] = np.maximum(until[where], min(moment, pilot.until or np.inf))
    spans: list[tuple[float, float] | None] = []
    for part in parts:
        low, high = float(first[part.begin : part.end].min()), float(until[part.begin : part.end].max())
        spans.append((low, high) if high > low else None)
    keys = [part.key for part in parts]
    return Lanes(keys, [part.label for part in parts], seen[there], lane[there], cores, spans, int(there.sum()))


def _lit(gathered: Gathered, tasks: Array, select: str) -> Array:
    """Return a mask of the tasks that are highlighted."""
    # A job of somebody else has no bars here.
    if not select or select.startswith("j.") or gathered.missing(select):
        return np.zeros(len(tasks), bool)
    if select.startswith("p."):
        chosen: Array = gathered.pilot[tasks] == parse_pilot(select)
        return chosen
    bulk, index = parse_task(select)
    mask: Array = gathered.bulk(tasks) == bulk
    if select.count(".") == 2:
        mask &= tasks == gathered.starts[bulk] + index
    return mask


# ------------------------------------------------------------ bars


@dataclass(frozen=True)
class _Drawing:
    """Bars of a timeline, in 1000 units from the top to the bottom."""

    gathered: Gathered
    lanes: Lanes
    axis: Axis
    ends: Array
    edge: float  # right end of what still runs
    color: str
    lit: Array

    def _lane(self, number: int) -> tuple[float, float]:
        """Return (bottom, height) of a lane."""
        step = UNITS / max(8, len(self.lanes.keys))
        return UNITS - (number + 1) * step + 0.08 * step, 0.84 * step

    def labels(self, height: int) -> list[list[Any]]:
        """Return the rows of ``lanes``; names that would lie over each other are left out."""
        rows = []
        every = 1 + int(11 * len(self.lanes.keys) / max(height, 1))
        for number, (key, label) in enumerate(zip(self.lanes.keys, self.lanes.labels, strict=True)):
            bottom, part = self._lane(number)
            rows.append([key, round(bottom + part / 2, 1), label if number % every == 0 else ""])
        return rows

    def _x(self, seconds: float) -> int:
        return round(min(max(seconds, float(self.axis.edges[0])), float(self.axis.edges[-1])) * 1000)

    def held(self) -> list[list[Any]]:
        """Return the pale bars behind: when a node was held, or a task waited."""
        rows = []
        for number, span in enumerate(self.lanes.spans):
            if span is None:
                continue
            bottom, height = self._lane(number)
            x, x1 = self._x(span[0]), self._x(min(self._edge(span[1]), self.edge))
            if x1 > x:
                place = (round(bottom, 1), round(bottom + height, 1))
                rows.append([f"h:{self.lanes.keys[number]}", x, x1, *place, "IDLE", " ", 0, "", "", ""])
        return rows

    def _edge(self, seconds: float) -> float:
        return float(np.ceil(seconds / self.axis.width) * self.axis.width)

    def one_by_one(self, height: int) -> list[list[Any]]:
        """Return one bar per task; tasks that ran at once lie side by side."""
        gathered, lanes = self.gathered, self.lanes
        started, ends = gathered.started[lanes.tasks], self.ends[lanes.tasks]
        order = np.lexsort((lanes.tasks, started, lanes.lane)).tolist()
        level, depth = self._packed(order, started, ends)
        bulks = gathered.bulk(lanes.tasks).tolist()
        rows = []
        for at in order:
            number = int(lanes.lane[at])
            bottom, room = self._lane(number)
            part = room / max(1, depth[number])
            low = bottom + room - (level[at] + 1) * part
            gap = 0.12 * part if part * height / UNITS > 5 else 0.0
            place = int(lanes.tasks[at])
            runs = not np.isfinite(ends[at])
            state = TaskState.RUNNING if runs else TaskState(int(gathered.state[place]))
            x = self._x(float(started[at]))
            x1 = self._x(self.edge if runs else float(ends[at]))
            uid = gathered.uid(place)
            name = "RUNNING" if runs else state.name
            key = name if self.color == "state" or state is TaskState.FAILED else category(bulks[at])
            x1 = max(x1, x + round(400 * self.axis.width))  # a bar of a moment is still a pixel wide
            took = 0.0 if runs else float(ends[at] - started[at])
            rows.append(
                [
                    *(uid, x, x1, round(low + gap, 1), round(low + part, 1), key),
                    *(MARKS[name].hatch or " ", int(self.lit[at]), name, uid),
                    "still runs" if runs else f"took {human_s(took)}",
                ]
            )
        return rows

    def _packed(self, order: list[int], started: Array, ends: Array) -> tuple[dict[int, int], dict[int, int]]:
        """Return the level of each bar within its lane, and how many levels each lane has."""
        level: dict[int, int] = {}
        depth: dict[int, int] = {}
        lane, busy, free = -1, [(0.0, 0)][:0], [0][:0]
        for at in order:
            number = int(self.lanes.lane[at])
            if number != lane:
                lane, busy, free = number, [], []
            while busy and busy[0][0] <= started[at]:
                heapq.heappush(free, heapq.heappop(busy)[1])
            level[at] = heapq.heappop(free) if free else len(busy)
            heapq.heappush(busy, (float(ends[at]), level[at]))
            depth[lane] = max(depth.get(lane, 0), level[at] + 1)
        return level, depth

    def binned(self, most: int) -> list[list[Any]]:
        """Return per lane and bin of time how busy it was, and a mark where tasks failed."""
        lanes, count = self.lanes, len(self.lanes.keys)
        axis = Axis.of(float(self.axis.edges[0]), float(self.axis.edges[-1]), max(4, min(most, 160)))
        tasks = lanes.tasks
        weight = self.gathered.cores[self.gathered.bulk(tasks)]
        started = self.gathered.started[tasks]
        ends = np.minimum(self.ends[tasks], self.edge)
        busy = _held(axis, lanes.lane, count, started, weight) - _held(axis, lanes.lane, count, ends, weight)
        share = busy / (np.maximum(lanes.cores, 1e-9)[:, None] * axis.width)
        # Eight steps are what a lane of some pixels can show, and they change seldom.
        steps = np.clip(np.ceil(share * 8 - 1e-6), 0, 8).astype(int)
        over = np.isfinite(self.ends[tasks]) & (self.gathered.state[tasks] == TaskState.FAILED)
        place = axis.place(self.ends[tasks][over])
        failed = np.bincount(lanes.lane[over] * (axis.count + 2) + place, minlength=count * (axis.count + 2))
        failed = failed.reshape(count, axis.count + 2)[:, 1:-1]
        inside = np.clip(axis.edges, self.axis.edges[0], self.axis.edges[-1])
        edges = np.rint(inside * 1000).astype(np.int64).tolist()
        rows = []
        for number in range(count):
            bottom, height = self._lane(number)
            for low, high, value in _runs(steps[number]):
                top = round(bottom + height * value / 8, 1)
                said = f"{round(100 * value / 8)} % busy or less"
                key = f"{lanes.keys[number]}:{axis.left + low}"
                rows.append([key, edges[low], edges[high], round(bottom, 1), top, "BUSY", " ", 0, "BUSY", "", said])
            for low, high, value in _runs(failed[number]):
                place_ = (round(bottom, 1), round(bottom + 0.25 * height, 1))
                key = f"{lanes.keys[number]}:f{axis.left + low}"
                rows.append(
                    [key, edges[low], edges[high], *place_, "FAILED", " ", 0, "FAILED", "", f"{value} failed per bin"]
                )
        return rows


def _held(axis: Axis, lane: Array, lanes: int, times: Array, weights: Array) -> Array:
    """Return :meth:`Axis.held` for each lane, shape (lanes, bins)."""
    place = axis.place(times)
    edge = (place + axis.left) * axis.width
    first = np.where((place >= 1) & (place <= axis.count), edge - times, 0.0)
    code, size = lane * (axis.count + 2) + place, lanes * (axis.count + 2)
    within = np.bincount(code, first * weights, size).reshape(lanes, -1)
    level = np.cumsum(np.bincount(code, weights, size).reshape(lanes, -1), axis=1)
    result: Array = within[:, 1:-1] + level[:, :-2] * axis.width
    return result


def _runs(values: Array) -> list[tuple[int, int, int]]:
    """Return (begin, end, value) of runs of equal values other than 0."""
    if not len(values):
        return []
    cuts = np.flatnonzero(np.diff(values)) + 1
    begins, ends = [0, *cuts.tolist()], [*cuts.tolist(), len(values)]
    return [(low, high, int(values[low])) for low, high in zip(begins, ends, strict=True) if values[low] > 0]


def _meanings(bars: list[list[Any]], single: bool, color: str) -> list[tuple[str, str, str]]:
    """Return (colour key, hatch, text) of what is to be explained."""
    seen = {row[5] for row in bars}
    names = [name for name in ("RUNNING", "DONE", "FAILED", "CANCELED") if name in seen]
    found = [(name, MARKS[name].hatch, name.lower()) for name in names]
    if not single:
        found = [("BUSY", "", "busy: the higher, the more cores"), *found]
    if color == "task":
        hues = sorted((key for key in seen if key[:1] == "c" and key[1:].isdecimal()), key=lambda key: int(key[1:]))
        found += [(key, "", f"submission {key[1:]}") for key in hues[:8]]
    return [*found, ("IDLE", "", "held or waiting")] if "IDLE" in seen else found
