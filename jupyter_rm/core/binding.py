"""Which pilot gets which waiting task.

Late binding: a task waits in the session until a pilot that can hold it has room, and agents hold little more than
what they will start soon. Knows what pilots are made of, nothing of what their agents say. Read next:
:mod:`jupyter_rm.core.hearing`.
"""

from __future__ import annotations

import msgspec
import numpy as np

from ..model.bulktable import NOBODY
from ..model.columns import Column, Picks, pack
from ..model.describe import Template
from ..model.errors import RequestError
from ..model.facts import (
    BulkSubmitted,
    TasksAssigned,
)
from ..model.ids import pilot_uid
from ..model.messages import (
    Assign,
    Function,
)
from ..model.pilotrow import PilotRow
from ..model.states import Cause, PilotState, TaskState
from .bundle import Parcel
from .cargo import Cargo
from .holdings import cut_assign
from .placing import Ground
from .port import Port
from .vain import has_env, lacking, nobody

ASSIGN_MOST = 16_384
ASSIGN_BYTES = 4 << 20


class Binding(Cargo):
    """Binds waiting tasks to pilots, and says why one waits or never will run."""

    def _named(self, name: str) -> int:
        for row in reversed(self.ledger.pilots):
            if name in (row.spec.name, pilot_uid(row.number)):
                if row.state.final and name != row.spec.name:  # a name may be taken again, a number never
                    why = f"{row.state.name}: {row.reason}" if row.reason else row.state.name
                    hint = "leave pilot= out, or start another one: s.pilot(...)"
                    raise RequestError(f"pilot: {name} has ended ({why})", hint=hint, code="JRM-Q13")
                return row.number
        known = ", ".join(row.spec.name or pilot_uid(row.number) for row in self.ledger.pilots) or "none yet"
        raise RequestError(
            f"pilot: there is no pilot {name!r}", hint=f"pilots of this session: {known}", code="JRM-Q13"
        )

    def _must_fit(self, template: Template) -> None:
        """Refuse what no present or requested pilot can ever hold."""
        alive = [row for row in self.ledger.pilots if not row.state.final and not row.spec.script]
        if template.pilot:
            number = self._named(template.pilot)
            alive = [row for row in alive if row.number == number]
        if not alive or any(not row.nodes for row in alive):
            return  # a pilot whose nodes are not known yet may hold it
        reason = ""
        for row in alive:
            reason = self._ground(row.number).why_not(template)
            if not reason:
                return
        parts = {node.partition for row in alive for node in row.nodes}
        hint = "ask for less, or start a larger pilot first"
        if template.partition >= 0 and template.partition not in parts:
            hint = f"leave partition out, or name one that is there: {', '.join(map(str, sorted(parts)))}"
        raise RequestError(
            f"no pilot can ever hold {template.request}: {reason}",
            hint=hint,
            code="JRM-Q14",
        )

    def _ground(self, pilot: int) -> Ground:
        nodes = self.ledger.pilots[pilot].nodes
        ground = self._grounds.get(pilot)
        if ground is None or ground.nodes is not nodes:
            ground = self._grounds[pilot] = Ground(nodes)
        return ground

    def _why_waiting(self, template: Template) -> str:
        if unready := self._unready(template):
            return self._why_unready(unready)
        alive = [row for row in self.ledger.pilots if not row.state.final and not row.spec.script]
        if template.pilot:
            if vain := nobody(template, self.ledger.pilots):
                return f"it {vain}"
            alive = [row for row in alive if template.pilot in (row.spec.name, pilot_uid(row.number))]
        if not alive:
            return "the session has no pilot; start one with s.pilot(...)"
        parts = []
        for row in alive:
            name, port = row.spec.name or pilot_uid(row.number), self.ports.get(row.number)
            lacks = lacking(template, row)
            if lacks and row.state >= PilotState.ACTIVE:
                parts.append(f"pilot {name} does not offer {', '.join(sorted(lacks))}")
            elif row.state < PilotState.ACTIVE:
                parts.append(f"pilot {name} is {row.state.name}" + (f" ({row.reason})" if row.reason else ""))
            elif row.state == PilotState.DRAINING:
                parts.append(f"pilot {name} is draining")
            elif port is not None and port.breaker.until is not None:
                parts.append(f"pilot {name} is {row.reason}")
            elif row.silent or port is None or not port.ready:
                parts.append(f"pilot {name} is not in contact")
            elif template.named_env and self._env_elsewhere(row, template.named_env):
                parts.append(f"pilot {name} has no environment {template.named_env}, and another one has")
            elif not self._fit(row.number, template):
                why = self._ground(row.number).why_not(template) or "it is for another pilot"
                parts.append(f"pilot {name} can never hold it: {why}")
            else:
                parts.append(f"pilot {name} holds {port.held} tasks and takes more when some have ended")
        return "; ".join(parts)

    def _fit(self, pilot: int, template: Template) -> bool:
        row = self.ledger.pilots[pilot]
        if template.pilot and template.pilot not in (row.spec.name, pilot_uid(pilot)):
            return False
        if template.requires and lacking(template, row):
            return False
        if template.named_env and self._env_elsewhere(row, template.named_env):
            return False
        return self._ground(pilot).fits(template)

    def _env_elsewhere(self, row: PilotRow, name: str) -> bool:
        """Say whether another pilot is known to have an environment of this name, and this one is not."""
        alive = (other for other in self.ledger.pilots if other.state < PilotState.DRAINING)
        return "/" not in name and not has_env(row, name) and any(has_env(other, name) for other in alive)

    def flush(self, now: float) -> None:
        """Bind waiting tasks to pilots with room, then send what is to be sent; after a batch of inputs."""
        self.now = now
        self._pauses.begin(now)
        if self._over or self._look:
            self._settle_services()
        if self._assignable:
            self._assignable = False
            self._assign()
        for port in self.ports.values():
            self._turn.effects += port.transmit(now)

    def _assign(self) -> None:
        if self._with_files:
            self._count_coming()
        open_ports = [
            port
            for port in self.ports.values()
            if port.hungry and self.ledger.pilots[port.pilot].state == PilotState.ACTIVE
        ]
        if not open_ports or not self.queue:
            return
        alone = len(self.ports) == 1
        for bulk in self.queue.bulks():
            table = self.ledger.bulks[bulk]
            template = table.form.template
            if template.services and self._unready(template):
                continue
            while True:
                rooms = {
                    port: room
                    for port in open_ports
                    if (room := self._room(port, alone) - port.coming * bool(template.input_staging)) > 0
                    and self._fit(port.pilot, template)
                    and (port.breaker.until is None or not self._others(port, template))
                }
                if not rooms:
                    break
                port = max(rooms, key=lambda port: (rooms[port], -port.pilot))
                share = -(-rooms[port] // 2) if len(rooms) > 1 else rooms[port]
                picks = self.queue.take(bulk, min(share, ASSIGN_MOST, self._by_bytes(table.form, bulk)), table)
                if picks is None:
                    break
                if template.mode == "call" and self.payloads.function(template.function) is None:
                    note = "its function was lost with a part of the journal"
                    self._end(bulk, picks, NOBODY, TaskState.FAILED, Cause.BAD_PAYLOAD, note)
                    self._settle()
                    continue
                self._bind(port, bulk, picks, table.form)
            open_ports = [port for port in open_ports if port.room > 0]
            if not open_ports:
                return

    def _others(self, port: Port, template: Template) -> bool:
        """Say whether another pilot in contact, with nothing held against it, could run tasks of this kind."""
        return any(
            other.ready
            and other is not port
            and other.breaker.until is None
            and self.ledger.pilots[other.pilot].state == PilotState.ACTIVE
            and self._fit(other.pilot, template)
            for other in self.ports.values()
        )

    def _room(self, port: Port, alone: bool) -> int:
        """Return how many tasks a pilot is to get now: beside others, not more than it will begin in a moment."""
        if alone:
            return port.room
        cores = self._ground(port.pilot).cores
        return min(port.room, max(2 * cores, int(port.rate * self.patience.stock)) - port.held + port.coming)

    def _by_bytes(self, form: BulkSubmitted, bulk: int) -> int:
        """Return how many tasks of a bulk make an order of decent size."""
        payload = self.payloads.payload(self.key, bulk) if form.template.mode == "call" else None
        size = len(payload.data) if payload is not None else 0
        size += sum(len(column.data) for column in form.columns.values())
        return max(1, ASSIGN_BYTES * form.count // size) if size > ASSIGN_BYTES else ASSIGN_MOST

    def _bind(self, port: Port, bulk: int, picks: Picks, form: BulkSubmitted) -> None:
        table = self.ledger.bulks[bulk]
        attempt = pack(table.attempt[picks.where], "<u2")
        self._fact(TasksAssigned(bulk, picks, port.pilot, self.wall(), attempt))
        port.held += len(picks)
        self._send_assign(port, bulk, picks, attempt, form)
        if form.template.input_staging:
            port.coming += len(picks)
            self._bring(port, bulk, picks)

    def _send_assign(self, port: Port | Parcel, bulk: int, picks: Picks, attempt: bytes, form: BulkSubmitted) -> None:
        template: Template | None = None
        if bulk not in port.templates:
            port.templates.add(bulk)
            template = self._told(form.template)
        payload: Column | None = None
        if form.template.mode == "call":
            sha = form.template.function
            if sha not in port.functions:
                port.functions.add(sha)
                body = self.payloads.function(sha)
                assert body is not None, "looked for before the tasks were bound"
                port.order(Function(sha, body))
            whole = self.payloads.payload(self.key, bulk)
            payload = whole.take(picks) if whole is not None else None
        columns = {name: column.take(picks) for name, column in form.columns.items()}
        for part in _parts(Assign(bulk, picks, attempt, template, columns, payload)):
            port.order(part)


def _parts(order: Assign) -> list[Assign]:
    """Cut an order so that each part stays far below the longest frame, however unequal its tasks are."""
    columns = [column for column in (*order.columns.values(), order.payload) if column is not None and column.ends]
    if sum(len(column.data) for column in columns) <= 2 * ASSIGN_BYTES:
        return [order]
    ends = np.sum([np.frombuffer(column.ends, "<u8") for column in columns], axis=0)
    starts = np.concatenate((np.zeros(1, ends.dtype), ends[:-1]))
    part_of = starts // np.uint64(ASSIGN_BYTES)
    parts = [cut_assign(order, part_of == number) for number in np.unique(part_of)]
    return [parts[0], *(msgspec.structs.replace(part, template=None) for part in parts[1:])]
