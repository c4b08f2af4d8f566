"""Pilots that follow one another: what is asked for again, when, and how work goes over.

A pilot's successor is asked for while the first one still works, because it may wait in a queue. As soon as it is
active, the first one drains: what runs there ends there, all else goes to the successor. Decides, changes nothing
itself. Read next: :mod:`jupyter_rm.core.session`.
"""

from __future__ import annotations

import hashlib

import msgspec

from ..model.errors import RequestError
from ..model.facts import PilotSpec
from ..model.ids import pilot_uid
from ..model.pilotrow import PilotRow
from ..model.states import Cause, PilotState

# So much of the walltime before its end, and at least this many s (never more than half of it), the next is asked for.
SHARE, LEAST = 0.2, 120.0
RENEWALS_MOST = 1000


def check(spec: PilotSpec, pilots: int) -> None:
    """Refuse a successor of nobody, or a renewal of what never ends (RequestError JRM-Q17)."""
    if not 0 <= spec.renew <= RENEWALS_MOST:
        raise RequestError(
            f"renew: {spec.renew} is not within 0 and {RENEWALS_MOST}", hint="ask for less", code="JRM-Q17"
        )
    if spec.renew and not spec.walltime:
        raise RequestError("renew: a pilot without a walltime needs no renewal", hint="give walltime", code="JRM-Q17")
    if not -1 <= spec.replaces < pilots:
        raise RequestError(f"replaces: there is no pilot {spec.replaces}", hint="see s.pilots()", code="JRM-Q13")


def successor(row: PilotRow) -> tuple[bytes, PilotSpec]:
    """Return (key, request) of the pilot that follows one by itself; the same key whenever it is asked."""
    key = hashlib.blake2s(b"renew" + row.key, digest_size=16).digest()
    # Names are of one living pilot at a time.
    return key, msgspec.structs.replace(row.spec, name="", renew=row.spec.renew - 1, replaces=row.number)


def is_due(row: PilotRow, at: float) -> bool:
    """Say whether a pilot's successor is to be asked for at ``at`` (epoch s, this machine's)."""
    # One that drains was told to, by a person or by its successor; one that only has no time left says nothing before.
    if row.spec.renew <= 0 or row.spec.bundle or PilotState.DRAINING in row.times:
        return False
    if row.state.final:  # nobody was there to ask in time
        return row.cause == Cause.WALLTIME or (row.state == PilotState.DONE and row.cause == Cause.NONE)
    began = row.times.get(PilotState.STARTING, row.times.get(PilotState.ACTIVE))
    if began is None:
        return False
    walltime = row.spec.walltime
    lead = min(max(SHARE * walltime, LEAST, row.spec.drain), walltime / 2)
    return at - began >= walltime - lead


def handed_over(row: PilotRow, pilots: list[PilotRow]) -> tuple[PilotRow, str] | None:
    """Return (the pilot that this active one replaces, what is to be said of it); None: nothing is handed over."""
    if row.spec.replaces < 0 or row.state != PilotState.ACTIVE:
        return None
    old = pilots[row.spec.replaces]
    if old.state.final or old.state == PilotState.DRAINING:
        return None
    return old, f"draining: {pilot_uid(row.number)} has taken over; what runs here may end"
