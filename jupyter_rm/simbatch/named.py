"""``sim://NAME?nodes=8&cores=4&busy=3``: which cluster that is, how large, and where it lies.

A cluster is made when it is first used and kept; with no job of one's own in it, it takes on another size. Knows names
and the programs' directory, starts nothing. Read next: :mod:`.store`.
"""

from __future__ import annotations

import difflib
import math
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ..model.errors import RequestError
from .store import Settings, Store, build

SCHEME = "sim"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_LIMITS: dict[str, tuple[float, float]] = {
    "nodes": (1, 256),
    "cores": (1, 256),
    "wait": (0, 3600),
    "busy": (0, 50),
    "pace": (0.1, 3600),
    "grace": (0, 600),
}
_WHOLE = ("nodes", "cores", "busy")
# The one program that stands on the path of the batch system's commands and of jobs, under two names.
_PROGRAM = """#!/bin/sh
# Nothing that lies where it is started may stand in for a module.
exec '{python}' -c 'import sys; sys.path[:] = [part for part in sys.path if part]
from jupyter_rm.simbatch.__main__ import main
sys.exit(main(sys.argv[1:]))' --at '{place}' {verb}"$@"
"""


@dataclass(frozen=True)
class SimName:
    """A cluster as a URL names it; ``asked`` are the settings that the URL gives, others stay as they are."""

    name: str = SCHEME
    asked: tuple[tuple[str, float], ...] = ()

    def settings(self, now: Settings) -> Settings:
        """Return settings with those that were asked for."""
        asked: dict[str, Any] = {key: int(value) if key in _WHOLE else value for key, value in self.asked}
        return replace(now, **asked)


def parse(rest: str) -> SimName:
    """Return what stands behind ``sim://``.

    Raises:
        RequestError: JRM-Q17, a name or setting that cannot be.
    """
    name, _, query = rest.partition("?")
    name = name.strip("/") or SCHEME
    if not _NAME.fullmatch(name):
        hint = "small letters, digits and '-', at most 31, starting with a letter"
        raise RequestError(f"site: {name!r} is no name of a cluster", hint=hint, code="JRM-Q17")
    asked: dict[str, float] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in _LIMITS:
            near = difflib.get_close_matches(key, _LIMITS, 1)
            hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(_LIMITS)
            raise RequestError(f"site: sim:// has no setting {key!r}", hint=hint, code="JRM-Q17")
        least, most = _LIMITS[key]
        try:
            value = float(int(text) if key in _WHOLE else float(text))
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            hint = f"a {'whole number' if key in _WHOLE else 'number'} from {least:g} to {most:g}"
            raise RequestError(f"site: {key}={text!r}", hint=hint, code="JRM-Q17")
        asked[key] = value
    return SimName(name, tuple(sorted(asked.items())))


def programs(store: Store) -> Path:
    """Return the directory of a cluster's programs, made for the Python that runs now."""
    made = store.place / "bin"
    made.mkdir(mode=0o700, exist_ok=True)
    place = str(store.place.resolve()).replace("'", "'\\''")
    python = sys.executable.replace("'", "'\\''")
    for name, verb in (("simbatch", ""), ("simrun", "run ")):
        text, path = _PROGRAM.format(python=python, place=place, verb=verb), made / name
        if not path.exists() or path.read_text() != text:
            part = made / f".{name}.part"
            part.write_text(text)
            part.chmod(0o700)
            part.replace(path)
    return made


def prepare(place: Path, wanted: SimName) -> Path:
    """Make a cluster, or give it the settings that are asked for; return the directory of its programs.

    Args:
        place: its private directory, which is there.

    Raises:
        RequestError: JRM-Q17, it has jobs and another size.
    """
    store = Store(place)
    with store.open() as state:
        asked = wanted.settings(state.settings)
        if (asked.nodes, asked.cores) != (state.settings.nodes, state.settings.cores):
            if state.real:
                has = f"{state.settings.nodes} nodes of {state.settings.cores} cores"
                raise RequestError(
                    f"site: sim://{wanted.name} has {has}, and jobs",
                    hint="leave the size out, wait until its jobs are over, or take another name",
                    code="JRM-Q17",
                )
            state.jobs.clear()
            state.settings = asked
            build(state)
        state.settings = asked
        store.jobs.mkdir(mode=0o700, exist_ok=True)
        return programs(store)
