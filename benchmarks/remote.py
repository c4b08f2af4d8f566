"""How much of the local rate is left on a pilot elsewhere, and how long the first task takes.

    python benchmarks/remote.py [--check] [--quick] [--rounds N] [--tasks N]

Needs root: it brings up the test suite's own Slurm with four virtual nodes and an OpenSSH login node on this machine
(``tests/cluster_kit.py``; ``JRM_TEST_CLUSTER=STATE`` uses one that is up). One session holds a local pilot, one through
``ssh://`` and one in Slurm on four nodes behind SSH; in each round every pilot gets the same bulk of ``/bin/true``, one
after the other. All share this machine's cores, so the ratio says what the way costs and not what a cluster brings.
First task: from ``s.pilot(...)`` with an empty account (cold) and with the environment there and a broker that is
logged in (warm); a queue wait is part of it, the cluster is idle. Medians; ``--check`` exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent / "tests")]

from cluster_kit import Cluster, shared  # noqa: E402

import jupyter_rm as jrm  # noqa: E402
from jupyter_rm.client import admin  # noqa: E402

RATIO_BAR, COLD_BAR, WARM_BAR = 0.70, 10.0, 3.0
SITES = {"ssh": "ssh://alice@tb-slurm", "slurm": "slurm+ssh://alice@tb-slurm"}


def first_task(session: jrm.Session, site: str, **fields: object) -> float:
    """Return the seconds from asking for a pilot to the end of a task on it."""
    start = time.perf_counter()
    pilot = session.pilot(site, **fields)
    task = session.submit(jrm.Task("/bin/true", pilot=pilot.uid))
    if task.wait(120) != "DONE":
        raise SystemExit(f"{site}: {pilot.reason}; {task.reason}")
    took = time.perf_counter() - start
    pilot.cancel()
    pilot.wait("DONE", 60)
    return took


def rate(session: jrm.Session, pilot: jrm.Pilot, tasks: int) -> float:
    """Return the tasks per second of one bulk on one pilot."""
    start = time.perf_counter()
    bulk = session.submit([jrm.Task("/bin/true", pilot=pilot.uid)] * tasks)
    if not bulk.wait(300) or bulk.counts() != {"DONE": tasks}:
        raise SystemExit(f"{pilot!r}: {bulk.counts()}")
    return tasks / (time.perf_counter() - start)


def main() -> int:
    """Print the figures; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=10_000)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tasks = 1, 3_000
    cluster = shared().need("slurm")
    home = tempfile.mkdtemp(prefix="jrmb-")
    os.environ["JUPYTER_RM_HOME"] = home
    os.environ["JUPYTER_RM_SSH_CONFIG"] = str(cluster.client / "config")
    os.environ["JUPYTER_RM_SSH_AGENT"] = "0"
    session = jrm.open("bench")
    try:
        return measure(session, cluster, options)
    finally:
        session.close()
        admin.stop(force=True)
        shutil.rmtree(home, ignore_errors=True)


def measure(session: jrm.Session, cluster: Cluster, options: argparse.Namespace) -> int:
    """Print the figures; return 1 when a bar is missed and that was asked for."""
    shutil.rmtree(cluster.state / "home/alice/.jupyter_rm/env", ignore_errors=True)
    cold = first_task(session, SITES["slurm"], nodes=1)
    warm = statistics.median(first_task(session, SITES["slurm"], nodes=1) for _ in range(options.rounds))
    print(f"first task in Slurm behind SSH: cold {cold:.1f} s (bar {COLD_BAR:g}), warm {warm:.1f} s (bar {WARM_BAR:g})")
    pilots = {
        "local": session.pilot("local"),
        "ssh": session.pilot(SITES["ssh"]),
        "slurm": session.pilot(SITES["slurm"], nodes=4),
    }
    for pilot in pilots.values():
        if pilot.wait(timeout=120) != "ACTIVE":
            raise SystemExit(repr(pilot))
        rate(session, pilot, 500)
    rates: dict[str, list[float]] = {name: [] for name in pilots}
    for _ in range(options.rounds):
        for name, pilot in pilots.items():
            rates[name].append(rate(session, pilot, options.tasks))
    middle = {name: statistics.median(several) for name, several in rates.items()}
    missed = cold > COLD_BAR or warm > WARM_BAR
    for name, several in rates.items():
        ratio = middle[name] / middle["local"]
        missed |= name != "local" and ratio < RATIO_BAR
        bar = "" if name == "local" else f", {100 * ratio:.0f} % of local (bar {100 * RATIO_BAR:.0f} %)"
        spread = " ".join(f"{one:.0f}" for one in several)
        print(f"{options.tasks} x /bin/true, {name}: {middle[name]:.0f} tasks/s ({spread}){bar}")
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
