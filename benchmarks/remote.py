"""How much of the local rate is left on a pilot elsewhere, and how long the first task takes.

    python benchmarks/remote.py [--check] [--quick] [--rounds N] [--tasks N]

Needs root: it brings up the test suite's own Slurm with four virtual nodes and an OpenSSH login node on this machine
(``tests/cluster_kit.py``; ``JRM_TEST_CLUSTER=STATE`` uses one that is up). A local pilot is set beside one through
``ssh://``, one in Slurm on four nodes behind SSH, and the same with 200 ms added to the round trip; in each round both
get the same bulk of ``/bin/true``, one after the other. All share this machine's cores, so the ratio says what the way
costs and not what a cluster brings.
First task: from ``s.pilot(...)`` to its end with an empty account (cold; ``bare``: and nothing packed on this side
either), and with the environment there and a broker that is logged in (warm); a queue wait is part of it, the cluster
is idle. Medians; ``--check`` exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent / "tests")]

from cluster_kit import Cluster, shared  # noqa: E402

import jupyter_rm as jrm  # noqa: E402
from jupyter_rm.client import admin  # noqa: E402

COLD_BAR, WARM_BAR = 10.0, 3.0
SLURM, FAR_AWAY = "slurm+ssh://alice@tb-slurm", 0.2
SITES: dict[str, tuple[str, dict[str, int], float]] = {
    "ssh": ("ssh://alice@tb-slurm", {}, 0.70),
    "Slurm, 4 nodes": (SLURM, {"nodes": 4}, 0.70),
    f"Slurm, 4 nodes, +{1000 * FAR_AWAY:.0f} ms": ("slurm+ssh://alice@tb-far", {"nodes": 4}, 0.60),
}


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
    os.environ["JUPYTER_RM_SSH_AGENT"] = "0"
    with far_away(cluster, Path(home)) as config:
        os.environ["JUPYTER_RM_SSH_CONFIG"] = str(config)
        session = jrm.open("bench")
        try:
            missed = first_tasks(session, cluster, options.rounds)
            for name, (site, fields, bar) in SITES.items():
                missed |= compare(session, name, session.pilot(site, **fields), bar, options)
            return 1 if missed and options.check else 0
        finally:
            session.close()
            admin.stop(force=True)
            shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def far_away(cluster: Cluster, home: Path) -> Iterator[Path]:
    """Give the login node a second name, ``tb-far``, with a longer way; yield the configuration for SSH."""
    key = (cluster.state / "etc/host_slurm.pub").read_text().rsplit(" ", 1)[0].strip()
    line = [sys.executable, str(Path(__file__).with_name("_delay.py")), str(cluster.port + 28), str(FAR_AWAY / 2)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        port = int(relay.stdout.readline())
        (home / "known").write_text(f"[127.0.0.1]:{port} {key}\n")
        host = f"Host tb-far\n  HostName 127.0.0.1\n  Port {port}\n  UserKnownHostsFile {home / 'known'}\n"
        (home / "config").write_text(host + (cluster.client / "config").read_text())
        yield home / "config"
        relay.kill()


def first_tasks(session: jrm.Session, cluster: Cluster, rounds: int) -> bool:
    """Print how long the first task takes; return whether a bar was missed."""
    there = cluster.state / "home/alice/.jupyter_rm/env"
    times = []
    for _ in range(2):  # at first nothing is packed on this side either
        shutil.rmtree(there, ignore_errors=True)
        times.append(first_task(session, SLURM, nodes=1))
    bare, cold = times
    warm = statistics.median(first_task(session, SLURM, nodes=1) for _ in range(rounds))
    print(
        f"first task in Slurm behind SSH: bare {bare:.1f} s, cold {cold:.1f} s (bar {COLD_BAR:g}), "
        f"warm {warm:.1f} s (bar {WARM_BAR:g})",
        flush=True,
    )
    return max(bare, cold) > COLD_BAR or warm > WARM_BAR


def compare(session: jrm.Session, name: str, pilot: jrm.Pilot, bar: float, options: argparse.Namespace) -> bool:
    """Print the rate of a pilot beside that of a local one; return whether the bar was missed."""
    local = session.pilot("local")
    for each in (local, pilot):
        if each.wait(timeout=120) != "ACTIVE":
            raise SystemExit(repr(each))
        rate(session, each, 500)
    here, there = [], []
    for _ in range(options.rounds):
        here.append(rate(session, local, options.tasks))
        there.append(rate(session, pilot, options.tasks))
    for each in (local, pilot):
        each.cancel()
        each.wait("DONE", 60)
    ratio = statistics.median(there) / statistics.median(here)
    print(
        f"{options.tasks} x /bin/true, {name}: {_spread(there)} tasks/s, local {_spread(here)}: "
        f"{100 * ratio:.0f} % (bar {100 * bar:.0f} %)",
        flush=True,
    )
    return ratio < bar


def _spread(rates: list[float]) -> str:
    return " ".join(f"{one:.0f}" for one in rates)


if __name__ == "__main__":
    sys.exit(main())
