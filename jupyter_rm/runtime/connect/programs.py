"""A channel made of a local process: the whole of ``local.py``, and the ``ssh`` client of ``openssh.py``.

Knows: pipes and exit codes. Does not know: what the process is. Read next: ``link.py``.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def readable(stream: Any, timeout_s: float = 0.0) -> bool:
    """Return whether a read would return at once, or within a time; ``select`` fails for descriptors above 1023."""
    poll = select.poll()
    poll.register(stream, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(int(timeout_s * 1000)))


class ProcessChannel:
    """One process in a session of its own.

    Args:
        argv: what to run.
        explain: turns the exit code into the one to report, or raises LinkError.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        explain: Callable[[int], int] = lambda rc: rc,
    ) -> None:
        self._explain = explain
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        if self._process.stdin is None or self._process.stdout is None or self._process.stderr is None:
            raise OSError("no pipes")
        self._in, self._out, self._err = self._process.stdin, self._process.stdout, self._process.stderr

    def read_out(self, size: int) -> bytes:
        """Return some of stdout; empty at the end."""
        return self._read(self._out, size)

    def read_err(self, size: int) -> bytes:
        """Return some of stderr; empty at the end."""
        return self._read(self._err, size)

    @staticmethod
    def _read(pipe: object, size: int) -> bytes:
        try:
            return os.read(pipe.fileno(), size)  # type: ignore[attr-defined]
        except ValueError:  # closed here meanwhile
            return b""

    def write(self, data: bytes) -> None:
        """Write all to stdin."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._in.fileno(), view) :]
        except ValueError as error:
            raise BrokenPipeError(str(error)) from None

    def close_write(self) -> None:
        """End stdin."""
        with contextlib.suppress(OSError):
            self._in.close()

    def wait(self, timeout_s: float | None) -> int | None:
        """Return the exit code, None after ``timeout_s``."""
        try:
            rc = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        return self._explain(rc if rc >= 0 else 128 - rc)

    def close(self) -> None:
        """End the process here if it still runs, and close its pipes."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._in, self._out, self._err):
            with contextlib.suppress(OSError):
                pipe.close()

    # What paramiko's SFTP client asks of the thing that it speaks through.

    def recv(self, size: int) -> bytes:
        """Return some of stdout; empty at the end."""
        return self.read_out(size)

    def await_output(self, timeout_s: float) -> bool:
        """Return whether stdout has something, or its end, within a time."""
        return readable(self._out, timeout_s)

    def recv_ready(self) -> bool:
        """Return whether there is output to read."""
        return readable(self._out)

    def get_name(self) -> str:
        """Return a word for log lines."""
        return str(self._process.pid)

    def send(self, data: bytes) -> int:
        """Write all to stdin; the number of bytes."""
        self.write(data)
        return len(data)
