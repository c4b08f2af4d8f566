"""A user's own batch script, as a session sees it: a job like a pilot's, with no agent in it and no tasks.

What the batch system says of it is all there is: it runs, it ended with this exit code. Knows no batch system. Read
next: :mod:`jupyter_rm.core.hearing`.
"""

from __future__ import annotations

from ..model.effects import JobChanged
from ..model.facts import PilotChanged
from ..model.pilotrow import PilotRow
from ..model.states import Cause, PilotState


def script_news(row: PilotRow, change: JobChanged, wall: float) -> PilotChanged | None:
    """Return what is new about a script's job, None when nothing is.

    Args:
        row: what is known. change: what was heard. wall: epoch s, for people.
    """
    state = PilotState(change.state) if change.state is not None else row.state
    cause = Cause(change.cause)
    if not change.alive:
        if not state.final:
            state = PilotState.FAILED
        if row.state == PilotState.DRAINING and row.cause == Cause.USER_CANCEL and state != PilotState.DONE:
            state, cause = PilotState.CANCELED, Cause.USER_CANCEL
    elif state < row.state or (state, change.job_id, change.reason) == (row.state, row.job_id, row.reason):
        return None
    else:
        cause = cause or row.cause
    return PilotChanged(
        *(row.number, int(state), wall, int(cause), change.reason, change.job_id),
        code=change.code,
        files=change.files,
    )
