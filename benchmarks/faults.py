"""What breaks under a running pilot in Slurm behind SSH, and how it ends: the whole table of docs/faults.md, for real.

    python benchmarks/faults.py [--check] [--tasks N] [--cut S] [NAME ...]

Needs root: it brings up the test suite's own Slurm with four virtual nodes and an OpenSSH login node on this machine
(``tests/cluster_kit.py``; ``JRM_TEST_CLUSTER=STATE`` uses one that is up). Each fault strikes a pilot of its own while
its tasks run: half of them may run again, half must never start twice. Printed: the state and reason that it led to,
the seconds to them and the documented limit, and, counted from what every task wrote down of its starts and ends:
tasks lost, tasks run against their policy, and further starts. ``--check`` exits 1 when one ends otherwise than
documented. The line is cut for 120 s; all takes about 15 minutes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "remote")]

from cluster_kit import shared  # noqa: E402
from faults_kit import FAULTS, Trial  # noqa: E402
from remote_kit import Far  # noqa: E402

from jupyter_rm.client import session as sessions  # noqa: E402


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--cut", type=float, default=120.0, help="s for which the line is cut")
    parser.add_argument("names", nargs="*", help="faults as docs/faults.md calls them; all of them when left out")
    options = parser.parse_args()
    wrong = set(options.names) - {fault.name for fault in FAULTS}
    if wrong:
        parser.error(f"no such fault: {', '.join(sorted(wrong))}; there are: {', '.join(one.name for one in FAULTS)}")
    missed = 0
    print("fault | state | seconds (limit) | tasks | lost | against policy | started again | reason", flush=True)
    with Far(shared().need("slurm")) as far:
        for number, fault in enumerate(FAULTS):
            if options.names and fault.name not in options.names:
                continue
            session = sessions.open(f"f{number}")
            try:
                done = Trial(far, session, fault, tasks=options.tasks, scale=options.cut / 120).run()
            except AssertionError as error:
                missed += 1
                print(f"{fault.name} | NOT AS DOCUMENTED: {error}"[:1000], flush=True)
            else:
                missed += done.seconds > fault.within
                print(done.row(fault.within), flush=True)
            session.close()
            far.cluster.wait_idle()
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
