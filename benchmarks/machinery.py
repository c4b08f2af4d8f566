"""The machinery alone: an array of tasks that end at once, through client, broker, agent and back.

Measures tasks per second and the bytes per task that client, broker and agent grow by (resident memory, so everything
counts). ``--large`` describes, holds, filters and cancels an array of 10,000,000.

    python benchmarks/machinery.py [--tasks 1000000] [--large] [--check]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

import psutil

BARS = {"rate": 100_000, "client": 100, "broker": 200, "agent": 200, "large_gib": 2.0}


def processes(home: str) -> dict[str, psutil.Process]:
    """Return broker and agent of this run."""
    found = {}
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            if process.environ().get("JUPYTER_RM_HOME") != home:
                continue
        except psutil.Error:
            continue
        for name in ("broker", "agent"):
            if f"jupyter_rm.{name}" in line and "jrm-guard" not in line[0]:
                found[name] = process
    return found


def rss(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    missed = []
    with tempfile.TemporaryDirectory(prefix="jrm-bench-") as home:
        os.environ["JUPYTER_RM_HOME"] = home
        import jupyter_rm as jrm

        session = jrm.open("bench")
        session.pilot("noop", nodes=4, cores=64)
        session.array(jrm.Task("x", ["{n}"]), n=range(10_000)).wait()
        parts = {**processes(home), "client": psutil.Process()}
        before = {name: rss(process) for name, process in parts.items()}
        start = time.perf_counter()
        bulk = session.array(jrm.Task("x", ["{n}"]), n=range(options.tasks))
        bulk.wait()
        seconds = time.perf_counter() - start
        assert bulk.counts()["DONE"] == options.tasks, bulk.counts()
        rate = options.tasks / seconds
        print(f"{options.tasks} no-op tasks in {seconds:.2f} s: {rate:.0f} tasks/s (bar {BARS['rate']})")
        if rate < BARS["rate"]:
            missed.append("rate")
        for name, process in parts.items():
            grown = (rss(process) - before[name]) / options.tasks
            print(f"  {name:7s} {grown:6.1f} B/task (bar {BARS[name]}), {rss(process) / 2**20:.0f} MiB in all")
            if grown > BARS[name]:
                missed.append(name)
        session.close()
        if options.large:
            missed += large(jrm, home)
        subprocess.run([sys.executable, "-m", "jupyter_rm", "broker", "stop"], stdout=subprocess.DEVNULL, check=False)
    if missed:
        print("missed:", ", ".join(missed))
    return 1 if options.check and missed else 0


def large(jrm: object, home: str) -> list[str]:
    """Describe, hold, filter and cancel ten million tasks; return the bars missed."""
    count = 10_000_000
    session = jrm.open("large")  # type: ignore[attr-defined]
    start = time.perf_counter()
    session.pilot("noop", nodes=1, cores=1)
    task = jrm.Task("simulate", ["--seed", "{seed}", "-T", "{temp}"], cores=1)  # type: ignore[attr-defined]
    bulk = session.array(task.replace(pilot="p.0", after=[]), seed=range(count), temp=300)
    described = time.perf_counter()
    chosen = len(bulk.where("WAITING"))
    filtered = time.perf_counter()
    bulk.cancel()
    bulk.wait()
    canceled = time.perf_counter()
    used = {**processes(home), "client": psutil.Process()}
    total = sum(rss(process) for process in used.values()) / 2**30
    print(
        f"{count} tasks: described and recorded in {described - start:.2f} s, {chosen} filtered in"
        f" {filtered - described:.2f} s, canceled in {canceled - filtered:.2f} s;"
        f" {total:.2f} GiB in client, broker and agent"
    )
    print("  " + ", ".join(f"{name} {rss(process) / 2**20:.0f} MiB" for name, process in used.items()), bulk.counts())
    session.close()
    return ["large"] if total > BARS["large_gib"] else []


if __name__ == "__main__":
    sys.exit(main())
