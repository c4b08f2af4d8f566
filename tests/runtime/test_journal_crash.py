"""A writer killed with SIGKILL at any moment loses no acknowledged row."""

from __future__ import annotations

import os
import random
import select
import signal
import struct
import subprocess
import sys
from pathlib import Path

from journal_kit import expected

from jupyter_rm.runtime.journal import Journal

CYCLES = 120
REAPED = -(1 << 40)


class Nursery:
    """The other end of ``journal_writer.py``."""

    def __init__(self) -> None:
        here = Path(__file__).parent
        self.process = subprocess.Popen(
            [sys.executable, str(here / "journal_writer.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{here.parent.parent}{os.pathsep}{here}"},
        )

    def start(self, path: Path) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{path}\n".encode())
        self.process.stdin.flush()
        number = self.number()
        assert number < 0, f"expected a process number, got {number}"
        return -number

    def number(self) -> int:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        data = b""
        while len(data) < 8:
            assert select.select([fd], [], [], 30)[0], "the writer said nothing for 30 s"
            got = os.read(fd, 8 - len(data))
            assert got, f"the nursery ended with {self.process.wait(5)}"
            data += got
        return int(struct.unpack("<q", data)[0])

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def test_kill_at_random_moments_loses_no_acknowledged_row(tmp_path: Path) -> None:
    dice = random.Random(4711)
    nursery = Nursery()
    rows = 0
    try:
        for cycle in range(CYCLES):
            path = tmp_path / f"journal-{cycle // 15}"
            pid = nursery.start(path)
            acknowledged = 0
            wanted = dice.choice((0, 0, 1, 2, 5, 9, 14, 20))
            for _ in range(wanted):
                acknowledged = nursery.number()
            spin = dice.randrange(3000)
            while spin:
                spin -= 1
            os.kill(pid, signal.SIGKILL)
            while (told := nursery.number()) != REAPED:
                acknowledged = told
            with Journal.open(path) as journal:
                where = f"cycle {cycle}: {journal.report}"
                assert journal.report.state in ("clean", "recovered"), where
                assert journal.last >= acknowledged, where
                assert list(journal.read()) == expected(1, journal.last), where
                snapshot = journal.load_snapshot(1)
                assert snapshot is None or snapshot[0] <= journal.last
                if cycle % 15 == 14:
                    rows += journal.last
    finally:
        nursery.close()
    assert rows > 500, "the writers must have got somewhere"


def test_a_half_made_journal_is_made_anew(tmp_path: Path) -> None:
    """Killed while creating: the half-made file has another name and is thrown away."""
    (tmp_path / "journal.new").write_bytes(b"SQLite format 3\0" + bytes(50))
    (tmp_path / "journal.new-wal").write_bytes(bytes(10))
    with Journal.open(tmp_path / "journal") as journal:
        assert journal.report.state == "clean"
        assert journal.append([(1, 1, 1.0, b"x")]) == 1
    assert sorted(os.listdir(tmp_path)) == ["journal", "journal.mark"]
