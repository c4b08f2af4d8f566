"""The launch forms of sites, for :mod:`.api`: the half that reads descriptions; it runs on the hands.

Knows the forms, no HTTP. Read next: :mod:`jupyter_rm.views.forms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..batch import known
from ..broker.sites import description_of, search_path
from ..client import discover
from ..views import fields, forms

_TITLES = {
    "local": "This machine",
    "noop": "Nothing at all (measures the machinery)",
    "sim://": "A small cluster with a queue, on virtual nodes of this machine",
}


def sites() -> dict[str, Any]:
    """Return the sites that can be named without a login, and the batch systems for ``SYSTEM+ssh://me@login``."""
    search = search_path()
    systems = [
        {"name": name, "title": description_of(name).title}
        for name in sorted(known(search))
        if name not in ("base", "local", "sim")
    ]
    return {"sites": [{"name": name, "title": title} for name, title in _TITLES.items()], "systems": systems}


def form(site: str, values: Mapping[str, Any], refresh: bool = False) -> dict[str, Any]:
    """Return the form of a site, filled with ``values``; as :func:`jupyter_rm.views.forms.form_of`.

    Args:
        refresh: look at the site for its queues first; else what was found there before is offered.
    """
    system = forms.system_of(site)
    found = (discover.discover if refresh else discover.known)(site)
    return forms.form_of(system, values, site=site, discovered=found, hidden=fields.hidden(system.name))


def hide(site: str, names: Iterable[str]) -> dict[str, Any]:
    """Keep which fields of a site's batch system are not shown to this person; return what is kept."""
    system = forms.system_of(site)
    fields.hide(system.name, names)
    return {"system": system.name, "hidden": sorted(fields.hidden(system.name))}
