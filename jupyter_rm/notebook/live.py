"""A view as an object of a notebook: ``s.view("tasks")``. It shows itself; where, decides the page.

Its output holds three things, and a page takes the best it knows: a *tiny* description, which JupyterLab and Notebook
7 draw live through the Jupyter server (also while the kernel is busy or gone); a widget, which the kernel feeds itself,
for pages without our extension (VS Code); a still picture of the moment, for everything else and for ever. Runs without
a person (nbconvert, papermill) get the first and the last and never wait for a page. Nothing secret is in any of them.

Read next: :mod:`.feeder`, :mod:`.still`, ``pages/view.js``.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client.task import TaskHandle
from ..model.errors import JrmError
from . import look, plain, still, widgets

if TYPE_CHECKING:
    from ..client.session import Session

MIME = "application/vnd.jupyter-rm.view+json"
VERSION = 1
PAGES = Path(__file__).parent / "pages"


class View:
    """One view of a session; make it with ``session.view(...)``.

    Args:
        view: one of :data:`.look.VIEWS`. window: what part of it, see docs/server.md.
    """

    def __init__(self, session: Session, view: str, window: Mapping[str, Any] | None = None) -> None:
        self.name = look.check(view)
        self._live = "tasks" if view == "summary" else view  # a glance becomes the whole when it is alive
        self.window = {name: value for name, value in (window or {}).items() if value is not None}
        look.window_of(self.window)
        self._session = session
        self._widget: Any = None

    def close(self) -> None:
        """Stop feeding it from this kernel; what it shows stays."""
        if self._widget is not None:
            self._widget.close()
            self._widget = None

    def save(self, path: str, anonymous: bool = False, theme: str = "light") -> Path:
        """Write what it shows now to a file, a page (``.html``) or data (``.json``); return its path.

        Args:
            anonymous: people, jobs, tasks, hosts, sites and queues get other names. theme: ``light`` or ``dark``.
        """
        from .. import snapshot

        return snapshot.save(self._session, self._live, path, self.window, anonymous, theme)

    def __repr__(self) -> str:
        return str(self._bundle()["text/plain"])

    def _bundle(self) -> dict[str, Any]:
        session = self._session
        try:
            picture = look.picture(session, self.name, self._still_window())
        except JrmError:
            raise
        except Exception as error:  # a cell must show something, and say that it is our fault
            said = f"<{self.name} of session {session.name!r}: the picture broke: {type(error).__name__}: {error}>"
            return {"text/plain": said}
        return {
            "text/plain": plain.text(session, self.name, picture),
            "text/html": still.markup(picture, self.name, look.title_of(self.name, session.name)),
        }

    def _still_window(self) -> dict[str, Any]:
        """Return the window of the still picture: what fits into it."""
        if self.name == "nodes":
            return {"width": 640, "height": 170, **self.window, "limit": min(300, self.window.get("limit", 300))}
        if self.name in ("timeline", "queue"):
            return {**self.window, "width": 320, "height": 160}
        return {**self.window, "bins": min(120, self.window.get("bins", 120))}

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle = self._bundle()
        bundle[MIME] = {
            "view": self._live,
            "session": self._session.name,
            "window": self.window,
            "version": VERSION,
            # A page must not take a later session of this name for it.
            "opened_at": self._session._replica.ledger.opened_at,
        }
        if self._session._replica.error is None and widgets.somebody_looks():
            bundle |= self._fallback()
        return bundle

    def _fallback(self) -> dict[str, Any]:
        if self._widget is None:
            from . import fed  # brings ipywidgets

            self._widget = fed.widget(self._session, self._live, self.window)
        return widgets.bundle(self._widget)


def met(session: Session) -> None:
    """Take note of a session that was opened here: what its logins ask is shown to the person at the page."""
    from . import asking

    asking.attend(session)


def view(session: Session, name: str, window: Mapping[str, Any]) -> View:
    """Return a view of a session."""
    return View(session, name, window)


def card(thing: Any) -> Any:
    """Return the card of a task or a pilot."""
    from . import cards

    return cards.of_task(thing) if isinstance(thing, TaskHandle) else cards.of_pilot(thing)


_glances: weakref.WeakKeyDictionary[Any, View] = weakref.WeakKeyDictionary()


def bundle(session: Session) -> dict[str, Any]:
    """Return what a session shows when it stands at the end of a cell."""
    known = _glances.get(session)
    if known is None:
        known = _glances[session] = View(session, "summary")
    return known._repr_mimebundle_()
