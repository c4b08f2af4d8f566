"""What a turn of the broker says, and in which order.

Orders to agents go first, then followers learn the facts, then clients get replies that build on them. What nobody
waits for is said a moment later: somebody who sent one call waits for its end, not for its number, and would, told at
once, wake up and take a core in the very moment in which agent and worker need two; and the next order of an agent
acknowledges its reports as well as a frame of its own. Nothing is kept back longer than until the next turn, or until
nothing has come in for a millisecond. Knows no socket and no journal. Read next: :mod:`jupyter_rm.broker.service`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..model.effects import Effect, Send
from ..model.facts import BulkSubmitted, Fact, TasksAssigned
from ..model.messages import Down
from ..runtime.drive import Drive

# (session, number of the fact before, number of the last one, the facts in journal form)
News = tuple[str, int, int, list[bytes]]
# A turn of more facts than this has more to do than to save a frame.
FEW = 3


class Speech:
    """Says what turns have decided, once it is in the journal.

    Args:
        perform: carries an effect out. publish: tells followers the news of a session.
    """

    def __init__(
        self, drive: Drive, perform: Callable[[Effect], None], publish: Callable[[str, int, int, list[bytes]], None]
    ) -> None:
        self._drive, self._perform, self._publish = drive, perform, publish
        self._news: list[News] = []
        self._replies: list[Effect] = []
        self._acks: dict[object, Send] = {}

    def turn(self, facts: list[tuple[str, Fact]], effects: list[Effect], news: list[News]) -> None:
        """Say what follows from the facts of one turn."""
        # Whoever is ended or started meanwhile must have heard everything before.
        few = len(facts) <= FEW and all(isinstance(effect, Send) for effect in effects)
        acks: dict[object, Send] = {}
        replies: list[Effect] = []
        for effect in effects:
            if not isinstance(effect, Send):
                self._perform(effect)
            elif isinstance(effect.to, bytes):
                replies.append(effect)
            elif few and isinstance(effect.message, Down) and not effect.message.body:
                acks[effect.to] = effect
            else:
                self._acks.pop(effect.to, None)
                self._perform(effect)
        self._acknowledge()
        self._acks, self._news, self._replies = acks, news, replies
        if not _single_call(facts):
            self.tell()
        if self._acks or self._news:
            self._drive.when_idle(self.finish)

    def tell(self) -> None:
        """Tell followers and clients what was kept back, before anything else is said to them."""
        if self._news or self._replies:
            news, replies, self._news, self._replies = self._news, self._replies, [], []
            for one in news:
                self._publish(*one)
            for reply in replies:
                self._perform(reply)

    def finish(self) -> None:
        """Say all that was kept back."""
        self.tell()
        self._acknowledge()

    def _acknowledge(self) -> None:
        if self._acks:
            acks, self._acks = self._acks, {}
            for ack in acks.values():
                self._perform(ack)


def _single_call(facts: list[tuple[str, Any]]) -> bool:
    """Say whether a turn did nothing but bring one call to a pilot."""
    if len(facts) != 2:
        return False
    form, bound = facts[0][1], facts[1][1]
    return (
        isinstance(form, BulkSubmitted)
        and form.count == 1
        and form.template.mode == "call"
        and isinstance(bound, TasksAssigned)
    )
