"""``doctor``: looks at everything that must be right on this machine and says what is wrong and what to do.

Changes nothing (it may start the broker, which is harmless). Knows: places, native parts, broker, disk.
"""

from __future__ import annotations

import html
import importlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..model.errors import JrmError
from ..model.units import human_s
from .settings import load


@dataclass(frozen=True)
class Finding:
    """One thing looked at; ``hint`` says what to do when it is not ok, ``code`` which error it is."""

    name: str
    ok: bool
    text: str
    hint: str = ""
    code: str = ""

    def __str__(self) -> str:
        code = f" [{self.code}]" if self.code else ""
        line = f"{'ok ' if self.ok else 'BAD'}  {self.name}: {self.text}{code}"
        return line if self.ok or not self.hint else f"{line}\n     next: {self.hint}"


class Findings(list[Finding]):
    """All findings; shows itself."""

    @property
    def ok(self) -> bool:
        """Is everything right?"""
        return all(each.ok for each in self)

    def __repr__(self) -> str:
        bad = sum(not each.ok for each in self)
        return "\n".join([*map(str, self), f"{bad} of {len(self)} checks failed" if bad else "all is well"])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": f"<pre>{html.escape(repr(self))}</pre>"}


def doctor() -> Findings:
    """Look at everything; never raises."""
    found = Findings()
    for name, look in _LOOKS:
        try:
            found.append(look())
        except JrmError as error:
            found.append(Finding(name, False, error.message, error.hint, error.code))
        except Exception as error:
            found.append(Finding(name, False, f"{type(error).__name__}: {error}", "please report this"))
    return found


def _python() -> Finding:
    text = f"{platform.python_version()} at {sys.executable}"
    return Finding("python", sys.version_info >= (3, 10), text, "use Python 3.10 or newer")


def _settings() -> Finding:
    _, why = load()
    changed = [f"{name} from {source}" for name, source in why.items() if source != "default"]
    return Finding("settings", True, ", ".join(changed) or "all at their defaults")


def _home() -> Finding:
    from ..runtime.home import Home, filesystem_of, is_network
    from .settings import current

    home = Home.locate(current().profile)
    state = home.state
    kind, _ = filesystem_of(state)
    fine = not is_network(kind) or home.network_ok
    return Finding("home", fine, f"{state} on {kind or 'an unknown filesystem'}", "set JUPYTER_RM_HOME to a local disk")


def _disk() -> Finding:
    from ..runtime.home import Home
    from .settings import current

    free = shutil.disk_usage(Home.locate(current().profile).state).free >> 20
    return Finding("disk", free > 512, f"{free} MiB free for state and sandboxes", "make room, or move JUPYTER_RM_HOME")


def _native() -> Finding:
    missing = [
        name for name in ("_placer", "_spawner") if importlib.util.find_spec(f"jupyter_rm.native.{name}") is None
    ]
    for name in {"_placer", "_spawner"} - set(missing):
        importlib.import_module(f"jupyter_rm.native.{name}")
    text = f"missing: {', '.join(missing)}" if missing else "placement and process spawner load"
    return Finding("native parts", not missing, text, "install again: make setup, or pip install --force-reinstall")


def _cores() -> Finding:
    from .capacity import usable_cores

    usable, there = usable_cores(), os.cpu_count() or 1
    return Finding("cores", usable > 0, f"{usable} usable of {there}")


def _broker() -> Finding:
    from .listing import broker_status

    told = broker_status()
    text = (
        f"pid {told.pid}, up {human_s(told.uptime)}, incarnation {told.incarnation}, {told.sessions} sessions, "
        f"{told.agents} agents, {told.rss_kib >> 10} MiB"
    )
    return Finding("broker", True, text)


def _journal() -> Finding:
    from .listing import broker_status

    told = broker_status()
    fine = not any(word in told.journal_report for word in ("salvaged", "rows-missing", "failed"))
    return Finding("journal", fine, f"{told.journal_rows} rows, {told.journal_report}", "see: jrm broker log")


_LOOKS: list[tuple[str, Callable[[], Finding]]] = [
    ("python", _python),
    ("settings", _settings),
    ("home", _home),
    ("disk", _disk),
    ("native parts", _native),
    ("cores", _cores),
    ("broker", _broker),
    ("journal", _journal),
]
