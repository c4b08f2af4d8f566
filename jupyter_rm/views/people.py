"""Whose is what at a site: one colour per user in all views, and which jobs run on which nodes.

Oneself is always the first colour. Others begin at a place that their name tells and go to the next free one, so that a
few users never share a colour, and each keeps his as long as this process lives. Knows rows of sites; knows no
pilots' tasks. Read next: :mod:`.lines`, :mod:`jupyter_rm.model.sites`.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Mapping

from ..batch.nodelist import expand
from ..batch.records import BatchError
from ..model.sites import SiteJob, SiteView
from .palette import CATEGORIES, category

MINE = category(0)
_MOST_KEPT = 64
_lock = threading.Lock()
_hues: dict[str, int] = {}
_runs: dict[int, tuple[SiteView, dict[str, tuple[SiteJob, ...]]]] = {}


def hue(user: str, mine: bool = False) -> str:
    """Return the colour key of a user; ``mine``: of the account that pilots run under."""
    if mine:
        return MINE
    with _lock:
        if user not in _hues:
            free = CATEGORIES - 1
            first = zlib.crc32(user.encode()) % free
            taken = set(_hues.values())
            places = [1 + (first + step) % free for step in range(free)]
            # More users than colours share them; letters and names tell them apart.
            _hues[user] = next((place for place in places if place not in taken), places[0])
        return category(_hues[user])


def hues(jobs: Iterable[SiteJob]) -> dict[str, str]:
    """Return the colour key per user of some jobs, oneself first."""
    found = {job.user: MINE for job in jobs if job.mine}
    return found | {job.user: hue(job.user) for job in jobs if not job.mine and job.user not in found}


def runs(view: SiteView) -> Mapping[str, tuple[SiteJob, ...]]:
    """Return host -> the jobs that run there, of a site as it was seen."""
    with _lock:
        kept = _runs.get(id(view))
    if kept is not None:
        return kept[1]
    found: dict[str, list[SiteJob]] = {}
    for job in view.jobs:
        try:
            hosts = expand(job.hosts) if job.hosts else ()
        except BatchError:
            continue  # it came from a site: what cannot be read is not shown
        for host in hosts:
            found.setdefault(host, []).append(job)
    made = {host: tuple(each) for host, each in found.items()}
    with _lock:
        if len(_runs) >= _MOST_KEPT:
            _runs.pop(next(iter(_runs)))
        _runs[id(view)] = view, made  # as long as the view is kept its id is its own
    return made


def job_key(site: str, id: str) -> str:
    """Return the name under which a job of a site can be highlighted in all views."""
    return f"j.{id}@{site}"


def chosen_hosts(sites: Mapping[str, SiteView], select: str) -> frozenset[str]:
    """Return the hosts of the job that ``select`` names (see :func:`job_key`); none for anything else."""
    id, _, site = select[2:].partition("@") if select.startswith("j.") else ("", "", "")
    view = sites.get(site)
    if view is None:
        return frozenset()
    return frozenset(host for host, jobs in runs(view).items() if any(job.id == id for job in jobs))
