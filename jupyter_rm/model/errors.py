"""One tree of errors, cut by who must act.

Every error carries a stable ``code``, a ``hint`` (what to do next) and ``retry`` (whether the same call may succeed
later unchanged). The text says what happened and names the field, file or host. Read next: ``docs/errors.md``.
"""

from __future__ import annotations

import msgspec


class JrmError(Exception):
    """Root of all errors that jupyter_rm raises on purpose.

    Args:
        message: what happened, one line, naming the field, file or host.
        code: stable identifier such as ``JRM-S31``.
        hint: the next step a person can take.
        retry: True when the same call may succeed later without any change.
    """

    default_code = "JRM-000"

    def __init__(self, message: str, *, code: str = "", hint: str = "", retry: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.retry = retry

    def __str__(self) -> str:
        text = f"{self.message} [{self.code}]"
        return f"{text}\n  next: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self).__name__, self.message, self.code, self.hint, self.retry))


class RequestError(JrmError):
    """The caller asked for something impossible or malformed; nothing was submitted."""

    default_code = "JRM-Q01"


class SiteError(JrmError):
    """The batch system, filesystem or quota of a machine refused; somebody must act there."""

    default_code = "JRM-S01"


class LinkError(JrmError):
    """Two programs of this system cannot talk to each other right now."""

    default_code = "JRM-T01"


class ProtocolError(JrmError):
    """A peer sent what the protocol forbids, or speaks another version."""

    default_code = "JRM-N01"


class TaskError(JrmError):
    """A task ended other than DONE: exit code, signal, remote traceback, last output.

    Attributes:
        uid: the task's identifier.
        cause: name of the :class:`~jupyter_rm.model.states.Cause`.
        exit_code: process exit code, ``-signal`` when a signal ended it, None when it never ran.
        remote_traceback: text of the remote Python traceback, empty for executables.
        output: tail of the task's stderr.
    """

    default_code = "JRM-X45"
    uid: str = ""
    cause: str = ""
    exit_code: int | None = None
    remote_traceback: str = ""
    output: str = ""


KINDS: dict[str, type[JrmError]] = {
    kind.__name__: kind for kind in (JrmError, RequestError, SiteError, LinkError, ProtocolError, TaskError)
}


def _rebuild(kind: str, message: str, code: str, hint: str, retry: bool) -> JrmError:
    return KINDS.get(kind, JrmError)(message, code=code, hint=hint, retry=retry)


class ErrorForm(msgspec.Struct, frozen=True, array_like=True):
    """An error as it travels between programs."""

    kind: str
    message: str
    code: str
    hint: str
    retry: bool = False

    @classmethod
    def of(cls, error: JrmError) -> ErrorForm:
        """Describe ``error`` for the wire."""
        kind = next(base.__name__ for base in type(error).__mro__ if base.__name__ in KINDS)
        return cls(kind, error.message, error.code, error.hint, error.retry)

    def error(self) -> JrmError:
        """Return an exception equal to the one described."""
        return _rebuild(self.kind, self.message, self.code, self.hint, self.retry)
