"""A look into SQLite's write-ahead log before SQLite does.

SQLite reads the log up to the first frame whose checksum is wrong and forgets the rest silently. That is right for the
torn tail of a crash and wrong for a flipped bit in the middle. Here the frames behind the first bad one are
checked as well: every frame's checksum is seeded by the one stored in the frame before, so an undamaged
committed frame behind a damaged one can be recognised.

Knows: the file format (https://sqlite.org/fileformat2.html#the_write_ahead_log). Does not know: rows or marks.
Read next: ``journal_repair.py``.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jupyter_rm.runtime.journal_mark import sync

_HEADER = struct.Struct(">8I")
_LITTLE, _BIG = 0x377F0682, 0x377F0683
_FRAME_HEAD = 24
PLENTY = 64  # times what is asked for: a disk that is nearly full is left to what must be written
_CHUNK = 512  # frames checked at once: 2 MiB of pages

Words = npt.NDArray[np.uint32]


class WalLook(NamedTuple):
    """What stands in a write-ahead log.

    Attributes:
        frames: complete frames of the present generation in the file.
        good: frames SQLite will accept (the unbroken run from the start).
        lost_commits: intact commit frames behind the first broken one: certain sign of damage, not of a crash.
        header_bad: the file is not empty, yet its header does not check out.
    """

    frames: int = 0
    good: int = 0
    lost_commits: int = 0
    header_bad: bool = False

    @property
    def damaged(self) -> bool:
        """True when committed rows would vanish silently."""
        return self.lost_commits > 0


def look(path: Path) -> WalLook:
    """Scan the write-ahead log at ``path`` (no file: nothing in it) without changing it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return WalLook()
    with file:
        head = file.read(_HEADER.size)
        if not head:
            return WalLook()
        if not any(head):
            return WalLook()  # blanked
        if len(head) < _HEADER.size:
            return WalLook(header_bad=True)
        magic, _version, page, _sequence, *_rest = _HEADER.unpack(head)
        order = {_LITTLE: "<u4", _BIG: ">u4"}.get(magic, "<u4")
        if page < 512 or page > 65536 or page & (page - 1):
            page = 4096
        seed = np.frombuffer(head[24:32], ">u4").astype(np.uint32)
        expected = _sums(np.frombuffer(head[:24], order).astype(np.uint32)[None, :], np.zeros((1, 2), np.uint32))[0]
        header_ok = magic in (_LITTLE, _BIG) and bool((expected == seed).all())
        salt: bytes | None = head[16:24] if header_ok else None
        frames = good = lost = 0
        unbroken = header_ok
        while raw := file.read(_CHUNK * (_FRAME_HEAD + page)):
            count = len(raw) // (_FRAME_HEAD + page)
            if count == 0:
                break  # a half-written frame
            table = np.frombuffer(raw, np.uint8, count * (_FRAME_HEAD + page)).reshape(count, -1)
            if salt is None:
                salt = table[0, 8:16].tobytes()
            same = (table[:, 8:16] == np.frombuffer(salt, np.uint8)).all(axis=1)
            stored = table[:, 16:24].copy().view(">u4").astype(np.uint32)
            seeds = np.vstack([seed[None, :], stored[:-1]])
            body = np.hstack([table[:, :8], table[:, _FRAME_HEAD:]]).view(order).astype(np.uint32)
            right = (_sums(body, seeds) == stored).all(axis=1) & same
            commits = table[:, 4:8].any(axis=1)
            run = 0
            if unbroken:
                run = count if right.all() else int(np.argmin(right))
                unbroken = run == count
                good += run
            lost += int((right & commits)[run:].sum())
            frames += int(same.sum())
            seed = stored[-1]
    return WalLook(frames, good, lost, not header_ok)


def log_bytes(pages: int, page: int) -> int:
    """Return how long a log with ``pages`` pages of ``page`` bytes is."""
    return _HEADER.size + pages * (_FRAME_HEAD + page)


def blank(path: Path, used: int) -> None:
    """Make the log at ``path``, of which ``used`` bytes were written, empty without making it shorter.

    Only after a complete checkpoint. The header goes first and is synced: a log without header says nothing, however
    much of the rest is still there.
    """
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        length = min(os.fstat(fd).st_size, used)
        if length:
            os.pwrite(fd, bytes(_HEADER.size), 0)
            sync(fd)
            _zeros(fd, 0, length)
    finally:
        os.close(fd)


def lengthen(path: Path, length: int) -> None:
    """Give the log at ``path`` zeros to grow into, up to ``length`` bytes, if the disk has plenty of room.

    Syncing a file that also grew takes twice the time of syncing one that only changed. Raises OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        disk = os.fstatvfs(fd)
        if size < length and disk.f_bavail * disk.f_frsize > PLENTY * (length - size):
            _zeros(fd, size, length)
            sync(fd)
    finally:
        os.close(fd)


def _zeros(fd: int, begin: int, end: int) -> None:
    while begin < end:
        begin += os.pwrite(fd, bytes(min(end - begin, 1 << 20)), begin)


def _sums(words: Words, seeds: Words) -> Words:
    """Return SQLite's two running checksums of each row of ``words`` (frames x words), starting from ``seeds``.

    The loop ``s0 += x0 + s1; s1 += x1 + s0`` is linear, so a row is a dot product with powers of [[1, 1], [1, 2]]
    modulo 2**32.
    """
    pairs = words.shape[1] // 2
    powers = _powers(pairs)
    first = words[:, 0::2]
    second = first + words[:, 1::2]
    weight: Any = powers[pairs - 1 :: -1] if pairs else powers[:0]
    out = np.empty((words.shape[0], 2), np.uint32)
    for which in (0, 1):
        out[:, which] = (first * weight[:, which, 0] + second * weight[:, which, 1]).sum(axis=1, dtype=np.uint32)
        out[:, which] += seeds[:, 0] * powers[pairs, which, 0] + seeds[:, 1] * powers[pairs, which, 1]
    return out


_cache: dict[int, Words] = {}


def _powers(count: int) -> Words:
    """Return powers 0..count of [[1, 1], [1, 2]] modulo 2**32."""
    if count not in _cache:
        out = np.empty((count + 1, 2, 2), np.uint32)
        a, b, c, d = 1, 0, 0, 1
        for index in range(count + 1):
            out[index] = ((a, b), (c, d))
            a, b, c, d = (a + c) & 0xFFFFFFFF, (b + d) & 0xFFFFFFFF, (a + 2 * c) & 0xFFFFFFFF, (b + 2 * d) & 0xFFFFFFFF
        _cache[count] = out
    return _cache[count]
