"""Work that waits at one pilot while another has nothing to do: it is asked back, and bound again.

Agents hold a little more than they run, so that they never wait for the broker. When a pilot comes late, or its tasks
end early, that stock may wait for long tasks elsewhere. Once a second the session looks for pilots with free cores and
for tasks that others hold and have not begun; an agent gives back only what has truly not begun. Read next:
:mod:`jupyter_rm.core.binding` (who binds it again).
"""

from __future__ import annotations

import numpy as np

from ..model.bulktable import BulkTable
from ..model.columns import Array, Picks
from ..model.messages import CancelTasks
from ..model.states import PilotState, TaskState
from ..model.units import GPU_UNIT
from .hearing import Hearing
from .port import Port

IDLE_S = 1.0  # a pilot with free cores for less than this may be about to get work anyway
AGAIN_S = 2.0  # between two times that one agent is asked
MOVES_MOST = 3  # attempts of a task that may end like this


class Balance(Hearing):
    """Moves tasks that have not begun to pilots that could begin them."""

    def _even_out(self, now: float) -> None:
        """Ask tasks back from agents that cannot begin them yet, for pilots that can."""
        there = [port for port in self.ports.values() if self._takes_part(port)]
        takers = [port for port in there if self._idle(now, port)] if len(there) > 1 else []
        for donor in there if takers else ():
            if donor in takers or now - donor.asked_back < AGAIN_S or not donor.held:
                continue
            free = {port: self._free(port) for port in takers}
            for bulk, table in self.ledger.open_bulks():
                if table.counts[TaskState.SCHEDULED] and self._movable(table):
                    self._ask_back(now, donor, bulk, table, free)

    def _takes_part(self, port: Port) -> bool:
        row = self.ledger.pilots[port.pilot]
        whole = port.ready and row.state == PilotState.ACTIVE and not row.spec.bundle
        return whole and port.breaker.until is None

    @staticmethod
    def _movable(table: BulkTable) -> bool:
        template = table.form.template
        # Files lie at one pilot only, and tags mean the others of their kind.
        return not (template.pilot or template.input_staging or template.colocate or template.request.exclusive)

    def _idle(self, now: float, port: Port) -> bool:
        """Say whether a pilot has had free cores for a while, and nobody gave it work."""
        cores = self._ground(port.pilot).cores
        if port.room <= 0 or port.held >= cores or self._free(port)[0] <= 0:
            port.idle_since = None
        elif port.idle_since is None:
            port.idle_since = now
        return port.idle_since is not None and now - port.idle_since >= IDLE_S

    def _free(self, port: Port) -> tuple[int, int]:
        """Return cores and GPUs (in units) that nothing the pilot holds asks for."""
        nodes = self.ledger.pilots[port.pilot].nodes
        cores, gpus = sum(node.cores for node in nodes), sum(node.gpus for node in nodes) * GPU_UNIT
        for bulk, table in self.ledger.open_bulks() if port.held else ():
            request, count = table.form.template.request, len(self.ledger.held(bulk, port.pilot))
            cores -= count * request.ranks * request.cores
            gpus -= count * request.ranks * request.gpus
        return cores, gpus

    def _ask_back(
        self, now: float, donor: Port, bulk: int, table: BulkTable, free: dict[Port, tuple[int, int]]
    ) -> None:
        template = table.form.template
        request = template.request
        each = (max(1, request.ranks * request.cores), request.ranks * request.gpus)
        wanted, theirs, room = 0, 0, 0
        for port, (cores, gpus) in free.items():
            if not self._fit(port.pilot, template):
                continue
            fits = cores // each[0] if not each[1] else min(cores // each[0], gpus // each[1])
            if fits > 0:
                wanted += fits
                theirs += self._ground(port.pilot).cores
                room += port.room
                free[port] = (cores - fits * each[0], gpus - fits * each[1])
        if wanted:
            waiting = self._not_begun(donor, table)
            # What it will begin in a moment anyway stays. Of the rest the takers get what they can begin at once, or
            # their share by cores, and those go that would be last.
            share = -(-len(waiting) * theirs // (theirs + self._ground(donor.pilot).cores))
            most = min(max(wanted, share), room, len(waiting) - int(donor.rate * self.patience.stock))
            if most > 0:
                donor.asked_back = now
                donor.order(CancelTasks(bulk, Picks.of(waiting[len(waiting) - most :]), True))

    def _not_begun(self, donor: Port, table: BulkTable) -> Array:
        mine = (table.pilot == donor.pilot) & (table.state == TaskState.SCHEDULED) & (table.flags == 0)
        return np.flatnonzero(mine & (table.attempt <= MOVES_MOST))
