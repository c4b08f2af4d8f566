"""The journal's SQLite file: its tables, its connection settings, and how its content is checked.

Every row carries a chain value: blake2b-128 of the chain value before it and of everything in the row. So any change
to a row, any missing row and any swapped order shows when rows are read, whatever SQLite's own checks say.

Knows: schema, pragmas, chain, which SQLite error means what to a person. Does not know: marks, locks, salvage.
Read next: ``journal.py``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from jupyter_rm.model.errors import JrmError, RequestError, SiteError

FORMAT = 1
APPLICATION = 0x6A726D31  # "jrm1"
PAGE = 4096
GENESIS = bytes(16)
READ_ROWS = 256  # rows fetched per statement: no cursor stays open between them, so a checkpoint is never blocked

# The chain columns stand before the body: reading them never touches a large body's overflow pages.
SCHEMA = """
CREATE TABLE row(no INTEGER PRIMARY KEY, session INTEGER NOT NULL, kind INTEGER NOT NULL, wall REAL NOT NULL,
                 chain BLOB NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE snapshot(session INTEGER NOT NULL, upto INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
                      UNIQUE(session, upto)) STRICT;
CREATE TABLE blob(sha256 BLOB NOT NULL UNIQUE, body BLOB NOT NULL) STRICT;
CREATE TABLE meta(key TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, value BLOB NOT NULL) STRICT;
"""

_LINK = struct.Struct("<16sqqqd")


_READ = """
SELECT r.no, r.session, r.kind, r.wall, r.body, r.chain, p.chain FROM row r LEFT JOIN row p ON p.no = r.no - 1
WHERE r.no > :after AND r.no <= :upto ORDER BY r.no LIMIT :most"""
_READ_SESSION = _READ.replace("WHERE", "WHERE r.session = :session AND")


class Row(NamedTuple):
    """One journalled fact: its number, session, kind, wall time (epoch seconds) and opaque body."""

    no: int
    session: int
    kind: int
    wall: float
    body: bytes


class Damage(Exception):
    """The file does not hold what was written; ``good_until`` rows from the start were fine."""

    def __init__(self, good_until: int, why: str) -> None:
        super().__init__(why)
        self.good_until = good_until


def link(previous: bytes, no: int, session: int, kind: int, wall: float, body: bytes) -> bytes:
    """Return the chain value of a row that follows a row with chain value ``previous`` (16 bytes)."""
    return hashlib.blake2b(_LINK.pack(previous, no, session, kind, wall) + body, digest_size=16).digest()


def seal(name: str, body: bytes) -> bytes:
    """Return the digest kept beside a snapshot or a meta value, bound to its name."""
    return hashlib.blake2b(name.encode() + b"\0" + body, digest_size=16).digest()


def sealed(name: str, body: object, digest: object) -> bool:
    """Tell whether a stored value matches the digest kept beside it."""
    return isinstance(body, bytes) and seal(name, body) == digest


def query(connection: apsw.Connection, sql: str, bindings: Any = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a statement; none of its cursors stays open."""
    return connection.execute(sql, bindings).fetchall()


def connect(path: Path, *, vfs: str | None = None, fresh: bool = False) -> apsw.Connection:
    """Open the only connection to ``path`` with the settings durability rests on, and check that SQLite took them.

    Raises:
        apsw.Error: whatever SQLite says.
        Damage: a setting was not accepted, which on a sound file and disk cannot happen.
    """
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if fresh else 0)
    connection = apsw.Connection(os.fspath(path), flags=flags, vfs=vfs)
    try:
        # Closing must not write: what a failed check saw has to be copied aside unchanged.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        if fresh:
            connection.pragma("page_size", PAGE)
        wanted: list[tuple[str, Any, Any]] = [
            ("locking_mode", "EXCLUSIVE", "exclusive"),  # before WAL: no shared-memory file, no second connection
            ("journal_mode", "WAL", "wal"),
            ("synchronous", 2, 2),
            ("wal_autocheckpoint", 0, 0),
            ("cell_size_check", 1, 1),
            ("mmap_size", 0, 0),
        ]
        if sys.platform == "darwin":
            wanted += [("fullfsync", 1, 1), ("checkpoint_fullfsync", 1, 1)]
        for name, value, answer in wanted:
            connection.pragma(name, value)
            got = connection.pragma(name)
            if got != answer:
                raise Damage(0, f"SQLite refused {name}={value} (it says {got})")
        if fresh:
            connection.execute(SCHEMA)
            connection.pragma("application_id", APPLICATION)
            connection.pragma("user_version", FORMAT)
    except BaseException:
        connection.close(True)
        raise
    return connection


