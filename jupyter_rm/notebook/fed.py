"""The widget that a view becomes where no server of ours feeds the page; without anywidget there is none.

Its synced state is the page's script and two short texts; frames go beside it, as messages, and are not stored. The
page draws plain tables at once, and the views of JupyterLab as soon as the kernel has had time to send them.
Read next: :mod:`.feeder`, ``pages/view.js``.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .feeder import Feeder

if TYPE_CHECKING:
    from ..client.session import Session

PAGE = Path(__file__).parent / "pages" / "view.js"
LIBRARY = Path(__file__).parent / "static" / "view.js"  # built from labextension/src/core


@functools.cache
def _kind() -> Any:
    """Return the class of these widgets; made when first needed, since ipywidgets costs half a second."""
    import anywidget
    import traitlets

    class Fed(anywidget.AnyWidget):  # type: ignore[misc,unused-ignore]
        """One view, fed by this kernel."""

        _esm = PAGE
        view = traitlets.Unicode("").tag(sync=True)
        session = traitlets.Unicode("").tag(sync=True)
        feeder: Feeder | None = None

        def close(self) -> None:
            """Stop feeding; take the widget away."""
            if self.feeder is not None:
                self.feeder.close()
            super().close()

    return Fed


def widget(session: Session, view: str, window: Mapping[str, Any]) -> Any:
    """Return a widget that shows ``view``, being fed from now on; None when anywidget is not installed."""
    try:
        made = _kind()(view=view, session=session.name)
    except ImportError:
        return None
    page = weakref.ref(made)

    def send(frame: bytes) -> None:
        target = page()
        if target is None or target.comm is None:
            raise RuntimeError("the widget is gone")
        target.send({"kind": "frame"}, buffers=[frame])

    feeder = made.feeder = Feeder(session, view, window, send)

    def heard(_widget: Any, content: Any, _buffers: Any) -> None:
        op = content.get("op") if isinstance(content, dict) else None
        if op in ("library", "ask"):
            # What takes its time (loading Bokeh, a site far away) must not hold up the kernel's next cell.
            threading.Thread(target=_reply, args=(page, session, content), name="jrm-answer", daemon=True).start()
        elif op:
            feeder.obey(content)

    made.on_msg(heard)
    feeder.start()
    return made


def _reply(page: Any, session: Session, told: Mapping[str, Any]) -> None:
    """Send the library of views that pages of the server use, or the answer to a request."""
    if told["op"] == "library":
        if not LIBRARY.is_file():
            return  # not built: the page's own tables do
        content: dict[str, Any] = {"kind": "library"}
        data = LIBRARY.read_bytes()
    else:
        from . import answers

        words = [str(told.get(name, "")) for name in ("method", "path", "body")]
        status, media, data = answers.answer(session, words[0], words[1], words[2])
        content = {"kind": "answer", "number": told.get("number"), "status": status, "type": media}
    target = page()
    if target is not None and target.comm is not None:
        with contextlib.suppress(Exception):  # the kernel ends: nobody is left to be told
            target.send(content, buffers=[data])
