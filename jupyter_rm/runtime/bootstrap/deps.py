"""Which packages of others an agent's environment takes from the interpreter there, and which are sent from here.

A package of the system is good enough when it can be imported and is no older than this package asks for. Staged ones
come first on the path, so that one choice holds for the whole environment; it is written into its record.

Knows: what an interpreter has, versions. Does not know: how parts are sent. Read next: ``ensure.py``, ``wheels.py``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from jupyter_rm.model.errors import SiteError
from jupyter_rm.runtime.bootstrap import pack, wheels
from jupyter_rm.runtime.bootstrap.choose import glibc_of
from jupyter_rm.runtime.bootstrap.installing import text_of
from jupyter_rm.runtime.bootstrap.survey import SiteFacts, Version
from jupyter_rm.runtime.bootstrap.talk import Runs, tail

LOOK_S = 120.0
_MARK = "jrm-system:"
_MODULES = {"pyzmq": "zmq"}


@dataclass(frozen=True)
class Deps:
    """The choice for one interpreter.

    Attributes:
        told: of each package where it comes from and why, for people and for the record.
        staged: those that are sent. tag, arch, libc: of the interpreter.
    """

    told: Mapping[str, str]
    staged: tuple[str, ...]
    tag: str
    arch: str
    libc: str

    def __str__(self) -> str:
        return "; ".join(f"{name} {text}" for name, text in self.told.items())

    @property
    def key(self) -> str:
        """The hash of the choice and of what is sent; SiteError JRM-B05 when that cannot be had for this Python."""
        sent = ""
        if self.staged:
            sent = pack.base_key(self.staged) if self._as_here() else wheels.base_key(*self._where(), self.staged)
        return hashlib.sha256(json.dumps([dict(self.told), sent]).encode()).hexdigest()[:20]

    def parts(self) -> list[pack.Part]:
        """Return the archive of those that are sent, none when there are none."""
        if not self.staged:
            return []
        if self._as_here():
            return [pack.base_part(self.arch, self.staged)]
        return [wheels.base_part(*self._where(), self.staged)]

    def _as_here(self) -> bool:
        return self.tag == pack.python_tag() and not pack.portable(self.arch, glibc_of(self.libc))

    def _where(self) -> tuple[str, str, str]:
        return self.tag, self.arch, self.libc


def decided(connection: Runs, facts: SiteFacts, python: str, version: Version, prefer: str) -> Deps:
    """Return which packages are taken from an interpreter there.

    Args:
        prefer: ``system`` or ``system-then-staged``.

    Raises:
        SiteError: JRM-B12, with ``system`` some are missing, too old or damaged there; all are named.
    """
    tag = f"cp{version[0]}{version[1]}"
    names = pack.base_names(tag)
    words = [f"{name}={_MODULES.get(name, name)}" for name in names]
    done = connection.run([python, "-I", "-c", text_of("system.py"), *words], timeout=LOOK_S)
    head, mark, rest = done.text.rpartition(_MARK)
    if done.rc or not mark:
        raise SiteError(
            f"{facts.host}: {python} does not say which packages it has: {tail(done.err, head.encode())}",
            code="JRM-B12",
            hint="env_prefer='staged' needs none of them",
        )
    system = json.loads(rest)
    told: dict[str, str] = {}
    lacks: dict[str, str] = {}
    for name in names:
        asked = wheels.asked_range(name)
        has, where, wrong = system.get(name, ("", "", ""))
        if not has:
            lacks[name] = "the system has none"
        elif wrong:
            lacks[name] = f"that of the system ({has}) cannot be imported: {wrong}"
        elif not enough(has, asked):
            lacks[name] = f"the system has {has}, {asked} is needed"
        told[name] = f"staged ({lacks[name]})" if name in lacks else f"{has} of the system ({where})"
    if lacks and prefer == "system":
        raise SiteError(
            f"{facts.host}: {python} lacks " + "; ".join(f"{name}: {why}" for name, why in lacks.items()),
            code="JRM-B12",
            hint="install them there, or let them be sent: env_prefer='system-then-staged'",
        )
    return Deps(told, tuple(lacks), tag, facts.arch, facts.libc)


def enough(version: str, asked: str) -> bool:
    """Say whether a version is in a range such as ``>=26.2``; a range of any other form is not taken for granted."""
    if not asked:
        return True
    least = re.fullmatch(r">=\s*(\d+(?:\.\d+)*)", asked)
    has = re.match(r"\d+(?:\.\d+)*", version)
    if least is None or has is None:
        return False
    # 2.0rc1 is before 2.0.
    early = bool(re.match(r"\.?(a|b|rc|dev)", version[has.end() :]))
    one, other = ([int(part) for part in text.split(".")] for text in (has[0], least[1]))
    width = max(len(one), len(other))
    one, other = (numbers + [0] * (width - len(numbers)) for numbers in (one, other))
    return one > other or (one == other and not early)
