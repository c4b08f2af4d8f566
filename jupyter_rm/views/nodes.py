"""The node map: system > rack > node > cores and GPUs, cut so that a screen never gets more cells than it can show.

What stands in a cell are sums over its nodes: what pilots hold, what tasks that run there asked for, how tasks ended
there. Colours are keys (see :mod:`.palette`). Knows columns and charts; knows no figures. Read next: :mod:`.chart`,
:mod:`.cores`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..model.errors import RequestError
from ..model.ids import parse_pilot, parse_task, pilot_uid
from ..model.states import PilotState, TaskState
from . import abroad as others
from . import cores as slots
from . import layout as layouts
from .chart import LAYOUTS, Chart, Part, chart
from .gather import Gathered, Pilot, gather
from .grid import LEGEND_COLUMNS, UNITS, cells, legend, pixels
from .palette import MARKS, category
from .people import chosen_hosts
from .pictures import Picture, Table, head
from .tables import Array, Source
from .windows import Window

COLORS = ("state", "load", "task", "pilot", "user")
FEW, MOST = 1500, 4000
WIDTH, HEIGHT = 960, 420  # of a figure that does not say its size, pixels
CELL_COLUMNS = (
    *("key", "label", "x", "w", "y", "top", "fill", "color", "hatch", "lit", "deeper", "state"),
    *(
        "nodes",
        "cores",
        "busy",
        "gpus",
        "gpus_busy",
        "mem",
        "mem_busy",
        "running",
        "done",
        "failed",
        "uid",
        "note",
        "tasks",
    ),
)
LABEL_COLUMNS = ("key", "x", "y", "text", "ink")
CRUMB_COLUMNS = ("key", "label")
# Which state of its nodes a cell tells, the worst first.
SPECIAL = ("DOWN", "SILENT", "DRAINED")
_NO_NODES = "No pilot of this session holds nodes yet: start one, or wait until it is active."
_THEIRS = "held by no pilot; {:.0%} busy, says the batch system"


@dataclass(frozen=True)
class Scene:
    """What runs where at one moment.

    Attributes:
        running, host: places of the tasks that run, and the place of their node in the chart, shape (r,).
        bulk: their submissions, shape (r,).
    """

    gathered: Gathered
    chart: Chart
    pilots: list[Pilot]
    at: float | None
    running: Array
    host: Array
    bulk: Array

    @functools.cached_property
    def over(self) -> tuple[Array, Array]:
        """Return how many tasks ended DONE, and FAILED, on each host."""
        return _ended(self)


def held_at(gathered: Gathered, at: float | None) -> list[Pilot]:
    """Return the pilots that hold nodes now, or did at a moment; all that ever did when there are none."""
    known = [pilot for pilot in gathered.pilots if pilot.nodes]
    if at is None:
        return [pilot for pilot in known if not pilot.state.final] or known
    held = [p for p in known if (p.active or 0.0) <= at and (p.until is None or p.until > at)]
    return held or known


def scene(gathered: Gathered, layout: str, at: float | None, more: tuple[str, ...] = ()) -> Scene:
    """Return what runs where now, or did at a moment (seconds since 1970); ``more``: hosts that no pilot holds."""
    pilots = held_at(gathered, at)
    plan = chart(pilots, layout, more)
    if at is None:
        mask = (gathered.state == TaskState.RUNNING) | (gathered.state == TaskState.STAGING_OUT)
    else:
        ended = gathered.state >= TaskState.DONE
        mask = (gathered.started > 0) & (gathered.started <= at) & ~(ended & (gathered.ended <= at))
    running = np.flatnonzero(mask)
    host = hosts(gathered, plan, running)
    there = host >= 0
    running, host = running[there], host[there]
    return Scene(gathered, plan, pilots, at, running, host, gathered.bulk(running))


def hosts(gathered: Gathered, plan: Chart, places: Array) -> Array:
    """Return the place in the chart of the node of each task, -1: none of them."""
    pilot = gathered.pilot[places].astype(np.int64)
    node = gathered.node[places].astype(np.int64)
    if not len(plan.where):
        return np.full(len(places), -1, np.int64)
    most = max(plan.where) + 1
    starts = np.full(most + 1, -1, np.int64)
    sizes = np.zeros(most + 1, np.int64)
    pieces, count = [], 0
    for number, where in plan.where.items():
        starts[number], sizes[number] = count, len(where)
        pieces.append(where)
        count += len(where)
    # The last entry stands for every pilot that is not in the chart: -1 as an index finds it.
    pilot = np.where((pilot < 0) | (pilot >= most), most, pilot)
    known = node < sizes[pilot]
    joined = np.concatenate([*pieces, np.full(1, -1, np.int64)])
    result: Array = joined[np.where(known, starts[pilot] + node, -1)]
    return result


def nodes(source: Source, window: Window, now: float) -> Picture:
    """Return the node map for a window.

    Args:
        window: ``focus`` (a rack's path, a node's name, or the key of a cell), ``level`` (``node``: nodes at once),
            ``color``, ``layout``, ``select`` (a task, submission or pilot to highlight), ``at``, ``limit``, ``width``,
            ``height``. now: seconds since 1970.

    Raises:
        RequestError: a field is wrong or names nothing; JRM-Q60, JRM-Q68.
    """
    color, layout = window.color or "state", window.layout or "physical"
    if color not in COLORS:
        raise RequestError(f"color: {color!r} is unknown", hint="use " + ", ".join(COLORS), code="JRM-Q60")
    with source.changed:
        values = head(source.ledger)
        gathered = gather(source)
        marks = outside(source)
        sites = dict(getattr(source, "sites", {}))
    more = tuple(node.name for view in sites.values() for node in view.nodes) if layout == "site" else ()
    # The way from the system to a core is one look at all tasks, not one per step.
    described = tuple(map(id, layouts.known())) if layout != "logical" else ()
    stage = gathered.once((layout, window.at, described, more), lambda: scene(gathered, layout, window.at, more))
    plan = stage.chart
    around = others.abroad(plan, sites) if color == "user" or layout == "site" else None
    chosen = chosen_hosts(sites, window.select)
    width, height = pixels(window.width, WIDTH), pixels(window.height, HEIGHT)
    limit = _limit(window, width, height)
    parts = plan.parts(window.focus, limit, window.level)
    values |= {
        "focus": window.focus,
        "crumb": plan.crumbs(window.focus)[-1][1],
        "level": "system" if not window.focus else "rack",
        "color": color,
        "layout": layout,
        "layouts": list(LAYOUTS),
        "at": window.at,
        "note": gathered.missing(window.select) if len(plan) else _NO_NODES,
    }
    if gathered.closed or not any(pilot.until is None for pilot in gathered.pilots):
        values["now"] = gathered.latest(now)
    if len(parts) == 1 and parts[0].host and parts[0].key == window.focus:
        return _node(stage, parts[0], window, values, color, (width, height), marks)
    return _map(stage, parts, window, values, color, (width, height), marks, around, chosen)


def _limit(window: Window, width: int, height: int) -> int:
    if window.limit is not None and not 1 <= window.limit <= MOST:
        raise RequestError(f"limit: {window.limit}", hint=f"give 1 to {MOST} cells", code="JRM-Q60")
    # A cell smaller than this is no target for a finger or a pointer.
    return max(1, min(window.limit or FEW, width * height // 64))


# ------------------------------------------------------------ many nodes


def _map(
    stage: Scene,
    parts: list[Part],
    window: Window,
    values: dict[str, Any],
    color: str,
    size: tuple[int, int],
    marks: dict[str, str],
    around: others.Abroad | None,
    chosen: frozenset[str],
) -> Picture:
    plan, gathered = stage.chart, stage.gathered
    edges = np.array([part.begin for part in parts] + [parts[-1].end if parts else 0], np.int64)
    sums = _sums(edges)
    weight = [gathered.cores[stage.bulk], gathered.gpus[stage.bulk], gathered.mem[stage.bulk] / 1024]
    held = [sums(each) for each in (plan.cores, plan.gpus, plan.mem)]
    # A task of several nodes is counted where it began; no node is more than busy.
    busy = [
        sums(np.minimum(np.bincount(stage.host, each, len(plan)), most))
        for each, most in zip(weight, (plan.cores, plan.gpus, plan.mem), strict=True)
    ]
    running = sums(np.bincount(stage.host, minlength=len(plan)))
    done, failed = (sums(each) for each in stage.over)
    share = np.divide(busy[0], held[0], out=np.zeros(len(parts)), where=held[0] > 0)
    gpu_share = np.divide(busy[1], held[1], out=np.zeros(len(parts)), where=held[1] > 0)
    share = np.clip(np.maximum(share, gpu_share), 0.0, 1.0)
    known = np.zeros(len(parts))
    there, used = held, busy  # in a cell, whoever holds it
    if around is not None:
        # What no pilot holds is as busy as its batch system says.
        known = sums(around.known)
        theirs = np.divide(sums(around.busy), np.diff(edges), out=np.zeros(len(parts)), where=np.diff(edges) > 0)
        share = np.where(held[0] > 0, share, theirs)
        there = [own + sums(each) for own, each in zip(held, around.amounts, strict=True)]
        used = [own + sums(each * around.busy) for own, each in zip(busy, around.amounts, strict=True)]
    states = _states(stage, window.at, marks)
    special = {name: sums(mask) for name, mask in states.items()}
    lit = sums(_lit(stage, window.select, chosen)) if window.select else np.zeros(len(parts))
    keys = _keys(stage, edges, color, share, around)
    places, px = cells(len(parts), *size, _columns(plan, window.focus, parts))
    single = all(part.host for part in parts)
    told = _told(stage, parts) if parts and single and len(parts) <= FEW else {}
    if around is not None and single:
        told |= {
            i: around.jobs[part.begin] for i, part in enumerate(parts) if i not in told and part.begin in around.jobs
        }
    filled = _drawn(share, places[0][3] * size[1] / UNITS if places else 0.0)
    rows = []
    for i, part in enumerate(parts):
        x, y, w, h = places[i]
        worst = next((name for name in SPECIAL if special[name][i] > 0), "")
        whole = bool(worst) and special[worst][i] >= part.end - part.begin
        state = worst if whole else _usual(held[0][i] + known[i], share[i])
        key = "ABSENT" if state == "ABSENT" else worst if whole and color != "load" else keys[i]
        fill = 1.0 if whole or color == "load" else float(filled[i])
        counts = int(running[i]), int(done[i]), int(failed[i])
        elsewhere = held[0][i] <= 0 and known[i] > 0
        amounts = [number for kind in range(3) for number in (_short(there[kind][i]), _short(used[kind][i]))]
        rows.append(
            [
                *(part.key, part.label, x, w, y, round(y + h, 1), round(y + fill * h, 1), key),
                *(MARKS[worst].hatch if worst else " ", int(lit[i] > 0), True, state, part.end - part.begin, *amounts),
                *(*counts, "", _THEIRS.format(share[i]) if elsewhere else ""),
                told.get(i, ""),
            ]
        )
    values |= _totals(held, busy, special, edges)
    labels = _labels(rows, px, size)
    users = {key: name for name, key in reversed(around.users)} if around is not None else {}
    return _picture(values, rows, labels, plan.crumbs(window.focus), color, size, users)


def _drawn(share: Array, px: float) -> Array:
    """Return shares in steps of half a pixel of a cell: not empty when something is busy, not full when not all is."""
    steps = max(8, round(2 * px))
    inner = np.clip(np.rint(share * steps), 1, steps - 1) / steps
    return np.where(share <= 0, 0.0, np.where(share > 0.999, 1.0, inner))


def _usual(held: float, share: float) -> str:
    if held <= 0:
        return "ABSENT"
    return "BUSY" if share > 0.999 else "PARTLY" if share > 0 else "IDLE"


def _short(value: float) -> float:
    number = round(float(value), 1)
    return int(number) if number.is_integer() else number


def _sums(edges: Array) -> Callable[[Array], Array]:
    """Return what sums a column of hosts over the cells between ``edges``."""

    def sums(column: Array) -> Array:
        total = np.concatenate((np.zeros(1), np.cumsum(column, dtype=np.float64)))
        result: Array = np.diff(total[edges])
        return result

    return sums


def _ended(stage: Scene) -> tuple[Array, Array]:
    """Return how many tasks ended DONE, and FAILED, on each host."""
    gathered, at = stage.gathered, stage.at
    mask = (gathered.state >= TaskState.DONE) & (gathered.ended > 0) & (gathered.started > 0)
    if at is not None:
        mask &= gathered.ended <= at
    over = np.flatnonzero(mask)
    host = hosts(gathered, stage.chart, over)
    state = gathered.state[over]
    count = len(stage.chart)
    found = []
    for which in (TaskState.DONE, TaskState.FAILED):
        here = host[(state == which) & (host >= 0)]
        found.append(np.bincount(here, minlength=count))
    return found[0], found[1]


def outside(source: Source) -> dict[str, str]:
    """Return what batch systems say of nodes that take no jobs: host -> DOWN or DRAINED."""
    return {
        node.name: "DRAINED" if "drain" in node.raw.lower() else "DOWN"
        for view in dict(getattr(source, "sites", {})).values()
        for node in view.nodes
        if node.state == "offline"
    }


def _states(stage: Scene, at: float | None, told: dict[str, str]) -> dict[str, Array]:
    """Return a mask of hosts per special state."""
    plan = stage.chart
    masks = {name: np.zeros(len(plan), bool) for name in SPECIAL}
    for name, mark in told.items() if at is None else ():
        for key in (name, *(f"{pilot_uid(number)}/{name}" for number in plan.where)):
            if key in plan.places:
                masks[mark][plan.places[key]] = True
    for place, mark in plan.marks.items():
        masks[mark][place] = True
    if stage.at is None:
        for pilot in stage.pilots:
            where = plan.where[pilot.number]
            if pilot.silent and not pilot.state.final:
                masks["SILENT"][where] = True
            elif pilot.state is PilotState.DRAINING:
                masks["DRAINED"][where] = True
    return masks


def _lit(stage: Scene, select: str, chosen: frozenset[str]) -> Array:
    """Return a mask of the hosts that a task, submission, pilot or job of a site (on ``chosen`` hosts) is on."""
    gathered, plan = stage.gathered, stage.chart
    if select.startswith("j."):
        return others.lit(plan, chosen)
    mask = np.zeros(len(plan), bool)
    if select.startswith("p."):
        where = plan.where.get(parse_pilot(select))
        if where is not None:
            mask[where] = True
        return mask
    bulk, index = parse_task(select)
    if bulk < len(gathered.sizes):
        if select.count(".") == 1:
            here = stage.host[stage.bulk == bulk]
        elif index < gathered.sizes[bulk]:
            place = np.array([int(gathered.starts[bulk]) + index])
            here = hosts(gathered, plan, place) if gathered.started[place[0]] > 0 else place[:0]
        else:
            here = stage.host[:0]
        mask[here[here >= 0]] = True
    return mask


def _keys(stage: Scene, edges: Array, color: str, share: Array, around: others.Abroad | None) -> list[str]:
    """Return the colour key of each cell."""
    count = len(edges) - 1
    if color == "load":
        return [f"l{level}" for level in np.ceil(share * 10 - 1e-9).astype(int).tolist()]
    if color == "state":
        return ["BUSY"] * count
    if color == "user":
        assert around is not None
        return [around.users[number][1] if number >= 0 else "IDLE" for number in around.dominant(edges)]
    if color == "pilot":
        owner = stage.chart.pilot[edges[:-1]] if count else edges[:0]
        return [category(int(number)) if number >= 0 else "ABSENT" for number in owner]
    keys = ["IDLE"] * count
    if len(stage.host):
        cell = np.searchsorted(edges, stage.host, "right") - 1
        inside = (cell >= 0) & (cell < count)
        bulks = len(stage.gathered.sizes)
        code, back = np.unique(cell[inside] * bulks + stage.bulk[inside], return_inverse=True)
        amount = np.bincount(back, stage.gathered.cores[stage.bulk[inside]] + 1e-9, len(code))
        for at in np.lexsort((amount, code // bulks)).tolist():  # the last of a cell is the largest
            keys[int(code[at]) // bulks] = category(int(code[at]) % bulks)
    return keys


def _columns(plan: Chart, focus: str, parts: list[Part]) -> int:
    """Return how many nodes stand side by side in a described group, 0: as they fit."""
    if parts and all(part.host for part in parts):
        return next((group[3] for group in plan.groups if group[0] == focus), 0)
    return 0


def _told(stage: Scene, parts: list[Part]) -> dict[int, str]:
    """Return what runs on each node in a few words: the first tasks, and how many more."""
    low, high = parts[0].begin, parts[-1].end
    inside = np.flatnonzero((stage.host >= low) & (stage.host < high))
    order = inside[np.argsort(stage.host[inside], kind="stable")]
    host = stage.host[order]
    first = np.searchsorted(host, [part.begin for part in parts])
    count = np.searchsorted(host, [part.end for part in parts]) - first
    told = {}
    for i in np.flatnonzero(count).tolist():
        some = [stage.gathered.uid(int(stage.running[order[first[i] + k]])) for k in range(min(2, int(count[i])))]
        told[i] = ", ".join(some) + (f" and {int(count[i]) - 2} more" if count[i] > 2 else "")
    return told


def _totals(held: list[Array], busy: list[Array], special: dict[str, Array], edges: Array) -> dict[str, Any]:
    names = ("cores", "gpus", "mem_gib")
    totals = {
        name: [_short(b.sum()), _short(h.sum())] for name, h, b in zip(names, held, busy, strict=True)
    }  # busy, held
    states = {name: int(each.sum()) for name, each in special.items() if each.any()}
    return totals | {"nodes": int(edges[-1] - edges[0]) if len(edges) else 0, "special": states}


def _labels(rows: list[list[Any]], px: float, size: tuple[int, int]) -> list[list[Any]]:
    """Return the texts that fit into their cells."""
    if px < 26 or len(rows) > 400:
        return []
    out = []
    for row in rows:
        room = int(row[3] * size[0] / 1000 / 6.6)  # characters of 11 px
        text = str(row[1])
        text = text.split(" to ")[0] if len(text) > room else text
        if len(text) > room:
            # Its number says more than the end of a word.
            number = text[len(text.rstrip("0123456789")) :]
            text = (number or text)[-room:] if room >= 3 else ""
        if text:
            out.append([row[0], row[2], row[5], text, ink(str(row[7]))])
    return out


def ink(key: str) -> str:
    """Return the colour key of a text that can be read on a colour."""
    return "PAPER" if key[:1] == "l" and key[1:].isdecimal() and int(key[1:]) > 6 else "INK"


# ------------------------------------------------------------ one node


def _node(
    stage: Scene,
    part: Part,
    window: Window,
    values: dict[str, Any],
    color: str,
    size: tuple[int, int],
    marks: dict[str, str],
) -> Picture:
    plan, gathered = stage.chart, stage.gathered
    place = part.begin
    count, devices = int(plan.cores[place]), round(float(plan.gpus[place]))
    here = np.flatnonzero(stage.host == place)
    rows = slots.cells(gathered, stage.running[here], count, devices, color, window.select, size)
    edges = np.array([place, place + 1])
    sums = _sums(edges)
    held = [sums(each) for each in (plan.cores, plan.gpus, plan.mem)]
    weight = [gathered.cores, gathered.gpus, gathered.mem / 1024]
    busy = [np.minimum(held[kind], weight[kind][stage.bulk[here]].sum()) for kind in range(3)]
    special = {name: sums(mask) for name, mask in _states(stage, window.at, marks).items()}
    values |= _totals(held, busy, special, edges) | {
        "level": "node",
        "running": len(here),
        "slots": "drawn by what tasks ask for; which core a task runs on is not recorded",
    }
    rows_px = size[0] / max(1, shape_of(rows))
    labels = (
        [[row[0], row[2], row[5], str(row[1]), ink(str(row[7]))] for row in rows]
        if rows_px >= 30 and len(rows) <= 160
        else []
    )
    return _picture(values, rows, labels, plan.crumbs(window.focus), color, size)


def shape_of(rows: list[list[Any]]) -> int:
    """Return how many cells stand side by side."""
    return len({row[2] for row in rows})


def _picture(
    values: dict[str, Any],
    rows: list[list[Any]],
    labels: list[list[Any]],
    crumbs: list[list[str]],
    color: str,
    size: tuple[int, int],
    users: Mapping[str, str] | None = None,
) -> Picture:
    return Picture(
        values,
        {
            "cells": Table(CELL_COLUMNS, rows),
            "labels": Table(LABEL_COLUMNS, labels),
            "crumbs": Table(CRUMB_COLUMNS, [list(each) for each in crumbs]),
            "legend": Table(LEGEND_COLUMNS, legend(_meanings(rows, color, users or {}), size[0])),
        },
    )


def _meanings(rows: list[list[Any]], color: str, users: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return (colour key, hatch, text) of what is to be explained."""
    special = [(name, MARKS[name].hatch, MARKS[name].text) for name in SPECIAL if any(row[11] == name for row in rows)]
    if color == "load":
        return [(f"l{level}", " ", f"{10 * level} %") for level in (0, 2, 4, 6, 8, 10)] + special
    if color == "state":
        return [("IDLE", " ", "free"), ("BUSY", " ", "busy"), *special]
    seen = dict.fromkeys(row[7] for row in rows if str(row[7]).startswith("c"))
    if color == "user":
        named = [(key, " ", users.get(key, others.YOU)) for key in sorted(seen, key=_number)[:8]]
        return [("IDLE", " ", "nobody's, or not told"), *named, *special]
    what = {"task": "submission", "pilot": "pilot"}[color]
    return [
        ("IDLE", " ", "free"),
        *((key, " ", f"{what} {key[1:]}") for key in sorted(seen, key=_number)[:8]),
        *special,
    ]


def _number(key: str) -> int:
    return int(key[1:])
