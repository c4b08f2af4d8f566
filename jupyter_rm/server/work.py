"""What requests do, in plain values: the half of the interface that may block.

Every function takes the hub and what was asked for, and returns what is sent as JSON. It runs on the hands and is
imported there, since it brings numpy and the client. Knows no HTTP. Read next: :mod:`.api`, ``openapi.yaml``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from .. import __version__
from ..client import admin, capacity, files, logs, show
from ..client import listing as listings
from ..client.bulk import Bulk
from ..client.pilot import Pilot
from ..client.session import Session
from ..client.task import TaskHandle
from ..model.columns import Picks
from ..model.errors import JrmError, LinkError, RequestError
from ..model.ids import parse_pilot
from ..model.logs import FetchLog, LogPart, level_name, level_of
from ..model.messages import PROTOCOL, Explain, FetchStory, RequestPilot
from ..runtime.logs import escape
from ..views import pictures, tables
from ..views.texts import line, plain
from .hub import Hub

TAIL_BYTES = 4000
STORY_LINES = 200
ASK_S = 5.0  # for what the broker may have to ask an agent that is far away
MOST_UIDS = 10_000
MOST_PARAMETERS = 50


def words(session: Session) -> pictures.Words:
    """Return how reasons are worded in a session."""
    return pictures.Words(
        task=lambda table, index: show.reason_of(session, table, index), pilot=lambda row: show.pilot_reason(row)
    )


# ------------------------------------------------------------ the broker


def status(hub: Hub) -> dict[str, Any]:
    """Return how the server half and the broker are; never starts a broker."""
    return {"version": __version__, "protocol": PROTOCOL, "broker": hub.keeper.health()}


def start_broker(hub: Hub) -> dict[str, Any]:
    """Reach the broker, starting it when there is none."""
    hub.keeper.connection(anew=True)
    return status(hub)


def broker_log(hub: Hub, lines: int) -> dict[str, Any]:  # noqa: ARG001 (all take the hub)
    """Return the last lines of the broker's log."""
    return {"text": plain(admin.log_tail(lines))}


# ------------------------------------------------------------ sessions


def listing(hub: Hub) -> list[dict[str, Any]]:
    """Return all sessions, open and closed."""
    hub.keeper.connection()
    keys = ("name", "state", "opened_at", "tasks", "pilots", "clients")
    return [{key: each.as_dict()[key] for key in keys} for each in listings.sessions()]


def sessions(hub: Hub) -> dict[str, Any]:
    """Return the sessions as a picture shows them: the newest of each name, open ones first."""
    table = pictures.sessions(listing(hub)).tables["sessions"]
    return {"sessions": [dict(zip(table.columns, row, strict=True)) for row in table.rows]}


def open_session(hub: Hub, name: str) -> tuple[dict[str, Any], bool]:
    """Open a session, making it when there is none; return it and whether it was made."""
    session = hub.session(name, create=True)
    created = session._replica.created
    session._replica.created = False  # the next caller did not make it
    return _session(session), created


def session(hub: Hub, name: str) -> dict[str, Any]:
    """Return one session at a glance."""
    return _session(hub.session(name))


def _session(session: Session) -> dict[str, Any]:
    picture = pictures.summary(session._replica, words(session))
    return picture.values | {"pilot_list": _records(picture.tables["pilots"])}


def close_session(hub: Hub, name: str) -> dict[str, Any]:
    """Close a session: cancel what is open, end its pilots."""
    hub.session(name).close()
    hub.leave(name)
    return {"session": name, "state": "closed"}


def detach_session(hub: Hub, name: str) -> dict[str, Any]:
    """Stop following a session in this server; everything in it goes on."""
    return {"session": name, "detached": hub.leave(name)}


def _records(table: pictures.Table) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


# ------------------------------------------------------------ pilots


def pilots(hub: Hub, name: str) -> dict[str, Any]:
    """Return the pilots of a session, living ones first."""
    session = hub.session(name)
    with session._replica.changed:
        table = pictures.pilots_table(session._replica.ledger, show.pilot_reason, session._replica.sites)
        total = len(session._replica.ledger.pilots)
    return {"pilots": _records(table), "total": total}


