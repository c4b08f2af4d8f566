"""Which of an agent's tasks have files under way: inputs before they may be placed, outputs before their end counts.

The machine asks here at the few moments that matter and does nothing here for tasks without files. Knows tokens and
ends, no file. Read next: :mod:`jupyter_rm.core.agent` (who asks), :mod:`jupyter_rm.core.cargo` (the broker's part).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..model.columns import Array, Picks, pack, unpack
from ..model.describe import Template
from ..model.effects import (
    Begun,
    Delivered,
    Effect,
    Finished,
    Input,
    Moved,
    Moving,
    StageIn,
    StageOut,
    Tokens,
    Unstage,
)
from ..model.ids import by_bulk
from ..model.messages import Assign, Deliver, Message, Report, Staged
from ..model.messages import Staging as StagingReport
from ..model.staging import to_client
from ..model.states import Cause, TaskState
from .endings import cut, kept, never_ran
from .holdings import Holdings
from .placing import Floor

LEAST, LEAST_COMING = 64, 1024
_NOBODY = np.zeros(0, np.uint64)


class Staging:
    """The tasks of one agent that have files under way.

    Attributes:
        bulks: those of which this agent itself puts outputs in place.
    """

    __slots__ = ("_coming", "_going", "bulks")

    def __init__(self) -> None:
        self._coming: dict[int, int] = {}  # token -> attempt whose inputs are on their way
        self._going: dict[int, tuple[int, Finished]] = {}  # token -> (attempt, how it ended)
        self.bulks: set[int] = set()

    def open(self, bulk: int, template: Template) -> None:
        """Make a bulk known."""
        if template.output_staging and not all(map(to_client, template.output_staging)):
            self.bulks.add(bulk)

    def close(self, bulk: int) -> None:
        """Forget a bulk of which nothing is held."""
        self.bulks.discard(bulk)

    @property
    def least(self) -> int:
        """Return how many tasks an agent wants to hold at least: files travel best many at once."""
        return LEAST_COMING if self._coming else LEAST

    # ------------------------------------------------------------ before the start

    def enter(self, mine: Tokens, attempts: Array) -> StageIn:
        """Let inputs come."""
        self._coming.update(zip(mine.tolist(), attempts.tolist(), strict=True))
        return StageIn(mine, attempts.astype(np.uint16))

    def coming(self, token: int) -> bool:
        """Say whether inputs of a task are on their way."""
        return token in self._coming

    def entered(self, news: Moved) -> tuple[Tokens, dict[int, str]]:
        """Return (those that may be placed now, the others with what went wrong); what was given up is in neither."""
        ready, failed = [], {}
        for at, (token, attempt) in enumerate(zip(news.tokens.tolist(), news.attempts.tolist(), strict=True)):
            if self._coming.get(token) == attempt:
                del self._coming[token]
                if at in news.notes:
                    failed[token] = news.notes[at]
                else:
                    ready.append(token)
        return np.array(ready, np.uint64), failed

    def leave(self, mine: Tokens) -> Tokens:
        """Take those of ``mine`` out whose inputs are on their way; return them."""
        if not self._coming:
            return _NOBODY
        return np.array([token for token in mine.tolist() if self._coming.pop(token, None) is not None], np.uint64)

    # ------------------------------------------------------------ after the end

    def hold(
        self, news: Finished, where: npt.NDArray[np.int64], attempts: Array, on_error: bool
    ) -> tuple[StageOut | None, npt.NDArray[np.int64]]:
        """Keep the ends of those tasks of a bulk whose outputs are to be put in place.

        Args:
            where: positions of the bulk's tasks in ``news``; attempts: of each.

        Returns:
            What to do, None: nothing; and the positions of ``news`` that were kept.
        """
        state = news.state[where]
        going = (state == TaskState.DONE) | ((state == TaskState.FAILED) & on_error & (news.started[where] > 0))
        where, attempts = where[going], np.asarray(attempts)[going].astype(np.uint16)
        if not len(where):
            return None, where
        mine = news.tokens[where]
        for at, token, attempt in zip(where.tolist(), mine.tolist(), attempts.tolist(), strict=True):
            self._going[token] = (attempt, kept(news, np.array([at])))
        return StageOut(mine, attempts), where

    def out(self, news: Moved) -> list[Finished]:
        """Return the ends of tasks whose outputs are in place, or failed to be: that is an end of its own."""
        ends = []
        for at, (token, attempt) in enumerate(zip(news.tokens.tolist(), news.attempts.tolist(), strict=True)):
            known = self._going.get(token)
            if known is None or known[0] != attempt:
                continue
            end = self._going.pop(token)[1]
            if at in news.notes and bool(end.state[0] == TaskState.DONE):
                end = _instead(end, TaskState.FAILED, Cause.STAGE_OUT_FAILED, news.notes[at])
            ends.append(end)
        return ends

    def cancel(self, mine: Tokens) -> tuple[Tokens, list[Finished]]:
        """Give up those of ``mine`` that have files under way; return (those that never ran, ends of the others)."""
        ends = [
            _instead(self._going.pop(token)[1], TaskState.CANCELED, Cause.USER_CANCEL, "")
            for token in (mine.tolist() if self._going else ())
            if token in self._going
        ]
        return self.leave(mine), ends


def _instead(end: Finished, state: TaskState, cause: Cause, note: str) -> Finished:
    return replace(
        end,
        state=np.full(1, state, np.uint8),
        cause=np.full(1, cause, np.uint8),
        notes={0: note} if note else {},
    )


def without(news: Finished, gone: list[npt.NDArray[np.int64]]) -> Finished:
    """Return the ends that were not kept."""
    if not gone:
        return news
    keep = np.ones(len(news.tokens), np.bool_)
    keep[np.concatenate(gone)] = False
    return cut(news, keep)


class FilesOfTasks:
    """The part of an agent's machine that is about files; all it needs else is the machine's."""

    holdings: Holdings
    floor: Floor
    stopping: Cause | None
    _effects: list[Effect]
    _finished: list[Finished]
    _replace: bool
    _tell_brief: bool
    _begun: list[Begun]

    def __init__(self) -> None:
        self.staging = Staging()

    def _report(self, report: Report, sync: bool = False) -> None:
        raise NotImplementedError

    def _report_tasks(self) -> None:
        raise NotImplementedError

    def _stage_in(self, order: Assign, mine: Tokens) -> None:
        """Have the inputs of new tasks put in place; they may be placed after that."""
        self._effects.append(self.staging.enter(mine, unpack(order.attempt, "<u2", len(mine))))

    def _unstage(self, mine: Tokens, *, end: bool = False) -> Tokens:
        """Give up inputs on their way and return their tasks; ``end``: and the ends that wait for outputs."""
        coming, ended = self.staging.cancel(mine) if end else (self.staging.leave(mine), [])
        gone = [coming, *(news.tokens for news in ended)]
        if len(coming) or ended:
            self._effects.append(Unstage(np.concatenate(gone)))
            self._finished += ended
        return coming

    def _further_order(self, order: Message) -> None:
        if isinstance(order, Deliver):
            self._effects.append(Delivered(order.bulk, order.found))

    def _further_news(self, news: Input) -> bool:
        """Take in what became of files; False: the news is about something else."""
        if isinstance(news, Moving):
            if news.bulk in self.holdings.bulks:
                self._report(StagingReport(news.bulk, news.index, news.text, news.done, news.size))
            return True
        if not isinstance(news, Moved):
            return False
        if self.stopping is not None:
            return True  # what was under way is given back, or lost
        if news.out:
            self._finished += self.staging.out(news)
            return True
        ready, failed = self.staging.entered(news)
        for bulk, where, index in by_bulk(ready):
            held = self.holdings.bulks[bulk]
            order = np.argsort(index, kind="stable")
            attempt = pack(held.attempts(index[order]), "<u2")
            self._report(Staged(bulk, Picks.of(index[order]), attempt, int(TaskState.SCHEDULED)))
            self.floor.add(bulk, ready[where[order]], held.template)
            self._replace = True
        for token, note in failed.items():
            end = never_ran(np.array([token], np.uint64), Cause.STAGE_IN_FAILED, note)
            self._finished.append(replace(end, ended=np.full(1, news.at)))
        return True

    def _kept_back(self, news: Finished) -> Finished:
        """Keep the ends of tasks whose outputs are to be put in place here; return the others."""
        gone = []
        for bulk, where, index in by_bulk(news.tokens):
            if bulk not in self.staging.bulks:
                continue
            held = self.holdings.bulks[bulk]
            effect, mine = self.staging.hold(news, where, held.attempts(index), held.template.stage_on_error)
            if effect is None:
                continue
            gone.append(mine)
            if self.stopping is not None:
                continue  # there is no time for its outputs: it is lost with this agent, not done
            self._tell_brief = True
            self._report_tasks()  # that they began comes before that they ended
            self._effects.append(effect)
            chosen = index[np.isin(where, mine)]
            picks = np.sort(chosen)
            attempt = pack(held.attempts(picks), "<u2")
            self._report(Staged(bulk, Picks.of(picks), attempt, int(TaskState.STAGING_OUT)))
        return without(news, gone)
