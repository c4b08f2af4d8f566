"""Questions that logins ask: from the thread that logs in to the people who follow a session, and back.

A question is shown to everybody who follows a session that waits for the login, and to those who attach later; the
first answer counts. Answers are handed over and forgotten: nothing here is logged, journalled or kept. When nobody
follows, a login that needs a person ends at once and says so. Read next: :mod:`jupyter_rm.runtime.connect.ask`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..model.errors import RequestError
from ..model.messages import Answer, Asked, AskOver, Message
from ..runtime.drive import Drive

if TYPE_CHECKING:
    from ..runtime.connect import Question

Key = tuple[str, int]
LOOK_EVERY = 0.5


class _Open:
    def __init__(self, question: Question, whom: tuple[Key, ...]) -> None:
        self.question, self.whom = question, whom


class Questions:
    """All open questions; everything but :meth:`ask` runs in the loop's thread.

    Args:
        tell: sends a message about a session (key) to all its followers; the function makes it from their name for it.
        followed: says whether anybody follows a session; called from any thread.
    """

    def __init__(
        self,
        drive: Drive,
        tell: Callable[[str, Callable[[str], Message]], None],
        followed: Callable[[str], bool],
    ) -> None:
        self._drive = drive
        self._tell = tell
        self._followed = followed
        self._open: dict[int, _Open] = {}
        self._number = 0
        drive.every(LOOK_EVERY, self._look)

    def ask(self, question: Question, whom: Iterable[Key]) -> None:
        """Put a question of these pilots before people; any thread.

        Raises:
            LinkError: nobody is there.
        """
        pilots = tuple(key for key in whom if self._followed(key[0]))
        if not pilots:
            from ..runtime.connect import Nobody

            Nobody().ask(question)
        self._drive.call(lambda: self._put(question, pilots))

    def _put(self, question: Question, whom: tuple[Key, ...]) -> None:
        self._number += 1
        self._open[self._number] = _Open(question, whom)
        for session in dict.fromkeys(key[0] for key in whom):
            self._tell(session, self._asked(self._number, session))

    def _asked(self, number: int, session: str) -> Callable[[str], Message]:
        one = self._open[number]
        pilot = next(key[1] for key in one.whom if key[0] == session)
        question = one.question

        def make(label: str) -> Message:
            return Asked(
                label,
                pilot,
                number,
                question.kind,
                question.host,
                question.user,
                question.text,
                question.fingerprint,
                question.secret,
                question.key_type,
            )

        return make

    def came(self, session: str, label: str) -> list[Message]:
        """Return the open questions for somebody who follows a session now."""
        return [
            self._asked(number, session)(label)
            for number, one in self._open.items()
            if not one.question.settled and any(key[0] == session for key in one.whom)
        ]

    def answer(self, session: str, message: Answer) -> None:
        """Hand an answer over.

        Raises:
            RequestError: JRM-Q18, the question is not open (any more).
        """
        one = self._open.get(message.ask)
        if one is None or not any(key[0] == session for key in one.whom):
            raise RequestError("this question is answered already", hint="nothing is left to do", code="JRM-Q18")
        took = one.question.cancel() if message.cancel else one.question.answer(message.text)
        self._over(message.ask)
        if not took:
            raise RequestError("this question is answered already", hint="nothing is left to do", code="JRM-Q18")

    def withdraw(self, key: Key) -> None:
        """This pilot is not wanted any more: a question of it alone needs no answer."""
        for one in self._open.values():
            if one.whom == (key,):
                one.question.cancel()
            else:
                one.whom = tuple(other for other in one.whom if other != key)

    def _over(self, number: int) -> None:
        one = self._open.pop(number)
        for session in dict.fromkeys(key[0] for key in one.whom):
            self._tell(session, lambda label: AskOver(label, number))

    def _look(self) -> None:
        """Take back what was settled otherwise: its time ran out, or the login ended."""
        for number in [number for number, one in self._open.items() if one.question.settled]:
            self._over(number)
