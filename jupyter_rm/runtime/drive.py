"""The loop of a shell: wait for sockets, descriptors and time; gather everything at hand; then act once.

All inputs that are ready are taken in before anything is decided, so that one journal commit and one message serve many
events: batching comes from load, not from timers, and an idle program answers at once. Knows ZeroMQ sockets and file
descriptors, nothing of what they carry. Read next: :mod:`jupyter_rm.broker.service`, :mod:`jupyter_rm.agent.service`.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import os
import signal
from collections import deque
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any

import zmq

from .clock import Clock

# Inputs taken from one socket before the others get their turn.
ROUND_FRAMES = 256
ROUND_BYTES = 32 << 20
# Frames up to this length are copied: sharing one costs more.
COPIED = 1 << 16
# Plain numbers: combining and converting zmq's own flags takes longer than receiving.
_NOBLOCK, _MORE, _EVENTS, _HAS_MORE, _READABLE = map(
    int, (zmq.NOBLOCK, zmq.SNDMORE, zmq.EVENTS, zmq.RCVMORE, zmq.POLLIN)
)


class Drive:
    """A poll loop in one thread.

    Args:
        after: called once after every round of callbacks.
    """

    def __init__(self, clock: Clock, after: Callable[[], None]) -> None:
        self.clock = clock
        self._after = after
        self._poller = zmq.Poller()
        self._callbacks: dict[Any, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, float, Callable[[], None]]] = []
        self._order = count()
        self._running = False
        self._idle: Callable[[], None] | None = None
        self._signals: list[int] = []
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        self.watch(self._wake_read, self._drain_wake)
        self._on_signal: dict[int, Callable[[], None]] = {}
        self._called: deque[Callable[[], None]] = deque()

    def watch(self, source: Any, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the socket or descriptor is readable."""
        self._poller.register(source, zmq.POLLIN)
        self._callbacks[source] = callback

    def forget(self, source: Any) -> None:
        """Watch a socket or descriptor no longer."""
        if source in self._callbacks:
            del self._callbacks[source]
            self._poller.unregister(source)

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` every so many seconds."""
        heapq.heappush(self._timers, (self.clock.now() + seconds, next(self._order), seconds, callback))

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` once after so many seconds."""
        heapq.heappush(self._timers, (self.clock.now() + seconds, next(self._order), 0.0, callback))

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, as soon as nothing has come in for a millisecond; the latest one counts."""
        self._idle = callback

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` from the loop when the signal arrives."""
        self._on_signal[number] = callback
        signal.signal(number, self._signaled)

    def _signaled(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signals.append(number)
        self.wake()

    def wake(self) -> None:
        """End the current wait; safe from other threads and signal handlers."""
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass

    def call(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` from the loop soon; safe from other threads, in order."""
        self._called.append(callback)
        with contextlib.suppress(OSError):  # the loop was closed: nobody is there to call it
            self.wake()

    def _drain_wake(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass

    def stop(self) -> None:
        """Leave the loop after this round."""
        self._running = False

    def run(self) -> None:
        """Loop until :meth:`stop`."""
        self._running = True
        # What was made at start stays for good: the collector need not walk over it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        while self._running:
            self.once()

    def once(self) -> None:
        """Wait for something to happen and act on it."""
        wait = 3600.0
        if self._timers:
            wait = max(0.0, self._timers[0][0] - self.clock.now())
        ready = self._poller.poll(int(wait * 1000) + (1 if 0 < wait < 3600 else 0) if self._idle is None else 1)
        for source, _ in ready:
            callback = self._callbacks.get(source)
            if callback is not None:
                callback()
        if not ready and self._idle is not None:
            idle, self._idle = self._idle, None
            idle()
        while self._signals:
            self._on_signal[self._signals.pop(0)]()
        for _ in range(len(self._called)):
            self._called.popleft()()
        now = self.clock.now()
        while self._timers and self._timers[0][0] <= now:
            _, _, period, callback = heapq.heappop(self._timers)
            if period:
                heapq.heappush(self._timers, (now + period, next(self._order), period, callback))
            callback()
        self._after()

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._wake_read)
        os.close(self._wake_write)


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def drain(socket: zmq.Socket[bytes], take: Callable[[list[bytes]], None]) -> None:
    """Pass the messages waiting in a socket to ``take``, at most one round's worth."""
    size = 0
    get: Callable[[int], Any] = socket.getsockopt
    receive = socket.recv
    for _ in range(ROUND_FRAMES):
        if not get(_EVENTS) & _READABLE:
            return
        frames = [receive(_NOBLOCK)]
        while get(_HAS_MORE):
            frames.append(receive(_NOBLOCK))
        take(frames)
        size += sum(map(len, frames))
        if size > ROUND_BYTES:
            return


def post(socket: zmq.Socket[bytes], frame: bytes, route: bytes | None = None) -> None:
    """Send a frame, to ``route`` when the socket is a router; zmq.ZMQError when it does not leave at once."""
    if route is not None:
        socket.send(route, _NOBLOCK | _MORE)
    socket.send(frame, _NOBLOCK, len(frame) <= COPIED)
