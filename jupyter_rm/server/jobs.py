"""What is done to the batch job of a pilot, for pages: hold it back, let it go, stop it for a while, let it go on.

Who may start and cancel pilots may do this. Read next: :mod:`jupyter_rm.client.pilot`, :mod:`.work`.
"""

from __future__ import annotations

from typing import Literal

from .api import PILOTS, WRITE, Api, Strict, guarded


class TellJob(Strict):
    """Body of POST job: what its batch system is told."""

    op: Literal["hold", "release", "suspend", "resume"]


class PilotJob(Api):
    """The batch job of a pilot."""

    @guarded(WRITE, PILOTS)
    async def post(self, name: str, uid: str) -> None:
        """Do it; the answer comes when the batch system has."""
        op = self.body(TellJob).op
        self.reply(await self.ask(lambda work: work.tell_job(self.hub, name, uid, op)))


JOB_ROUTES: list[tuple[str, type[Api]]] = [(r"sessions/([^/]+)/pilots/([^/]+)/job", PilotJob)]
