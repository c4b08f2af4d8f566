"""SQL over a session: an in-memory database whose tables are computed from the replica at the moment of asking.

Reads only, nothing but ``select``; bounded in rows and time. Read next: :mod:`.frames`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..model.errors import RequestError
from ..model.ids import pilot_uid
from ..model.states import TaskState
from .frames import parameter_columns, task_columns

if TYPE_CHECKING:
    from .session import Session

SECONDS = 20.0


def select(session: Session, query: str, limit: int) -> Any:
    """Return what :func:`answer` says as a DataFrame (a list of dicts without pandas)."""
    names, rows = answer(session, query, limit)
    try:
        import pandas as pd
    except ImportError:
        return [dict(zip(names, row, strict=True)) for row in rows]
    return pd.DataFrame(rows, columns=names)


def answer(session: Session, query: str, limit: int) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the columns and rows of the answer to ``query``, at most ``limit`` rows.

    Tables: ``tasks`` (columns of ``Session.frame``, times in seconds since 1970), ``pilots``, ``bulks``.

    Raises:
        RequestError: not a select, an error in it, or it took too long; JRM-Q56.
    """
    import apsw

    if not query.lstrip().lower().startswith(("select", "with", "values", "explain")):
        raise RequestError("sql: only select is possible", hint="write select ... from tasks", code="JRM-Q56")
    connection = apsw.Connection(":memory:")
    deadline = time.monotonic() + SECONDS
    try:
        _fill(session, connection, query.lower())
        connection.set_authorizer(_only_reading)
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        names: list[str] = []

        def begun(cursor: Any, *_: Any) -> bool:
            # Only here does the description of an answer without rows exist.
            names[:] = names or [name for name, *_ in cursor.get_description()]
            return True

        cursor = connection.cursor()
        cursor.exec_trace = begun
        rows: list[tuple[Any, ...]] = []
        for row in cursor.execute(query):
            rows.append(row)
            if len(rows) >= limit:
                break
    except apsw.InterruptError:
        raise RequestError(f"sql: took longer than {SECONDS:g} s", hint="ask for less", code="JRM-Q56") from None
    except apsw.Error as error:
        raise RequestError(
            f"sql: {error}", hint="tables: tasks, pilots, bulks; see s.frame().columns", code="JRM-Q56"
        ) from None
    finally:
        connection.close()
    return names, rows


def _only_reading(operation: int, *_: Any) -> int:
    import apsw

    allowed = (apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE)
    return apsw.SQLITE_OK if operation in allowed else apsw.SQLITE_DENY


def _fill(session: Session, connection: Any, query: str) -> None:
    """Make the tables that the query mentions."""

    sources: dict[str, tuple[list[str], Callable[[], Iterator[tuple[Any, ...]]]]] = {}
    if "tasks" in query:
        tasks = session.tasks()
        columns: dict[str, Any] = dict(task_columns(tasks))
        taken = set(columns)  # small letters: to SQL, N and n are one name
        for name, values in parameter_columns(tasks).items():
            while name.lower() in taken:
                name = f"p_{name}"
            taken.add(name.lower())
            columns[name] = values
        sources["tasks"] = (list(columns), lambda: zip(*(_plain(values) for values in columns.values()), strict=True))
    if "pilots" in query:
        names = ["uid", "name", "site", "state", "reason", "job_id", "cores", "requested"]
        sources["pilots"] = (
            names,
            lambda: iter(
                [
                    (
                        pilot_uid(row.number),
                        row.spec.name,
                        row.spec.site,
                        row.state.name,
                        row.reason,
                        row.job_id,
                        sum(node.cores for node in row.nodes) or row.spec.cores,
                        row.at,
                    )
                    for row in session._replica.ledger.pilots
                ]
            ),
        )
    if "bulks" in query:
        names = ["uid", "count", "mode", "executable", "submitted_at", *(state.name.lower() for state in TaskState)]
        sources["bulks"] = (
            names,
            lambda: iter(
                [
                    (
                        f"t.{number}",
                        len(table),
                        table.form.template.mode,
                        table.form.template.executable,
                        table.form.at,
                        *table.counts.tolist(),
                    )
                    for number, table in enumerate(session._replica.ledger.bulks)
                ]
            ),
        )
    for name, (names, rows) in sources.items():
        quoted = ", ".join('"' + column.replace('"', '""') + '"' for column in names)
        connection.execute(f"CREATE TABLE {name}({quoted})")
        with connection:
            connection.executemany(f"INSERT INTO {name} VALUES({','.join('?' * len(names))})", rows())


def _plain(values: Any) -> list[Any]:
    out = [None if value != value else value for value in values.tolist()]
    if values.dtype != object:
        return out
    return [value if isinstance(value, (str, int, float, bytes, type(None))) else str(value) for value in out]
