"""What an agent tells when somebody asks: its log, whose lines only pass through here, and why a task does not run.

Read next: :mod:`jupyter_rm.core.agent`.
"""

from __future__ import annotations

from ..model.effects import Explain, Explained, Input, LogRead, ReadLog
from ..model.logs import TellLog
from ..model.messages import AskWhy, Message, Why
from .held import HeldSet
from .serving import ServicesOfTasks


class Telling(ServicesOfTasks):
    """The part of an agent's machine that answers questions."""

    _held: dict[int, HeldSet]

    def _further_order(self, order: Message) -> None:
        if isinstance(order, TellLog):
            self._effects.append(ReadLog(order))
        elif isinstance(order, AskWhy):
            held = self._held.get(order.bulk)
            if held is None or order.index not in held.now()[0]:
                self._report(Why(order.ask, "the agent does not hold it"))
            else:
                self._effects.append(Explain(order.ask, order.bulk, self.floor.why(order.bulk)))
        else:
            super()._further_order(order)

    def _further_news(self, news: Input) -> bool:
        if isinstance(news, LogRead):
            self._report(news.report)
            return True
        if isinstance(news, Explained):
            self._report(Why(news.ask, news.text))
            return True
        return super()._further_news(news)
