"""Log lines of the broker and of agents, for pages: read from where a page stands, and how much is logged.

Whoever may read the broker's log may read these: the broker's lines are about all sessions. Reading changes nothing, so
that no link of a foreign page can. Read next: :mod:`jupyter_rm.model.logs`, :mod:`.work`.
"""

from __future__ import annotations

from typing import Literal

from ..model.errors import RequestError
from .api import ADMIN, READ, WRITE, Api, Strict, guarded

MOST_LINES = 2000
MOST_NUMBER = 1 << 40


class SetLevel(Strict):
    """Body of POST: what a component is to log from now on."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    component: str = "broker"


class Logs(Api):
    """What the broker or an agent of a session logs."""

    @guarded(READ, ADMIN)
    async def get(self, name: str) -> None:
        """Send its lines after the last one that is known."""
        if self.get_query_argument("level", ""):
            raise RequestError("level: reading changes nothing", hint='POST {"level": ...} instead', code="JRM-Q61")
        component = self.get_query_argument("component", "broker")
        life = self.number("life", 0, MOST_NUMBER) if self.get_query_argument("life", "") else -1
        after, most = self.number("after", 0, MOST_NUMBER), self.number("max_items", 500, MOST_LINES)
        self.reply(await self.ask(lambda work: work.log_lines(self.hub, name, component, life, after, most)))

    @guarded(WRITE, ADMIN)
    async def post(self, name: str) -> None:
        """Change how much it logs."""
        given = self.body(SetLevel)
        self.reply(await self.ask(lambda work: work.log_level(self.hub, name, given.component, given.level)))


LOG_ROUTES: list[tuple[str, type[Api]]] = [(r"sessions/([^/]+)/logs", Logs)]
