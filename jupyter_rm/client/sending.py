"""Messages sent all at once, one wait for all answers; submissions all or nothing. Read next: :mod:`.connection`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..model.errors import JrmError, LinkError
from ..model.messages import Accepted, Message, Refused, Submit
from .connection import Connection


def send_all(
    connection: Connection, submits: Sequence[Submit], timeout_s: float, undo: Callable[[list[int]], object]
) -> list[int]:
    """Send all, then wait for all; return their numbers.

    Args:
        undo: is called with the numbers of those that were accepted when another one was refused.

    Raises:
        JrmError: the first refusal. LinkError: no answer in time.
    """
    return [each.number for each in request_all(connection, submits, timeout_s, undo)]


def request_all(
    connection: Connection,
    messages: Sequence[Message],
    timeout_s: float,
    undo: Callable[[list[int]], object] = lambda _: None,
) -> list[Any]:
    """Send all, then wait for all; return their answers. Arguments and errors as :func:`send_all`."""
    answers: list[Any] = [None] * len(messages)
    left = threading.Semaphore(0)
    for place, message in enumerate(messages):

        def reply(answer: Any, place: int = place) -> None:
            answers[place] = answer
            left.release()

        connection.post(message, reply)
    for _ in messages:
        if not left.acquire(timeout=timeout_s):
            raise LinkError("the broker did not answer in time", code="JRM-T02", hint="jrm broker status", retry=True)
    errors = [each for each in answers if isinstance(each, (JrmError, Refused))]
    if errors:
        numbers = [each.number for each in answers if isinstance(each, Accepted)]
        if numbers:
            undo(numbers)
        raise errors[0].error.error() if isinstance(errors[0], Refused) else errors[0]
    return answers
