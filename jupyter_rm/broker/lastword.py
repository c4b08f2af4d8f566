"""Words for people: why a job ended and what becomes of its work, and what nobody expected to happen here.

Text only. Read next: :mod:`jupyter_rm.broker.watched`, who asks.
"""

from __future__ import annotations

from ..batch import JobRecord, JobState
from ..model.errors import JrmError, ProtocolError, SiteError
from ..model.states import Cause

_KINDS = {
    "timeout": "reached its time limit [JRM-L35]",
    "preempted": "was preempted by jobs that go before it [JRM-L36]",
    "node_fail": "lost a node [JRM-L37]",
    "out_of_memory": "used more memory than it was granted [JRM-L34]",
}
REST = "; tasks that had not ended run on another pilot"


def last_word(said: JobRecord, title: str) -> tuple[Cause, str]:
    """Return (cause, reason) of a job that ended although nobody here asked for it.

    Args:
        said: its final record. title: of the batch system.
    """
    kind = _KINDS.get(said.detail, "")
    if not kind and said.state is JobState.CANCELED:
        kind = "was canceled, and not by this session [JRM-L33]"
    if not kind:
        kind = "ended before its pilot did [JRM-L32]"
    cause = said.cause if said.cause not in (Cause.NONE, Cause.USER_CANCEL) else Cause.PILOT_LOST
    verbatim = ", ".join(part for part in (said.raw_state or said.state.value, said.reason_text or said.reason) if part)
    return cause, f"job {said.id} {kind}; {title} says: {verbatim}{REST}"


def told(error: JrmError) -> str:
    """Return an error for people: what happened, its code, what to do next."""
    return f"{error.message} [{error.code}]" + (f"; next: {error.hint}" if error.hint else "")


def stumbled(error: Exception) -> JrmError:
    """Return what nobody expected as an error that says who must act."""
    if isinstance(error, JrmError):
        return error
    if isinstance(error, OSError):
        return SiteError(
            f"this machine: {error.strerror or error}{f': {error.filename}' if error.filename else ''}",
            code="JRM-R09",
            hint="make room and check permissions where the broker keeps its files (jrm doctor)",
            retry=True,
        )
    return ProtocolError(
        f"an error in jupyter_rm itself: {type(error).__name__}: {error}"[:500],
        code="JRM-R13",
        hint="please report it with the broker's log (jrm broker log)",
    )
