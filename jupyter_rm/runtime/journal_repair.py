"""What happens when a journal is not what it should be: keep a copy, save the good rows, say so.

Order of a salvage, so that a crash at any point loses nothing: copy everything to ``journal.damaged-<n>/`` and sync;
build ``salvaged`` inside it and sync; only then replace the journal by it. A finished ``salvaged`` found at the
next open is put in place then (:func:`finish`).

Knows: files, prefixes, reports. Does not know: appending. Read next: ``journal_store.py``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import apsw

from jupyter_rm.runtime.journal_mark import sync_directory
from jupyter_rm.runtime.journal_store import Damage, chain_of, connect, scan, sealed

State = Literal["clean", "recovered", "salvaged", "rows-missing"]


@dataclass(frozen=True)
class OpenReport:
    """How the journal was found.

    Attributes:
        state: ``clean``; ``recovered`` (the last program did not close it; no row the mark knows is missing);
            ``rows-missing`` (sound, but rows that had been written are gone); ``salvaged`` (damaged; rebuilt from
            the good rows).
        good_until: number of the last good row.
        lost: rows known to be gone (a lower bound: younger ones may be gone too).
        copy: directory with the files as they were found, None when nothing was wrong.
        notes: one sentence for each thing found.
        meta_lost: meta values (counters) may be gone or old; choose new ones far above any used before.
    """

    state: State
    good_until: int
    lost: int = 0
    copy: Path | None = None
    notes: tuple[str, ...] = ()
    meta_lost: bool = False

    @property
    def text(self) -> str:
        """The report as one line for a person; starts with the code when something is wrong."""
        why = "; ".join(self.notes)
        if self.state == "clean":
            return f"Journal sound: {self.good_until} rows."
        if self.state == "recovered":
            return f"Journal recovered after an unclean stop: {self.good_until} rows." + (f" ({why})" if why else "")
        return (
            f"[JRM-D20] Journal damaged after row {self.good_until} ({why}). {self.good_until} rows good, at least "
            f"{self.lost} lost. Kept a copy in {self.copy}."
        )


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a companion file such as ``-wal`` or ``.mark``."""
    return path.with_name(path.name + suffix)


def copy_aside(path: Path) -> Path:
    """Copy the journal's files, whatever is there, into the next free ``<path>.damaged-<n>`` and sync them."""
    number = 1
    while True:
        target = beside(path, f".damaged-{number}")
        try:
            target.mkdir(mode=0o700)
            break
        except FileExistsError:
            number += 1
    for suffix in ("", "-wal", ".mark"):
        source = beside(path, suffix)
        if source.exists():
            copy_file(source, target / source.name)
    sync_directory(target)
    sync_directory(path.parent)
    return target


def copy_file(source: Path, target: Path) -> None:
    """Copy one file to a new private one and sync it."""
    with source.open("rb") as reader:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())


def salvage(path: Path, copy: Path, *, vfs: str | None = None) -> tuple[int, list[str], bool]:
    """Rebuild the journal at ``path`` from the files in ``copy`` and put it in place.

    Returns:
        Number of the last good row, notes, and whether meta values may be gone.
    """
    best: tuple[int, list[str], bool] = (-1, [], True)
    for attempt, patch in enumerate(("as found", "new first page", "new first page, no log")):
        work = copy / f"work-{attempt}"
        work.mkdir(mode=0o700)
        source = work / path.name
        if (copy / path.name).exists():
            copy_file(copy / path.name, source)
        wal = beside(copy / path.name, "-wal")
        if wal.exists() and attempt < 2:
            copy_file(wal, beside(source, "-wal"))
        if attempt and not _new_first_page(source, work):
            shutil.rmtree(work)
            continue
        result = _rebuild(source, work / "out", vfs)
        # The first page is seldom the trouble: the other attempts are for a file that yields nothing.
        if result[0] > best[0]:
            best = result
            (work / "out").replace(copy / "candidate")
            if attempt:
                best[1].append(f"read with a {patch}")
        shutil.rmtree(work)
        if best[0] > 0:
            break
    (copy / "candidate").replace(copy / "salvaged")
    sync_directory(copy)
    finish(path)
    return best


def finish(path: Path) -> None:
    """Put a completed ``salvaged`` file in the journal's place, if a salvage left one."""
    for copy in sorted(path.parent.glob(f"{path.name}.damaged-*")):
        done = copy / "salvaged"
        if done.exists():
            # The old log must go first: SQLite would apply it to the new file.
            beside(path, "-wal").unlink(missing_ok=True)
            sync_directory(path.parent)
            done.replace(path)
            sync_directory(path.parent)
            sync_directory(copy)


