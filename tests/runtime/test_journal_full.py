"""A full or failing disk: nothing half-applied, a clear error, and it goes on when the disk works again."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import apsw
import pytest
from journal_kit import Disk, clone, crash, expected, facts, quick_directory

from jupyter_rm.model.errors import SiteError
from jupyter_rm.runtime.journal import Journal

BLOB = b"b" * 9000
KEY = hashlib.sha256(BLOB).digest()


@pytest.fixture
def quick() -> Iterator[Path]:
    with quick_directory() as directory:
        yield directory


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk("failing")
    yield disk
    disk.unregister()


def script(journal: Journal, retry: bool, disk: Disk) -> None:
    """Thirty rows in ten appends with everything else in between; each step again after its error when ``retry``."""

    def step(work: object, before: int) -> None:
        try:
            work()  # type: ignore[operator]
        except SiteError as error:
            assert error.code in ("JRM-D09", "JRM-D16"), error
            assert journal.failed is error
            assert journal.last == before, "a failed append must leave nothing"
            assert list(journal.read()) == expected(1, before), "reading goes on"
            with pytest.raises(SiteError):
                journal.append(facts(before + 1, 1))
            if disk.sticky:
                with pytest.raises(SiteError):
                    journal.reopen()
                assert journal.failed is not None
            if not retry:
                raise
            disk.heal()
            journal.reopen()
            assert journal.failed is None
            assert journal.last == before
            assert list(journal.read()) == expected(1, before), "no row of the failed append came back"
            work()  # type: ignore[operator]

    for turn in range(10):
        first = 1 + turn * 3
        if turn == 4:
            journal.blob_put(KEY, BLOB)
        step(lambda first=first: journal.append(facts(first, 3)), first - 1)
        # The append itself may stand while the mark after it failed: the next call tells.
        if turn % 4 == 2:
            step(lambda: journal.checkpoint(), journal.last)
        if turn == 6:
            step(lambda: journal.save_snapshot(1, 20, b"s" * 5000), journal.last)
        if turn == 7:
            step(lambda: journal.meta_set("incarnation", b"8"), journal.last)


def verify(journal: Journal) -> None:
    assert list(journal.read()) == expected(1, 30)
    assert journal.blob_get(KEY) == BLOB
    assert journal.load_snapshot(1) == (20, b"s" * 5000)
    assert journal.meta_get("incarnation") == b"8"


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError], ids=["full", "io"])
@pytest.mark.parametrize(("sticky", "torn"), [(False, False), (True, False), (False, True)])
def test_fail_at_every_step_and_go_on(
    quick: Path, disk: Disk, error: type[Exception], sticky: bool, torn: bool
) -> None:
    """The fault at disk operation 1, 2, 3 ... until the script runs without meeting it."""
    empty = quick / "empty" / "journal"
    empty.parent.mkdir()
    Journal.open(empty).close()
    for at in count(1):
        path = clone(empty, quick / str(at))
        journal = Journal.open(path, vfs="failing")
        disk.arm(at, error, sticky=sticky, torn=torn)
        script(journal, True, disk)
        met = disk.failed
        disk.heal()
        verify(journal)
        journal.close()
        with Journal.open(path) as journal:
            assert journal.report.state == "clean", f"operation {at}: {journal.report}"
            verify(journal)
        shutil.rmtree(path.parent)
        if not met:
            assert at > 30, "the script must meet many disk operations"
            return


def test_fail_at_every_step_and_die(quick: Path, disk: Disk) -> None:
    """As above, but the process dies at the error: what was acknowledged is there, and nothing else but one append."""
    empty = quick / "empty" / "journal"
    empty.parent.mkdir()
    Journal.open(empty).close()
    for at in count(1):
        path = clone(empty, quick / str(at))
        journal = Journal.open(path, vfs="failing")
        disk.arm(at, apsw.IOError, sticky=False, torn=at % 2 == 0)
        try:
            script(journal, False, disk)
        except SiteError:
            acknowledged = journal.last
            crash(journal)
            disk.heal()
            with Journal.open(path) as journal:
                assert journal.report.state in ("clean", "recovered"), f"operation {at}: {journal.report}"
                assert acknowledged <= journal.last <= acknowledged + 3
                assert list(journal.read()) == expected(1, journal.last)
        else:
            crash(journal)
            return
        shutil.rmtree(path.parent)


def test_fail_at_every_step_of_opening(quick: Path, disk: Disk) -> None:
    """Opening (new, after a crash) on a failing disk says so; the next open on a good disk finds everything."""
    crashed = quick / "crashed" / "journal"
    crashed.parent.mkdir()
    journal = Journal.open(crashed)
    journal.append(facts(1, 20))
    crash(journal)
    for fresh in (True, False):
        for at in count(1):
            directory = quick / f"{fresh}-{at}"
            path = directory / "journal" if fresh else clone(crashed, directory)
            directory.mkdir(exist_ok=True)
            disk.arm(at, apsw.FullError, sticky=True)
            try:
                Journal.open(path, vfs="failing").close()
                met = False
            except SiteError as error:
                assert error.code in ("JRM-D09", "JRM-D16")
                met = True
            disk.heal()
            with Journal.open(path) as journal:
                assert journal.report.state in ("clean", "recovered"), f"operation {at}: {journal.report}"
                assert list(journal.read()) == expected(1, 0 if fresh else 20)
            shutil.rmtree(directory)
            if not met:
                assert at > 3
                break


def test_a_really_full_filesystem(quick: Path) -> None:
    """A 1 MiB tmpfs, filled; told as D09; running again once room was made."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return  # the injected faults above cover the same ground without a mount
    room = quick / "room"
    room.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", str(room)], capture_output=True, text=True
    )
    if mount.returncode:
        return  # a container without the right to mount
    try:
        journal = Journal.open(room / "journal")
        journal.append(facts(1, 10))
        (room / "ballast").write_bytes(bytes(400_000))
        with pytest.raises(SiteError) as caught:
            for _ in range(2000):
                journal.append(facts(journal.last + 1, 5))
        assert caught.value.code == "JRM-D09"
        assert caught.value.retry
        last = journal.last
        assert list(journal.read()) == expected(1, last)
        with pytest.raises(SiteError):
            journal.append(facts(last + 1, 1))
        (room / "ballast").unlink()
        journal.reopen()
        assert journal.append(facts(last + 1, 5)) == last + 1
        journal.close()
        with Journal.open(room / "journal") as journal:
            assert journal.report.state == "clean"
            assert list(journal.read()) == expected(1, last + 5)
    finally:
        subprocess.run(["umount", str(room)], check=True)
