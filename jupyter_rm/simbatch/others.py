"""Other people's jobs: bookings that hold nodes for a time and then end; no processes stand behind them.

They are there when one's own first job comes to a cluster without any, and share all its nodes, so that it has to wait.
As in life they ask for more time than they need: a start comes sooner than it was expected. Read next: :mod:`.store`.
"""

from __future__ import annotations

from .schedule import Job, begin
from .store import State

PEOPLE = ("ada", "boris", "chen", "dalia", "emeka", "freya", "goran", "hana")
WORK = ("relax", "mesh", "train", "align", "forecast", "fold", "render")
# Time asked for, as a multiple of what is needed, and beyond it, s.
MORE, BEYOND = 1.5, 4.0


def come(state: State, now: float) -> None:
    """Have as many jobs of others in the cluster as its settings say, the first of them running."""
    settings, people = state.settings, PEOPLE
    there = sum(bool(job.lasts) for job in state.jobs)
    up = [node for node in state.nodes if not node.down]
    taken = {name for job in state.jobs if job.holds for name in job.on}
    free = [node.name for node in up if node.name not in taken]
    missing = settings.busy - there
    running = min(missing, len(free))
    for number in range(max(0, missing)):
        lasts = settings.pace * (number + 1 if number < running else 1)
        limit = MORE * lasts + BEYOND
        job = Job(state.next, people[state.next % len(people)], "batch", 1, 0, limit, now, now, lasts=lasts)
        job.name = WORK[state.next % len(WORK)]
        if number < running:
            # The nodes are dealt out as evenly as can be.
            share = free[number * len(free) // running : (number + 1) * len(free) // running]
            job.nodes = len(share)
            begin(state.nodes, state.jobs, job, share, now)
        state.jobs.append(job)
        state.next += 1
