"""Pilot: one placeholder job as a user holds it. Reads the replica; knows nothing about batch systems."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..model.errors import RequestError, SiteError
from ..model.facts import PilotStep
from ..model.late import capabilities, capability_names
from ..model.messages import AskSite, CancelPilot, Explained, RequestPilot
from ..model.states import PilotState
from . import blocking, dicts, show
from .named import StateName, names
from .requested import Requested

if TYPE_CHECKING:
    from .session import Session

_STATES = names(PilotState)


class Pilot(Requested):
    """One pilot of a session."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name given to it, else its uid."""
        return self._row().spec.name or self.uid

    @property
    def state(self) -> StateName:
        """Its state: text that compares and sorts by the order of life."""
        return _STATES[self._row().state]

    @property
    def unreachable(self) -> bool:
        """True while it is silent; its tasks may well be running."""
        row = self._row()
        return row.silent and not row.state.final

    @property
    def suspended(self) -> bool:
        """True while the batch system says that its job is stopped: what runs in it stands still."""
        return show.suspended(self._row())

    @property
    def step(self) -> PilotStep | None:
        """Where the way to its agent stands (step, status, percent, text); None: there is nothing on the way."""
        return self._row().step

    @property
    def nodes(self) -> tuple[Any, ...]:
        """Its hosts with cores, GPUs and memory; empty before it is active."""
        return self._row().nodes

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of it: host, user, python, cores ..., and the answers to its site's probes; {} before it began.

        Arguments and variables of tasks may name them: ``${facts.NAME}``.
        """
        return dict(self._row().facts)

    @property
    def sandbox(self) -> Path | None:
        """Directory of its tasks' sandboxes, None before it is known."""
        sandbox = self._row().sandbox
        return Path(sandbox) if sandbox else None

    def wait(self, state: str = "ACTIVE", timeout: float | None = None) -> StateName:
        """Block until it has reached ``state`` (or ended, or ``timeout`` seconds are over); return its state then."""
        session = self._session
        ready = self._reached(state)
        blocking.wait(
            session._replica,
            ready,
            timeout,
            what=f"pilot {self.uid} of session {session.name!r}",
            cancel=lambda: blocking.how_to_cancel(session.name, self.uid),
            settings=session._settings,
        )
        return self.state

    async def wait_async(self, state: str = "ACTIVE") -> StateName:
        """Wait as :meth:`wait` does without blocking the running event loop; return its state then."""
        await blocking.Until(self._session._replica, self._reached(state))
        return self.state

    def _reached(self, state: str) -> Any:
        if state not in PilotState.__members__:
            raise RequestError(f"state: {state!r} is unknown", hint="use " + ", ".join(PilotState.__members__))
        wanted = PilotState[state]

        def ready() -> bool:
            known = self._session._replica.ledger.pilots
            return self._number < len(known) and (
                known[self._number].state >= wanted or known[self._number].state.final
            )

        return ready

    def __await__(self) -> Generator[Any, None, StateName]:
        """Wait until it is active or has ended."""
        yield from blocking.Until(self._session._replica, self._reached("ACTIVE")).__await__()
        return self.state

    @property
    def capabilities(self) -> frozenset[str]:
        """What it offers to tasks that ``require`` it."""
        row = self._row()
        return capabilities(row.spec.capabilities, row.facts)

    def add_capability(self, *names: str) -> None:
        """Let it offer more, such as a data set that was brought there: tasks that wait for that may run on it now.

        Raises:
            RequestError: JRM-Q05, a name that is none.
        """
        row, session = self._row(), self._session
        more = tuple(sorted({*row.spec.capabilities, *capability_names(names, "capabilities")}))
        spec = msgspec.structs.replace(row.spec, capabilities=more)
        session._connection.request(RequestPilot(session._connection.number(), session.name, row.key, spec))
        wanted = set(names)
        session._replica.wait(lambda: wanted <= self.capabilities, session._settings.request_timeout_s)

    def cancel(self, drain: bool = False) -> None:
        """End it; ``drain``: let what runs end first."""
        connection = self._session._connection
        connection.request(CancelPilot(connection.number(), self._session.name, self._number, drain))

    def refresh(self) -> StateName:
        """Ask the batch system now how its job stands, instead of at its next turn; return its state then.

        Raises:
            SiteError: JRM-S35, it cannot say; what was known stands.
        """
        refresh(self._session, self._number)
        return self.state

    def hold(self) -> None:
        """Keep its job from starting while it waits in the queue.

        Raises:
            RequestError: JRM-Q29, it does not wait, or its site cannot do that. SiteError: the batch system refused.
        """
        _ask(self._session, "hold", self._number)

    def release(self) -> None:
        """Let a held job wait for its turn again. Raises as :meth:`hold`."""
        _ask(self._session, "release", self._number)

    def suspend(self) -> None:
        """Stop its running job for a while: what runs there stands still, and nothing of it is lost.

        Many batch systems allow this to operators only. Raises as :meth:`hold`.
        """
        _ask(self._session, "suspend", self._number)

    def resume(self) -> None:
        """Let a suspended job go on. Raises as :meth:`hold`."""
        _ask(self._session, "resume", self._number)

    def renew(self) -> Pilot:
        """Ask for a pilot like this one that takes over; returns it at once.

        Once the new one is active this one drains: what runs here ends here, all else runs there.

        Raises:
            RequestError: this one has ended.
        """
        row, session = self._row(), self._session
        if row.state.final:
            raise RequestError(
                f"{self.uid} is {row.state.name}", hint="ask for another one: s.pilot(...)", code="JRM-Q30"
            )
        spec = msgspec.structs.replace(row.spec, name="", replaces=self._number)
        connection = session._connection
        asked = RequestPilot(connection.number(), session.name, os.urandom(16), spec)
        number = connection.request(asked).number
        session._replica.wait(lambda: number < len(session._replica.ledger.pilots), session._settings.request_timeout_s)
        return Pilot(session, number)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``jrm pilots --json`` prints of it: plain values, from which :meth:`from_dict` finds it again."""
        return dicts.of_pilot(self)

    def view(self) -> Any:
        """Return a living card of it: state and why, buttons; on a page without widgets the table it shows anyway."""
        return show.card(self)

    def __repr__(self) -> str:
        return show.pilot_line(self._row())

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return show.pilots_bundle(self._session, [self._row()])


def _ask(session: Session, what: str, pilot: int) -> str:
    connection = session._connection
    answer: Explained = connection.request(AskSite(connection.number(), session.name, what, pilot))
    return answer.text


def refresh(session: Session, pilot: int) -> None:
    """Have the batch systems asked now for the jobs of one pilot, or of all (-1); SiteError when one cannot say."""
    said = _ask(session, "status", pilot)
    if said:
        raise SiteError(said, hint="what was known stands; try again; jrm site try SITE", code="JRM-S35", retry=True)


def which(session: Session, given: object) -> Pilot:
    """Return the pilot that is meant: by itself, its uid or its name.

    Raises:
        RequestError: JRM-Q03, it is none of this session.
    """
    uid = getattr(given, "uid", given)
    for pilot in reversed(list(session.pilots())):
        if uid and uid in (pilot.uid, pilot._row().spec.name):
            return pilot
    raise RequestError(f"pilot: {given!r} is none of this session", hint="see s.pilots()", code="JRM-Q03")


class Pilots(list[Pilot]):
    """A list of pilots that shows itself as a table."""

    def __init__(self, session: Session, numbers: list[int]) -> None:
        super().__init__(Pilot(session, number) for number in numbers)
        self._session = session

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return show.pilots_bundle(self._session, [pilot._row() for pilot in self])
