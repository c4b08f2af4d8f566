"""Files of the other machine: small ones whole, large ones resumable, checked and put in place by one rename.

A transfer goes into a hidden file beside its goal whose name holds the SHA-256; a broken transfer is continued
there, and another content never mixes in. Only when the whole file has the right sum is it renamed over the goal.

Knows: what ``paramiko.SFTPClient`` and ``LocalFiles`` have in common. Does not know: SSH. Read next: ``connection.py``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename, dirname
from posixpath import join as join_path
from typing import Any

from jupyter_rm.model.errors import JrmError, LinkError, RequestError, SiteError
from jupyter_rm.runtime.connect.stream import Result

CHUNK = 32 << 10  # what every SFTP server takes in one request
SUM = 'sha256sum -- "$1" 2>/dev/null || shasum -a 256 -- "$1" 2>/dev/null || openssl dgst -r -sha256 "$1"'
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FileInfo:
    """One entry of a directory: ``kind`` is ``file``, ``dir``, ``link`` or ``other``; ``modified_s`` is Unix time."""

    name: str
    kind: str
    size: int
    mode: int
    modified_s: float

    @classmethod
    def of(cls, name: str, info: Any) -> FileInfo:
        """Return the entry described by stat-like attributes."""
        mode = info.st_mode or 0
        checks = (("file", stat.S_ISREG), ("dir", stat.S_ISDIR), ("link", stat.S_ISLNK))
        kind = next((word for word, is_kind in checks if is_kind(mode)), "other")
        return cls(name, kind, int(info.st_size or 0), stat.S_IMODE(mode), float(info.st_mtime or 0))


def file_sum(path: Path) -> str:
    """Return the SHA-256 of a file here, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while data := stream.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def _here(path: Path, act: Callable[[], object]) -> None:
    """Do something with a file of this machine, so that its failure is not taken for the other machine's."""
    try:
        act()
    except OSError as error:
        raise SiteError(f"{path}: {error.strerror}", code="JRM-F60", hint="check free space and quota here") from None


def check_path(path: str, field: str = "path") -> str:
    """Return a path that can mean one file.

    Raises:
        RequestError: JRM-Q73, empty or with a NUL.
    """
    if not path or "\0" in path:
        raise RequestError(f"{field}: {path!r} is not a path", code="JRM-Q73", hint="give a path without NUL")
    return path


