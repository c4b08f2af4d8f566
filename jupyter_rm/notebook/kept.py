"""``%%jrm sh --keep HOST``: a shell on another machine that outlives kernel, connection and notebook server.

The shell belongs to a small program there (:mod:`jupyter_rm.runtime.bootstrap.target.keeper`), one an account and host:
two processes, no open port, reached through the login like any command. Each cell is handed to it and its output
followed; when the line is cut or the kernel ends, the cell goes on, and its whole output can be had afterwards. Where
processes may not stay on the login node, ``%%jrm sh`` without ``--keep`` needs none.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
from pathlib import Path

from ..model.errors import JrmError, LinkError, RequestError, SiteError
from ..runtime import bootstrap
from ..runtime.connect import Asker, Connection, Connections, Nobody, Stream
from .shell import MOST_CELL, Write, _pump, _Until

_PROGRAM = Path(bootstrap.__file__).parent / "target" / "keeper.py"


class KeptShell:
    """The one shell of an account at a host that stays.

    Args:
        target: ``me@host``, ``ssh://me@host:port``, an alias of the SSH configuration, or ``local``.

    Attributes:
        directory: where it stood after the last cell that was followed here.
    """

    def __init__(self, target: str, connections: Connections) -> None:
        self.target = target
        self.directory = ""
        self._connections = connections
        self._program = ""
        self._busy = threading.Lock()

    @property
    def open(self) -> bool:
        """Was the host reached?"""
        return bool(self._program)

    def start(self, ask: Asker) -> None:
        """Log in, if need be, and put the program there if it is not; the shell begins with the first cell.

        Raises:
            RequestError, LinkError: as :func:`jupyter_rm.runtime.connect.connect`; JRM-Q38, nothing may stay there.
            SiteError: it cannot be put there.
        """
        policy = self._connections.policy(self.target)
        if not policy.resident:
            raise RequestError(
                f"sh --keep: nothing may stay on the login node {self.target} (site file {policy.source})",
                hint=f"%%jrm sh {self.target} without --keep: each cell is a shell of its own, in the same directory",
                code="JRM-Q38",
            )
        connection = self._connections.get(self.target, ask)
        if self._program:
            return
        body = _PROGRAM.read_bytes()
        home = connection.run(["sh", "-c", 'printf %s "$HOME"'], timeout=30).text
        folder = f"{home}/.jupyter_rm/shell"
        path = f"{folder}/keeper-{hashlib.sha256(body).hexdigest()[:12]}.py"
        there = connection.stat(path)
        if there is None or there.size != len(body):
            connection.mkdir(folder)
            connection.write(path, body)
        self._program = path

    def run(self, text: str, out: Write, err: Write) -> int:
        """Run a cell and return its exit code; its output is passed on as it comes, a bounded part of it.

        Raises:
            RequestError: the cell is too long, or another one of this kernel runs.
            SiteError: JRM-S36, no shell stays there. LinkError: the line was cut (the cell goes on); the shell ended.
            KeyboardInterrupt: Ctrl-C; what ran there was interrupted too, the shell goes on.
        """
        body = text.encode("utf-8", "replace")
        if len(body) > MOST_CELL or b"\0" in body:
            raise RequestError(
                f"sh: the cell is larger than {MOST_CELL >> 10} KiB or holds a NUL",
                hint="put it into a file there",
                code="JRM-Q40",
            )
        return self._follow(["run", "MARK", str(len(body))], body, out, err)

    def last(self, out: Write, err: Write) -> int:
        """Pass on all output of the last cell, whoever sent it, and what it goes on to print; return its exit code.

        Raises:
            RequestError: there was none. SiteError, LinkError, KeyboardInterrupt: as :meth:`run`.
        """
        number = self.state()[1]
        if number < 0:
            raise RequestError(
                f"sh: no cell has run at {self.target}", hint=f"%%jrm sh --keep {self.target}", code="JRM-Q40"
            )
        return self._follow(["follow", "MARK", str(number)], b"", out, err)

    def state(self) -> tuple[int, int, int, str]:
        """Return (process of the shell, 0: none; number of the last cell, -1: none; cells not ended; directory)."""
        words = self._connection().run(self._argv("state"), timeout=30).text.rstrip("\n").split(" ", 3)
        return int(words[0]), int(words[1]), int(words[2]), words[3]

    def _connection(self) -> Connection:
        return self._connections.get(self.target, Nobody())

    def _argv(self, *words: str) -> list[str]:
        return ["python3", self._program, *words]

    def _follow(self, words: list[str], body: bytes, out: Write, err: Write) -> int:
        if not self._busy.acquire(blocking=False):
            raise RequestError(
                f"sh: the shell at {self.target} is busy", hint="wait for the other cell", code="JRM-Q40"
            )
        mark = "jrm-end-" + secrets.token_hex(8)
        try:
            stream = self._connection().start(self._argv(*(mark if word == "MARK" else word for word in words)))
            try:
                if body:
                    stream.write(body)
                return self._watched(stream, mark, out, err)
            finally:
                with contextlib.suppress(JrmError, OSError):
                    stream.close()
        finally:
            self._busy.release()

    def _watched(self, stream: Stream, mark: str, out: Write, err: Write) -> int:
        ended, said = threading.Event(), [""]

        def note(text: str) -> None:
            said[0] = (said[0] + text)[-500:]
            err(text)

        head, tail = _Until(mark, out), _Until(mark, note)
        thread = threading.Thread(target=lambda: _pump(stream.err, tail, ended), name="jrm-sh", daemon=True)
        thread.start()
        interrupted = False
        while not (head.over or head.ended):
            try:
                _pump(stream.out, head, ended, once=True)
            except KeyboardInterrupt:
                if interrupted:  # it does not react: leave it alone, it can be followed again
                    ended.set()
                    raise
                interrupted = True
                self.interrupt()
        thread.join(5.0)
        ended.set()
        if not head.over:
            self._broken(stream, said[0])
        if interrupted:
            raise KeyboardInterrupt
        code, _, self.directory = head.last.partition(" ")
        if int(code) < 0:
            raise LinkError(
                f"the shell at {self.target} ended in this cell",
                code="JRM-T21",
                hint="the next cell starts a new one in the same directory; variables are lost",
            )
        return int(code)

    def _broken(self, stream: Stream, said: str) -> None:
        code: int | None = None
        with contextlib.suppress(LinkError):
            code = stream.wait(5.0)
        if code is None or not 0 <= code < 128:  # ended with the line, not by itself
            raise LinkError(
                f"the line to {self.target} was cut; the cell goes on there",
                code="JRM-T21",
                hint=f"all its output: %jrm sh {self.target} --last",
                retry=True,
            )
        raise SiteError(
            f"{self.target}: no shell stays there: {said.strip() or f'exit code {code}'}",
            code="JRM-S36",
            hint=f"%%jrm sh {self.target} without --keep needs nothing there but a login; --keep needs python3",
        )

    def interrupt(self) -> None:
        """Send Ctrl-C there."""
        with contextlib.suppress(JrmError):
            self._connection().run(self._argv("interrupt"), timeout=20)

    def end(self) -> None:
        """End the shell there with all that runs in it. Raises LinkError: it could not be told."""
        self._connection().run(self._argv("close"), timeout=30)

    def close(self) -> None:
        """Leave it: it stays, and so does the login."""
