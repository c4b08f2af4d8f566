"""Reading a journal without a broker: the same fold, on a private copy, so that a dead session can be looked at.

Changes nothing. Read next: :mod:`.story`, :mod:`jupyter_rm.runtime.journal`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..model.errors import RequestError, SiteError
from ..model.facts import KIND_FACT, Fact, decode, encode
from ..model.ids import parse_task, pilot_uid
from ..model.ledger import Ledger
from ..model.states import TaskState
from . import show
from .story import lines


class Replayed:
    """All sessions of a journal.

    Attributes:
        report: what the journal's check found. sessions: ledger per session number.
    """

    def __init__(self, path: str, report: Any, sessions: dict[int, Ledger], told: dict[int, list[Any]]) -> None:
        self.path = path
        self.report = report
        self.sessions = sessions
        self._told = told

    def as_dict(self) -> dict[str, Any]:
        """Return counts per session in plain values."""
        return {
            "journal": self.path,
            "report": self.report.state,
            "sessions": [
                {
                    "name": ledger.name,
                    "number": number,
                    "closed": ledger.closed,
                    "facts": ledger.folded,
                    "bulks": len(ledger.bulks),
                    "tasks": {state.name: int(ledger.counts[state]) for state in TaskState if ledger.counts[state]},
                    "pilots": [[pilot_uid(row.number), row.state.name, row.spec.site] for row in ledger.pilots],
                }
                for number, ledger in sorted(self.sessions.items())
            ],
        }

    def story(self, name: str, uid: str) -> list[str]:
        """Return the story of one task of the newest session of this name (or of the one with this key, ``0-study``).

        Raises:
            RequestError: no such session or task in the journal.
        """
        ordered = sorted(self.sessions.items())
        numbers = [number for number, ledger in ordered if name in (ledger.name, f"{number}-{ledger.name}")]
        if not numbers:
            known = ", ".join(sorted({ledger.name for ledger in self.sessions.values()}))
            raise RequestError(f"session {name!r} is not in the journal", hint=f"there are: {known}", code="JRM-Q42")
        ledger = self.sessions[numbers[-1]]
        bulk, index = parse_task(uid)
        if bulk >= len(ledger.bulks) or index >= len(ledger.bulks[bulk]):
            raise RequestError(f"{uid}: no such task in session {name!r}", hint="count from 0", code="JRM-Q03")
        about = [
            (number, wall, encode(fact))
            for number, wall, fact in self._told[numbers[-1]]
            if getattr(fact, "bulk", None) == bulk and ("picks" not in fact.__struct_fields__ or index in fact.picks)
        ]
        return lines(about, bulk, index, ledger)

    def __repr__(self) -> str:
        out = [f"{self.path}: {self.report.state}"]
        for told in self.as_dict()["sessions"]:
            closed = ", closed" if told["closed"] else ""
            pilots = f"{len(told['pilots'])} pilots"
            out.append(f"  {told['name']}{closed}: {told['facts']} facts, {pilots}, {show.counts_text(told['tasks'])}")
        return "\n".join(out)


def replay(path: str) -> Replayed:
    """Fold a journal, from its file, without changing it.

    Raises:
        RequestError: there is no journal, or it is of a newer version. SiteError: it cannot be read.
    """
    if Path(path).is_dir():
        hint = f"name the journal in it, such as {Path(path) / 'journal'}"
        raise RequestError(f"{path}: it is a directory, no journal", hint=hint, code="JRM-D18")
    try:
        return _replay(path)
    except OSError as error:
        hint = "check its permissions, or copy it to where you can read it"
        raise SiteError(f"{path}: it cannot be read: {error.strerror}", hint=hint, code="JRM-D16") from error


def _replay(path: str) -> Replayed:
    from ..runtime.journal import Journal

    sessions: dict[int, Ledger] = {}
    told: dict[int, list[tuple[int, float, Fact]]] = {}
    with Journal.open(path, create=False, readonly=True) as journal:
        for row in journal.read():
            if row.kind == KIND_FACT:
                fact = decode(row.body)
                sessions.setdefault(row.session, Ledger()).apply(fact)
                told.setdefault(row.session, []).append((row.no, row.wall, fact))
        return Replayed(path, journal.report, sessions, told)
