"""What a view asks besides frames, answered by the kernel: figures, BokehJS, a task's details, cancel and retry.

The paths are those of the server's interface (``openapi.yaml``), so that the same view runs where no server of ours is.
Knows no widget. Read next: :mod:`.fed`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ..client import files, show
from ..client.bulk import Bulk
from ..client.session import Session
from ..client.task import TaskHandle
from ..model.errors import JrmError, RequestError
from ..views import tables
from ..views.texts import line, plain

TAIL_BYTES = 4000
MOST_UIDS = 10_000
_SCRIPT = re.compile(r"bokeh(-widgets|-tables|-api|-gl)?\.min\.js\Z")
Answer = tuple[int, str, bytes]


def answer(session: Session, method: str, path: str, body: str) -> Answer:
    """Return (HTTP status, media type, body) of a request.

    Args:
        path: below ``jupyter-rm/``, with its query. body: JSON, or empty.
    """
    try:
        return _answer(session, method, path, json.loads(body) if body else {})
    except JrmError as error:
        told = {"code": error.code, "message": error.message, "hint": error.hint, "retry": error.retry}
        return 404 if error.code == "JRM-Q03" else 400, "application/json", json.dumps(told).encode()
    except (ValueError, ImportError) as error:
        told = {"code": "JRM-Q61", "message": f"{type(error).__name__}: {error}", "hint": "", "retry": False}
        return 400, "application/json", json.dumps(told).encode()


def _answer(session: Session, method: str, path: str, body: Any) -> Answer:
    parts = urlsplit(path)
    words = [unquote(word) for word in parts.path.split("/")]
    if words[:2] == ["static", "bokeh"] and len(words) == 3:
        return 200, "text/javascript", _script(words[2])
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    match (method, *words[1:]):
        case ("GET", "figures", view):
            from ..views import figures

            return _json(figures.template(view, query.get("theme", "light")))
        case ("GET", "sessions", _, "tasks", uid):
            return _json(details(session, uid))
        case ("POST", "sessions", _, "tasks", "cancel"):
            chosen = _chosen(session, body)
            return _json({"named": len(chosen), "canceled": chosen.cancel() if len(chosen) else 0})
        case ("POST", "sessions", _, "tasks", "retry"):
            chosen = _chosen(session, body)
            again = chosen.retry() if len(chosen) else chosen
            return _json({"named": len(chosen), "submitted": len(again), "bulks": []})
    raise RequestError(
        f"{method} {path[:80]}: only a Jupyter server with jupyter_rm answers this", hint="use %jrm", code="JRM-Q61"
    )


def _json(value: Any) -> Answer:
    return 200, "application/json", json.dumps(value).encode()


def _script(name: str) -> bytes:
    import bokeh

    if not _SCRIPT.match(name):
        raise RequestError(f"{name[:40]!r}: no script of BokehJS", hint="reload the page", code="JRM-Q66")
    return (Path(bokeh.__file__).parent / "server" / "static" / "js" / name).read_bytes()


def _chosen(session: Session, body: Any) -> Bulk:
    """Return the tasks that a request names, by uids or by filters, as the server's interface does."""
    import numpy as np

    if isinstance(body.get("filter"), dict):
        found = tables.every(session._replica, tables.Query.of(body["filter"]))
        pieces = [(n, np.arange(len(session._table(n))) if picks is None else picks) for n, picks in found]
    else:
        uids = body.get("uids") or []
        if not 0 < len(uids) <= MOST_UIDS:
            raise RequestError(f"uids: {len(uids)} of them", hint=f"name 1 to {MOST_UIDS}", code="JRM-Q61")
        things = [session[str(uid)] for uid in uids]
        tasks = [one for thing in things for one in (thing if isinstance(thing, Bulk) else [thing])]
        pieces = [(one._number(), np.array([one._index])) for one in tasks if isinstance(one, TaskHandle)]
    if not pieces:
        return Bulk.select(session, np.zeros(0), np.zeros(0))
    bulks = np.concatenate([np.full(len(index), number, np.uint32) for number, index in pieces])
    return Bulk.select(session, bulks, np.concatenate([index for _, index in pieces]))


def details(session: Session, uid: str) -> dict[str, Any]:
    """Return everything about one task: state and why, its story, the ends of its output.

    Raises:
        RequestError: there is no such task; JRM-Q03.
    """
    one = session[uid]
    if not isinstance(one, TaskHandle):
        raise RequestError(f"{uid}: not one task", hint=f"name one, such as {uid}.0", code="JRM-Q03")
    place = (one._number(), one._index)
    row = tables.rows(session._replica, [place], lambda table, index: plain(show.reason_of(session, table, index)))[0]
    record: dict[str, Any] = dict(zip(tables.COLUMNS, row, strict=True))
    record["command"] = line(show._command(one), 2000)
    record["parameters"] = {key: line(str(value)) for key, value in list(one.parameters.items())[:50]}
    record["request"] = str(session._table(place[0]).form.template.request)
    record["sandbox"] = plain(str(one.sandbox)) if one.sandbox is not None else None
    record["next_step"] = "read its standard error and story, then retry it" if one.state == "FAILED" else ""
    record["explain"] = "" if one.done() else _tried(lambda: plain(str(one.explain())))
    record["story"] = _tried(lambda: plain(str(one.story()))).splitlines()[-200:]
    for stream in ("stdout", "stderr"):
        record[stream] = _output(one, stream)
    return record


def _tried(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except JrmError as error:
        return f"not known now: {error.message}"


def _output(one: TaskHandle, stream: str) -> dict[str, Any]:
    path = files._path(one, stream)
    if path is None:
        return {"path": None, "bytes": 0, "text": "", "cut": False, "binary": False}
    size, text = files.size_of(one, path), files.tail(one, stream, TAIL_BYTES)
    # Text holds no zero bytes: this is somebody's data, and thousands of odd characters help nobody.
    binary = "\0" in text
    told = {"path": plain(str(path)), "bytes": size, "cut": size > TAIL_BYTES, "binary": binary}
    return told | {"text": "" if binary else plain(text)}
