"""The widget that a view becomes where no server of ours feeds the page; without anywidget there is none.

Its synced state is the page's script and three short texts; frames go beside it, as messages, and are not stored.
Read next: :mod:`.feeder`, ``pages/view.js``.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .feeder import Feeder

if TYPE_CHECKING:
    from ..client.session import Session

PAGE = Path(__file__).parent / "pages" / "view.js"


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
    made.on_msg(lambda _widget, content, _buffers: feeder.obey(content) if isinstance(content, dict) else None)
    feeder.start()
    return made
