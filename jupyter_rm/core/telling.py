"""The log of an agent, told when somebody asks for it. Its lines are the shell's; here they only pass through.

Read next: :mod:`jupyter_rm.core.agent`.
"""

from __future__ import annotations

from ..model.effects import Input, LogRead, ReadLog
from ..model.logs import TellLog
from ..model.messages import Message
from .serving import ServicesOfTasks


class Telling(ServicesOfTasks):
    """The part of an agent's machine that is about its log."""

    def _files_order(self, order: Message) -> None:
        if isinstance(order, TellLog):
            self._effects.append(ReadLog(order))
        else:
            super()._files_order(order)

    def _files(self, news: Input) -> bool:
        if isinstance(news, LogRead):
            self._report(news.report)
            return True
        return super()._files(news)
