"""The agent's outbox on disk: numbered reports kept until the broker says it has checkpointed them.

A directory of segment files, each a run of records ``length, crc32, seq, body``. ``append`` is one write(2): it
survives the death of the agent; ``sync`` makes it survive the death of the node. After a crash a torn tail is cut
off; a damaged record ends its segment and is reported, the other segments are read on.

Knows: bytes and sequence numbers. Does not know: what a body means, who reads it. One writer at a time.
Read next: ``journal.py``, the other end of the same promise.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from jupyter_rm.model.errors import RequestError, SiteError
from jupyter_rm.runtime.journal_mark import sync, sync_directory

_HEAD = struct.Struct("<IIQ")  # body bytes, crc32 of seq and body, seq
_MAGIC = b"JRMSPL1\n"
RECORD_MAX = 64 << 20


@dataclass
class _Segment:
    path: Path
    first: int
    last: int
    size: int


@dataclass
class Spool:
    """An open spool; use :meth:`open`.

    Attributes:
        notes: one sentence for each thing found wrong at open.
        damaged: number of segments in which records were lost to damage (a torn tail is not damage).
    """

    path: Path
    segment_size: int
    notes: list[str] = field(default_factory=list)
    damaged: int = 0
    forgotten: int = 0
    _fd: int = -1
    _lock: int = -1
    _segments: list[_Segment] = field(default_factory=list)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, segment_size: int = 4 << 20) -> Spool:
        """Open or create the spool directory ``path``; ``segment_size`` in bytes.

        Raises:
            RequestError: JRM-R08 when another process writes to it.
            SiteError: JRM-A42 when the directory cannot be used.
        """
        self = cls(Path(path), segment_size)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RequestError(
                    f"{self.path}: another agent writes to this spool",
                    code="JRM-R08",
                    hint="stop it, or choose another place",
                ) from None
            for name in sorted(self.path.glob("*.spool")):
                self._load(name)
        except OSError as error:
            self.close()
            raise self._trouble(error) from error
        except BaseException:
            self.close()
            raise
        return self

    @property
    def last(self) -> int:
        """The highest sequence number in the spool, 0 when it is empty."""
        return max((segment.last for segment in self._segments), default=0)

    def append(self, seq: int, body: bytes) -> None:
        """Add a record that survives the agent at once and the node after ``sync``; ``seq`` must be above all before.

        Raises:
            SiteError: JRM-A42 when the disk is full or fails; nothing of the record stays behind.
        """
        if seq <= max(self.last, self.forgotten):
            raise ValueError(f"seq: {seq} is not above {max(self.last, self.forgotten)}")
        if len(body) > RECORD_MAX:
            raise ValueError(f"body: {len(body)} bytes are more than {RECORD_MAX}")
        try:
            if self._fd < 0 or self._segments[-1].size >= self.segment_size:
                self._next_segment(seq)
            segment = self._segments[-1]
            data = _record(seq, body)
            try:
                _write_all(self._fd, data, segment.size)
            except OSError:
                os.ftruncate(self._fd, segment.size)
                raise
            segment.size += len(data)
            segment.last = seq
        except OSError as error:
            raise self._trouble(error) from error

    def sync(self) -> None:
        """Make every record so far survive the node."""
        if self._fd >= 0:
            try:
                sync(self._fd)
            except OSError as error:
                raise self._trouble(error) from error

    def forget(self, upto: int) -> None:
        """Drop records numbered up to ``upto``: they leave :meth:`replay` now and the disk with their segment."""
        self.forgotten = max(self.forgotten, upto)
        gone = [segment for segment in self._segments if segment.last <= upto]
        for segment in gone:
            if self._fd >= 0 and segment is self._segments[-1]:
                os.close(self._fd)
                self._fd = -1
            self._segments.remove(segment)
            segment.path.unlink(missing_ok=True)

    def replay(self) -> list[tuple[int, bytes]]:
        """Return all (seq, body) not forgotten in this process, in order; read it after open and before sending."""
        found: list[tuple[int, bytes]] = []
        for segment in self._segments:
            records, _good = _parse(segment.path.read_bytes()[: segment.size])
            found += [record for record in records if record[0] > self.forgotten]
        return found

    def close(self) -> None:
        """Sync and release the spool; harmless when repeated."""
        try:
            self.sync()
        finally:
            for fd in (self._fd, self._lock):
                if fd >= 0:
                    os.close(fd)
            self._fd = self._lock = -1

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self, name: Path) -> None:
        data = name.read_bytes()
        records, good = _parse(data)
        records = [record for record in records if record[0] > self.last]
        if good < len(data):
            if _torn(data, good):
                self.notes.append(f"{name.name}: a half-written record at the end was cut off")
            else:
                self.damaged += 1
                kept = records[-1][0] if records else "none"
                self.notes.append(f"{name.name}: damaged after record {kept}, the rest is lost")
                # Kept for a look, under a name that is never read again.
                os.link(name, name.with_suffix(f".damaged-{os.getpid()}"))
            if not records:
                name.unlink()
                return
            temporary = name.with_suffix(".new")
            temporary.unlink(missing_ok=True)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write_all(fd, data[:good], 0)
                sync(fd)
            finally:
                os.close(fd)
            temporary.replace(name)
        elif not records:
            name.unlink()
            return
        self._segments.append(_Segment(name, records[0][0], records[-1][0], good))

    def _next_segment(self, seq: int) -> None:
        self.sync()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        name = self.path / f"{seq:020d}.spool"
        # A segment without a record is worthless: begin anew over a leftover of a full disk.
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, _MAGIC, 0)
            sync_directory(self.path)
        except OSError:
            os.close(fd)
            name.unlink(missing_ok=True)
            raise
        self._fd = fd
        self._segments.append(_Segment(name, seq, 0, len(_MAGIC)))

    def _trouble(self, error: OSError) -> SiteError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return SiteError(
            f"{self.path}: {'no space left for the spool' if full else error.strerror}",
            code="JRM-A42",
            hint="free some space there; no new task is started on this node until then",
            retry=True,
        )


def records_in(segments: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Return all good (seq, body) of segment files, given in the order of their names; what is damaged is left out."""
    found: list[tuple[int, bytes]] = []
    for data in segments:
        found += [one for one in _parse(data)[0] if not found or one[0] > found[-1][0]]
    return found


def _record(seq: int, body: bytes) -> bytes:
    return _HEAD.pack(len(body), _crc(seq, body), seq) + body


def _crc(seq: int, body: bytes) -> int:
    # The length goes in too: otherwise a flipped length could pair with a CRC that fits by chance far away.
    return zlib.crc32(body, zlib.crc32(struct.pack("<QI", seq, len(body))))


def _parse(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Return the good records from the start of a segment and the byte after them."""
    records: list[tuple[int, bytes]] = []
    if data[: len(_MAGIC)] != _MAGIC:
        return records, 0
    at = len(_MAGIC)
    while at + _HEAD.size <= len(data):
        size, crc, seq = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + size]
        if len(body) < size or _crc(seq, body) != crc or (records and seq <= records[-1][0]):
            break
        records.append((seq, body))
        at += _HEAD.size + size
    return records, at


def _torn(data: bytes, good: int) -> bool:
    """Tell a half-written last record (no intact record follows) from damage in the middle."""
    if good == 0:
        return len(data) <= len(_MAGIC)
    for at in range(good + 1, len(data) - _HEAD.size + 1):
        size, crc, seq = _HEAD.unpack_from(data, at)
        if size <= len(data) - at - _HEAD.size and _crc(seq, data[at + _HEAD.size : at + _HEAD.size + size]) == crc:
            return False
    return True


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written
