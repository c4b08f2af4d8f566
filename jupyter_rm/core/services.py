"""Services and the tasks that use them: who may start, who is told what, who ends with whom.

A task that names services is eligible, but bound to no pilot before each of them is ready; with its description goes
where they are. When a service ends, what runs with it ends too, with cause SERVICE_LOST, and may be tried again like
after any failure; what has not started waits for the service's next attempt, or fails if there will be none. Decides
by the ledger alone, so that a restart changes nothing. Read next: :mod:`jupyter_rm.core.binding`.
"""

from __future__ import annotations

import difflib

import msgspec
import numpy as np

from ..model import service
from ..model.bulktable import CANCEL_ASKED, NOBODY, UNSERVED, BulkTable
from ..model.columns import Array, Picks
from ..model.describe import Template
from ..model.errors import RequestError
from ..model.facts import (
    AttemptsEnded,
    BulkSubmitted,
    CancelRequested,
    Fact,
    ServiceGiven,
    ServiceReady,
    TasksEnded,
    TasksStaged,
)
from ..model.ids import check_name, task_uid
from ..model.messages import CancelTasks, Serving
from ..model.states import Cause, TaskState
from .books import Books
from .port import Port

_ENDINGS = (TasksEnded, AttemptsEnded, TasksStaged)


