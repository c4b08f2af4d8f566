"""A view as a file: a page of its own, with its figure, its tables as text and BokehJS inside; no network, no server.

The figure is the template that pages use, filled from the same picture. Needs Bokeh. Knows no sessions. Read next:
:mod:`.figures`, :mod:`.offline`.
"""

from __future__ import annotations

import html
import time
from typing import Any

import bokeh.models

from . import offline
from .controls import TIMES
from .figures import build
from .palette import palette
from .pictures import Picture, Table
from .said import said

MOST_LINES = 200
_models: Any = bokeh.models  # its types know less than it has
_TOLD = ("tasks", "queue", "jobs", "places")  # tables that are written out below the figure
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>%(title)s</title><style>
body { margin: 16px; background: %(paper)s; color: %(text)s; }
body { max-width: 1200px; font: 13px/1.45 system-ui, "Segoe UI", Arial, sans-serif; }
h1 { font-size: 16px; } table { border-collapse: collapse; } small { opacity: 0.8; }
th, td { text-align: left; padding: 2px 10px 2px 0; vertical-align: top; } td { white-space: nowrap; }
th { border-bottom: 1px solid %(faint)s; } div.table { overflow-x: auto; }
caption { text-align: left; font-weight: 600; padding: 10px 0 4px; }
</style></head><body><h1>%(title)s</h1><small>as of %(when)s</small>
%(loader)s
%(drawing)s
%(table)s
</body></html>
"""


def columns(table: Table, times: tuple[str, ...] = (), offset_s: float | None = None) -> dict[str, list[Any]]:
    """Return a table by columns, as figures take it; columns named in ``times`` get the time zone added.

    Args:
        offset_s: what to add, seconds; default: this machine's time zone at each moment.
    """
    made: dict[str, list[Any]] = {}
    for place, name in enumerate(table.columns):
        values = [row[place] for row in table.rows]
        made[name] = [_local(value, offset_s) for value in values] if name in times else values
    return made


def _local(value: Any, offset_s: float | None) -> Any:
    if value is None:
        return None
    zone = time.localtime(value / 1000).tm_gmtoff if offset_s is None else offset_s
    return value + 1000 * zone


def figure(view: str, picture: Picture, theme: str = "light", offset_s: float | None = None) -> Any:
    """Return the figure of a view with its data, to be shown by ``bokeh.io.show``.

    Raises:
        RequestError: no such view or theme; JRM-Q65.
    """
    made, sources = build(view, theme)
    for name, source in sources.made.items():
        if name in picture.tables:
            table = picture.tables[name]
            source.data = columns(table, tuple(TIMES.get(name, ())), offset_s) | said(name, table)
    # BokehJS draws a stepped area of no points for ever.
    for drawn in made.select({"type": _models.GlyphRenderer}):
        if not any(map(len, drawn.data_source.data.values())):
            drawn.visible = False
    for part, needed in sources.optional.items():
        made.select_one({"name": part}).visible = bool(picture.tables[needed].rows)
    return made


def page(view: str, picture: Picture, theme: str = "light", at: float | None = None) -> str:
    """Return an HTML page that shows a view as it is now, for ever, without any network (about 0.6 MB).

    Args:
        theme: ``light`` or ``dark``. at: when the picture was made, seconds since 1970; default now.

    Raises:
        RequestError: no such view or theme; JRM-Q65.
    """
    made = figure(view, picture, theme)
    colours = palette(theme)
    title = f"{view} of {picture.values.get('session', '')}"
    return _PAGE % {
        "title": html.escape(title),
        "paper": colours.paper,
        "text": colours.text,
        "faint": colours.faint,
        "when": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)),
        "loader": offline.loader(),
        "drawing": offline.drawing(made, themed=False),
        "table": "".join(_text(name, picture.tables[name]) for name in _TOLD if _has(picture, name)),
    }


def _has(picture: Picture, name: str) -> bool:
    return name in picture.tables and bool(picture.tables[name].rows)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column in ("started", "ended", "since", "estimate") or column.endswith("_at"):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(value)))
    return str(value)


def _text(name: str, table: Table) -> str:
    """Return a table of texts; what programs wrote is escaped."""
    places = [place for place in range(len(table.columns)) if any(row[place] not in (None, "") for row in table.rows)]
    names = [str(table.columns[place]) for place in places]
    head = "".join(f'<th scope="col">{html.escape(name.replace("_", " "))}</th>' for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(table.columns[at], row[at]))}</td>" for at in places) + "</tr>"
        for row in table.rows[:MOST_LINES]
    )
    more = f"<small>first {MOST_LINES} of {len(table.rows)}</small>" if len(table.rows) > MOST_LINES else ""
    caption = f"<caption>{html.escape(name)}</caption>"
    whole = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"
    return f'<div class="table">{whole}</div>'
