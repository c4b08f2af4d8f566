"""Hostile text through every field that a person fills, on the real way, and whether any of it ever runs.

    python benchmarks/injection.py [--count N] [--quick] [--sites local,ssh,slurm,sge] [--check]

Needs root: it brings up the test suite's own Slurm, Grid Engine and OpenSSH login nodes on this machine
(``tests/cluster_kit.py``; ``JRM_TEST_CLUSTER=STATE`` uses those that are up). At each site one pilot gets N strings
through every field of a task, as real tasks whose program writes down what reached it; as names of files in every form
of staging directives and through ``s.fs``; and through all other text that a person gives: sites, scripts, bundles,
labels, facts, environments. ``tests/injection_kit.py`` lists every field with what sends it and what is real about it.
N strings go through every field of a pilot by the checks of client and broker, and those that are refused by the
broker itself; what they take is shown to the site's own ``sbatch --test-only`` or ``qsub -verify``, and pilots are
really asked for: some with texts of each field, and some in directories of such names.
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
from injection_files import FileFields, by_hand  # noqa: E402
from injection_kit import (  # noqa: E402
    Count,
    TaskFields,
    Trap,
    named_directories,
    parsed,
    pilots,
    started,
    table,
    totals,
)
from injection_more import run as other_fields  # noqa: E402

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
    counts: dict[str, Count] = {}
    begun = time.monotonic()

    def told(what: str, made: dict[str, Count]) -> None:
        nonlocal begun
        print(f"\n{name}: {what} ({time.monotonic() - begun:.0f} s)\n{table(made)}", flush=True)
        begun = time.monotonic()
        counts.update(made)

    pilot = session.pilot(url, cores=2) if name == "local" else session.pilot(url)
    if pilot.wait(timeout=120) != "ACTIVE":
        raise SystemExit(pilot.reason)
    home = Path(os.environ["JUPYTER_RM_HOME"])
    # s.stage writes as the user of this machine, root, what the account at the site then cannot: it comes last.
    told("files of tasks", FileFields(session, pilot, trap, texts, home).all())
    told("s.fs", by_hand(session, pilot, texts, home, options.singly))
    told("everything else", other_fields(session, pilot, trap, texts, url, options.jobs))
    told("fields of tasks", TaskFields(session, pilot, trap, texts).all())
    pilot.cancel()
    pilot.wait("DONE", 60)
    asked, taken = pilots(session, url, system, texts, options.through)
    told("fields of pilots, refused or taken", {f"pilot {field}": one for field, one in asked.items()})
    if name in ("slurm", "sge"):
        told(f"{len(taken)} taken, shown to the real parser", {"parsed": parsed(cluster, name, taken, options.parsed)})
    if system:
        told("pilots really asked for", {"started": started(session, url, taken, options.jobs // 4)})
    base = str(home) if name == "local" else f"{cluster.state}/home/alice"
    made = {"directories": named_directories(session, url, base, trap, texts, options.pilots)}
    told("pilots in directories of such names", made)
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
    parser.add_argument("--through", type=int, default=500, help="refused pilots of each field that go to the broker")
    parser.add_argument("--parsed", type=int, default=600, help="pilots that are shown to the real parser")
    parser.add_argument("--pilots", type=int, default=8, help="pilots that are really started in odd directories")
    parser.add_argument("--singly", type=int, default=100, help="names that go through calls of s.fs one by one")
    parser.add_argument("--jobs", type=int, default=16, help="how many go where each costs a job or a login")
    parser.add_argument("--sites", default=",".join(SITES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.count, options.through, options.parsed, options.pilots, options.singly = 300, 20, 40, 2, 40
        options.jobs = 4
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
