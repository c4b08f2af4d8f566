"""Finding out what a site offers, for its launch form: log in, look which queues and projects there are, write it down.

Only logins that ask nothing are tried: a person answers where a pilot is started. The broker writes the same down
whenever it looks at a site, so this is for a site that no pilot was asked of yet. Read next:
:mod:`jupyter_rm.runtime.found`.
"""

from __future__ import annotations

import contextlib
import threading
import time

import msgspec

from ..batch import recognise
from ..broker.sites import AUTO, PLAIN, description_of, parse, search_path
from ..model.errors import JrmError, RequestError, SiteError
from ..model.sites import SiteQueue
from ..runtime.found import Found, recall, remember
from ..runtime.home import Home

# Batch systems are asked no oftener than this for the same site, s.
PAUSE_S = 30.0
_one = threading.Lock()
_tried: dict[str, float] = {}


def known(site: str) -> Found:
    """Return what was found at a site before; asks nobody."""
    try:
        return recall(_home(), site)
    except JrmError:
        return Found(site)


def discover(site: str) -> Found:
    """Return what a site offers, asked now unless that was a moment ago; a failure is in it, beside what was known.

    Args:
        site: name or URL of a site with a batch system. It blocks for as long as a login takes.
    """
    with _one:
        before = known(site)
        if time.monotonic() - _tried.get(site, float("-inf")) < PAUSE_S:
            return before
        _tried[site] = time.monotonic()
        try:
            made = _look(site)
        except JrmError as error:
            made = msgspec.structs.replace(before, failure=error.message, hint=error.hint)
        with contextlib.suppress(OSError, JrmError):
            remember(_home(), made)
        return made


def _home() -> Home:
    from .settings import current

    return Home.locate(current().profile)


def _look(site: str) -> Found:
    from ..runtime.batchsite import BatchSite
    from ..runtime.bootstrap import survey
    from ..runtime.connect import Nobody, connect
    from .sites import _settings

    place = parse(site)
    if place.system == PLAIN:
        raise RequestError(f"{site}: has no queues", hint="nothing is to be found there", code="JRM-Q79")
    with connect(place.target, Nobody(), _settings()) as connection:
        facts = survey(connection)
        system = place.system
        if system == AUTO:
            fits = recognise(facts.commands, search_path())
            if not fits:
                raise SiteError(
                    f"{site}: no known batch system was found there",
                    hint="name it: SYSTEM+ssh://, or see jrm site list",
                    code="JRM-S74",
                )
            system = fits[0]
        variables = place.variables(facts, _home())
        batch = BatchSite(connection, description_of(system), facts.user, float(facts.utc_offset_s), variables)
        found = batch.queues()
        projects: tuple[str, ...] = ()
        missed = ""
        try:
            projects = tuple(one.name for one in batch.projects())
        except SiteError as error:  # the queues stand all the same
            missed = error.message
    queues = tuple(
        SiteQueue(
            *(one.name, one.open, one.default, one.max_walltime_s or 0.0, one.max_nodes or 0),
            *(one.cores_per_node or 0, one.mem_mib or 0),
        )
        for one in found
    )
    return Found(site, time.time(), batch.system.title, queues, "", "", projects, missed)
