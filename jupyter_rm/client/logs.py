"""The log lines of broker and agents, read from wherever they run, in order, and followed.

Read next: :mod:`jupyter_rm.model.logs`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ..model.errors import LinkError, RequestError
from ..model.ids import parse_pilot, pilot_uid
from ..model.logs import MOST, FetchLog, LogPart, level_name, level_of
from ..model.states import PilotState
from ..runtime.logs import escape
from . import show
from .stream import Pause, Stream

if TYPE_CHECKING:
    from .session import Session

BROKER = "broker"
FOLLOW_S = 0.5
PATIENT_S = 3.0
UNNAMED_S = 5.0  # one that was not asked for by name must not hold up the others for longer
SHOWN = 200  # lines of a cell's output


class LogEntry(NamedTuple):
    """One line: ``at`` s since 1970 by the clock of ``component``, which is ``broker`` or a pilot's uid."""

    at: float
    component: str
    level: str
    name: str
    text: str

    def __str__(self) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(self.at))
        return f"{stamp}.{int(self.at % 1 * 1000):03d} {self.component:<7} {self.level:<7} {self.text}"


class Logs(list[LogEntry]):
    """Lines in order of time; shows itself as text. ``dropped``: so many older ones were not kept."""

    dropped = 0

    def __repr__(self) -> str:
        more = [f"({self.dropped} older lines were not kept)"] if self.dropped else []
        return "\n".join([*more, *map(str, self)]) or "no lines"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        headers = ["time", "component", "level", "line"]
        rows = [(str(one)[:12], one.component, one.level, one.text) for one in self[-SHOWN:]]
        # What a cell shows stays in the notebook's file.
        more = f"the last {SHOWN} of {len(self)} lines; print() shows all" if len(self) > SHOWN else ""
        plain = "\n".join([more, *map(str, self[-SHOWN:])]) if more else repr(self)
        return {"text/plain": plain, "text/html": show.table(headers, rows, "log lines", more)}


class Reader:
    """Reads the lines of some components from where it stood.

    Args:
        components: ``broker`` and uids of pilots; none: the broker, and all pilots in contact, also later ones.
        level: what they are to log from now on; '' leaves it.
    """

    def __init__(self, session: Session, components: Sequence[str], level: str = "") -> None:
        self._session, self._asked, self._level = session, tuple(components), level_of(level)
        self._known: dict[str, tuple[int, int]] = {}  # component -> (life, last number)
        known = {BROKER, *(pilot.uid for pilot in session.pilots())}
        for component in self._asked:
            if component not in known:
                text = f"component: there is no {component!r}"
                raise RequestError(text, hint="known: " + ", ".join(sorted(known)), code="JRM-Q96")

    def _components(self) -> Sequence[str]:
        if self._asked:
            return self._asked
        rows = self._session._replica.ledger.pilots
        there = (PilotState.ACTIVE, PilotState.DRAINING)
        return [BROKER, *(pilot_uid(row.number) for row in rows if row.state in there and not row.silent)]

    def read(self) -> Logs:
        """Return what was logged since the last call.

        Raises:
            RequestError: JRM-Q96, a component that was asked for is not in contact. LinkError: no answer in time.
        """
        out = Logs()
        for component in self._components():
            try:
                self._add(component, out)
            except (RequestError, LinkError):
                if self._asked:
                    raise  # else it has gone meanwhile, or is not quite there
        out.sort(key=lambda entry: entry.at)
        return out

    def _add(self, component: str, out: Logs) -> None:
        """Add the lines of one component; what came before an error stands."""
        connection = self._session._connection
        while True:
            new = component not in self._known
            life, after = self._known.get(component, (-1, 0))
            level = self._level if new else 0
            asked = FetchLog(connection.number(), self._session.name, component, life, after, MOST, level)
            part = ask(self._session, asked, bool(self._asked), None if self._asked else UNNAMED_S)
            last = part.lines[-1].no if part.lines else (after if part.life == life else 0)
            self._known[component] = (part.life, last)
            out.dropped += part.dropped
            out += [
                # Written without control characters by whoever is honest; this goes to a terminal.
                LogEntry(line.at, component, level_name(line.level), escape(line.name), escape(line.text))
                for line in part.lines
            ]
            if len(part.lines) < MOST:
                return


def ask(session: Session, asked: FetchLog, patient: bool = True, timeout: float | None = None) -> LogPart:
    """Ask for lines; ``patient``: once more when an agent that has just come is not quite there."""
    connection, until = session._connection, time.monotonic() + PATIENT_S
    while True:
        try:
            part: LogPart = connection.request(asked, timeout).part
            return part
        except RequestError as error:
            row = session._replica.ledger.pilots[parse_pilot(asked.component)]
            coming = error.retry and row.state == PilotState.ACTIVE and not row.silent
            if not (patient and coming and time.monotonic() < until):
                raise
        session._replica.wait(lambda: session.closed, 0.05)
        asked = msgspec.structs.replace(asked, req=connection.number())


def read(session: Session, components: Sequence[str], level: str) -> Logs:
    """Return the lines that are kept; see :meth:`Session.logs`."""
    return Reader(session, components, level).read()


def follow(session: Session, components: Sequence[str], level: str) -> Stream[LogEntry]:
    """Yield lines as they are logged, until the session is closed; see :meth:`Session.logs`."""
    return Stream(session._replica, _follow(session, components, level), slow=True)


def _follow(session: Session, components: Sequence[str], level: str) -> Generator[LogEntry | Pause, None, None]:
    reader = Reader(session, components, level)
    while True:
        yield from reader.read()
        if session.closed:
            return
        yield Pause(lambda: session.closed, FOLLOW_S)
