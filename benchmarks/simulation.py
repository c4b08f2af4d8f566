"""How many simulated histories a minute: seeds full of faults, each with all its promises checked.

Run: ``python benchmarks/simulation.py --seeds 10000 --jobs 2``. The seeds are shared out over processes of
``python -m jupyter_rm.sim``. A seed is at least 200 tasks in most cases; the bar is 110 ms of one core for each.
``--check`` ends with an error when a promise was broken or the bar is missed, ``--quick`` runs 200 seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time

BAR_MS = 110.0


def main() -> int:
    """Run the seeds and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--quick", action="store_true", help="200 seeds")
    parser.add_argument("--check", action="store_true", help="end with an error when the bar is missed")
    given = parser.parse_args()
    count = 200 if given.quick else given.seeds
    edges = [given.first + count * job // given.jobs for job in range(given.jobs + 1)]
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "jupyter_rm.sim", "--json", "--seeds", f"{first}-{after - 1}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for first, after in itertools.pairwise(edges)
        if after > first
    ]
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    took = time.perf_counter() - began
    failed = sorted(seed for result in results for seed in result["failed"])
    cpu_ms = sum(result["cpu"] for result in results) / count * 1e3
    tasks = sum(result["tasks"] for result in results)
    events = sum(result["events"] for result in results)
    print(f"{'seeds':>24}  {count}")
    print(f"{'broken':>24}  {len(failed)} {failed[:20]}")
    print(f"{'tasks':>24}  {tasks}")
    print(f"{'events':>24}  {events}")
    print(f"{'wall time':>24}  {took:.1f} s with {given.jobs} processes, {count / took * 60:.0f} seeds a minute")
    print(f"{'processor time a seed':>24}  {cpu_ms:.1f} ms (bar {BAR_MS:.0f} ms)")
    missed = bool(failed) or cpu_ms > BAR_MS
    if missed and given.check:
        print("the bar is missed")
    return 1 if failed or (given.check and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
