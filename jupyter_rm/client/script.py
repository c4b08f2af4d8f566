"""A user's own batch script at a cluster, as a user holds it: where it stands, what it wrote, how it ended.

``s.script(site, path_or_text)`` submits it as it is. It is recorded like a pilot, numbered in the same row, and has
no tasks. Knows paths and messages, no batch systems. Read next: :mod:`jupyter_rm.broker.ownscript`.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Generator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..model.errors import RequestError
from ..model.facts import PilotSpec
from ..model.messages import Accepted, CancelPilot, RequestPilot
from ..model.pilotrow import PilotRow
from ..model.states import PilotState
from . import blocking, capacity, dicts, distant, here, show
from .named import StateName, names
from .requested import Requested
from .stream import Pause, Stream

if TYPE_CHECKING:
    from .session import Session

LIMIT = 64 << 20  # bytes of output that are shown
PIECE = 1 << 20
FOLLOW_S = 1.0
_OF_PILOT = ("nodes", "queue", "project", "walltime", "name", "options")


class JobState(IntEnum):
    """State of a script's job; the integer order is the order of life."""

    SUBMITTED = 1
    QUEUED = 2
    RUNNING = 3
    DONE = 4
    FAILED = 5
    CANCELED = 6

    @property
    def final(self) -> bool:
        """True for DONE, FAILED and CANCELED."""
        return self >= JobState.DONE


_NAMES = dict(zip(JobState, names(JobState), strict=True))
_OF_ROW = {
    PilotState.NEW: JobState.SUBMITTED,
    PilotState.SUBMITTED: JobState.SUBMITTED,
    PilotState.QUEUED: JobState.QUEUED,
    PilotState.STARTING: JobState.RUNNING,
    PilotState.ACTIVE: JobState.RUNNING,
    PilotState.DONE: JobState.DONE,
    PilotState.FAILED: JobState.FAILED,
    PilotState.CANCELED: JobState.CANCELED,
}


def state_of(row: PilotRow) -> JobState:
    """Return the state of a script's job; one that is being canceled is where it was."""
    if row.state == PilotState.DRAINING:
        before = [PilotState(state) for state in row.times if state < PilotState.DRAINING]
        return _OF_ROW[max(before, default=PilotState.SUBMITTED)]
    return _OF_ROW[row.state]


class Job(Requested):
    """One script of a session."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name given to it, else that of its file, else its uid."""
        spec = self._row().spec
        return spec.name or spec.script_name or self.uid

    @property
    def script(self) -> bytes:
        """The script, byte for byte."""
        return self._row().spec.script

    @property
    def state(self) -> StateName:
        """Its state: text that compares and sorts by the order of life."""
        return _NAMES[state_of(self._row())]

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the signal that ended it; None: it has not ended, or nobody knows."""
        return self._row().code

    @property
    def files(self) -> tuple[str, str]:
        """Where its stdout and stderr are at the site; empty: not known (yet)."""
        found = (*self._row().files, "", "")
        return found[0], found[1]

    def done(self) -> bool:
        """Has it ended?"""
        return self._row().state.final

    def wait(self, timeout: float | None = None) -> StateName:
        """Block until it has ended or ``timeout`` seconds are over; return its state then."""
        session = self._session
        blocking.wait(
            session._replica,
            self.done,
            timeout,
            what=f"script {self.uid} of session {session.name!r}",
            cancel=lambda: blocking.how_to_cancel(session.name, self.uid),
            settings=session._settings,
        )
        return self.state

    def __await__(self) -> Generator[Any, None, StateName]:
        """Wait until it has ended."""
        yield from blocking.Until(self._session._replica, self.done).__await__()
        return self.state

    def cancel(self, drain: bool = False) -> None:
        """End it; there is nothing in it to ``drain``."""
        del drain
        connection = self._session._connection
        connection.request(CancelPilot(connection.number(), self._session.name, self._number, False))

    # ------------------------------------------------------------ its output

    def _path(self, stream: str) -> Path | None:
        if stream not in ("stdout", "stderr"):
            raise RequestError(f"stream: {stream!r} is unknown", hint="use stdout or stderr", code="JRM-Q05")
        text = self.files[stream == "stderr"]
        return Path(text) if text else None

    def _known(self, stream: str) -> Path:
        path = self._path(stream)
        if path is None:
            why = "its script names a file that only the batch system can tell" if self.job_id else "it has not begun"
            raise RequestError(
                f"{stream} of {self.uid}: where it is is not known: {why}",
                hint="leave the output's name to us, or look there with %%jrm sh",
                code="JRM-Q28",
            )
        return path

    def stdout(self) -> str:
        """Return what it wrote to standard output so far.

        Raises:
            LinkError: the site cannot be reached, or it is too large to be shown. RequestError: nobody knows where.
        """
        return distant.read(self._session, self._number, self._known("stdout"), LIMIT).decode("utf-8", "replace")

    def stderr(self) -> str:
        """Return what it wrote to standard error so far; raises as :meth:`stdout`."""
        return distant.read(self._session, self._number, self._known("stderr"), LIMIT).decode("utf-8", "replace")

    def follow(self, stream: str = "stdout") -> Stream[str]:
        """Yield pieces of its output as they are written, until all is read; to ``for`` or to ``async for``."""
        return Stream(self._session._replica, self._follow(stream), slow=True)

    def _follow(self, stream: str) -> Generator[str | Pause, None, None]:
        self._path(stream)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        place = 0
        while True:
            ended = self.done()
            path = self._path(stream)
            data = distant.part(self._session, self._number, path, place, PIECE)[1] if path is not None else b""
            place += len(data)
            text = decoder.decode(data)
            if text:
                yield text
            elif ended:
                return
            else:
                yield Pause(self.done, FOLLOW_S)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``jrm jobs --json`` prints of it: plain values, from which :meth:`from_dict` finds it again."""
        return dicts.of_job(self)

    def __repr__(self) -> str:
        name = f" {self.name}" if self.name != self.uid else ""
        job = f" job {self.job_id}" if self.job_id else ""
        return f"<script {self.uid}{name} at {self.site}{job} {self.state}: {self.reason}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return jobs_bundle([self], repr(self))


