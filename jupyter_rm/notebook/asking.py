"""Questions of logins in a notebook: is this the host's key, a password, a one-time code.

A question stands as a small form below the cell; where there is no page for it, or while a cell blocks, it is asked on
the terminal or in the cell's own input line. Whoever answers first counts. Answers go to the login and nowhere else: no
widget state, no history, no log. Knows no SSH. Read next: :mod:`jupyter_rm.runtime.connect.ask`.
"""

from __future__ import annotations

import contextlib
import getpass
import queue
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from ..model.errors import JrmError
from . import widgets

if TYPE_CHECKING:
    from ..client.ask import Ask
    from ..client.ask import Desk as BrokersDesk
    from ..client.session import Session

HOST_KEY = "host_key"
BUSY_S = 0.7  # a cell that waits for the login asks by itself within this time
_TITLES = {
    "password": "A password",
    "otp": "A one-time code",
    "passphrase": "The passphrase of a key",
    HOST_KEY: "Is this the right machine?",
}


class Question(Protocol):
    """What there is to ask; :class:`jupyter_rm.runtime.connect.Question` is one."""

    kind: str
    host: str
    user: str
    text: str
    fingerprint: str
    key_type: str
    secret: bool

    @property
    def settled(self) -> bool:
        """Was it answered, cancelled or given up?"""

    def answer(self, value: str) -> bool:
        """Give the answer (for a host key: ``yes``); False when it was settled already."""

    def cancel(self) -> bool:
        """Say that there will be none."""


def described(question: Question) -> dict[str, Any]:
    """Return what a page shows of a question; nothing in it is secret."""
    who = f"{question.user}@{question.host}" if question.user else question.host
    return {
        "title": _TITLES.get(question.kind, "A question"),
        "who": who,
        "text": question.text.strip(),
        "fingerprint": f"{question.key_type} {question.fingerprint}".strip() if question.kind == HOST_KEY else "",
        "kind": question.kind,
        "secret": bool(question.secret),
        "over": "",
    }


def card(question: Question) -> Any:
    """Return the widget of a question; None when there can be none."""

    def heard(told: Any) -> None:
        if told.get("op") == "answer" and isinstance(told.get("text"), str):
            took = question.answer(told["text"])
        elif told.get("op") == "cancel":
            took = question.cancel()
        else:
            return
        made.shown = {**made.shown, "over": "answered" if took else "it was settled already"}

    made = widgets.widget("question.js", described(question), heard)
    return made


def show(question: Question) -> Any:
    """Show a question as a form below the present cell; return its widget, None when there is no page for it."""
    made = card(question) if widgets.somebody_looks() else None
    if made is None:
        return None
    from IPython.display import display

    told = described(question)
    plain = f"{told['title']} for {told['who']}: {told['text']}"
    display({"text/plain": plain, **widgets.bundle(made)}, raw=True)  # type: ignore[no-untyped-call]
    return made


def prompt(question: Question) -> None:
    """Ask on the terminal, or in the input line of the running cell; returns when the person has answered.

    A place where nobody can answer (a notebook that a program runs) cancels the question.
    """
    told = described(question)
    lines = [f"{told['title']} ({told['who']})", told["text"]]
    if told["fingerprint"]:
        lines.append(f"  {told['fingerprint']}")
    sys.stderr.write("\n".join(line for line in lines if line) + "\n")
    sys.stderr.flush()
    try:
        if question.kind == HOST_KEY:
            said = input("Type yes to trust it, anything else to stop: ")
            _settle(question, "yes" if said.strip().lower() == "yes" else None)
        else:
            read = getpass.getpass if question.secret else input
            _settle(question, read("Answer (empty to stop): ") or None)
    except (EOFError, OSError, RuntimeError, NotImplementedError):
        # StdinNotImplementedError of kernels without a person is one of these.
        question.cancel()
    except KeyboardInterrupt:
        question.cancel()
        raise


def _settle(question: Question, said: str | None) -> None:
    if said is None:
        question.cancel()
    else:
        question.answer(said)


class _FromBroker:
    """A question that came through the broker, as a :class:`Question`."""

    def __init__(self, one: Ask) -> None:
        self._one = one
        self.kind, self.host, self.user, self.text = one.kind, one.host, one.user, one.text
        self.fingerprint, self.key_type, self.secret = one.fingerprint, one.key_type, one.secret

    @property
    def settled(self) -> bool:
        return not self._one.open

    def answer(self, value: str) -> bool:
        return self._send(lambda: self._one.answer(value))

    def cancel(self) -> bool:
        return self._send(self._one.cancel)

    def _send(self, send: Any) -> bool:
        try:
            send()
        except JrmError:
            return False
        return True


_heard: weakref.WeakSet[BrokersDesk] = weakref.WeakSet()


def attend(session: Session) -> None:
    """From now on, show what logins for sessions of this process ask; doing it twice is harmless."""
    desk = session._connection.desk
    if desk not in _heard:
        _heard.add(desk)
        desk.listen(_came)


def _came(one: Ask) -> None:
    # A kernel that waits in a cell hears nothing from a form: that cell asks in its own input line, and at once.
    one.shown = False
    timer = threading.Timer(BUSY_S, _show_form, [one])
    timer.daemon = True
    timer.start()


def _show_form(one: Ask) -> None:
    if not one.open or one.shown or not widgets.somebody_looks():
        return
    made = show(_FromBroker(one))
    if made is not None:
        one.when_over(lambda: _over(made))


def _over(made: Any) -> None:
    if not made.shown.get("over"):
        made.shown = {**made.shown, "over": "settled"}


class Desk:
    """Takes questions of a login that runs beside a blocking cell, and asks them in that cell.

    It is an ``Asker`` of :mod:`jupyter_rm.runtime.connect`.
    """

    def __init__(self) -> None:
        self._open: queue.SimpleQueue[Question | None] = queue.SimpleQueue()

    def ask(self, question: Question) -> None:
        """Take a question, from any thread."""
        self._open.put(question)

    def during(self, work: Any) -> Any:
        """Run ``work()`` on a thread, ask what it asks meanwhile, and return what it returns or raises."""
        result: list[Any] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                result.append(work())
            except BaseException as error:
                failed.append(error)
            finally:
                self._open.put(None)

        thread = threading.Thread(target=run, name="jrm-login", daemon=True)
        thread.start()
        try:
            while (question := self._open.get()) is not None:
                if not question.settled:
                    prompt(question)
        except KeyboardInterrupt:
            with contextlib.suppress(queue.Empty):
                while (left := self._open.get_nowait()) is not None:
                    left.cancel()
            raise
        thread.join()
        if failed:
            raise failed[0]
        return result[0]
