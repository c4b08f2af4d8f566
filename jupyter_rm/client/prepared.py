"""Environments for tasks at the pilots' sites, made from a list of requirements: ``s.prepare_env(...)``.

This machine resolves and downloads; the broker sends what is missing there over its login; the target needs neither an
index nor pip. Read next: :mod:`jupyter_rm.runtime.bootstrap.lock` (what is taken), :mod:`jupyter_rm.broker.prepare`.
"""

from __future__ import annotations

import argparse
import html
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ..model.errors import RequestError
from ..model.ids import check_name

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..model.messages import FilesMoved
    from .pilot import Pilot
    from .session import Session

MOST_S = 3600.0


@dataclass(frozen=True)
class PreparedEnv:
    """An environment that tasks may name: ``named_env=NAME``.

    Attributes:
        name: of it; host: the machine; path: its directory there, which always means this very environment.
        python: version of its interpreter. how: ``made``, or ``found`` (it was there). sent: bytes.
        lock: of each package (name, version, SHA-256 of its wheel).
    """

    name: str
    host: str
    path: str
    python: str
    how: str
    sent: int
    lock: tuple[tuple[str, str, str], ...]

    def __repr__(self) -> str:
        packages = ", ".join(f"{name} {version}" for name, version, _ in self.lock[:6])
        more = f" and {len(self.lock) - 6} more" if len(self.lock) > 6 else ""
        sent = f", {self.sent / 1e6:.1f} MB sent" if self.sent else ", nothing sent"
        return f"{self.name} at {self.host}: {self.how}{sent}; Python {self.python} with {packages}{more}; {self.path}"


class PreparedEnvs(list[PreparedEnv]):
    """The same environment at each site; shows itself."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": f"<pre>{html.escape(repr(self))}</pre>"}


class Sources(TypedDict, total=False):
    """From where an environment's packages come, and for which pilot; see :meth:`Session.prepare_env`."""

    pilot: Pilot | str
    wheels: str | os.PathLike[str]
    index_url: str
    find_links: Sequence[str]
    update: bool


def prepare(
    session: Session, name: str, requirements: str | os.PathLike[str] | Iterable[str], **how: Unpack[Sources]
) -> PreparedEnvs:
    """Make an environment at every account at which a pilot lives; see :meth:`Session.prepare_env`."""
    # Only here: whoever builds a parser waits for none of it.
    import msgspec

    from ..runtime.bootstrap.lock import Python, Requirements, locked, pip
    from .pilot import which

    check_name(name, "name")
    if unknown := set(how) - set(Sources.__annotations__):
        hint = "known: " + ", ".join(Sources.__annotations__)
        raise RequestError(f"prepare_env: no {min(unknown)!r}", hint=hint, code="JRM-Q05")
    wanted = Requirements(
        () if isinstance(requirements, (str, os.PathLike)) else tuple(requirements),
        _full(requirements) if isinstance(requirements, (str, os.PathLike)) else "",
        _full(how["wheels"]) if how.get("wheels") else "",
        how.get("index_url", ""),
        tuple(how.get("find_links", ())),
    )
    named = how.get("pilot")
    pilots = [which(session, named)] if named else [one for one in session.pilots() if one.site != "noop"]
    accounts = {pilot.site: pilot for pilot in pilots if not pilot._row().state.final}
    if not accounts:
        raise RequestError("prepare_env: no pilot lives", hint="ask for one first: s.pilot(site)", code="JRM-Q14")
    made = PreparedEnvs()
    for pilot in accounts.values():
        python = msgspec.convert(_ask(session, pilot, "python"), Python)
        lock = locked(wanted, python, how.get("update", False))
        order = {"name": name, "python": python, "lock": lock, "pip": pip()}
        told = _ask(session, pilot, "environment", msgspec.json.encode(order).decode())
        rows = tuple((wheel.name, wheel.version, wheel.sha256) for wheel in lock)
        made.append(
            PreparedEnv(name, told["host"], told["path"], told["python_version"], told["how"], told["sent"], rows)
        )
    return made


def add_words(parser: argparse.ArgumentParser) -> None:
    """Give a parser the words of ``%jrm prepare`` and ``jrm prepare``."""
    add = parser.add_argument
    add("name", help="what tasks will call it: --named-env NAME")
    add("requirements", nargs="*", help="as pip takes them, such as 'numpy==2.*'")
    add("-r", "--file", default="", help="a requirements file instead")
    add("--wheels", default="", help="a directory here to take all of them from")
    add("--index-url", default="", help="another index than the one that pip is configured for")
    add("--find-links", action="append", default=[], metavar="PLACE", help="a further directory or page with wheels")
    add("--pilot", default="", help="only at the site of this pilot, such as p.0")
    add("--update", action="store_true", help="resolve again although the answer is known")


def from_words(session: Session, options: argparse.Namespace) -> PreparedEnvs:
    """Do what such a line says.

    Raises:
        RequestError: also for a list beside a file, and for what is no pilot.
    """
    if options.file and options.requirements:
        raise RequestError("prepare: a list and a file", hint="put all into the file", code="JRM-Q40")
    how: Sources = {"find_links": options.find_links, "index_url": options.index_url, "update": options.update}
    if options.wheels:
        how["wheels"] = options.wheels
    if options.pilot:
        how["pilot"] = options.pilot
    return prepare(session, options.name, options.file or options.requirements, **how)


def _full(path: str | os.PathLike[str]) -> str:
    return str(Path(path).expanduser().resolve())


def _ask(session: Session, pilot: Pilot, what: str, *texts: str) -> dict[str, Any]:
    from ..model.messages import MoveFiles

    connection = session._connection
    answer: FilesMoved = connection.request(
        MoveFiles(connection.number(), session.name, pilot._number, what, texts), MOST_S
    )
    return dict(json.loads(answer.names[0]))
