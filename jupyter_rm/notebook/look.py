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
from ..model.states import TaskState
from ..views import catalog, pictures, tables, windows
from ..views.pictures import Picture
from ..views.windows import Window

VIEWS = ("tasks", "nodes", "queue", "timeline", "usage", "summary")


def title_of(view: str, session: str) -> str:
    """Return the heading of a view, for people."""
    return f"session {session}" if view == "summary" else f"{view} of {session}"


def moving(session: Session, view: str) -> bool:
    """Does the view change while time goes on, even when nothing happens? Not once all tasks and pilots have ended."""
    if view not in windows.MOVING:
        return False
    with session._replica.changed:
        ledger = session._replica.ledger
        return any(not row.state.final for row in ledger.pilots) or bool(ledger.counts[: TaskState.DONE].any())


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


def window_of(given: Mapping[str, Any]) -> Window:
    """Return a window, checked.

    Raises:
        RequestError: JRM-Q60, naming the setting that is wrong.
    """
    window = windows.read(given)
    tables.Query.of(window.filters())
    return window


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
    here = view if view in windows.VIEWS else "summary"
    made = catalog.picture(here, session._replica, words(session), window_of(window), time.time())
    made.values["connected"] = session._connection.connected
    return made
