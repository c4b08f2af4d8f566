"""All views by name: the picture of a view for a window of it.

The same pictures feed pages, notebook cells and exported files. Read next: :mod:`.pictures`, :mod:`.figures`.
"""

from __future__ import annotations

from ..model.errors import RequestError
from . import nodes, pictures, queue, sites, tables, timeline, usage
from .gather import gather
from .pictures import Picture, Words
from .tables import Source
from .windows import LISTS, VIEWS, Window

LIMIT = 100  # rows of a table, unless the window says otherwise


def picture(view: str, source: Source, words: Words, window: Window, now: float) -> Picture:
    """Return what a view of a session shows.

    Args:
        view: one of :data:`VIEWS` but ``sessions``. words: how reasons are worded. now: seconds since 1970.

    Raises:
        RequestError: no such view, or the window is out of range; JRM-Q60, JRM-Q65.
    """
    window.check()
    if view == "summary":
        return pictures.summary(source, words)
    if view == "tasks":
        return _tasks(source, words, window, now)
    if view == "activity":
        return pictures.activity(source, now, window.bins, window.begin)
    if view == "queue":
        return queue.queue(source, words, window, now)
    if view == "timeline":
        return timeline.timeline(source, window, now)
    if view == "usage":
        by, width = window.by or "cores", window.width or usage.WIDTH
        return usage.usage(source, now, window.bins, window.begin, window.at, by, width)
    if view == "nodes":
        return nodes.nodes(source, window, now)
    if view == "sites":
        return sites.sites(source, window)
    known = ", ".join(name for name in VIEWS if name != LISTS[0])
    raise RequestError(f"view {view[:40]!r}: no such view of a session", hint=f"views: {known}", code="JRM-Q65")


def over(source: Source) -> bool:
    """Say whether all tasks and pilots of a session have ended, so that time going on changes no picture of it."""
    with source.changed:
        ledger = source.ledger
        return all(row.state.final for row in ledger.pilots) and not ledger.unfinished


def _tasks(source: Source, words: Words, window: Window, now: float) -> Picture:
    limit = LIMIT if window.limit is None else window.limit
    made = pictures.tasks(source, words, tables.Query.of(window.filters()), window.offset, limit)
    if window.bins:
        gathered = gather(source)
        made.tables["history"] = usage.history(gathered, gathered.latest(now, pilots=False), window.bins, window.begin)
    return made
