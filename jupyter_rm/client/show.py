"""How things show themselves: one honest line of text, and a small HTML table with the time it was made.

Bounded: a million tasks show as quickly as ten. HTML uses the page's own colours, so it works on dark and light pages.
Shows no secrets: neither environment variables nor file contents. Read next: :mod:`.frames` for all the rows.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..model.bulktable import BulkTable
from ..model.errors import RequestError
from ..model.ids import pilot_uid
from ..model.pilotrow import PilotRow
from ..model.states import CAUSE_TEXT, INFRASTRUCTURE, Cause, PilotState, TaskState
from ..model.units import human_mib, human_s
from .progress import in_notebook

if TYPE_CHECKING:
    from .bulk import Bulk
    from .pilot import Pilot
    from .session import Session
    from .task import TaskHandle

ROWS = 5
_PLAIN = {
    TaskState.NEW: "not sent yet",
    TaskState.SUBMITTED: "recorded; waits for what it comes after",
    TaskState.WAITING: "waits for a pilot with room",
    TaskState.STAGING_IN: "input files are being put in place",
    TaskState.SCHEDULED: "bound to a pilot; starts when its resources are free there",
    TaskState.RUNNING: "runs",
    TaskState.STAGING_OUT: "output files are being put in place",
    TaskState.DONE: "ended by itself with success",
    TaskState.FAILED: "failed",
    TaskState.CANCELED: "cancelled",
}
_PILOT_PLAIN = {
    PilotState.SUBMITTED: "recorded",
    PilotState.QUEUED: "waits in the batch queue",
    PilotState.STARTING: "the agent is being started",
    PilotState.ACTIVE: "takes tasks",
    PilotState.DRAINING: "takes no new tasks",
    PilotState.DONE: "ended",
}


# What makes live views: a module of the roof, which puts itself here; None where there is no notebook side.
viewer: Callable[[], Any] | None = None


def view(session: Session, name: str, window: Mapping[str, Any]) -> Any:
    """Return a live view of a session.

    Raises:
        RequestError: no such view; JRM-Q60.
    """
    if viewer is None:
        raise RequestError("views: the notebook side is not loaded", hint="import jupyter_rm as jrm", code="JRM-Q60")
    return viewer().view(session, name, window)


def card(thing: TaskHandle | Pilot) -> Any:
    """Return a living card of a task or a pilot.

    Raises:
        RequestError: there is no notebook side; JRM-Q60.
    """
    if viewer is None:
        raise RequestError("views: the notebook side is not loaded", hint="import jupyter_rm as jrm", code="JRM-Q60")
    return viewer().card(thing)


def met(session: Session) -> None:
    """Tell the notebook side, where there is a notebook, of a session that was opened."""
    if viewer is not None and in_notebook():
        viewer().met(session)


class Text(str):
    """Text that shows itself as it is, lines and all."""

    def __repr__(self) -> str:
        return str.__str__(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str.__str__(self), "text/html": f"<pre>{html.escape(str.__str__(self))}</pre>"}


def stamp(seconds: float | None) -> str:
    """Write a wall time for people, to the second; empty for none."""
    return time.strftime("%H:%M:%S", time.localtime(seconds)) if seconds else ""


def said_once(text: str, note: str) -> str:
    """Return a cause in words with its note; a note that says the same in more detail stands alone."""
    if note.startswith(text.removeprefix("it ")):
        return f"it {note}" if text.startswith("it ") else note
    return f"{text}: {note}" if note else text


def reason_of(session: Session, table: BulkTable, index: int) -> str:
    """Return the reason of a task's state in words."""
    state = TaskState(int(table.state[index]))
    note = table.notes.get(index, "")
    cause = Cause(int(table.cause[index]))
    if state is TaskState.DONE:
        return _PLAIN[state]
    if state > TaskState.DONE:
        text = CAUSE_TEXT.get(cause, "") or _PLAIN[state]
        if cause is Cause.TASK_EXIT and not note:
            code = int(table.code[index])
            text = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        return said_once(text, note)
    if state in (TaskState.STAGING_IN, TaskState.STAGING_OUT):
        told = table.moving_of(index)
        return f"{_PLAIN[state]}: {told}" if told else _PLAIN[state]
    if state is TaskState.WAITING:
        again = f"; attempt {int(table.attempt[index]) - 1} ended: {CAUSE_TEXT.get(cause, '')}" if cause else ""
        if not any(not row.state.final and not row.spec.script for row in session._replica.ledger.pilots):
            return "waits: the session has no pilot" + again
        rests = bool(table.form.template.retry_delay and cause and cause not in INFRASTRUCTURE)
        return ("waits: for a pause (retry_delay), then a pilot with room" if rests else _PLAIN[state]) + again
    pilot = int(table.pilot[index])
    if state is TaskState.RUNNING and pilot >= 0 and suspended(session._replica.ledger.pilots[pilot]):
        return f"stands still: {pilot_uid(pilot)} is suspended"
    return _PLAIN[state]


