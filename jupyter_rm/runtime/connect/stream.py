"""A command that runs on the other machine, with its streams live.

The command's shell prints a mark and its process id first. Everything before the mark is noise of start-up files and is
dropped; the process id, which is also the process group, is what ``kill`` signals.

Knows: channels, buffers. Does not know: SSH. Read next: ``quote.py`` for the line that is run.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jupyter_rm.model.errors import LinkError
from jupyter_rm.runtime.connect.link import Channel

CHUNK = 1 << 16
_NOISE = 1 << 20  # bytes of start-up noise that are looked through for the mark
SIGNALS = {"HUP": 1, "INT": 2, "QUIT": 3, "KILL": 9, "USR1": 10, "USR2": 12, "TERM": 15, "CONT": 18, "STOP": 19}


@dataclass(frozen=True)
class Result:
    """What a command left: exit code (128 + n after signal n), stdout, stderr."""

    rc: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Stdout as text, without the last line end."""
        return self.out.decode(errors="replace").rstrip("\n")

    @property
    def complaint(self) -> str:
        """Stderr as text, without the last line end."""
        return self.err.decode(errors="replace").rstrip("\n")


class Pipe:
    """Bytes between a thread that reads the channel and whoever reads here.

    Args:
        limit: bytes held at once.
        spill: when full, drop what comes (and remember it) instead of holding the other side up.
    """

    def __init__(self, limit: int, spill: bool = False) -> None:
        self._limit = limit
        self._spill = spill
        self._held = bytearray()
        self._ended = False
        self._fed = 0
        self._change = threading.Condition()
        self.spilled = False

    def feed(self, data: bytes) -> None:
        """Add bytes; waits for room unless this pipe spills."""
        with self._change:
            if self._spill:
                room = self._limit - len(self._held)
                self.spilled = self.spilled or len(data) > room
                data = data[: max(0, room)]
            else:
                self._change.wait_for(lambda: len(self._held) < self._limit or self._ended)
            self._held += data
            self._fed += 1
            self._change.notify_all()

    def end(self) -> None:
        """Say that no more comes."""
        with self._change:
            self._ended = True
            self._change.notify_all()

    def settle(self, hurry: Callable[[], bool]) -> None:
        """Wait for the end of what a command that is over has printed.

        A daemon that it left behind may hold its stdout open for ever, so a second without any byte is the end too,
        unless it is the reader who keeps the bytes waiting.
        """
        with self._change:
            seen = -1
            while not self._ended and not hurry():
                if seen == self._fed and len(self._held) < self._limit:
                    return
                seen = self._fed
                self._change.wait_for(lambda: self._ended, 1)

    def read(self, size: int = CHUNK, timeout: float | None = None) -> bytes:
        """Return up to ``size`` bytes as soon as there are any; empty at the end.

        Raises:
            TimeoutError: nothing came within ``timeout`` seconds.
        """
        with self._change:
            if not self._change.wait_for(lambda: self._held or self._ended, timeout):
                raise TimeoutError(f"no output within {timeout} s")
            data = bytes(self._held[:size])
            del self._held[:size]
            self._change.notify_all()
            return data

    def read_all(self) -> bytes:
        """Return everything up to the end."""
        parts = []
        while data := self.read():
            parts.append(data)
        return b"".join(parts)

    def __iter__(self) -> Iterator[bytes]:
        """Yield lines with their ends, as they come."""
        rest = b""
        while data := self.read():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest


