"""The launch forms of sites, for :mod:`.api`: the half that reads descriptions; it runs on the hands.

Knows the forms, no HTTP. Read next: :mod:`jupyter_rm.views.forms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..batch import known, load
from ..broker.sites import search_path
from ..views import forms

_TITLES = {"local": "This machine", "noop": "Nothing at all (measures the machinery)"}


def sites() -> dict[str, Any]:
    """Return the sites that can be named without a login, and the batch systems for ``SYSTEM+ssh://me@login``."""
    search = search_path()
    systems = [
        {"name": name, "title": load(name, search).title}
        for name in sorted(known(search))
        if name not in ("base", "local")
    ]
    return {"sites": [{"name": name, "title": title} for name, title in _TITLES.items()], "systems": systems}


def form(site: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form of a site, filled with ``values``; as :func:`jupyter_rm.views.forms.form_of`."""
    return forms.form_of(forms.system_of(site), values, site=site)
