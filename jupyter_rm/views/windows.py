"""Windows: what part of a view a screen shows, checked as it comes in. Light: knows neither numpy nor figures.

Read next: :mod:`.catalog`.
"""

from __future__ import annotations

import msgspec

# Views of the feed. Those with a figure are drawn from their tables; the others are lists.
LISTS = ("sessions", "summary", "activity", "sites")
DRAWN = ("tasks", "nodes", "queue", "timeline", "usage")
VIEWS = (*LISTS, *DRAWN)
# Their pictures change while time goes on, even when nothing happens.
MOVING = ("activity", "tasks", "queue", "timeline", "usage", "sites")


class Window(msgspec.Struct, forbid_unknown_fields=True):
    """What part of a view is on the screen; which fields mean something depends on the view.

    Attributes:
        offset, limit: rows of the table, or cells of a map; None: as many as suit the view.
        state ... order: see :meth:`jupyter_rm.views.tables.Query.of`.
        bins: most columns of a time axis (0: no such table where there is another one). begin, end: its edges, seconds
        since 1970; None: all of it. at: show the session as it was at this moment.
        level, focus, color, layout, by, select: see the view. width, height: the figure's size, CSS pixels.
    """

    offset: int = 0
    limit: int | None = None
    state: str = ""
    bulk: str = ""
    pilot: str = ""
    cause: str = ""
    search: str = ""
    sort: str = ""
    order: str = ""
    bins: int = 200
    begin: float | None = None
    end: float | None = None
    at: float | None = None
    level: str = ""
    focus: str = ""
    color: str = ""
    layout: str = ""
    by: str = ""
    rows: int = 0
    select: str = ""
    width: int = 0
    height: int = 0

    def filters(self) -> dict[str, str]:
        """Return what :meth:`Query.of` reads."""
        names = ("state", "bulk", "pilot", "cause", "search", "sort", "order")
        return {name: getattr(self, name) for name in names}
