"""The end of a session, and of its files where its pilots were: ``s.close(cleanup=True)``.

Read next: :mod:`.sitecare` (all of an account), :mod:`jupyter_rm.broker.cleanup` (what is removed).
"""

from __future__ import annotations

import contextlib
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..model.errors import JrmError, RequestError
from ..model.messages import CloseSession, FilesMoved, MoveFiles
from ..model.units import human_mib

if TYPE_CHECKING:
    from .session import Session

CLOSE_S = 1.0  # how long close() waits for news of what it ended
JOBS_S = 120.0  # ... and, before files are removed, for proof that the jobs are gone
MOST_S = 3600.0


@dataclass(frozen=True)
class Cleaned:
    """What was removed when a session was closed; shows itself.

    Attributes:
        removed: (site, path there, MiB). kept: what is still there of the session, and why.
    """

    removed: tuple[tuple[str, str, float], ...]
    kept: tuple[str, ...]

    def __repr__(self) -> str:
        lines = [f"removed {human_mib(size)} at {site}: {path}" for site, path, size in self.removed]
        return "\n".join([*(lines or ["nothing to remove"]), *(f"kept {line}" for line in self.kept)])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": f"<pre>{html.escape(repr(self))}</pre>"}


def close(session: Session, cleanup: bool, force: bool) -> Cleaned | None:
    """End a session; see :meth:`Session.close`."""
    replica, connection = session._replica, session._connection
    if cleanup and not force and (still := sum(table.open for _, table in replica.ledger.open_bulks())):
        raise RequestError(
            f"cleanup: {still} tasks of session {session.name!r} have not ended, and would lose their files",
            hint="s.wait() or s.cancel() first; or close(cleanup=True, force=True)",
            code="JRM-Q93",
        )
    session._leave()
    connection.request(CloseSession(connection.number(), session.name))
    session._closed = True
    with contextlib.suppress(JrmError):
        # The last news: what was open is cancelled.
        replica.wait(lambda: replica.ledger.closed and session._all_ended(), CLOSE_S)
    made = _cleaned(session) if cleanup else None
    connection.detach(session.name)
    return made


def _cleaned(session: Session) -> Cleaned:
    replica, connection = session._replica, session._connection
    pilots = replica.ledger.pilots
    with contextlib.suppress(JrmError):
        replica.wait(lambda: all(row.state.final for row in pilots), JOBS_S)
    removed: list[tuple[str, str, float]] = []
    kept = [f"{row.sandbox} at {row.spec.site}: your own choice" for row in pilots if row.spec.sandbox and row.sandbox]
    for site, number in {row.spec.site: number for number, row in enumerate(pilots)}.items():
        try:
            asked = MoveFiles(connection.number(), session.name, number, "clean", ())
            answer: FilesMoved = connection.request(asked, MOST_S)
        except JrmError as error:
            kept.append(f"all at {site}: {error.message}")
            continue
        for line in answer.names:
            _, size, path = line.split(" ", 2)
            removed.append((site, path, int(size) / 1024))
    return Cleaned(tuple(removed), tuple(dict.fromkeys(kept)))
