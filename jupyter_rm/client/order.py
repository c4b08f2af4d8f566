"""What comes after what: ``after=`` as people write it, made into what messages say. Read next: :mod:`.session`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..model.columns import Picks
from ..model.errors import RequestError
from .bulk import Bulk
from .task import TaskHandle

if TYPE_CHECKING:
    from .session import Session


def after(session: Session, given: object) -> tuple[tuple[int, Picks], ...]:
    """Return what ``after=`` names as messages name it: (bulk, picks).

    Args:
        given: a task handle, a bulk, a uid, or a list of these.

    Raises:
        RequestError: JRM-Q52, it names no task of this session.
    """
    if given is None or given == ():
        return ()
    items = [given] if isinstance(given, (str, TaskHandle, Bulk)) else given
    if not isinstance(items, Iterable):
        raise RequestError(f"after: {given!r} is no task", hint="give handles, bulks or uids", code="JRM-Q52")
    out: list[tuple[int, Picks]] = []
    for item in items:
        if isinstance(item, TaskHandle):
            if item._session is not session and item._session.name != session.name:
                raise RequestError(f"after: {item.uid} is of another session", hint="use one session", code="JRM-Q52")
            out.append((item._number(), Picks.span(item._index, item._index + 1)))
        elif isinstance(item, Bulk):
            out += [(number, picks) for number, _, picks, _ in item.parts()]
        elif isinstance(item, str):
            try:
                named = session[item]
            except RequestError as error:
                error.message = f"after: {error.message}"
                raise
            out += [(number, picks) for number, _, picks, _ in _parts(named)]
        else:
            raise RequestError(f"after: {item!r} is no task", hint="give handles, bulks or uids", code="JRM-Q52")
    return tuple(out)


def _parts(thing: Any) -> list[tuple[int, Any, Picks, Any]]:
    if isinstance(thing, TaskHandle):
        return [(thing._number(), None, Picks.span(thing._index, thing._index + 1), None)]
    return thing.parts() if isinstance(thing, Bulk) else []
