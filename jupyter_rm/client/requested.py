"""What a session asks a site for, as a user holds it: what pilots and scripts have in common.

Both are rows of one table, numbered together. Reads the replica; knows nothing about batch systems. Read next:
:mod:`jupyter_rm.client.pilot`, :mod:`jupyter_rm.client.script`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..model.ids import pilot_uid
from ..model.pilotrow import PilotRow
from ..model.states import Cause
from . import calls, dicts, news, show

if TYPE_CHECKING:
    from typing_extensions import Self

    from .named import StateName
    from .news import Subscription
    from .session import Session


class Requested:
    """One row of a session's pilots and scripts."""

    __slots__ = ("_number", "_session")

    def __init__(self, session: Session, number: int) -> None:
        self._session = session
        self._number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Requested) and other._session is self._session and other._number == self._number

    def __hash__(self) -> int:
        return hash((self._session.name, "p", self._number))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Return the one that ``as_dict()`` described; attaches to its session.

        Raises:
            RequestError: JRM-Q57, no such dict, or it names another one now; JRM-Q08, JRM-Q03: there is none.
        """
        found: Self = dicts.requested_of(fields, cls)
        return found

    def _row(self) -> PilotRow:
        replica = self._session._replica
        if self._number >= len(replica.ledger.pilots):
            replica.wait(lambda: self._number < len(replica.ledger.pilots), self._session._settings.request_timeout_s)
        return replica.ledger.pilots[self._number]

    @property
    def uid(self) -> str:
        """``p.N``: pilots and scripts are numbered in one row."""
        return pilot_uid(self._number)

    @property
    def state(self) -> StateName:
        """Its state: of a pilot, or of a script's job."""
        raise NotImplementedError

    @property
    def site(self) -> str:
        """The site it was asked from."""
        return self._row().spec.site

    @property
    def cause(self) -> str | None:
        """Why it ended as it did, None when there is nothing to say."""
        cause = self._row().cause
        return cause.name if cause is not Cause.NONE else None

    @property
    def reason(self) -> str:
        """The reason of its state in words; of a script that has ended also who says how it ended."""
        return show.pilot_reason(self._row())

    @property
    def job_id(self) -> str:
        """What the batch system (or this machine) calls its job."""
        return self._row().job_id

    @property
    def queue_position(self) -> int | None:
        """Its place in the batch queue, 1 is next; None: not queued, or the site does not say."""
        queued = self._row().queued
        return queued.position or None if queued is not None else None

    @property
    def queue_length(self) -> int | None:
        """How many jobs wait in that queue; None: not queued, or the site does not say."""
        queued = self._row().queued
        return queued.length or None if queued is not None else None

    @property
    def start_estimate(self) -> float | None:
        """When the site expects to start it, seconds since 1970; None: it does not say."""
        queued = self._row().queued
        return queued.estimate or None if queued is not None else None

    def explain(self) -> show.Text:
        """Return where it stands and why in plain words."""
        return show.Text(f"{self.uid} is {self.state}" + (f": {self.reason}" if self.reason else ""))

    # Callbacks take whichever it is, a Pilot or a Job.

    def on_state(self, callback: Callable[[Any, StateName], object]) -> Subscription:
        """Call ``callback(self, state)`` on another thread: with the state it has now, then with each one it takes."""
        return news.of_requested(self, callback)

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call ``callback(self)`` on another thread when it has ended (also when it has already)."""
        self._row()  # known here: the condition must not wait
        self._session._replica.when(lambda: self._row().state.final, calls.WhenEnded(self, callback))

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """Take back every :meth:`add_done_callback` of ``callback`` that is not due yet; return how many."""

        def same(call: Callable[[], None]) -> bool:
            if not isinstance(call, calls.WhenEnded) or call.callback != callback:
                return False
            owner = call.owner
            return isinstance(owner, Requested) and (owner._session, owner._number) == (self._session, self._number)

        return self._session._replica.forget(same)
