"""What over time: tasks by phase (the picture beside the table of tasks), and resources busy against those held.

All from when tasks were submitted, started and ended; means over bins are exact integrals, not samples. A task counts
with what it asks for. Knows columns and picks. Read next: :mod:`.gather`, :mod:`.axis`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model.states import TaskState
from .axis import Axis
from .gather import Gathered, gather
from .pictures import Picture, Table, head
from .tables import Array, Source

# ``key`` numbers the bin; ``x`` is its right edge, milliseconds since 1970 as browsers count.
HISTORY_COLUMNS = ("key", "x", "waiting", "running", "done", "failed", "canceled")
USAGE_COLUMNS = (
    *("key", "x", "cores", "cores_busy", "gpus", "gpus_busy", "mem", "mem_busy"),
    *("started", "ended", "failed", "rate", "used"),
)


def until(gathered: Gathered, now: float, at: float | None) -> float:
    """Return the right edge of a time axis: the replayed moment, or the present."""
    latest = gathered.latest(now)
    return latest if at is None else min(max(at, gathered.opened_at), latest)


def history(gathered: Gathered, now: float, bins: int = 200, begin: float | None = None) -> Table:
    """Return how many tasks waited, ran and had ended at the end of each bin of time.

    Args:
        now: right edge, seconds since 1970. bins: at most so many. begin: left edge; default: the session's opening.

    Raises:
        RequestError: bins out of range; JRM-Q60.
    """
    axis = Axis.of(gathered.opened_at if begin is None else begin, now, bins)
    over = gathered.over()
    began = gathered.started > 0
    submitted = np.cumsum(axis.amounts(gathered.submitted, gathered.sizes.astype(float)))[1:-1]
    started = np.cumsum(axis.amounts(gathered.started[began]))[1:-1]
    # A task that ended and never began stops waiting when it ends.
    ends = {
        state: np.cumsum(axis.amounts(over[gathered.state == state]))[1:-1]
        for state in (TaskState.DONE, TaskState.FAILED, TaskState.CANCELED)
    }
    ended = sum(ends.values())
    unborn = np.cumsum(axis.amounts(over[~began & (gathered.state >= TaskState.DONE)]))[1:-1]
    running = np.maximum(0, started - (ended - unborn))
    waiting = np.maximum(0, submitted - started - unborn)
    levels = np.stack([waiting, running, *ends.values()]).astype(np.int64).T.tolist()
    rows = [
        [axis.left + place, round((axis.left + place + 1) * axis.width * 1000), *level]
        for place, level in enumerate(levels)
    ]
    return Table(HISTORY_COLUMNS, rows)


def usage(source: Source, now: float, bins: int = 200, begin: float | None = None, at: float | None = None) -> Picture:
    """Return cores, GPUs and memory held and busy per bin of time, and how many tasks started and ended in it.

    Args:
        now: seconds since 1970. bins: at most so many. begin: left edge; default: the session's opening.
        at: show the session as it was at this moment.

    Raises:
        RequestError: bins out of range; JRM-Q60.
    """
    with source.changed:
        values = head(source.ledger)
        gathered = gather(source)
    last = until(gathered, now, at)
    axis = Axis.of(gathered.opened_at if begin is None else begin, last, bins)
    busy, held = _busy(gathered, axis, last), _held(gathered, axis, last)
    # The last bin is not over yet: what was measured of it counts for the whole of it.
    lengths = np.minimum(axis.edges[1:], max(last, axis.edges[-2] + 1e-3)) - axis.edges[:-1]
    busy, held = busy / lengths, held / lengths
    happened = [axis.amounts(times)[1:-1].astype(np.int64) for times in _events(gathered, last)]
    used = np.divide(busy[0], held[0], out=np.zeros(axis.count), where=held[0] > 0)
    rows = []
    for place in range(axis.count):
        counts = [int(column[place]) for column in happened]
        rows.append(
            [
                axis.left + place,
                round((axis.left + place + 1) * axis.width * 1000),
                *(round(float(each[place]), 2) for pair in zip(held, busy, strict=True) for each in pair),
                *counts,
                round(counts[1] / axis.width, 3),
                round(100 * min(1.0, float(used[place])), 1),
            ]
        )
    values |= {"bin_s": axis.width, "begin": float(axis.edges[0]), "end": float(axis.edges[-1]), "at": at}
    values |= _now(gathered, last)
    return Picture(values, {"usage": Table(USAGE_COLUMNS, rows)})


def _weights(gathered: Gathered) -> tuple[Array, Array, Array]:
    return gathered.cores, gathered.gpus, gathered.mem / 1024


def _busy(gathered: Gathered, axis: Axis, last: float) -> Array:
    """Return core, GPU and GiB seconds that tasks held per bin, shape (3, bins)."""
    ran = np.flatnonzero((gathered.started > 0) & (gathered.started <= last))
    starts = gathered.started[ran]
    ends = np.minimum(np.where(gathered.state[ran] >= TaskState.DONE, gathered.ended[ran], np.inf), last)
    bulk = gathered.bulk(ran) if len(gathered.sizes) > 1 else None
    out = np.zeros((3, axis.count))
    for row, weight in enumerate(_weights(gathered)):
        if not len(weight) or not bool(weight.any()):
            continue
        each = np.full(len(ran), weight[0]) if bulk is None else weight[bulk]
        out[row] = axis.held(starts, each) - axis.held(ends, each)
    return np.maximum(out, 0.0)


def _held(gathered: Gathered, axis: Axis, last: float) -> Array:
    """Return core, GPU and GiB seconds that pilots held per bin, shape (3, bins)."""
    rows = [pilot for pilot in gathered.pilots if pilot.active is not None and pilot.active <= last]
    starts = np.array([pilot.active for pilot in rows], float)
    ends = np.array([min(last, pilot.until or last) for pilot in rows])
    sizes = np.array([size(pilot.nodes) for pilot in rows], float).reshape(len(rows), 3)
    return np.stack([axis.held(starts, sizes[:, kind]) - axis.held(ends, sizes[:, kind]) for kind in range(3)])


def size(nodes: tuple[Any, ...]) -> tuple[int, int, float]:
    """Return the cores, GPUs and GiB of memory of nodes."""
    known = _sizes.get(id(nodes))
    if known is None or known[0] is not nodes:
        total = sum(n.cores for n in nodes), sum(n.gpus for n in nodes), sum(n.mem for n in nodes) / 1024
        if len(_sizes) > 500:
            _sizes.clear()
        known = _sizes[id(nodes)] = (nodes, total)
    return known[1]


# A pilot of 100,000 nodes is not added up for every picture.
_sizes: dict[int, tuple[tuple[Any, ...], tuple[int, int, float]]] = {}


def _events(gathered: Gathered, last: float) -> list[Array]:
    began = gathered.started[(gathered.started > 0) & (gathered.started <= last)]
    ended = (gathered.ended > 0) & (gathered.ended <= last) & (gathered.state >= TaskState.DONE)
    failed = ended & (gathered.state == TaskState.FAILED)
    return [began, gathered.ended[ended], gathered.ended[failed]]


def _now(gathered: Gathered, last: float) -> dict[str, Any]:
    """Return what is held and busy at the right edge."""
    open_ = (gathered.started > 0) & (gathered.started <= last)
    open_ &= (gathered.state < TaskState.DONE) | (gathered.ended > last)
    running = np.flatnonzero(open_)
    number = np.bincount(gathered.bulk(running), minlength=len(gathered.sizes)) if len(running) else None
    busy = [0.0 if number is None else float((number * weight).sum()) for weight in _weights(gathered)]
    alive = [
        size(pilot.nodes)
        for pilot in gathered.pilots
        if pilot.active is not None and pilot.active <= last and (pilot.until is None or pilot.until > last)
    ]
    held = [sum(each[kind] for each in alive) for kind in range(3)]
    return {
        name: [round(used, 2), round(float(most), 2)]
        for name, used, most in zip(("cores", "gpus", "mem_gib"), busy, held, strict=True)
    }
