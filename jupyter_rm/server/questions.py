"""Questions of logins, for pages: what a login wants to know (host key, password, one-time code), and the answer to it.

An answer goes from the request's body to the broker and stands nowhere else: not in logs, not in files, not in events.
Read next: :mod:`jupyter_rm.client.ask`, :mod:`.api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..model.errors import RequestError
from .api import PILOTS, READ, WRITE, Api, Strict, guarded

if TYPE_CHECKING:
    from ..client.ask import Ask
    from .hub import Hub

MOST_ANSWER = 4096


class Said(Strict):
    """Body of POST: the answer (``yes`` for a host key), or that there will be none."""

    text: str = ""
    cancel: bool = False


class Questions(Api):
    """The open questions of a session's logins."""

    @guarded(READ, PILOTS)
    async def get(self, name: str) -> None:
        """List them."""
        hub = self.hub
        self.reply(await hub.do(lambda: {"questions": [_told(each) for each in hub.session(name).questions]}))


class Answer(Api):
    """The answer to one."""

    @guarded(WRITE, PILOTS)
    async def post(self, name: str, number: str) -> None:
        """Give it, or say that there will be none: the login ends then."""
        hub, said = self.hub, self.body(Said)
        if len(said.text) > MOST_ANSWER:
            raise RequestError("the answer is too long", hint=f"at most {MOST_ANSWER} characters", code="JRM-Q61")
        await hub.do(lambda: _answer(hub, name, number, said))
        self.reply({"session": name, "question": int(number)})


def _told(one: Ask) -> dict[str, Any]:
    from ..views.texts import line, plain

    return {
        "number": one.number,
        "pilot": one.pilot,
        "kind": one.kind,
        "title": line(one.title),
        "text": plain(one.text),
        "fingerprint": line(one.fingerprint),
        "key_type": line(one.key_type),
        "secret": one.secret,
    }


def _answer(hub: Hub, name: str, number: str, said: Said) -> None:
    for one in hub.session(name).questions:
        if one.number == int(number):
            one.cancel() if said.cancel else one.answer(said.text)
            return
    raise RequestError("this question needs no answer any more", hint="nothing is left to do", code="JRM-Q77")


QUESTION_ROUTES: list[tuple[str, type[Api]]] = [
    (r"sessions/([^/]+)/questions", Questions),
    (r"sessions/([^/]+)/questions/([0-9]{1,15})", Answer),
]