def _new_first_page(source: Path, work: Path) -> bool:
    """Overwrite page 1 (settings and schema, the same in every journal) with a fresh one sized for the file."""
    if not source.exists() or source.stat().st_size < 8192:
        return False
    template = work / "template"
    fresh = connect(template, fresh=True)
    fresh.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    fresh.close()
    page = bytearray(template.read_bytes()[:4096])
    page[28:32] = (source.stat().st_size // 4096).to_bytes(4, "big")
    page[92:96] = page[24:28]
    page[32:40] = bytes(8)
    with source.open("r+b") as file:
        file.write(page)
    template.unlink()
    return True


def _rebuild(source: Path, target: Path, vfs: str | None) -> tuple[int, list[str], bool]:
    """Copy everything that checks out from ``source`` to a new journal file ``target``."""
    notes: list[str] = []
    meta_lost = True
    last = 0
    out = connect(target, fresh=True, vfs=vfs)
    try:
        out.pragma("synchronous", 0)  # one sync at the end is enough: an unfinished file is never used
        out.execute("BEGIN")
        if source.exists():
            try:
                old = connect(source)
            except (apsw.Error, Damage) as error:
                notes.append(f"not readable as a database: {error}")
            else:
                try:
                    last = _copy_rows(old, out, notes)
                    meta_lost = _copy_rest(old, out, last, notes)
                finally:
                    old.close(True)
        else:
            notes.append("the file is gone")
        out.execute("COMMIT")
        out.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    finally:
        out.close(True)
    fd = os.open(target, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    return last, notes, meta_lost


def _copy_rows(old: apsw.Connection, out: apsw.Connection, notes: list[str]) -> int:
    last = 0
    try:
        for row, chain in scan(old, 0):
            out.execute(
                "INSERT INTO row(no, session, kind, wall, body, chain) VALUES(?,?,?,?,?,?)",
                (row.no, row.session, row.kind, row.wall, row.body, chain),
            )
            last = row.no
    except (Damage, apsw.Error) as error:
        notes.append(str(error))
    return last


def _copy_rest(old: apsw.Connection, out: apsw.Connection, last: int, notes: list[str]) -> bool:
    """Copy snapshots, blobs and meta values that match their digests; tell whether a meta value may be missing."""
    dropped = 0
    for session, upto, digest, body in _quietly(old, "SELECT session, upto, digest, body FROM snapshot", notes):
        if upto <= last and sealed(f"{session} {upto}", body, digest):
            out.execute("INSERT OR IGNORE INTO snapshot VALUES(?,?,?,?)", (session, upto, digest, body))
        else:
            dropped += 1
    for sha256, body in _quietly(old, "SELECT sha256, body FROM blob", notes):
        if hashlib.sha256(body).digest() == sha256:
            out.execute("INSERT OR IGNORE INTO blob VALUES(?,?)", (sha256, body))
        else:
            dropped += 1
    meta_lost = False
    before = len(notes)
    for key, digest, value in _quietly(old, "SELECT key, digest, value FROM meta", notes):
        if sealed(key, value, digest):
            out.execute("INSERT OR IGNORE INTO meta VALUES(?,?,?)", (key, digest, value))
        else:
            meta_lost = True
            dropped += 1
    if dropped:
        notes.append(f"{dropped} snapshots, blobs or counters did not match their digests and were left out")
    return meta_lost or len(notes) > before + bool(dropped)


def _quietly(connection: apsw.Connection, sql: str, notes: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yield what a damaged table still gives."""
    try:
        yield from connection.execute(sql)
    except apsw.Error as error:
        notes.append(f"{sql.rsplit(' ', 1)[1]}: {error}")


def check_rest(connection: apsw.Connection) -> str:
    """Return what is wrong with snapshots, blobs and meta values, empty when all match their digests."""
    row: Any
    for row in connection.execute("SELECT session || ' ' || upto, body, digest FROM snapshot"):
        if not sealed(*row):
            return f"snapshot {row[0]} (session, row) does not match its digest"
    for row in connection.execute("SELECT sha256, body FROM blob"):
        if hashlib.sha256(row[1]).digest() != row[0]:
            return "a blob does not match its digest"
    for row in connection.execute("SELECT key, value, digest FROM meta"):
        if not sealed(*row):
            return f"meta value {row[0]!r} does not match its digest"
    return ""


def check_rows(connection: apsw.Connection, after: int, head: bytes | None) -> tuple[int, bytes]:
    """Verify the chain above row ``after`` (whose chain value must be ``head``, when known).

    Returns:
        Number and chain value of the last row.

    Raises:
        Damage: with the number of the last row that is fine.
    """
    stored = chain_of(connection, after)
    if stored is None or (head is not None and stored != head):
        raise Damage(0, f"row {after} is missing or changed")
    last, chain = after, stored
    for row, value in scan(connection, after):
        last, chain = row.no, value
    return last, chain
