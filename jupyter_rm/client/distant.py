"""Files at the sites of pilots, read through the broker: it has the login, this process has none.

Read in parts of bounded size, many small files at once. Knows paths and messages, no tasks. Read next: :mod:`.files`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.errors import LinkError
from ..model.messages import FetchFiles, FilesRead

if TYPE_CHECKING:
    from .session import Session

HERE = ("local", "noop")
PART = 4 << 20  # bytes of one file in one answer
SMALL, AT_ONCE = 16 << 10, 400  # bytes of each of many files, and how many in one answer


def elsewhere(session: Session, pilot: int) -> bool:
    """Is this pilot at a site that this machine may not share its files with?"""
    return session._replica.ledger.pilots[pilot].spec.site not in HERE


def seen_here(path: Path) -> bool:
    """Is the sandbox of this path in this machine's file system too?"""
    try:
        return path.parent.is_dir()
    except OSError:
        return False


def too_large(path: Path, limit: int) -> LinkError:
    """Return the error of a file that is too large to be shown."""
    return LinkError(f"{path} is larger than {limit >> 20} MiB", code="JRM-T11", hint=f"open it yourself: {path}")


def part(session: Session, pilot: int, path: Path, offset: int, size: int) -> tuple[int, bytes]:
    """Return (size of the whole file in bytes, -1: it is not there; at most ``size`` bytes from ``offset``).

    Args:
        offset: negative: from the end.

    Raises:
        LinkError: the broker or the site cannot be reached.
    """
    sizes, parts = _ask(session, pilot, [path], offset, size)
    return sizes[0], parts[0]


def read(session: Session, pilot: int, path: Path, limit: int) -> bytes:
    """Return a whole file; empty when it is not there.

    Raises:
        LinkError: it is larger than ``limit`` bytes, or the broker or the site cannot be reached.
    """
    return _rest(session, pilot, path, limit, *part(session, pilot, path, 0, PART))


def _rest(session: Session, pilot: int, path: Path, limit: int, size: int, begin: bytes) -> bytes:
    if size > limit:
        raise too_large(path, limit)
    data = bytearray(begin)
    while len(data) < size:
        _, more = part(session, pilot, path, len(data), PART)
        if not more:
            break  # it became shorter meanwhile
        data += more
    return bytes(data)


def read_all(session: Session, pilot: int, paths: Sequence[Path], limit: int) -> list[bytes]:
    """Return many files, in order; empty for those that are not there.

    Raises:
        LinkError: as :func:`read`.
    """
    out: list[bytes] = []
    for start in range(0, len(paths), AT_ONCE):
        some = paths[start : start + AT_ONCE]
        sizes, parts = _ask(session, pilot, some, 0, SMALL)
        for path, size, begin in zip(some, sizes, parts, strict=True):
            out.append(_rest(session, pilot, path, limit, size, begin) if size > len(begin) else begin)
    return out


def _ask(
    session: Session, pilot: int, paths: Sequence[Path], offset: int, size: int
) -> tuple[tuple[int, ...], tuple[bytes, ...]]:
    connection = session._connection
    asked = FetchFiles(connection.number(), session.name, pilot, tuple(map(str, paths)), offset, size)
    answer: FilesRead = connection.request(asked)
    return answer.sizes, answer.parts
