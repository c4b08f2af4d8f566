"""``python -m jupyter_rm.sim``: run seeds of the simulation.

Read next: :mod:`jupyter_rm.sim.world`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from ..testing.mutations import MUTATIONS, mutated
from .world import World


def _say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m jupyter_rm.sim", description="Run seeds of the simulated world.")
    parser.add_argument("--seed", type=int, help="run this one and say what happened")
    parser.add_argument("--seeds", default="0-99", help="run a range, first-last (both included)")
    parser.add_argument("--trace", action="store_true", help="print the last events of the seed")
    parser.add_argument("--lines", type=int, default=400, help="how many of them")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="put this bug in")
    parser.add_argument("--json", action="store_true", help="print one line of JSON in the end")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        first = last = given.seed
    else:
        first, _, after = given.seeds.partition("-")
        first, last = int(first), int(after or first)
    began, busy, failed, tasks, events = time.perf_counter(), time.process_time(), [], 0, 0
    with mutated(given.mutation) as bugs:
        for seed in range(first, last + 1):
            world = World(seed, bugs, depth=max(3000, given.lines))
            outcome = world.run()
            tasks, events = tasks + outcome.tasks, events + outcome.events
            if outcome.broken:
                failed.append(seed)
            if given.seed is not None and not given.json:
                _say("\n".join(map(str, outcome.faults)))
            if given.trace or (outcome.broken and given.seed is not None):
                _say(world.trace.story(given.lines))
            if (outcome.broken or given.seed is not None) and not given.json:
                _say(outcome)
    took = time.perf_counter() - began
    count = last - first + 1
    if given.json:
        cpu = time.process_time() - busy
        result = {"seeds": count, "failed": failed, "tasks": tasks, "events": events, "seconds": took, "cpu": cpu}
        _say(json.dumps(result))
    elif given.seed is None:
        each = took / count * 1e3
        _say(f"{count} seeds, {len(failed)} broken {failed[:20]}, {tasks} tasks, {took:.1f} s, {each:.0f} ms each")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
