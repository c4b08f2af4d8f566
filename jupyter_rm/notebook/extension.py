"""``%load_ext jupyter_rm``: registers the magics, completion, options and short errors; unloading undoes all of it.

Loading twice is harmless. Read next: :mod:`.magics`.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from IPython.core.magic import no_var_expand
from traitlets import Bool, Float, Unicode
from traitlets.config import Configurable

from ..client import settings
from ..model.errors import JrmError, TaskError
from .complete import matcher
from .magics import Magics

_NAME = "_jupyter_rm"


class JupyterRM(Configurable):
    """Options of the notebook side: ``%config JupyterRM`` lists them."""

    profile = Unicode("default", help="Which broker: profiles share nothing.").tag(config=True)
    progress = Bool(True, help="Show progress of blocking waits.").tag(config=True)
    progress_interval = Float(0.25, help="Least seconds between two updates of a progress display.").tag(config=True)
    traceback = Bool(False, help="Show full tracebacks of jupyter_rm's own errors.").tag(config=True)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        now = settings.current()
        if "JupyterRM" not in self.config:
            self.profile, self.progress, self.traceback = now.profile, now.progress, now.traceback
            self.progress_interval = now.progress_interval_s
        self._pass_on()
        self.observe(lambda _: self._pass_on(), ["profile", "progress", "progress_interval", "traceback"])

    def _pass_on(self) -> None:
        settings.change(
            profile=self.profile,
            progress=self.progress,
            progress_interval_s=self.progress_interval,
            traceback=self.traceback,
        )


class Extension:
    """What one shell got from us, so that it can be taken away again."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.magics = Magics(shell.user_ns)
        self.magics.show_last_error = self.show_last_error
        self.options = JupyterRM(parent=shell)
        self._matcher: Any = None
        self._last: tuple[Any, Any, Any] | None = None

    def load(self) -> None:
        """Register everything."""
        shell = self.shell

        @no_var_expand  # type: ignore[untyped-decorator,unused-ignore]
        def line(line: str = "") -> Any:
            return self.magics.line(line)

        @no_var_expand  # type: ignore[untyped-decorator,unused-ignore]
        def cell(line: str, cell: str = "") -> Any:
            return self.magics.cell(line, cell)

        line.__doc__ = cell.__doc__ = "Drive jupyter_rm; see %jrm help."
        shell.register_magic_function(line, "line", "jrm")
        shell.register_magic_function(cell, "cell", "jrm")
        if self.options not in shell.configurables:
            shell.configurables.append(self.options)
        self._matcher = matcher(self.magics)
        shell.Completer.custom_matchers.append(self._matcher)
        shell.set_custom_exc((JrmError,), self._show_error)

    def unload(self) -> None:
        """Take everything away."""
        shell = self.shell
        self.magics.close()
        for kind in ("line", "cell"):
            shell.magics_manager.magics[kind].pop("jrm", None)
        if self.options in shell.configurables:
            shell.configurables.remove(self.options)
        if self._matcher in shell.Completer.custom_matchers:
            shell.Completer.custom_matchers.remove(self._matcher)
        shell.set_custom_exc((), None)

    def _show_error(self, shell: Any, kind: Any, error: Any, trace: Any, tb_offset: Any = None) -> Any:
        self._last = (kind, error, trace)
        if self.options.traceback or os.environ.get("JUPYTER_RM_TRACEBACK") == "1":
            shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
            return None
        lines = [short(error)]
        shell._showtraceback(kind, str(error), lines)
        return lines

    def show_last_error(self) -> None:
        """Show the last of our errors in full."""
        if self._last is None:
            sys.stdout.write("no error of jupyter_rm so far\n")
            return
        self.shell.showtraceback(self._last)


def short(error: BaseException) -> str:
    """Return an error as one readable line and its hint; for failed tasks also what they last said."""
    if not isinstance(error, JrmError):
        return "".join(traceback.format_exception_only(type(error), error)).strip()
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, TaskError):
        said = (error.remote_traceback or error.output).strip().splitlines()[-8:]
        text += "".join(f"\n  | {line}" for line in said)
    return text


def load(shell: Any) -> None:
    """Bring the magics into ``shell``; harmless when they are there."""
    if getattr(shell, _NAME, None) is None:
        extension = Extension(shell)
        extension.load()
        setattr(shell, _NAME, extension)


def unload(shell: Any) -> None:
    """Take the magics away; harmless when they are not there."""
    extension = getattr(shell, _NAME, None)
    if extension is not None:
        extension.unload()
        setattr(shell, _NAME, None)
