"""How fast facts become durable: commits a second, alone and in batches, beside the bare disk as the limit.

Results on a busy machine vary by a factor of two or more, so the bare fdatasync loop runs before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jupyter_rm.runtime.journal import Journal
from jupyter_rm.runtime.spool import Spool

BODY = os.urandom(120)
SECONDS = 1.5


def rate(work: Callable[[], object], per_call: int = 1) -> float:
    """Calls a second times ``per_call``, over about ``SECONDS``."""
    calls, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS:
        work()
        calls += 1
    return calls * per_call / spent


def bare(directory: Path) -> float:
    """Appending writes of one SQLite page, each made durable: what no journal on this disk can beat."""
    fd = os.open(directory / "bare", os.O_WRONLY | os.O_CREAT, 0o600)
    page = bytes(4120)
    sync = getattr(os, "fdatasync", os.fsync)
    try:
        return rate(lambda: (os.write(fd, page), sync(fd)))
    finally:
        os.close(fd)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("directory", nargs="?", default=".", help="where to write: it decides the disk (default: here)")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().directory) as made:
        directory = Path(made)
        out: dict[str, float] = {"bare fdatasync/s": bare(directory)}
        for size in (1, 10, 100, 1000):
            with Journal.open(directory / f"journal-{size}", network_ok=True) as journal:
                rows = [(1, 1, 1.0, BODY)] * size
                out[f"rows/s in commits of {size}"] = rate(lambda j=journal, r=rows: j.append(r), size)
                start = time.perf_counter()
                journal.checkpoint()
                out[f"checkpoint ms after commits of {size}"] = (time.perf_counter() - start) * 1e3
        path = directory / "journal-1000"
        for readonly in (False, True):
            start = time.perf_counter()
            with Journal.open(path, readonly=readonly, network_ok=True) as journal:
                how = "readonly (copies)" if readonly else "clean"
                out[f"open ms, {how}, {path.stat().st_size >> 20} MiB"] = (time.perf_counter() - start) * 1e3
                start = time.perf_counter()
                count = sum(1 for _ in journal.read())
                out["checked rows read/s"] = count / (time.perf_counter() - start)
        journal = Journal.open(path, network_ok=True)
        journal.append([(1, 1, 1.0, BODY)])
        journal._drop()
        journal._mark.close()
        start = time.perf_counter()
        Journal.open(path, network_ok=True).close()
        out["open ms, after a crash"] = (time.perf_counter() - start) * 1e3
        with Spool.open(directory / "spool") as spool:
            out["spool records/s"] = rate(lambda: spool.append(spool.last + 1, BODY))
            start = time.perf_counter()
            out["spool records replayed/s"] = len(spool.replay()) / (time.perf_counter() - start)
        out["bare fdatasync/s, again"] = bare(directory)
        print(json.dumps({name: round(value, 1) for name, value in out.items()}, indent=2))


if __name__ == "__main__":
    main()
