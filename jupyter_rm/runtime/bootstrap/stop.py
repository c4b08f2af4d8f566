"""A connection on which a bootstrap can be stopped in the middle, from any thread.

What runs on the other side is ended with it: a command and all that it started; an installation lets go of its lock,
and what has arrived stays for the next one. Knows connections. Read next: ``ensure.py``,
:mod:`jupyter_rm.broker.faraway`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from jupyter_rm.model.errors import LinkError
from jupyter_rm.runtime.bootstrap.talk import Runs
from jupyter_rm.runtime.connect.files import FileInfo
from jupyter_rm.runtime.connect.stream import Result, Stream

LOOK_S = 0.25
SHORT_S = 120.0  # commands that may take longer than this are looked after


class Stopped(Exception):
    """It was asked to stop."""


class Stoppable:
    """A connection whose commands and transfers end when ``stop`` is set; see :class:`Runs`."""

    def __init__(self, connection: Runs, stop: threading.Event) -> None:
        self._connection, self._stop = connection, stop

    def _look(self) -> None:
        if self._stop.is_set():
            raise Stopped

    @property
    def name(self) -> str:
        """Name of the connection."""
        return self._connection.name

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, env: Mapping[str, str] | None = None
    ) -> Result:
        """Run a command to its end; raises :class:`Stopped`."""
        self._look()
        if timeout <= SHORT_S or stdin:
            result = self._connection.run(argv, stdin=stdin, timeout=timeout, env=env)
            self._look()
            return result
        end = time.monotonic() + timeout
        with self._connection.start(argv, env) as stream:
            stream.close_stdin()
            while (rc := stream.wait(LOOK_S)) is None:
                self._look()
                if time.monotonic() > end:
                    raise LinkError(
                        f"{self.name}: {argv[0]!r} was not done after {timeout:g} s and was killed",
                        code="JRM-T28",
                        hint="allow more time, or look at the load there",
                        retry=True,
                    )
            return Result(rc, stream.out.read_all(), stream.err.read_all())

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Stream:
        """Start a command; reading what it prints raises :class:`Stopped`, and leaving its block ends it."""
        self._look()
        return cast(Stream, _Watched(self._connection.start(argv, env), self._look))

    def put(
        self,
        local: str | Path,
        remote: str,
        *,
        resume: bool = True,
        mode: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> str:
        """Send a file; raises :class:`Stopped`, and what has arrived stays."""

        def hear(done: int, size: int) -> None:
            self._look()
            if progress is not None:
                progress(done, size)

        self._look()
        return self._connection.put(local, remote, resume=resume, mode=mode, progress=hear)

    def stat(self, path: str) -> FileInfo | None:
        """Return what a file is, None when it is not there."""
        self._look()
        return self._connection.stat(path)


class _Watched:
    """A stream whose output is waited for with an eye on the stop."""

    def __init__(self, stream: Stream, look: Callable[[], None]) -> None:
        self._stream, self._look = stream, look

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def out(self) -> _Watched:
        return self

    def read(self, size: int = 1 << 16, timeout: float | None = None) -> bytes:
        """Read from its output as :meth:`Pipe.read` does."""
        end = time.monotonic() + timeout if timeout is not None else float("inf")
        while True:
            self._look()
            try:
                return self._stream.out.read(size, LOOK_S)
            except TimeoutError:
                if time.monotonic() > end:
                    raise

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()
