"""Windows: what part of a view a screen shows, checked as it comes in. Light: knows neither numpy nor figures.

Read next: :mod:`.catalog`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ..model.errors import RequestError

# Views of the feed. Those with a figure are drawn from their tables; the others are lists.
LISTS = ("sessions", "summary", "activity", "sites")
DRAWN = ("tasks", "nodes", "queue", "timeline", "usage")
VIEWS = (*LISTS, *DRAWN)
# Their pictures change while time goes on, even when nothing happens.
MOVING = ("activity", "tasks", "queue", "timeline", "usage", "sites")
LATEST = 1e11  # seconds since 1970: the year 5138
_WANTED = {"int": "a whole number", "float": "seconds since 1970, such as time.time()", "str": "a text"}
_AT = re.compile(r"`\$\.(?:window\.)?(\w+)")
_SELECT = re.compile(r"t\.\d+(\.\d+)?|p\.\d+|j\..+")


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

    def check(self) -> None:
        """Check what no type tells.

        Raises:
            RequestError: a moment that is none, or ``select`` names nothing that there could be; JRM-Q60.
        """
        for name in ("begin", "end", "at"):
            moment = getattr(self, name)
            if moment is not None and not 0 <= moment <= LATEST:  # nor is NaN
                raise RequestError(f"{name}: {moment:g} is no moment", hint=f"give {_WANTED['float']}", code="JRM-Q60")
        if self.select and not _SELECT.fullmatch(self.select):
            hint = "use t.3.17 (a task), t.3 (a submission) or p.0 (a pilot)"
            raise RequestError(f"select: {self.select[:40]!r} is unknown", hint=hint, code="JRM-Q60")


def read(given: Mapping[str, Any]) -> Window:
    """Return a window made of plain values.

    Raises:
        RequestError: JRM-Q60, naming the setting that is wrong.
    """
    for name in given:
        if name not in Window.__struct_fields__:
            known = ", ".join(Window.__struct_fields__)
            near = difflib.get_close_matches(name, Window.__struct_fields__, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {known}"
            raise RequestError(f"{name}: a view has no such setting", hint=hint, code="JRM-Q60")
    try:
        window = msgspec.convert(dict(given), Window)
    except msgspec.ValidationError as error:
        message, hint = said(error)
        raise RequestError(message, hint=hint, code="JRM-Q60") from None
    window.check()
    return window


def said(error: Exception) -> tuple[str, str]:
    """Return what is wrong with a setting of a window, and what to give instead; else the error as it is."""
    found = _AT.search(str(error))
    kind = Window.__annotations__.get(found[1] if found else "", "").partition(" ")[0]
    if found is None or kind not in _WANTED:
        return str(error), "see docs/server.md"
    return f"{found[1]}: not {_WANTED[kind].partition(',')[0]}", f"give {_WANTED[kind]}"
