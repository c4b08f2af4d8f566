"""The lives of one pilot: its agent may be started again, its job too, and of an end more may be learned later.

A batch system that starts a job anew makes a new life of the same pilot: epochs then begin 1000 higher. Decides words
and facts, changes nothing itself. Read next: :mod:`jupyter_rm.core.hearing`.
"""

from __future__ import annotations

from ..model.effects import JobChanged
from ..model.facts import PilotChanged
from ..model.messages import AgentHello
from ..model.pilotrow import PilotRow
from ..model.states import Cause, PilotState

# Epochs of one start of a job (``bootstrap/target/start.py``).
EPOCHS = 1000
# What only the batch system can know of an end; a job that somebody canceled is among PILOT_LOST.
_LEARNED = (Cause.PILOT_LOST, Cause.WALLTIME, Cause.NODE_LOST, Cause.OUT_OF_MEMORY)


def reborn(row: PilotRow, epoch: int) -> str:
    """Return what is to be said of a pilot whose next agent says hello, "" when it is the same or the first one."""
    if row.state < PilotState.ACTIVE or epoch <= row.epoch:
        return ""
    if epoch // EPOCHS > row.epoch // EPOCHS:
        return "takes tasks: its job was started anew, and what ran before is run again [JRM-S30]"
    return "takes tasks: its agent was lost and started again, and what it ran is run again [JRM-A38]"


def changed(row: PilotRow, hello: AgentHello) -> str:
    """Return what is to be said of an active pilot after this hello: what it lacks, a new life, nodes lost or back."""
    if said := reborn(row, hello.epoch):
        return said
    if row.state < PilotState.ACTIVE or len(row.nodes) != len(hello.nodes):
        lacking = hello.facts.get("shortage", "")
        return f"takes tasks; {lacking}" if lacking else ""
    pairs = list(zip(row.nodes, hello.nodes, strict=True))
    lost = [new.name for old, new in pairs if old.cores and not new.cores]
    taken = [f"{new.name} has taken the place of {old.name}" for old, new in pairs if old.name != new.name]
    left = sum(node.cores > 0 for node in hello.nodes)
    if taken:
        return f"takes tasks: {', '.join(taken[:4])}, and what ran there is run again [JRM-L37]"
    if lost:
        names = ", ".join(lost[:4]) + (", ..." if len(lost) > 4 else "")
        number = f"{left} of {len(pairs)} nodes"
        return f"takes tasks on {number}: {names} is lost, and what ran there is run again [JRM-L37]"
    back = [new.name for old, new in pairs if new.cores and not old.cores]
    if back and "JRM-L37" in row.reason:  # a node that merely came late was never said to be lost
        return f"takes tasks: {', '.join(back[:4])} is there again, and what ran there is run again [JRM-L37]"
    return "takes tasks" if left == len(pairs) and row.nodes != hello.nodes else row.reason


def asleep(row: PilotRow, change: JobChanged) -> bool:
    """Say whether the job of an active pilot waits to be started anew: proof that what ran in it is over."""
    lost = change.alive and change.state == PilotState.QUEUED and change.cause == Cause.PILOT_LOST
    return lost and row.state >= PilotState.ACTIVE and not row.spec.bundle  # its work comes back with it


def learned(row: PilotRow, change: JobChanged, at: float) -> PilotChanged | None:
    """Return what the batch system says afterwards of an end that its agent only saw from inside; None: nothing new.

    Args:
        at: now, epoch s.
    """
    open_question = row.state == PilotState.FAILED and row.cause == Cause.PILOT_LOST
    if change.alive or not open_question or not change.reason or change.cause not in _LEARNED:
        return None
    return PilotChanged(row.number, int(row.state), at, change.cause, change.reason)
