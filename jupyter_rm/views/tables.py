"""Tables of tasks of any size: which rows a window shows, found in the columns of the ledger.

A :class:`Query` filters and sorts; :func:`select` answers with the few rows a screen shows and how many there are.
Only filtering and copying happen under the source's lock, sorting after it; no object is made per task but those of the
window. Knows columns and picks, not who looks. Read next: :mod:`.pictures`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..model.bulktable import BulkTable
from ..model.errors import RequestError
from ..model.ids import parse_pilot, parse_task, pilot_uid, task_uid
from ..model.ledger import Ledger
from ..model.states import Cause, TaskState
from .texts import line

MOST_ROWS = 1000
NOTES_SEARCHED = 100_000
COLUMNS = ("uid", "name", "state", "reason", "cause", "exit_code", "attempt", "pilot", "node", "started", "ended")
Array = npt.NDArray[Any]
Reason = Callable[[BulkTable, int], str]


class Source(Protocol):
    """A ledger that may change, and the lock (a context manager) under which it does."""

    @property
    def ledger(self) -> Ledger:
        """The state now."""

    @property
    def changed(self) -> contextlib.AbstractContextManager[Any]:
        """Hold it while reading several columns."""


def _duration(table: BulkTable) -> Array:
    return np.where(table.ended > table.started, table.ended - table.started, np.nan)


# Zero in a column of times means "not yet": such rows go last.
_SORTS: dict[str, Callable[[BulkTable], Array]] = {
    "state": lambda table: table.state,
    "cause": lambda table: table.cause,
    "exit_code": lambda table: np.where(table.ended > 0, table.code, np.nan),
    "attempt": lambda table: table.attempt,
    "pilot": lambda table: np.where(table.pilot < 0, np.nan, table.pilot),
    "node": lambda table: np.where(table.started > 0, table.node, np.nan),
    "started": lambda table: np.where(table.started > 0, table.started, np.nan),
    "ended": lambda table: np.where(table.ended > 0, table.ended, np.nan),
    "duration": _duration,
    "cpu": lambda table: table.user + table.sys,
    "memory": lambda table: table.rss,
}
SORTS = ("uid", *_SORTS)


@dataclass(frozen=True)
class Query:
    """Which tasks, in which order; :meth:`of` makes one from texts.

    Attributes:
        states: wanted states, empty: all. bulk, pilot, cause: None: all. text: what must occur, see :meth:`of`.
        sort: one of :data:`SORTS` or ``param:NAME``. descending: turn the order round (missing values stay last).
    """

    states: tuple[TaskState, ...] = ()
    bulk: int | None = None
    pilot: int | None = None
    cause: Cause | None = None
    text: str = ""
    sort: str = "uid"
    descending: bool = False

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Query:
        """Read a query.

        Args:
            given: ``state`` (names, comma-separated), ``bulk`` ("t.3"), ``pilot`` ("p.0"), ``cause`` (a name),
                ``search`` (a task's or pilot's uid, or a text that occurs in the name, command or category of the
                submission or in the note of a failure), ``sort``, ``order`` (``asc`` or ``desc``).

        Raises:
            RequestError: naming the field; JRM-Q60.
        """
        known = ("state", "bulk", "pilot", "cause", "search", "sort", "order")
        texts: dict[str, str] = {}
        for name, value in given.items():
            if name not in known:
                raise RequestError(f"{name}: no such filter", hint="known: " + ", ".join(known), code="JRM-Q60")
            if not isinstance(value, str) or len(value) > 200:
                raise RequestError(f"{name}: not a short text", hint="at most 200 characters", code="JRM-Q60")
            texts[name] = value.strip()
        states = tuple(
            _member(TaskState, name.strip(), "state") for name in texts.get("state", "").split(",") if name.strip()
        )
        sort = texts.get("sort") or "uid"
        if sort not in SORTS and not (sort.startswith("param:") and len(sort) > 6):
            hint = "use param:NAME or one of " + ", ".join(SORTS)
            raise RequestError(f"sort: {sort!r} is unknown", hint=hint, code="JRM-Q60")
        order = texts.get("order") or "asc"
        if order not in ("asc", "desc"):
            raise RequestError(f"order: {order!r} is unknown", hint="use asc or desc", code="JRM-Q60")
        return cls(
            states=states,
            bulk=_numbered(parse_task, "bulk", texts["bulk"], "t.3")[0] if texts.get("bulk") else None,
            pilot=_numbered(parse_pilot, "pilot", texts["pilot"], "p.0") if texts.get("pilot") else None,
            cause=_member(Cause, texts["cause"], "cause") if texts.get("cause") else None,
            text=texts.get("search", ""),
            sort=sort,
            descending=order == "desc",
        )

    def picks(self, number: int, table: BulkTable) -> Array | None:
        """Return the indices of the wanted tasks of one bulk, ascending; None: all of them."""
        masks: list[Array] = []
        if self.bulk is not None and self.bulk != number:
            return _NOTHING
        if self.states:
            wanted = sum(int(table.counts[state]) for state in set(self.states))
            if wanted == 0:
                return _NOTHING
            if wanted < len(table):
                lookup = np.zeros(256, bool)
                lookup[list(self.states)] = True
                masks.append(lookup[table.state])
        if self.pilot is not None:
            masks.append(_held_by(table, self.pilot))
        if self.cause is not None:
            masks.append(table.cause == self.cause)
        if self.text:
            found = _search(self.text, number, table)
            if found is not None:
                masks.append(found)
        if not masks:
            return None
        every = masks[0]
        for mask in masks[1:]:
            every = every & mask
        return np.flatnonzero(every)


_NOTHING: Array = np.zeros(0, np.int64)


def _numbered(parse: Callable[[str], Any], field: str, uid: str, example: str) -> Any:
    try:
        return parse(uid)
    except RequestError:
        hint = f"give its uid, such as {example}"
        raise RequestError(f"{field}: {uid[:40]!r} is unknown", hint=hint, code="JRM-Q60") from None


def _member(kind: Any, name: str, field: str) -> Any:
    try:
        return kind[name.upper()]
    except KeyError:
        hint = "use one of " + ", ".join(kind.__members__)
        raise RequestError(f"{field}: {name!r} is unknown", hint=hint, code="JRM-Q60") from None


def _held_by(table: BulkTable, pilot: int) -> Array:
    # A bound task has a pilot; one that ended before it was ever bound has none, whatever its column says.
    bound = (table.state >= TaskState.STAGING_IN) & ((table.state < TaskState.DONE) | (table.ended > 0))
    held: Array = (table.pilot == pilot) & bound
    return held


def _search(text: str, number: int, table: BulkTable) -> Array | None:
    """Return a mask of the tasks that hold ``text``, None: all do."""
    if text.startswith(("t.", "p.")):
        with contextlib.suppress(RequestError):
            if text.startswith("p."):
                return _held_by(table, parse_pilot(text))
            bulk, index = parse_task(text)
            if bulk != number:
                return np.zeros(len(table), bool)
            if text.count(".") == 1:
                return None
            one: Array = np.arange(len(table)) == index
            return one
    wanted = text.casefold()
    template = table.form.template
    said = " ".join((template.name, template.executable, *template.arguments, template.category))
    if wanted in said.casefold():
        return None
    found = [index for index, note in islice(table.notes.items(), NOTES_SEARCHED) if wanted in note.casefold()]
    mask = np.zeros(len(table), bool)
    mask[found] = True
    return mask


@dataclass(frozen=True)
class Page:
    """Where the rows of a window are: (bulk, index) each; ``matched`` tasks suit the query, ``total`` there are."""

    total: int
    matched: int
    offset: int
    places: list[tuple[int, int]]


def select(source: Source, query: Query, offset: int = 0, limit: int = 100) -> Page:
    """Return the rows [offset, offset + limit) of the tasks that suit ``query``, in its order.

    Raises:
        RequestError: offset or limit out of range, or the column to sort by is text; JRM-Q60.
    """
    if offset < 0 or not 0 <= limit <= MOST_ROWS:
        raise RequestError(
            f"window: {offset} and {limit}", hint=f"start at 0 or more, at most {MOST_ROWS} rows", code="JRM-Q60"
        )
    with source.changed:
        ledger = source.ledger
        parts = [(number, table, query.picks(number, table)) for number, table in enumerate(ledger.bulks)]
        sizes = [len(table) if picks is None else len(picks) for _, table, picks in parts]
        total = sum(len(table) for _, table, _ in parts)
        keys = None if query.sort == "uid" else _keys(parts, query)
    matched = sum(sizes)
    offset = min(offset, max(0, matched - 1))
    if keys is None:
        wanted: Iterable[int] = range(offset, min(matched, offset + limit))
        if query.descending:
            wanted = (matched - 1 - place for place in wanted)
    else:
        wanted = lowest(keys, offset, limit).tolist()
    starts = np.cumsum([0, *sizes])
    places = []
    for position in wanted:
        part = int(np.searchsorted(starts, position, "right")) - 1
        number, _, picks = parts[part]
        inside = position - int(starts[part])
        places.append((number, inside if picks is None else int(picks[inside])))
    return Page(total, matched, offset, places)


def every(source: Source, query: Query) -> list[tuple[int, Array | None]]:
    """Return (bulk, indices; None: all of it) of all tasks that suit ``query``; bulks without any are left out."""
    with source.changed:
        found = [(number, query.picks(number, table)) for number, table in enumerate(source.ledger.bulks)]
    return [(number, picks) for number, picks in found if picks is None or len(picks)]


def _keys(parts: list[tuple[int, BulkTable, Array | None]], query: Query) -> Array:
    """Return one number per wanted task, the lowest first; missing ones are infinite."""
    pieces = []
    for _, table, picks in parts:
        values = _parameter(table, query.sort[6:]) if query.sort.startswith("param:") else _SORTS[query.sort](table)
        pieces.append(np.asarray(values if picks is None else values[picks], np.float64))
    keys = np.concatenate(pieces) if pieces else np.zeros(0)
    if query.descending:
        keys = -keys
    return np.where(np.isnan(keys), np.inf, keys)


def _parameter(table: BulkTable, name: str) -> Array:
    column = table.form.columns.get(name)
    if column is None:
        return np.full(len(table), np.nan)
    if column.kind in ("text", "bytes") or (column.kind == "const" and isinstance(column.first, str)):
        raise RequestError(
            f"sort: the parameter {name} holds texts", hint="sort by a parameter of numbers", code="JRM-Q60"
        )
    return column.array()


def lowest(keys: Array, offset: int, limit: int) -> Array:
    """Return the positions of the ``offset``-th to ``offset + limit``-th lowest key; equal ones keep their order."""
    end = min(len(keys), offset + limit)
    if end == 0:
        return _NOTHING
    if end * 8 > len(keys):
        return np.argsort(keys, kind="stable")[offset:end]
    # Of those equal to the last wanted one the first are taken: which rows a window shows must not flicker.
    edge = np.partition(keys, end - 1)[end - 1]
    below = np.flatnonzero(keys < edge)
    chosen = np.concatenate((below, np.flatnonzero(keys == edge)[: end - len(below)]))
    return chosen[np.lexsort((chosen, keys[chosen]))][offset:end]


class _Parameters(dict[str, Any]):
    """The parameters of one task, looked up when a text asks for them."""

    def __init__(self, table: BulkTable, index: int) -> None:
        super().__init__()
        self._at = table, index

    def __missing__(self, name: str) -> Any:
        table, index = self._at
        return table.form.columns[name].get(index)


def name_of(table: BulkTable, index: int) -> str:
    """Return the name given to a task with its parameters filled in; empty when it got none."""
    template = table.form.template
    if not template.params or "{" not in template.name:
        return template.name
    try:
        return template.name.format_map(_Parameters(table, index))
    except (KeyError, ValueError, IndexError, AttributeError):
        return template.name


def rows(source: Source, places: Iterable[tuple[int, int]], reason: Reason) -> list[list[Any]]:
    """Return one row per place, cells as in :data:`COLUMNS`; times are seconds since 1970, None: not yet."""
    with source.changed:
        ledger = source.ledger
        return [_row(ledger, bulk, index, reason) for bulk, index in places]


def _row(ledger: Ledger, bulk: int, index: int, reason: Reason) -> list[Any]:
    table = ledger.bulks[bulk]
    state = TaskState(int(table.state[index]))
    started, ended = float(table.started[index]), float(table.ended[index])
    pilot = int(table.pilot[index])
    if state < TaskState.STAGING_IN or (state.final and not ended) or not 0 <= pilot < len(ledger.pilots):
        pilot = -1
    node = None
    if pilot >= 0 and started:
        nodes, place = ledger.pilots[pilot].nodes, int(table.node[index])
        node = nodes[place].name if place < len(nodes) else None
    cause = Cause(int(table.cause[index]))
    return [
        task_uid(bulk, index),
        line(name_of(table, index)),
        state.name,
        reason(table, index),
        cause.name if cause is not Cause.NONE else None,
        int(table.code[index]) if state.final and ended else None,
        int(table.attempt[index]),
        pilot_uid(pilot) if pilot >= 0 else None,
        node,
        started or None,
        ended or None,
    ]