class Stream:
    """A running command. Read both ``out`` and ``err``: each holds at most 4 MiB, then the command waits.

    Attributes:
        out, err: what it prints.
        pid: process id and process group on the other machine, 0 before it is known.
    """

    def __init__(
        self,
        channel: Channel,
        mark: str,
        signal: Callable[[int, str], None],
        ended: Callable[[], None],
        limit: int = 4 << 20,
        spill: bool = False,
    ) -> None:
        self.out = Pipe(limit, spill)
        self.err = Pipe(limit, spill)
        self.pid = 0
        self._channel = channel
        self._mark = mark.encode() + b" "
        self._signal = signal
        self._ended = ended
        self._started = threading.Event()
        self._killed = 0
        self._rc: int | None = None
        self._lock = threading.Lock()
        self._over = False
        self._closing = False
        for work, name in ((self._pump_out, "out"), (self._pump_err, "err")):
            threading.Thread(target=work, name=f"connect-{name}", daemon=True).start()

    def _pump_out(self) -> None:
        seen = b""
        try:
            while data := self._channel.read_out(CHUNK):
                if self._started.is_set():
                    self.out.feed(data)
                    continue
                seen = (seen + data)[-_NOISE:]
                _, mark, rest = seen.partition(self._mark)
                if mark and b"\n" in rest:
                    number, _, rest = rest.partition(b"\n")
                    with contextlib.suppress(ValueError):
                        self.pid = int(number)
                    self._started.set()
                    if rest:
                        self.out.feed(rest)
            if not self._started.is_set():
                self.out.feed(seen)  # the shell never came to our line; what it said is the explanation
        except (OSError, EOFError):
            pass  # wait() tells why
        finally:
            self._started.set()
            self.out.end()

    def _pump_err(self) -> None:
        try:
            while data := self._channel.read_err(CHUNK):
                self.err.feed(data)
        except (OSError, EOFError):
            pass
        finally:
            self.err.end()

    def group(self, timeout_s: float) -> int:
        """Return the process group there, 0 when it is not known within a time."""
        self._started.wait(timeout_s)
        return self.pid

    def write(self, data: bytes) -> None:
        """Write to the command's stdin.

        Raises:
            OSError: it does not read any more.
        """
        self._channel.write(data)

    def close_stdin(self) -> None:
        """End the command's stdin."""
        with contextlib.suppress(OSError):
            self._channel.close_write()

    @property
    def rc(self) -> int | None:
        """The exit code, None while it runs (or while that is not known)."""
        if self._rc is None and not self._over:
            with contextlib.suppress(LinkError):
                self.wait(0)
        return self._rc

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit code (128 + n after signal n), None when it still runs after ``timeout`` seconds.

        Raises:
            LinkError: the connection was lost, so nobody knows.
        """
        if self._rc is not None:
            return self._rc
        try:
            rc = self._channel.wait(timeout)
        except LinkError:
            self._finish()
            raise
        if rc is None:
            return None
        # The group's shell died with the rest, so what the transport saw is its own word for "by a signal".
        self._rc = 128 + self._killed if self._killed and (rc < 0 or rc in (255, 128 + self._killed)) else rc
        self._finish()
        return self._rc

    def kill(self, signal: str = "TERM") -> None:
        """Signal the command and everything it started in its process group.

        Raises:
            LinkError: the connection is lost.
        """
        if signal not in SIGNALS:
            raise ValueError(signal)
        if self.group(10) > 1 and self.rc is None:
            if signal in ("TERM", "KILL", "INT", "HUP", "QUIT"):
                self._killed = SIGNALS[signal]
            self._signal(self.pid, signal)

    def close(self) -> None:
        """End the command if it runs, and free what it holds here; output not yet read is lost."""
        self._closing = True
        if not self._over:
            with contextlib.suppress(LinkError):
                if self.rc is None:
                    self.kill("TERM")
                    if self.wait(2) is None:
                        self.kill("KILL")
                        self.wait(2)
        self._finish()

    def _finish(self) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
        # Output that is still on its way is read by the pumps; a channel closed too early would cut it off.
        if self._rc is None:
            self._tidy()
        else:
            threading.Thread(target=self._tidy, name="connect-end", daemon=True).start()

    def _tidy(self) -> None:
        if self._rc is not None:
            for pipe in (self.out, self.err):
                pipe.settle(lambda: self._closing)
        try:
            self._channel.close()
        finally:
            self.out.end()
            self.err.end()
            self._ended()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
