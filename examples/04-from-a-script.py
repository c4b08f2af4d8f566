"""The ensemble of 01-first-ensemble.ipynb in small, as a plain Python script: no notebook, no display.

Run it:  python examples/04-from-a-script.py --runs 20
Run it again while the first one runs, or after you ended it with Ctrl-C: nothing is submitted twice, because the
session remembers. That is the pattern for long studies: look first, submit what is missing, wait, gather.
"""

from __future__ import annotations

import argparse
import random
import time

import jupyter_rm as jrm


def epidemic(r0: float, seed: int, people: int = 1000) -> int:
    """Return how many people of a town are infected before a new disease dies out."""
    chance = random.Random(seed).random
    susceptible, infected = people - 1, 1
    while infected:
        infect = r0 * susceptible / people  # new infections for each recovery, on average
        if chance() * (infect + 1) < infect:
            susceptible, infected = susceptible - 1, infected + 1
        else:
            infected -= 1
    return people - susceptible


def main() -> None:
    parser = argparse.ArgumentParser(description="How often does an epidemic break out?")
    parser.add_argument("--runs", type=int, default=100, help="runs for each value of R0 (default: 100)")
    parser.add_argument("--session", default="from-a-script", help="name of the session")
    options = parser.parse_args()
    values = [0.5, 1.0, 1.5, 2.0, 3.0]
    r0 = [value for value in values for _ in range(options.runs)]
    began = time.perf_counter()

    with jrm.open(options.session) as s:
        calls = s.tasks()
        if len(calls) == 0:
            s.pilot("local")
            calls = s.map(epidemic, r0, range(len(r0)))
            print(f"submitted {len(calls)} calls to session {s.name!r}")
        else:
            print(f"found {len(calls)} calls in session {s.name!r}: {calls.counts()}")
        if len(calls) != len(r0):
            raise SystemExit(f"that is another study ({len(calls)} calls, not {len(r0)}): give --session another name")
        infected = calls.results()
        print("R0    runs  broke out")
        for value, first in zip(values, range(0, len(infected), options.runs), strict=True):
            some = infected[first : first + options.runs]
            print(f"{value:<5} {len(some):<5} {sum(each > 50 for each in some) / len(some):.0%}")
        counts = s.counts()
        s.close()  # without this line the session, and its results, would be there for the next run
    ended = ", ".join(f"{count} {state}" for state, count in counts.items())
    print(f"summary: {ended} in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
