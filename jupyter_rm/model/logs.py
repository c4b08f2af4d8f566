"""Log lines on their way to a person, and the messages that ask for them.

Asked for by hand or every moment while somebody follows: never pushed, never journalled. A component numbers its lines
from 1 in each of its lives and keeps the last ones; how many it could not keep is told with the answer. Read next:
:mod:`jupyter_rm.runtime.logs` (who keeps them), :mod:`jupyter_rm.client.logs` (who asks).
"""

from __future__ import annotations

import msgspec

from .errors import RequestError
from .messages import Message, Order, Report

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
_NAMES = {number: name for name, number in LEVELS.items()}
KEPT = 20_000  # lines of a component
MOST = 2_000  # lines of one answer


class LogLine(msgspec.Struct, frozen=True, array_like=True):
    """One line; ``at`` s since 1970 by the component's clock, ``level`` as in :data:`LEVELS`."""

    no: int
    at: float
    level: int
    name: str
    text: str


class LogPart(msgspec.Struct, frozen=True, array_like=True):
    """Lines of a component in one of its lives, in order; ``dropped``: so many before them were not kept."""

    life: int
    lines: tuple[LogLine, ...] = ()
    dropped: int = 0
    level: int = 20


class FetchLog(Message, tag=24, frozen=True):
    """Ask a component (``broker`` or a pilot's uid) for its lines after number ``after`` of its life ``life``.

    ``level`` 0 leaves what it logs as it is. Answered by :class:`LogSaid`.
    """

    req: int
    session: str
    component: str
    life: int = -1
    after: int = 0
    most: int = MOST
    level: int = 0


class LogSaid(Message, tag=47, frozen=True):
    """Answer to :class:`FetchLog`."""

    req: int
    part: LogPart


class TellLog(Order, tag=88, frozen=True):
    """Tell lines of your log, as :class:`FetchLog` asks for; answered by :class:`LogTold`."""

    ask: int
    life: int
    after: int
    most: int
    level: int = 0


class LogTold(Report, tag=106, frozen=True):
    """The answer to :class:`TellLog`."""

    ask: int
    part: LogPart


def level_of(name: object, field: str = "level") -> int:
    """Return the number of a level by its name, 0 for '' (RequestError JRM-Q05, with the field)."""
    if name == "":
        return 0
    if not isinstance(name, str) or name.upper() not in LEVELS:
        raise RequestError(f"{field}: {name!r} is no level", hint="use " + ", ".join(LEVELS), code="JRM-Q05")
    return LEVELS[name.upper()]


def level_name(number: int) -> str:
    """Return the name of a level; of one that has none, its number."""
    return _NAMES.get(number, str(number))
