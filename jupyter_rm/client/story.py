"""The story of one task: its facts, one line each, with time and reason. Knows no files and no sockets."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from ..model import facts as f
from ..model.columns import unpack
from ..model.ids import pilot_uid, task_uid
from ..model.ledger import Ledger
from ..model.states import CAUSE_TEXT, Cause, PilotState, TaskState

LATE_S = 1.0  # news older than this say when they came


def lines(facts: Iterable[tuple[int, float, bytes]], bulk: int, index: int, ledger: Ledger) -> list[str]:
    """Return one line per fact about task ``index`` of ``bulk``: time, fact number, what happened.

    Starts and ends carry the task's own times; when the broker learned of one much later, the line says so.

    Args:
        facts: (fact number, wall time s, journal form).
    """
    out = [f"{task_uid(bulk, index)}: what happened"]
    for number, wall, body in facts:
        fact = f.decode(body)
        text = tell(fact, index, ledger)
        if text:
            at = own_time(fact, index) or wall
            learned = f" (learned at {_clock(wall)})" if abs(wall - at) > LATE_S else ""
            out.append(f"{_clock(at)}  #{number:<6} {text}{learned}")
    return out


def events(facts: Iterable[tuple[int, float, bytes]], bulk: int, index: Any) -> list[tuple[float, str, str, str]]:
    """Return (time, uid, event, cause) of every start and every end of an attempt of the tasks ``index`` of ``bulk``.

    An attempt that another one follows has the event ``ATTEMPT_ENDED``, the last one the state of its task.
    """
    wanted, begun = set(index), set()
    out = []
    for _, wall, body in facts:
        fact = f.decode(body)
        if not isinstance(fact, (f.TasksStarted, f.TasksEnded, f.AttemptsEnded)):
            continue
        count = len(fact.picks)
        attempts = unpack(fact.attempt, "<u2", count).tolist()
        ends = None if isinstance(fact, f.TasksStarted) else fact.ends
        started = unpack(fact.started if isinstance(fact, f.TasksStarted) else fact.ends.started, "<f8", count).tolist()
        ended = unpack(ends.ended, "<f8", count).tolist() if ends is not None else []
        causes = unpack(ends.cause, "<u1", count).tolist() if ends is not None else []
        states = unpack(fact.state, "<u1", count).tolist() if isinstance(fact, f.TasksEnded) else []
        for place, number in enumerate(fact.picks.array().tolist()):
            if number not in wanted:
                continue
            uid, attempt = task_uid(bulk, number), (number, attempts[place])
            if started[place] and attempt not in begun:  # the end of a short one tells of its start too
                begun.add(attempt)
                out.append((started[place], uid, "RUNNING", ""))
            if ends is not None:
                event = TaskState(states[place]).name if states else "ATTEMPT_ENDED"
                cause = Cause(causes[place])
                out.append((ended[place] or wall, uid, event, cause.name if cause is not Cause.NONE else ""))
    return out


def own_time(fact: f.Fact, index: int) -> float:
    """Return when the task itself started or ended, seconds since 1970 by its machine's clock; 0.0: not told."""
    if isinstance(fact, f.TasksStarted):
        return float(_at(fact.started, "<f8", fact, _place(fact.picks, index)))
    if isinstance(fact, (f.TasksEnded, f.AttemptsEnded)):
        return float(_at(fact.ends.ended, "<f8", fact, _place(fact.picks, index)))
    return 0.0


def _clock(wall: float) -> str:
    milliseconds = round(wall * 1000)
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds // 1000))
    return f"{text}.{milliseconds % 1000:03d}"


def _place(picks: Any, index: int) -> int:
    if not picks.rest:
        return int(index - picks.lo)
    found = (picks.array() == index).nonzero()[0]
    return int(found[0]) if len(found) else 0


def _at(data: bytes, dtype: str, fact: Any, place: int) -> Any:
    return unpack(data, dtype, len(fact.picks))[place]


