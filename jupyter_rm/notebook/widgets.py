"""Small widgets: a page's script, one synced value that says what is shown, and messages both ways.

What a person types comes as a message and is not part of the state, so that it stands in no notebook file. Pages answer
only when the kernel listens: everything a widget does can be done in code too. Without anywidget there are none.
Read next: :mod:`.cards`, :mod:`.launch`, :mod:`.asking`.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PAGES = Path(__file__).parent / "pages"
MIME = "application/vnd.jupyter.widget-view+json"
Heard = Callable[[Mapping[str, Any]], None]


def somebody_looks() -> bool:
    """Is there a person's page at this kernel? Programs that run notebooks ask kernels never to ask questions."""
    if "ipykernel" not in sys.modules or "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))


@functools.cache
def _kind(page: str) -> Any:
    """Return the class of the widgets of a page; made when first needed, since ipywidgets costs half a second."""
    import anywidget
    import traitlets

    class Small(anywidget.AnyWidget):  # type: ignore[misc,unused-ignore]
        """A page's script and what it shows."""

        _esm = PAGES / page
        shown = traitlets.Dict().tag(sync=True)

    return Small


def widget(page: str, shown: Mapping[str, Any], heard: Heard) -> Any:
    """Return a widget; None when anywidget is not installed.

    Args:
        page: name of its script in ``pages``. shown: plain values. heard: called with each message of the page.
    """
    try:
        made = _kind(page)(shown=dict(shown))
    except ImportError:
        return None

    def hear(_widget: Any, content: Any, _buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        try:
            heard(content)
        except Exception:  # a page's click must not end in a traceback that nobody sees
            logging.getLogger("jupyter_rm").exception("a message of %s", page)

    made.on_msg(hear)
    return made


def bundle(made: Any) -> dict[str, Any]:
    """Return the part of a mime bundle that shows a widget; empty for None."""
    if made is None:
        return {}
    return {MIME: {"version_major": 2, "version_minor": 1, "model_id": made.model_id}}
