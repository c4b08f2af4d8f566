"""A session's files under way between this machine and its pilots' sites.

What a task takes from here is brought by the broker's shell and announced to the agent, which holds the task until
then; what is to come home is fetched after the agent is done with the task, so that neither agent nor job must live
that long. Both are asked for again after every restart and reconnect, and both may be done twice. Knows no file and no
site. Read next: :mod:`jupyter_rm.core.binding`, :mod:`jupyter_rm.broker.carrier` (who carries).
"""

from __future__ import annotations

import msgspec
import numpy as np

from ..model.bulktable import CANCEL_ASKED, LEFT, BulkTable
from ..model.columns import Array, Picks, pack, unpack
from ..model.describe import Template
from ..model.effects import Bring, Brought, Carrying, Fetch, Fetched
from ..model.facts import AttemptsEnded, Ends, StagingSeen, TasksEnded, TasksStaged
from ..model.messages import Deliver, Staging
from ..model.staging import from_client, to_client
from ..model.states import Cause, PilotState, TaskState
from .endings import ends_of
from .port import Port
from .services import Services

TEXT_MOST = 300
_STAGING_OUT = int(TaskState.STAGING_OUT)


class Cargo(Services):
    """What is brought and fetched for the tasks of a session."""

    # ------------------------------------------------------------ to the pilots

    def _bring(self, port: Port, bulk: int, picks: Picks) -> None:
        """Have brought what tasks that a pilot got take from here; once per connection when it is the same for all."""
        template = self.ledger.bulks[bulk].form.template
        self._with_files.add(bulk)
        sources = [one.source for one in template.input_staging if from_client(one)]
        if not sources or not len(picks):
            return
        if not (template.params and any("{" in source for source in sources)):
            if bulk in port.cargo:
                return
            port.cargo.add(bulk)
            picks = Picks.of(picks.array()[:1])
        self._do(Bring(self.key, port.pilot, bulk, picks))

    def _count_coming(self) -> None:
        """Count for each pilot what waits for files: that must not keep tasks without files from it."""
        self._with_files = {bulk for bulk in self._with_files if self.ledger.bulks[bulk].counts[TaskState.STAGING_IN]}
        for port in self.ports.values():
            port.coming = sum(len(self._coming(port, bulk)) for bulk in self._with_files)

    def _bring_again(self, port: Port) -> None:
        """After a new connection: what was announced before may have been lost."""
        for bulk, table in self.ledger.open_bulks():
            if table.form.template.input_staging and table.counts[TaskState.STAGING_IN]:
                self._bring(port, bulk, self._coming(port, bulk))

    def _coming(self, port: Port, bulk: int) -> Picks:
        table = self.ledger.bulks[bulk]
        return Picks.of(np.flatnonzero((table.state == TaskState.STAGING_IN) & (table.pilot == port.pilot)))

    def _bring_early(self, pilots: list[int], bulks: list[int]) -> None:
        """Let files travel while their pilots wait for their turn."""
        for bulk in bulks:
            table = self.ledger.bulks[bulk]
            template = table.form.template
            if not any(map(from_client, template.input_staging)) or not table.open:
                continue
            waiting = Picks.of(np.flatnonzero(table.state <= TaskState.WAITING))
            for pilot in pilots:
                row = self.ledger.pilots[pilot]
                known = template.pilot in ("", row.spec.name, f"p.{pilot}")
                if len(waiting) and known and PilotState.QUEUED <= row.state < PilotState.ACTIVE:
                    self._do(Bring(self.key, pilot, bulk, waiting, early=True))

    def cargo(self, news: Brought | Fetched | Carrying) -> None:
        """Take in what became of files on their way."""
        if not 0 <= news.bulk < len(self.ledger.bulks):
            return
        if isinstance(news, Brought):
            self._brought(news)
        elif isinstance(news, Fetched):
            self._fetched(news)
        else:
            self._carrying(news)

    def _brought(self, news: Brought) -> None:
        """Files are at a pilot's site, or cannot be had: its agent knows what to do with their tasks."""
        port = self.ports.get(news.pilot)
        if port is None:
            return
        if not news.found:
            # It was given up because nobody waited for it; somebody may have come since.
            port.cargo.discard(news.bulk)
            self._bring(port, news.bulk, self._coming(port, news.bulk))
            return
        if any(not found.path for found in news.found.values()):
            port.cargo.discard(news.bulk)  # for the next attempt it is tried again
        if port.ready:
            port.order(Deliver(news.bulk, news.found))

    def _carrying(self, news: Carrying) -> None:
        """How far files on their way are; for people."""
        text = news.text[:TEXT_MOST]
        self._fact(StagingSeen(news.bulk, news.pilot, self.wall(), text, news.index, news.done, news.size))

    def _moving(self, port: Port, report: Staging) -> None:
        told = Carrying(self.key, port.pilot, report.bulk, report.text, report.index, report.done, report.size)
        self._carrying(told)

    # ------------------------------------------------------------ home

    def _conclude(self, pilot: int, bulk: int, picks: Picks, attempt: bytes, state: bytes, ends: Ends) -> None:
        """Write down final states; those of tasks whose outputs come here only when they are here."""
        template = self.ledger.bulks[bulk].form.template
        if template.output_staging and any(map(to_client, template.output_staging)):
            table, count = self.ledger.bulks[bulk], len(picks)
            told = unpack(state, "<u1", count)
            home = (told == TaskState.DONE) | _failed_with_files(template, told, unpack(ends.started, "<f8", count))
            unasked = ((table.flags[picks.where] & CANCEL_ASKED) == 0) & (not self.ledger.closed)
            if not bool(unasked.all()):
                # It was faster than the word to cancel it; without its files it is not done all the same.
                late = (told == TaskState.DONE) & ~unasked
                cause = np.where(late, Cause.USER_CANCEL, unpack(ends.cause, "<u1", count))
                ends = msgspec.structs.replace(ends, cause=pack(cause, "<u1"))
                told = np.where(late, TaskState.CANCELED, told)
                state, home = pack(told, "<u1"), home & unasked
            if bool(home.any()):
                some, attempts, how = cut_ends(picks, attempt, ends, home)
                wall = self.wall()
                mask = self._fact(TasksStaged(bulk, some, pilot, attempts, _STAGING_OUT, wall, how))
                if mask is not None:
                    attempts = pack(unpack(attempts, "<u2", len(some))[mask], "<u2")
                    some = some.where_true(mask)
                if len(some):
                    self._do(Fetch(self.key, pilot, bulk, some, attempts))
                if bool(home.all()):
                    return
                state = pack(told[~home], "<u1")
                picks, attempt, ends = cut_ends(picks, attempt, ends, ~home)
        self._fact(TasksEnded(bulk, picks, pilot, attempt, state, ends))

    def _fetch_again(self) -> None:
        """After a restart: what was on its way home is fetched once more."""
        for bulk, table in self.ledger.open_bulks():
            for pilot, index in self._left(table):
                attempts = pack(table.attempt[index], "<u2")
                self._do(Fetch(self.key, pilot, bulk, Picks.of(index), attempts))

    @staticmethod
    def _left(table: BulkTable) -> list[tuple[int, Array]]:
        """Return (pilot, indices) of tasks that have left their agent and whose outputs are on their way."""
        if not table.form.template.output_staging or not table.counts[_STAGING_OUT]:
            return []
        index = np.flatnonzero((table.state == _STAGING_OUT) & ((table.flags & LEFT) != 0))
        pilots = table.pilot[index]
        return [(int(pilot), index[pilots == pilot]) for pilot in np.unique(pilots).tolist()]

    def _left_of(self, bulk: int, picks: Picks) -> Picks:
        """Return those of the picked tasks that no agent holds any more, though they have no final state."""
        table = self.ledger.bulks[bulk]
        if not table.form.template.output_staging:
            return Picks.span(0, 0)
        where = picks.where
        return picks.where_true((table.state[where] == _STAGING_OUT) & ((table.flags[where] & LEFT) != 0))

    def _fetched(self, news: Fetched) -> None:
        """Outputs are here, or cannot be had: only now their tasks end."""
        table = self.ledger.bulks[news.bulk]
        count = len(news.picks)
        where = news.picks.where
        current = (table.state[where] == _STAGING_OUT) & ((table.flags[where] & LEFT) != 0)
        current &= table.attempt[where] == unpack(news.attempt, "<u2", count)
        if not bool(current.any()):
            return
        index = news.picks.array()
        spoilt = np.isin(np.arange(count), list(news.notes)) & (table.cause[where] == Cause.NONE) & current
        well = index[current & ~spoilt]
        if len(well):
            picks = Picks.of(well)
            state = np.where(table.cause[well] == Cause.NONE, TaskState.DONE, TaskState.FAILED)
            ends = ends_of(table, well)
            pilot = int(table.pilot[well[0]])
            attempt = pack(table.attempt[well], "<u2")
            self._fact(TasksEnded(news.bulk, picks, pilot, attempt, pack(state, "<u1"), ends))
        if bool(spoilt.any()):
            self._spoilt(news, table, np.flatnonzero(spoilt))
        self._ended_bulks.add(news.bulk)
        self._settle()

    def _spoilt(self, news: Fetched, table: BulkTable, where: Array) -> None:
        """The program ended well and its outputs did not arrive: a failure of the task, and retried like one."""
        index = news.picks.array()[where]
        template = table.form.template
        again = (table.failures[index] < template.retries) & (not self.ledger.closed)
        again &= (table.flags[index] & CANCEL_ASKED) == 0
        again &= not template.retry_on or Cause.STAGE_OUT_FAILED.name in template.retry_on
        for mask, more in ((again, True), (~again, False)):
            mine = index[mask]
            if not len(mine):
                continue
            notes = {at: news.notes[int(place)] for at, place in enumerate(where[mask].tolist())}
            ends = msgspec.structs.replace(ends_of(table, mine), cause=bytes([Cause.STAGE_OUT_FAILED]), notes=notes)
            picks, attempt, pilot = Picks.of(mine), pack(table.attempt[mine], "<u2"), int(table.pilot[mine[0]])
            if more:
                self._fact(AttemptsEnded(news.bulk, picks, pilot, attempt, ends))
                self._wait_again(news.bulk, picks)
            else:
                self._fact(TasksEnded(news.bulk, picks, pilot, attempt, bytes([TaskState.FAILED]), ends))

    # ------------------------------------------------------------ words

    def _why_staging(self, bulk: int, index: int) -> str:
        """Return what is under way for a task, in plain words."""
        table = self.ledger.bulks[bulk]
        out = table.state[index] == _STAGING_OUT
        told = table.moving_of(index)
        return f"its {'output' if out else 'input'} files are being put in place" + (f": {told}" if told else "")


