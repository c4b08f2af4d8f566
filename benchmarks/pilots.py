"""Many pilots in one session: what one more costs.

N agents of the make-believe site ``noop`` (their tasks end at once, so only the machinery is measured), 10,000 tasks
for each, all bound late by one broker. With ``--site local`` the agents are real ones of one core each and the tasks
are processes (``/bin/true``): take fewer of them. Prints for growing N the time to start a pilot and to run its share
of the tasks, and the broker's memory; the ratio between the largest and the smallest N says whether the cost of one
stays.

    python benchmarks/pilots.py [--pilots 10 50 100] [--tasks 10000] [--site noop] [--check]

``--check`` ends with 1 when a pilot's share takes more than twice as long among the most as among the fewest.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil

BAR = 2.0


def measure(count: int, tasks: int, site: str) -> tuple[float, float, float]:
    """Return seconds to start a pilot, seconds for its tasks, and MiB of the broker for it."""
    import jupyter_rm as jrm
    from jupyter_rm.client import admin

    cores = 64 if site == "noop" else 1
    with jrm.open(f"many-{count}") as session:
        session.pilot(site, name="first", cores=cores).wait()
        memory = psutil.Process((admin.status() or {})["pid"]).memory_info
        before, start = memory().rss, time.perf_counter()
        pilots = [session.pilot(site, cores=cores) for _ in range(count)]
        for pilot in pilots:
            pilot.wait(timeout=600)
        started = time.perf_counter() - start
        start = time.perf_counter()
        bulk = session.array(jrm.Task("/bin/true", ["{n}"]), n=range(tasks * count))
        bulk.wait(timeout=600)
        ran = time.perf_counter() - start
        counts = bulk.counts()
        assert counts["DONE"] == tasks * count, counts
        used = len(set(bulk.to_frame().pilot))
        grown = (memory().rss - before) / 2**20
        print(
            f"{count:4d} pilots, {tasks * count:9,d} tasks, {used} pilots got some: "
            f"{started:6.1f} s to start, {ran:6.2f} s to run, broker +{grown:.0f} MiB",
            flush=True,
        )
        session.close()
    return started / count, ran / count, grown / count


def main() -> int:
    """Run the sizes and print what a pilot costs in each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pilots", type=int, nargs="+", default=[10, 50, 100])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--site", choices=["noop", "local"], default="noop")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    home = tempfile.mkdtemp(prefix="jrmb-")
    os.environ["JUPYTER_RM_HOME"] = str(Path(home).resolve())
    from jupyter_rm.client import admin

    try:
        costs = [measure(count, options.tasks, options.site) for count in options.pilots]
    finally:
        admin.stop(force=True)
        shutil.rmtree(home, ignore_errors=True)
    for count, (start, run, memory) in zip(options.pilots, costs, strict=True):
        print(f"a pilot among {count:4d}: start {start * 1e3:6.0f} ms, its tasks {run * 1e3:6.1f} ms, {memory:.2f} MiB")
    ratio = costs[-1][1] / costs[0][1]
    print(f"its tasks among the most beside among the fewest: {ratio:.2f} (bar {BAR})")
    return 1 if options.check and ratio > BAR else 0


if __name__ == "__main__":
    sys.exit(main())