def tell(fact: f.Fact, index: int, ledger: Ledger) -> str:
    """Return what a fact says about one task (or pilot, or session), in one line."""
    if isinstance(fact, f.SessionOpened):
        return f"session {fact.name!r} opened"
    if isinstance(fact, f.SessionClosed):
        return "session closed" + (f": {fact.reason}" if fact.reason else "")
    if isinstance(fact, f.BulkSubmitted):
        after = f", to run after {len(fact.after)} other bulks" if fact.after else ""
        return f"submitted as one of {fact.count} tasks{after}"
    if isinstance(fact, f.PilotRequested):
        return f"pilot {pilot_uid(fact.pilot)} asked from {fact.spec.site}"
    if isinstance(fact, f.PilotChanged):
        reason = fact.reason or CAUSE_TEXT.get(Cause(fact.cause), "")
        return f"pilot {pilot_uid(fact.pilot)} {PilotState(fact.state).name}" + (f": {reason}" if reason else "")
    if isinstance(fact, f.PilotSilent):
        return f"pilot {pilot_uid(fact.pilot)} is {'unreachable' if fact.silent else 'reachable again'}"
    if isinstance(fact, f.PilotStep):
        return f"pilot {pilot_uid(fact.pilot)} {fact.step} {fact.status}" + (f": {fact.text}" if fact.text else "")
    if isinstance(fact, f.PilotQueued):
        turn = f" at position {fact.position}" if fact.position else ""
        return f"pilot {pilot_uid(fact.pilot)} waits{turn}" + (f": {fact.reason}" if fact.reason else "")
    if isinstance(fact, f.TasksWaiting):
        return "eligible: what it came after is DONE"
    if isinstance(fact, f.CancelRequested):
        return "cancel asked for" if not fact.cause else f"to end: {CAUSE_TEXT[Cause(fact.cause)]}"
    if isinstance(fact, f.ServiceReady):
        return f"attempt {fact.attempt} is ready at {fact.endpoint}"
    if isinstance(fact, f.ServiceGiven):
        return f"service {fact.name!r} is " + (f"at {fact.endpoint}" if fact.endpoint else "taken back")
    if isinstance(fact, f.ReportApplied):
        return ""
    if isinstance(fact, f.TasksAssigned):
        attempt = int(_at(fact.attempt, "<u2", fact, _place(fact.picks, index)))
        return f"attempt {attempt} bound to pilot {pilot_uid(fact.pilot)}"
    if isinstance(fact, f.TasksStaged):
        attempt = int(_at(fact.attempt, "<u2", fact, _place(fact.picks, index)))
        if fact.state == TaskState.SCHEDULED:
            return f"attempt {attempt}: its input files are in place"
        if fact.ends is None:
            return f"attempt {attempt}: the program ended, its output files are being put in place"
        return f"attempt {attempt}: pilot {pilot_uid(fact.pilot)} is done with it, its output files are fetched"
    if isinstance(fact, f.StagingSeen):
        percent = f", {100 * fact.done / fact.size:.0f} % of {fact.size / 1e6:.1f} MB" if fact.size else ""
        return f"files: {fact.text}{percent}" if fact.index in (-1, index) else ""
    if isinstance(fact, f.TasksStarted):
        place = _place(fact.picks, index)
        node = _node(ledger, fact.pilot, int(_at(fact.node, "<u4", fact, place)))
        return f"attempt {int(_at(fact.attempt, '<u2', fact, place))} started{node}"
    if isinstance(fact, (f.TasksEnded, f.AttemptsEnded)):
        return _ended(fact, index, ledger)
    return type(fact).__name__


def _node(ledger: Ledger, pilot: int, node: int) -> str:
    nodes = ledger.pilots[pilot].nodes if 0 <= pilot < len(ledger.pilots) else ()
    return f" on {nodes[node].name}" if node < len(nodes) else ""


def _ended(fact: f.TasksEnded | f.AttemptsEnded, index: int, ledger: Ledger) -> str:
    place = _place(fact.picks, index)
    ends = fact.ends
    attempt = int(_at(fact.attempt, "<u2", fact, place))
    cause = Cause(int(_at(ends.cause, "<u1", fact, place)))
    code = int(_at(ends.code, "<i4", fact, place))
    took = float(_at(ends.ended, "<f8", fact, place)) - float(_at(ends.started, "<f8", fact, place))
    if isinstance(fact, f.TasksEnded):
        text = f"attempt {attempt} ended {TaskState(int(_at(fact.state, '<u1', fact, place))).name}"
    else:
        text = f"attempt {attempt} ended without success; attempt {attempt + 1} follows"
    parts = [CAUSE_TEXT.get(cause, "") if cause is not Cause.NONE else ""]
    note = ends.notes.get(place, "")
    if fact.pilot >= 0:
        # A failure without an exit code of its own (never started, a call that raised) has 0 there: not worth saying.
        if code < 0:
            parts.append(f"signal {-code}")
        elif (code or cause is Cause.NONE) and not note.startswith("exit code"):
            parts.append(f"exit code {code}")
        if 0 <= took < 1e9 and cause is not Cause.START_FAILED:
            parts.append(f"after {took:.3f} s{_node(ledger, fact.pilot, int(_at(ends.node, '<u4', fact, place)))}")
    parts.append(note)
    if note.startswith(parts[0].removeprefix("it ")):
        parts = parts[1:]
    return text + ": " + ", ".join(part for part in parts if part)