def suspended(row: PilotRow) -> bool:
    """Does the batch system say that its job is stopped for a while?"""
    return row.suspended


def pilot_reason(row: PilotRow) -> str:
    """Return the reason of a pilot's state in words."""
    if suspended(row) and row.step is not None:
        return row.step.text
    if row.silent and not row.state.final:
        why = f" ({row.step.text})" if row.step is not None and row.step.status != "ok" and row.step.text else ""
        last = f"unreachable{why}, last known {row.state.name}"
        return f"{last}; its tasks may be running, and none is started twice [JRM-R07]"
    text = CAUSE_TEXT.get(row.cause, "") if row.cause is not Cause.NONE else ""
    # The job's news and the agent's come on two ways: that it starts may be heard after its first word.
    late = row.state is PilotState.ACTIVE and row.reason == "the agent is starting"
    text = (not late and row.reason) or text or _PILOT_PLAIN.get(row.state, "")
    if row.state.final:
        return text
    step, queued = row.step, row.queued
    # A broker that was started again logs in and looks around anew; that says nothing about the job.
    of_job = step is None or step.status == "ok" or (step.step in ("submit", "queue") and step.status != "fail")
    if queued is not None and of_job:
        # A job that waits to be started anew: what became of its work is said first.
        parts = [text, queued.reason] if row.state >= PilotState.ACTIVE and queued.reason else [queued.reason or text]
        if queued.position:
            parts.append(f"position {queued.position}" + (f" of {queued.length}" if queued.length else ""))
        if queued.estimate:
            parts.append(f"expected to start {stamp(queued.estimate)}")
        return ", ".join(parts)
    if step is not None and step.at >= row.since and not (row.state >= PilotState.ACTIVE and step.status == "ok"):
        percent = f" {step.percent:.0f} %" if step.percent >= 0 and step.status == "progress" else ""
        return f"{step.step}{percent}: {step.text}" if step.text else f"{step.step}{percent}"
    return text


def counts_text(counts: dict[str, int]) -> str:
    """Write counts for people: ``3 RUNNING, 5 DONE``."""
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "no tasks"


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], title: str, more: str = "") -> str:
    """Return an HTML table with the time it was made; all texts are escaped."""
    head = "".join(f'<th scope="col" style="text-align:left">{html.escape(name)}</th>' for name in headers)
    cells = [[html.escape(_short(value, 400)) for value in row] for row in rows]
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in row) + "</tr>" for row in cells
    )
    foot = f"<br><small>{html.escape(more)}</small>" if more else ""
    return (
        f'<div aria-label="{html.escape(title, quote=True)}"><b>{html.escape(title)}</b> <small>at {stamp(time.time())}'
        f"</small><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}</div>"
    )


def _short(value: Any, most: int = 120) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= most else text[: most - 3] + "..."


# ------------------------------------------------------------ tasks


def task_line(task: TaskHandle) -> str:
    """Return one line about a task."""
    if task._bulk < 0 and (task._ticket is None or task._ticket.number is None):
        return "<task: a call on its way to the broker>"
    name = f" {task.name!r}" if task.name != task.uid else ""
    where = f" on {task.node}" if task.node else ""
    attempt = f", attempt {task.attempt}" if task.attempt > 1 else ""
    ready = f", ready at {_short(task.endpoint)}" if task.endpoint else ""
    why = f": {task.reason}" if task.state != "DONE" else ""
    return f"<task {task.uid}{name} {task.state}{where}{attempt}{ready}{_short(why)}>"


def task_bundle(task: TaskHandle) -> dict[str, str]:
    """Return the displays of one task."""
    text = task_line(task)
    if "on its way" in text:
        return {"text/plain": text}
    rows = [
        ("state", f"{task.state}: {task.reason}"),
        ("command", _command(task)),
        ("pilot", task.pilot.uid if task.pilot else ""),
        ("node", task.node),
        ("endpoint", task.endpoint),
        ("attempt", task.attempt),
        ("exit code", task.exit_code),
        ("run time", human_s(task.ended - task.started) if task.started and task.ended else ""),
        ("sandbox", task.sandbox),
    ]
    shown = [row for row in rows if row[1] not in ("", None)]
    return {"text/plain": text, "text/html": table(["", task.uid], shown, f"task {task.name}")}


