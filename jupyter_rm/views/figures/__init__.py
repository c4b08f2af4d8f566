"""Figures: Bokeh templates of the views, one per view and theme, without any data.

The same template serves cells, JupyterLab, Notebook 7 and exported pages: whoever shows it fills the sources, one per
table of the view's pictures, with that table's columns. Importing this loads Bokeh. Read next: :mod:`.charts`,
:mod:`jupyter_rm.views.export`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from typing import Any

from ...model.errors import RequestError
from ..controls import CONTROLS, TIMES
from ..palette import THEMES, Palette, palette
from ..said import SAID
from . import bars, charts, maps
from .style import Sources

Builder = Callable[[Palette, Sources], Any]
FIGURES: dict[str, Builder] = {
    "tasks": charts.tasks,
    "nodes": maps.nodes,
    "queue": bars.queue,
    "timeline": bars.timeline,
    "usage": charts.usage,
}
_ID = re.compile(r"p\d+")
_made: dict[tuple[str, str], dict[str, Any]] = {}
_lock = threading.Lock()


def build(view: str, theme: str) -> tuple[Any, Sources]:
    """Return a new figure of a view, and its sources by table.

    Raises:
        RequestError: no such view or theme; JRM-Q65.
    """
    if view not in FIGURES:
        raise RequestError(f"view {view[:40]!r} has no figure", hint="views: " + ", ".join(FIGURES), code="JRM-Q65")
    if theme not in THEMES:
        raise RequestError(f"theme {theme[:40]!r}", hint="themes: " + ", ".join(THEMES), code="JRM-Q65")
    sources = Sources()
    return FIGURES[view](palette(theme), sources), sources


def template(view: str, theme: str = "light") -> dict[str, Any]:
    """Return the figure of a view as it is sent: always the same for the same view, theme and versions.

    Returns:
        ``view``, ``theme``, ``version`` (changes with the content), ``bokeh`` (the version of BokehJS that draws it),
        ``doc`` (for ``Bokeh.embed.embed_item``), ``sources`` (table -> name of its ColumnDataSource), ``times`` (table
        -> columns that are milliseconds since 1970), ``optional`` (name of a part that is seen only while a table has
        rows -> that table), ``said`` (table -> column -> see :mod:`jupyter_rm.views.said`), ``controls`` (see
        :mod:`jupyter_rm.views.controls`).

    Raises:
        RequestError: no such view or theme; JRM-Q65.
    """
    with _lock:
        if (view, theme) not in _made:
            _made[view, theme] = _template(view, theme)
        return _made[view, theme]


def _template(view: str, theme: str) -> dict[str, Any]:
    import bokeh
    from bokeh.embed import json_item

    figure, sources = build(view, theme)
    # The numbers of models count on in a process: they are made small and the same every time.
    ids: dict[str, str] = {}

    def stable(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: stable(each) for key, each in value.items()}
        if isinstance(value, list):
            return [stable(each) for each in value]
        if isinstance(value, str) and _ID.fullmatch(value):
            return ids.setdefault(value, f"p{len(ids) + 1}")
        return value

    doc = stable(json.loads(json.dumps(json_item(figure))))
    doc.pop("target_id", None)
    told = {
        "view": view,
        "theme": theme,
        "bokeh": bokeh.__version__,
        "doc": doc,
        "sources": sources.names,
        "times": {table: columns for table, columns in TIMES.items() if table in sources.names},
        "optional": sources.optional,
        "said": {table: columns for table, columns in SAID.items() if table in sources.names},
        "controls": CONTROLS.get(view, []),
    }
    body = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    return told | {"version": hashlib.blake2b(body, digest_size=9).hexdigest()}