class Services(Books):
    """The services of one session."""

    _over: frozenset[str] = frozenset()  # names of services of which an attempt has ended
    _look: bool = False  # may somebody wait for a service that has ended for good?
    _used_by: dict[str, set[int]] | None = None  # bulks that name a service, open ones and some that were

    def _fact(self, fact: Fact) -> Array | None:
        taken = super()._fact(fact)
        if isinstance(fact, _ENDINGS):
            template = self.ledger.bulks[fact.bulk].form.template
            if template.service and not self.ledger.bulks[fact.bulk].endpoint:
                self._over |= {template.name}
            self._look |= bool(template.services)
        elif isinstance(fact, BulkSubmitted) and self._used_by is not None:
            for name in fact.template.services:
                self._used_by.setdefault(name, set()).add(fact.bulk)
        return taken

    # ------------------------------------------------------------ what is asked

    def check_services(self, template: Template, count: int) -> None:
        """Refuse a service that is many or there already, and tasks that name services that are not there."""
        if template.service:
            service.names(template.name, "name")
            if count != 1:
                raise RequestError(
                    f"name: {count} services called {template.name!r}", hint="submit one", code="JRM-Q94"
                )
            if self._alive(template.name):
                raise RequestError(
                    f"name: a service {template.name!r} is there already",
                    hint="use it, cancel it first, or choose another name",
                    code="JRM-Q94",
                )
        known = {*self.ledger.services, *self.ledger.given}
        for name in template.services:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else "submit jrm.Service(..., name=...) first"
                raise RequestError(f"services: there is no service {name!r}", hint=hint, code="JRM-Q95")
            if not self._alive(name):
                raise RequestError(
                    f"services: {name!r} has ended", hint="submit that service again first", code="JRM-Q95"
                )

    def give_service(self, name: str, endpoint: str) -> None:
        """Record where a service can be reached that is no task; '' not any more."""
        check_name(name, "name")
        service.endpoint(endpoint, "endpoint")
        if name in self.ledger.services and self._alive(name):
            raise RequestError(f"name: a service {name!r} is there already", hint="choose another name", code="JRM-Q94")
        if self.ledger.endpoint(name) != endpoint:
            self._fact(ServiceGiven(name, endpoint, self.wall()))
            self._changed(name)
            if not endpoint:
                self._over |= {name}

    def _alive(self, name: str) -> bool:
        """Say whether a service is ready, or can still become so."""
        bulk = self.ledger.services.get(name)
        if bulk is None:
            return bool(self.ledger.given.get(name))
        return int(self.ledger.bulks[bulk].state[0]) < TaskState.STAGING_OUT

    # ------------------------------------------------------------ what agents say

    def _serving(self, port: Port, report: Serving) -> None:
        """A service is ready."""
        table = self.ledger.bulks[report.bulk]
        mine = table.form.template.service and table.pilot[report.index] == port.pilot
        known = report.attempt != table.attempt[report.index] or table.endpoint == report.endpoint
        if mine and not known and table.state[report.index] < TaskState.STAGING_OUT:
            self._fact(
                ServiceReady(report.bulk, report.index, port.pilot, report.attempt, self.wall(), report.endpoint)
            )
            self._changed(table.form.template.name)

    def _changed(self, name: str) -> None:
        """What was told of this service is old: descriptions that hold it are sent anew."""
        for port in self.ports.values():
            port.templates -= {number for number, _ in self._users(name)}
        self._assignable = True

    # ------------------------------------------------------------ who uses them

    def _users(self, name: str) -> list[tuple[int, BulkTable]]:
        """Return the open bulks that name a service, in the order of their submission."""
        if self._used_by is None:
            self._used_by = {}
            for number, table in self.ledger.open_bulks():
                for each in table.form.template.services:
                    self._used_by.setdefault(each, set()).add(number)
        numbers = self._used_by.get(name, set())
        numbers -= {number for number in numbers if not self.ledger.bulks[number].open}
        return [(number, self.ledger.bulks[number]) for number in sorted(numbers)]

    def _unready(self, template: Template) -> list[str]:
        """Return the services of a task that cannot be reached now."""
        return [name for name in template.services if not self.ledger.endpoint(name)]

    def _told(self, template: Template) -> Template:
        """Return a description with the places of its services."""
        if not template.services:
            return template
        places = {service.variable(name): self.ledger.endpoint(name) or "" for name in template.services}
        if template.params:
            places = {key: text.replace("{", "{{").replace("}", "}}") for key, text in places.items()}
        merged = {**places, **dict(template.environment)}  # what a person says goes before
        return msgspec.structs.replace(template, environment=tuple(sorted(merged.items())))

    def _why_unready(self, names: list[str]) -> str:
        parts = []
        for name in names:
            bulk = self.ledger.services.get(name)
            state = TaskState(int(self.ledger.bulks[bulk].state[0])).name if bulk is not None else "not given"
            where = f" ({task_uid(bulk, 0)} is {state})" if bulk is not None else ""
            parts.append(f"service {name!r}, which is not ready yet{where}")
        return "it waits for " + " and ".join(parts)

    def _settle_services(self) -> None:
        """End what cannot go on without a service that has ended."""
        over, self._over = self._over, frozenset()
        for name in sorted(over):
            if self.ledger.endpoint(name):
                continue  # ready again already
            for number, table in self._users(name):
                self._unserve(number, table)
        if not (over or self._look):
            return
        self._look = False
        known = (*self.ledger.services, *self.ledger.given)
        for name in [name for name in known if not self._alive(name)]:
            for number, table in self._users(name):
                waiting = Picks.of(np.flatnonzero(table.state <= TaskState.WAITING))
                if len(waiting):
                    note = f"service {name!r} has ended"
                    self._end(number, waiting, NOBODY, TaskState.FAILED, Cause.SERVICE_LOST, note)
                    self._settle()

    def _unserve(self, number: int, table: BulkTable) -> None:
        """Let what a pilot has of this bulk end; its agent says when it has."""
        state = table.state
        held = (state > TaskState.WAITING) & (state < TaskState.STAGING_OUT)
        index = np.flatnonzero(held & ((table.flags & (UNSERVED | CANCEL_ASKED)) == 0))
        if len(index):
            self._fact(CancelRequested(number, Picks.of(index), self.wall(), int(Cause.SERVICE_LOST)))
            self._order_cancel(number, index)

    def _order_cancel(self, bulk: int, index: Array) -> None:
        """Have the agents that hold tasks of a bulk end them; to one that is not in contact its inventory brings it."""
        pilots = self.ledger.bulks[bulk].pilot[index]
        for pilot in np.unique(pilots).tolist():
            port = self.ports.get(int(pilot))
            if port is not None and port.ready:
                port.order(CancelTasks(bulk, Picks.of(np.sort(index[pilots == pilot]))))
