"""A picture without the names of people, jobs, tasks, hosts, sites and queues: to be shown or sent to others.

Texts pass only when they are known to hold no name: states, colours, our own numbers (``t.3.17``, ``p.0``), sentences
that are made here. Whatever else stands in a picture, also what a later version puts there, becomes ``host-3`` or
``job-1``, the same for the same original; free texts become those of their state. Rows, columns, numbers and times are
kept. Knows pictures only. Read next: :mod:`.export`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from ..model.states import Cause, PilotState, TaskState
from .chart import LAYOUTS
from .palette import LIGHT, MARKS
from .pictures import Picture, Table
from .usage import RESOURCES

# What a column's names are names of; others are "text".
KINDS = {
    **dict.fromkeys(("node", "nodes", "hosts", "label", "crumb", "focus"), "host"),
    **dict.fromkeys(("job_id", "id", "jobs"), "job"),
    **dict.fromkeys(("site", "title"), "site"),
    **dict.fromkeys(("queue", "queues"), "queue"),
    **dict.fromkeys(("user", "account"), "user"),
    **dict.fromkeys(("name", "session"), "name"),
}
# In these tables other columns are names too.
_TABLES = {
    **dict.fromkeys(("cells", "lanes", "labels", "crumbs", "bars", "machines"), "host"),
    **dict.fromkeys(("jobs", "line"), "job"),
    **dict.fromkeys(("sites", "places"), "site"),
    "legend": "user",
}
_FREE = frozenset({"reason", "text", "note", "step", "failure", "raw", "certainty", "tasks", "source"})
_NAMES = ("labels", "legend")  # tables whose texts are names, not sentences
_ALWAYS = frozenset({"job_id", "id", "name", "user", "account", "site", "title", "queue", "session"})
# Colours, states and patterns: in columns that hold nothing else, since hosts may be called ``c1``.
_KEYED = frozenset({"color", "ink", "hatch", "state", "cause"})
_KEYS = frozenset({*LIGHT.keys()[0], "ESTIMATE", "OTHERS", "x", "/", ".", " ", "", *Cause.__members__})
_WORDS: frozenset[str] = frozenset(
    {
        *(name for kind in (TaskState, PilotState, Cause) for name in kind.__members__),
        *(name.lower() for kind in (TaskState, PilotState) for name in kind.__members__),
        *(mark.text for mark in MARKS.values()),
        *LAYOUTS,
        *RESOURCES,
        *("", "open", "closed", "system", "rack", "node", "pilot", "task", "state", "load"),
        *("user", "free", "busy", "mixed", "drained", "down", "unknown", "now", "replay", "still runs", "unreachable"),
        *("held or waiting", "busy: the higher, the more cores", "nobody's, or not told", "you", "not sent yet"),
        *(f"{unit} that {who}" for unit in RESOURCES.values() for who in ("tasks asked for", "pilots hold")),
    }
)
_OWN = re.compile(
    r"t\.\d+(\.\d+)?|p\.\d+|@\d+-\d+|\d{1,3}|(core|gpu):\d+|GPU \d+|\d+ %|(submission|pilot) \d+"
    r"|nodes (up|busy|free|mixed|down|drained)"
)
_LED = re.compile(r"(p\.\d+|t\.\d+(\.\d+)?) ")  # a label such as "p.0 big"
_REST = re.compile(r"free|\d+ (more|submissions)")  # in the place of a name
_SENTENCE = re.compile(
    r"(took|for|waited) [\d.]+ (ms|s|min|h|d)( \d+ (s|min|h))?|\d+ % busy or less|\d+ failed per bin"
    r"|place \d+( of \d+)?|t\.[\d.]+(, t\.[\d.]+)*( and \d+ more)?|held by no pilot; \d+% busy, says the batch system"
    r"|exit code \d+|killed by signal \d+"
)


class Veil:
    """Makes names into pseudonyms, the same ones in all pictures that it is given.

    Args:
        plain: sentences that hold no name, besides those known here.
    """

    def __init__(self, plain: Collection[str] = ()) -> None:
        self._plain = frozenset(plain)
        self._known: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def picture(self, made: Picture) -> Picture:
        """Return a picture of the same shape without names."""
        values = {name: self._value(name, value) for name, value in made.values.items()}
        return Picture(values, {name: self._table(name, table) for name, table in made.tables.items()})

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, str):
            return self._cell(name, KINDS.get(name, "text"), value, name not in KINDS, "")
        if isinstance(value, (list, tuple)):
            return [self._value(name, each) for each in value]
        if isinstance(value, dict):
            return {self._value(name, key): self._value(name, each) for key, each in value.items()}
        return value

    def _table(self, name: str, table: Table) -> Table:
        # What stands first in a line that explains colours is a colour.
        columns = ["color" if name == "legend" and column == "key" else column for column in table.columns]
        kinds = [KINDS.get(column) or _TABLES.get(name, "text") for column in columns]
        free = [column in _FREE and not (name in _NAMES and column == "text") for column in columns]
        state = columns.index("state") if "state" in columns else None
        rows = []
        for row in table.rows:
            told = MARKS[row[state]].text if state is not None and row[state] in MARKS else ""
            every = zip(columns, kinds, row, free, strict=True)
            rows.append(
                [
                    self._cell(column, kind, cell, is_free, told)
                    if isinstance(cell, str)
                    else self._value(column, cell)
                    for column, kind, cell, is_free in every
                ]
            )
        return Table(table.columns, rows)

    def _cell(self, column: str, kind: str, text: str, free: bool, told: str) -> str:
        if column in _ALWAYS:
            return text if not text or _REST.fullmatch(text) else self._named(kind, text)
        if _OWN.fullmatch(text) or (text in _KEYS if column in _KEYED else not text or text == "system"):
            return text
        known = text in _WORDS or text in self._plain or _SENTENCE.fullmatch(text)
        if known and (kind in ("text", "user") or free or column in _KEYED):
            return text
        if free:
            return told
        led = _LED.match(text)
        if led is not None:
            return led[1]
        return " to ".join(part if _OWN.fullmatch(part) else self._named(kind, part) for part in text.split(" to "))

    def _named(self, kind: str, text: str) -> str:
        if text not in self._known:
            self._count[kind] = self._count.get(kind, 0) + 1
            self._known[text] = f"{kind}-{self._count[kind]}"
        return self._known[text]
