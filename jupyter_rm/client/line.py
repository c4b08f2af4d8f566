"""The line: one socket to a broker that has greeted us, and news of the broker's end.

Knows sockets and frames. Does not know what is said. Read next: :mod:`.start` (a broker that must first be started).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..model.errors import LinkError, ProtocolError
from ..model.messages import Hello, Message, Refused, Welcome
from .start import Reading, start_broker

if TYPE_CHECKING:
    import zmq

    from ..runtime.home import Home


COPIED = 1 << 16  # bytes; a shorter frame is copied faster than shared
LOOK_MS = 20  # while we wait for a greeting, so often we look whether the broker still lives


class Line:
    """An open line; :func:`dial` makes one.

    Attributes:
        socket: readable when there are frames. monitor: readable when the broker has gone. welcome: its greeting.
    """

    def __init__(self, home: Home) -> None:
        import zmq

        from ..wire import codec

        self._encode = codec.encode
        self._decoder = codec.from_broker
        # Plain numbers: combining and converting zmq's own flags takes longer than receiving.
        self._noblock, self._events, self._readable = int(zmq.NOBLOCK), int(zmq.EVENTS), int(zmq.POLLIN)
        self.welcome: Welcome | None = None
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        for option in (zmq.LINGER, zmq.SNDHWM, zmq.RCVHWM):  # nothing lingers, nothing is dropped for being much
            self.socket.setsockopt(option, 0)
        self.monitor: Any = self.socket.get_monitor_socket(zmq.Event.DISCONNECTED)
        self.socket.connect(f"ipc://{home.socket('broker')}")

    def send(self, message: Message) -> None:
        """Send a message; never blocks."""
        frame = self._encode(message)
        self.socket.send(frame, 0, len(frame) < COPIED)

    def frame(self) -> bytes | None:
        """Return the next frame, None when there is none now."""
        ready: Any = self.socket.getsockopt(self._events)
        if ready & self._readable:
            return self.socket.recv(self._noblock)
        return None

    def decode(self, frame: bytes) -> Message:
        """Return the message in a frame; ProtocolError when it is none."""
        message: Message = self._decoder.decode(frame)
        return message

    def greet(self, number: int, timeout_s: float, alive: Callable[[], bool]) -> bool:
        """Say Hello and wait for the answer; False when none came in time, or nobody is ``alive`` any more to give it.

        Raises:
            JrmError: the broker refused us.
        """
        self.send(Hello(number, pid=os.getpid()))
        deadline = time.monotonic() + timeout_s
        while not self.socket.poll(LOOK_MS):
            if time.monotonic() > deadline or not alive():
                return False
        message = self.decode(self.socket.recv())
        if isinstance(message, Refused):
            raise message.error.error()
        if not isinstance(message, Welcome):
            raise ProtocolError(f"the broker greets with {type(message).__name__}", hint="jrm broker stop --force")
        self.welcome = message
        return True

    def close(self) -> None:
        """Close the socket; what was not sent yet is dropped (and repeated by whoever asked)."""
        self.socket.disable_monitor()
        self.socket.close(0)
        self.monitor.close(0)


def dial(home: Home, timeout_s: float, number: Callable[[], int]) -> Line:
    """Return a line to the broker of ``home``, starting one when there is none.

    Raises:
        SiteError: it cannot be started. LinkError: one runs but does not answer.
    """
    deadline = time.monotonic() + timeout_s
    reading = Reading()
    while True:
        if home.holder() is None:
            start_broker(home, max(1.0, deadline - time.monotonic()))
        line = Line(home)
        left = deadline - time.monotonic()
        try:
            # A holder that does not answer may be reading a long journal, or be just dying: look at it now and then.
            if line.greet(number(), min(2.0, max(0.2, left)), lambda: home.holder() is not None):
                return line
        except BaseException:
            line.close()
            raise
        line.close()
        if reading.moved(home):
            deadline = time.monotonic() + timeout_s
        elif left <= 0:
            holder = home.holder()
            raise LinkError(
                f"the broker (pid {holder.pid if holder else 'unknown'}) does not answer",
                code="JRM-T02",
                hint="try: jrm broker stop --force",
                retry=True,
            )