class Session:
    """One file client at a time, made anew when the connection was; used under its lock.

    Args:
        make: returns a new client.
        alive: whether the connection lives; a failure on a dead one is the connection's.
        where: the machine's name, for messages.
        idle_s: a client that nobody used for so long is closed; None: it stays.
    """

    def __init__(
        self, make: Callable[[], Any], alive: Callable[[], bool], where: str, idle_s: float | None = None
    ) -> None:
        self._idle = idle_s
        self._timer: threading.Timer | None = None
        self._make = make
        self._alive = alive
        self._where = where
        self._lock = threading.RLock()
        self._client: Any = None
        self._given_up: Any = None
        self._busy = 0

    @contextlib.contextmanager
    def use(self, path: str = "") -> Iterator[Any]:
        """Give the client; errors of the other machine come out as SiteError or LinkError."""
        with self._lock:
            if self._client is None:
                self._client = self._make()
            client = self._client
            self._busy += 1
            try:
                yield client
            except JrmError:
                raise
            except (EOFError, ValueError):  # ValueError: the pipe to ssh was closed under us
                self.drop()
                raise self._cut(path) from None
            except OSError as error:
                if self._broken(client, error):
                    self.drop()
                    raise self._cut(path) from None
                raise self._failed(path, error) from None
            except Exception as error:
                # What paramiko says when the link ends while it waits for an answer; it is loaded only with SSH.
                if type(error).__name__ != "SSHException":
                    raise
                self.drop()
                raise self._cut(path) from None
            finally:
                self._busy -= 1
                if self._idle is not None and not self._busy:
                    self._close_later(self._idle)

    def _close_later(self, idle_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(idle_s, self.reclaim)
        self._timer.daemon = True
        self._timer.start()

    def _broken(self, client: Any, error: OSError) -> bool:
        if client is self._given_up or not self._alive() or str(error) == "Socket is closed":
            return True
        return error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF)

    def _cut(self, path: str) -> LinkError:
        return LinkError(
            f"{self._where}:{path}: the connection ended in the middle",
            code="JRM-T21",
            hint="repeat it; a transfer continues where it stopped",
            retry=True,
        )

    def _failed(self, path: str, error: OSError) -> SiteError:
        if isinstance(error, FileNotFoundError):
            why = "no such file or directory"
        elif isinstance(error, PermissionError):
            why = "permission denied"
        else:
            # SFTP's "Failure" has no number: a full disk, a quota, a directory in the way.
            why = error.strerror or str(error) or "failed"
        hint = "check path, owner, quota and free space there"
        return SiteError(f"{self._where}:{path}: {why}", code="JRM-F60", hint=hint)

    def drop(self) -> None:
        """Forget the client; the next use makes a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError, EOFError):
                client.close()

    def reclaim(self) -> None:
        """Close the client when nobody uses it."""
        if self._lock.acquire(blocking=False):
            try:
                if not self._busy:
                    self.drop()
            finally:
                self._lock.release()

    def abandon(self) -> None:
        """Close the client without waiting for whoever uses it, who then fails."""
        client = self._given_up = self._client
        if client is not None:
            with contextlib.suppress(OSError, EOFError):
                client.close()


class Files:
    """The files of one machine.

    Args:
        make: returns a new client.
        alive: whether the connection lives.
        run: runs a command there, for checksums.
        where: the machine's name, for messages.
        idle_s: see :class:`Session`.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        alive: Callable[[], bool],
        run: Callable[[list[str]], Result],
        where: str,
        idle_s: float | None = None,
    ) -> None:
        self._small = Session(make, alive, where, idle_s)
        self._bulk = Session(make, alive, where, idle_s)
        self._run = run
        self._where = where

    def drop(self) -> None:
        """Forget the clients of a connection that is gone."""
        for session in (self._small, self._bulk):
            session.abandon()
            session.drop()

    def reclaim(self) -> None:
        """Close clients that nobody uses."""
        self._bulk.reclaim()
        self._small.reclaim()

    # --- small files

    def read(self, path: str, limit: int) -> bytes:
        """Return the content of a file of at most ``limit`` bytes."""
        with self._small.use(check_path(path)) as client, client.open(path, "rb") as stream:
            size = stream.stat().st_size if hasattr(stream, "stat") else os.fstat(stream.fileno()).st_size
            if hasattr(stream, "prefetch") and 0 < size <= limit:
                stream.prefetch(size)
            data = bytes(stream.read(limit + 1))
        if len(data) > limit:
            raise RequestError(f"{self._where}:{path} is larger than {limit} bytes", code="JRM-Q73", hint="use get()")
        return data

    def write(self, path: str, data: bytes, mode: int) -> None:
        """Put ``data`` in place by one rename, never readable by others before ``mode`` says so."""
        part = self._beside(check_path(path), secrets.token_hex(8))
        with self._small.use(path) as client:
            try:
                with client.open(part, "wxb") as stream:
                    client.chmod(part, 0o600)
                    if hasattr(stream, "set_pipelined"):
                        stream.set_pipelined(True)
                    stream.write(data)
                client.chmod(part, mode)
                client.posix_rename(part, path)
            except OSError:
                with contextlib.suppress(OSError):
                    client.remove(part)
                raise

    def list(self, path: str) -> list[FileInfo]:
        """Return the entries of a directory by name."""
        with self._small.use(check_path(path)) as client:
            found = [FileInfo.of(entry.filename, entry) for entry in client.listdir_attr(path)]
        return sorted(found, key=lambda entry: entry.name)

    def stat(self, path: str) -> FileInfo | None:
        """Return the facts about a path, None when nothing is there."""
        with self._small.use(check_path(path)) as client:
            try:
                return FileInfo.of(basename(path), client.stat(path))
            except FileNotFoundError:
                return None

    def mkdir(self, path: str, mode: int, parents: bool) -> None:
        """Make a directory; one that is there already is fine."""
        with self._small.use(check_path(path)) as client:
            self._mkdir(client, path, mode, parents)

    def _mkdir(self, client: Any, path: str, mode: int, parents: bool) -> None:
        try:
            client.mkdir(path, mode)
        except FileNotFoundError:
            if not parents or dirname(path) in ("", path):
                raise
            self._mkdir(client, dirname(path.rstrip("/")), mode, parents)
            client.mkdir(path, mode)
        except OSError:
            if not stat.S_ISDIR(client.stat(path).st_mode):
                raise

    def remove(self, path: str, recursive: bool) -> None:
        """Remove a file or an empty directory, or with ``recursive`` a tree; what is not there is fine."""
        if recursive:
            if path.strip("/") in ("", ".", "..", "~") or path.endswith(("/..", "/.")):
                raise RequestError(
                    f"path: {path!r} is not removed as a tree", code="JRM-Q73", hint="name the directory"
                )
            done = self._run(["rm", "-rf", "--", check_path(path)])
            if done.rc:
                raise SiteError(f"{self._where}:{path}: {done.complaint}", code="JRM-F60", hint="check the owner")
            return
        with self._small.use(check_path(path)) as client, contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(client.lstat(path).st_mode):
                client.rmdir(path)
            else:
                client.remove(path)

    # --- large files

    def put(self, local: Path, remote: str, *, resume: bool, mode: int | None, progress: Progress | None) -> str:
        """Bring a file there; the SHA-256 that it has on both sides."""
        check_path(remote, "remote")
        try:
            size, wanted = local.stat().st_size, file_sum(local)
            mode = stat.S_IMODE(local.stat().st_mode) if mode is None else mode
        except OSError as error:
            raise RequestError(f"local: {local}: {error.strerror}", code="JRM-Q73", hint="check the path") from None
        part = self._beside(remote, wanted[:16])
        with self._bulk.use(remote) as client:
            for fresh in (not resume, True):
                self._send(client, local, part, size, 0 if fresh else self._size(client, part, size), progress)
                if self.sum(part, client) == wanted:
                    break
            else:
                client.remove(part)
                raise SiteError(
                    f"{self._where}:{remote}: what arrived differs from {local}",
                    code="JRM-F61",
                    hint="the file changed meanwhile, or the disk there is failing",
                    retry=True,
                )
            client.chmod(part, mode)
            try:
                client.posix_rename(part, remote)
            except OSError:  # a directory in the way: trying again would not help, so nothing is kept for it
                with contextlib.suppress(OSError):
                    client.remove(part)
                raise
        return wanted

    @staticmethod
    def _beside(path: str, key: str) -> str:
        return join_path(dirname(path), f".{basename(path)[:180]}.{key}.part")

    @staticmethod
    def _size(client: Any, path: str, most: int) -> int:
        try:
            size = int(client.stat(path).st_size)
        except FileNotFoundError:
            return 0
        return size if size <= most else 0

    @staticmethod
    def _send(client: Any, local: Path, part: str, size: int, start: int, progress: Progress | None) -> None:
        with local.open("rb") as source, client.open(part, "r+b" if start else "wb") as sink:
            if not start:
                client.chmod(part, 0o600)
            if hasattr(sink, "set_pipelined"):
                sink.set_pipelined(True)
            source.seek(start)
            sink.seek(start)
            done = start
            while data := source.read(CHUNK):
                sink.write(data)
                done += len(data)
                if progress is not None and (done == size or not done % (CHUNK * 32)):
                    progress(done, size)

    def get(self, remote: str, local: Path, *, resume: bool, mode: int | None, progress: Progress | None) -> str:
        """Bring a file here; the SHA-256 that it has on both sides."""
        check_path(remote, "remote")
        with self._bulk.use(remote) as client:
            for again in (False, True):
                info = client.stat(remote)
                size, wanted = int(info.st_size), self.sum(remote, client)
                part = local.parent / f".{local.name[:180]}.{wanted[:16]}.part"
                self._receive(client, remote, part, size, resume and not again, progress)
                if file_sum(part) == wanted:
                    break
                part.unlink()
            else:
                raise SiteError(
                    f"{self._where}:{remote}: what arrived differs from what is there",
                    code="JRM-F61",
                    hint="somebody writes to it; get it when it is complete",
                    retry=True,
                )
        part.chmod(stat.S_IMODE(info.st_mode) & 0o777 if mode is None else mode)
        part.replace(local)
        return wanted

    @staticmethod
    def _receive(client: Any, remote: str, part: Path, size: int, resume: bool, progress: Progress | None) -> None:
        try:
            handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise RequestError(f"local: {part}: {error.strerror}", code="JRM-Q73", hint="check the directory") from None
        with open(handle, "r+b") as sink, client.open(remote, "rb") as source:
            done = os.fstat(handle).st_size if resume else 0
            done = done if done <= size else 0
            sink.truncate(done)
            sink.seek(done)
            source.seek(done)
            if hasattr(source, "prefetch") and done < size:
                source.prefetch(size, 256)
            while done < size and (data := source.read(min(CHUNK, size - done))):
                _here(part, lambda piece=data: sink.write(piece))  # type: ignore[misc]
                done += len(data)
                if progress is not None and (done == size or not done % (CHUNK * 32)):
                    progress(done, size)
            _here(part, sink.flush)
            _here(part, lambda: os.fsync(handle))

    def sum(self, path: str, client: Any = None) -> str:
        """Return the SHA-256 of a file there, computed there; read back through ``client`` if no program there can."""
        done = self._run(["sh", "-c", SUM, "sh", path if path.startswith("/") else "./" + path])
        word = done.text.lstrip("\\")[:64]
        if done.rc == 0 and len(word) == 64:
            return word
        if client is None:
            raise SiteError(
                f"{self._where}:{path}: no checksum ({done.complaint})", code="JRM-F60", hint="check the path"
            )
        digest = hashlib.sha256()
        with client.open(path, "rb") as stream:
            if hasattr(stream, "prefetch"):
                stream.prefetch(None, 64)
            while data := stream.read(CHUNK):
                digest.update(data)
        return digest.hexdigest()
