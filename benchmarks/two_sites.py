"""Four pilots on each of two clusters, 20 bulks of 100 tasks, and a kernel that is killed after ten of them.

    python benchmarks/two_sites.py [--pilots N] [--bulks N] [--tasks N] [--check]

Needs root: the clusters are the test suite's own Slurm (four nodes) and Grid Engine behind SSH on this machine
(``tests/cluster_kit.py``; ``JRM_TEST_CLUSTER=STATE`` uses those that are up). Tasks sleep for 0 to 0.4 s and write down
that they were started. After bulk ten the kernel is killed with SIGKILL; another one attaches and submits the rest.
``--check`` ends with 1 when not every task was done by exactly one start.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / place) for place in ("tests/remote", "tests", ".")]

from cluster_kit import shared  # noqa: E402
from remote_kit import Far  # noqa: E402
from two_sites_kit import study  # noqa: E402


def main() -> int:
    """Print what came of it; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--pilots", type=int, default=4, help="on each cluster")
    parser.add_argument("--bulks", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=100, help="in each bulk")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    total = given.bulks * given.tasks
    with Far(shared().need("slurm", "sge")) as far:
        begun = time.monotonic()
        seen = study(far, "two-sites", given.pilots, given.bulks, given.tasks, 900)
        whole = time.monotonic() - begun
    twice = sum(count > 1 for count in seen.starts.values())
    print(f"tasks                    {seen.counts}; {len(seen.starts)} started, {twice} of them more than once")
    print(f"by pilot                 {dict(sorted(seen.used.items()))}")
    print(f"second kernel            knew {seen.known} tasks after {seen.attached:.2f} s")
    rate, busy = total / seen.took, 100 * seen.busy
    print(f"first start to last end  {seen.took:.1f} s, {rate:.0f} tasks/s, cores busy {busy:.0f} %")
    print(f"with logins and queues   {whole:.1f} s")
    good = seen.counts == {"DONE": total} and len(seen.starts) == total and not twice
    return 1 if given.check and not good else 0


if __name__ == "__main__":
    sys.exit(main())