def start_pilot(hub: Hub, name: str, site: str, fields: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Ask a site for a pilot; the same ``key`` again returns the same pilot."""
    session = hub.session(name)
    spec = capacity.pilot_spec(site, fields)
    if not key:
        return _pilot(session, session.pilot(site, **fields))
    connection = session._connection
    token = hashlib.blake2b(f"{name}\0{key}".encode(), digest_size=16).digest()
    answer = connection.request(RequestPilot(connection.number(), name, token, spec))
    pilot = Pilot(session, answer.number)
    pilot._row()  # waits until it is known here
    return _pilot(session, pilot)


def cancel_pilot(hub: Hub, name: str, uid: str, drain: bool) -> dict[str, Any]:
    """End a pilot; ``drain``: let what runs end first."""
    session = hub.session(name)
    parse_pilot(uid)
    pilot: Pilot = session[uid]
    pilot.cancel(drain)
    return _pilot(session, pilot)


def tell_job(hub: Hub, name: str, uid: str, op: str) -> dict[str, Any]:
    """Have a pilot's batch system hold, release, suspend or resume its job; return when it has."""
    session = hub.session(name)
    parse_pilot(uid)
    pilot: Pilot = session[uid]
    {"hold": pilot.hold, "release": pilot.release, "suspend": pilot.suspend, "resume": pilot.resume}[op]()
    return _pilot(session, pilot)


def _pilot(session: Session, pilot: Pilot) -> dict[str, Any]:
    with session._replica.changed:
        row = pictures.pilot_row(pilot._row(), 0, show.pilot_reason, session._replica.sites)
    record = dict(zip(pictures.PILOT_COLUMNS, row, strict=True))
    del record["running"]
    return record


# ------------------------------------------------------------ logs


def log_lines(hub: Hub, name: str, component: str, life: int, after: int, most: int) -> dict[str, Any]:
    """Return at most so many log lines of a component after number ``after`` of its life ``life``."""
    part = _log(hub, name, component, life, after, most)
    lines = [
        {
            "no": one.no,
            "at": one.at,
            "level": level_name(one.level),
            "name": plain(escape(one.name)),
            "text": plain(escape(one.text)),
        }
        for one in part.lines
    ]
    level = level_name(part.level)
    return {"component": component, "life": part.life, "lines": lines, "dropped": part.dropped, "level": level}


def log_level(hub: Hub, name: str, component: str, level: str) -> dict[str, Any]:
    """Change what a component logs from now on."""
    part = _log(hub, name, component, level=level_of(level))
    return {"component": component, "level": level_name(part.level)}


def _log(
    hub: Hub, name: str, component: str, life: int = -1, after: int = 0, most: int = 0, level: int = 0
) -> LogPart:
    session = hub.session(name)
    if component != logs.BROKER:
        parse_pilot(component)
        session[component]  # refuses one that never was
    number = session._connection.number()
    return logs.ask(session, FetchLog(number, name, component, life, after, most, level), timeout=ASK_S)


# ------------------------------------------------------------ tasks


def tasks(hub: Hub, name: str, filters: Mapping[str, str], offset: int, limit: int) -> dict[str, Any]:
    """Return a page of the filtered and sorted tasks."""
    session = hub.session(name)
    picture = pictures.tasks(session._replica, words(session), tables.Query.of(filters), offset, limit)
    return picture.values | {"tasks": _records(picture.tables["tasks"])}


def _task(session: Session, uid: str) -> TaskHandle:
    task = session[uid]
    if not isinstance(task, TaskHandle):
        raise RequestError(f"{uid}: not one task", hint=f"name one, such as {uid}.0", code="JRM-Q03")
    return task


def task(hub: Hub, name: str, uid: str) -> dict[str, Any]:
    """Return everything about one task: state and why, its story, the ends of its output."""
    session = hub.session(name)
    one = _task(session, uid)
    place = (one._number(), one._index)
    row = tables.rows(session._replica, [place], lambda table, index: plain(show.reason_of(session, table, index)))[0]
    record = dict(zip(tables.COLUMNS, row, strict=True))
    table = session._table(place[0])
    record["command"] = line(show._command(one), 2000)
    record["parameters"] = {
        key: value if isinstance(value, (int, float)) else line(str(value))
        for key, value in list(one.parameters.items())[:MOST_PARAMETERS]
    }
    record["request"] = str(table.form.template.request)
    record["sandbox"] = plain(str(one.sandbox)) if one.sandbox is not None else None
    record["endpoint"] = line(table.endpoint) or None
    record["next_step"] = _next_step(one)
    record["explain"], record["story"] = _told(session, place)
    record["stdout"] = output(hub, name, uid, "stdout", TAIL_BYTES)
    record["stderr"] = output(hub, name, uid, "stderr", TAIL_BYTES)
    return record


def _next_step(one: TaskHandle) -> str:
    if one.state == "FAILED":
        return "read its standard error and story, then retry it"
    if one.state == "WAITING" and not any(not pilot.state.final for pilot in _rows(one)):
        return "start a pilot"
    return ""


def _rows(one: TaskHandle) -> list[Any]:
    return one._session._replica.ledger.pilots


def _told(session: Session, place: tuple[int, int]) -> tuple[str, list[str]]:
    """Return why a task waits and what happened to it, as the broker tells them."""
    from ..client.story import lines

    connection = session._connection
    explain, away = "", "not known now: the broker does not answer"
    if not session._replica.final(*place):
        try:
            if not connection.connected:
                return away, [away]
            explain = connection.request(Explain(connection.number(), session.name, *place), ASK_S).text
        except LinkError as error:  # nor will it tell more
            return f"not known now: {error.message}", [away]
        except JrmError as error:
            explain = f"not known now: {error.message}"
    if not connection.connected:
        return plain(explain), [away]
    try:
        story = connection.request(FetchStory(connection.number(), session.name, *place), ASK_S)
        told = lines(story.facts, *place, session._replica.ledger)
    except JrmError as error:
        told = [f"not known now: {error.message}"]
    return plain(explain), [line(text, 500) for text in told[:1] + told[1:][-STORY_LINES:]]


def output(hub: Hub, name: str, uid: str, stream: str, size: int) -> dict[str, Any]:
    """Return the last ``size`` bytes that a task wrote to ``stdout`` or ``stderr``, as plain text."""
    one = _task(hub.session(name), uid)
    path = files._path(one, stream)
    told: dict[str, Any] = {"path": None, "bytes": 0, "text": "", "cut": False, "binary": False}
    if path is None or (files.is_far(one, path) and not one._session._connection.connected):
        return told
    told["path"], told["bytes"] = plain(str(path)), files.size_of(one, path)
    text = files.tail(one, stream, size)
    # Text holds no zero bytes: this is somebody's data, and thousands of odd characters help nobody.
    told["binary"] = "\0" in text
    told["cut"] = told["bytes"] > size
    if told["cut"] and "\n" in text:
        text = text[text.index("\n") + 1 :]
    told["text"] = "" if told["binary"] else plain(text)
    return told


def _chosen(session: Session, uids: Sequence[str], filters: Mapping[str, str] | None) -> Bulk:
    """Return the tasks that a request names, by uids (bulks too) or by filters."""
    import numpy as np

    if filters is not None:
        found = tables.every(session._replica, tables.Query.of(filters))
        parts = [
            (number, np.arange(len(session._table(number))) if picks is None else picks) for number, picks in found
        ]
    else:
        if not 0 < len(uids) <= MOST_UIDS:
            raise RequestError(
                f"uids: {len(uids)} of them", hint=f"name 1 to {MOST_UIDS}, or give a filter", code="JRM-Q61"
            )
        wanted: dict[int, list[Any]] = {}
        for uid in uids:
            thing = session[uid] if isinstance(uid, str) and uid.startswith("t.") else None
            if isinstance(thing, TaskHandle):
                wanted.setdefault(thing._number(), []).append([thing._index])
            elif isinstance(thing, Bulk):
                wanted.setdefault(int(thing._bulks[0]), []).append(np.arange(len(thing)))
            else:
                raise RequestError(f"{uid!r} is not a task uid", hint="task uids look like t.3.17", code="JRM-Q03")
        parts = [(number, np.unique(np.concatenate(index))) for number, index in wanted.items()]
    if not parts:
        return Bulk.select(session, np.zeros(0), np.zeros(0))
    bulks = np.concatenate([np.full(len(index), number, np.uint32) for number, index in parts])
    return Bulk.select(session, bulks, np.concatenate([index for _, index in parts]))


def cancel_tasks(hub: Hub, name: str, uids: Sequence[str], filters: Mapping[str, str] | None) -> dict[str, Any]:
    """Cancel tasks in whatever state; those that have ended are not hit."""
    session = hub.session(name)
    chosen = _chosen(session, uids, filters)
    what = tuple((number, Picks.of(where)) for number, where, _, _ in chosen.parts())
    return {"named": len(chosen), "canceled": session._cancel(what) if what else 0}


def retry_tasks(hub: Hub, name: str, uids: Sequence[str], filters: Mapping[str, str] | None) -> dict[str, Any]:
    """Submit again, as new tasks, those of the named that ended FAILED or CANCELED."""
    session = hub.session(name)
    chosen = _chosen(session, uids, filters)
    again = chosen.retry() if len(chosen) else chosen
    numbers = [number for number, _, _, _ in again.parts()] if len(again) else []
    return {"named": len(chosen), "submitted": len(again), "bulks": [f"t.{number}" for number in numbers]}
