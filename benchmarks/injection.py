"""Hostile text through every field that a person fills, on the real way, and whether any of it ever runs.

    python benchmarks/injection.py [--count N] [--quick] [--sites local,ssh,slurm,sge] [--check]

Needs root: it brings up the test suite's own Slurm, Grid Engine and OpenSSH login nodes on this machine
(``tests/cluster_kit.py``; ``JRM_TEST_CLUSTER=STATE`` uses those that are up). At each site one pilot gets N strings
through every field of a task, as real tasks whose program writes down what reached it. N strings go through every
field of a pilot by the checks of client and broker, and some of each to the broker itself; what they take is shown to
the site's own ``sbatch --test-only`` or ``qsub -verify``, and pilots with directories of such names are really started.
The strings hold commands that make a file CANARY; in the end none may be anywhere. ``--check`` exits 1 when something
is wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent / "tests")]

from cluster_kit import Cluster, shared  # noqa: E402
from injection_kit import TaskFields, Trap, named_directories, parsed, pilots, table, totals  # noqa: E402

import jupyter_rm as jrm  # noqa: E402
from jupyter_rm.client import admin  # noqa: E402

SITES = {
    "local": ("local", ""),
    "ssh": ("ssh://alice@tb-slurm", "local"),
    "slurm": ("slurm+ssh://alice@tb-slurm", "slurm"),
    "sge": ("sge+ssh://alice@tb-sge", "sge"),
}


def site(session: jrm.Session, name: str, trap: Trap, cluster: Cluster, options: argparse.Namespace) -> int:
    """Print the figures of one site; return how much was wrong."""
    url, system = SITES[name]
    texts = trap.strings(options.count, len(name))
    begun = time.monotonic()
    pilot = session.pilot(url, cores=2) if name == "local" else session.pilot(url)
    if pilot.wait(timeout=120) != "ACTIVE":
        raise SystemExit(pilot.reason)
    counts = TaskFields(session, pilot, trap, texts).all()
    pilot.cancel()
    pilot.wait("DONE", 60)
    print(f"\n{name}: fields of tasks ({time.monotonic() - begun:.0f} s)\n{table(counts)}", flush=True)
    begun = time.monotonic()
    asked, taken = pilots(session, url, system, texts, options.through)
    print(f"{name}: fields of pilots, refused or taken ({time.monotonic() - begun:.0f} s)\n{table(asked)}", flush=True)
    counts |= {f"pilot {field}": one for field, one in asked.items()}
    if name in ("slurm", "sge"):
        begun = time.monotonic()
        told = counts["parsed"] = parsed(cluster, name, taken, options.parsed)
        print(f"{name}: {told.sent} of {len(taken)} taken, shown to the real parser ({time.monotonic() - begun:.0f} s)")
    begun = time.monotonic()
    base = os.environ["JUPYTER_RM_HOME"] if name == "local" else f"{cluster.state}/home/alice"
    started = counts["directories"] = named_directories(session, url, base, trap, texts, options.pilots)
    print(f"{name}: pilots in directories of such names: {started} ({time.monotonic() - begun:.0f} s)", flush=True)
    for field, one in counts.items():
        for line in one.wrong:
            print(f"  WRONG {field}: {line[:300]}")
    sums = totals(counts.values())
    print(f"{name}: {dict(sums)}")
    return sums["wrong"]


def main() -> int:
    """Print the figures; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--through", type=int, default=200, help="refused pilots of each field that go to the broker")
    parser.add_argument("--parsed", type=int, default=1000, help="pilots that are shown to the real parser")
    parser.add_argument("--pilots", type=int, default=8, help="pilots that are really started in odd directories")
    parser.add_argument("--sites", default=",".join(SITES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.count, options.through, options.parsed, options.pilots = 300, 20, 40, 2
    names = options.sites.split(",")
    cluster = shared()
    cluster.need(*{"sge" if name == "sge" else "slurm" for name in names})
    home = tempfile.mkdtemp(prefix="jrmb-")
    os.environ["JUPYTER_RM_HOME"] = home
    os.environ["JUPYTER_RM_SSH_CONFIG"] = str(cluster.client / "config")
    os.environ["JUPYTER_RM_SSH_AGENT"] = "0"
    trap = Trap(cluster.state / "trap", [Path(home), cluster.state / "home"])
    session = jrm.open("injection")
    try:
        wrong = sum(site(session, name, trap, cluster, options) for name in names)
        sprung = trap.sprung()
        print(f"\ncanaries: {len(sprung)} {sprung[:5]}; wrong: {wrong}")
        return 1 if options.check and (sprung or wrong) else 0
    finally:
        session.close()
        admin.stop(force=True)
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(trap.place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
