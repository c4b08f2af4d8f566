"""The launch form of a site in a cell: ``%jrm form slurm+ssh://me@login``.

The kernel checks what is typed against the site's description and shows the command that would be run; the button asks
for the pilot. Without a page it shows the fields and the line to type. Read next: :mod:`jupyter_rm.views.forms`.
"""

from __future__ import annotations

import difflib
import html
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..client import discover
from ..client.show import table
from ..model.errors import JrmError, RequestError
from ..views import fields, forms
from . import widgets

if TYPE_CHECKING:
    from ..client.pilot import Pilot
    from ..client.session import Session


class Launch:
    """A form for one pilot.

    Attributes:
        form: the form as it stands, see :func:`jupyter_rm.views.forms.form_of`.
        pilot: the pilot that was asked for last, None before.

    Raises:
        RequestError: no such site; JRM-Q24.
    """

    def __init__(self, session: Session, site: str, values: Mapping[str, Any] | None = None) -> None:
        self.session = session
        self.site = site
        self.pilot: Pilot | None = None
        self._system = forms.system_of(site)
        self._widget: Any = None
        self._set(values or {})

    def fill(self, values: Mapping[str, Any]) -> Launch:
        """Set values beside those set before, None clears one; return the form, which shows what is wrong with them."""
        self._set({**self._values, **values})
        return self

    def _set(self, values: Mapping[str, Any]) -> None:
        """Check values and show them, these only."""
        self.form = forms.form_of(
            self._system,
            values,
            site=self.site,
            discovered=discover.known(self.site),
            hidden=fields.hidden(self._system.name),
        )
        # A name that is no field is told once, not with all that is filled in later.
        self._values = {name: values[name] for name in self._names() if values.get(name) is not None}
        self._tell()

    def _names(self) -> list[str]:
        return [str(field["name"]) for field in self.form["fields"]]

    def refresh(self) -> Launch:
        """Look at the site for its queues, and return the form with them; what failed is told in ``form["found"]``."""
        discover.discover(self.site)
        self._set(self._values)
        return self

    def hide(self, *names: str) -> Launch:
        """Show all fields but these from now on, here and in every form of this batch system; return the form.

        Raises:
            RequestError: there is no such field; JRM-Q21. SiteError: it cannot be kept; JRM-D21.
        """
        known = self._names()
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}?" if near else "fields: " + ", ".join(known)
                raise RequestError(f"hide: {name[:40]!r} is no field of this form", hint=hint, code="JRM-Q21")
        fields.hide(self._system.name, names)
        self._set(self._values)
        return self

    def start(self) -> Pilot:
        """Ask for the pilot that the form describes.

        Raises:
            RequestError: something in the form is wrong, or the site is refused.
        """
        wanted = self.form["pilot"]
        if wanted is None:
            name, text = next(iter(self.form["errors"].items()))
            raise RequestError(f"{name}: {text}" if name else text, hint="mend the form", code="JRM-Q21")
        fields = {name: value for name, value in wanted.items() if name != "site"}
        self.pilot = self.session.pilot(wanted["site"], **fields)
        self._tell(f"{self.pilot.uid} was asked for; %jrm queue shows where it stands", started=True)
        return self.pilot

    def _tell(self, told: str = "", started: bool = False) -> None:
        if self._widget is not None:
            self._widget.shown = self._shown(told, started)

    def _shown(self, told: str = "", started: bool = False) -> dict[str, Any]:
        kept = (
            "site",
            "title",
            "fields",
            "errors",
            "ready",
            "command",
            "script",
            "note",
            "found",
            "resolved",
            "left_out",
        )
        return {name: self.form[name] for name in kept} | {"told": told, "started": started}

    def _heard(self, told: Mapping[str, Any]) -> None:
        values = told.get("values")
        if not isinstance(values, dict):
            return
        self._set(values)
        op, names = told.get("op"), told.get("hidden")
        try:
            if op == "start":
                self.start()
            elif op == "hide" and isinstance(names, list):
                self.hide(*map(str, names))
            elif op == "refresh":
                # A login takes its time, and cells want to run.
                threading.Thread(target=self.refresh, name="jrm-discover", daemon=True).start()
        except JrmError as error:
            self._tell(f"{error.message} (next: {error.hint})" if error.hint else error.message)

    def __repr__(self) -> str:
        names = [field["name"] for field in self.form["fields"] if field["shown"]]
        lines = [f"<form for a pilot at {self.site}: {', '.join(names)}>"]
        lines += [f"  {name or 'form'}: {text}" for name, text in self.form["errors"].items()]
        lines += [f"  {self.form['command']}"] if self.form["command"] else []
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        rows = [
            (field["label"], field["value"], field["default"], field["error"] or field["help"])
            for field in self.form["fields"]
            if field["shown"] and not field["hidden"]
        ]
        markup = table(["field", "value", "default", "help"], rows, f"A pilot at {self.site} ({self.form['title']})")
        if whole := self.form["errors"].get(""):
            markup += f"<p>{html.escape(whole)}</p>"
        if self.form["command"]:
            markup += f"<pre>{html.escape(self.form['command'])}</pre>"
        made: dict[str, Any] = {"text/plain": repr(self), "text/html": markup}
        if widgets.somebody_looks():
            if self._widget is None:
                self._widget = widgets.widget("form.js", self._shown(), self._heard)
            made |= widgets.bundle(self._widget)
        return made
