"""The broker's memory: which row of the journal belongs to what, and how a life begins from an earlier one.

It turns the facts of a turn into journal rows, remembers where stories and values lie, and rebuilds ledgers and
payloads on restart by the same fold that runs live. Knows no socket and decides nothing. Read next:
:mod:`jupyter_rm.broker.service`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

import msgspec
from msgspec import structs

from ..core.broker import BrokerMachine
from ..core.payloads import Payloads
from ..model import facts as facts_of
from ..model.columns import Column, Picks
from ..model.facts import KIND_FACT, KIND_PAYLOAD, Fact, SessionOpened, TasksEnded
from ..model.ledger import Ledger
from ..runtime.journal import Journal

TELL_EVERY = 4096  # rows
TOLD_MOST = 100_000  # tasks in facts of one story of a whole bulk

_payload = msgspec.msgpack.Decoder(tuple[int, Column | None, list[bytes]])


def session_number(key: str) -> int:
    """Return the number under which the journal files a session."""
    return int(key.partition("-")[0])


class Store:
    """Journal plus the indexes over it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.tips: dict[str, int] = {}  # session -> number of its last fact
        # session -> per bulk the rows about it; a row with values is negative. Of most bulks there are four.
        self._rows: dict[str, list[array[int]]] = {}

    def recover(self, machine: BrokerMachine, tell: Callable[[float], None]) -> int:
        """Adopt all sessions of the journal; return how many facts were folded.

        Args:
            tell: is told now and then which share of it has been read (0..1).
        """
        folded, last = 0, max(1, self.journal.last)
        ledgers: dict[int, Ledger] = {}
        names: dict[int, str] = {}
        brought: dict[tuple[int, int], tuple[Column | None, list[bytes]]] = {}  # (session, bulk) -> payload, functions
        for row in self.journal.read():
            if row.no % TELL_EVERY == 0:
                tell(row.no / last)
            if row.kind == KIND_PAYLOAD:
                bulk, payload, functions = _payload.decode(row.body)
                brought[row.session, bulk] = (payload, functions)
            if row.kind != KIND_FACT:
                continue
            fact = facts_of.decode(row.body)
            ledger = ledgers.get(row.session)
            if ledger is None:
                ledger = ledgers[row.session] = Ledger()
                assert isinstance(fact, SessionOpened)
                names[row.session] = f"{row.session}-{fact.name}"
            ledger.apply(fact)
            folded += 1
            self._note(names[row.session], row.no, fact)
            if isinstance(fact, TasksEnded) and not ledger.bulks[fact.bulk].open:
                functions = brought.pop((row.session, fact.bulk), (None, []))[1]
                machine.payloads.restore(names[row.session], fact.bulk, None, functions, b"")
        for number in sorted(ledgers):
            machine.adopt(names[number], ledgers[number])
        for (number, bulk), (payload, functions) in brought.items():
            if number not in ledgers:
                continue
            if bulk < len(ledgers[number].bulks):
                template = ledgers[number].bulks[bulk].form.template
                called = template.function if template.mode == "call" else b""
                machine.payloads.restore(names[number], bulk, payload, functions, called)
            else:  # it was lost with a part of the journal, and its functions were not
                machine.payloads.restore(names[number], bulk, None, functions, b"")
        return folded

    def commit(self, payloads: Payloads, facts: list[tuple[str, Fact]], wall: float) -> dict[str, list[bytes]]:
        """Write a turn in one transaction and return the journal form of its facts by session, in order."""
        rows: list[tuple[int, int, float, bytes]] = []
        for key, bulk, payload, functions in payloads.pending:
            for sha, body in functions.items():
                self.journal.blob_put(sha, body)
            rows.append(
                (session_number(key), KIND_PAYLOAD, wall, msgspec.msgpack.encode((bulk, payload, list(functions))))
            )
        payloads.pending.clear()
        bodies = [facts_of.encode(fact) for _, fact in facts]
        before = len(rows)
        rows += [(session_number(key), KIND_FACT, wall, body) for (key, _), body in zip(facts, bodies, strict=True)]
        fed: dict[str, list[bytes]] = {}
        if rows:
            number = self.journal.append(rows) + before
            for (key, fact), body in zip(facts, bodies, strict=True):
                fed.setdefault(key, []).append(body)
                self._note(key, number, fact)
                number += 1
        return fed

    def _note(self, key: str, number: int, fact: Fact) -> None:
        self.tips[key] = number
        bulk = getattr(fact, "bulk", None)
        if bulk is not None:
            rows = self._rows.setdefault(key, [])
            while len(rows) <= bulk:
                rows.append(array("q"))
            valued = isinstance(fact, TasksEnded) and fact.ends.values is not None
            rows[bulk].append(-number if valued else number)

    def _rows_of(self, key: str, bulk: int) -> array[int] | tuple[()]:
        rows = self._rows.get(key, [])
        return rows[bulk] if bulk < len(rows) else ()

    def facts(self, key: str, after: int) -> Iterator[bytes]:
        """Return the journal form of a session's facts after row ``after``."""
        for row in self.journal.read(after=after, session=session_number(key)):
            if row.kind == KIND_FACT:
                yield row.body

    def story(self, key: str, bulk: int, index: int) -> list[tuple[int, float, bytes]]:
        """Return (number, wall time, body) of all facts that concern one task.

        ``index`` -1: of those that concern any task of the bulk the last, without results.
        """
        out = []
        told = 0
        for number in reversed(self._rows_of(key, bulk)):
            for row in self.journal.read(after=abs(number) - 1, limit=1):
                fact = facts_of.decode(row.body)
                picks = getattr(fact, "picks", None)
                if picks is None or index in picks:
                    out.append((row.no, row.wall, row.body))
                elif index < 0:
                    told += len(picks)
                    if isinstance(fact, TasksEnded) and fact.ends.values is not None:
                        fact = structs.replace(fact, ends=structs.replace(fact.ends, values=None))
                    out.append((row.no, row.wall, facts_of.encode(fact)))
            if told > TOLD_MOST:
                break
        return out[::-1]

    def values(self, key: str, bulk: int, wanted: Picks) -> tuple[Picks, Column]:
        """Return (picks, values) of the wanted tasks that have one."""
        found: dict[int, bytes] = {}
        asked = set(wanted.array().tolist())
        for number in self._rows_of(key, bulk):
            for row in self.journal.read(after=-number - 1, limit=1) if number < 0 else ():
                fact = facts_of.decode(row.body)
                assert isinstance(fact, TasksEnded)
                assert fact.ends.values is not None
                for index, value in zip(fact.picks.array().tolist(), fact.ends.values.values(), strict=True):
                    if index in asked and isinstance(value, bytes):
                        found[index] = value
        order = sorted(found)
        return Picks.of(order), Column.of_bytes([found[index] for index in order])
