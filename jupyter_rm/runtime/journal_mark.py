"""The high-water mark of a journal: a 1.5 KiB file beside it, which is also its lock.

SQLite drops damaged frames of its write-ahead log without a word. The mark remembers, outside SQLite, how many rows
were once durable and the chain value of the last one, so that such a loss is noticed at the next open.
Two slots are written in turn, each with its own CRC: a torn write destroys at most the newer one.

Knows: slots, the lock, who holds it. Does not know: SQLite. Read next: ``journal.py``.
"""

from __future__ import annotations

import fcntl
import os
import platform
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from jupyter_rm.model.errors import RequestError, SiteError

_SLOT = struct.Struct("<8sIIQQQ16s")
_CRC = struct.Struct("<I")
_MAGIC = b"JRMMARK1"
_SLOT_SIZE = 512
_OWNER_AT = 2 * _SLOT_SIZE
_OWNER_SIZE = 256


class Mark(NamedTuple):
    """What was known to be durable at some moment."""

    turn: int = 0
    format: int = 0
    clean: bool = False
    suspect: bool = False
    last: int = 0
    checkpointed: int = 0
    head: bytes = bytes(16)


class MarkFile:
    """The open, locked mark file of one journal."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self.path = path
        self.newest, self.damaged = _read(fd)

    @classmethod
    def open(cls, path: Path, journal: Path) -> MarkFile:
        """Open or create ``path``, take its lock and write this process's number into it.

        Raises:
            RequestError: JRM-R08 when another process (or another Journal of this one) holds the lock.
            SiteError: JRM-D16 when the file cannot be opened.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SiteError(
                f"{path}: {error.strerror}", code="JRM-D16", hint="check that the directory is yours and writable"
            ) from error
        try:
            lock(fd, journal, shared=False)
            owner = f"{os.getpid()} {platform.node()}".encode()[:_OWNER_SIZE].ljust(_OWNER_SIZE, b"\0")
            os.pwrite(fd, owner, _OWNER_AT)
            return cls(fd, path)
        except BaseException:
            os.close(fd)
            raise

    def write(self, mark: Mark) -> Mark:
        """Write ``mark`` durably into the older slot and return it with its turn number."""
        turn = self.newest.turn + 1
        mark = mark._replace(turn=turn)
        flags = int(mark.clean) | int(mark.suspect) << 1
        data = _SLOT.pack(_MAGIC, mark.format, flags, turn, mark.last, mark.checkpointed, mark.head)
        os.pwrite(self._fd, data + _CRC.pack(zlib.crc32(data)), (turn % 2) * _SLOT_SIZE)
        sync(self._fd)
        self.newest = mark
        return mark

    def close(self) -> None:
        """Release the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_mark(path: Path) -> Mark:
    """Return the newest valid mark in a file without locking it; ``Mark()`` when there is none."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _read(fd)[0]
    finally:
        os.close(fd)


def lock(fd: int, journal: Path, *, shared: bool) -> None:
    """Lock an open mark file or say who holds it.

    Raises:
        RequestError: JRM-R08, naming the holder's process number and host.
    """
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(fd, _OWNER_SIZE, _OWNER_AT).rstrip(b"\0").decode(errors="replace").split(" ", 1)
        who = f"process {owner[0]} on {owner[1]}" if len(owner) == 2 else "another process"
        raise RequestError(
            f"{journal}: the journal is in use by {who}", code="JRM-R08", hint="use that broker, or stop it first"
        ) from error


def sync(fd: int) -> None:
    """Make the content of an open file durable (data and size, not times)."""
    full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync stops at the drive's cache
    if full is not None:
        fcntl.fcntl(fd, full)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def sync_directory(path: Path) -> None:
    """Make creations, renames and removals inside a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(fd: int) -> tuple[Mark, bool]:
    """Return the newest valid slot (turn 0 when there is none) and whether a written slot was damaged."""
    newest, damaged = Mark(), False
    for slot in (0, 1):
        data = os.pread(fd, _SLOT.size + _CRC.size, slot * _SLOT_SIZE)
        if not data.strip(b"\0"):
            continue
        if len(data) < _SLOT.size + _CRC.size or zlib.crc32(data[: _SLOT.size]) != _CRC.unpack(data[_SLOT.size :])[0]:
            damaged = True
            continue
        magic, format_, flags, turn, last, checkpointed, head = _SLOT.unpack(data[: _SLOT.size])
        if magic == _MAGIC and turn > newest.turn:
            newest = Mark(turn, format_, bool(flags & 1), bool(flags & 2), last, checkpointed, head)
    return newest, damaged
