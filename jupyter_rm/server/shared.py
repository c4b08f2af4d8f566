"""Pictures that several screens show: the same part of the same view is made once for all of them.

Two pages that show one session would double what the server computes, and each page slow the other down. A picture is
handed out again for a moment, as long as nothing has happened in the session. Knows no screens. Read next:
:mod:`.screen`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..views.pictures import Picture

FRESH_S = 0.5  # a picture older than this is made again: time goes on in it
KEPT_S = 5.0  # nor is it kept: a large one is some megabytes


@dataclass
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    mark: Hashable = None
    at: float = 0.0  # of its making, seconds of the clock that never jumps
    cost: float = 0.0
    picture: Picture | None = None


class Shared:
    """The last pictures of a server, by what they show; used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[Hashable, _Slot] = {}

    def get(self, key: Hashable, mark: Hashable, make: Callable[[], Picture]) -> tuple[Picture, float]:
        """Return a picture, and how long it took to make it, seconds of computing; whoever gets it must not change it.

        Args:
            key: what it shows. mark: what must be the same for a picture to be true still.
        """
        with self._lock:
            now = time.monotonic()
            self._slots = {each: slot for each, slot in self._slots.items() if each == key or now - slot.at < KEPT_S}
            slot = self._slots.setdefault(key, _Slot(at=now))
        with slot.lock:  # who wants the same meanwhile waits for it, and does not make it again
            if slot.picture is None or slot.mark != mark or time.monotonic() - slot.at > FRESH_S:
                began = time.thread_time()
                slot.picture = make()
                slot.mark, slot.at, slot.cost = mark, time.monotonic(), time.thread_time() - began
            return slot.picture, slot.cost
