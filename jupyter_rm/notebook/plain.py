"""A view as text: what consoles, logs and ``print`` show. The rows of the live view, with its filters and in its order.

Knows pictures and which of their columns people read. Read next: :mod:`.look`, :mod:`.still`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..client import overview, show
from ..client.overview import Overview
from ..views.controls import TIMES
from ..views.pictures import Picture
from . import still

if TYPE_CHECKING:
    from ..client.session import Session

# View -> (table, title, columns, each perhaps with another heading), in the order in which they are written.
_READ: dict[str, tuple[tuple[str, str, str], ...]] = {
    "tasks": (("tasks", "tasks", "uid name state reason exit_code attempt pilot"),),
    "nodes": (
        ("cells", "nodes", "key:place state nodes cores busy gpus gpus_busy running done failed tasks uid:task note"),
    ),
    "queue": (
        ("queue", "pilots", "uid:pilot site job_id:job state position:place estimate:expected_start reason:why"),
        ("jobs", "jobs", "id:job site user state position:place queue nodes estimate:expected_start reason:why"),
    ),
    "timeline": (("bars", "what ran", "key:what state x:from x1:to text:how"),),
    "usage": (
        ("shares", "shares", "uid name amount unit:of tasks"),
        ("usage", "usage", "x:until held busy started ended failed"),
    ),
}


def text(session: Session, view: str, picture: Picture) -> str:
    """Return a picture as lines: that of the session, and below it what people read of the view's tables."""
    parts = [show.session_line(session)]
    if note := picture.values.get("note"):
        parts.append(str(note))
    for name, title, columns in _READ.get(view, ()):
        made = _overview(f"{title} of session {session.name}", name, picture, columns)
        parts += [repr(made)] if made.rows or name == "tasks" else []
    if view == "queue":
        waiting = overview.queue(session).parts[-1]  # tasks that wait for a place: the picture shows pilots and jobs
        parts += [repr(waiting)] if waiting.rows else []
    return "\n".join(parts)


def _overview(title: str, name: str, picture: Picture, columns: str) -> Overview:
    table = picture.tables[name]
    wanted = [(column, list(table.columns).index(column), heading) for column, heading in map(_named, columns.split())]
    rows = table.rows
    if name == "bars":  # without what lies behind: when a node was held
        rows = [row for row in rows if row[table.columns.index("state")]]
    elif name == "usage":  # the latest bins, of those in which something was
        rows = [row for row in rows if any(row[2:])]
    shown = rows[-overview.ROWS :] if name == "usage" else rows[: overview.ROWS]
    # Empty columns tell nothing; the first says what a row is.
    kept = wanted[:1] + [each for each in wanted[1:] if any(row[each[1]] not in ("", None) for row in shown)]
    cells = [tuple(_cell(name, column, row[place]) for column, place, _ in kept) for row in shown]
    whole = int(picture.values["matched"]) if name == "tasks" else len(rows)
    more = f"{len(shown)} of {whole}" if len(shown) < whole else "" if shown else "none"
    return Overview(title, [heading for _, _, heading in kept], cells, more)


def _named(word: str) -> tuple[str, str]:
    column, _, heading = word.partition(":")
    return column, (heading or column).replace("_", " ")


def _cell(table: str, column: str, value: object) -> str:
    if column in TIMES.get(table, ()) and isinstance(value, (int, float)):
        return show.stamp(value / 1000)
    return str(value) if table == "usage" else still.shown(column, value)  # there, started and ended are counts