def scan(
    connection: apsw.Connection,
    after: int,
    *,
    session: int | None = None,
    upto: int | None = None,
    portion: int = READ_ROWS,
) -> Iterator[tuple[Row, bytes]]:
    """Yield checked rows numbered above ``after`` with their chain values, in order, read ``portion`` at a time.

    Raises:
        Damage: a row is missing, changed or unreadable; rows up to its ``good_until`` are fine (without ``session``).
    """
    sql = _READ if session is None else _READ_SESSION
    top = (1 << 62) if upto is None else upto
    while True:
        try:
            found = query(connection, sql, {"after": after, "upto": top, "session": session, "most": portion})
        except apsw.Error as error:
            # A broken page somewhere in this portion: go row by row up to it.
            if not isinstance(error, (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, apsw.FormatError)):
                raise
            yield from _one_by_one(connection, after, session)
            raise Damage(after, f"SQLite: {error}") from error
        for no, owner, kind, wall, body, chain, previous in found:
            if no != after + 1 and session is None:
                raise Damage(after, f"row {after + 1} is missing")
            if no == 1:
                previous = GENESIS
            if previous is None:
                raise Damage(after, f"row {no - 1} is missing")
            try:
                right = link(previous, no, owner, kind, wall, body)
            except (struct.error, TypeError) as error:
                raise Damage(after, f"row {no} is not a row: {error}") from error
            if right != chain:
                raise Damage(after, f"row {no} does not match its chain value")
            after = no
            yield Row(no, owner, kind, wall, body), chain
        if len(found) < portion:
            return


def _one_by_one(connection: apsw.Connection, after: int, session: int | None) -> Iterator[tuple[Row, bytes]]:
    if session is not None:
        return
    previous = chain_of(connection, after)
    sql = "SELECT no, session, kind, wall, body, chain FROM row WHERE no = ?"
    while previous is not None:
        try:
            found = query(connection, sql, (after + 1,))
            if not found or link(previous, *found[0][:5]) != found[0][5]:
                return
        except (apsw.Error, struct.error, TypeError):
            return
        after, previous = found[0][0], found[0][5]
        yield Row(*found[0][:5]), found[0][5]


def chain_of(connection: apsw.Connection, no: int) -> bytes | None:
    """Return the stored chain value of row ``no`` (0: the fixed start), None when it is not there."""
    if no == 0:
        return GENESIS
    try:
        found = query(connection, "SELECT chain FROM row WHERE no = ?", (no,))
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError):
        return None
    return found[0][0] if found else None


def last_of(connection: apsw.Connection) -> int:
    """Return the number of the last row, 0 when there is none."""
    return int(query(connection, "SELECT coalesce(max(no), 0) FROM row")[0][0])


def translate(error: apsw.Error, path: Path) -> JrmError:
    """Turn an SQLite error into one a person can act on.

    Returns:
        SiteError JRM-D09 (full), JRM-D20 (damaged) or JRM-D16 (everything else), RequestError JRM-R08 (locked).
    """
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return RequestError(f"{path}: locked by another program ({error})", code="JRM-R08", hint="close that program")
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)):
        return damaged(path, 0, str(error))
    if isinstance(error, apsw.FullError) or (isinstance(error, apsw.IOError) and _no_room(path.parent)):
        return SiteError(
            f"{path}: no space left for the journal (disk or quota)",
            code="JRM-D09",
            hint="free some space there; new work is refused until then, running work goes on",
            retry=True,
        )
    return SiteError(
        f"{path}: the disk failed to take the journal ({type(error).__name__}: {error})",
        code="JRM-D16",
        hint="check the filesystem; new work is refused until it answers again, running work goes on",
        retry=True,
    )


def damaged(path: Path, good_until: int, why: str) -> SiteError:
    """Return the error for a journal that does not hold what was written."""
    return SiteError(
        f"{path}: the journal is damaged after row {good_until} ({why})",
        code="JRM-D20",
        hint="restart the broker: it keeps a copy and continues with the rows that are good",
    )


def _no_room(directory: Path) -> bool:
    """Tell a full quota from a broken disk: SQLite reports both as an I/O error."""
    probe = directory / f".room-{os.getpid()}"
    try:
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    try:
        return os.write(fd, bytes(65536)) < 65536
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    finally:
        os.close(fd)
        probe.unlink(missing_ok=True)
