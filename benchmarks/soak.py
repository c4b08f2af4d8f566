"""Days of a session in minutes: pilots that renew themselves, tasks that trickle in, and what that takes in memory.

    python benchmarks/soak.py [--days 7] [--tasks 100000] [--walltime 43200] [--quick]

The machines of broker and agents are the real ones; clock, network and processes are simulated: a week takes minutes.
Prints for each day: tasks done, pilots so far, bytes held by the broker's machine and by the agents that live.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "sim"))

from steady_kit import soak

from jupyter_rm.model.states import TaskState


def main() -> int:
    """Live through the days; 1 when a task was lost or run again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--walltime", type=float, default=43_200.0, help="of each pilot, s")
    parser.add_argument("--quick", action="store_true", help="one day, 3,000 tasks")
    given = parser.parse_args()
    if given.quick:
        given.days, given.tasks = 1, 3000
    world, ends = soak(given.days, given.tasks, given.walltime)
    for day in ends:
        print(f"day {day.number}: {day.done} done, {day.pilots} pilots, broker {day.broker} B, agents {day.agents} B")
    again = world.watch("0-study").executions - given.tasks
    first, last = ends[0], ends[-1]
    told = {
        "done": int(world.ledger.counts[TaskState.DONE]),
        "started twice": again,
        "renewals": last.pilots - 1,
        "bytes a task": round((last.broker - first.broker) / max(1, last.done - first.done), 1),
        "agents' growth": round(last.agents / first.agents, 3),
    }
    print(json.dumps(told))
    return 1 if again or told["done"] != given.tasks else 0


if __name__ == "__main__":
    sys.exit(main())
