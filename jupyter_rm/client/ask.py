"""Questions of logins (host key, password, one-time code) as this process holds them, and how a person answers.

``session.questions`` lists what is open. A front end that can draw listens (:meth:`Desk.listen`) and answers when the
person did; without one, whoever waits for a pilot in a terminal or a cell is asked there. Answers go to the broker and
are kept nowhere. Knows the two messages; not what an answer means. Read next: :mod:`.connection`.
"""

from __future__ import annotations

import contextlib
import getpass
import html
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..model.errors import JrmError, RequestError
from ..model.ids import pilot_uid
from ..model.messages import Answer, Asked

if TYPE_CHECKING:
    from .connection import Connection

_TITLES = {
    "password": "password",
    "otp": "one-time code",
    "passphrase": "passphrase of your key",
    "host_key": "is this the right machine?",
}


class Ask:
    """One question.

    Attributes:
        kind: ``password``, ``otp``, ``passphrase`` or ``host_key``. host, user: who asks, and for which account.
        text: the words of the server. fingerprint, key_type: for ``host_key``. secret: do not show what is typed.
        session, pilot: whose login it is. open: False once it was answered, here or elsewhere, or is too late.
    """

    def __init__(self, desk: Desk, message: Asked) -> None:
        self._desk = desk
        self.session, self.pilot, self.number = message.session, pilot_uid(message.pilot), message.ask
        self.kind, self.host, self.user, self.text = message.kind, message.host, message.user, message.text
        self.fingerprint, self.key_type, self.secret = message.fingerprint, message.key_type, message.secret
        self.open = True
        self.shown = False
        self._over: list[Callable[[], None]] = []

    @property
    def title(self) -> str:
        """One line for a person: who wants to know what."""
        return f"{self.user}@{self.host}: {_TITLES.get(self.kind, self.kind)}"

    def answer(self, text: str) -> None:
        """Give the answer (for a host key: ``yes``).

        Raises:
            RequestError: JRM-Q18, it is not open any more. LinkError: the broker does not answer.
        """
        self._desk.send(self, text, False)

    def cancel(self) -> None:
        """Say that there will be no answer: the login ends. Raises as :meth:`answer`."""
        self._desk.send(self, "", True)

    def when_over(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once it needs no answer any more; on another thread, or at once."""
        self._over.append(callback)
        if not self.open:
            self._end()

    def _end(self) -> None:
        self.open = False
        over, self._over = self._over, []
        for callback in over:
            callback()

    def __repr__(self) -> str:
        said = f" {self.key_type} {self.fingerprint}" if self.fingerprint else ""
        return f"<question of {self.title}{said} {'' if self.open else '(over)'}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        text = f"{self.title}. {self.text.strip()}"
        line = f"<p>{html.escape(text)} <code>{html.escape(self.fingerprint)}</code></p>"
        return {"text/plain": repr(self), "text/html": line}


class Desk:
    """The open questions of one connection, by session."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._open: dict[tuple[str, int], Ask] = {}
        self._listeners: list[Callable[[Ask], None]] = []
        self._lock = threading.Lock()

    def questions(self, session: str) -> list[Ask]:
        """Return the open questions of a session."""
        with self._lock:
            return [one for (name, _), one in self._open.items() if name == session]

    def listen(self, show: Callable[[Ask], None]) -> Callable[[], None]:
        """Call ``show`` with each question, open ones at once; returns how to stop that. Any thread may be used."""
        with self._lock:
            self._listeners.append(show)
            waiting = list(self._open.values())
        for one in waiting:
            one.shown = True
            show(one)

        def stop() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._listeners.remove(show)

        return stop

    def asked(self, message: Asked) -> None:
        """Take a question in (connection's thread)."""
        with self._lock:
            key = (message.session, message.ask)
            if key in self._open:
                return
            one = self._open[key] = Ask(self, message)
            listeners = list(self._listeners)
            one.shown = bool(listeners)
        for show in listeners:
            show(one)

    def over(self, session: str, number: int) -> None:
        """A question needs no answer any more."""
        with self._lock:
            one = self._open.pop((session, number), None)
        if one is not None:
            one._end()

    def forget(self) -> None:
        """The broker is gone, and with it what it asked."""
        with self._lock:
            open_ones, self._open = list(self._open.values()), {}
        for one in open_ones:
            one._end()

    def send(self, one: Ask, text: str, cancel: bool) -> None:
        """Send an answer."""
        if not one.open:
            raise RequestError("this question is answered already", hint="nothing is left to do", code="JRM-Q18")
        connection = self._connection
        connection.request(Answer(connection.number(), one.session, one.number, text, cancel))
        self.over(one.session, one.number)

    def unshown(self, session: str) -> Ask | None:
        """Return a question of a session that nobody has put before a person yet."""
        with self._lock:
            return next((one for (name, _), one in self._open.items() if name == session and not one.shown), None)


def put(one: Ask) -> None:
    """Ask the person at this terminal or cell, and send the answer; in a program without one, say what is open."""
    one.shown = True
    if not _can_ask():
        sys.stderr.write(f"jupyter_rm: {one.title}: answer with session.questions[0].answer(...)\n")
        return
    sys.stderr.write(f"\n{one.title}\n{one.text.strip()}\n")
    try:
        if one.kind == "host_key":
            said = input("type yes when this fingerprint is the one that the site publishes: ")
            one.answer("yes") if said.strip().lower() == "yes" else one.cancel()
            return
        said = getpass.getpass("answer: ") if one.secret else input("answer: ")
        one.answer(said)
    except (EOFError, NotImplementedError, OSError, RuntimeError):
        sys.stderr.write(f"jupyter_rm: {one.title}: nobody can be asked here\n")
    except KeyboardInterrupt:
        with contextlib.suppress(JrmError):
            one.cancel()
        raise
    except JrmError as error:
        sys.stderr.write(f"jupyter_rm: {error.message}\n")


def _can_ask() -> bool:
    if threading.current_thread() is not threading.main_thread():
        return False
    app = sys.modules.get("ipykernel.kernelapp")
    in_kernel = app is not None and app.IPKernelApp.initialized()
    return in_kernel or (sys.stdin is not None and sys.stdin.isatty())
