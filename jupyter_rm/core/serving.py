"""The services among an agent's tasks: when each is ready, which never was, and when nothing else is left.

Their files are looked at by the shell; here stands what follows from what it finds. Read next:
:mod:`jupyter_rm.core.agent` (who asks), :mod:`jupyter_rm.core.services` (the broker's part).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..model.describe import Template
from ..model.effects import Begun, Finished, Heard, Input, Kill, Unwatch, Watch
from ..model.ids import INDEX_BITS, INDEX_MASK, by_bulk
from ..model.messages import Serving
from ..model.states import Cause, TaskState
from .staging import FilesOfTasks


class ServicesOfTasks(FilesOfTasks):
    """The part of an agent's machine that is about services; all it needs else is the machine's."""

    def __init__(self) -> None:
        super().__init__()
        self.serving: set[int] = set()  # bulks that are services
        self._places: dict[int, tuple[int, str]] = {}  # token -> (attempt, endpoint) of those that run
        self._mute: set[int] = set()  # tokens of those that were not ready in time

    def _open_service(self, bulk: int, template: Template) -> None:
        if template.service:
            self.serving.add(bulk)

    def _begun_services(self, news: Begun) -> None:
        """Have the output of services looked at; one without a pattern is ready."""
        for bulk, where, index in by_bulk(news.tokens):
            held = self.holdings.bulks.get(bulk) if bulk in self.serving else None
            if held is None:
                continue
            for at, number in zip(where.tolist(), index.tolist(), strict=True):
                token, node = (bulk << INDEX_BITS) + number, int(news.node[at])
                attempt = int(held.attempts(np.array([number]))[0])
                host = self.floor.there[node].name if node < len(self.floor.there) else ""
                self._places[token] = (attempt, "")
                if held.template.ready:
                    self._effects.append(Watch(token, attempt, host or "localhost"))
                else:
                    self._heard(Heard(token, attempt, host or "localhost"))

    def _heard(self, news: Heard) -> None:
        known = self._places.get(news.token)
        if known is None or known[0] != news.attempt or self.stopping is not None:
            return  # it has ended meanwhile
        if news.endpoint:
            self._places[news.token] = (news.attempt, news.endpoint)
            self._tell_brief = True
            self._report_tasks()  # that it began comes before that it is ready
            self._report(Serving(news.token >> INDEX_BITS, news.token & INDEX_MASK, news.attempt, news.endpoint))
        else:
            self._mute.add(news.token)
            self._effects.append(Kill(np.array([news.token], np.uint64)))

    def _services_ended(self, news: Finished) -> Finished:
        """Forget services that have ended; return the same ends, of those that were not ready in time as failures."""
        gone = [token for token in news.tokens.tolist() if token in self._places]
        for token in gone:
            if not self._places.pop(token)[1]:
                self._effects.append(Unwatch(token))
        late = np.array([token in self._mute for token in news.tokens.tolist()]) & (news.state == TaskState.CANCELED)
        self._mute.difference_update(news.tokens.tolist())
        if not bool(late.any()):
            return news
        notes = dict(news.notes)
        for at in np.flatnonzero(late).tolist():
            template = self.holdings.bulks[int(news.tokens[at]) >> INDEX_BITS].template
            where = f" or of {template.ready_file}" if template.ready_file else ""
            notes[at] = (
                f"service {template.name!r} was not ready within its startup_timeout of "
                f"{template.startup_timeout:g} s: no line of its output{where} fits {template.ready!r}"
            )
        return replace(
            news,
            state=np.where(late, TaskState.FAILED, news.state).astype(np.uint8),
            cause=np.where(late, Cause.TASK_TIMEOUT, news.cause).astype(np.uint8),
            notes=notes,
        )

    def _further_news(self, news: Input) -> bool:
        if isinstance(news, Heard):
            self._heard(news)
            return True
        return super()._further_news(news)
