"""Sessions, pilots, scripts, tasks and bulks as dicts of plain values, and back: the dict says which one is meant.

These are what ``jrm ... --json`` prints. A dict may be stored, or sent to another process of the same user; there
``from_dict`` attaches to the session again. Read next: :mod:`.session`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..model.errors import RequestError
from ..model.ids import parse_task

if TYPE_CHECKING:
    from .bulk import Bulk
    from .pilot import Pilot
    from .reading import Reading
    from .requested import Requested
    from .script import Job
    from .session import Session
    from .task import TaskHandle


def _unloaded(name: str) -> Session:
    raise AssertionError(f"nobody has loaded jupyter_rm.client.session, to attach to {name!r}")


# Attaches to a session by its name; the module of sessions puts it here, for it stands above this one.
attach: Callable[[str], Session] = _unloaded


def of_session(session: Reading) -> dict[str, Any]:
    """Return what there is to say of a session."""
    ledger = session._replica.ledger
    pilots = [of_pilot(pilot) for pilot in session.pilots()]
    told = {"name": session.name, "opened": ledger.opened_at, "closed": session.closed}
    return {**told, "tasks": session.counts(), "pilots": pilots}


def of_pilot(pilot: Pilot) -> dict[str, Any]:
    """Return what there is to say of a pilot."""
    return {
        "session": pilot._session.name,
        "uid": pilot.uid,
        "requested": pilot._row().at,
        "name": pilot.name,
        "site": pilot.site,
        "state": str(pilot.state),
        "cause": pilot.cause,
        "reason": pilot.reason,
        "job_id": pilot.job_id,
        "queue_position": pilot.queue_position,
        "start_estimate": pilot.start_estimate,
        "unreachable": pilot.unreachable,
        "nodes": len(pilot.nodes),
        "cores": sum(node.cores for node in pilot.nodes),
    }


def of_job(job: Job) -> dict[str, Any]:
    """Return what there is to say of a script."""
    told = {name: getattr(job, name) for name in ("uid", "name", "site", "job_id", "reason", "exit_code", "cause")}
    told |= {"state": str(job.state), "queue_position": job.queue_position, "files": list(job.files)}
    return {"session": job._session.name, **told, "requested": job._row().at}


def of_task(task: TaskHandle) -> dict[str, Any]:
    """Return what there is to say of a task."""
    return {
        "session": task._session.name,
        "uid": task.uid,
        "submitted": task._table().form.at,
        "name": task.name,
        "state": str(task.state),
        "cause": task.cause,
        "reason": task.reason,
        "exit_code": task.exit_code,
        "attempt": task.attempt,
        "pilot": task.pilot.uid if task.pilot else None,
        "node": task.node,
        "endpoint": task.endpoint,
        "started": task.started,
        "ended": task.ended,
        "sandbox": str(task.sandbox) if task.sandbox else None,
    }


def of_bulk(bulk: Bulk) -> dict[str, Any]:
    """Return what there is to say of a bulk; ``of`` names its tasks in order: (bulk, first index, how many)."""
    session = bulk.session
    numbers, index = (each.astype(np.int64) for each in bulk._flat())
    ends = np.flatnonzero((np.diff(numbers) != 0) | (np.diff(index) != 1)) + 1
    pieces = np.split(np.arange(len(bulk)), ends) if len(bulk) else []
    runs = [[f"t.{numbers[each[0]]}", int(index[each[0]]), len(each)] for each in pieces]
    submitted = {f"t.{number}": session._table(number).form.at for number in sorted(set(numbers.tolist()))}
    told = {"session": session.name, "uid": bulk.uid, "state": bulk.state, "count": len(bulk)}
    return {**told, "tasks": bulk.counts(), "of": runs, "submitted": submitted}


def session_of(fields: Mapping[str, Any]) -> Session:
    """Return the session that a dict names.

    Raises:
        RequestError: JRM-Q57, no dict of a session, or another one has its name now; JRM-Q08, there is none.
    """
    name, opened = _read(fields, "Session", "name", "opened")
    session = attach(name)
    _same(f"session {name!r}", opened, session._replica.ledger.opened_at)
    return session


def requested_of(fields: Mapping[str, Any], kind: type[Requested]) -> Any:
    """Return the pilot or the script that a dict names. Raises as :func:`session_of`, and JRM-Q03: no such one."""
    name, uid, at = _read(fields, kind.__name__, "session", "uid", "requested")
    found = attach(name)[uid]
    if not isinstance(found, kind):
        raise _wrong(kind.__name__)
    _same(uid, at, found._row().at)
    return found


def task_of(fields: Mapping[str, Any], kind: type[TaskHandle]) -> TaskHandle:
    """Return the task that a dict names. Raises as :func:`requested_of`."""
    name, uid, at = _read(fields, "TaskHandle", "session", "uid", "submitted")
    found = attach(name)[uid]
    if not isinstance(found, kind):
        raise _wrong("TaskHandle")
    _same(uid, at, found._table().form.at)
    return found


def bulk_of(fields: Mapping[str, Any], kind: type[Bulk]) -> Bulk:
    """Return the bulk that a dict names. Raises as :func:`requested_of`."""
    name, runs, submitted = _read(fields, "Bulk", "session", "of", "submitted")
    session = attach(name)
    try:
        parts = [(parse_task(uid)[0], int(first), int(count)) for uid, first, count in runs]
        at = {parse_task(uid)[0]: float(when) for uid, when in submitted.items()}
    except (TypeError, ValueError, AttributeError):
        raise _wrong("Bulk") from None
    for number, first, count in parts:
        session[f"t.{number}.{first + max(0, count - 1)}"]  # there are so many
        _same(f"t.{number}", at.get(number), session._table(number).form.at)
    if len(parts) == 1 and parts[0][1:] == (0, len(session._table(parts[0][0]))):
        return kind.whole(session, parts[0][0], parts[0][2])
    numbers = np.repeat([number for number, _, _ in parts], [count for _, _, count in parts]) if parts else np.zeros(0)
    index = np.concatenate([np.arange(first, first + count) for _, first, count in parts]) if parts else np.zeros(0)
    return kind.select(session, numbers, index)


def _read(fields: Mapping[str, Any], kind: str, *names: str) -> list[Any]:
    if not isinstance(fields, Mapping) or any(name not in fields for name in names):
        raise _wrong(kind)
    return [fields[name] for name in names]


def _wrong(kind: str) -> RequestError:
    return RequestError(
        f"from_dict: this is no dict of a {kind}", hint=f"give what as_dict() of a {kind} returned", code="JRM-Q57"
    )


def _same(what: str, then: object, now: float) -> None:
    """Refuse what has the name of something else: the session was closed, and another one of its name opened."""
    if then != now:
        raise RequestError(
            f"from_dict: {what} is another one now", hint="jrm sessions lists the earlier ones", code="JRM-Q57"
        )
