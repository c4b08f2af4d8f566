"""What people read of a session: counts, frames, events, SQL, logs, and how its pilots' cores were used.

Nothing here changes anything. Read next: :mod:`.frames`, :mod:`.tables`, :mod:`.logs`, :mod:`.usage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from ..model.states import TaskState
from . import dicts
from .replica import Replica

if TYPE_CHECKING:
    from .bulk import Bulk
    from .logs import LogEntry, Logs
    from .pilot import Pilots
    from .session import Session
    from .stream import Stream


class Reading:
    """A part of :class:`~jupyter_rm.client.session.Session`."""

    name: str
    _replica: Replica

    if TYPE_CHECKING:

        @property
        def closed(self) -> bool: ...
        def tasks(self) -> Bulk: ...
        def pilots(self) -> Pilots: ...

    def as_dict(self) -> dict[str, Any]:
        """Return what ``jrm status --json`` prints: plain values, from which :meth:`from_dict` finds it again."""
        return dicts.of_session(self)

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Session:
        """Attach to the session that :meth:`as_dict` described.

        Raises:
            RequestError: JRM-Q57, no such dict, or another session has its name now; JRM-Q08, there is none.
        """
        return dicts.session_of(fields)

    def counts(self) -> dict[str, int]:
        """Return the number of tasks per state, those states only in which there are some."""
        with self._replica.changed:
            counts = self._replica.ledger.counts
        return {state.name: int(counts[state]) for state in TaskState if counts[state]}

    def frame(self) -> Any:
        """Return all tasks as a pandas DataFrame."""
        return self.tasks().to_frame()

    def events(self, limit: int = 100_000) -> Any:
        """Return what is known of when what happened as a DataFrame (at, uid, event, detail), ``limit`` rows."""
        from .frames import events

        return events(cast("Session", self), limit)

    def logs(self, *components: str, level: str = "", follow: bool = False) -> Logs | Stream[LogEntry]:
        """Return log lines of ``broker`` and agents (``p.0``), in order of time; of none named: of all in contact.

        Args:
            level: what they log from now on: DEBUG, INFO, WARNING or ERROR. follow: yield lines as they are logged.

        Raises:
            RequestError: JRM-Q96, a component that is not there or not in contact. LinkError: no answer in time.
        """
        from . import logs

        return (logs.follow if follow else logs.read)(cast("Session", self), components, level)

    def sql(self, query: str, limit: int = 100_000) -> Any:
        """Return the answer to an SQL ``select`` over the tables tasks, pilots and bulks as a DataFrame."""
        from .tables import select

        return select(cast("Session", self), query, limit)

    def usage(self) -> Any:
        """Return what each pilot's cores were used for as a DataFrame, in core-hours that add up to ``held``.

        ``held`` is the time from the start of the pilot's job to its end or now, times its cores. Of that is ``boot``
        until its agent was ready, ``run`` what tasks had (each attempt, ranks times cores, from start to end) and
        ``idle`` the rest. ``queued`` is the wait before, in hours; ``busy`` the share of ``held`` that is ``run``.
        """
        from .usage import usage

        return usage(cast("Session", self))
