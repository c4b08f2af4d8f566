"""The journal: an append-only, numbered log of opaque facts that survives kill, power cut, full disk and bit rot.

One file, one process, one connection. ``append`` returns when the rows are on disk, all of them or none. Rows
form a hash chain and a mark beside the file remembers how far it reached, so nothing vanishes silently.

Promise to senders: what ``append`` returned survives every crash; what ``checkpoint`` returned also survives damage
to SQLite's log. A sender that keeps its data until *checkpointed* can therefore always heal a journal.

Knows: durability, order, damage. Does not know: what a body means, when to checkpoint (its owner decides: every few
seconds and when idle). One thread at a time is enforced by a lock; calls block for a disk sync.
Read next: ``journal_store.py`` (the file), ``journal_open.py`` (checks), ``journal_repair.py`` (damage).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import apsw

from jupyter_rm.model.errors import JrmError, RequestError, SiteError
from jupyter_rm.runtime import journal_repair as repair
from jupyter_rm.runtime import journal_store as store
from jupyter_rm.runtime.home import require_local
from jupyter_rm.runtime.journal_mark import Mark, MarkFile, lock
from jupyter_rm.runtime.journal_open import refuse_foreign, start
from jupyter_rm.runtime.journal_repair import OpenReport, beside
from jupyter_rm.runtime.journal_store import GENESIS, Damage, Row
from jupyter_rm.runtime.journal_wal import blank, lengthen, log_bytes

__all__ = ["Journal", "OpenReport", "Row"]

MARK_EVERY = 1.0  # seconds between marks: the window in which damage to SQLite's log could pass unnoticed
LOG_KEPT = 64 << 20  # bytes; a longer log is cut at the next checkpoint
LOG_STEP = 1 << 20  # bytes that the log is lengthened by at a time
LOG_SPARE = 16  # pages of room below which that is done
WAL_LIMIT = 8192  # pages (32 MiB) after which append checkpoints by itself


class Journal:
    """An open journal; use :meth:`open`."""

    def __init__(self, path: Path, mark: MarkFile, vfs: str | None) -> None:
        self.path = path
        self.report = OpenReport("clean", 0)
        self.failed: JrmError | None = None
        self.readonly = False
        self.wal_pages = 0
        self._log_room = 0
        self._mark = mark
        self._vfs = vfs
        self._lock = threading.RLock()
        self._blobs: dict[bytes, bytes] = {}
        self._last, self._head, self._checkpointed = 0, GENESIS, 0
        self._marked_at = time.monotonic()
        self._private: Path | None = None
        self._connection: apsw.Connection | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        readonly: bool = False,
        network_ok: bool = False,
        vfs: str | None = None,
    ) -> Journal:
        """Open a journal, checking it and rebuilding it from its good rows when it is damaged; see ``report``.

        Args:
            path: the file; ``<path>-wal`` and ``<path>.mark`` stand beside it.
            create: make an empty journal when there is none and never was one.
            readonly: work on a private copy and leave the original untouched.
            network_ok: accept a network filesystem, against advice.
            vfs: name of an apsw VFS (tests inject faults with it).

        Raises:
            RequestError: JRM-R08 in use, JRM-D19 written by a newer version or not a journal, JRM-D18 no such journal.
            SiteError: JRM-D17 network filesystem, JRM-D09/JRM-D16 disk full or failing.
        """
        target = Path(path).absolute()
        if not create and not target.exists() and not beside(target, ".mark").exists():
            raise RequestError(f"{target}: there is no journal", code="JRM-D18", hint="check the profile and path")
        if readonly:
            return cls._open_copy(target, vfs)
        if not network_ok:
            require_local(target.parent)
        refuse_foreign(target)
        mark = MarkFile.open(beside(target, ".mark"), target)
        self = cls(target, mark, vfs)
        try:
            found = start(target, mark, vfs)
            self._connection, self.report = found.connection, found.report
            self._last, self._head = found.last, found.head
            self._checkpoint()
            self._make_room()
            self._db.set_wal_hook(self._count_pages)
        except BaseException as error:
            self._drop()
            mark.close()
            if isinstance(error, apsw.Error):
                raise store.translate(error, target) from error
            if isinstance(error, OSError):
                raise SiteError(
                    f"{target}: {error.strerror}", code="JRM-D16", hint="check the filesystem", retry=True
                ) from error
            raise
        return self

    @classmethod
    def _open_copy(cls, target: Path, vfs: str | None) -> Journal:
        if not target.exists():
            raise RequestError(f"{target}: there is no journal", code="JRM-D18", hint="check the profile and path")
        mark = beside(target, ".mark")
        private = Path(tempfile.mkdtemp(prefix="jrm-journal-"))
        try:
            fd = os.open(mark, os.O_RDONLY | os.O_CLOEXEC) if mark.exists() else -1
            try:
                if fd >= 0:
                    lock(fd, target, shared=True)
                for suffix in ("", "-wal", ".mark"):
                    if beside(target, suffix).exists():
                        repair.copy_file(beside(target, suffix), private / (target.name + suffix))
            finally:
                if fd >= 0:
                    os.close(fd)
            self = cls.open(private / target.name, network_ok=True, vfs=vfs)
        except BaseException:
            shutil.rmtree(private, ignore_errors=True)
            raise
        self.readonly, self._private = True, private
        return self

    # -- writing ------------------------------------------------------------------------------------------------

    @property
    def last(self) -> int:
        """Number of the last durable row, 0 when there is none."""
        return self._last

    @property
    def checkpointed(self) -> int:
        """Number of the last row that is in the main file; senders may forget what is not above it."""
        return self._checkpointed

    def append(self, rows: Sequence[tuple[int, int, float, bytes]]) -> int:
        """Append ``rows`` of (session, kind, wall seconds, body) in one transaction; durable when it returns.

        Returns:
            Number of the first row (the next free number when ``rows`` is empty).

        Raises:
            SiteError: JRM-D09 or JRM-D16; none of the rows is in the journal, and ``failed`` is set.
        """
        with self._lock:
            no, head = self._last, self._head
            ready = []
            for session, kind, wall, body in rows:
                no += 1
                if wall != wall:
                    raise ValueError("wall: not a number")
                head = store.link(head, no, session, kind, wall, body)
                ready.append((no, session, kind, wall, bytes(body), head))
            first = self._last + 1
            if ready or self._blobs:
                self._commit(lambda: self._insert(ready))
                self._last, self._head = no, head
                self._after_commit()
            return first

    def _insert(self, ready: list[tuple[int, int, int, float, bytes, bytes]]) -> None:
        if ready:
            self._db.executemany("INSERT INTO row(no, session, kind, wall, body, chain) VALUES(?,?,?,?,?,?)", ready)

    def _commit(self, work: Callable[[], object]) -> None:
        """Run ``work`` and the pending blobs in one transaction; a disk error makes the journal read-only."""
        self._writable()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            if self._blobs:
                self._db.executemany("INSERT OR IGNORE INTO blob(sha256, body) VALUES(?,?)", list(self._blobs.items()))
            work()
            self._db.execute("COMMIT")
        except apsw.Error as error:
            self._roll_back()
            raise self._fail(error) from error
        except BaseException:
            # An interrupt may strike on either side of the commit: ask the file which.
            self._roll_back()
            with contextlib.suppress(apsw.Error):
                self._last = store.last_of(self._db)
                self._head = store.chain_of(self._db, self._last) or self._head
            raise
        self._blobs.clear()

    def _roll_back(self) -> None:
        with contextlib.suppress(apsw.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _writable(self) -> None:
        if self.readonly:
            raise RequestError(f"{self.path}: opened for reading", code="JRM-Q01", hint="open it without readonly")
        if self.failed is not None:
            raise self.failed
        if self._connection is None:
            raise RequestError(f"{self.path}: the journal is closed", code="JRM-Q01", hint="open it again")

    def _fail(self, error: apsw.Error | OSError) -> JrmError:
        if isinstance(error, OSError):
            error = apsw.IOError(str(error))
        self.failed = store.translate(error, self.path)
        return self.failed

    def _after_commit(self) -> None:
        # The rows are durable: trouble from here on is for the next append to report.
        try:
            if self.wal_pages > WAL_LIMIT:
                self._checkpoint()
            elif time.monotonic() - self._marked_at >= MARK_EVERY:
                self._write_mark()
            self._make_room()
        except (apsw.Error, OSError) as error:
            self._fail(error)

    def _make_room(self) -> None:
        """Let SQLite's log grow into zeros that are there already."""
        need = log_bytes(self.wal_pages + LOG_SPARE, store.PAGE)
        if need <= self._log_room or self._vfs is not None:
            return
        self._log_room = need + LOG_STEP
        # What the disk refuses here is room that nobody needs yet: the commit that does need it will say so.
        with contextlib.suppress(OSError):
            lengthen(beside(self.path, "-wal"), self._log_room)

    def _count_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK

    def checkpoint(self) -> int:
        """Move everything from SQLite's log to the main file and write the mark.

        Returns:
            Number of the last row now in the main file; senders may forget what is not above it.

        Raises:
            SiteError: JRM-D09 or JRM-D16; no row is lost, and ``failed`` is set.
        """
        with self._lock:
            self._writable()
            try:
                self._checkpoint()
            except (apsw.Error, OSError) as error:
                raise self._fail(error) from error
            return self._checkpointed

    def _checkpoint(self) -> None:
        # The log is blanked in place rather than cut: syncing a file whose size does not change takes half the time.
        # Left as it was, an old log could, once damaged, lay old pages over newer ones.
        log = beside(self.path, "-wal")
        in_place = self._vfs is None and 0 < self._log_room <= LOG_KEPT and log.exists()
        self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART if in_place else apsw.SQLITE_CHECKPOINT_TRUNCATE)
        used, self.wal_pages = log_bytes(self.wal_pages, store.PAGE), 0
        if in_place:
            blank(log, used)
        else:
            self._log_room = 0
        self._checkpointed = self._last
        self._write_mark()

    def mark(self) -> None:
        """Write the high-water mark now; for an idle owner that does not want to checkpoint yet."""
        with self._lock:
            self._writable()
            try:
                self._write_mark()
            except OSError as error:
                raise self._fail(error) from error

    def _write_mark(self, *, clean: bool = False, suspect: bool = False) -> None:
        self._mark.write(Mark(0, store.FORMAT, clean, suspect, self._last, self._checkpointed, self._head))
        self._marked_at = time.monotonic()

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, after: int = 0, session: int | None = None, limit: int | None = None) -> Iterator[Row]:
        """Yield rows numbered above ``after``, of one session or all, at most ``limit``, each checked.

        Rows appended while reading are included up to the ``last`` of the moment the iteration began.

        Raises:
            SiteError: JRM-D20 when a row is not what was written.
        """
        upto, count = self._last, 0
        # Somebody who wants one row must not pay for the bodies of the 255 behind it.
        portion = store.READ_ROWS if limit is None else max(1, min(limit, store.READ_ROWS))
        source = store.scan(self._db, after, session=session, upto=upto, portion=portion)
        while limit is None or count < limit:
            with self._lock:
                try:
                    row, _chain = next(source)
                except StopIteration:
                    return
                except (Damage, apsw.Error) as error:
                    raise self._unreadable(error) from error
            count += 1
            yield row

    def _unreadable(self, error: Damage | apsw.Error) -> JrmError:
        if isinstance(error, (Damage, apsw.CorruptError, apsw.NotADBError)):
            with contextlib.suppress(OSError):
                self._write_mark(suspect=True)  # the next open checks everything and salvages
            return store.damaged(self.path, getattr(error, "good_until", 0), str(error))
        return store.translate(error, self.path)

    def _query(self, sql: str, binding: int | str | bytes) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return store.query(self._db, sql, (binding,))
            except apsw.Error as error:
                raise self._unreadable(error) from error

    # -- snapshots, blobs, meta ---------------------------------------------------------------------------------

    def save_snapshot(self, session: int, upto: int, body: bytes) -> None:
        """Keep ``body`` as the state of ``session`` after row ``upto``; durable when it returns; the last two are kept.

        Raises:
            SiteError: as :meth:`append`.
        """

        def work() -> None:
            digest = store.seal(f"{session} {upto}", body)
            self._db.execute("INSERT OR REPLACE INTO snapshot VALUES(?,?,?,?)", (session, upto, digest, body))
            self._db.execute(
                "DELETE FROM snapshot WHERE session = ?1 AND upto NOT IN "
                "(SELECT upto FROM snapshot WHERE session = ?1 ORDER BY upto DESC LIMIT 2)",
                (session,),
            )

        with self._lock:
            if not 0 <= upto <= self._last:
                raise ValueError(f"upto: {upto} is not between 0 and {self._last}")
            self._commit(work)

    def load_snapshot(self, session: int) -> tuple[int, bytes] | None:
        """Return (upto, body) of the newest sound snapshot of ``session``, None when there is none."""
        sql = "SELECT upto, digest, body FROM snapshot WHERE session = ? ORDER BY upto DESC"
        for upto, digest, body in self._query(sql, session):
            if upto <= self._last and store.sealed(f"{session} {upto}", body, digest):
                return upto, body
        return None

    def blob_put(self, sha256: bytes, body: bytes) -> None:
        """Keep ``body`` under its digest; it becomes durable with the next append (or snapshot, or close).

        Raises:
            ValueError: ``sha256`` (32 bytes) is not the digest of ``body``.
        """
        if hashlib.sha256(body).digest() != sha256:
            raise ValueError("sha256: not the digest of the body")
        with self._lock:
            self._writable()
            self._blobs[bytes(sha256)] = bytes(body)

    def blob_get(self, sha256: bytes) -> bytes | None:
        """Return the body kept under ``sha256``, None when there is none.

        Raises:
            SiteError: JRM-D20 when it does not match its digest.
        """
        with self._lock:
            if sha256 in self._blobs:
                return self._blobs[sha256]
        sql = "SELECT body FROM blob WHERE sha256 = ?"
        found = self._query(sql, sha256)
        if not found:
            return None
        body = bytes(found[0][0])
        if hashlib.sha256(body).digest() != sha256:
            raise self._unreadable(Damage(self._last, "a blob does not match its digest"))
        return body

    def meta_get(self, key: str) -> bytes | None:
        """Return the value kept under ``key``, None when there is none; JRM-D20 when it does not match its digest."""
        found = self._query("SELECT value, digest FROM meta WHERE key = ?", key)
        if not found:
            return None
        value, digest = found[0]
        if not store.sealed(key, value, digest):
            raise self._unreadable(Damage(self._last, f"meta value {key!r} does not match its digest"))
        return bytes(value)

    def meta_set(self, key: str, value: bytes) -> None:
        """Keep ``value`` under ``key``; durable when it returns; errors as :meth:`append`."""
        sql = "INSERT OR REPLACE INTO meta VALUES(?,?,?)"
        with self._lock:
            self._commit(lambda: self._db.execute(sql, (key, store.seal(key, value), value)))

    # -- end and new start --------------------------------------------------------------------------------------

    def reopen(self) -> None:
        """Leave the read-only state after a disk error, when the disk works again.

        Rows of a failed append that reached the file all the same are removed, so that the error stays true.

        Raises:
            SiteError: the disk still fails; the journal stays read-only.
        """
        with self._lock:
            try:
                self._drop()
                self._connection = store.connect(self.path, vfs=self._vfs)
                self._log_room = 0  # what stands in the log is not what was counted: it is cut, not blanked
                found = store.last_of(self._db)
                if found < self._last or store.chain_of(self._db, self._last) != self._head:
                    raise Damage(min(found, self._last), "rows are gone after a disk error")
                if found > self._last:
                    self._db.execute("DELETE FROM row WHERE no > ?", (self._last,))
                # A checkpoint writes every page anew: after a failed sync the cached ones cannot be trusted.
                self._checkpoint()
                self._db.set_wal_hook(self._count_pages)
            except Damage as error:
                self.failed = store.damaged(self.path, error.good_until, str(error))
                raise self.failed from error
            except (apsw.Error, OSError) as error:
                raise self._fail(error) from error
            self.failed = None

    def close(self) -> None:
        """Write everything out, mark the end as clean and release the file; harmless when repeated."""
        with self._lock:
            try:
                if self._connection is not None and not self.readonly and self.failed is None:
                    if self._blobs:
                        self._commit(lambda: None)
                    self.checkpoint()
                    self._drop()
                    beside(self.path, "-wal").unlink(missing_ok=True)  # empty after the checkpoint
                    self._write_mark(clean=True)
            finally:
                self._drop()
                self._mark.close()
                if self._private is not None:
                    shutil.rmtree(self._private, ignore_errors=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _db(self) -> apsw.Connection:
        if self._connection is None:
            if self.failed is not None:
                raise self.failed
            raise RequestError(f"{self.path}: the journal is closed", code="JRM-Q01", hint="open it again")
        return self._connection

    def _drop(self) -> None:
        """Close the connection without writing anything."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(apsw.Error):
                connection.close(True)
