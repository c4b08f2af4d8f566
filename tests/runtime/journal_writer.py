"""A writer to be killed: forks a fresh writer process for every line ``path first-batch`` on stdin.

Forking from one small, single-threaded process makes a kill cycle take milliseconds instead of an interpreter start.
The writer sends every acknowledged row number down stdout as 8 bytes, then goes on until it is killed.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from pathlib import Path

from journal_kit import facts

from jupyter_rm.runtime.journal import Journal


def write(path: Path) -> None:
    journal = Journal.open(path)
    os.write(1, struct.pack("<q", journal.last))
    turn = 0
    while True:
        turn += 1
        if turn % 3 == 0:
            body = os.urandom(3000)
            journal.blob_put(hashlib.sha256(body).digest(), body)
        journal.append(facts(journal.last + 1, 1 + turn * 7 % 11))
        os.write(1, struct.pack("<q", journal.last))
        if turn % 5 == 0:
            journal.checkpoint()
            os.write(1, struct.pack("<q", journal.last))
        if turn % 7 == 0:
            journal.save_snapshot(1, journal.last, os.urandom(5000))


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        write(Path(line.strip()))
    os.write(1, struct.pack("<q", -child))
    os.waitpid(child, 0)
    os.write(1, struct.pack("<q", -(1 << 40)))