class Jobs(list[Job]):
    """A list of scripts that shows itself as a table."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "no scripts"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return jobs_bundle(self, repr(self))


def jobs_bundle(jobs: list[Job], text: str) -> dict[str, str]:
    """Return the displays of scripts."""
    rows = [
        (job.uid, job.name, job.site, job.job_id, str(job.state), "" if job.exit_code is None else job.exit_code,
         job.reason) for job in jobs
    ]  # fmt: skip
    headers = ["uid", "name", "site", "job", "state", "exit code", "reason"]
    return {"text/plain": text, "text/html": show.table(headers, rows, "scripts")}


def jobs(session: Session) -> Jobs:
    """Return all scripts of a session, first to last."""
    rows = session._replica.ledger.pilots
    return Jobs(Job(session, number) for number, row in enumerate(rows) if row.spec.script)


def submit(session: Session, site: str, script: object, fields: Mapping[str, Any]) -> Job:
    """Submit a script and return its handle; see :meth:`Session.script`."""
    name, body = _body(script)
    spec = script_spec(site, body, name, fields)
    connection = session._connection
    asked = RequestPilot(connection.number(), session.name, os.urandom(16), spec)
    answer: Accepted = connection.request(asked)
    replica = session._replica
    replica.wait(lambda: answer.number < len(replica.ledger.pilots), session._settings.request_timeout_s)
    return Job(session, answer.number)


def script_spec(site: str, body: bytes, name: str, fields: Mapping[str, Any]) -> PilotSpec:
    """Return what is asked for; RequestError names a field that is wrong."""
    if not body.strip():
        raise RequestError("script: it is empty", hint="give a path or the text of a script", code="JRM-Q28")
    own = {key: value for key, value in fields.items() if key in _OF_PILOT}
    rest = {key: value for key, value in fields.items() if key not in _OF_PILOT and value is not None}
    if rest:
        own["options"] = {**dict(own.get("options") or {}), **rest}
    spec = capacity.pilot_spec(site, own, settled=False) if site not in ("local", "noop") else PilotSpec(site=site)
    return msgspec.structs.replace(spec, script=body, script_name=name)


def _body(script: object) -> tuple[str, bytes]:
    """Return (name of the file, bytes) of a path, a text or bytes."""
    if isinstance(script, bytes):
        return "", script
    if isinstance(script, str) and ("\n" in script or script.startswith("#!")):
        return "", script.encode("utf-8", "surrogateescape")
    if not isinstance(script, (str, os.PathLike)):
        raise RequestError(
            f"script: {type(script).__name__} is no script", hint="give a path or the text of a script", code="JRM-Q28"
        )
    path = here.path(script, "script")
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        hint = "give the path of a file here, or the text of a script"
        raise RequestError(f"script: {path}: {error.strerror}", hint=hint, code="JRM-Q28") from None
