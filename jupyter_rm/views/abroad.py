"""What others do on the nodes of a map, as far as the batch systems of a session's sites tell: whose jobs run where.

Arrays beside a chart, one entry per host. Knows rows of sites and charts; knows no tasks. Read next: :mod:`.people`,
:mod:`.nodes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..model.sites import SiteView
from .chart import Chart
from .people import MINE, hues, runs
from .tables import Array
from .texts import line

_BUSY = {"busy": 1.0, "mixed": 0.5}
YOU = "you"


@dataclass(frozen=True)
class Abroad:
    """Beside a chart of n hosts.

    Attributes:
        known: its batch system tells of this host, shape (n,), bool; busy: how far jobs fill it, 0 to 1, shape (n,).
        amounts: cores, GPUs and memory (GiB) of hosts that no pilot holds, 0 where not told, shape (3, n).
        user: place in ``users`` of whose jobs are the most there, -1: nobody's, shape (n,).
        users: (name, colour key). jobs: host's place -> what runs there, in words.
    """

    known: Array
    busy: Array
    amounts: Array
    user: Array
    users: list[tuple[str, str]]
    jobs: dict[int, str]

    def dominant(self, edges: Array) -> list[int]:
        """Return for each cell between ``edges`` whose nodes are the most in it, -1: nobody's."""
        count, users = len(edges) - 1, len(self.users)
        out = [-1] * count
        here = np.flatnonzero(self.user >= 0)
        cell = np.searchsorted(edges, here, "right") - 1
        inside = (cell >= 0) & (cell < count)
        code, amount = np.unique(cell[inside] * users + self.user[here[inside]], return_counts=True)
        for at in np.lexsort((amount, code // max(1, users))).tolist():  # the last of a cell is the largest
            out[int(code[at]) // users] = int(code[at]) % users
        return out


def abroad(plan: Chart, sites: Mapping[str, SiteView]) -> Abroad:
    """Return what others do on the hosts of a chart; hosts that a pilot holds are one's own."""
    size = len(plan)
    known, busy, user = np.zeros(size, bool), np.zeros(size), np.full(size, -1, np.int64)
    amounts = np.zeros((3, size))
    users: list[tuple[str, str]] = [(YOU, MINE)]
    number: dict[str, int] = {}
    jobs: dict[int, str] = {}
    where = _Places(plan)
    for view in sites.values():
        colors = hues(view.jobs)
        for node in view.nodes:
            for place in where(node.name):
                known[place], busy[place] = True, _BUSY.get(node.state, 0.0)
                amounts[:, place] = node.cores, node.gpus, node.mem / 1024
        for host, some in runs(view).items():
            whose = Counter(YOU if job.mine else job.user for job in some).most_common(1)[0][0]
            if whose not in number:
                number[whose] = 0 if whose == YOU else len(users)
                users += [] if whose == YOU else [(line(whose, 40), colors[whose])]
            for place in where(host):
                user[place], busy[place] = number[whose], busy[place] or 1.0
                jobs[place] = _told(f"job {job.id} of {YOU if job.mine else job.user}" for job in some)
    own = plan.pilot >= 0
    user[own], amounts[:, own] = 0, 0.0
    return Abroad(known, busy, amounts, user, users, jobs)


def _told(jobs: Iterable[str]) -> str:
    all_ = list(jobs)
    return line(", ".join(all_[:3]) + (f" and {len(all_) - 3} more" if len(all_) > 3 else ""), 160)


class _Places:
    """Finds the places of a host, also where a chart names it below its pilot."""

    def __init__(self, plan: Chart) -> None:
        self._places = plan.places
        self._below: dict[str, list[int]] = {}
        for name, place in plan.places.items() if any("/" in name for name in plan.names[:1]) else ():
            self._below.setdefault(name.partition("/")[2], []).append(place)

    def __call__(self, host: str) -> list[int]:
        place = self._places.get(host)
        return self._below.get(host, []) if place is None else [place]


def lit(plan: Chart, hosts: Iterable[str]) -> Array:
    """Return a mask of the places of some hosts."""
    mask = np.zeros(len(plan), bool)
    where = _Places(plan)
    for host in hosts:
        mask[where(host)] = True
    return mask
