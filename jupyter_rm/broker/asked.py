"""What a person asks of the sites of a session at once: how its jobs stand now, to hold or stop one, to let it go.

Each site does its part in its own thread; here they are asked side by side and waited for together. One that says
nothing in time is named, and the others' word stands. Read next: :mod:`jupyter_rm.broker.site`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ..model.errors import ErrorForm, JrmError, RequestError
from ..model.ids import pilot_uid
from ..model.messages import AskSite, Explained, Message, Refused

if TYPE_CHECKING:
    from .links import Key
    from .site import Site

# For so long all sites together are waited for, s.
PATIENCE_S = 20.0
# What may be asked of the job of one pilot.
JOB_WORDS = ("hold", "release", "suspend", "resume")


class _Round:
    """Answers of several sites, gathered until all are there or it is time."""

    def __init__(self, names: list[str], answer: Callable[[list[str]], None]) -> None:
        self._left = dict.fromkeys(names)
        self._said: list[str] = []
        self._answer = answer
        self._lock = threading.Lock()
        self._over = False
        self._timer = threading.Timer(PATIENCE_S, self._late)
        self._timer.daemon = True
        self._timer.start()

    def heard(self, name: str, said: str) -> None:
        """A site has answered; ``said`` is what it could not find out."""
        with self._lock:
            self._left.pop(name, None)
            self._said += [f"{name}: {said}"] if said else []
            if self._left or self._over:
                return
            self._over = True
        self._timer.cancel()
        self._answer(self._said)

    def _late(self) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
        self._answer([*self._said, *(f"{name}: no answer within {PATIENCE_S:g} s" for name in self._left)])


def ask(sites: Mapping[Key, Site], session: str, message: AskSite, answer: Callable[[Message], None]) -> None:
    """Ask the sites of pilots; ``answer`` gets the reply on any thread.

    Args:
        sites: of the pilots concerned, those that live elsewhere.

    Raises:
        RequestError: it means nothing for this pilot.
    """
    if message.what == "status":
        asked = {site.site.text: site for site in sites.values()}
        if not asked:
            answer(Explained(message.req, ""))  # agents of this machine are watched all the time
            return
        gathered = _Round(list(asked), lambda said: answer(Explained(message.req, "\n".join(said))))
        for name, site in asked.items():
            site.ask_now(partial(gathered.heard, name))
        return
    if message.what not in JOB_WORDS:
        raise RequestError(
            f"{message.what!r}: no site knows that", hint="status, " + ", ".join(JOB_WORDS), code="JRM-Q29"
        )
    one = sites.get((session, message.pilot))
    if one is None:
        raise RequestError(
            f"{message.what}: {pilot_uid(message.pilot)} has no job at a batch system",
            hint="only such a job can be held back or stopped; see: jrm queue",
            code="JRM-Q29",
        )

    def done(said: JrmError | str) -> None:
        answer(Refused(message.req, ErrorForm.of(said)) if isinstance(said, JrmError) else Explained(message.req, said))

    one.tell_job((session, message.pilot), message.what, done)
