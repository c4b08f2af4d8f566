"""Opening a journal: decide what was found, repair what can be, and hand over a checked connection.

The order of the questions: is the file there; does SQLite's log hide damage; do format, pages and chain check out; does
the mark know rows that are gone. Any "no" leads to a copy of what was found and a report, never to silence.

Knows: checks and their order. Does not know: appending and reading. Read next: ``journal_repair.py``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import apsw

from jupyter_rm.model.errors import RequestError
from jupyter_rm.runtime import journal_repair as repair
from jupyter_rm.runtime import journal_store as store
from jupyter_rm.runtime.journal_mark import Mark, MarkFile, read_mark, sync_directory
from jupyter_rm.runtime.journal_repair import OpenReport, beside
from jupyter_rm.runtime.journal_store import GENESIS, Damage
from jupyter_rm.runtime.journal_wal import look

FULL_CHECK = 32 << 20  # bytes: files up to this size are checked completely at every open
QUICK_CHECK = 1 << 30  # bytes: after an unclean stop, larger files skip SQLite's own check (seconds to minutes)

_DAMAGE = (Damage, apsw.CorruptError, apsw.NotADBError, apsw.FormatError, apsw.SQLError)


@dataclass
class Opened:
    """A checked connection with the number and chain value of the last row, and how all this was found."""

    connection: apsw.Connection
    last: int
    head: bytes
    report: OpenReport


def start(path: Path, mark_file: MarkFile, vfs: str | None) -> Opened:
    """Bring the journal at ``path``, whose mark is locked, to a checked state.

    Raises:
        apsw.Error, OSError: the disk is full or fails.
    """
    repair.finish(path)
    mark = mark_file.newest
    notes = ["one slot of the mark is damaged"] if mark_file.damaged else []
    wal_path = beside(path, "-wal")
    if not path.exists() or (path.stat().st_size == 0 and not mark.turn):
        if mark.last == 0 and not wal_path.exists():
            return Opened(_create(path, vfs), 0, GENESIS, OpenReport("clean", 0))
        return _salvage(path, mark, "the file is gone", None, vfs)
    wal = look(wal_path)
    unclean = not mark.clean or wal.frames > 0
    if not mark.turn:
        notes.append("there is no readable mark")
    # Before SQLite opens the file: the copy has to show the log as it was found.
    aside = repair.copy_aside(path) if wal.damaged else None
    connection: apsw.Connection | None = None
    try:
        connection = store.connect(path, vfs=vfs)
        _check_format(connection)
        _check_pages(connection, path, unclean or mark.suspect)
        last, head = _check_content(connection, path, mark)
        if mark.last and last >= mark.last and store.chain_of(connection, mark.last) != mark.head:
            raise Damage(0, f"row {mark.last} is not the one the mark knows")
        if last >= mark.last and not wal.damaged:
            state: repair.State = "recovered" if unclean or notes else "clean"
            return Opened(connection, last, head, OpenReport(state, last, notes=tuple(notes)))
    except BaseException as error:
        if connection is not None:
            connection.close(True)
        if isinstance(error, _DAMAGE):
            return _salvage(path, mark, str(error), aside, vfs)
        raise
    connection.close(True)
    aside = aside or repair.copy_aside(path)
    notes.append("SQLite's log lost rows that had been written")
    if last >= mark.last and wal.lost_commits == 1:
        notes.append("a power cut in the middle of the last commit, never acknowledged, can look the same")
    # Counters were in the same log: an older value may have come back.
    lost = max(mark.last - last, 1)
    report = OpenReport("rows-missing", last, lost, aside, tuple(notes), meta_lost=True)
    return Opened(store.connect(path, vfs=vfs), last, head, report)


def _create(path: Path, vfs: str | None) -> apsw.Connection:
    """Make an empty journal under another name first, so that a half-made one is never found."""
    fresh = beside(path, ".new")
    fresh.unlink(missing_ok=True)
    beside(fresh, "-wal").unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    connection = store.connect(fresh, vfs=vfs, fresh=True)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    connection.close()
    beside(fresh, "-wal").unlink(missing_ok=True)
    fresh.replace(path)
    sync_directory(path.parent)
    return store.connect(path, vfs=vfs)


def _salvage(path: Path, mark: Mark, why: str, aside: Path | None, vfs: str | None) -> Opened:
    aside = aside or repair.copy_aside(path)
    _last, notes, meta_lost = repair.salvage(path, aside, vfs=vfs)
    connection = store.connect(path, vfs=vfs)
    try:
        last, head = repair.check_rows(connection, 0, GENESIS)
    except BaseException:
        connection.close(True)
        raise
    told = tuple(dict.fromkeys([why, *notes]))
    return Opened(
        connection, last, head, OpenReport("salvaged", last, max(mark.last - last, 0), aside, told, meta_lost)
    )


def refuse_foreign(path: Path) -> None:
    """Refuse a file that is no journal, and one of a newer format, by its first bytes alone.

    Raises:
        RequestError: JRM-D19; nothing was changed, not even by opening it as a database.
    """
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return
    mark = beside(path, ".mark")
    format_ = read_mark(mark).format if mark.exists() else 0
    application, version = int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big")
    # With a mark beside it, it was a journal: strange bytes are damage then, and a case for salvage.
    if head and not format_ and application != store.APPLICATION:
        raise RequestError(f"{path}: not a journal; nothing was changed", code="JRM-D19", hint="choose another path")
    if application == store.APPLICATION and version > store.FORMAT and not 0 < format_ <= store.FORMAT:
        raise RequestError(
            f"{path}: written by a newer version (format {version}, this one reads up to {store.FORMAT}); "
            "nothing was changed",
            code="JRM-D19",
            hint="use that version again, or another profile",
        )


def _check_format(connection: apsw.Connection) -> None:
    found = connection.pragma("application_id"), connection.pragma("user_version")
    if found != (store.APPLICATION, store.FORMAT):
        raise Damage(0, f"the file says it is of kind and format {found}")


def _check_pages(connection: apsw.Connection, path: Path, unclean: bool) -> None:
    size = path.stat().st_size
    check = "integrity_check" if size <= FULL_CHECK else "quick_check" if unclean and size < QUICK_CHECK else ""
    if check:
        answer = store.query(connection, f"PRAGMA {check}(1)")
        if answer != [("ok",)]:
            raise Damage(0, f"SQLite: {answer[0][0]}")


def _check_content(connection: apsw.Connection, path: Path, mark: Mark) -> tuple[int, bytes]:
    """Verify the chain, from the start for small or doubted files, else above the last checkpoint."""
    small = path.stat().st_size <= FULL_CHECK
    from_start = small or mark.suspect or not mark.turn
    after = 0 if from_start else min(mark.checkpointed, store.last_of(connection))
    last, head = repair.check_rows(connection, after, None)
    if small or mark.suspect:
        why = repair.check_rest(connection)
        if why:
            raise Damage(last, why)
    return last, head
