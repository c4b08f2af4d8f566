"""DataFrames of tasks and events, made from the replica's columns. pandas is imported here only, when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..model.bulktable import BulkTable
from ..model.columns import Array
from ..model.errors import RequestError
from ..model.ids import pilot_uid
from ..model.states import Cause, PilotState, TaskState

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
    for bulk_number, _, picks, places in parts:
        number[places] = bulk_number
        index[places] = picks.array()
        names[places] = _names(session, bulk_number, picks)
        with_code[places] = coded(session._table(bulk_number), picks.where)
    state = bulk.column("state")
    started, ended = bulk.column("started"), bulk.column("ended")
    final = state >= TaskState.DONE
    bound = ((state >= TaskState.SCHEDULED) & ~final) | (final & (ended > 0))
    pilot = bulk.column("pilot").astype(np.int64)
    known = [pilot_uid(row.number) for row in session._replica.ledger.pilots]
    pilots: Array = np.array([*known, ""], object)[np.where(bound & (pilot >= 0), pilot, len(known))]
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
        "user_time": bulk.column("user"),
        "sys_time": bulk.column("sys"),
        "max_rss_mib": bulk.column("rss") / 1024.0,
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

    Times are UTC; run, user and system time are seconds; memory is MiB.
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
    """Return a DataFrame of what is known of when what happened, in order of time, the last ``limit`` rows."""
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
    if len(tasks):
        columns = task_columns(tasks[max(0, len(tasks) - limit) :])
        for name, event in (("started", "RUNNING"), ("ended", "")):
            for place in np.flatnonzero(columns[name] > 0).tolist():
                what = event or columns["state"][place]
                if event or what in ("DONE", "FAILED", "CANCELED"):
                    rows.append((columns[name][place], columns["uid"][place], what, columns["cause"][place]))
    rows.sort(key=lambda row: row[0])
    made = pd.DataFrame(rows[-limit:], columns=["at", "uid", "event", "detail"])
    made["at"] = pd.to_datetime(made["at"], unit="s", utc=True)
    return made