def _command(task: TaskHandle) -> str:
    template = task._table().form.template
    if template.mode == "call":
        return "a Python call"
    return f"{task._field('executable')} {task._field('arguments')}".strip()


# ------------------------------------------------------------ bulks


def bulk_line(bulk: Bulk) -> str:
    """Return one line about many tasks."""
    uid = f" {bulk.uid}" if bulk._index is None else ""
    return f"<bulk{uid} of {len(bulk)} tasks: {counts_text(bulk.counts())}>"


def bulk_bundle(bulk: Bulk) -> dict[str, str]:
    """Return the displays of many tasks: counts, and the first rows (failed ones first)."""
    text = bulk_line(bulk)
    failed = bulk.failed() if len(bulk) else bulk
    chosen = failed if len(failed) else bulk
    rows = [
        (task.uid, task.name if task.name != task.uid else "", task.state, task.reason, task.exit_code)
        for task in (chosen[place] for place in range(min(ROWS, len(chosen))))
    ]
    which = "failed tasks" if len(failed) else "tasks"
    more = f"first {len(rows)} of {len(chosen)} {which}; to_frame() has all" if len(chosen) > len(rows) else ""
    title = f"{len(bulk)} tasks: {counts_text(bulk.counts())}"
    return {"text/plain": text, "text/html": table(["uid", "name", "state", "reason", "exit code"], rows, title, more)}


# ------------------------------------------------------------ pilots


def pilot_line(row: PilotRow) -> str:
    """Return one line about a pilot."""
    name = f" {row.spec.name!r}" if row.spec.name else ""
    why = pilot_reason(row)
    # Of one that failed all is told: the next step stands at the end.
    told = why if row.state == PilotState.FAILED else _short(why)
    return f"<pilot {pilot_uid(row.number)}{name} at {row.spec.site} {row.state.name}: {told}>"


def _pilot_size(row: PilotRow) -> str:
    if row.nodes:
        cores = sum(node.cores for node in row.nodes)
        memory = sum(node.mem for node in row.nodes)
        gpus = sum(node.gpus for node in row.nodes)
        parts = [f"{len(row.nodes)} node{'s' * (len(row.nodes) != 1)}", f"{cores} cores"]
        parts += [f"{gpus} GPUs"] if gpus else []
        return ", ".join([*parts, human_mib(memory)] if memory else parts)
    return f"{row.spec.nodes or 1} nodes asked" if row.spec.nodes else f"{row.spec.cores} cores asked"


def pilots_bundle(session: Session, rows: Sequence[PilotRow]) -> dict[str, str]:
    """Return the displays of pilots."""
    cells = [
        (
            pilot_uid(row.number),
            row.spec.name,
            row.spec.site,
            row.state.name,
            pilot_reason(row),
            _pilot_size(row),
            row.job_id,
            stamp(row.since),
        )
        for row in rows[-50:]
    ]
    text = pilot_line(rows[0]) if len(rows) == 1 else f"<{len(rows)} pilots of session {session.name!r}>"
    if len(rows) > 1:
        text = "\n".join([text, *(f"  {pilot_line(row)}" for row in rows[-50:])])
    headers = ["uid", "name", "site", "state", "reason", "size", "job", "since"]
    return {"text/plain": text, "text/html": table(headers, cells, f"pilots of {session.name}")}


# ------------------------------------------------------------ sessions


def session_line(session: Session) -> str:
    """Return one line about a session."""
    ledger = session._replica.ledger
    alive = sum(not row.state.final for row in ledger.pilots)
    counts = counts_text(session.counts())
    number = len(ledger.pilots)
    if session.closed:
        return f"<session {session.name!r} closed: it had {number} pilot{'s' * (number != 1)}, {counts}>"
    gone = " (detached here)" if session._replica.error is not None else ""
    return f"<session {session.name!r}{gone}: {alive} of {number} pilots alive, {counts}>"


def session_bundle(session: Session) -> dict[str, Any]:
    """Return the displays of a session: live at a glance, else counts and pilots."""
    if viewer is not None:
        made: dict[str, Any] = viewer().bundle(session)
        return made
    ledger = session._replica.ledger
    text = session_line(session)
    rows: list[tuple[Any, ...]] = [(name, number) for name, number in session.counts().items()]
    markup = table(["state", "tasks"], rows, f"session {session.name}")
    if ledger.pilots:
        markup += pilots_bundle(session, ledger.pilots)["text/html"]
    return {"text/plain": text, "text/html": markup}
