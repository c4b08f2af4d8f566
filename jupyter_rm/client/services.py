"""The services of a session as a user holds them: where they are, waiting until they are there, naming others.

Read next: :mod:`jupyter_rm.core.services` (what they mean for tasks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..model.errors import RequestError, TaskError
from ..model.ids import check_name, task_uid
from ..model.messages import GiveService
from ..model.service import endpoint as check_endpoint
from ..model.service import variable
from ..model.states import TaskState
from . import blocking, show

if TYPE_CHECKING:
    from .session import Session
    from .task import TaskHandle


class ServiceLine(NamedTuple):
    """One service: ``uid`` of its task ('' for one that is none); ``endpoint`` '' while it cannot be reached."""

    name: str
    state: str
    endpoint: str
    uid: str
    variable: str


class Services(list[ServiceLine]):
    """Services by name; shows itself as a table."""

    def __repr__(self) -> str:
        lines = [f"{one[0]:<16} {one[1]:<10} {one[2] or '-':<24} {one[3] or '-':<8} {one[4]}" for one in self]
        return "\n".join(lines) or "no services"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        headers = ["name", "state", "endpoint", "task", "variable"]
        return {"text/plain": repr(self), "text/html": show.table(headers, [tuple(one) for one in self], "services")}


def services(session: Session) -> Services:
    """Return all services of a session by name."""
    replica = session._replica
    with replica.changed:
        ledger = replica.ledger
        lines = [
            ServiceLine(name, "READY" if endpoint else "ENDED", endpoint, "", variable(name))
            for name, endpoint in ledger.given.items()
        ]
        for name, bulk in ledger.services.items():
            table = ledger.bulks[bulk]
            state = "READY" if table.endpoint else TaskState(int(table.state[0])).name
            lines.append(ServiceLine(name, state, table.endpoint, task_uid(bulk, 0), variable(name)))
    return Services(sorted(lines))


def give(session: Session, name: str, endpoint: str) -> None:
    """Tell tasks of a service that is none of theirs; see :meth:`Session.register_service`."""
    connection = session._connection
    asked = GiveService(
        connection.number(), session.name, check_name(name, "name"), check_endpoint(endpoint, "endpoint")
    )
    connection.request(asked)
    replica = session._replica
    replica.wait(lambda: replica.ledger.endpoint(name) == endpoint, session._settings.request_timeout_s)


def wait_ready(task: TaskHandle, timeout: float | None) -> str:
    """Wait until a service can be reached; see :meth:`TaskHandle.wait_ready`."""
    table = task._table()
    if not table.form.template.service:
        raise RequestError(f"{task.uid}: is no service", hint="describe it with jrm.Service", code="JRM-Q95")
    session = task._session
    blocking.wait(
        session._replica,
        lambda: bool(table.endpoint) or task.done(),
        timeout,
        what=f"service {task.name} of session {session.name!r}",
        cancel=lambda: blocking.how_to_cancel(session.name, task.uid),
        settings=session._settings,
    )
    if table.endpoint:
        return table.endpoint
    if not task.done():
        raise TimeoutError(f"service {task.name} is not ready yet: {task.uid} is {task.state}")
    raise task.exception(0) or TaskError(
        f"{task.uid} ended {task.state} before it was ready", hint=f"jrm story {task.uid} shows what happened"
    )
