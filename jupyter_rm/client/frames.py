"""DataFrames of tasks and events, made from the replica's columns. pandas is imported here only, when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..model.bulktable import BulkTable
from ..model.columns import Array
from ..model.errors import RequestError
from ..model.ids import pilot_uid, task_uid
from ..model.messages import FetchStory
from ..model.states import Cause, PilotState, TaskState
from .sending import request_all
from .story import events as task_events

if TYPE_CHECKING:
    from .bulk import Bulk
    from .session import Session

_STATES = np.array([state.name for state in TaskState], object)
_CAUSES = np.array([Cause(number).name if number in Cause._value2member_map_ else "" for number in range(256)], object)
_CAUSES[0] = ""


def pandas() -> Any:
    """Return pandas, or say how to get it."""
    try:
        import pandas as module
    except ImportError:
        raise RequestError(
            "pandas is not installed", hint="pip install pandas, or use s.sql(...).rows", code="JRM-Q55"
        ) from None
    return module


# Ends at which no program of the task's own gave a code: a 0 there means nothing.
_NO_CODE = (
    Cause.START_FAILED,
    Cause.ENV_FAILED,
    Cause.STAGE_IN_FAILED,
    Cause.AGENT_LOST,
    Cause.NODE_LOST,
    Cause.PILOT_LOST,
    Cause.DEPENDENCY,
    Cause.UNSATISFIABLE,
)


def coded(table: BulkTable, where: Any) -> Array:
    """Say which of the tasks at ``where`` have an exit code: a program of theirs ran and ended, bool, shape (n,)."""
    state, code = table.state[where], table.code[where]
    ran = (state >= TaskState.DONE) & (table.started[where] > 0) & (table.ended[where] > 0)
    own = (code != 0) | (state == TaskState.DONE)
    if table.form.template.mode != "call":
        own |= ~np.isin(table.cause[where], _NO_CODE)
    out: Array = ran & own
    return out


def task_columns(bulk: Bulk) -> dict[str, Array]:
    """Return the columns of :func:`frame` but the parameters, each of shape (len(bulk),)."""
    session = bulk.session
    parts = bulk.parts()
    count = len(bulk)
    number = np.zeros(count, np.int64)
    index = np.zeros(count, np.int64)
    names: Array = np.full(count, "", object)
    with_code = np.zeros(count, bool)
    call = np.zeros(count, bool)
    for bulk_number, _, picks, places in parts:
        number[places] = bulk_number
        index[places] = picks.array()
        names[places] = _names(session, bulk_number, picks)
        with_code[places] = coded(session._table(bulk_number), picks.where)
        call[places] = session._table(bulk_number).form.template.mode == "call"
    state = bulk.column("state")
    started, ended = bulk.column("started"), bulk.column("ended")
    final = state >= TaskState.DONE
    bound = ((state >= TaskState.SCHEDULED) & ~final) | (final & (ended > 0))
    pilot = bulk.column("pilot").astype(np.int64)
    known = [pilot_uid(row.number) for row in session._replica.ledger.pilots]
    pilots: Array = np.array([*known, ""], object)[np.where(bound & (pilot >= 0), pilot, len(known))]
    measured = (started > 0) & (ended > 0) & ~call  # a worker runs many calls: nobody measures one
    run_time = np.where((started > 0) & (ended >= started), ended - started, np.nan)
    return {
        "uid": np.array([f"t.{b}.{i}" for b, i in zip(number.tolist(), index.tolist(), strict=True)], object),
        "name": names,
        "state": _STATES[state],
        "cause": _CAUSES[bulk.column("cause")],
        "exit_code": np.where(with_code, bulk.column("code").astype(float), np.nan),
        "attempt": bulk.column("attempt"),
        "pilot": pilots,
        "node": _nodes(session, pilot, bulk.column("node"), bound & (started > 0)),
        "started": started,
        "ended": ended,
        "run_time": run_time,
        "user_time": np.where(measured, bulk.column("user"), np.nan),
        "sys_time": np.where(measured, bulk.column("sys"), np.nan),
        "max_rss_mib": np.where(measured, bulk.column("rss") / 1024.0, np.nan),
    }


def _names(session: Session, number: int, picks: Any) -> Any:
    form = session._table(number).form
    text = form.template.name
    if not (form.template.params and "{" in text):
        return text
    if text == "{name}" and "name" in form.columns:
        return np.array(form.columns["name"].take(picks).values(), object)
    columns = {name: column.take(picks).values() for name, column in form.columns.items()}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return np.array([text.format_map(row) for row in rows], object)


def _nodes(session: Session, pilot: Array, node: Array, known: Array) -> Array:
    out: Array = np.full(len(pilot), "", object)
    for row in session._replica.ledger.pilots:
        if row.nodes:
            here = known & (pilot == row.number) & (node < len(row.nodes))
            out[here] = np.array([each.name for each in row.nodes], object)[node[here]]
    return out


def parameter_columns(bulk: Bulk) -> dict[str, Array]:
    """Return the parameters of the tasks by name; None where a task has no such parameter."""
    parts = bulk.parts()
    out: dict[str, Array] = {}
    for number, _, picks, places in parts:
        for name, column in bulk.session._table(number).form.columns.items():
            values = column.take(picks).array()
            if len(parts) == 1:
                out[name] = values
                continue
            if name not in out:
                out[name] = np.full(len(bulk), None, object)
            out[name][places] = values
    return out


def frame(bulk: Bulk) -> Any:
    """Return a DataFrame, one row per task: what it is, how it ended, when, where, at what cost, its parameters.

    Times are UTC; run, user and system time are seconds; memory is MiB. What was not measured is NaN: user and system
    time and memory of calls, and of what never ran.
    """
    pd = pandas()
    columns: dict[str, Any] = dict(task_columns(bulk))
    for name in ("started", "ended"):
        seconds = columns[name]
        columns[name] = pd.to_datetime(np.where(seconds > 0, seconds, np.nan), unit="s", utc=True)
    columns["exit_code"] = pd.array(columns["exit_code"], dtype="Int64")
    for name, values in parameter_columns(bulk).items():
        columns[name if name not in columns else f"p_{name}"] = values
    return pd.DataFrame(columns)


def events(session: Session, limit: int) -> Any:
    """Return a DataFrame of what is known of when what happened, in order of time, the last ``limit`` rows.

    The columns of a task know its last attempt only: what was before, and when a task ended that never started, is
    read from the facts of its bulk.
    """
    pd = pandas()
    with session._replica.changed:
        ledger = session._replica.ledger
        rows: list[tuple[float, str, str, str]] = [(ledger.opened_at, session.name, "OPENED", "")]
        for pilot in ledger.pilots:
            rows += [
                (at, pilot_uid(pilot.number), PilotState(s).name, pilot.spec.site) for s, at in pilot.times.items()
            ]
        rows += [
            (table.form.at, f"t.{number}", "SUBMITTED", f"{len(table)} tasks")
            for number, table in enumerate(ledger.bulks)
        ]
    tasks = session.tasks()
    tasks = tasks[max(0, len(tasks) - limit) :]
    asked = []
    for number, where, picks, _ in tasks.parts():
        table = session._table(number)
        state, started, ended = table.state[where], table.started[where], table.ended[where]
        final = state >= TaskState.DONE
        if bool(((table.attempt[where] > 1) | (final & (ended == 0))).any()):
            asked.append((number, picks.array().tolist()))
            continue
        uids = [task_uid(number, index) for index in picks.array().tolist()]
        rows += [(float(started[place]), uids[place], "RUNNING", "") for place in np.flatnonzero(started).tolist()]
        states, causes = _STATES[state], _CAUSES[table.cause[where]]
        rows += [
            (float(ended[place]), uids[place], states[place], causes[place]) for place in np.flatnonzero(final).tolist()
        ]
    asks = [FetchStory(session._connection.number(), session.name, number, -1) for number, _ in asked]
    stories = request_all(session._connection, asks, session._settings.request_timeout_s)
    for (number, index), story in zip(asked, stories, strict=True):
        rows += task_events(story.facts, number, index)
    rows.sort(key=lambda row: row[0])
    made = pd.DataFrame(rows[-limit:], columns=["at", "uid", "event", "detail"])
    made["at"] = pd.to_datetime(made["at"], unit="s", utc=True)
    return made
