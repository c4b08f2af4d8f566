"""What the journal tests share: a known content, a way to die, a disk that fails on command."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from jupyter_rm.runtime.journal import Journal, Row

Fact = tuple[int, int, float, bytes]


def fact(no: int) -> Fact:
    """The fact every test writes as row ``no``: its body follows from its number; every seventh is large."""
    size = 6000 if no % 7 == 0 else no * 37 % 300
    return no % 3, no % 5, 1000.0 + no, hashlib.shake_128(no.to_bytes(8, "little")).digest(size)


def facts(first: int, count: int) -> list[Fact]:
    return [fact(no) for no in range(first, first + count)]


def expected(first: int, last: int) -> list[Row]:
    return [Row(no, *fact(no)) for no in range(first, last + 1)]


def crash(journal: Journal) -> None:
    """Leave the files as a killed process would: nothing is written any more, the lock is gone."""
    journal._drop()
    journal._mark.close()


@contextmanager
def quick_directory() -> Iterator[Path]:
    """A directory in memory where there is one: for tests whose subject is content, not the disk's syncs."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() and os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


def clone(source: Path, target: Path) -> Path:
    """Copy a journal that nobody holds; return the copy's path."""
    target.mkdir()
    for file in source.parent.iterdir():
        if file.is_file():
            shutil.copy(file, target / file.name)
    return target / source.name


class Disk(apsw.VFS):
    """A disk that fails at the Nth write, sync or truncation and then either once or until :meth:`heal`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.base = ""
        super().__init__(name, self.base)
        self.count = 0
        self.fail_at = 0
        self.sticky = False
        self.torn = False
        self.error: Callable[[], Exception] = apsw.FullError
        self.failed = 0

    def arm(self, at: int, error: Callable[[], Exception], *, sticky: bool, torn: bool = False) -> None:
        self.count, self.failed = 0, 0
        self.fail_at, self.error, self.sticky, self.torn = at, error, sticky, torn

    def heal(self) -> None:
        self.fail_at = 0

    def step(self) -> bool:
        self.count += 1
        due = self.fail_at and (self.count == self.fail_at or (self.sticky and self.count > self.fail_at))
        self.failed += bool(due)
        return bool(due)

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        return _File(self, name, flags)

    def excepthook(self, *_: object) -> None:
        """Injected errors are SQLite's to handle, not Python's to print."""


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__(disk.base, name, flags)
        self.disk = disk

    def excepthook(self, *_: object) -> None:
        pass

    def xWrite(self, data: bytes, offset: int) -> None:
        if self.disk.step():
            if self.disk.torn:
                super().xWrite(bytes(data)[: len(data) // 2], offset)
            raise self.disk.error()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        if self.disk.step():
            raise self.disk.error()
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:
        if self.disk.step():
            raise self.disk.error()
        super().xTruncate(size)
