"""Questions that a login asks a person, and who answers them.

A login runs in a worker thread; the person sits in a notebook. So a question is an object: the login hands it to an
:class:`Asker` and waits; anybody may answer or cancel it later, from any thread.

Knows: the kinds of questions and how one waits for an answer. Does not know: widgets, SSH, or what an answer means.
Read next: ``login.py`` and ``askpass.py``, which ask.
"""

from __future__ import annotations

import threading
from typing import Final, Protocol

from jupyter_rm.model.errors import LinkError
from jupyter_rm.runtime.logs import redactor

PASSWORD: Final = "password"  # noqa: S105  # the name of a kind of question
CODE: Final = "otp"
PASSPHRASE: Final = "passphrase"  # noqa: S105
HOST_KEY: Final = "host_key"


class Question:
    """One thing a person must say before a login can go on.

    Attributes:
        kind: ``password``, ``otp``, ``passphrase`` or ``host_key``.
        host: the machine that asks, as the user named it.
        user: the account there.
        text: the words of the server (or of us), shown as they are.
        fingerprint: for ``host_key``: ``SHA256:...`` of the key that was offered.
        key_type: for ``host_key``: such as ``ssh-ed25519``.
        secret: True when the answer must not be shown while it is typed.
    """

    def __init__(
        self,
        kind: str,
        host: str,
        user: str,
        text: str,
        *,
        fingerprint: str = "",
        key_type: str = "",
        secret: bool = True,
    ) -> None:
        self.kind = kind
        self.host = host
        self.user = user
        self.text = text
        self.fingerprint = fingerprint
        self.key_type = key_type
        self.secret = secret
        self._settled = threading.Event()
        self._answer: str | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Question({self.kind!r}, {self.user}@{self.host}, {self.text!r})"

    @property
    def settled(self) -> bool:
        """True once it was answered, cancelled or given up."""
        return self._settled.is_set()

    def answer(self, value: str) -> bool:
        """Give the answer (for a host key: ``yes``); False when the question was settled already."""
        if self.secret and self.kind != CODE:
            redactor.add(value)
        return self._settle(value)

    def cancel(self) -> bool:
        """Say that there will be no answer: the login ends; False when the question was settled already."""
        return self._settle(None)

    def _settle(self, value: str | None) -> bool:
        with self._lock:
            if self._settled.is_set():
                return False
            self._answer = value
            self._settled.set()
            return True

    def wait(self, timeout_s: float) -> str:
        """Return the answer.

        Raises:
            LinkError: JRM-T29, cancelled or not answered in time.
        """
        if not self._settled.wait(timeout_s):
            self.cancel()
        if self._answer is None:
            raise LinkError(
                f"{self.host}: the login was given up; the question was: {self.text.strip()}",
                code="JRM-T29",
                hint="connect again when you can answer it",
            )
        return self._answer


class Asker(Protocol):
    """Whoever can put a question before a person."""

    def ask(self, question: Question) -> None:
        """Show the question and return at once; ``question.answer`` or ``question.cancel`` is called later."""


class Nobody:
    """The asker of background work: every question ends the login, and says that a person is needed."""

    def ask(self, question: Question) -> None:
        """Refuse.

        Raises:
            LinkError: JRM-T25 for codes and passwords, JRM-T24 for passphrases, JRM-T26 for host keys.
        """
        code = {PASSPHRASE: "JRM-T24", HOST_KEY: "JRM-T26"}.get(question.kind, "JRM-T25")
        what = {CODE: "your one-time code", PASSWORD: "your password", PASSPHRASE: "the passphrase of your key"}
        wants = what.get(question.kind, "its host key confirmed")
        raise LinkError(
            f"{question.host} wants {wants}; work there goes on without it",
            code=code,
            hint="reconnect when you are at the keyboard",
        )


def put(ask: Asker, question: Question, timeout_s: float) -> str:
    """Ask and wait for the answer.

    Raises:
        LinkError: cancelled, not answered within ``timeout_s``, or nobody is there to ask.
    """
    ask.ask(question)
    return question.wait(timeout_s)
