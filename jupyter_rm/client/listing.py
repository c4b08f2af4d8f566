"""What exists in the broker, without attaching to it: sessions, and the broker itself."""

from __future__ import annotations

import time
from typing import Any

from ..model.ids import pilot_uid
from ..model.messages import BrokerStatus, ListSessions, SessionLine, Sessions, Status
from ..model.states import PilotState, TaskState
from ..model.units import human_s
from .connection import Connection
from .show import counts_text, table


class SessionInfo:
    """One session in a listing.

    Attributes:
        name, state (``open`` or ``closed``), age (s), pilots (list of (name or uid, site, state name)),
            tasks (per state), clients.
        earlier: it is closed and another session has its name now. key: what names it alone (``0-study``), else the
            same as ``name``.
    """

    def __init__(self, line: SessionLine) -> None:
        self.key = line.name
        self.earlier = line.name[:1].isdigit()  # names begin with a letter
        self.name = line.name.partition("-")[2] if self.earlier else line.name
        self.state = "closed" if line.closed else "open"
        self.opened_at = line.opened_at
        self.age = max(0.0, time.time() - line.opened_at)
        self.pilots = [
            (name or pilot_uid(number), site, PilotState(state).name)
            for number, (name, site, state) in enumerate(line.pilots)
        ]
        self.tasks = {state.name: count for state, count in zip(TaskState, line.counts, strict=False) if count}
        self.clients = line.clients

    def as_dict(self) -> dict[str, Any]:
        """Return the plain values."""
        return {
            "name": self.name,
            "state": self.state,
            "earlier": self.earlier,
            "key": self.key,
            "age_s": round(self.age, 3),
            "opened_at": self.opened_at,
            "pilots": [list(pilot) for pilot in self.pilots],
            "tasks": self.tasks,
            "clients": self.clients,
        }

    def __repr__(self) -> str:
        tasks = counts_text(self.tasks)
        pilots = f"{len(self.pilots)} pilot{'s' * (len(self.pilots) != 1)}"
        return f"<session {self.name!r} {self.words}, {human_s(self.age)} old, {pilots}, {tasks}>"

    @property
    def words(self) -> str:
        """Its state for people: ``open``, ``closed``, or ``closed, earlier (0-study)``."""
        return f"closed, earlier ({self.key})" if self.earlier else self.state


class SessionList(list[SessionInfo]):
    """A list of sessions that shows itself as a table."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) if self else "<no sessions>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        rows = [
            (each.name, each.words, human_s(each.age), len(each.pilots), counts_text(each.tasks), each.clients)
            for each in self
        ]
        headers = ["name", "state", "age", "pilots", "tasks", "clients"]
        return {"text/plain": repr(self), "text/html": table(headers, rows, "sessions")}


def sessions() -> SessionList:
    """Return all sessions of this user, open and closed."""
    connection = Connection.shared()
    answer: Sessions = connection.request(ListSessions(connection.number()))
    return SessionList(SessionInfo(line) for line in answer.lines)


def broker_status() -> BrokerStatus:
    """Return the broker's own account of itself (starting it when there is none)."""
    connection = Connection.shared()
    answer: BrokerStatus = connection.request(Status(connection.number()))
    return answer
