"""What over time: tasks by phase (the picture beside the table of tasks), and resources busy against those held.

All from when tasks were submitted, started and ended; means over bins are exact integrals, not samples. A task counts
with what it asks for. Knows columns and picks. Read next: :mod:`.gather`, :mod:`.axis`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model.errors import RequestError
from ..model.states import TaskState
from .axis import Axis
from .gather import Gathered, gather
from .grid import LEGEND_COLUMNS, UNITS, legend
from .palette import category
from .pictures import Picture, Table, head
from .tables import Array, Source
from .texts import line

# ``key`` numbers the bin; ``x`` is its right edge, milliseconds since 1970 as browsers count. The first row stands at
# the left edge of all: an area begins at a point, and without one the first bin would not be drawn.
HISTORY_COLUMNS = ("key", "x", "waiting", "running", "done", "failed", "canceled")
# One bar from 0 to 1000: who holds how much now, the largest first; ``amount`` in the unit that the view shows.
SHARE_COLUMNS = ("key", "x", "x1", "color", "uid", "name", "amount", "unit", "tasks", "label", "ink")
MOST_SHARES, SMALL = 10, 0.02  # submissions in that bar; those that hold a smaller part are put together
USAGE_COLUMNS = ("key", "x", "held", "busy", "used", "started", "ended", "failed", "rate")
WIDTH = 960  # of a figure that does not say its size, pixels
RESOURCES = {"cores": "cores", "gpus": "GPUs", "mem": "GiB of memory"}


def until(gathered: Gathered, now: float, at: float | None) -> float:
    """Return the right edge of a time axis: the replayed moment, or the present."""
    latest = gathered.latest(now)
    return latest if at is None else min(max(at, gathered.opened_at), latest)


def history(gathered: Gathered, now: float, bins: int = 200, begin: float | None = None) -> Table:
    """Return how many tasks waited, ran and had ended at the left edge of all and at the end of each bin of time.

    Args:
        now: right edge, seconds since 1970. bins: at most so many. begin: left edge; default: the session's opening.

    Raises:
        RequestError: bins out of range; JRM-Q60.
    """
    axis = Axis.of(gathered.opened_at if begin is None else begin, now, bins)
    over = gathered.over()
    began = gathered.started > 0
    submitted = np.cumsum(axis.amounts(gathered.submitted, gathered.sizes.astype(float)))[:-1]
    started = np.cumsum(axis.amounts(gathered.started[began]))[:-1]
    # A task that ended and never began stops waiting when it ends.
    ends = {
        state: np.cumsum(axis.amounts(over[gathered.state == state]))[:-1]
        for state in (TaskState.DONE, TaskState.FAILED, TaskState.CANCELED)
    }
    ended = sum(ends.values())
    unborn = np.cumsum(axis.amounts(over[~began & (gathered.state >= TaskState.DONE)]))[:-1]
    running = np.maximum(0, started - (ended - unborn))
    waiting = np.maximum(0, submitted - started - unborn)
    levels = np.stack([waiting, running, *ends.values()]).astype(np.int64).T.tolist()
    rows = [
        [axis.left + place, round((axis.left + place + 1) * axis.width * 1000), *level]
        for place, level in enumerate(levels, -1)
    ]
    return Table(HISTORY_COLUMNS, rows)


def usage(
    source: Source,
    now: float,
    bins: int = 200,
    begin: float | None = None,
    at: float | None = None,
    by: str = "cores",
    width: int = WIDTH,
) -> Picture:
    """Return cores, GPUs or memory held and busy per bin of time, how many tasks started and ended in it, and who holds
    how much at the end of it.

    Args:
        now: seconds since 1970. bins: at most so many. begin: left edge; default: the session's opening.
        at: show the session as it was at this moment. by: ``cores``, ``gpus``, ``mem`` (GiB).
        width: of the figure, px.

    Raises:
        RequestError: bins out of range, no such resource; JRM-Q60.
    """
    if by not in RESOURCES:
        raise RequestError(f"by: {by!r} is unknown", hint="use " + ", ".join(RESOURCES), code="JRM-Q60")
    with source.changed:
        values = head(source.ledger)
        gathered = gather(source)
        names = [line(table.form.template.name or table.form.template.executable, 40) for table in source.ledger.bulks]
    last = until(gathered, now, at)
    axis = Axis.of(gathered.opened_at if begin is None else begin, last, bins)
    kind = list(RESOURCES).index(by)
    busy, held = _busy(gathered, axis, last, kind), _held(gathered, axis, last, kind)
    # The last bin is not over yet: what was measured of it counts for the whole of it.
    lengths = np.minimum(axis.edges[1:], max(last, axis.edges[-2] + 1e-3)) - axis.edges[:-1]
    happened = [axis.amounts(times)[1:-1].astype(np.int64) for times in _events(gathered, last)]
    columns = [
        (axis.left + np.arange(axis.count)).tolist(),
        np.rint(axis.edges[1:] * 1000).astype(np.int64).tolist(),
        np.round(held / lengths, 2).tolist(),
        np.round(busy / lengths, 2).tolist(),
        np.round(100 * np.clip(np.divide(busy, held, out=np.zeros(axis.count), where=held > 0), 0, 1), 1).tolist(),
        *(each.tolist() for each in happened),
        np.round(happened[1] / lengths, 3).tolist(),
    ]
    values |= {"bin_s": axis.width, "begin": float(axis.edges[0]), "end": float(axis.edges[-1]), "at": at, "by": by}
    begin_row = [axis.left - 1, round(float(axis.edges[0]) * 1000), *(0 for _ in USAGE_COLUMNS[2:])]
    running = _running(gathered, last)
    values |= _now(gathered, last, running)
    unit = RESOURCES[by]
    held_now = values[("cores", "gpus", "mem_gib")[kind]][1]
    shares = _shares(running, _weights(gathered)[kind], held_now, names, unit, width)
    meanings = [("BUSY", "", f"{unit} that tasks asked for"), ("INK", "", f"{unit} that pilots hold")]
    return Picture(
        values,
        {
            "usage": Table(USAGE_COLUMNS, [begin_row, *(list(row) for row in zip(*columns, strict=True))]),
            "shares": Table(SHARE_COLUMNS, shares),
            "legend": Table(LEGEND_COLUMNS, legend(meanings, width)),
        },
    )


def _shares(running: Array, weight: Array, held: float, names: list[str], unit: str, width: int) -> list[list[Any]]:
    """Return the bar of what is busy by submission: those that hold the most, the rest together, then what is free."""
    amounts = running * weight
    whole = max(held, float(amounts.sum()))
    order = [bulk for bulk in np.lexsort((np.arange(len(amounts)), -amounts)).tolist() if amounts[bulk] > 0]
    large = [bulk for bulk in order[:MOST_SHARES] if amounts[bulk] >= SMALL * whole]
    parts = [
        (f"t.{bulk}", names[bulk], category(bulk), float(amounts[bulk]), int(running[bulk]), f"t.{bulk}")
        for bulk in large
    ]
    small = order[len(large) :]
    if small:
        said = f"{len(small)} more" if large else f"{len(small)} submissions"
        parts.append(("more", said, "PARTLY", float(amounts[small].sum()), int(running[small].sum()), ""))
    if whole > amounts.sum():
        parts.append(("free", "free", "IDLE", whole - float(amounts.sum()), 0, ""))
    rows, begin = [], 0.0
    for key, name, color, amount, tasks, uid in parts:
        end = begin + UNITS * amount / whole
        x, x1 = round(begin), round(end)
        fits = len(name) * 6.6 < (x1 - x) * width / UNITS - 12
        shown = [key, x, x1, color, uid, name, _plain(amount), unit, tasks, name if fits else "", "INK"]
        rows.append(shown)
        begin = end
    return rows


def _plain(amount: float) -> float:
    number = round(amount, 2)
    return int(number) if number.is_integer() else number


def _weights(gathered: Gathered) -> tuple[Array, Array, Array]:
    return gathered.cores, gathered.gpus, gathered.mem / 1024


def _busy(gathered: Gathered, axis: Axis, last: float, kind: int) -> Array:
    """Return the core, GPU or GiB seconds that tasks held per bin, shape (bins,)."""
    weight = _weights(gathered)[kind]
    if not bool(weight.any()):
        return np.zeros(axis.count)
    ran = np.flatnonzero((gathered.started > 0) & (gathered.started <= last))
    starts = gathered.started[ran]
    ends = np.minimum(np.where(gathered.state[ran] >= TaskState.DONE, gathered.ended[ran], np.inf), last)
    each = weight[gathered.bulk(ran)] if len(weight) > 1 else np.full(len(ran), weight[0])
    result: Array = np.maximum(axis.held(starts, each) - axis.held(ends, each), 0.0)
    return result


def _held(gathered: Gathered, axis: Axis, last: float, kind: int) -> Array:
    """Return the core, GPU or GiB seconds that pilots held per bin, shape (bins,)."""
    rows = [pilot for pilot in gathered.pilots if pilot.active is not None and pilot.active <= last]
    starts = np.array([pilot.active for pilot in rows], float)
    ends = np.array([min(last, pilot.until or last) for pilot in rows], float)
    sizes = np.array([size(pilot.nodes)[kind] for pilot in rows], float)
    return axis.held(starts, sizes) - axis.held(ends, sizes)


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


def _running(gathered: Gathered, last: float) -> Array:
    """Return how many tasks of each submission ran at the right edge, shape (b,)."""
    open_ = (gathered.started > 0) & (gathered.started <= last)
    open_ &= (gathered.state < TaskState.DONE) | (gathered.ended > last)
    return np.bincount(gathered.bulk(np.flatnonzero(open_)), minlength=len(gathered.sizes))


def _now(gathered: Gathered, last: float, running: Array) -> dict[str, Any]:
    """Return what is held and busy at the right edge."""
    busy = [float((running * weight).sum()) for weight in _weights(gathered)]
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
