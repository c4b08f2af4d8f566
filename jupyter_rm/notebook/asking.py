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
from typing import Any, Protocol

from . import widgets

HOST_KEY = "host_key"
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


def show(question: Question) -> bool:
    """Show a question as a form below the present cell; False when there is no page for it."""
    if not widgets.somebody_looks():
        return False
    made = card(question)
    if made is None:
        return False
    from IPython.display import display

    told = described(question)
    plain = f"{told['title']} for {told['who']}: {told['text']}"
    display({"text/plain": plain, **widgets.bundle(made)}, raw=True)  # type: ignore[no-untyped-call]
    return True


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
