"""Tables over a whole session that magics and command line share: tasks, nodes, queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..model.ids import pilot_uid
from ..model.states import PilotState, TaskState
from ..model.units import human_mib
from . import show

if TYPE_CHECKING:
    from .session import Session

ROWS = 50


class Overview:
    """Rows with headers; shows itself as text or as an HTML table."""

    def __init__(self, title: str, headers: list[str], rows: list[tuple[Any, ...]], more: str = "") -> None:
        self.title = title
        self.headers = headers
        self.rows = rows
        self.more = more

    def as_list(self) -> list[dict[str, Any]]:
        """Return one dict per row."""
        return [dict(zip(self.headers, row, strict=True)) for row in self.rows]

    def __repr__(self) -> str:
        cells = [self.headers, *([("" if cell is None else str(cell)) for cell in row] for row in self.rows)]
        widths = [min(60, max(len(row[place]) for row in cells)) for place in range(len(self.headers))]
        lines = [
            "  ".join([*(cell[:60].ljust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1][:400]])
            for row in cells
        ]
        return "\n".join([self.title, *(f"  {line}" for line in lines), *([f"  {self.more}"] if self.more else [])])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": show.table(self.headers, self.rows, self.title, self.more)}


class Overviews:
    """Several overviews, one below the other; those without rows are left out, but for the last."""

    def __init__(self, *parts: Overview) -> None:
        self.parts = [part for part in parts if part.rows or part is parts[-1]]

    def as_list(self) -> list[dict[str, Any]]:
        """Return one dict per row."""
        return [row for part in self.parts for row in part.as_list()]

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.parts))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        html = "".join(show.table(part.headers, part.rows, part.title, part.more) for part in self.parts)
        return {"text/plain": repr(self), "text/html": html}


def tasks(session: Session, state: str = "", limit: int = ROWS) -> Overview:
    """Return the tasks (of one state), the last ``limit`` of them."""
    every = session.tasks()
    chosen = every.where(state) if state else every
    rows = [
        (
            task.uid,
            task.name if task.name != task.uid else "",
            str(task.state),
            task.reason,
            task.exit_code,
            task.attempt,
        )
        for task in chosen[max(0, len(chosen) - limit) :]
    ]
    more = f"last {len(rows)} of {len(chosen)}" if len(chosen) > len(rows) else ""
    title = f"session {session.name}: {show.counts_text(session.counts())}"
    return Overview(title, ["uid", "name", "state", "reason", "exit_code", "attempt"], rows, more)


def nodes(session: Session) -> Overview:
    """Return the nodes of all live pilots and how many tasks each runs."""
    ledger = session._replica.ledger
    rows: list[tuple[Any, ...]] = []
    with session._replica.changed:
        for pilot in ledger.pilots:
            if pilot.state.final or len(rows) >= 1000:
                continue
            running = np.zeros(len(pilot.nodes) + 1, np.int64)
            for _, table in ledger.open_bulks():
                if table.counts[TaskState.RUNNING]:
                    here = (table.state == TaskState.RUNNING) & (table.pilot == pilot.number)
                    running += np.bincount(
                        np.minimum(table.node[here], len(pilot.nodes)), minlength=len(pilot.nodes) + 1
                    )
            for place, node in enumerate(pilot.nodes[:ROWS]):
                memory = human_mib(node.mem) if node.mem else ""
                part = node.partition if pilot.spec.partitions else ""
                busy = int(running[place])
                rows.append((pilot_uid(pilot.number), node.name, node.cores, node.gpus, memory, busy, part))
    titles = ["pilot", "node", "cores", "gpus", "memory", "running", "partition"]
    if not any(row[-1] != "" for row in rows):
        titles, rows = titles[:-1], [row[:-1] for row in rows]
    return Overview(f"nodes of session {session.name}", titles, rows)


def queue(session: Session) -> Overviews:
    """Return what waits: pilots with their places in the queues of their sites, and tasks per bulk and shape."""
    pilots = [
        (
            pilot.uid,
            pilot.site,
            pilot.job_id,
            str(pilot.state),
            pilot.queue_position,
            show.stamp(pilot.start_estimate) if pilot.start_estimate else "",
            pilot.reason,
        )
        for pilot in session.pilots()
        if pilot.state < PilotState.ACTIVE
    ]
    rows: list[tuple[Any, ...]] = []
    for number, table in session._replica.ledger.open_bulks():
        waiting = int(table.counts[: TaskState.RUNNING].sum())
        if waiting and len(rows) < 1000:
            template = table.form.template
            what = "a Python call" if template.mode == "call" else template.executable
            held = int(table.counts[TaskState.SCHEDULED])
            rows.append((f"t.{number}", waiting, held, str(template.request), template.priority, what))
    headers = ["bulk", "waiting", "bound to a pilot", "asks for", "priority", "runs"]
    titles = ["pilot", "site", "job", "state", "place", "expected start", "why"]
    return Overviews(
        Overview(f"pilots of session {session.name}", titles, pilots),
        Overview(f"queue of session {session.name}", headers, rows),
    )
