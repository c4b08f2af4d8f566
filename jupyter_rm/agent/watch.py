"""Looks at the output of services until a line fits, or their time is over.

A line counts when it is complete, or when the file has not grown for a moment: half a line could name half an endpoint.
Decides nothing. Read next: :mod:`jupyter_rm.core.serving` (what follows from it).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.holdings import Holdings
from ..model.effects import Heard, Input, Unwatch
from ..model.effects import Watch as WatchOrder
from ..model.ids import INDEX_BITS, INDEX_MASK
from ..model.service import LINE_MOST, STARTUP_S, found
from ..runtime.drive import Drive
from .moving import Places
from .staging import filled

LOOK_S = 0.05  # between two looks in a service's first seconds
SELDOM_S = 0.5  # and later
SOON_S = 5.0
PIECE = 1 << 18  # bytes of a file read in one look


@dataclass(slots=True)
class _File:
    """A file that grows: ``rest`` is the line that is not complete yet."""

    path: Path
    offset: int = 0
    rest: bytes = b""

    def lines(self) -> list[bytes]:
        """Return the complete lines since the last look, and a last one that stood still."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            file.seek(self.offset)
            more = file.read(PIECE)
            self.offset += len(more)
            if not more:
                return [self.rest] if self.rest else []
            *whole, rest = (self.rest + more).split(b"\n")
            self.rest = rest[-LINE_MOST:]
            return whole
        return []


@dataclass(slots=True)
class _Service:
    order: WatchOrder
    fits: re.Pattern[str]
    files: list[_File]
    began: float
    until: float
    next: float = 0.0


class Watcher:
    """Watches the services of one agent.

    Args:
        holdings: what stands behind a token. sandbox, pilot: directory of this agent's tasks, and whose they are.
        tell: takes a Heard for each order that was not taken back: its endpoint, or '' when its time was over.
    """

    def __init__(
        self, holdings: Holdings, sandbox: str, pilot: int, drive: Drive, tell: Callable[[Input], None]
    ) -> None:
        self._holdings, self._sandbox, self._pilot, self._drive, self._tell = holdings, sandbox, pilot, drive, tell
        self._services: dict[int, _Service] = {}
        self._due = False

    def perform(self, effect: WatchOrder | Unwatch) -> None:
        """Carry out a Watch or Unwatch."""
        if isinstance(effect, Unwatch):
            self._services.pop(effect.token, None)
            return
        bulk, index = effect.token >> INDEX_BITS, effect.token & INDEX_MASK
        held = self._holdings.bulks[bulk]
        template = held.template
        row = held.params(index) if template.params else {}
        places = Places(self._sandbox, self._pilot, bulk, index, effect.attempt)
        fields = ("sandbox", "stdout", "stderr", "ready_file")
        sandbox, *names = [filled(getattr(template, name), name, row, template.params) for name in fields]
        if sandbox:
            places.own(sandbox)
        now = self._drive.clock.now()
        self._services[effect.token] = _Service(
            effect,
            re.compile(template.ready),
            [_File(Path(places.folder, name)) for name in dict.fromkeys(names) if name],
            now,
            now + (template.startup_timeout or STARTUP_S),
        )
        self._again(0.0)

    def _again(self, pause: float) -> None:
        if not self._due and self._services:
            self._due = True
            self._drive.later(pause, self._look)

    def _look(self) -> None:
        self._due = False
        now = self._drive.clock.now()
        for token, one in list(self._services.items()):
            if now < one.next:
                continue
            one.next = now + (LOOK_S if now - one.began < SOON_S else SELDOM_S)
            endpoint = self._endpoint(one)
            if endpoint or now >= one.until:
                del self._services[token]
                self._tell(Heard(token, one.order.attempt, endpoint))
        self._again(LOOK_S)

    @staticmethod
    def _endpoint(one: _Service) -> str:
        for file in one.files:
            for line in file.lines():
                match = one.fits.search(line[:LINE_MOST].decode("utf-8", "replace").rstrip("\r"))
                if match is not None:
                    told = "".join(each for each in found(match, one.order.host) if each.isprintable())
                    return told[:LINE_MOST] or one.order.host
        return ""
