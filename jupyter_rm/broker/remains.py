"""What an agent that is gone left in its pilot's directory: its hello and the reports that never came through.

Read once, when it is proven that nothing of the pilot runs any more; on this machine or through a connection. Knows
files; what reports mean is the machine's business. Read next: :mod:`jupyter_rm.runtime.spool`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.effects import Remains
from ..model.errors import SiteError
from ..runtime.spool import RECORD_MAX, records_in
from ..wire import letters

if TYPE_CHECKING:
    from ..runtime.connect import Connection

log = logging.getLogger("jupyter_rm.broker")
# A segment is closed when it is larger than 4 MiB; one report may be as long as a record can be.
LARGEST = RECORD_MAX + (8 << 20)
SPOOL = "spool"


def left_here(session: str, pilot: int, place: Path) -> Remains:
    """Return what is left in a directory of this machine."""

    def names() -> list[str]:
        try:
            return [path.name for path in (place / SPOOL).iterdir()]
        except OSError:
            return []

    return _gathered(session, pilot, names, lambda name: (place / name).read_bytes())


def left_there(session: str, pilot: int, connection: Connection, place: str) -> Remains:
    """Return what is left in a directory of the target.

    Raises:
        LinkError: the connection is lost; nothing was concluded.
    """

    def names() -> list[str]:
        try:
            return [info.name for info in connection.list(f"{place}/{SPOOL}") if info.kind == "file"]
        except SiteError:
            return []  # it never got so far

    return _gathered(session, pilot, names, lambda name: connection.read(f"{place}/{name}", LARGEST))


def _gathered(session: str, pilot: int, names: Callable[[], list[str]], read: Callable[[str], bytes]) -> Remains:
    segments: list[bytes] = []
    for name in sorted(name for name in names() if name.endswith(".spool")):
        try:
            segments.append(read(f"{SPOOL}/{name}"))
        except (SiteError, OSError) as error:
            log.warning("%s p.%d: %s cannot be read: %s", session, pilot, name, error)
    hello = b""
    if segments:
        try:
            hello = read(letters.HELLO)
        except (SiteError, OSError):
            log.info("%s p.%d left no hello", session, pilot)
    return Remains(session, pilot, hello, tuple(records_in(segments)))