def _failed_with_files(template: Template, state: Array, started: Array) -> Array:
    if not template.stage_on_error:
        return np.zeros(len(state), np.bool_)
    return np.asarray((state == TaskState.FAILED) & (started > 0))


def cut_ends(picks: Picks, attempt: bytes, ends: Ends, mask: Array) -> tuple[Picks, bytes, Ends]:
    """Return the part of a report at which ``mask`` is true."""
    count = len(picks)
    where = np.flatnonzero(mask)
    place = {int(old): new for new, old in enumerate(where.tolist())} if ends.notes else {}

    def cut(data: bytes, dtype: str) -> bytes:
        return pack(unpack(data, dtype, count)[where], dtype)

    return (
        Picks.of(picks.array()[where]),
        cut(attempt, "<u2"),
        Ends(
            cut(ends.cause, "<u1"),
            cut(ends.code, "<i4"),
            cut(ends.node, "<u4"),
            cut(ends.started, "<f8"),
            cut(ends.ended, "<f8"),
            cut(ends.user, "<f4"),
            cut(ends.sys, "<f4"),
            cut(ends.rss, "<u4"),
            ends.values.take(Picks.of(where)) if ends.values is not None else None,
            {place[at]: note for at, note in ends.notes.items() if at in place},
        ),
    )
