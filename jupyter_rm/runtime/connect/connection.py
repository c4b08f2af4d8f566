"""A connection to one machine: commands, files and forwards through one login.

Knows: channels, and how many may be open at once. Does not know: SSH. Read next: ``life.py`` for how the login is kept,
``open.py`` for how it is made.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import secrets
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_rm.model.errors import JrmError, LinkError, RequestError
from jupyter_rm.runtime.connect.ask import Asker
from jupyter_rm.runtime.connect.files import FileInfo, Files, Progress
from jupyter_rm.runtime.connect.life import Life
from jupyter_rm.runtime.connect.link import Address, Link
from jupyter_rm.runtime.connect.quote import command_line
from jupyter_rm.runtime.connect.settings import ConnectSettings
from jupyter_rm.runtime.connect.slots import Slots
from jupyter_rm.runtime.connect.stream import Result, Stream
from jupyter_rm.runtime.connect.target import Route

_log = logging.getLogger(__name__)
# Where nothing may stay, a file session that nobody used for so long is closed, s.
IDLE_S = 2.0


class Forward:
    """A door whose visitors come out on the other side; it is put up again after a reconnect.

    Attributes:
        address: where it listens: a unix socket (``address.path``) or a port (``address.host``, ``address.port``). A
            reverse one that was asked for with any free port has another after a reconnect, if the first is taken.
    """

    def __init__(self, connection: Connection, listen: Address, reach: Address, reverse: bool) -> None:
        self._connection = connection
        self._asked = self._listen = listen
        self._reach, self._reverse = reach, reverse
        self.address = listen
        self._end: Callable[[], None] = lambda: None

    def _open(self, link: Link) -> None:
        make = link.reverse if self._reverse else link.forward
        try:
            self.address, self._end = make(self._listen, self._reach)
        except LinkError:
            if not self._reverse or self._listen == self._asked or not link.alive():
                raise
            # Somebody has the port now, or the server has not given up the earlier login yet.
            self.address, self._end = make(self._asked, self._reach)
        self._listen = self.address  # the same port again after a reconnect

    def _shut(self) -> None:
        with contextlib.suppress(JrmError, OSError):
            self._end()

    def close(self) -> None:
        """Take the door away."""
        self._connection._forget(self)
        self._shut()

    def __enter__(self) -> Forward:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Connection(Life):
    """One login at one machine. Every method may be called from any thread; all of them block.

    Args:
        route, settings, log_in, ask: as in ``Life``.

    Attributes:
        policy: what is allowed there.

    Raises:
        LinkError: the login failed; see ``open.connect``.
    """

    def __init__(self, route: Route, settings: ConnectSettings, log_in: Callable[[Asker], Link], ask: Asker) -> None:
        name = str(route.target)
        self._forwards: builtins.list[Forward] = []
        self._streams: set[Stream] = set()
        self._scratch: Path | None = None
        self.policy = settings.policy(route)
        most = min(settings.max_sessions, self.policy.sessions or settings.max_sessions)
        self._slots = Slots(most, settings.session_wait_s, name, lambda: self._files.reclaim())
        self._files = Files(
            self._new_files,
            lambda: self.alive,
            lambda argv: self.run(argv, timeout=3600),
            name,
            idle_s=None if self.policy.resident else IDLE_S,
        )
        super().__init__(route, settings, log_in, ask)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _broken(self) -> None:
        self._files.drop()

    def _renewed(self, link: Link) -> None:
        self._files.drop()
        with self._lock:
            forwards = [*self._forwards]
        for forward in forwards:
            forward._shut()
            try:
                forward._open(link)
            except LinkError as error:
                _log.warning("%s: the forward at %s is not back: %s", self.name, forward.address, error.message)

    def _ending(self) -> None:
        with self._lock:
            forwards, self._forwards = self._forwards, []
            streams, self._streams = self._streams, set()
        for forward in forwards:
            forward._shut()
        if self._link.alive():
            for stream in streams:
                with contextlib.suppress(JrmError):
                    if stream.group(2) > 1 and stream.rc is None:
                        # Its channel is free of our own rules already: the connection counts as closed.
                        with contextlib.closing(self._link.spawn(command_line(_kill(stream.pid, "TERM")))) as killer:
                            killer.wait(5)
        self._slots.close()
        self._files.drop()
        if self._scratch is not None:
            with contextlib.suppress(OSError):
                self._scratch.rmdir()

    # --- commands

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Stream:
        """Start a command in the home directory and return it with its streams live.

        Args:
            argv: program and arguments, passed on byte for byte; no shell interprets them. Public there: no secrets.
            env: variables added to the login's environment; public there too.

        Raises:
            RequestError: JRM-Q71, arguments that cannot be passed on.
            LinkError: JRM-T21 no connection, JRM-T27 every session of it is in use.
        """
        return self._start(argv, env, 4 << 20, False, long=True)

    def _start(self, argv: Sequence[str], env: Mapping[str, str] | None, limit: int, spill: bool, long: bool) -> Stream:
        mark = "jrm-" + secrets.token_hex(6)
        line = command_line(argv, env, mark)
        channel = self._slots.use(lambda: self._up().spawn(line), long)
        stream = Stream(channel, mark, self._signal, lambda: self._over(stream, long), limit, spill)
        with self._lock:
            self._streams.add(stream)
        return stream

    def _over(self, stream: Stream, long: bool) -> None:
        with self._lock:
            self._streams.discard(stream)
        self._slots.free(long)

    def _signal(self, group: int, signal: str) -> None:
        self.run(_kill(group, signal), timeout=30)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, env: Mapping[str, str] | None = None
    ) -> Result:
        """Run a command to its end.

        Args:
            argv: program and arguments, passed on byte for byte. Public on the other machine: no secrets.
            stdin: what it reads; the place for secrets.
            timeout: seconds after which it and its process group are killed.
            env: variables added to the login's environment.

        Returns:
            Exit code (127: no such program; 128 + n: ended by signal n), stdout and stderr.

        Raises:
            RequestError: JRM-Q71, arguments that cannot be passed on; JRM-Q74, more output than ``output_limit``.
            LinkError: JRM-T21 the connection was lost, JRM-T27 no free session, JRM-T28 ``timeout`` is over.
        """
        stream = self._start(argv, env, self.settings.output_limit, True, long=False)
        try:
            feeder = self._feed(stream, stdin)
            rc = stream.wait(timeout)
            if rc is None:
                with contextlib.suppress(JrmError):
                    stream.kill("KILL")
                    stream.wait(5)
                raise LinkError(
                    f"{self.name}: {argv[0]!r} was not done after {timeout:g} s and was killed",
                    code="JRM-T28",
                    hint="allow more time, or look at the load there",
                    retry=True,
                )
            out, err = stream.out.read_all(), stream.err.read_all()
            if feeder is not None:
                feeder.join(1)
        finally:
            stream._finish()
        if stream.out.spilled or stream.err.spilled:
            raise RequestError(
                f"{self.name}: {argv[0]!r} printed more than {self.settings.output_limit} bytes",
                code="JRM-Q74",
                hint="write to a file there and get() it, or use start()",
            )
        return Result(rc, out, err)

    @staticmethod
    def _feed(stream: Stream, stdin: bytes) -> threading.Thread | None:
        if not stdin:
            stream.close_stdin()
            return None

        def feed() -> None:
            with contextlib.suppress(OSError):  # it does not read all; that is its business
                stream.write(stdin)
            stream.close_stdin()

        thread = threading.Thread(target=feed, name="connect-in", daemon=True)
        thread.start()
        return thread

    # --- files

    def _new_files(self) -> Any:
        client = self._slots.use(lambda: self._up().files(), False)
        close, free = client.close, threading.Event()

        def closing() -> None:
            try:
                close()
            finally:
                if not free.is_set():
                    free.set()
                    self._slots.free(False)

        client.close = closing
        return client

    def put(
        self,
        local: str | Path,
        remote: str,
        *,
        resume: bool = True,
        mode: int | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Bring a file there, continuing an earlier attempt, and rename it into place once its SHA-256 is right.

        Args:
            local: file here.
            remote: path there; relative to home.
            resume: continue where an attempt with the same content stopped.
            mode: permissions; default: those of ``local``.
            progress: called with bytes done and bytes in all.

        Returns:
            The SHA-256 in hex.

        Raises:
            RequestError, SiteError: JRM-Q73, JRM-F60, JRM-F61.
            LinkError: JRM-T21; call again when the connection is back.
        """
        return self._files.put(Path(local), remote, resume=resume, mode=mode, progress=progress)

    def get(
        self,
        remote: str,
        local: str | Path,
        *,
        resume: bool = True,
        mode: int | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Bring a file here; as ``put`` the other way round."""
        return self._files.get(remote, Path(local), resume=resume, mode=mode, progress=progress)

    def read(self, path: str, limit: int = 16 << 20) -> bytes:
        """Return the content of a small file."""
        return self._files.read(path, limit)

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Write a small file: the old content or the new one is there, never a part."""
        self._files.write(path, data, mode)

    def list(self, path: str = ".") -> builtins.list[FileInfo]:
        """Return the entries of a directory, by name."""
        return self._files.list(path)

    def stat(self, path: str) -> FileInfo | None:
        """Return the facts about a path, None when nothing is there."""
        return self._files.stat(path)

    def mkdir(self, path: str, mode: int = 0o700, parents: bool = True) -> None:
        """Make a directory and what is missing above it; one that is there is fine."""
        self._files.mkdir(path, mode, parents)

    def remove(self, path: str, recursive: bool = False) -> None:
        """Remove a file, an empty directory, or with ``recursive`` a tree; what is not there is fine."""
        self._files.remove(path, recursive)

    # --- forwards

    def forward(self, host: str = "", port: int = 0, *, path: str = "", listen: Address | None = None) -> Forward:
        """Open a door here that leads to a port or unix socket which the other machine can reach.

        Args:
            host, port: the port there, as seen from there.
            path: or the path of a unix socket there.
            listen: where to listen here; default: a new unix socket in a private directory.

        Raises:
            LinkError: JRM-T30 the address cannot be had, JRM-T21 no connection.
        """
        return self._door(listen or self._private(), _goal(host, port, path), False)

    def reverse(self, listen: Address, host: str = "", port: int = 0, *, path: str = "") -> Forward:
        """Open a door on the other machine that leads to a port or unix socket here.

        Args:
            listen: where to listen there: ``Address(path=...)``, or ``Address("127.0.0.1", 0)`` for any free port.
            host, port: the port here.
            path: or the path of a unix socket here.

        Raises:
            LinkError: JRM-T30 refused there, JRM-T21 no connection.
        """
        return self._door(listen, _goal(host, port, path), True)

    def _door(self, listen: Address, reach: Address, reverse: bool) -> Forward:
        made = Forward(self, listen, reach, reverse)
        with self._lock:
            made._open(self._up())
            self._forwards.append(made)
        return made

    def _forget(self, forward: Forward) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._forwards.remove(forward)

    def _private(self) -> Address:
        with self._lock:
            if self._scratch is None:
                self.settings.control_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._scratch = Path(tempfile.mkdtemp(prefix="f", dir=self.settings.control_dir))
        return Address(path=str(self._scratch / secrets.token_hex(4)))


def _kill(group: int, signal: str) -> list[str]:
    return ["sh", "-c", 'kill -s "$1" -- "-$2"', "sh", signal, str(group)]


def _goal(host: str, port: int, path: str) -> Address:
    if bool(path) == bool(host and port) or not 0 <= port < 65536 or any(sign in host + path for sign in "\0\n\r "):
        raise RequestError(
            f"forward: host {host!r}, port {port}, path {path!r}", code="JRM-Q75", hint="give host and port, or path"
        )
    return Address(host, port, path)
