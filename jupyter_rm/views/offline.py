"""Bokeh plots in notebooks that need no network: BokehJS travels inside the notebook, compressed, once.

Plain Bokeh on the outside (``output_notebook``, ``figure``, ``show``). Bokeh's own inline mode stores BokehJS with all
its extras twice, some 8 MB, uncompressed; this stores the core library once, about 0.5 MB, and the browser unpacks it.
Plots get no background and grey texts, so that they can be read on light and dark pages. For figures of
``bokeh.plotting``: widgets, tables and TeX need Bokeh's own ``output_notebook``. Knows nothing of sessions and tasks.
Read next: ``examples/01-first-ensemble.ipynb``.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import uuid
from pathlib import Path
from typing import Any, NoReturn

from ..model.errors import RequestError

NAME = "jupyter_rm_offline"
# Grey that has a contrast of 4 or more against both white and black.
_TEXT, _LINE = "#808080", "#80808055"
_THEME = {
    "attrs": {
        "Plot": {"background_fill_color": None, "border_fill_color": None, "outline_line_color": _LINE},
        "Grid": {"grid_line_color": _LINE},
        "Axis": {
            "axis_label_text_color": _TEXT,
            "major_label_text_color": _TEXT,
            "axis_line_color": _TEXT,
            "major_tick_line_color": _TEXT,
            "minor_tick_line_color": None,
        },
        "Legend": {
            "background_fill_color": None,
            "border_line_color": None,
            "label_text_color": _TEXT,
            "title_text_color": _TEXT,
        },
        "Title": {"text_color": _TEXT},
    }
}
# The page's promise of a ready BokehJS; plots wait for it, in whatever order the cells' scripts run.
_LOAD = """<script>
(function () {
  if (window.jrmBokeh) return;
  window.jrmBokeh = (async function () {
    if (window.Bokeh && window.Bokeh.version === "%(version)s") return window.Bokeh;
    const packed = Uint8Array.from(atob("%(packed)s"), c => c.charCodeAt(0));
    const text = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    const script = document.createElement("script");
    script.textContent = "(function () { var exports, module, define;\\n" + text + "\\n}).call(window);";
    document.head.appendChild(script);
    return window.Bokeh;
  })();
})();
</script>"""
_LOADED = "<small>BokehJS %s is in this notebook; plots need no network.</small>"
_SHOW = """<div id="%(id)s" role="img" aria-label="%(label)s"></div><script>
(function () {
  const place = document.getElementById("%(id)s");
  if (!window.jrmBokeh) {
    place.textContent = "The plot needs BokehJS: run the cell with output_notebook() first.";
    return;
  }
  window.jrmBokeh.then(Bokeh => Bokeh.embed.embed_item(%(item)s, "%(id)s"))
    .catch(error => { place.textContent = "The plot could not be drawn: " + error; });
})();
</script>"""


def output_notebook() -> None:
    """Make ``bokeh.plotting.show`` draw into this notebook, without any network; once per notebook.

    Raises:
        RequestError: Bokeh is not installed.
    """
    try:
        import bokeh.io
    except ImportError:
        raise RequestError("Bokeh is not installed", hint="pip install jupyter_rm[notebook]", code="JRM-Q64") from None
    io: Any = bokeh.io  # its types know two kinds of notebook only; its code takes any that is registered
    io.install_notebook_hook(NAME, load=_load, show_doc=_show_doc, show_app=_show_app, overwrite=True)
    io.output_notebook(notebook_type=NAME)


def loader() -> str:
    """Return the HTML that brings BokehJS into a page."""
    import bokeh

    source = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"
    # Without a time in it, the same notebook gives the same bytes.
    packed = base64.b64encode(gzip.compress(source.read_bytes(), 9, mtime=0)).decode("ascii")
    return _LOAD % {"version": bokeh.__version__, "packed": packed}


def drawing(model: Any, themed: bool = True) -> str:
    """Return the HTML that draws a figure or a layout of figures in a page with :func:`loader`.

    Args:
        themed: make it fit for light and dark pages; not for figures that have their colours already.
    """
    from bokeh.embed import json_item
    from bokeh.themes import Theme

    # A script ends at the first "</", even within a string, and "<!--" changes where: no "<" is left as it is.
    whole = json_item(model, theme=Theme(json=_THEME) if themed else None)
    item = json.dumps(whole, separators=(",", ":")).replace("<", "\\u003c")
    title = getattr(getattr(model, "title", None), "text", None) or "plot"
    label = html.escape(str(title), quote=True)
    return _SHOW % {"id": f"plot-{uuid.uuid4()}", "label": label, "item": item}


def _display(markup: str, plain: str) -> None:
    from IPython.display import display

    display({"text/html": markup, "text/plain": plain}, raw=True)  # type: ignore[no-untyped-call]


def _load(resources: Any, verbose: bool, hide_banner: bool, load_timeout: int) -> None:  # noqa: ARG001 (Bokeh's form)
    import bokeh

    _display(loader() + _LOADED % bokeh.__version__, "BokehJS is in this notebook; plots need no network.")


def _show_doc(model: Any, state: Any, notebook_handle: Any) -> None:  # noqa: ARG001 (Bokeh's form)
    _display(drawing(model), f"<plot: {getattr(getattr(model, 'title', None), 'text', None) or type(model).__name__}>")


def _show_app(app: Any, state: Any, notebook_url: Any, **_: Any) -> NoReturn:  # noqa: ARG001 (Bokeh's form)
    raise RequestError("this draws figures, not Bokeh applications", hint="bokeh.io.output_notebook()", code="JRM-Q64")
