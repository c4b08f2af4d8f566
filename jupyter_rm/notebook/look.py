"""What a view of a session shows now, as a picture: the same pictures that the Jupyter server's feed sends.

Knows which view is made by which function of :mod:`jupyter_rm.views`, and how reasons are worded. Knows no widget.
Read next: :mod:`jupyter_rm.views.pictures`, :mod:`.live`.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping
from typing import Any

from ..client import show
from ..client.session import Session
from ..model.errors import RequestError
from ..views import pictures, tables
from ..views.pictures import Picture

VIEWS = ("tasks", "nodes", "queue", "timeline", "usage", "summary")
# Views in which time goes on by itself.
TIMED = frozenset({"queue", "timeline", "usage"})
_TITLES = {"summary": "session"}


def title_of(view: str, session: str) -> str:
    """Return the heading of a view, for people."""
    return f"{_TITLES.get(view, view)} {'of ' if view not in _TITLES else ''}{session}"


def check(view: str) -> str:
    """Return ``view`` when there is such a view.

    Raises:
        RequestError: JRM-Q60, naming those there are.
    """
    if view not in VIEWS:
        near = difflib.get_close_matches(str(view), VIEWS, 1)
        hint = f"did you mean {near[0]!r}?" if near else "views: " + ", ".join(VIEWS)
        raise RequestError(f"view: {view!r} is unknown", hint=hint, code="JRM-Q60")
    return view


def words(session: Session) -> pictures.Words:
    """Return how reasons are worded in a session."""
    return pictures.Words(
        task=lambda table, index: show.reason_of(session, table, index), pilot=lambda row: show.pilot_reason(row)
    )


def picture(session: Session, view: str, window: Mapping[str, Any]) -> Picture:
    """Return what ``view`` shows of a session now.

    Args:
        window: what part of it, as the feed's windows (docs/server.md).

    Raises:
        RequestError: a field of the window is wrong.
    """
    replica = session._replica
    if view == "tasks":
        filters = ("state", "bulk", "pilot", "cause", "search", "sort", "order")
        query = tables.Query.of({name: window[name] for name in filters if name in window})
        made = pictures.tasks(replica, words(session), query, window.get("offset", 0), window.get("limit", 100))
    elif view == "usage":
        made = pictures.activity(replica, time.time(), window.get("bins", 200), window.get("begin"))
    else:
        made = pictures.summary(replica, words(session))
    made.values["connected"] = session._connection.connected
    return made
