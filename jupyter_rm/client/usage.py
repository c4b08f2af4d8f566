"""What the cores of a session's pilots were used for: core-hours by pilot, from the replica's columns.

A pilot holds its cores from the start of its job to its end; what of that no task had is idle. pandas is imported here
only, when asked for. Read next: :mod:`.frames`; the picture over time is :mod:`jupyter_rm.views.usage`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ..model.pilotrow import PilotRow
from ..model.states import PilotState, TaskState

if TYPE_CHECKING:
    from ..model.ledger import Ledger
    from .session import Session

COLUMNS = ("pilot", "name", "site", "state", "cores", "queued", "held", "boot", "run", "idle", "busy")


def usage(session: Session) -> Any:
    """Return the DataFrame of :meth:`Session.usage`, a row per pilot."""
    from .frames import pandas

    with session._replica.changed:
        ledger = session._replica.ledger
        now = time.time()
        ran = _ran(ledger, now)
        rows = [_row(pilot, float(seconds), now) for pilot, seconds in zip(ledger.pilots, ran, strict=True)]
    return pandas().DataFrame(rows, columns=list(COLUMNS))


def _ran(ledger: Ledger, now: float) -> Any:
    """Return the core-seconds that tasks had of each pilot, shape (pilots,), float64; what runs counts up to now."""
    total = np.array([row.spent for row in ledger.pilots], np.float64)
    for table in ledger.bulks:
        began, pilot = table.started, table.pilot
        mine = np.flatnonzero((began > 0) & (pilot >= 0) & (table.state >= TaskState.RUNNING))
        ended = np.where(table.ended[mine] > 0, table.ended[mine], now)
        request = table.form.template.request
        seconds = np.maximum(0.0, ended - began[mine]) * (request.ranks * request.cores)
        total += np.bincount(pilot[mine], seconds, len(total))[: len(total)] if len(mine) else 0.0
    return total


def _row(row: PilotRow, ran: float, now: float) -> tuple[Any, ...]:
    cores = sum(node.cores for node in row.nodes)
    over = row.since if row.state.final else now
    asked = row.times.get(int(PilotState.SUBMITTED), row.at)
    ready = row.times.get(int(PilotState.ACTIVE))
    begun = row.times.get(int(PilotState.STARTING), ready)
    held = cores * (over - begun) if begun is not None else 0.0
    boot = cores * ((over if ready is None else ready) - begun) if begun is not None else 0.0
    # Ends are told by other clocks than the pilot's states: tasks never have more than there was.
    run = min(ran, held - boot)
    idle = held - boot - run
    hours = [seconds / 3600 for seconds in (held, boot, run, idle)]
    queued = ((over if begun is None else begun) - asked) / 3600
    uid = f"p.{row.number}"
    busy = run / held if held else 0.0
    return (uid, row.spec.name or uid, row.spec.site, row.state.name, cores, queued, *hours, busy)
