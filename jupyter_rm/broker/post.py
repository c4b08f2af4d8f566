"""Letters to and from an agent that no network path leads to: numbered files in the pilot's directory, by SFTP.

Slow and sure: a round trip takes about a second. The thread of the post ends with the pilot, or when a road is found.
Everything is as in :mod:`jupyter_rm.wire.letters`; what frames mean is nobody's business here.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from ..model.errors import JrmError, LinkError, ProtocolError
from ..runtime.connect import Connection
from ..wire import letters

log = logging.getLogger("jupyter_rm.broker")
# Pauses between two looks, s: while there is something to say or hear, and the longest.
BUSY, IDLE = 0.25, 2.0


class Post:
    """The letters of one pilot.

    Args:
        place: the pilot's directory on the target.
        arrived: gets frames of the agent; called from the thread of the post.
    """

    def __init__(self, connection: Connection, place: str, name: str, arrived: Callable[[list[bytes]], None]) -> None:
        self._connection = connection
        self._up, self._down = f"{place}/{letters.UP}", f"{place}/{letters.DOWN}"
        self._arrived = arrived
        self._waiting: list[bytes] = [b""]  # the first letter is a knock
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = False
        self._number = 0
        self._thread = threading.Thread(target=self._run, name=f"post {name}", daemon=True)
        self._thread.start()

    def put(self, frame: bytes) -> None:
        """Send a frame soon; any thread."""
        with self._lock:
            self._waiting.append(frame)
        self._wake.set()

    def close(self) -> None:
        """Send and fetch nothing more."""
        self._stop = True
        self._wake.set()

    def _run(self) -> None:
        pause = BUSY
        while not self._stop:
            try:
                busy = self._send()
                busy |= self._fetch()
                pause = BUSY if busy else min(IDLE, pause * 1.5)
            except LinkError:
                pause = IDLE  # the connection comes back by itself
            except JrmError as error:
                log.warning("letters: %s", error)
                pause = IDLE
            self._wake.wait(pause)
            self._wake.clear()

    def _send(self) -> bool:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        if not waiting:
            return False
        for body in letters.pack(waiting):
            # One that is not written is lost; the streams send it again.
            self._number += 1
            self._connection.write(f"{self._down}/{letters.name_of(self._number, os.getpid())}", body, 0o600)
        return True

    def _fetch(self) -> bool:
        names = letters.letters_in(info.name for info in self._connection.list(self._up) if info.kind == "file")
        for name in names:
            path = f"{self._up}/{name}"
            body = self._connection.read(path, limit=letters.LETTER_BYTES + (80 << 20))
            try:
                self._arrived(letters.unpack(body))
            except ProtocolError as error:
                log.warning("%s: %s", path, error)
            self._connection.remove(path)
        return bool(names)
