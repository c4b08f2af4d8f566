"""A still picture of a view as a little HTML: what a saved notebook, nbconvert or a page without live views shows.

Plain tags in the page's own colours, at most :data:`MOST` bytes; every text is escaped. Made from the same picture as
the live view. Read next: :mod:`.look`.
"""

from __future__ import annotations

import html
import time
from typing import Any

from ..client import show
from ..client.progress import bar
from ..model.units import human_s
from ..views.pictures import Picture, Table
from ..views.texts import line
from . import paint

MOST = 40_000  # bytes
ROWS = 20
_READ = frozenset({"tasks", "pilots", "queue", "jobs", "places"})  # other tables are drawn, not read
_TIMES = frozenset(
    {
        *("at", "since", "started", "ended", "asked_at", "opened_at", "started_at", "ended_at", "estimate"),
        *("earliest", "latest", "submit", "start", "heard_queue", "heard_nodes"),
    }
)
_NUMBERS = frozenset(
    {
        *("exit_code", "attempt", "nodes", "cores", "gpus", "running", "tasks", "position", "length", "others", "up"),
        *("free", "mixed", "busy", "drained", "down", "unknown", "number"),
    }
)
_UNSEEN = {"jobs": frozenset({"key", "color", "lit", "uid"}), "pilots": frozenset({"ops"})}  # what people do not need


def markup(picture: Picture, view: str, title: str) -> str:
    """Return the HTML of a picture, with the time it was made."""
    values = picture.values
    counts = values.get("counts", {})
    total = sum(counts.values())
    ended = sum(counts.get(name, 0) for name in ("DONE", "FAILED", "CANCELED"))
    told = f"{ended} of {total} tasks ended: {show.counts_text(counts)}" if total else "no tasks yet"
    if "counts" not in values:  # a view that shows nothing of tasks
        pilots = values.get("pilots", 0)
        told = f"{pilots} pilots" if pilots != 1 else "1 pilot"
    note = str(values.get("note") or "")
    if note and not total:
        told = note  # what is missing here may be nodes, not tasks
    parts = [bar(counts, told)] if total else [f"<p>{html.escape(told)}</p>"]
    parts += [f"<p>{html.escape(note)}</p>"] if note and total else []
    drawn = paint.image(picture, f"{title}: {told}")
    parts += [f"<div>{drawn}</div>"] if drawn else []
    size = sum(map(len, parts))
    for name, table in picture.tables.items():
        if name not in _READ:
            continue
        made = _table(name, table, MOST - 2_000 - size)
        size += len(made)
        parts.append(made)
    head = html.escape(title)
    when = show.stamp(time.time())
    return (
        f'<div class="jrm-still" aria-label="{html.escape(f"{view}: {title}", quote=True)}"><b>{head}</b> '
        f"<small>as of {when}</small>{''.join(parts)}</div>"
    )


def _table(name: str, table: Table, room: int) -> str:
    if not table.rows:
        return ""
    # Empty columns tell nothing and make narrow pages scroll.
    nothing = ("", None, False)
    unseen = _UNSEEN.get(name, frozenset())
    kept = [
        place
        for place, column in enumerate(table.columns)
        if column not in unseen and any(row[place] not in nothing for row in table.rows)
    ]
    names = [html.escape(table.columns[place].replace("_", " ")) for place in kept]
    head = "".join(f'<th scope="col" style="text-align:left">{name}</th>' for name in names)
    rows: list[str] = []
    size = len(head) + 300
    for row in table.rows[:ROWS]:
        cells = "".join(_cell(table.columns[place], row[place]) for place in kept)
        size += len(cells) + 9
        if size > room:
            break
        rows.append(f"<tr>{cells}</tr>")
    more = f"<small>{len(rows)} of {len(table.rows)} {html.escape(name)} here</small>"
    foot = more if len(rows) < len(table.rows) else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{foot}"


def _cell(column: str, value: Any) -> str:
    right = ' style="text-align:right"' if column in _NUMBERS else ' style="text-align:left"'
    return f"<td{right}>{html.escape(shown(column, value))}</td>"


def shown(column: str, value: Any) -> str:
    """Return a cell of a picture as text for people."""
    if value is None or value == "":
        return ""
    if column in _TIMES and isinstance(value, (int, float)):
        return show.stamp(value) if value > 0 else ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return human_s(value) if column.endswith("_s") else f"{value:g}"
    return line(str(value), 160)
